"""The difference of each row to the first one, from the items both were judged on."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rsbench import metrics
from rsbench.digests import digest_file, digest_json
from rsbench.errors import RecordError
from rsbench.metrics import fold_weights
from rsbench.records.databases import code_digest
from rsbench.records.predictions import read_targets
from rsbench.records.scorebook import Scorebook, SortedScores, open_scorebook
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file
from rsbench.stats import PairedDifference, paired_difference

__all__ = [
    "Key",
    "Pair",
    "Pairing",
    "SortedScores",
    "added_by_item",
    "over_seeds",
    "paired_with_first",
    "row_contents",
    "sorted_scores",
    "strata_of",
    "unpaired",
]


Key = tuple[str, str]
"""(fold, id) of an item."""


class Pair(NamedTuple):
    """A row against the first one."""

    difference: PairedDifference | None
    problems: tuple[str, ...]
    """Why there is none, or why a seed could not be used; one line each."""


class _RowScores(NamedTuple):
    keys: tuple[Key, ...]
    """(fold, id), sorted."""
    scores: NDArray[np.float64] | None
    """float64 (N,), averaged over seeds; None where the metric has no per-item scores."""


class Pairing(Protocol):
    """What gives each row of a table its difference to the first one; see `paired_with_first`."""

    def __call__(
        self,
        rows: Sequence[Sequence[Sequence[Stored]]],
        metric: str,
        *,
        averaging: str,
        book: Scorebook | None = None,
    ) -> list[Pair]:
        """Give one a row; the first has no difference."""
        ...


def unpaired(
    rows: Sequence[Sequence[Sequence[Stored]]],
    metric: str,
    *,
    averaging: str,
    book: Scorebook | None = None,
) -> list[Pair]:
    """Give no differences, and read no predictions, where rows alone are wanted."""
    return [Pair(None, ()) for _ in rows]


def paired_with_first(
    rows: Sequence[Sequence[Sequence[Stored]]],
    metric: str,
    *,
    averaging: str,
    book: Scorebook | None = None,
) -> list[Pair]:
    """Give the paired difference of each row to the first one, averaged over seeds per item.

    Args:
        rows: Records of each row, as a list of runs for each of its seeds; the best row first.
        metric: The headline.
        averaging: "mean" weights items so that folds count alike, as the metric does.
        book: What reads predictions, and remembers differences of the same content; None opens one
            for this call.

    Returns:
        One a row; the first has no difference.
    """
    if book is None:
        with open_scorebook() as opened:
            return paired_with_first(rows, metric, averaging=averaging, book=opened)
    if len(rows) == 1:
        # Nothing to pair with; that the predictions are there is told all the same.
        return [Pair(None, tuple(_file_problems(rows[0], book)))]
    contents = [_contents(seeds, metric, book) for seeds in rows]
    keys = [_pair_key(contents[0], each, metric, averaging) for each in contents[1:]]
    known = book.recall(_kind(), [key for key in keys if key is not None])
    if all(key in known for key in keys):
        return [Pair(None, ()), *(_recalled(known[key]) for key in keys if key is not None)]
    pairs = _paired_anew(rows, metric, averaging, book)
    if not pairs[0].problems:
        book.remember(
            _kind(),
            {
                key: None if pair.difference is None else list(pair.difference)
                for key, pair in zip(keys, pairs[1:], strict=True)
                if key is not None and not pair.problems
            },
        )
    return pairs


def _recalled(values: Sequence[float] | None) -> Pair:
    """Give a pair as it was remembered: without a difference where the metric has none."""
    return Pair(None if values is None else PairedDifference(*values), ())


@functools.cache
def _kind() -> str:
    """Name what is remembered by the code that makes it, so that other code's is not believed."""
    return f"difference to first {code_digest(Path(__file__).parent)} {digest_file(_METRICS)}"


_METRICS = Path(metrics.__file__)


def _pair_key(first: str | None, second: str | None, metric: str, averaging: str) -> str | None:
    """Name all that decides a difference of rows; None where a file of theirs is not whole."""
    if first is None or second is None:
        return None
    return "\n".join((metric, averaging, first, second))


def _contents(seeds: Sequence[Sequence[Stored]], metric: str, book: Scorebook) -> str | None:
    try:
        return row_contents(seeds, metric, book)
    except RecordError:
        return None


def row_contents(seeds: Sequence[Sequence[Stored]], metric: str, book: Scorebook) -> str:
    """Name what a row's scores are made of: of each run of each seed its file, and its items.

    Raises:
        RecordError: A run's predictions are missing or were changed; names the file.
    """
    return digest_json(
        [[(book.content(stored), _counted(stored, metric)) for stored in runs] for runs in seeds]
    )


def _counted(stored: Stored, metric: str) -> int:
    return next(part.n for part in stored.record.metrics if part.name == metric)


def _paired_anew(
    rows: Sequence[Sequence[Sequence[Stored]]], metric: str, averaging: str, book: Scorebook
) -> list[Pair]:
    pairs: list[Pair] = []
    first: _RowScores | None = None
    strata: tuple[Hashable, ...] = ()
    for place, seeds in enumerate(rows):
        try:
            here = _row_scores(seeds, metric, book)
        except RecordError as fault:
            pairs.append(Pair(None, (str(fault),)))
            continue
        if place == 0:
            first = here
            classes = _classes(seeds[0][0], metric) if here.scores is not None else {}
            strata = strata_of(here.keys, averaging=averaging, classes=classes)
            pairs.append(Pair(None, ()))
        elif first is None or first.scores is None or here.scores is None:
            pairs.append(Pair(None, ()))
        elif first.keys != here.keys:
            name = seeds[0][0].name
            problem = f"{name}: its predictions are of other items than the first row's."
            pairs.append(Pair(None, (problem,)))
        else:
            added = (
                added_by_item(each, here.keys, averaging=averaging)
                for each in (here.scores, first.scores)
            )
            difference = paired_difference(*added, strata=strata)
            pairs.append(Pair(difference, ()))
    return pairs


def strata_of(
    keys: Sequence[Key], *, averaging: str, classes: Mapping[Key, Hashable]
) -> tuple[Hashable, ...]:
    """Say what the items are resampled within, as the intervals of the metric itself are.

    Args:
        keys: (fold, id) of the items, sorted.
        averaging: "mean" keeps the size of each fold.
        classes: Of each item, for a mean over classes; empty for other metrics.

    Returns:
        One a different item in the order of their ids; empty to resample among all.
    """
    are_apart = averaging == "mean" and len({fold for fold, _ in keys}) > 1
    if not classes and not are_apart:
        return ()
    parts: dict[str, list[Hashable]] = {}
    for fold, name in keys:
        part = (fold if are_apart else "", classes.get((fold, name)))
        parts.setdefault(name, []).append(part)
    return tuple(tuple(parts[name]) for name in sorted(parts))


def added_by_item(
    scores_N: NDArray[np.float64], keys: Sequence[Key], *, averaging: str
) -> NDArray[np.float64]:
    """Give what each of M different items adds to the metric, in the order of their ids, (M,).

    Args:
        scores_N: What each item of each fold came to, (N,).
        keys: (fold, id) of these, sorted.
        averaging: "mean" where folds count alike.
    """
    folds = [fold for fold, _ in keys]
    if len(set(folds)) == 1:
        return scores_N
    if averaging == "mean":
        scores_N = scores_N * fold_weights(folds)
    place_of = {name: place for place, name in enumerate(sorted({name for _, name in keys}))}
    places_N = np.array([place_of[name] for _, name in keys])
    added_M: NDArray[np.float64] = np.bincount(
        places_N, weights=scores_N, minlength=len(place_of)
    ).astype(np.float64)
    return added_M * (len(place_of) / len(folds))


def _classes(run: Stored, metric: str) -> dict[Key, Hashable]:
    """Give the class of each item of a mean over classes; nothing of other metrics."""
    if next(part.level for part in run.record.metrics if part.name == metric) != "class":
        return {}
    found = read_targets(read_file(run, PREDICTIONS_SUFFIX), where=f"{run.name} (predictions)")
    return dict(zip(zip(found.folds, found.ids, strict=True), found.targets, strict=True))


def _file_problems(seeds: Sequence[Sequence[Stored]], book: Scorebook) -> list[str]:
    problems = []
    for stored in (stored for runs in seeds for stored in runs):
        try:
            book.content(stored)
        except RecordError as fault:
            problems.append(str(fault))
    return problems


def _row_scores(seeds: Sequence[Sequence[Stored]], metric: str, book: Scorebook) -> _RowScores:
    """Average a row's per-item scores over the runs of each seed, then over seeds."""
    keys: tuple[Key, ...] | None = None
    of_seeds: list[list[NDArray[np.float64]]] = []
    for runs in seeds:
        of_seeds.append([])
        for stored in runs:
            found = book.scores(stored, metric)
            if found is None:
                return _RowScores((), None)
            if keys is not None and keys != found.keys:
                raise RecordError(
                    f"{stored.name}: its predictions are of other items than those "
                    "of the row's other runs."
                )
            keys = found.keys
            of_seeds[-1].append(found.scores)
    assert keys is not None
    return _RowScores(keys, over_seeds(of_seeds))


def over_seeds(seeds: Sequence[Sequence[NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Average scores of the same items over the runs of each seed, then over seeds: (N,).

    Args:
        seeds: Of each seed the scores of its runs, (N,) each, in one order of the items.
    """
    mean_N: NDArray[np.float64] = np.mean([np.mean(runs, axis=0) for runs in seeds], axis=0)
    return mean_N


def sorted_scores(stored: Stored, metric: str) -> SortedScores | None:
    """Read the items' parts of one metric of one record; see `Scorebook.scores`."""
    return Scorebook(None, made_by="").scores(stored, metric)

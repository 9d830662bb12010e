"""The difference of each row to the first one, from the items both were judged on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.errors import RecordError
from rsbench.metrics import fold_weights
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file, read_scores
from rsbench.stats import PairedDifference, paired_difference


class Pair(NamedTuple):
    """A row against the first one."""

    difference: PairedDifference | None
    problems: tuple[str, ...]
    """Why there is none, or why a seed could not be used; one line each."""


class _RowScores(NamedTuple):
    keys: tuple[tuple[str, str], ...]
    """(fold, id), sorted."""
    scores: NDArray[np.float64] | None
    """float64 (N,), averaged over seeds; None where the metric has no per-item scores."""


def paired_with_first(
    rows: Sequence[Sequence[Sequence[Stored]]],
    metric: str,
    *,
    averaging: str,
) -> list[Pair]:
    """Give the paired difference of each row to the first one, averaged over seeds per item.

    Args:
        rows: Records of each row, as a list of runs for each of its seeds; the best row first.
        metric: The headline.
        averaging: "mean" weights items so that folds count alike, as the metric does.

    Returns:
        One a row; the first has no difference.
    """
    if len(rows) == 1:
        # Nothing to pair with; that the predictions are there is told all the same.
        return [Pair(None, tuple(_file_problems(rows[0])))]
    pairs: list[Pair] = []
    first: _RowScores | None = None
    for place, seeds in enumerate(rows):
        try:
            here = _row_scores(seeds, metric)
        except RecordError as fault:
            pairs.append(Pair(None, (str(fault),)))
            continue
        if place == 0:
            first = here
            pairs.append(Pair(None, ()))
        elif first is None or first.scores is None or here.scores is None:
            pairs.append(Pair(None, ()))
        elif first.keys != here.keys:
            name = seeds[0][0].name
            problem = f"{name}: its predictions are of other items than the first row's."
            pairs.append(Pair(None, (problem,)))
        else:
            folds = (
                [fold for fold, _ in here.keys] if averaging == "mean" else [""] * len(here.keys)
            )
            weights_N = fold_weights(folds)
            difference = paired_difference(here.scores * weights_N, first.scores * weights_N)
            pairs.append(Pair(difference, ()))
    return pairs


def _file_problems(seeds: Sequence[Sequence[Stored]]) -> list[str]:
    problems = []
    for stored in (stored for runs in seeds for stored in runs):
        try:
            read_file(stored, PREDICTIONS_SUFFIX)
        except RecordError as fault:
            problems.append(str(fault))
    return problems


def _row_scores(seeds: Sequence[Sequence[Stored]], metric: str) -> _RowScores:
    """Average a row's per-item scores over the runs of each seed, then over seeds."""
    keys: tuple[tuple[str, str], ...] | None = None
    means: list[NDArray[np.float64]] = []
    for runs in seeds:
        columns = []
        for stored in runs:
            found = read_scores(stored, metric)
            if found is None:
                return _RowScores((), None)
            pairs = list(zip(found.folds, found.ids, strict=True))
            order = sorted(range(len(pairs)), key=pairs.__getitem__)
            here = tuple(pairs[row] for row in order)
            if len(set(here)) != len(here):
                raise RecordError(f"{stored.name}: an item stands twice in its predictions.")
            counted = next(part.n for part in stored.record.metrics if part.name == metric)
            if len(here) != counted:
                raise RecordError(
                    f"{stored.name}: its predictions must be of {counted} items, were of "
                    f"{len(here)}."
                )
            if not np.isfinite(found.scores).all():
                raise RecordError(f"{stored.name}: a score in its predictions is not a number.")
            if keys is not None and keys != here:
                raise RecordError(
                    f"{stored.name}: its predictions are of other items than those "
                    "of the row's other runs."
                )
            keys = here
            columns.append(found.scores[order])
        means.append(np.mean(columns, axis=0))
    assert keys is not None
    return _RowScores(keys, np.mean(means, axis=0))

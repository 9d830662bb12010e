"""What a row came to on each item, in the one order that all rows of a comparison share.

An item that several folds test (the official splits of some data sets overlap) is one item here:
what it adds to the metric is added up, since its folds rise and fall together.

Shape letters: N items, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rsbench.errors import DataError, RecordError
from rsbench.metrics import BY_NAME, resampled_values
from rsbench.records.predictions import from_parquet
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file
from rsbench.specs import Metric
from rsbench.stats import Estimate
from rsbench.tables.pairing import Key, SortedScores, added_by_item, over_seeds
from rsbench.tables.table import by_seed


class Judged(NamedTuple):
    """A row's headline, and what it is made of."""

    estimate: Estimate
    """Over the items of the comparison."""
    scores_N: NDArray[np.float64] | None
    """float64 (N,), averaged over seeds: what each item adds; their mean is the metric. None where
    the metric has no scores of single items."""
    are_hits: bool
    """Whether each score is 0 or 1 of a single run."""
    seed_values: tuple[float, ...] = ()
    """The headline of each seed over the items of the comparison; empty for an average."""
    resampled_R: NDArray[np.float64] | None = None
    """float64 (R,): of a metric that is no mean over items, its value on each of R resamples that
    all rows share, averaged over seeds."""
    hangs_on_seed: bool = False
    """Whether another seed makes another network or another training set; see `hangs_on_seed`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """The items of a comparison."""

    keys: tuple[Key, ...]
    """Sorted."""
    averaging: Literal["pooled", "mean"]
    """"mean" where folds count alike."""
    is_subset: bool
    """Whether some row was judged on other items as well."""
    strata: tuple[Hashable, ...] = ()
    """What items are resampled within, one a different item in the order of their ids; empty for
    all items together."""


def num_different(keys: Sequence[Key]) -> int:
    """Count different items: one that several folds test is one."""
    return len({name for _, name in keys})


def hangs_on_seed(run: Stored) -> bool:
    """Say whether another seed makes another network, or lets it learn from other items.

    So it does where weights are drawn, where the network itself is trained, and where the examples
    are. A head on frozen features hangs on its seed far less, and many do not at all.
    """
    record = run.record
    is_drawn = record.weights.init_seed is not None or "shots" in record.protocol.recipe
    return is_drawn or record.protocol.trains_backbone


def judged_by_item(
    members: Sequence[Stored], scores: Mapping[str, SortedScores], items: Items, estimate: Estimate
) -> Judged:
    """Bring the runs of a row together, for a metric that has scores of single items.

    Args:
        members: The row's runs.
        scores: Of each run by its name, in the order of `items.keys`.
        items: What is compared.
        estimate: The row's headline on all of its items; on a subset its value is taken anew.
    """
    of_seeds = [[scores[run.name].scores for run in runs] for runs in by_seed(members)]
    added_N = added_by_item(over_seeds(of_seeds), items.keys, averaging=items.averaging)
    if items.is_subset:
        estimate = Estimate(math.fsum(added_N) / len(added_N), None, None)
    return Judged(
        estimate=estimate,
        scores_N=added_N,
        are_hits=len(members) == 1 and bool(np.isin(added_N, (0.0, 1.0)).all()),
        seed_values=tuple(
            float(added_by_item(over_seeds([runs]), items.keys, averaging=items.averaging).mean())
            for runs in of_seeds
        ),
        hangs_on_seed=hangs_on_seed(members[0]),
    )


def judged_by_resampling(
    members: Sequence[Stored], metric: str, items: Items, estimate: Estimate
) -> Judged:
    """Bring the runs of a row together, for a metric that is computed anew on resampled items.

    Where there is no way to compute it the estimate is all there is.

    Args:
        members: The row's runs.
        metric: Name of the headline.
        items: What is compared.
        estimate: The row's headline on all of its items; on a subset its value is taken anew.

    Raises:
        RecordError: Predictions are missing, changed, damaged, or of other items, or the metric
            can't be had on a subset; names the file.
    """
    known = BY_NAME.get(metric)
    if known is None or known.resampled is None:
        if items.is_subset:
            raise _not_on_a_subset(members[0], metric)
        return Judged(estimate, None, are_hits=False)
    values: list[list[float]] = []
    drawn: list[list[NDArray[np.float64]]] = []
    folds = [fold for fold, _ in items.keys]
    for runs in by_seed(members):
        values.append([])
        drawn.append([])
        for run in runs:
            targets, predictions = _of_items(run, items)
            try:
                drawn[-1].append(
                    resampled_values(
                        known, targets, predictions, folds=folds, averaging=items.averaging
                    )
                )
                values[-1].append(_value(known, targets, predictions, items))
            except (DataError, TypeError, ValueError, IndexError) as fault:
                raise RecordError(
                    f"{run.name}: its {metric} can't be computed from its predictions ({fault}); "
                    "run it again."
                ) from None
    means = tuple(math.fsum(each) / len(each) for each in values)
    if items.is_subset:
        estimate = Estimate(math.fsum(means) / len(means), None, None)
    return Judged(
        estimate=estimate,
        scores_N=None,
        are_hits=False,
        seed_values=means,
        resampled_R=over_seeds(drawn),
        hangs_on_seed=hangs_on_seed(members[0]),
    )


def scores_on_subset(run: Stored, metric: str, items: Items, known: SortedScores) -> SortedScores:
    """Give a run's item scores on some of its items, as if there had been no others.

    Args:
        run: The run.
        metric: Name of the headline, which has scores of single items.
        items: The items that are left.
        known: Its scores on all of its items.

    Raises:
        RecordError: What an item adds depends on the others, and it can't be computed anew.
    """
    level = next(part.level for part in run.record.metrics if part.name == metric)
    if level == "item":
        place_of = {key: place for place, key in enumerate(known.keys)}
        return SortedScores(items.keys, known.scores[[place_of[key] for key in items.keys]])
    recomputed = BY_NAME.get(metric)
    if recomputed is None or recomputed.per_item is None:
        raise _not_on_a_subset(run, metric)
    targets, predictions = _of_items(run, items)
    scores_N = np.empty(len(targets))
    for rows in metric_rows([fold for fold, _ in items.keys], items.averaging):
        scores_N[rows] = recomputed.per_item(
            [targets[row] for row in rows], [predictions[row] for row in rows]
        )
    return SortedScores(items.keys, scores_N)


def _of_items(run: Stored, items: Items) -> tuple[list[Any], list[Any]]:
    """Read a run's targets and predictions of some items, in their order."""
    content = read_file(run, PREDICTIONS_SUFFIX)
    table = from_parquet(content, where=f"{run.name} (predictions)")
    place_of = {key: place for place, key in enumerate(zip(table.folds, table.ids, strict=True))}
    if not items.is_subset and set(place_of) != set(items.keys):
        raise RecordError(f"{run.name}: its predictions are of other items than the other rows'.")
    rows = [place_of[key] for key in items.keys]
    return [table.targets[row] for row in rows], [table.predictions[row] for row in rows]


def metric_rows(folds: Sequence[str], averaging: Literal["pooled", "mean"]) -> list[list[int]]:
    """Give the rows whose metric is computed by itself: of each fold, where folds count alike.

    Args:
        folds: Name of each item's fold, (N,).
        averaging: "mean" where folds count alike.
    """
    if averaging == "pooled":
        return [list(range(len(folds)))]
    rows: dict[str, list[int]] = {}
    for row, fold in enumerate(folds):
        rows.setdefault(fold, []).append(row)
    return list(rows.values())


def _value(
    metric: Metric, targets: Sequence[Any], predictions: Sequence[Any], items: Items
) -> float:
    of_folds = [
        float(metric.compute([targets[row] for row in rows], [predictions[row] for row in rows]))
        for rows in metric_rows([fold for fold, _ in items.keys], items.averaging)
    ]
    return math.fsum(of_folds) / len(of_folds)


def averaging_of(run: Stored) -> Literal["pooled", "mean"]:
    """Say how a run brought its folds together."""
    return "mean" if run.record.ruler.get("averaging") == "mean" else "pooled"


def _not_on_a_subset(run: Stored, metric: str) -> RecordError:
    return RecordError(
        f"{run.name}: {metric} is the task's own metric and can't be computed on a part of the "
        "items; compare runs of the same list."
    )

"""How well each class is found where items have several labels: its average precision.

Such items are not right or wrong as a whole, and no class is taken for another: what a class has is
its part of the headline, which is the mean of these parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rsbench.errors import DataError, RecordError
from rsbench.metrics import BY_NAME, average_precisions
from rsbench.records.predictions import from_parquet
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file

AVERAGED = ("mean_average_precision", "map_11")
"""Metrics that are means of a number a class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassPrecision:
    """How one class was found by one run, or by several on average."""

    place: int
    """Of the class, from 0 on."""
    value: float
    """Average precision, as the metric has it."""
    num_having: int
    """Items that have the class."""
    num_items: int
    """All items; the share that has the class is what a list in no order comes to."""


def precisions_of(
    stored: Stored, metric: str, averaging: Literal["pooled", "mean"]
) -> tuple[ClassPrecision, ...]:
    """Compute the average precision of each class that some item has, from a run's predictions.

    Args:
        stored: The run, of a task of several labels an item.
        metric: One of `AVERAGED`.
        averaging: Of the ruler: "mean" averages over folds that have the class.

    Raises:
        RecordError: The predictions are missing, changed, damaged, or are no class scores; names
            the file.
    """
    where = f"{stored.name} (predictions)"
    table = from_parquet(read_file(stored, PREDICTIONS_SUFFIX), where=where)
    num_classes = stored.record.task.num_classes
    folds = table.folds if averaging == "mean" else ("",) * len(table.ids)
    rows_of: dict[str, list[int]] = {}
    for row, fold in enumerate(folds):
        rows_of.setdefault(fold, []).append(row)
        scores_K = table.predictions[row]
        if scores_K is not None and np.shape(scores_K) != (num_classes,):
            raise RecordError(f"{where}: a prediction must be {num_classes} class scores.")
    found: dict[int, list[float]] = {}
    for rows in rows_of.values():
        targets = [table.targets[row] for row in rows]
        for place, value in _of_fold(
            targets, [table.predictions[row] for row in rows], metric, where
        ):
            found.setdefault(place, []).append(value)
    having = np.zeros(num_classes, dtype=np.int64)
    for labels in table.targets:
        having[list(labels)] += 1
    return tuple(
        ClassPrecision(
            place=place,
            value=float(np.mean(found[place])),
            num_having=int(having[place]),
            num_items=len(table.ids),
        )
        for place in sorted(found)
    )


def _of_fold(
    targets: Sequence[Any], predictions: Sequence[Any], metric: str, where: str
) -> list[tuple[int, float]]:
    try:
        parts = average_precisions(BY_NAME[metric], targets, predictions)
    except (DataError, TypeError) as fault:
        raise RecordError(f"{where}: {fault}") from None
    if parts is None:
        return [(place, 0.0) for place in sorted({label for labels in targets for label in labels})]
    return list(parts.items())


def mean_precisions(runs: Sequence[Sequence[ClassPrecision]]) -> tuple[ClassPrecision, ...]:
    """Average each class over runs on the same items."""
    by_place: dict[int, list[ClassPrecision]] = {}
    for run in runs:
        for each in run:
            by_place.setdefault(each.place, []).append(each)
    return tuple(
        ClassPrecision(
            place=place,
            value=float(np.mean([each.value for each in by_place[place]])),
            num_having=by_place[place][0].num_having,
            num_items=by_place[place][0].num_items,
        )
        for place in sorted(by_place)
    )

"""A task's metrics tried on its own targets: perfect predictions, and one that failed.

Shape letters: N items, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rsbench.checks.loading import Loaded, class_indices, target_of
from rsbench.findings import Fault
from rsbench.specs import Metric

ITEMS_SCORED = 500
"""Test items that the metrics are tried on."""


def metric_look(loaded: Loaded, metric: Metric) -> Callable[[], str]:
    """Give the question whether a metric scores perfect and failed predictions as it must."""

    def look() -> str:
        kind = loaded.task.target
        if kind == "boxes":
            return "not tried: predicted boxes have a form of their own"
        tested = [fold.test for fold in loaded.folds if fold.test in loaded.splits]
        if not tested:
            return "not tried: no test split loads"
        split = loaded.splits[tested[0]]
        chosen = split.items[:: max(len(split.items) // ITEMS_SCORED, 1)]
        targets = [target_of(loaded.task, item) for item in chosen]
        perfect = [_perfect(kind, target, len(split.classes)) for target in targets]
        return _try_metric(metric, kind, targets, perfect)

    return look


def _perfect(kind: str, target: Any, num_classes: int) -> Any:  # noqa: ANN401 - as the target is
    """Give the prediction that can't be better: (K,) probabilities for classes."""
    if kind not in ("class", "multilabel"):
        return target
    scores = np.zeros(num_classes, dtype=np.float32)
    scores[list(class_indices(target))] = 1.0
    return scores


def _try_metric(metric: Metric, kind: str, targets: list[Any], perfect: list[Any]) -> str:
    value = float(metric.compute(targets, perfect))
    best = 1.0 if metric.higher_is_better else 0.0
    if math.isnan(value) or (kind in ("class", "multilabel") and abs(value - best) > 1e-9):
        raise Fault(
            f"perfect predictions must score {best:g}; they score {value:g}",
            next_step="Mend the metric's compute.",
        )
    one_failed = [None, *perfect[1:]]
    with_failure = float(metric.compute(targets, one_failed))
    loss = value - with_failure if metric.higher_is_better else with_failure - value
    if math.isnan(with_failure) or loss < 0 or (kind == "class" and loss == 0):
        raise Fault(
            f"an item without prediction (None) must count as wrong; the score went from {value:g}"
            f" to {with_failure:g}",
            next_step="Keep the item in the count and score it as wrong.",
        )
    if metric.per_item is not None:
        per_item = np.asarray(metric.per_item(targets, one_failed), dtype=np.float64)
        mean = float(per_item.mean()) if per_item.size else math.nan
        if per_item.shape != (len(targets),) or not abs(mean - with_failure) <= 1e-9:
            raise Fault(
                f"per_item must give ({len(targets)},) whose mean is the value {with_failure:g}; it"
                f" gave {per_item.shape} with mean {mean:g}",
                next_step="Mend the metric's per_item, or leave it out.",
            )
    return f"perfect predictions score {value:g}, with one item failed {with_failure:g}"

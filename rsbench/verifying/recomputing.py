"""Metrics, intervals and scores of single items computed anew, and held to those recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsbench.deriving import metrics_of
from rsbench.metrics import Score, evaluate_metric
from rsbench.records.predictions import PredictionTable
from rsbench.records.schema import MetricPart
from rsbench.records.store import Stored
from rsbench.specs import Metric
from rsbench.verifying.found import Findings, number
from rsbench.verifying.parts import averaging_of

TOLERANCE = 1e-9
"""How far a number computed anew may lie from the recorded one: both are made of the same float32
scores in float64, and another build of numpy may add them up in another order."""

RESAMPLED = "bootstrap"
"""How a record says that an interval was made of resamples."""

_NEAR = 0.25
"""How far an end of a resampled interval may lie from the recorded one, as a share of the width:
taking n - 1 of n = 2 items of a class moves each end by a fifth of it; luck of 1,000 resamples by a
fiftieth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputed:
    """One metric as it is recorded, and as it comes out of the stored predictions."""

    name: str
    recorded: tuple[float, float | None, float | None]
    """Value, low end and high end of the interval."""
    recomputed: tuple[float, float | None, float | None]
    higher_is_better: bool


def recompute(
    stored: Stored, table: PredictionTable, task: str | None, found: Findings
) -> tuple[Recomputed, ...]:
    """Compute every metric anew; what comes out otherwise is added to what was found."""
    averaging = averaging_of(stored.record)
    metrics = []
    for metric, part in zip(metrics_of(stored, task=task), stored.record.metrics, strict=True):
        score = evaluate_metric(
            metric, table.targets, table.predictions, folds=table.folds, averaging=averaging
        )
        metrics.append(
            Recomputed(
                name=part.name,
                recorded=(part.value, part.low, part.high),
                recomputed=(score.value, score.low, score.high),
                higher_is_better=part.higher_is_better,
            )
        )
        found.problems += _metric_faults(metric, part, score, table)
        _compare_intervals(part, score, found)
    return tuple(metrics)


def _metric_faults(
    metric: Metric, part: MetricPart, score: Score, table: PredictionTable
) -> Iterator[str]:
    if not _alike(part.value, score.value):
        yield f"{part.name} is {number(part.value)}, and its predictions give {score.value:.10g}"
    facts: dict[str, tuple[Any, Any]] = {
        "interval": (part.interval, score.interval),
        "level": (part.level, metric.level),
        "higher_is_better": (part.higher_is_better, metric.higher_is_better),
    }
    for what, (stated, now) in facts.items():
        if stated != now:
            yield f"{part.name}.{what} is {stated!r}, and is {now!r} computed anew"
    if len(part.folds) != len(score.folds) or not all(map(_alike, part.folds, score.folds)):
        yield f"{part.name}.folds are not the values that its predictions give in each fold"
    stored_N = table.item_scores.get(part.name)
    if (stored_N is None) != (score.per_item is None):
        held = "lack" if stored_N is None else "hold"
        yield f"its predictions {held} scores of single items for {part.name}, against its metric"
    elif stored_N is not None and score.per_item is not None:
        wrong = np.flatnonzero(~np.isclose(stored_N, score.per_item, rtol=0, atol=TOLERANCE))
        if len(wrong):
            first = int(wrong[0])
            yield (
                f"{len(wrong)} of its items have another {part.name} than their predictions give:"
                f" {table.ids[first]!r} has {stored_N[first]:.6g}, and they give"
                f" {score.per_item[first]:.6g}"
            )


def _compare_intervals(part: MetricPart, score: Score, found: Findings) -> None:
    """Hold an interval to the one computed anew.

    Formulas give the same ends for good. Resamples are drawn by rules that get better from version
    to version: there, ends that lie near are a note.
    """
    both = ((part.low, score.low), (part.high, score.high))
    if all(_alike(said, now) for said, now in both):
        return
    line = (
        f"{part.name}'s interval is {_ends(part.low, part.high)}, and its predictions give"
        f" {_ends(score.low, score.high)}"
    )
    width = _NEAR * max(_width(part.low, part.high), _width(score.low, score.high))
    if part.interval == score.interval == RESAMPLED and all(
        said is not None and now is not None and abs(said - now) <= width for said, now in both
    ):
        found.notes.append(f"{line}: it is resampled by another rule now")
    else:
        found.problems.append(line)


def _width(low: float | None, high: float | None) -> float:
    return 0.0 if low is None or high is None else high - low


def _ends(low: float | None, high: float | None) -> str:
    return f"[{number(low)}, {number(high)}]"


def _alike(said: float | None, found: float | None) -> bool:
    if said is None or found is None:
        return said is found
    return math.isclose(said, found, rel_tol=0, abs_tol=TOLERANCE)

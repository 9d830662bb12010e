"""Runs for tests of comparisons: of any list, folds, classes and metric, with predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from records_factory import make_record

from rsbench.digests import digest_json
from rsbench.metrics import TOP1, evaluate_metric
from rsbench.records import store
from rsbench.records.predictions import to_parquet
from rsbench.records.ruler import make_ruler
from rsbench.records.schema import MetricPart
from rsbench.specs import Metric, TargetKind

NUM_CLASSES = 8


def scores_of(targets: Sequence[int], hits: Sequence[float]) -> list[np.ndarray]:
    """Give class scores whose highest is the target where it is a hit."""
    rows = []
    for target, hit in zip(targets, hits, strict=True):
        scores_K = np.zeros(NUM_CLASSES, dtype=np.float32)
        scores_K[target if hit else (target + 1) % NUM_CLASSES] = 1
        rows.append(scores_K)
    return rows


def save_run(
    root: Path,
    backbone: str,
    hits: Sequence[float] = (),
    *,
    ids: Sequence[str] = (),
    targets: Sequence[Any] = (),
    predictions: Sequence[Any] = (),
    folds: Sequence[str] = (),
    averaging: str = "pooled",
    metric: Metric = TOP1,
    kind: TargetKind = "class",
    task: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    network: Mapping[str, Any] | None = None,
    seed: int = 0,
    item_scores: Sequence[float] | None = None,
    record_changes: Mapping[str, Any] | None = None,
    **parts: Any,
) -> Path:
    """Write a run with its predictions; the list's fingerprint follows from its items.

    Args:
        root: The results folder.
        backbone: Its name.
        hits: 1 where an item is right, one an item; or give predictions.
        ids: Names of the items; made up where there are none.
        targets: What is right; the classes in turn where there are none.
        predictions: What was predicted; made from hits where there are none.
        folds: Which fold tested each item.
        averaging: "mean" where folds count alike.
        metric: The headline.
        kind: Of the targets.
        task: Changes of that part of the record, like the next ones.
        protocol: See task.
        data: See task.
        weights: See task.
        network: Likewise of the backbone's part.
        seed: Of the run.
        item_scores: What the file of predictions says instead of the true scores of its items.
        record_changes: Fields of the record that are changed at last.
        parts: More of `make_record`.
    """
    num = len(hits) or len(predictions)
    names = list(ids) or [f"clip_{row:04d}.mp4" for row in range(num)]
    right = list(targets) or [row % NUM_CLASSES for row in range(num)]
    predicted = list(predictions) or scores_of(right, hits)
    score = evaluate_metric(
        metric, right, predicted, folds=folds, averaging="mean" if averaging == "mean" else "pooled"
    )
    listed = digest_json([names, [repr(target) for target in right], list(folds)])
    record = make_record(
        backbone={"name": backbone, **(network or {})},
        task={"name": "plain", "sample": False, "target": kind, **(task or {})},
        protocol=protocol,
        weights=weights,
        data={
            "fingerprint": listed,
            "num_official": num,
            "num_expected": num,
            "num_evaluated": num,
            "num_folds": max(1, len(set(folds))),
            **(data or {}),
        },
        hits=hits or [1.0] * num,
        seed=seed,
        **parts,
    )
    ruler = make_ruler(
        task=record.task,
        protocol=record.protocol,
        data=record.data,
        metrics=[metric],
        averaging=averaging,
    )
    part = MetricPart(
        name=metric.name,
        value=score.value,
        low=score.low,
        high=score.high,
        n=score.n,
        level=metric.level,
        interval=score.interval,
        higher_is_better=metric.higher_is_better,
        folds=score.folds,
    )
    changes = {
        "metrics": (part,),
        "ruler": ruler,
        "key": digest_json([backbone, record.weights.name, ruler, seed, repr(network)]),
        **(record_changes or {}),
    }
    record = replace(record, **changes)
    per_item = score.per_item if item_scores is None else np.asarray(item_scores, np.float64)
    content = to_parquet(
        ids=names,
        targets=right,
        predictions=predicted,
        folds=folds,
        kind=kind,
        item_scores={} if per_item is None else {metric.name: per_item},
    )
    return store.write(root, record, {store.PREDICTIONS_SUFFIX: content})


def hits_of(text: str) -> list[float]:
    """Read "1101" as hits."""
    return [float(letter) for letter in text]

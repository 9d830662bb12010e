"""Synthetic records for tests: small, whole, and changed part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.digests import digest_json
from rsbench.metrics import TOP1, evaluate_metric
from rsbench.records import store
from rsbench.records.predictions import to_parquet
from rsbench.records.ruler import make_ruler
from rsbench.records.schema import (
    BackbonePart,
    DataPart,
    MetricPart,
    ProtocolPart,
    RunRecord,
    TaskPart,
    WeightsPart,
)

NUM_CLASSES = 8


def make_record(
    *,
    backbone: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    hits: Sequence[float] | None = None,
    seed: int = 0,
    **changes: Any,
) -> RunRecord:
    """Give a record of 160 items whose ruler and top-1 fit its parts; parts take field changes."""
    task_part = replace(
        TaskPart(
            name="kinetics400@sample",
            version=1,
            modality="video",
            target="class",
            split="val",
            sample=True,
            limit=None,
            num_classes=NUM_CLASSES,
            own_reader=False,
            source_sha256=None,
        ),
        **(task or {}),
    )
    backbone_part = replace(
        BackbonePart(
            name="resnet_rs_3d_50",
            version=1,
            modality="video",
            num_parameters=33_000_000,
            feature_width=2048,
            frames=16,
            stride=1,
            pixels=64,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            interpolation="bilinear",
            antialias=True,
            crop_ratio=1.0,
            lifting="none",
            numeric_digest="c" * 64,
            source_sha256=None,
        ),
        **(backbone or {}),
    )
    weights_part = replace(
        WeightsPart(
            name="none",
            digest=digest_json(["weights", backbone_part.name, seed]),
            trained_on=(),
            verified=False,
            init_seed=seed,
            notes=(),
        ),
        **(weights or {}),
    )
    protocol_part = replace(
        ProtocolPart(
            name="linear_probe",
            version=1,
            recipe={"strengths": 45, "held_out": 0.2},
            overrides={},
            chosen={"strength": 0.5},
            selects_on="held-out train",
            sampler="mmaction2@1",
            clips=1,
            crops=1,
            trains=True,
            trains_backbone=False,
            source_sha256=None,
        ),
        **(protocol or {}),
    )
    hits_N = list(hits) if hits is not None else [1.0] * 80 + [0.0] * 80
    score = evaluate_metric(TOP1, *_as_predictions(hits_N))
    data_part = replace(
        DataPart(
            fingerprint="a" * 64,
            content="d" * 64,
            train_fingerprint="b" * 64,
            validation_fingerprint=None,
            media="original",
            num_official=len(hits_N),
            num_expected=len(hits_N),
            num_evaluated=len(hits_N),
            num_failed=0,
            failed=(),
            num_missing=0,
            missing=(),
            num_train=320,
            train_failed=(),
            num_folds=1,
            split_sha256=None,
            notes=(),
        ),
        **(data or {}),
    )
    ruler = make_ruler(
        task=task_part, protocol=protocol_part, data=data_part, metrics=[TOP1], averaging="pooled"
    )
    fields: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00",
        "seed": seed,
        "task": task_part,
        "backbone": backbone_part,
        "weights": weights_part,
        "protocol": protocol_part,
        "data": data_part,
        "ruler": ruler,
        "metrics": (
            MetricPart(
                name="top1",
                value=score.value,
                low=score.low,
                high=score.high,
                n=score.n,
                level="item",
                interval=score.interval,
                higher_is_better=True,
            ),
        ),
        "environment": {"torch": "2.11.0", "device": "cpu"},
        "cost": {"seconds_total": 12.5},
        **changes,
    }
    named = [backbone_part.name, backbone_part.frames, weights_part.name, weights_part.digest]
    fields.setdefault("key", digest_json([named, ruler, seed]))
    return RunRecord(**fields)


def make_predictions(hits: Sequence[float], *, ids: Sequence[str] | None = None) -> bytes:
    """Give the Parquet bytes of predictions whose top-1 hits are the given ones."""
    targets, predictions = _as_predictions(hits)
    return to_parquet(
        ids=list(ids) if ids is not None else [f"clip_{row:04d}.mp4" for row in range(len(hits))],
        targets=targets,
        predictions=predictions,
        kind="class",
        item_scores={"top1": np.asarray(hits, dtype=np.float64)},
    )


def save_record(root: Path, hits: Sequence[float], **parts: Any) -> Path:
    """Write a record with matching predictions into a results folder; give the record's path."""
    record = make_record(hits=hits, **parts)
    return store.write(root, record, {store.PREDICTIONS_SUFFIX: make_predictions(hits)})


def some_hits(num_hits: int, *, num_items: int = 160, seed: int = 0) -> list[float]:
    """Give a shuffled list of ones and zeros."""
    hits_N = np.zeros(num_items)
    hits_N[:num_hits] = 1
    return [float(hit) for hit in np.random.default_rng(seed).permutation(hits_N)]


def _as_predictions(hits: Sequence[float]) -> tuple[list[int], list[np.ndarray]]:
    targets = [row % NUM_CLASSES for row in range(len(hits))]
    rows = []
    for target, hit in zip(targets, hits, strict=True):
        scores_K = np.zeros(NUM_CLASSES, dtype=np.float32)
        scores_K[target if hit else (target + 1) % NUM_CLASSES] = 1
        rows.append(scores_K)
    return targets, rows

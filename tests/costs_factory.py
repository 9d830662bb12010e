"""Costs made by hand: round numbers, so that what follows from them is worked out in the head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rsbench.profiling.costs import Cost, Timing

COUNTS = {
    "parameters": 900_000,
    "parameters_with_head": 1_000_000,
    "macs": 400_000_000,
    "macs_with_head": 500_000_000,
    "macs_training": 1_500_000_000,
    "activations": 2_500_000,
}


def timing(work: str, seconds: tuple[float, ...], **changes: Any) -> Timing:
    made = Timing(
        work=work,
        batch_size=4,
        batch_asked=4,
        seconds=seconds,
        cpu_seconds=tuple(lap / 2 for lap in seconds),
        peak_bytes=3 * 2**20,
        peak_source="resident",
    )
    return replace(made, **changes)


def cost(backbone: str = "tiny_2d", **changes: Any) -> Cost:
    """A network of 0.5 G multiply-adds: 4 views in 0.2 s, a step of 4 in 0.8 s."""
    made = Cost(
        created="2026-01-02T03:04:05+00:00",
        backbone=backbone,
        version=1,
        modality="image",
        lifting="none",
        frames=1,
        stride=1,
        pixels=32,
        clips=10,
        crops=3,
        classes=1000,
        counts=COUNTS,
        device="Some CPU",
        device_type="cpu",
        precision="float32",
        layout="channels_last",
        compiled=False,
        threads=1,
        rounds=3,
        beside=("tiny_3d",),
        tf32=None,
        cudnn_benchmark=None,
        peak_flops_per_second=100e9,
        timings=(
            timing("inference", (0.06, 0.05, 0.10), batch_size=1, batch_asked=1, peak_bytes=None),
            timing("inference", (0.2, 0.1, 0.3)),
            timing("training", (0.8, 0.8, 0.8), peak_bytes=8 * 2**20),
        ),
        environment={"torch": "2.9.0", "commit": "0123456789abcdef", "dirty": False},
    )
    return replace(made, **changes)

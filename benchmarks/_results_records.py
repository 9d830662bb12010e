"""Thousands of records that no network left behind: a results folder to measure with.

Each stands for a run whose hits are drawn: items are easy or hard for everybody, networks good or
less so, seeds lucky or not. All is as `rsbench run` writes it, through the store itself. The
records' parts are those of the tests (tests/records_factory.py).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from rsbench.digests import digest_json
from rsbench.records import store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from records_factory import make_predictions, make_record

PROTOCOLS = ("linear_probe", "knn")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """How many records there are of what."""

    num_records: int = 10_000
    num_networks: int = 25
    """Under each ruler."""
    num_seeds: int = 4
    """Of each network under each ruler."""
    num_items: int = 200
    """Of each task."""

    @property
    def num_rulers(self) -> int:
        """Tables that come of it; the last may have fewer rows."""
        return -(-self.num_records // (self.num_networks * self.num_seeds))


def write_records(root: Path, shape: Shape, *, seed: int = 0) -> Iterator[int]:
    """Fill a results folder; give the number of records after each, to show how far it is.

    Equal arguments leave equal records. What is written is not brought to disk one by one, which
    takes most of the time and which nobody will miss.
    """
    count = 0
    with mock.patch("os.fsync"):
        for ruler in range(shape.num_rulers):
            generator = np.random.default_rng([seed, ruler])
            ease_N = generator.normal(1, 2, size=shape.num_items)
            for network in range(shape.num_networks):
                skill = generator.normal(0, 0.5)
                for run in range(shape.num_seeds):
                    if count == shape.num_records:
                        return
                    chance_N = 1 / (1 + np.exp(-(ease_N + skill + generator.normal(0, 0.1))))
                    hits_N = generator.random(shape.num_items) < chance_N
                    _write(root, ruler, network, run, hits_N.astype(np.float64))
                    count += 1
                    yield count


def _write(root: Path, ruler: int, network: int, seed: int, hits_N: NDArray[np.float64]) -> None:
    task = f"task_{ruler // len(PROTOCOLS):03d}"
    hits = hits_N.tolist()
    record = make_record(
        hits=hits,
        seed=seed,
        task={"name": task, "modality": "image", "sample": False, "split": "test"},
        protocol={"name": PROTOCOLS[ruler % len(PROTOCOLS)]},
        backbone={
            "name": f"net_{network:02d}",
            "modality": "image",
            "frames": 1,
            "num_parameters": 5_000_000 * (network + 1),
        },
        weights={
            "name": "pretrained",
            "digest": digest_json(["weights", network]),
            "trained_on": ("imagenet1k",),
            "verified": True,
            "init_seed": None,
        },
        data={"fingerprint": digest_json(["items", task])},
        cost={"seconds_total": 12.5, "macs_per_view": 400_000_000 * (network + 1), "views": 1},
    )
    predictions = make_predictions(hits)
    store.write(root, record, {store.PREDICTIONS_SUFFIX: predictions})

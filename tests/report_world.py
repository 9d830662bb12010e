"""A results folder for the tests of the report: hostile names, several seeds, two rulers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from records_factory import NUM_CLASSES, make_predictions, make_record, some_hits

from rsbench.records import store
from rsbench.records.heads import to_bytes

SCRIPT_NAME = "<script>alert(1)</script>"
BREAKOUT = "</script><script>window.__broken = 1</script><!--<script>\u2028\u202e&amp;'\"</style>"
CLASSES = tuple(f"class {place} <b>" for place in range(NUM_CLASSES))


def save_run(root: Path, hits: list[float], **parts: Any) -> Path:
    """Write a record with predictions and a head that names the classes."""
    digits = {"name": "digits", "modality": "image", "split": "test", "sample": False}
    record = make_record(hits=hits, **{"task": digits, **parts})
    # Items of a task that comes with scikit-learn, so that there are pictures of them.
    ids = [f"digit_{898 + place:04d}" for place in range(len(hits))]
    head = to_bytes({"": {"weight": np.zeros(1, dtype=np.float32)}}, classes=CLASSES)
    files = {store.PREDICTIONS_SUFFIX: make_predictions(hits, ids=ids), store.HEAD_SUFFIX: head}
    return store.write(root, record, files)


def make_world(root: Path) -> Path:
    """Write records: three networks of one ruler, one of them under three seeds, a second ruler."""
    cost = {"seconds_total": 12.5, "views": 1, "num_parameters": 33_000_000}
    named = {"name": SCRIPT_NAME, "num_parameters": 5_000_000}
    learned = {"name": BREAKOUT, "init_seed": None, "verified": True, "trained_on": ("<i>",)}
    trace = tuple(
        {"strength": 10.0**-place, "held_out_top1": 0.4 + 0.05 * place, "chosen": place == 2}
        for place in range(4)
    )
    save_run(
        root,
        some_hits(120),
        backbone=named,
        weights=learned,
        cost={**cost, "macs_per_view": 1_000_000_000},
        selection=trace,
        environment={"torch": BREAKOUT, "device": "cpu"},
    )
    for seed in range(3):
        save_run(
            root,
            some_hits(80 + seed, seed=seed),
            seed=seed,
            cost={**cost, "macs_per_view": 3_000_000_000},
        )
    plain = {"name": "tiny_net", "num_parameters": 1_000_000}
    save_run(
        root,
        some_hits(76, seed=9),
        backbone=plain,
        cost={**cost, "macs_per_view": 200_000_000},
        data={"num_evaluated": 158, "num_failed": 2, "failed": ({"id": "<a>", "reason": "cut"},)},
    )
    save_run(root, some_hits(50, seed=4), protocol={"clips": 10, "crops": 3})
    return root

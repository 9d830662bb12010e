"""Memory of reader processes stays flat over an epoch, by the kernel's own accounts.

RSBENCH_SOAK multiplies the items: 1 reads 20,000, 12 reads as many as Kinetics-400 has.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from small_world import settings

NUM_ITEMS = 20_000 * int(os.environ.get("RSBENCH_SOAK", "1"))
MOST_GROWTH_MB = 8.0
"""Of both workers together. A plain list of 20,000 items grows by 25, one of 240,000 by ten times
that; see benchmarks/memory.py --as-list."""


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "memory.py"
    spec = importlib.util.spec_from_file_location("benchmarks_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the accounts are Linux's")
@pytest.mark.parametrize(
    "as_list", [False, pytest.param(True, marks=pytest.mark.xfail(strict=True))]
)
def test_workers_copy_nothing_of_what_they_were_forked_with(
    memory: ModuleType, tmp_path: Path, *, as_list: bool
) -> None:
    items = memory.write_items(tmp_path, NUM_ITEMS)
    machine = settings(tmp_path, num_workers=2, batch_size=64)
    curve = []
    for number, _ in enumerate(memory.epoch(items, machine, as_list=as_list)):
        if number % 10 == 0:
            curve.append(memory.measure().workers_uss)

    # Not the last ones: a worker that has finished gives its memory back.
    early, late = curve[len(curve) // 10], max(curve[: -len(curve) // 10])
    assert late - early < MOST_GROWTH_MB

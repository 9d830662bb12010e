"""Memory of reader processes stays flat over an epoch, by the kernel's own accounts.

Each epoch is read by a process of its own, so that nothing but its items lies in its memory.
RSBENCH_SOAK multiplies the items: 1 reads 20,000, 12 reads as many as Kinetics-400 has.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "memory.py"
NUM_ITEMS = 20_000 * int(os.environ.get("RSBENCH_SOAK", "1"))
MOST_GROWTH_MB = 5.0
"""Of both workers together, from a tenth of the epoch on."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the accounts are Linux's")
def test_workers_copy_nothing_of_what_they_were_forked_with() -> None:
    packed = _growth_mb()
    # The same by a plain list, which forked workers copy page by page as they look at it.
    plain = _growth_mb("--as-list")

    assert packed < MOST_GROWTH_MB
    assert plain > MOST_GROWTH_MB


def _growth_mb(*words: str) -> float:
    """Give what the workers' own memory grows by, in megabytes."""
    command = [sys.executable, PROGRAM, "--items", str(NUM_ITEMS), "--workers", "2", *words]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Items read, seconds, main USS, workers' USS, PSS of all; a line a tenth of the epoch.
    curve = [float(line.split()[3]) for line in told.splitlines()[2:]]
    # Not the first, before both read, nor the last: one that has finished gives its memory back.
    return max(curve[1:-1]) - curve[1]

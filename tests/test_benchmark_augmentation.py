"""The benchmark of augmentation, at a size for tests: everybody works, and ratios are ratios."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "augmentation.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_augmentation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


def test_everybody_is_timed_at_every_kind_of_work(benchmark: ModuleType) -> None:
    works = benchmark.works_of(2, "cpu")

    rows = benchmark.measure(works, num_draws=1, repeats=1, device="cpu")
    lines = list(benchmark.lines_of(rows))

    assert len(rows) == len(works) == len(lines) - 2
    assert all(row.milliseconds[0] >= 0 for row in rows)
    assert {(row.view, row.kind) for row in rows if row.library == "torchvision"} == {
        (view, kind)
        for view in ("picture", "clip")
        for kind in ("RandAugment", "colour jitter", "random erasing", "scale jitter")
    }


def test_a_ratio_is_anothers_time_over_ours(benchmark: ModuleType) -> None:
    rows = [
        benchmark.Row(view="clip", kind="erasing", library="rsbench", milliseconds=(1.0, 2.0, 4.0)),
        benchmark.Row(view="clip", kind="erasing", library="peer", milliseconds=(3.0, 5.0, 8.0)),
    ]

    # By hand: 3, 2.5 and 2 times, whose middle is 2.5.
    assert list(benchmark.lines_of(rows))[-1] == (
        "| clip | erasing | peer | 5.00 (3.00, 8.00) | 2.50 |"
    )

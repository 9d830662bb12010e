"""The benchmark of extraction, at a size for tests: all contenders look at the same thing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "extraction.py"
SMALL = ("--images", "5", "--batch", "2", "--repeats", "1")


@pytest.fixture
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_extraction", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("words", [("--pixels", "64"), ("--pixels", "48", "--workers", "1")])
def test_everybody_gives_the_features_that_rsbench_gives(
    benchmark: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(sys, "argv", ["extraction.py", "--backbone", "tiny_2d", *SMALL, *words])
    benchmark.main()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("|")
    ][2:]

    names = [row[0] for row in rows]
    assert names == [
        *("rsbench", "rsbench, cached"),
        *("plain loop", "plain loop again", "network alone"),
    ]
    # Decoders and resizers may round a pixel otherwise; another crop would be far from it.
    assert all(float(row[-1]) > 0.9999 for row in rows)
    assert float(rows[0][3].split()[0]) == 1.0


def test_another_crop_would_be_found_out(benchmark: ModuleType) -> None:
    features = np.array([[1.0, 0.0], [0.0, 2.0]])

    assert benchmark.likeness(3 * features, features) == pytest.approx(1.0)
    # The second row is turned by 45 degrees.
    turned = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert benchmark.likeness(turned, features) == pytest.approx(np.sqrt(0.5))

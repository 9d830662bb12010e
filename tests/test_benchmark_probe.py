"""The benchmark of probes, at a size for tests: solvers answer one question, and ratios are so."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "probe.py"


@pytest.fixture(scope="module")
def probe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_probe", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


def test_solvers_reach_one_objective_and_a_loose_one_is_told(
    probe: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--examples 300 --features 12 --classes 3 --strengths 5 --tests 100 --queries 20"
    probe.main([*words.split(), "--json", str(tmp_path / "found.json")])

    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    rows = {row["solver"]: row for row in found["rows"]}
    assert [*rows] == [*probe.solvers(tolerance=1e-6, tight_tolerance=1e-7)]
    assert rows["rsbench"]["ratio"] == 1
    assert rows["rsbench"]["largest_gap"] <= rows["rsbench"]["proven_gap"] <= 1e-6
    assert rows["scikit-learn tight"]["largest_gap"] < 1e-6
    # What stops where it is told to by default is above both.
    assert rows["scikit-learn cold"]["largest_gap"] > rows["scikit-learn tight"]["largest_gap"]
    assert found["neighbours"]["equal"] == 1
    assert "| rsbench | 5 of 5 |" in capsys.readouterr().out


def test_times_of_some_strengths_stand_for_all(probe: ModuleType) -> None:
    world = probe.make_world(examples=200, features=6, classes=3, tests=20)
    named = {
        name: solver
        for name, solver in probe.solvers(tolerance=1e-6, tight_tolerance=1e-7).items()
        if name in ("rsbench", "scikit-learn warm")
    }

    ours, theirs = probe.measure(world, [1e-2, 1e-1, 1.0, 10.0], named, every=2, repeats=2)

    assert (ours.num_solved, theirs.num_solved) == (4, 2)
    assert len(theirs.seconds) == 2
    first, second = (a / b for a, b in zip(theirs.seconds, ours.seconds, strict=True))
    assert theirs.ratio == pytest.approx((first + second) / 2)

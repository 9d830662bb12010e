"""The benchmark of training, at a size for tests: all loops take the same first step."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "train.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_train", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_loop_takes_its_first_step_from_the_same_loss(benchmark: ModuleType) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, benchmark.NUM_CLASSES))
    labels = torch.tensor([3, 1])
    inputs = torch.randn(2, 3, 2, 2)
    work = benchmark.Work(network, [(inputs, labels)] * 3, "float32", "cpu")
    # The second source: PyTorch's loss of the network as it is before any step.
    expected = nn.functional.cross_entropy(
        network(inputs), labels, label_smoothing=benchmark.SMOOTHING
    )

    for name, contender in benchmark.contenders().items():
        lap = contender(work)
        assert lap.first_loss == pytest.approx(float(expected.detach()), rel=1e-5), name
        assert lap.seconds_per_step >= 0, name


def test_a_ratio_is_the_median_over_rounds_of_their_time_over_ours(benchmark: ModuleType) -> None:
    laps = {
        benchmark.OURS: [benchmark.Lap(1.0, 0.0), benchmark.Lap(2.0, 0.0), benchmark.Lap(4.0, 0.0)],
        "another": [benchmark.Lap(3.0, 0.0), benchmark.Lap(3.0, 0.0), benchmark.Lap(4.0, 0.0)],
    }

    # By hand: 3, 1.5 and 1.
    assert benchmark.ratios(laps)["another"] == 1.5


def test_networks_are_read_as_they_are_written(benchmark: ModuleType) -> None:
    assert benchmark.Asked.of("tiny_2d@32x4").shape == (3, 32, 32)
    assert benchmark.Asked.of("tiny_3d@32x2x8") == ("tiny_3d", 32, 2, 8)


def test_a_network_trains_on_files_and_the_waiting_is_a_share(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    asked = benchmark.Asked.of("tiny_2d@32x2")
    work = benchmark.work_of(asked, steps=1, precision="float32", device="cpu")
    items = benchmark.write_pictures(tmp_path, 4)

    rate, waiting = benchmark.share_waiting(work, asked, items, tmp_path, num_workers=0)

    assert rate > 0
    assert 0 < waiting < 1

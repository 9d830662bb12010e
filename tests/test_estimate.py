"""What a dry run foretells: times of batches, recipes that can't run, and the sum of a grid."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_line import NUM_TEST, NUM_TRAIN, QUICK, TINY, rsbench, write_pictures

from rsbench import estimate as estimating
from rsbench.cells import RunRequest, prepare
from rsbench.estimate import Estimate
from rsbench.registry import everything


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data")
    return tmp_path


class _Clock:
    """Seconds that pass only when something is read or computed."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """Let a view take 1 s to read, a forward pass 10 s and a training step 40 s, of any size."""
    clock = _Clock()

    class Slow(estimating.Outputs):
        def __call__(self, views: torch.Tensor) -> torch.Tensor:
            clock.now += 10.0
            return super().__call__(views)

    real = estimating.read_views

    def read(item: Any, reading: Any) -> torch.Tensor:
        clock.now += 1.0
        return real(item, reading)

    real_step = estimating.train_step

    def step(*words: Any) -> None:
        clock.now += 40.0
        real_step(*words)

    monkeypatch.setattr(estimating, "train_step", step)
    monkeypatch.setattr(estimating, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    monkeypatch.setattr(estimating, "read_views", read)
    monkeypatch.setattr(estimating, "Outputs", Slow)
    monkeypatch.setattr(estimating, "_MOST_SECONDS", 1000.0)
    monkeypatch.setattr(estimating, "_LONG_STEP_SECONDS", 1000.0)
    return clock


def _estimate(
    here: Path, protocol: str, *changes: str, num_workers: int = 0, device: str = "cpu"
) -> Estimate:
    request = RunRequest(
        task="folder",
        backbone="tiny_2d",
        protocol=protocol,
        data=here / "data",
        results=here / "results",
        cache_root=here / "cache",
        pixels=16,
        batch_size=5,
        num_workers=num_workers,
        device=device,
        overrides=dict(change.split("=") for change in changes),
    )
    return estimating.estimate(prepare(request))


def _seconds(here: Path, protocol: str, *changes: str) -> float:
    seconds = _estimate(here, protocol, *changes).seconds
    assert seconds is not None
    return seconds


# By hand: a view takes 1 s to read and 10 s / 5 of a batch to compute; 12 train and 8 test items. A
# training step takes 40 s: 2.5 s an example of a batch of 16, 10 s of one of 4.


def test_a_frozen_network_is_timed_by_the_batch(here: Path, clock: _Clock) -> None:
    assert _seconds(here, "linear_probe") == pytest.approx(20 * (1 + 2))


def test_random_views_are_read_each_time(here: Path, clock: _Clock) -> None:
    changes = ("epochs=2", "epoch_iterations=3", "batch_size=4", "refit=false")

    assert _seconds(here, "linear_probe_dino", *changes) == pytest.approx((20 + 24) * (1 + 2))


def test_finetune_reads_and_learns_from_each_item_once_an_epoch(here: Path, clock: _Clock) -> None:
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16")

    assert size.train_seconds == pytest.approx(12 * 4 * (1 + 2.5))
    assert size.seconds == pytest.approx(8 * (1 + 2) + 12 * 4 * (1 + 2.5))
    assert size.train_steps == 3


def test_a_batch_in_parts_is_timed_by_the_part(here: Path, clock: _Clock) -> None:
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16", "examples_at_once=4")

    assert size.train_seconds == pytest.approx(12 * 4 * (1 + 10))


def test_a_batch_that_takes_long_is_not_waited_for(
    here: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "_LONG_STEP_SECONDS", 30.0)
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16")

    # Two examples took 40 s: more at once are not tried.
    assert size.train_seconds == pytest.approx(12 * 4 * (1 + 20))


def test_workers_read_while_the_network_learns(here: Path, clock: _Clock) -> None:
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16", num_workers=2)

    assert size.train_seconds == pytest.approx(12 * 4 * 2.5)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("planted"),
        # What PyTorch's allocator of the CPU raises.
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
    ids=["gpu", "cpu"],
)
def test_memory_that_is_too_small_ends_the_search_for_a_batch(
    here: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = estimating.train_step

    def step(network: Any, optimizer: Any, batch: torch.Tensor, machine: Any) -> None:
        if len(batch) > 4:
            raise error
        real(network, optimizer, batch, machine)

    monkeypatch.setattr(estimating, "train_step", step)
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16")

    assert size.train_seconds == pytest.approx(12 * 4 * (1 + 10))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_is_timed_on_the_gpu_and_leaves_nothing_there(here: Path) -> None:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    size = _estimate(here, "finetune", "epochs=4", "batch_size=16", device="cuda")

    assert size.train_seconds is not None
    assert size.train_seconds > 0
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_a_frozen_network_has_no_training_steps(here: Path) -> None:
    size = _estimate(here, "linear_probe")

    assert (size.train_steps, size.train_seconds) == (0, None)


def test_what_was_measured_is_not_measured_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    real = estimating._measured

    def note(cell: Any, *words: Any) -> Any:
        measured.append(cell.backbone.spec.name)
        return real(cell, *words)

    monkeypatch.setattr(estimating, "_measured", note)
    request = RunRequest(
        task="folder",
        backbone="tiny_2d",
        protocol="finetune",
        data=here / "data",
        results=here / "results",
        cache_root=here / "cache",
        pixels=16,
    )
    speeds: dict[Any, Any] = {}
    for epochs in ("4", "8"):
        longer = replace(request, overrides={"epochs": epochs})
        estimating.estimate(prepare(longer), speeds=speeds)
    estimating.estimate(prepare(replace(request, pixels=24)), speeds=speeds)

    assert len(measured) == 2, "once for each size of the input, whatever the recipe's length"


def test_the_hours_of_a_training_are_said(here: Path) -> None:
    words = ("run", *TINY, "--data", "data", "--protocol", "finetune", "--dry-run")

    assert re.search(r"training: about 23 steps, \S+ hours of one device", rsbench(*words).out)


def test_vtab1k_reads_its_views_once(here: Path, clock: _Clock) -> None:
    changes = ("learning_rates=0.1", "steps=5", "batch_size=4")
    # Five steps to choose, five at last, of four views each.
    expected = 8 * (1 + 2) + 12 * 1 + 40 * 10

    assert _seconds(here, "vtab1k", *changes) == pytest.approx(expected)


def test_a_slow_network_is_not_asked_for_more_than_one_view(
    here: Path, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimating, "_MOST_SECONDS", 10.0)

    assert _seconds(here, "linear_probe") == pytest.approx(20 * (1 + 10))


@pytest.mark.parametrize(
    ("protocol", "num_trained"), [("attentive_probe", 20), ("linear_probe_dino", 26), ("knn", 0)]
)
def test_classifiers_whose_training_is_not_counted_are_said(
    here: Path, protocol: str, num_trained: int
) -> None:
    # V-JEPA 2: 5 rates x 4 decays; DINOv2 as here: 2 feature types x 13 rates.
    words = ("run", *TINY, "--data", "data", "--protocol", protocol, "--dry-run")
    said = f"not counting the training of {num_trained} classifiers"

    assert json.loads(rsbench(*words, "--json").out)["num_trained"] == num_trained
    assert (said in rsbench(*words).out) == (num_trained > 0)


# --------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("protocol", "change"),
    [
        ("fewshot", "shots=0"),
        ("knn", "neighbours=10.5"),
        ("knn", "temperature=0"),
        ("linear_probe", "strengths=0"),
        ("linear_probe_clip", "coarse_step=3"),
        ("linear_probe_dino", "epochs=0"),
        ("attentive_probe", "num_heads=0"),
        ("vtab1k", "steps=0"),
        ("finetune", "epochs=0"),
    ],
)
def test_a_recipe_that_can_not_run_is_refused_before_anything_does(
    here: Path, protocol: str, change: str
) -> None:
    words = ("run", *TINY, "--data", "data", "--protocol", protocol, "--set", change)
    answer = rsbench(*words, "--dry-run")

    assert answer.code == 2
    assert f"rsbench: {change.partition('=')[0]} must be" in answer.err
    assert answer.out == ""


def test_every_protocol_accepts_its_own_recipe() -> None:
    found, _ = everything("protocol")

    for each in found:
        each.spec.check(each.spec.recipe)
    assert len(found) >= 9


# --------------------------------------------------------------------------------- the sum


def test_a_grid_ends_with_its_sum_and_counts_shared_outputs_once(here: Path) -> None:
    words = ("run", *TINY, "--data", "data", "--dry-run")
    alone = rsbench(*words, "--protocol", "knn").out
    answer = rsbench(*words, "--protocol", "knn,fewshot")
    size = re.findall(r"cache: (.+) of network outputs", answer.out)

    assert "in all" not in alone
    assert size[0] == size[1]
    last = answer.out.splitlines()[-1]
    assert last.startswith(f"in all: 2 cells, {size[0]} of network outputs in the cache, about ")


def test_a_sum_leaves_out_what_is_finished(here: Path) -> None:
    words = ("run", *QUICK, "--data", "data")
    rsbench(*words)
    some = rsbench(*words, "--seeds", "0,1", "--dry-run").out.splitlines()[-1]
    rsbench(*words, "--seed", "1")
    all_ = rsbench(*words, "--seeds", "0,1", "--dry-run").out.splitlines()[-1]

    assert some.startswith("in all: 2 cells, 1 of them finished before, ")
    assert all_ == "in all: 2 cells, finished before: they would be shown, not run"


def test_folds_are_counted_one_by_one(here: Path) -> None:
    words = ("run", *QUICK, "--data", "data", "--cross-validate", "3", "--dry-run")
    said = rsbench(*words).out

    # 20 items in three folds are 7, 7 and 6 of the test.
    assert NUM_TRAIN + NUM_TEST == 20
    assert "3 folds of 13 to 14 train, 6 to 7 test items" in said

"""Before anything counts, a batch goes all the way; and nothing is left of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rsbench.atomic import write_atomically
from rsbench.errors import DiskError, RunError
from rsbench.training.batches import TrainingBatch
from rsbench.training.loop import Checkpoint, Machine, Trained, TrainingPlan, named_tensors, train

PLAN = TrainingPlan(
    epochs=2,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-2,
    decay_norm_and_bias=False,
    warmup_share=0.5,
    warmup_factor=0.1,
    label_smoothing=0.0,
    largest_gradient=0.0,
)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))


def _read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
    generator = torch.Generator().manual_seed(epoch)
    batches = [torch.randn(6, 4, generator=generator) for _ in range(3)]
    for inputs in batches[first:]:
        yield TrainingBatch(inputs, torch.arange(6) % 3, tuple("abcdef"))


def _train(
    tmp_path: Path, network: nn.Module, plan: TrainingPlan = PLAN, **changes: Any
) -> Trained:
    given: dict[str, Any] = {
        "steps_per_epoch": 3,
        "seed": 0,
        "machine": Machine(device="cpu", precision="float32"),
        "checkpoint": Checkpoint(path=tmp_path / "c.pt", key="run"),
        **changes,
    }
    return train(network, given.pop("read_epoch", _read), plan, **given)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "lars", "adamw"])
def test_a_training_with_a_rehearsal_ends_with_the_bits_of_one_without(
    tmp_path: Path, optimizer: Any, precision: Any
) -> None:
    plan = replace(PLAN, optimizer=optimizer, learning_rate=1e-4, ema_decay=0.9)
    machine = Machine(device="cpu", precision=precision)
    with_it, without = _network(), _network()
    if precision == "fp16":
        # Then the scaler's first scale overflows, and it takes a smaller one.
        for network in (with_it, without):
            network.register_forward_hook(lambda module, inputs, output: output * 100)

    one = _train(tmp_path / "with", with_it, plan, machine=machine)
    other = _train(tmp_path / "without", without, plan, machine=machine, rehearse=False)

    expected = named_tensors(without)
    for name, each in named_tensors(with_it).items():
        assert torch.equal(each, expected[name]), name
    assert one.losses == other.losses
    assert one.num_steps == other.num_steps == 6


def test_it_takes_one_step_more_with_the_first_batch_and_writes_one_file_more(
    tmp_path: Path,
) -> None:
    network, seen, written = _network(), [], []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def write(path: Path, content: bytes) -> None:
        written.append((path.name, len(content)))
        write_atomically(path, content)

    _train(tmp_path, network, checkpoint=Checkpoint(path=tmp_path / "c.pt", key="run", write=write))

    assert len(seen) == 1 + 6
    assert torch.equal(seen[0], seen[1])
    assert len(written) == 1 + 2
    assert written[0][0].startswith("c-rehearsal.")
    # It is as large as what follows, momentum and all; curves grow by a row an epoch.
    assert written[0][1] == pytest.approx(written[1][1], rel=0.2)
    assert [path.name for path in tmp_path.iterdir()] == [written[2][0]]


def test_a_training_that_goes_on_has_none(tmp_path: Path) -> None:
    _train(tmp_path, _network(), replace(PLAN, epochs=1))
    network, seen = _network(), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    _train(tmp_path, network, PLAN)

    assert len(seen) == 3


def test_a_disk_that_is_full_is_found_out_before_the_first_step(tmp_path: Path) -> None:
    def write(path: Path, content: bytes) -> None:
        raise DiskError(f"Can't write {path}: {errno.ENOSPC}")

    steps: list[int] = []
    with pytest.raises(DiskError, match="c-rehearsal"):
        _train(
            tmp_path,
            _network(),
            checkpoint=Checkpoint(path=tmp_path / "c.pt", key="run", write=write),
            progress=lambda done, total: steps.append(done),
        )

    assert steps == []


def test_a_disk_that_loses_what_it_was_given_is_found_out_too(tmp_path: Path) -> None:
    checkpoint = Checkpoint(path=tmp_path / "c.pt", key="run", write=lambda path, content: None)

    with pytest.raises(RunError, match="must be read back as it was, and was not") as caught:
        _train(tmp_path, _network(), checkpoint=checkpoint)
    assert "\n" not in str(caught.value)


def test_a_batch_beyond_memory_is_found_out_before_the_first_step(tmp_path: Path) -> None:
    network = _network()

    def refuse(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    network.register_forward_pre_hook(refuse)
    steps: list[int] = []

    with pytest.raises(RunError, match="examples_at_once=4"):
        _train(tmp_path, network, progress=lambda done, total: steps.append(done))
    assert steps == []
    assert not list(tmp_path.iterdir())


def test_a_killed_rehearsal_is_not_gone_on_from(tmp_path: Path) -> None:
    class _Killed(Exception):
        pass

    def write(path: Path, content: bytes) -> None:
        write_atomically(path, content)
        raise _Killed

    with pytest.raises(_Killed):
        _train(
            tmp_path,
            _network(),
            checkpoint=Checkpoint(path=tmp_path / "c.pt", key="run", write=write),
        )

    network, whole = _network(), _network()
    assert _train(tmp_path, network).num_steps == 6
    _train(tmp_path / "whole", whole)
    for name, each in named_tensors(network).items():
        assert torch.equal(each, named_tensors(whole)[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_batch_beyond_memory_names_a_part_that_then_trains(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2**20)
            self.head = nn.Linear(2**20, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            # 4 MiB an example and activation, several of which are kept for the way back.
            logits: torch.Tensor = self.head(self.layer(inputs).relu().sigmoid())
            return logits

    torch.cuda.empty_cache()
    _, in_all = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 2 * 2**30 / in_all))
    size = 1024

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        inputs = torch.randn(size, 4, device="cuda")
        labels = torch.zeros(size, dtype=torch.int64, device="cuda")
        yield TrainingBatch(inputs, labels, tuple(map(str, range(size))))

    given: dict[str, Any] = {
        "read_epoch": read,
        "steps_per_epoch": 1,
        "machine": Machine(device="cuda", precision="float32"),
    }
    try:
        with pytest.raises(RunError, match=r"examples_at_once=\d+") as caught:
            _train(tmp_path, Wide().cuda(), **given)
        said = str(caught.value).split("examples_at_once=")[1]
        at_once = int(said.split(",")[0])
        _train(tmp_path, Wide().cuda(), replace(PLAN, examples_at_once=at_once), **given)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

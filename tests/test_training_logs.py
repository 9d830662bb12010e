"""Event files of trainings, read back by TensorBoard's own reader."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from rsbench.errors import DiskError, RsbenchError
from rsbench.training.batches import TrainingBatch
from rsbench.training.logs import event_file
from rsbench.training.loop import Checkpoint, Machine, Trained, TrainingPlan, train

pytest.importorskip("tensorboard", reason="TensorBoard comes with the dev extra")

PLAN = TrainingPlan(
    epochs=3,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=0.0,
    decay_norm_and_bias=False,
    warmup_share=0.0,
    warmup_factor=1.0,
    label_smoothing=0.0,
    largest_gradient=0.0,
)


def _read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
    for number in range(first, 2):
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(2 * epoch + number))
        yield TrainingBatch(inputs, torch.arange(6) % 3, tuple("abcdef"))


def _train(tmp_path: Path, *, stop_at: int = -1) -> Trained:
    def progress(done: int, total: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    return train(
        nn.Linear(4, 3),
        _read,
        PLAN,
        steps_per_epoch=2,
        seed=0,
        machine=Machine(device="cpu", precision="float32"),
        checkpoint=Checkpoint(path=tmp_path / "c.pt", key="run"),
        held_out=lambda network: 0.25,
        log=tmp_path / "log",
        progress=progress,
        rehearse=False,
    )


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(each.step, each.value) for each in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_the_log_has_the_curve_and_what_the_steps_were_at(tmp_path: Path) -> None:
    trained = _train(tmp_path)

    found = _scalars(tmp_path / "log")
    for name in ("train_loss", "train_top1", "learning_rate", "held_out_top1", "seconds"):
        expected = [(row["steps"], pytest.approx(row[name], rel=1e-6)) for row in trained.curve]
        assert found[f"epoch/{name}"] == expected
    # Six steps take no second: the first one is told, and that is all.
    assert [step for step, _ in found["step/loss"]] == [1]
    assert {"step/top1", "step/learning_rate", "step/examples_per_second"} < found.keys()


def test_a_training_that_goes_on_draws_no_step_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, stop_at=4)
    _train(tmp_path)

    # Of the second epoch nothing was kept; TensorBoard's reader drops what the restart takes back.
    assert [step for step, _ in _scalars(tmp_path / "log")["epoch/train_loss"]] == [2, 4, 6]


def test_without_a_folder_nothing_is_written_and_nothing_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with event_file(None, first_step=0) as events:
        assert events is None


def test_without_tensorboard_the_way_to_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)

    with (
        pytest.raises(RsbenchError, match=r'pip install "rsbench\[tensorboard\]"'),
        event_file(tmp_path, first_step=0),
    ):
        pass


def test_a_disk_that_fills_up_later_is_the_users_to_mend_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.raises(DiskError, match="No space left on device; free some space") as caught:
        _train(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cant_be_written_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(DiskError, match="name another folder with --tensorboard"),
        event_file(tmp_path / "file" / "log", first_step=0),
    ):
        pass

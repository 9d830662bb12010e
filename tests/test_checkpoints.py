"""What a training keeps on the disk: whole or not at all, the latest first, and never by halves."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rsbench.errors import DiskError, RunError
from rsbench.training.checkpoints import (
    Checkpoint,
    Place,
    load,
    load_best,
    save,
    save_best,
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(path=tmp_path / "work" / "finetune.pt", key="this run")


def state_of(number: int) -> dict[str, Any]:
    return {
        "network": {"weight": torch.full((40, 10), float(number)), "count": torch.tensor(number)},
        "optimizer": {"state": {0: {"step": 3, "momentum_buffer": torch.arange(4.0)}}},
        "curve": [{"epoch": 1, "train_loss": 0.25, "held_out_top1": None}],
        "failures": {"film": "cut short"},
    }


def places_of(checkpoint: Checkpoint) -> list[str]:
    """What lies in the folder, without the part of the names that is the same in all."""
    return sorted(path.name.split(".", 2)[2] for path in checkpoint.path.parent.iterdir())


def the_file(checkpoint: Checkpoint, place: Place, *, suffix: str = ".pt") -> Path:
    pattern = f"*.{place.epoch:06d}-{place.batch:08d}{suffix}"
    (path,) = checkpoint.path.parent.glob(pattern)
    return path


def assert_same(found: dict[str, Any] | None, number: int) -> None:
    assert found is not None
    expected = state_of(number)
    for name, tensor in expected["network"].items():
        assert torch.equal(found["network"][name], tensor)
    assert found["optimizer"]["state"][0]["step"] == 3
    assert torch.equal(found["optimizer"]["state"][0]["momentum_buffer"], torch.arange(4.0))
    assert (found["curve"], found["failures"]) == (expected["curve"], expected["failures"])


# ------------------------------------------------------------------------------ kept and read


def test_what_is_written_is_read_back_with_its_place(checkpoint: Checkpoint) -> None:
    save(checkpoint, state_of(7), Place(2, 120))

    found = load(checkpoint)

    assert_same(found, 7)
    assert found is not None
    assert found["place"] == Place(2, 120)
    assert found["best"] is None


def test_where_nothing_was_written_there_is_nothing_to_go_on_from(checkpoint: Checkpoint) -> None:
    assert load(checkpoint) is None


def test_the_latest_counts_epochs_before_batches_and_not_letters(checkpoint: Checkpoint) -> None:
    kept = replace(checkpoint, keep=9)
    for number, place in enumerate([Place(9, 0), Place(10, 0), Place(10, 99), Place(10, 100)]):
        save(kept, state_of(number), place)

    assert_same(load(kept), 3)


def test_the_state_of_another_run_is_not_gone_on_from(checkpoint: Checkpoint) -> None:
    save(checkpoint, state_of(1), Place(1, 0))

    assert load(replace(checkpoint, key="another")) is None
    assert load(replace(checkpoint, path=checkpoint.path.with_name("other.pt"))) is None
    # A file that somebody gave this run's name is looked into.
    other = replace(checkpoint, key="another")
    save(other, state_of(2), Place(5, 0))
    ours = the_file(checkpoint, Place(1, 0))
    the_file(other, Place(5, 0)).replace(ours.with_name(ours.name.replace("000001", "000005")))
    assert_same(load(checkpoint), 1)


@pytest.mark.parametrize("keep", [1, 3])
def test_the_latest_few_stay(checkpoint: Checkpoint, keep: int) -> None:
    kept = replace(checkpoint, keep=keep)
    for epoch in range(1, 6):
        save(kept, state_of(epoch), Place(epoch, 0))

    assert places_of(kept) == [f"{epoch:06d}-00000000.pt" for epoch in range(6 - keep, 6)]


def test_other_trainings_of_the_run_lose_nothing(checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, path=checkpoint.path.with_name("finetune 2.pt"))
    save(other, state_of(1), Place(1, 0))
    save_best(other, {"weight": torch.ones(1)}, Place(1, 0))

    save(checkpoint, state_of(2), Place(3, 0))

    assert_same(load(other), 1)
    assert load_best(other, Place(1, 0))["weight"] == 1


@pytest.mark.parametrize("value", [np.float64(0.5), Place(1, 2), Path("a"), print], ids=repr)
def test_what_could_only_be_read_by_running_code_is_not_written(
    checkpoint: Checkpoint, value: object
) -> None:
    with pytest.raises(AssertionError, match=r"without running code, .* has none of"):
        save(checkpoint, {"curve": [{"train_loss": value}]}, Place(1, 0))


# ----------------------------------------------------------------------------------- damaged


def test_whatever_byte_is_altered_the_state_is_the_one_written_or_not_taken(
    checkpoint: Checkpoint,
) -> None:
    said: list[str] = []
    checkpoint = replace(checkpoint, say=said.append)
    save(checkpoint, state_of(7), Place(1, 0))
    path = the_file(checkpoint, Place(1, 0))
    whole = path.read_bytes()
    draw = random.Random(0)
    passed_over = 0
    for position in draw.sample(range(len(whole)), 400):
        altered = bytearray(whole)
        altered[position] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(altered))
        found = load(checkpoint)
        passed_over += found is None
        if found is not None:
            # The archive's padding, dates and the like.
            assert_same(found, 7)

    # Most of a small archive is headers; the numbers and their description are half of it.
    assert passed_over == len(said) > 100
    assert not [line for line in said if "\n" in line or str(path) not in line]


def test_a_number_altered_on_the_disk_is_found_though_pytorch_reads_on(
    checkpoint: Checkpoint,
) -> None:
    save(checkpoint, state_of(7), Place(1, 0))
    path = the_file(checkpoint, Place(1, 0))
    seven, eight = torch.full((4,), 7.0).numpy().tobytes(), torch.full((4,), 8.0).numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(seven, eight, 1))

    assert torch.load(path, weights_only=True)["network"]["weight"].unique().tolist() == [7, 8]
    assert load(checkpoint) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_is_passed_over_for_the_one_before(
    checkpoint: Checkpoint, share: float
) -> None:
    said: list[str] = []
    kept = replace(checkpoint, keep=2, say=said.append)
    save(kept, state_of(1), Place(1, 0))
    save(kept, state_of(2), Place(2, 0))
    path = the_file(kept, Place(2, 0))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    assert_same(load(kept), 1)
    assert len(said) == 1
    assert str(path) in said[0]


def test_a_damaged_file_does_not_take_the_place_of_a_whole_one(checkpoint: Checkpoint) -> None:
    kept = replace(checkpoint, keep=2)
    for epoch in (1, 2, 3):
        save(kept, state_of(epoch), Place(epoch, 0))
    the_file(kept, Place(3, 0)).write_bytes(b"cut")
    assert_same(load(kept), 2)

    save(kept, state_of(25), Place(2, 50))

    assert places_of(kept) == ["000002-00000000.pt", "000002-00000050.pt"]
    assert_same(load(kept), 25)


class _Trap:
    """Unpickled with trust, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_not_run(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save(checkpoint, state_of(1), Place(1, 0))
    path = the_file(checkpoint, Place(1, 0))
    torch.save({**torch.load(path, weights_only=True), "trap": _Trap(tmp_path / "sprung")}, path)

    assert load(checkpoint) is None
    assert not (tmp_path / "sprung").exists()
    # The trap is one.
    torch.load(path, weights_only=False)
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [None, 3, [1, 2], {"key": "this run"}], ids=repr)
def test_an_archive_of_something_else_is_passed_over(
    checkpoint: Checkpoint, content: object
) -> None:
    save(checkpoint, state_of(1), Place(1, 0))
    torch.save(content, the_file(checkpoint, Place(1, 0)))

    assert load(checkpoint) is None


def test_a_disk_that_does_not_answer_stops_the_run_and_costs_no_checkpoint(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoint, state_of(1), Place(1, 0))

    def broken(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(RunError, match=r"000001-00000000\.pt must be readable.*Input/output"):
            load(checkpoint)

    assert_same(load(checkpoint), 1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        # c10/core/impl/alloc_cpu.cpp
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_machine_out_of_memory_is_not_taken_for_a_damaged_file(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save(checkpoint, state_of(1), Place(1, 0))

    def full(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(type(error)):
        load(checkpoint)


# -------------------------------------------------------------------------------------- best


def best_of(number: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3,), float(number))}


def test_the_best_network_stays_while_a_checkpoint_speaks_of_it(checkpoint: Checkpoint) -> None:
    kept = replace(checkpoint, keep=2)
    best: Place | None = None
    for epoch in range(1, 7):
        if epoch in (1, 2, 5):
            best = Place(epoch, 0)
            save_best(kept, best_of(epoch), best)
        save(kept, state_of(epoch), Place(epoch, 0), best=best)
        if epoch == 4:
            # Of the first one nobody speaks any more.
            assert places_of(kept) == [
                "000002-00000000.best.pt",
                "000003-00000000.pt",
                "000004-00000000.pt",
            ]
        if epoch == 5:
            # The checkpoint of epoch 4 still speaks of the second.
            assert places_of(kept) == [
                "000002-00000000.best.pt",
                "000004-00000000.pt",
                "000005-00000000.best.pt",
                "000005-00000000.pt",
            ]

    found = load(kept)
    assert found is not None
    assert found["best"] == Place(5, 0)
    assert load_best(kept, Place(5, 0))["weight"].tolist() == [5, 5, 5]


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_checkpoint_whose_best_network_is_lost_is_passed_over(
    checkpoint: Checkpoint, harm: str
) -> None:
    kept = replace(checkpoint, keep=2)
    for epoch in (1, 2):
        save_best(kept, best_of(epoch), Place(epoch, 0))
        save(kept, state_of(epoch), Place(epoch, 0), best=Place(epoch, 0))
    path = the_file(kept, Place(2, 0), suffix=".best.pt")
    path.unlink() if harm == "gone" else path.write_bytes(path.read_bytes()[:99])

    assert_same(load(kept), 1)
    with pytest.raises(RunError, match="run the same command again"):
        load_best(kept, Place(2, 0))


def test_a_best_network_that_no_checkpoint_came_to_speak_of_does_not_displace_an_earlier_one(
    checkpoint: Checkpoint,
) -> None:
    """Killed between the two writes, and on a GPU the next run need not find the same best."""
    save_best(checkpoint, best_of(1), Place(1, 0))
    save(checkpoint, state_of(1), Place(1, 0), best=Place(1, 0))
    save_best(checkpoint, best_of(2), Place(2, 0))

    save(checkpoint, state_of(2), Place(2, 0), best=Place(1, 0))

    assert places_of(checkpoint) == ["000001-00000000.best.pt", "000002-00000000.pt"]
    found = load(checkpoint)
    assert found is not None
    assert found["best"] == Place(1, 0)


# ------------------------------------------------------------------------------- a full disk


@pytest.mark.parametrize("write", [save, save_best], ids=["state", "best"])
def test_a_full_disk_is_one_line_and_costs_no_checkpoint(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    save_best(checkpoint, best_of(1), Place(1, 0))
    save(checkpoint, state_of(1), Place(1, 0), best=Place(1, 0))
    before = places_of(checkpoint)

    # File systems that allocate late find out here that there is no room.
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskError, match="No space left on device; free some space") as caught:
            write(checkpoint, {"weight": torch.zeros(3)}, Place(2, 0))

    assert "\n" not in str(caught.value)
    assert places_of(checkpoint) == before
    assert_same(load(checkpoint), 1)


LIMITED = """
import resource
import sys
from pathlib import Path

import torch

from rsbench.errors import RsbenchError
from rsbench.training.checkpoints import Checkpoint, Place, save

checkpoint = Checkpoint(path=Path(sys.argv[1]), key="this run")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save(checkpoint, {"weight": torch.zeros(100)}, Place(1, 0))
try:
    save(checkpoint, {"weight": torch.zeros(100_000)}, Place(2, 0))
except RsbenchError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_file_that_the_system_lets_grow_no_further_leaves_nothing_of_itself(
    checkpoint: Checkpoint,
) -> None:
    """The kernel's own refusal, in the middle of a write."""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(checkpoint.path)], capture_output=True, text=True
    )

    assert done.returncode == DiskError.exit_code, done.stderr
    assert "File too large" in done.stdout
    assert places_of(checkpoint) == ["000001-00000000.pt"]
    found = load(checkpoint)
    assert found is not None
    assert found["place"] == Place(1, 0)


def test_what_killed_writers_left_is_removed_after_an_hour(checkpoint: Checkpoint) -> None:
    folder = checkpoint.path.parent
    folder.mkdir()
    fresh, old = folder / ".fresh.tmp", folder / ".old.tmp"
    for path, age_seconds in ((fresh, 60), (old, 7200)):
        path.touch()
        os.utime(path, (time.time() - age_seconds,) * 2)

    save(checkpoint, state_of(1), Place(1, 0))

    assert fresh.exists()
    assert not old.exists()

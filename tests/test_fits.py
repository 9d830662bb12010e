"""A network that learns is fitted by all processes of a team, and tested by all of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from team_world import in_processes

from rsbench import runner
from rsbench.cells import RunRequest, prepare
from rsbench.data import computing
from rsbench.data.team import Helpers, Team
from rsbench.estimate import estimate
from rsbench.media.image import write_image
from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.runner import assist
from rsbench.specs import Ranks

# Imported here, because every forked child would otherwise import it again, for seconds.
import torch._dynamo  # isort: skip

NETWORK = """
import os
import signal
from pathlib import Path

import torch
from torch import nn

from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=8)


class Watched(nn.Sequential):
    num_training_batches = 0

    def forward(self, batch):
        folder = Path(os.environ["SEEN"])
        if self.training:
            Watched.num_training_batches += 1
            (folder / f"trained in {os.getpid()}").touch()
            fault = os.environ.get("FAULT", "")
            if Watched.num_training_batches > 4 and fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if Watched.num_training_batches > 4 and fault == "raised":
                raise ValueError("the device fell off")
        elif len(batch) > 1:
            (folder / f"tested in {os.getpid()}").touch()
        return super().forward(batch)


def build():
    return Watched(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3))
"""
"""Leaves a file by the name of each process that trains it, and of each that tests it."""

FROZEN = {"epochs": "2", "batch_size": "7", "freeze_norm": "true", "learning_rate": "0.02"}
NUM_TRAIN, NUM_TEST = 17, 12


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forked children must not start threads, and threads are part of a shard's name."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    noise = np.random.default_rng(0)
    for split, number in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        for row in range(number):
            path = tmp_path / "data" / split / "ab"[row % 2] / f"{row:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.normal(100 + 30 * (row % 2), 40, (8, 8, 3))
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
            if row == 3:
                path.write_bytes(b"torn")
    (tmp_path / "watched.py").write_text(NETWORK)
    (tmp_path / "seen").mkdir()
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return RunRequest(
        task="folder",
        backbone=f"{tmp_path / 'watched.py'}:build",
        protocol="finetune",
        data=tmp_path / "data",
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        overrides=FROZEN,
        batch_size=4,
    )


class Told(NamedTuple):
    """What a cell came to, as it crosses between processes."""

    path: Path | None
    fault: str


def run_together(
    team: Team, *, requests: list[RunRequest], fault: str = "", at_rank: int = 1
) -> list[Told]:
    """Run cells in the lead, one after another, and say what came of each; help in the others."""
    if team.rank == at_rank:
        os.environ["FAULT"] = fault
    if not team.leads:
        assist(requests, team)
        return []
    told = []
    try:
        for number, request in enumerate(requests):
            helped = replace(request, helpers=Helpers(team=team, cell=number))
            try:
                told.append(Told(runner.run(helped).path, ""))
            except Exception as error:
                told.append(Told(None, f"{type(error).__name__}: {error}"))
    finally:
        team.dismiss()
    return told


def alone(asked: RunRequest, folder: Path) -> RunRecord:
    elsewhere = replace(asked, results=folder / "results", cache_root=folder / "cache")
    return runner.run(elsewhere).record


def predictions_of(path: Path) -> np.ndarray:
    return np.stack([row.value for row in store.read_predictions(path) if row.value is not None])


def seen(folder: Path, word: str) -> int:
    return len([path for path in (folder / "seen").iterdir() if path.name.startswith(word)])


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_leaves_the_record_of_one(
    asked: RunRequest, tmp_path: Path, size: int
) -> None:
    expected = alone(asked, tmp_path / "alone")
    for path in (tmp_path / "seen").iterdir():
        path.unlink()

    (word, told), *helpers = in_processes(tmp_path, size, partial(run_together, requests=[asked]))

    assert (word, told[0].fault) == ("ok", "")
    assert helpers == [("ok", [])] * (size - 1)
    found = store.read(told[0].path)
    # In the last batch of a pass, of three, one process has all and the others none.
    assert seen(tmp_path, "trained") == size
    # Twelve test items are three shards.
    assert seen(tmp_path, "tested") == size
    assert found.data == expected.data
    assert found.data.num_evaluated == NUM_TEST - 1
    assert [each["id"] for each in found.data.train_failed] == ["train/b/03.png"]
    assert found.environment["num_processes"] == size
    assert found.key == expected.key
    assert found.protocol.notes == expected.protocol.notes
    losses = [[float(row["train_loss"]) for row in each.curve] for each in (found, expected)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert [each.value for each in found.metrics] == [each.value for each in expected.metrics]


@pytest.mark.parametrize("at_rank", [0, 1])
def test_a_process_that_fails_alone_is_named_and_the_team_goes_on(
    asked: RunRequest, tmp_path: Path, at_rank: int
) -> None:
    probe = replace(asked, protocol="linear_probe", overrides={"strengths": "3"})
    outcomes = in_processes(
        tmp_path,
        3,
        partial(run_together, requests=[asked, probe], fault="raised", at_rank=at_rank),
    )

    assert [word for word, _ in outcomes] == ["ok"] * 3, outcomes
    finetuned, probed = outcomes[0][1]
    named = "" if at_rank == 0 else f"RunError: Process {at_rank + 1} of 3 failed: "
    assert finetuned == Told(None, f"{named}ValueError: the device fell off")
    assert probed.fault == ""
    assert store.read(probed.path).data.num_evaluated == NUM_TEST - 1


def test_what_a_process_failed_of_is_told_even_if_the_others_end_of_it(tmp_path: Path) -> None:
    def work(team: Team) -> None:
        def fit(ranks: Ranks) -> None:
            if ranks.rank == 0:
                raise ValueError("the device fell off")
            # As NCCL does where a GPU waits too long for another.
            os.kill(os.getpid(), signal.SIGKILL)

        team.together(fit)

    (outcome,) = in_processes(tmp_path, 2, work, killed=1)
    assert outcome == (
        "RunError",
        "ValueError: the device fell off. A process of this run has ended; what was computed is"
        " kept, start it again.",
    )


@pytest.mark.parametrize("at_rank", [0, 2])
def test_where_a_process_is_killed_in_training_the_others_end_with_one_line(
    asked: RunRequest, tmp_path: Path, at_rank: int
) -> None:
    work = partial(run_together, requests=[asked], fault="killed", at_rank=at_rank)
    outcomes = in_processes(tmp_path, 3, work, killed=at_rank)

    line = "A process of this run has ended; what was computed is kept, start it again."
    if at_rank == 0:
        assert outcomes == [("RunError", line)] * 2
    else:
        lead, helper = outcomes
        assert lead == ("ok", [Told(None, f"BrokenLinkError: {line}")])
        assert helper == ("RunError", line)
    assert store.read_all(asked.results).records == ()


def test_a_run_that_was_broken_off_goes_on_from_its_checkpoint(
    asked: RunRequest, tmp_path: Path
) -> None:
    # Four batches of the second process are its first epoch and the rehearsal's.
    work = partial(run_together, requests=[asked], fault="killed")
    in_processes(tmp_path, 2, work, killed=1)
    assert list((tmp_path / "cache" / "work").rglob("*.pt"))
    (_, told), _ = in_processes(tmp_path / "again", 2, partial(run_together, requests=[asked]))

    elsewhere = replace(asked, results=tmp_path / "other", cache_root=tmp_path / "other cache")
    (_, whole), _ = in_processes(tmp_path / "whole", 2, partial(run_together, requests=[elsewhere]))
    first, second = (store.read(each[0].path) for each in (told, whole))
    # Predictions and weights, by their digests.
    assert first.files == second.files


def test_a_helper_with_other_items_takes_no_part(asked: RunRequest, tmp_path: Path) -> None:
    def work(team: Team) -> list[Told]:
        mine = asked if team.leads else replace(asked, limit=8)
        return run_together(team, requests=[mine])

    (word, told), helper = in_processes(tmp_path, 2, work)

    assert word == "ok"
    assert told[0].fault.startswith(
        "RunError: Process 2 of 2 failed: it has other items or another network"
    )
    assert helper == ("ok", [])


def test_a_norm_that_saw_shares_alone_is_noted_and_makes_another_run(
    asked: RunRequest, tmp_path: Path
) -> None:
    learning = replace(asked, overrides={**FROZEN, "freeze_norm": "false", "epochs": "1"})
    (_, told), _ = in_processes(tmp_path, 2, partial(run_together, requests=[learning]))

    by_two = store.read(told[0].path)
    notes = by_two.protocol.notes
    assert any(note.startswith("trained by 2 processes: batch norm") for note in notes), notes
    # So it is another run than that of one process, though measured by the same ruler.
    cell = prepare(learning)
    assert [estimate(cell, num_processes=num).finished for num in (1, 2, 3)] == [False, True, False]
    by_one = runner.run(learning)
    assert not by_one.reused
    assert by_one.record.ruler == by_two.ruler
    assert runner.run(learning).path == by_one.path

"""Several processes extract what one would, to the same bits, and none waits for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import Quarters, broken_item, image_reading, model, pictures, settings
from team_world import Ended, command, forked, in_processes

from rsbench.data import computing, sharing
from rsbench.data.features import Extracted, extract
from rsbench.data.sharing import Ready
from rsbench.data.team import Helpers, Team, joined
from rsbench.errors import RunError
from rsbench.media.image import write_image
from rsbench.records import store
from rsbench.specs import Item

ITEMS = (*pictures(30)[0], broken_item())


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forked children must not start threads, and threads are part of a shard's name."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(computing, "VIEWS_PER_SHARD", 4)
    yield
    torch.set_num_threads(before)


def extract_together(
    folder: Path,
    team: Team,
    *,
    network: Callable[[int], Quarters] = lambda rank: Quarters(),
    helper_items: tuple[Item, ...] = ITEMS,
    **words: Any,
) -> Extracted | int:
    """Extract in the lead; in a helper, help, and say how many views it computed."""
    own = network(team.rank)
    lead_digest = words.pop("digest", "network")
    if not team.leads:
        machine = settings(folder / f"helper {team.rank}", batch_size=4)
        ready = Ready(model=model(own), pools=[helper_items], read=None, settings=machine)
        while (message := team.hear()) is not None:
            sharing.assist(message[1], lambda: ready, team)
        return own.num_views_seen
    machine = settings(folder, batch_size=4, helpers=Helpers(team=team, cell=0, model="network"))
    machine = replace(machine, **words.pop("machine", {}))
    try:
        found = extract(
            model(own, digest=lead_digest),
            ITEMS,
            image_reading(),
            machine,
            output="features",
            **words,
        )
    finally:
        team.dismiss()
    return found


def alone(folder: Path) -> Extracted:
    return extract(
        model(), ITEMS, image_reading(), settings(folder, batch_size=4), output="features"
    )


@pytest.mark.parametrize("size", [2, 3])
def test_any_number_of_processes_gives_the_same_bits(tmp_path: Path, size: int) -> None:
    outcomes = in_processes(tmp_path, size, partial(extract_together, tmp_path))
    expected = alone(tmp_path / "alone")

    (word, found), *helpers = outcomes
    assert word == "ok"
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.failures == expected.failures
    assert found.facts == expected.facts
    # Eight shards of four, the last with two pictures and the broken one, dealt in turn.
    shares = {2: [4 * 4 - 2], 3: [4 * 3 - 2, 4 * 2]}[size]
    assert [seen for _, seen in helpers] == shares

    # A helper leaves the lead's cache as one process would have: whole, and by the same names.
    def names(folder: Path) -> list[str]:
        return sorted(path.name for path in (folder / "cache" / "shards").rglob("*.safetensors"))

    assert names(tmp_path) == names(tmp_path / "alone")
    network = Quarters()
    again = extract(
        model(network), ITEMS, image_reading(), settings(tmp_path, batch_size=4), output="features"
    )
    assert network.num_views_seen == 0
    np.testing.assert_array_equal(again.values, expected.values)


def test_beyond_the_limit_of_the_cache_helpers_help_too(tmp_path: Path) -> None:
    work = partial(extract_together, tmp_path, machine={"cache_limit_bytes": 0})
    (_, found), (_, num_seen) = in_processes(tmp_path, 2, work)

    assert num_seen > 0
    np.testing.assert_array_equal(found.values, alone(tmp_path / "alone").values)


def test_a_network_that_helpers_do_not_have_is_the_lead_s_alone(tmp_path: Path) -> None:
    (word, found), (_, num_seen) = in_processes(
        tmp_path, 2, partial(extract_together, tmp_path, digest="trained here")
    )

    assert (word, num_seen) == ("ok", 0)
    np.testing.assert_array_equal(found.values, alone(tmp_path / "alone").values)


class Failing(Quarters):
    """Fails at its second batch."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.num_views_seen:
            raise ValueError("the device fell off")
        return super().forward(batch)


def test_a_helper_that_fails_is_named_and_stops_all(tmp_path: Path) -> None:
    def network(rank: int) -> Quarters:
        return Failing() if rank == 2 else Quarters()

    lead, *helpers = in_processes(tmp_path, 3, partial(extract_together, tmp_path, network=network))

    assert lead == ("RunError", "Process 3 of 3 failed: ValueError: the device fell off")
    assert [word for word, _ in helpers] == ["ok", "ok"]
    # The first round's three shards are kept; the next run goes on behind them.
    assert len(list((tmp_path / "cache" / "shards").rglob("*.safetensors"))) == 3


def test_helpers_are_let_go_when_the_lead_fails(tmp_path: Path) -> None:
    def network(rank: int) -> Quarters:
        return Quarters() if rank else Failing()

    lead, helper = in_processes(tmp_path, 2, partial(extract_together, tmp_path, network=network))

    assert lead == ("ValueError", "the device fell off")
    assert helper[0] == "ok"


def test_helpers_are_let_go_when_the_lead_can_not_use_a_shard(tmp_path: Path) -> None:
    def refuse(places: object, outputs: np.ndarray) -> None:
        raise RunError("no use for it")

    lead, helper = in_processes(tmp_path, 2, partial(extract_together, tmp_path, take=refuse))

    assert lead == ("RunError", "no use for it")
    assert helper[0] == "ok"


class Killed(Quarters):
    """Is killed with its process at its second batch."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.num_views_seen:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(batch)


@pytest.mark.parametrize("killed", [0, 1, 2])
def test_where_a_process_is_killed_the_others_end_with_one_line(
    tmp_path: Path, killed: int
) -> None:
    def network(rank: int) -> Quarters:
        return Killed() if rank == killed else Quarters()

    work = partial(extract_together, tmp_path, network=network)
    outcomes = in_processes(tmp_path, 3, work, killed=killed)

    line = "A process of this run has ended; what was computed is kept, start it again."
    assert outcomes == [("RunError", line)] * 2
    # The first round's three shards are kept; the next run goes on behind them.
    assert len(list((tmp_path / "cache" / "shards").rglob("*.safetensors"))) == 3
    fresh = Quarters()
    again = extract(
        model(fresh),
        ITEMS,
        image_reading(),
        settings(tmp_path, batch_size=4),
        output="features",
    )
    np.testing.assert_array_equal(again.values, alone(tmp_path / "alone").values)
    assert fresh.num_views_seen == 30 - 3 * 4


@pytest.mark.parametrize("difference", ["items", "threads"])
def test_a_helper_whose_numbers_would_differ_takes_no_part(tmp_path: Path, difference: str) -> None:
    def work(team: Team) -> Extracted | int:
        if difference == "threads" and not team.leads:
            torch.set_num_threads(2)
        items = ITEMS[:-1] if difference == "items" else ITEMS
        return extract_together(tmp_path, team, helper_items=items)

    lead, helper = in_processes(tmp_path, 2, work)

    assert lead[0] == "RunError"
    told = "other items" if difference == "items" else "another device, threads or network"
    assert lead[1].startswith(f"Process 2 of 2 failed: it has {told} than the first one")
    assert helper == ("ok", 0)


def test_processes_that_wait_for_ever_fail_the_test_and_are_ended(tmp_path: Path) -> None:
    def work(team: Team) -> None:
        (tmp_path / str(os.getpid())).touch()
        if team.rank == 0:
            team.hear()
        time.sleep(600)

    with pytest.raises(pytest.fail.Exception, match=r"\[0, 1\] of 2 did not end in 3 seconds"):
        in_processes(tmp_path / "meeting", 2, work, seconds=3)
    pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_that_do_not_find_each_other_say_so(tmp_path: Path) -> None:
    told = {"RANK": "0", "WORLD_SIZE": "2", "RENDEZVOUS": "nowhere://"}
    with pytest.raises(RunError, match="Process 1 of 2 can't join the others"), joined(told):
        pass


NETWORK = """
import os
from pathlib import Path

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=16)


class Watched(nn.Sequential):
    def forward(self, batch):
        if len(batch) > 1:
            (Path(os.environ["SEEN"]) / str(os.getpid())).touch()
        return super().forward(batch)


def note(*step):
    (Path(os.environ["SEEN"]) / f"trained in {os.getpid()}").touch()


def build():
    register_optimizer_step_post_hook(note)
    return Watched(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4))
"""
"""Leaves a file by the name of each process that it runs in on more than the picture of a trial,
and one by that of each process in which anything is trained."""

TRAINED = ("epochs=1", "epoch_iterations=20", "batch_size=16", "learning_rates=1,2",
           "augment=false", "feature_types=features")  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "changes", "num_training"),
    [("linear_probe", ("strengths=3",), 0), ("linear_probe_dino", TRAINED, 1)],
)
def test_torchrun_of_the_command_line_leaves_one_record_with_the_bytes_of_one_process(
    tmp_path: Path, protocol: str, changes: tuple[str, ...], num_training: int
) -> None:
    noise = np.random.default_rng(0)
    for split, number in (("train", 150), ("test", 70)):
        for row in range(number):
            path = tmp_path / "data" / split / "ab"[row % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.normal(110 + 12 * (row % 2), 50, (16, 16, 3))
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
    (tmp_path / "watched.py").write_text(NETWORK)

    def start(rank: int, size: int) -> Ended:
        seen = tmp_path / f"seen of {size}"
        seen.mkdir(exist_ok=True)
        told = {
            "RSBENCH_CACHE": str(tmp_path / f"cache of {size}"),
            "SEEN": str(seen),
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "RENDEZVOUS": f"file://{tmp_path / 'rendezvous'}",
        }
        words = [
            *("run", "--task", "folder"),
            *("--data", str(tmp_path / "data"), "--backbone", f"{tmp_path / 'watched.py'}:build"),
            *("--protocol", protocol, "--device", "cpu"),
            *(word for change in changes for word in ("--set", change)),
            *("--results", str(tmp_path / f"results of {size}")),
        ]
        return command(words, told)

    works = [partial(start, 0, 1), partial(start, 0, 2), partial(start, 1, 2)]
    ended, _ = forked(works, seconds=120)

    assert [each.code for each in ended] == [0, 0, 0], ended
    assert ended[2][1:3] == ("", "")
    seen = [[path.name for path in (tmp_path / f"seen of {n}").iterdir()] for n in (1, 2)]
    trained_in = [[name for name in names if name.startswith("trained")] for names in seen]
    # The lead alone trains, and writes checkpoints.
    assert [len(names) for names in trained_in] == [num_training] * 2
    assert trained_in[1] == [f"trained in {ended[1].pid}"] * num_training
    assert [len(names) - num_training for names in seen] == [1, 2]
    (one,), (two,) = (store.read_all(tmp_path / f"results of {n}").records for n in (1, 2))
    # Predictions, head and view scores, by their digests.
    assert one.record.files == two.record.files
    assert one.record.metrics == two.record.metrics
    assert one.record.key == two.record.key
    assert [each.record.environment["num_processes"] for each in (one, two)] == [1, 2]
    assert two.record.cost["views_computed"] == one.record.cost["views_computed"] == 150 + 70

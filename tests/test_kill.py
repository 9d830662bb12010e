"""Killed by signal 9 at any moment, a run goes on from whole shards and ends with the same bits.

Two ways to die: a process of its own that is killed when its n-th shard appears, as by a machine
out of memory; and a forked child that kills itself just before its n-th write reaches the disk
(each fsync, rename and removal), which leaves no moment of writing out. RSBENCH_SOAK says how many
runs the slow test kills, twice each.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.data.outputs import Outputs
from rsbench.media.image import write_image
from rsbench.records import store
from rsbench.runner import Finished

# Read now: no test sees the user's RSBENCH_ variables.
NUM_SOAK_RUNS = int(os.environ.get("RSBENCH_SOAK", "1"))

NETWORK = """
import time

from torch import nn

from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=16)


class Slow(nn.Sequential):
    def forward(self, batch):
        time.sleep(0.03)
        return super().forward(batch)


def build():
    return Slow(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4))
"""
"""Slow enough that a watcher sees one shard before the next is there."""

NUM_ITEMS = {"train": 200, "test": 140}
"""Four and three shards of 64, the last ones not full."""
NUM_SHARDS = 7


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Data and a network, and what an uninterrupted run came to."""

    data: Path
    network: Path
    uninterrupted: Finished
    cache: Path


def request_of(data: Path, network: Path, folder: Path) -> RunRequest:
    return RunRequest(
        task="folder",
        backbone=f"{network}:build",
        protocol="linear_probe",
        data=data,
        results=folder / "results",
        cache_root=folder / "cache",
        overrides={"strengths": "3"},
    )


def command_of(asked: RunRequest) -> list[str]:
    """Say the same as a command line."""
    return [
        *(sys.executable, "-m", "rsbench", "run", "--task", asked.task, "--data", str(asked.data)),
        *("--backbone", asked.backbone, "--set", "strengths=3", "--results", str(asked.results)),
        *("--device", "cpu", "--workers", "0"),
    ]


def start(asked: RunRequest) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSBENCH_")}
    environment = {**kept, "RSBENCH_CACHE": str(asked.cache_root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command_of(asked), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def the_record(results: Path) -> Finished:
    contents = store.read_all(results)
    assert contents.problems == ()
    (stored,) = contents.records
    return Finished(record=stored.record, path=stored.path, reused=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    noise = np.random.default_rng(0)
    for split, number in NUM_ITEMS.items():
        for row in range(number):
            label = row % 2
            pixels = noise.normal(110, 50, (16, 16, 3)) + 12 * label
            path = folder / "data" / split / ("bright" if label else "dark") / f"{row:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
    (folder / "slow.py").write_text(NETWORK)
    asked = request_of(folder / "data", folder / "slow.py", folder)
    # In this process: the children forked from it then have their libraries loaded.
    torch.set_num_threads(1)
    finished = runner.run(asked)
    return World(
        data=folder / "data",
        network=folder / "slow.py",
        uninterrupted=finished,
        cache=asked.cache_root,
    )


# --------------------------------------------------------------------------- what must hold


def shards_of(cache: Path) -> dict[str, Path]:
    return {path.name: path for path in (cache / "shards").rglob("*.safetensors")}


def check_shards_are_whole(cache: Path, world: World) -> None:
    """Hold every shard that was left to that of the uninterrupted run, number by number."""
    expected = shards_of(world.cache)
    assert len(expected) == NUM_SHARDS
    for name, path in shards_of(cache).items():
        with (
            safe_open(path, framework="numpy") as left,
            safe_open(expected[name], framework="numpy") as right,
        ):
            np.testing.assert_array_equal(left.get_tensor("values"), right.get_tensor("values"))


def check_results_are_whole_or_absent(results: Path, world: World) -> int:
    """Hold what is visible in the results to the uninterrupted run; say how many records it is."""
    contents = store.read_all(results)
    assert contents.problems == ()
    for stored in contents.records:
        assert stored.record.files == world.uninterrupted.record.files
        store.read_predictions(stored.path)
    assert len(contents.records) <= 1
    return len(contents.records)


def check_it_goes_on(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, *, num_records: int
) -> None:
    """Run again in this process: no whole shard is computed again, and every bit is the same."""
    asked = request_of(world.data, world.network, folder)
    left = {name: path.stat() for name, path in shards_of(asked.cache_root).items()}
    num_kept = num_views_of(asked.cache_root)
    computed = 0
    forward = Outputs.__call__

    def counted(outputs: Outputs, views: torch.Tensor) -> torch.Tensor:
        nonlocal computed
        computed += len(views)
        return forward(outputs, views)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "__call__", counted)
        patch.setattr(time, "sleep", lambda seconds: None)
        finished = runner.run(asked)

    assert finished.reused == (num_records == 1)
    if not finished.reused:
        assert computed == sum(NUM_ITEMS.values()) - num_kept
    for name, before in left.items():
        after = shards_of(asked.cache_root)[name].stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    expected = world.uninterrupted.record
    # Names hold the key; digests are those of the predictions' and the head's bytes.
    assert finished.record.files == expected.files
    assert finished.record.metrics == expected.metrics
    assert finished.record.selection == expected.selection
    assert shards_of(asked.cache_root).keys() == shards_of(world.cache).keys()
    assert the_record(asked.results).path == finished.path


def num_views_of(cache: Path) -> int:
    num_views = 0
    for path in shards_of(cache).values():
        with safe_open(path, framework="numpy") as shard:
            num_views += len(shard.get_tensor("values"))
    return num_views


# ------------------------------------------------------------------------ killed from outside


def wait_for_shards(process: subprocess.Popen[bytes], cache: Path, number: int) -> None:
    end = time.monotonic() + 120
    while len(shards_of(cache)) < number:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end, f"no {number} shards in two minutes"
        time.sleep(0.002)


@pytest.mark.parametrize("num_shards", [1, 5])
def test_a_kill_when_some_shards_are_there_loses_none_of_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_shards: int
) -> None:
    asked = request_of(world.data, world.network, tmp_path)
    process = start(asked)
    wait_for_shards(process, asked.cache_root, num_shards)

    process.kill()
    process.communicate()

    assert process.returncode == -signal.SIGKILL
    assert len(shards_of(asked.cache_root)) >= num_shards
    check_shards_are_whole(asked.cache_root, world)
    num_records = check_results_are_whole_or_absent(asked.results, world)
    check_it_goes_on(world, tmp_path, monkeypatch, num_records=num_records)


# ---------------------------------------------------------------------- killed while writing


def before_each_write(act: Callable[[str], None]) -> None:
    """Call `act` with a word before each fsync, rename and removal of this process, for good."""
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def watched_fsync(descriptor: int) -> None:
        act("fsync")
        fsync(descriptor)

    def watched_replace(path: Path, target: Path) -> Path:
        act(f"rename to {''.join(target.suffixes)}")
        return replace(path, target)

    def watched_unlink(path: Path, missing_ok: bool = False) -> None:
        act("removal")
        unlink(path, missing_ok)

    os.fsync = watched_fsync
    Path.replace = watched_replace  # type: ignore[method-assign, assignment]
    Path.unlink = watched_unlink  # type: ignore[method-assign]


def die_before_write(world: World, folder: Path, number: int) -> bool:
    """Run in a forked child that kills itself before write `number`; say whether it came so far."""

    def work() -> None:
        seen = 0

        def act(word: str) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        before_each_write(act)
        time.sleep = lambda seconds: None  # type: ignore[assignment]
        runner.run(request_of(world.data, world.network, folder))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def writes_of(world: World, folder: Path) -> list[str]:
    """Count the writes of a run that nobody kills."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def work() -> None:
        words: list[str] = []
        before_each_write(words.append)
        runner.run(request_of(world.data, world.network, folder))
        sender.send(words)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    words: list[str] = receiver.recv()
    child.join(60)
    return words


def test_a_kill_before_any_write_of_the_cache_and_the_record_changes_no_bit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = writes_of(world, tmp_path / "counted")
    # Two writes a shard, then predictions, head and record brought to disk and renamed.
    assert words.count("rename to .safetensors") == NUM_SHARDS
    last_shard = len(words) - 1 - words[::-1].index("rename to .safetensors")
    moments = [*range(1, last_shard + 1, 7), *range(last_shard + 1, len(words) + 1)]
    assert len(moments) >= 10
    outcomes = []
    for moment in moments:
        folder = tmp_path / f"moment {moment}"
        assert die_before_write(world, folder, moment), f"write {moment} of {len(words)}"
        check_shards_are_whole(folder / "cache", world)
        num_records = check_results_are_whole_or_absent(folder / "results", world)
        outcomes.append(num_records)
        check_it_goes_on(world, folder, monkeypatch, num_records=num_records)
    assert outcomes == sorted(outcomes), "once the record is there, it stays"
    assert {0, 1} == {*outcomes}


# ---------------------------------------------------------------------------- at any moment


@pytest.mark.slow
def test_a_kill_at_a_random_moment_changes_no_bit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = random.Random(0)
    for number in range(NUM_SOAK_RUNS):
        folder = tmp_path / f"kill {number}"
        asked = request_of(world.data, world.network, folder)
        for _ in range(2):
            process = start(asked)
            more = moments.randint(0, NUM_SHARDS - len(shards_of(asked.cache_root)))
            wait_for_shards(process, asked.cache_root, len(shards_of(asked.cache_root)) + more)
            # The longest shard takes 0.15 s; selection, the last test and writing about a second.
            time.sleep(moments.uniform(0, 1.2 if moments.random() < 0.3 else 0.15))
            process.kill()
            process.communicate()
            check_shards_are_whole(asked.cache_root, world)
        num_records = check_results_are_whole_or_absent(asked.results, world)
        check_it_goes_on(world, folder, monkeypatch, num_records=num_records)

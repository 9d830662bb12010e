"""A small run that trains, watched step by step, for tests that kill it or break its world."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.media.image import write_image
from rsbench.records import store
from rsbench.records.schema import RunRecord
from rsbench.specs import Scalar

NETWORK = """
import os
import signal
import time
from pathlib import Path

from torch import nn

from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=16)


class Watched(nn.Sequential):
    def forward(self, batch):
        if self.training and "STEPS_FILE" in os.environ:
            steps = Path(os.environ["STEPS_FILE"])
            with steps.open("ab") as stream:
                stream.write(b".")
            if steps.stat().st_size == int(os.environ.get("DIE_AT_STEP", -1)):
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
        return super().forward(batch)


def build():
    return Watched(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1), nn.MaxPool2d(4)
    )
"""
"""It writes down each training step, dies at one, and takes its time: as the environment says."""

RECIPE = {
    "epochs": "3",
    "batch_size": "4",
    "learning_rate": "0.05",
    "held_out": "0.25",
    "ema_decay": "0.9",
    "dropout": "0.2",
    "mixup": "0.2",
    "cutmix": "1.0",
    "label_smoothing": "0.1",
    "largest_gradient": "1.0",
    "randaugment_layers": "1",
    "randaugment_magnitude": "5",
    "random_erasing": "0.5",
    "colour_jitter": "0.4",
}
"""All that a checkpoint must know of, and all that is drawn at random. The last weights are kept:
the best may be those of the first epoch, and then nothing tells what came after a kill."""
NUM_ITEMS = {"train": 36, "test": 12}
STEPS_PER_EPOCH = 7
"""27 items are trained on; the last batch has three."""
NUM_STEPS = 3 * STEPS_PER_EPOCH


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Data and a network, and what an uninterrupted run came to."""

    data: Path
    network: Path
    recipe: Mapping[str, str]
    uninterrupted: RunRecord
    num_passes: int
    """Training batches that it put through the network, its rehearsal's included."""

    def request(self, folder: Path) -> RunRequest:
        """Ask for the same run in another folder."""
        return request_of(self.data, self.network, folder, self.recipe)


def request_of(
    data: Path, network: Path, folder: Path, recipe: Mapping[str, str] = RECIPE
) -> RunRequest:
    return RunRequest(
        task="folder",
        backbone=f"{network}:build",
        protocol="finetune",
        data=data,
        results=folder / "results",
        cache_root=folder / "cache",
        overrides=recipe,
    )


@contextmanager
def environment(folder: Path, **words: object) -> Iterator[Path]:
    """Tell the network of this process and its children where to write steps down, and more."""
    steps = folder / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    steps.write_bytes(b"")
    changes = {"STEPS_FILE": str(steps), **{name: str(each) for name, each in words.items()}}
    os.environ.update(changes)
    try:
        yield steps
    finally:
        for name in changes:
            del os.environ[name]


def make_world(folder: Path) -> World:
    """Make data and a network, and run in this process, undisturbed.

    Children that are forked from it have their libraries loaded then.
    """
    noise = np.random.default_rng(0)
    for split, number in NUM_ITEMS.items():
        for row in range(number):
            label = row % 2
            pixels = noise.normal(110, 50, (16, 16, 3)) + 12 * label
            path = folder / "data" / split / ("bright" if label else "dark") / f"{row:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
    (folder / "watched.py").write_text(NETWORK)
    return world_of(folder / "data", folder / "watched.py", folder, RECIPE)


def world_of(data: Path, network: Path, folder: Path, recipe: Mapping[str, str]) -> World:
    """Run in this process, undisturbed, by a recipe that takes `NUM_STEPS` steps."""
    torch.set_num_threads(1)
    with environment(folder) as steps:
        record = runner.run(request_of(data, network, folder, recipe)).record
        num_passes = steps.stat().st_size
    assert record.protocol.chosen["num_steps"] == NUM_STEPS
    return World(
        data=data,
        network=network,
        recipe=recipe,
        uninterrupted=record,
        num_passes=num_passes,
    )


def checkpoints_of(folder: Path) -> list[Path]:
    """What a killed run left to go on from, the latest last."""
    return sorted((folder / "cache" / "work").rglob("finetune.*-????????.pt"))


def steps_kept(folder: Path) -> int:
    """How many steps the latest checkpoint has behind it, as its name says."""
    epoch, batch = checkpoints_of(folder)[-1].suffixes[-2].removeprefix(".").split("-")
    return int(epoch) * STEPS_PER_EPOCH + int(batch)


def check_it_goes_on(world: World, folder: Path) -> int:
    """Run again in this process: every bit is the same. Give the training passes that it took."""
    asked = world.request(folder)
    with environment(folder) as steps:
        finished = runner.run(asked)
        num_passes = steps.stat().st_size
    expected = world.uninterrupted
    # Digests of the bytes of all predictions and of all that was fitted; names hold the key.
    assert finished.record.files == expected.files
    assert finished.record.metrics == expected.metrics
    assert finished.record.selection == expected.selection
    assert finished.record.protocol == expected.protocol
    assert timeless(finished.record) == timeless(expected)
    contents = store.read_all(asked.results)
    assert contents.problems == ()
    assert len(contents.records) == 1
    assert not checkpoints_of(folder), "they go when the record is there"
    return num_passes


def timeless(record: RunRecord) -> list[dict[str, Scalar]]:
    """Give the learning curve without the seconds it took."""
    return [{key: row[key] for key in row if key != "seconds"} for row in record.curve]


def child_of(
    world: World, folder: Path, before: Callable[[], None] = lambda: None
) -> multiprocessing.process.BaseProcess:
    """Start the run in a forked child, which has its libraries loaded."""

    def work() -> None:
        before()
        runner.run(world.request(folder))

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    return child


def run_in_child(world: World, folder: Path, before: Callable[[], None] = lambda: None) -> int:
    """Run in a forked child; give its exit code."""
    child = child_of(world, folder, before)
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


def start(command: list[str], folder: Path, **words: object) -> subprocess.Popen[str]:
    """Start a program in a group of processes of its own; `environment` says what words mean."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSBENCH_")}
    (folder / "steps").write_bytes(b"")
    return subprocess.Popen(
        command,
        env={
            **kept,
            "RSBENCH_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
            "STEPS_FILE": str(folder / "steps"),
            **{name: str(each) for name, each in words.items()},
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def command_of(asked: RunRequest, *, num_workers: int) -> list[str]:
    """Say a request as a command line."""
    recipe = [
        word for key, value in asked.overrides.items() for word in ("--set", f"{key}={value}")
    ]
    return [
        *(sys.executable, "-m", "rsbench", "run", "--task", asked.task, "--data", str(asked.data)),
        *("--backbone", asked.backbone, "--protocol", asked.protocol, *recipe),
        *("--results", str(asked.results), "--device", "cpu", "--workers", str(num_workers)),
    ]


def wait_for_steps(process: subprocess.Popen[str], folder: Path, number: int) -> None:
    """Wait until a started program has begun so many training passes."""
    end = time.monotonic() + 120
    while (folder / "steps").stat().st_size < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"no {number} steps in two minutes"
        time.sleep(0.01)

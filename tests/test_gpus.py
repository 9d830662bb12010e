"""`--gpus N`: which cells are packed, in which words they run, and what comes of them."""

from __future__ import annotations

import dataclasses
import json
import signal
import time
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from team_world import Ended, command, forked

from rsbench.cells import Cell, RunRequest
from rsbench.cli import gpus
from rsbench.cli.gpus import Told, check_gpus, jobs_of, words_of
from rsbench.cli.grid import grid_of
from rsbench.cli.run import run
from rsbench.errors import RsbenchError
from rsbench.media.image import write_image
from rsbench.processes import Outcome
from rsbench.records import store
from rsbench.registry import find_protocol
from rsbench.specs import Views


def cell(
    protocol: str,
    *,
    seed: int = 0,
    num_train: int = 100,
    weights: str = "none",
    frames: int = 1,
    **recipe: Any,
) -> Cell:
    """Stand in for a prepared cell, with what the packing looks at."""
    spec = find_protocol(protocol).spec
    return cast(
        "Cell",
        SimpleNamespace(
            request=SimpleNamespace(task="t", backbone="b", weights=weights, seed=seed),
            protocol=SimpleNamespace(spec=spec),
            recipe={**spec.recipe, **recipe},
            gathered=SimpleNamespace(num_train=num_train),
            weights=SimpleNamespace(name=weights),
            fit_reading=SimpleNamespace(clip=SimpleNamespace(frames=frames)),
        ),
    )


def on_all(cells: list[Cell | None], num: int) -> list[bool]:
    return [job.on_all for job in jobs_of(cells, num)]


def test_one_cell_takes_all_gpus() -> None:
    assert on_all([cell("finetune")], 8) == [True]
    assert on_all([cell("linear_probe")], 8) == [True]


def test_small_trainings_of_a_grid_take_one_gpu_each_and_large_ones_all() -> None:
    # 30 epochs, a backward pass counted as two: 90 views of each example.
    small = [cell("finetune", seed=seed, num_train=100_000) for seed in range(2)]
    large = [cell("finetune", num_train=120_000), cell("finetune", num_train=4_000, frames=32)]
    assert on_all([*small, *large], 8) == [False, False, True, True]


def test_frozen_networks_take_one_gpu_each_where_there_are_as_many_as_gpus() -> None:
    seeds = [cell("linear_probe", seed=seed) for seed in range(4)]
    assert on_all([*seeds], 4) == [False] * 4
    assert on_all([*seeds], 5) == [True] * 4
    # With weights, all seeds have the same features: one after another, by all.
    same = [cell("linear_probe", seed=seed, weights="pretrained") for seed in range(4)]
    assert on_all([*same], 4) == [True] * 4
    assert len({job.key for job in jobs_of(seeds, 4)}) == 4
    assert len({job.key for job in jobs_of(same, 4)}) == 1


def test_a_cell_that_can_not_be_prepared_fails_on_one_gpu() -> None:
    assert on_all([None, cell("finetune")], 2) == [False, False]


class Traced(SimpleNamespace):
    """A cell that can be seen to go: the plain namespace takes no weak reference."""


def test_cells_are_looked_at_one_by_one_and_not_kept() -> None:
    """Each holds all its items: a hundred cells of ImageNet would fill the memory."""
    made: list[weakref.ref[object]] = []

    def cells() -> Iterator[Cell]:
        for seed in range(4):
            assert [each for each in made[:-1] if each() is not None] == []
            new = Traced(**vars(cell("finetune", seed=seed)))
            made.append(weakref.ref(new))
            yield cast("Cell", new)
            del new

    assert len(jobs_of(cells(), 2)) == 4


def requests_of(words: list[str]) -> tuple[RunRequest, ...]:
    return grid_of(run.make_context("run", words).params).requests


def test_the_words_of_a_cell_ask_for_that_cell(tmp_path: Path) -> None:
    asked = RunRequest(
        task="digits",
        backbone="resnet_rs_50+width=0.25",
        protocol="finetune",
        results=tmp_path / "results",
        cache_root=tmp_path / "cache",
        data=tmp_path,
        weights="none",
        seed=3,
        limit=40,
        overrides={"epochs": "2", "drops_at": "0.5,0.75"},
        pixels=32,
        frames=4,
        stride=2,
        views=Views(clips=2, crops=3),
        sampler="psf",
        cropper="mmaction2",
        folds=("split1", "split2"),
        cross_validate="groups",
        group_by="^(.*)=[0-9]+_",
        keep_views_up_to_gib=0.5,
        max_failed=2,
        device="cpu",
        batch_size=4,
        num_workers=3,
        cache_clips_gib=1.5,
        cache_limit_gib=2.5,
        precision="bf16",
        again=True,
        allow_test_selection=True,
        compile=True,
        keep_checkpoints=3,
        checkpoint_minutes=2.5,
        log_root=tmp_path / "logs",
    )
    plain = RunRequest(
        task="digits", backbone="b", protocol="p", results=tmp_path, cache_root=tmp_path
    )
    # What has no word: who watches, who helps, and the cache, which is in the environment.
    wordless = {"helpers", "progress", "measured", "say", "purpose", "cache_root"}
    left = {field.name for field in dataclasses.fields(RunRequest)} - wordless
    same = [name for name in sorted(left) if getattr(asked, name) == getattr(plain, name)]
    assert same == ["device", "task", "weights"], "each word is tried on a value of its own"

    def shown(request: RunRequest) -> dict[str, Any]:
        return {name: getattr(request, name) for name in left}

    (found,) = requests_of([*words_of(asked)])
    assert shown(found) == shown(asked)
    spare = dataclasses.replace(asked, limit=None, views=None, folds=(), data=None, overrides={})
    (found,) = requests_of([*words_of(spare)])
    assert shown(found) == shown(spare)


@pytest.mark.parametrize(
    ("num", "device", "environment", "message"),
    [
        (3, None, {}, "--gpus must be at most the number of GPUs here, 2; it was 3."),
        (2, "cuda:1", {}, "--device must be cuda or cpu beside it; it was 'cuda:1'"),
        (2, None, {"RANK": "0", "WORLD_SIZE": "4"}, "torchrun has started 4 already"),
    ],
)
def test_gpus_that_are_not_there_are_refused_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch,
    num: int,
    device: str | None,
    environment: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RsbenchError) as info:
        check_gpus(num, device)
    assert message in str(info.value)


def test_processes_of_the_cpu_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(RsbenchError, match="--device cpu starts 2 processes of the CPU instead"):
        check_gpus(2, None)
    assert check_gpus(2, "cpu") == "cpu"


def test_the_fault_of_a_cell_is_one_line_and_names_who_was_killed() -> None:
    said = ("  train: 3 of 9", "rsbench: Training diverged.")
    failed = Outcome(codes=(1, 0), output="", said=(said, ()), first_failed=0)
    told = gpus._told(failed)
    assert (str(told.fault), told.fault and told.fault.exit_code) == ("Training diverged.", 1)
    wrong = gpus._told(dataclasses.replace(failed, codes=(2, 0)))
    assert wrong.fault is not None
    assert wrong.fault.exit_code == 2
    killed = Outcome(codes=(1, -signal.SIGKILL), output="", said=said, first_failed=1)
    assert str(gpus._told(killed).fault).startswith("process 2 of 2 was ended by SIGKILL")
    aborted = dataclasses.replace(failed, codes=(-signal.SIGABRT, 1), said=((), said))
    assert str(gpus._told(aborted).fault) == "Training diverged."
    nobody = dataclasses.replace(aborted, said=((), ()))
    assert str(gpus._told(nobody).fault).startswith("process 1 of 2 was ended by SIGABRT")
    said = ("ImportError: no torch",)
    crashed = Outcome(codes=(1, 0), output="", said=(said, ()), first_failed=0)
    words = "process 1 of 2 ended with exit code 1: ImportError: no torch"
    assert str(gpus._told(crashed).fault) == words
    done = Outcome(
        codes=(0,), output='{"record": "r.json", "reused": true}', said=((),), first_failed=None
    )
    assert gpus._told(done) == Told(Path("r.json"), True, None)
    chatty = dataclasses.replace(done, output=f"hello\n{done.output}\ngood-bye")
    assert gpus._told(chatty) == gpus._told(done)
    silent = gpus._told(dataclasses.replace(done, output=""))
    assert str(silent.fault) == "its process ended without a word of its record."


NETWORK = """
import os
import signal
import time
from pathlib import Path

from torch import nn

from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=8)
STARTER = os.getppid()


class Watched(nn.Sequential):
    def forward(self, batch):
        if self.training:
            (Path(os.environ["SEEN"]) / str(os.getpid())).touch()
            if os.environ.get("RANK", "0") == os.environ.get("KILLED"):
                os.kill(os.getpid(), signal.SIGKILL)
            if "STARTER_KILLED" in os.environ:
                if os.environ["RANK"] == "0" and os.getppid() == STARTER:
                    os.kill(STARTER, signal.SIGKILL)
                time.sleep(1)
        return super().forward(batch)


def build():
    return Watched(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3))
"""


def world(folder: Path) -> None:
    noise = np.random.default_rng(0)
    for split, number in (("train", 24), ("test", 8)):
        for row in range(number):
            path = folder / "data" / split / "ab"[row % 2] / f"{row:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = noise.normal(100 + 30 * (row % 2), 40, (8, 8, 3))
            write_image(path, pixels.clip(0, 255).astype(np.uint8))
    (folder / "watched.py").write_text(NETWORK)
    (folder / "seen").mkdir()


def start(folder: Path, *words: str, **environment: str) -> Ended | None:
    """Run cells in two processes of the CPU; None where the command itself was killed."""
    told = {
        "OMP_NUM_THREADS": "1",
        "RSBENCH_CACHE": str(folder / "cache"),
        "SEEN": str(folder / "seen"),
    }
    asked = [
        *("run", "--task", "folder"),
        *("--data", str(folder / "data"), "--backbone", f"{folder / 'watched.py'}:build"),
        *("--protocol", "finetune", "--set", "epochs=1", "--set", "batch_size=8"),
        *("--gpus", "2", "--device", "cpu", "--results", str(folder / "results"), *words),
    ]
    (ended,), _ = forked([partial(command, asked, {**told, **environment})], seconds=180)
    return cast("Ended | None", ended)


def test_one_training_is_started_on_all_processes_and_leaves_one_record(tmp_path: Path) -> None:
    world(tmp_path)

    ended = start(tmp_path, "--json")

    assert ended is not None
    assert ended.code == 0, ended.errors
    described = json.loads(ended.output)
    record = store.read(Path(described["record"]))
    assert record.environment["num_processes"] == 2
    assert described["n_evaluated"] == record.data.num_evaluated == 8
    assert len([*(tmp_path / "seen").iterdir()]) == 2
    # Known again by what it is: a training by two, whose batch norm saw the shares of each.
    foretold = start(tmp_path, "--json", "--dry-run")
    assert foretold is not None
    assert json.loads(foretold.output)["finished"]


@pytest.mark.slow
def test_a_grid_of_small_trainings_is_packed_and_ends_with_one_table(tmp_path: Path) -> None:
    world(tmp_path)

    ended = start(tmp_path, "--seeds", "0,1")

    assert ended is not None
    assert ended.code == 0, ended.errors
    lines = ended.output.splitlines()
    assert lines[0] == "2 cells on 2 processes: 2 on one process each, 0 on all of them."
    assert sum("finetune v" in line for line in lines) == 1
    records = [each.record for each in store.read_all(tmp_path / "results").records]
    assert sorted(record.seed for record in records) == [0, 1]
    assert [record.environment["num_processes"] for record in records] == [1, 1]
    assert len([*(tmp_path / "seen").iterdir()]) == 2


@pytest.mark.slow
def test_a_killed_process_ends_the_command_with_one_line(tmp_path: Path) -> None:
    world(tmp_path)

    ended = start(tmp_path, KILLED="1")

    assert ended is not None
    assert ended.code == 1
    lines = [line for line in ended.errors.splitlines() if line.startswith("rsbench: ")]
    assert len(lines) == 1
    assert lines[0].endswith(
        "process 2 of 2 was ended by SIGKILL; what was computed is kept, start it again."
    )
    assert "Traceback" not in ended.errors


@pytest.mark.slow
def test_where_the_command_itself_is_killed_no_process_stays(tmp_path: Path) -> None:
    world(tmp_path)

    assert start(tmp_path, STARTER_KILLED="1") is None

    pids = [int(path.name) for path in (tmp_path / "seen").iterdir()]
    assert pids
    end = time.monotonic() + 60
    while any(is_at_work(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    # They came to no end of their own, and can go on where they were.
    assert store.read_all(tmp_path / "results").records == ()
    assert list((tmp_path / "cache" / "work").rglob("*.pt"))


def is_at_work(pid: int) -> bool:
    try:
        # What nobody waits for may stay behind as a name (Z).
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False

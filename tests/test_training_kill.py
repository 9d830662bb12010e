"""Killed at any moment, a training goes on and ends with the same bits: weights and predictions.

Three ways to die by signal 9: before the n-th write reaches the disk (each fsync, rename and
removal), in the forward pass of the n-th step, and from outside at a random moment. Those who die
are forked children, which have their libraries loaded, and they keep their state after every step.
RSBENCH_SOAK says how many runs the slow test kills, twice each.

A program of its own is told to stop by SIGTERM and by control-C; it keeps what only that tells it
to keep.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from training_world import (
    NUM_STEPS,
    RECIPE,
    STEPS_PER_EPOCH,
    World,
    check_it_goes_on,
    child_of,
    command_of,
    environment,
    make_world,
    run_in_child,
    start,
    steps_kept,
    wait_for_steps,
    world_of,
)

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.specs import Settings

# Read now: no test sees the user's RSBENCH_ variables.
NUM_SOAK_KILLS = int(os.environ.get("RSBENCH_SOAK", "1"))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs of this process, and of its forked children, keep their state after every step."""
    made = runner.settings_of

    def often(request: RunRequest, key: str) -> Settings:
        return replace(made(request, key), checkpoint_seconds=0.0)

    monkeypatch.setattr(runner, "settings_of", often)


# ---------------------------------------------------------------------- killed while writing


def before_each_write(act: Callable[[str], None]) -> None:
    """Call `act` with a word before each fsync, rename and removal of this process, for good."""
    fsync, replace_, unlink = os.fsync, Path.replace, Path.unlink

    def watched_fsync(descriptor: int) -> None:
        act("fsync")
        fsync(descriptor)

    def watched_replace(path: Path, target: Path) -> Path:
        act("rename of a best" if ".best" in target.suffixes else f"rename to {target.suffix}")
        return replace_(path, target)

    def watched_unlink(path: Path, missing_ok: bool = False) -> None:
        act("removal")
        unlink(path, missing_ok)

    os.fsync = watched_fsync
    Path.replace = watched_replace  # type: ignore[method-assign, assignment]
    Path.unlink = watched_unlink  # type: ignore[method-assign]


def writes_of(world: World, folder: Path) -> list[str]:
    """Name the writes of a run that nobody kills."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)

    def work() -> None:
        words: list[str] = []
        before_each_write(words.append)
        runner.run(world.request(folder))
        sender.send(words)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    # Held by the child alone, it ends when the child does: what goes wrong there is seen here.
    sender.close()
    words: list[str] = receiver.recv()
    child.join(60)
    return words


def die_before_write(number: int) -> Callable[[], None]:
    def arm() -> None:
        seen = 0

        def act(word: str) -> None:
            nonlocal seen
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        before_each_write(act)

    return arm


@pytest.mark.usefixtures("_every_step")
def test_a_kill_before_any_write_of_a_checkpoint_changes_no_bit(
    world: World, tmp_path: Path
) -> None:
    world = world_of(world.data, world.network, tmp_path / "whole", {**RECIPE, "keep": "best"})
    words = writes_of(world, tmp_path / "counted")
    assert words.count("rename to .pt") >= NUM_STEPS
    # Number of the last write of a best network; the checkpoint that speaks of it comes next.
    best = len(words) - words[::-1].index("rename of a best")
    moments = range(best - 1, best + 6)
    assert {words[moment - 1] for moment in moments} == {
        *("fsync", "rename of a best", "rename to .pt", "removal")
    }
    for moment in moments:
        folder = tmp_path / f"moment {moment}"
        with environment(folder) as steps:
            assert run_in_child(world, folder, die_before_write(moment)) == -signal.SIGKILL
            num_done = steps.stat().st_size - 1
        kept = steps_kept(folder)
        # No step is lost but the one that the kill fell into.
        assert num_done - kept in (0, 1)
        assert check_it_goes_on(world, folder) == NUM_STEPS - kept


# ---------------------------------------------------------------------------- killed in a step


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize("share", [0.2, 0.55, 0.95])
def test_a_kill_in_the_middle_of_a_step_costs_that_step_and_no_bit(
    world: World, tmp_path: Path, share: float
) -> None:
    number = round(share * world.num_passes)
    with environment(tmp_path, DIE_AT_STEP=number):
        assert run_in_child(world, tmp_path) == -signal.SIGKILL

    assert check_it_goes_on(world, tmp_path) == world.num_passes - number + 1


@pytest.mark.usefixtures("_every_step")
@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "learning_rate": "0.001", "schedule": "constant"},
        {"optimizer": "lars", "schedule": "whole cosine", "warmup_factor": "0"},
        {"examples_at_once": "2", "norm_momentum": "1.0", "momentum_of": "steps", "mixup": "0"},
        {"schedule": "drops", "drops_at": "0.4,0.8", "freeze_norm": "true", "ema_decay": "0"},
    ],
    ids=lambda changes: " ".join(changes.values()),
)
def test_whatever_the_recipe_a_kill_in_the_middle_of_an_epoch_changes_no_bit(
    world: World, tmp_path: Path, changes: dict[str, str]
) -> None:
    other = world_of(world.data, world.network, tmp_path / "whole", {**RECIPE, **changes})
    parts = tmp_path / "parts"
    number = round(0.55 * other.num_passes)
    with environment(parts, DIE_AT_STEP=number):
        assert run_in_child(other, parts) == -signal.SIGKILL

    check_it_goes_on(other, parts)
    assert other.uninterrupted.files != world.uninterrupted.files


def test_where_epochs_are_short_a_kill_costs_at_most_the_epoch_it_fell_into(
    world: World, tmp_path: Path
) -> None:
    """As it is by default: ten minutes have not passed."""
    with environment(tmp_path, DIE_AT_STEP=world.num_passes - 3):
        assert run_in_child(world, tmp_path) == -signal.SIGKILL

    assert check_it_goes_on(world, tmp_path) == STEPS_PER_EPOCH


# ------------------------------------------------------------------------- told to stop, in time


# Schedulers tell all processes of a job, those that read too; a terminal does the same.
@pytest.mark.parametrize(("which", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_job_that_is_told_to_stop_keeps_its_last_step_and_says_so(
    world: World, tmp_path: Path, which: signal.Signals, exit_code: int
) -> None:
    asked = world.request(tmp_path)
    process = start(command_of(asked, num_workers=2), tmp_path, STEP_SECONDS=0.1)
    wait_for_steps(process, tmp_path, 13)

    os.killpg(process.pid, which)
    _, said = process.communicate(timeout=60)

    assert process.returncode == exit_code, said
    assert f"rsbench: Stopped by {which.name} in epoch 2 after batch" in said
    assert "Traceback" not in said
    num_done = (tmp_path / "steps").stat().st_size
    assert num_done < world.num_passes
    assert not list((tmp_path / "results").rglob("*.json"))
    assert check_it_goes_on(world, tmp_path) == world.num_passes - num_done


# ------------------------------------------------------------------------------ at any moment


@pytest.mark.slow
@pytest.mark.usefixtures("_every_step")
def test_a_kill_at_a_random_moment_changes_no_bit(world: World, tmp_path: Path) -> None:
    moments = random.Random(0)
    for number in range(NUM_SOAK_KILLS):
        folder = tmp_path / f"kill {number}"
        exits = []
        for most in (world.num_passes, world.num_passes // 2):
            after_steps, more_seconds = moments.randint(0, most), moments.uniform(0, 0.03)
            with environment(folder, STEP_SECONDS=0.01) as steps:
                child = child_of(world, folder)
                end = time.monotonic() + 120
                while child.is_alive() and steps.stat().st_size < after_steps:
                    assert time.monotonic() < end, f"no {after_steps} steps in two minutes"
                    time.sleep(0.002)
                time.sleep(more_seconds)
                child.kill()
                child.join()
            exits.append(child.exitcode)
        # The second one goes on from the first, and may have come to its end.
        assert exits in ([-signal.SIGKILL] * 2, [-signal.SIGKILL, 0])
        check_it_goes_on(world, folder)

"""What goes wrong around a training ends it with one line, and costs nothing that was learned."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest
from small_world import fit_request, item_set, model, pictures, settings
from torch import nn
from training_world import (
    STEPS_PER_EPOCH,
    World,
    check_it_goes_on,
    checkpoints_of,
    command_of,
    environment,
    make_world,
    start,
    wait_for_steps,
)

from rsbench import runner
from rsbench.errors import DiskError
from rsbench.protocols.finetune import PROTOCOL

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_a_reader_that_dies_ends_the_run_with_one_line_and_the_next_one_goes_on(
    world: World, tmp_path: Path
) -> None:
    asked = world.request(tmp_path)
    process = start(command_of(asked, num_workers=1), tmp_path, STEP_SECONDS=0.1)
    wait_for_steps(process, tmp_path, 13)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    )
    readers = [int(word) for word in listed.stdout.split()]
    assert readers, "it reads in a process of its own"

    for reader in readers:
        os.kill(reader, signal.SIGKILL)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 1, said
    assert "A reading process died" in said
    assert "Traceback" not in said
    # The epoch before is kept.
    assert check_it_goes_on(world, tmp_path) == 2 * STEPS_PER_EPOCH


def test_a_disk_that_is_full_at_a_checkpoint_ends_the_run_and_the_one_before_is_gone_on_from(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full_after_the_first_epoch(descriptor: int) -> None:
        if checkpoints_of(tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, environment(tmp_path) as steps:
        patch.setattr(os, "fsync", full_after_the_first_epoch)
        with pytest.raises(DiskError, match="No space left on device") as caught:
            runner.run(world.request(tmp_path))
        num_done = steps.stat().st_size

    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert num_done == world.num_passes - STEPS_PER_EPOCH
    assert len(checkpoints_of(tmp_path)) == 1
    assert check_it_goes_on(world, tmp_path) == 2 * STEPS_PER_EPOCH


@pytest.mark.parametrize("num_items", [2, 5])
def test_fewer_examples_than_a_batch_make_a_batch_of_all_of_them(
    tmp_path: Path, num_items: int
) -> None:
    sizes: list[int] = []
    network = model()
    network.module.register_forward_hook(
        lambda module, inputs, output: sizes.append(len(inputs[0])) if module.training else None
    )
    recipe = {**PROTOCOL.recipe, "epochs": 4, "batch_size": 64}

    items, labels = pictures(num_items)
    fitted = PROTOCOL.fit(
        fit_request(PROTOCOL, network, item_set(items, labels), settings(tmp_path), recipe=recipe)
    )

    # Four steps, and what is rehearsed before them.
    assert set(sizes) == {num_items}
    assert len(sizes) >= 4
    assert fitted.chosen["num_steps"] == 4
    assert fitted.chosen["num_fitted_on"] == num_items


@pytest.mark.parametrize("num_outputs", [2, 7])
def test_a_classifier_of_other_classes_is_left_behind_and_not_trained_on(
    tmp_path: Path, num_outputs: int
) -> None:
    head = nn.Linear(12, num_outputs)
    given = model(head=head, head_classes=[f"old {number}" for number in range(num_outputs)])
    recipe = {**PROTOCOL.recipe, "epochs": 1}
    items, labels = pictures(9)

    fitted = PROTOCOL.fit(
        fit_request(PROTOCOL, given, item_set(items, labels), settings(tmp_path), recipe=recipe)
    )

    assert fitted.arrays["head.weight"].shape == (3, 12)

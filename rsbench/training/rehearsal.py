"""A training's first batch goes all the way before anything counts: better now than in an hour.

Forward, backward, optimizer, and a checkpoint of the size that they will have, written and read
back. Then all is as before: nothing of it is in what is trained.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from dataclasses import replace

import torch

from rsbench.errors import RunError
from rsbench.training.checkpoints import Checkpoint, Place, load, save
from rsbench.training.learner import Learner
from rsbench.training.tensors import load_tensors, named_tensors


def rehearse(
    learner: Learner, step: Callable[[], object], checkpoint: Checkpoint, *, writes: bool
) -> None:
    """Take a step, and take it back.

    Args:
        learner: Before its first step.
        step: Takes one with the learner.
        checkpoint: Where the training will keep its state; one is written beside it, and removed.
        writes: Whether this process writes checkpoints.

    Raises:
        DiskError: The checkpoint can't be written.
        RunError: It is not read back as it was written; or what the step raises.
    """
    assert not learner.optimizer.state, "a step was taken before"
    before = {
        name: each.to("cpu", copy=True) for name, each in named_tensors(learner.network).items()
    }
    scaler = learner.scaler.state_dict()
    step()
    if writes:
        _there_and_back(learner, checkpoint)
    load_tensors(learner.network, before)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.optimizer.state.clear()
    learner.scaler.load_state_dict(scaler)
    if learner.average is not None:
        learner.average.load(named_tensors(learner.network), 0)


def _there_and_back(learner: Learner, checkpoint: Checkpoint) -> None:
    """Write a checkpoint that no run goes on from, read it, and remove it."""
    folder, stem = checkpoint.path.parent, f"{checkpoint.path.stem}-rehearsal"
    rehearsed = replace(
        checkpoint, path=folder / f"{stem}.pt", key=f"rehearsal of {checkpoint.key}"
    )
    try:
        save(rehearsed, learner.state(), Place(0, 0))
        found = load(rehearsed)
    finally:
        for path in folder.glob(f"{glob.escape(stem)}.*"):
            path.unlink(missing_ok=True)
    own = named_tensors(learner.network)
    if found is None or not all(
        # What is not a number equals nothing, itself included.
        torch.equal(found["network"][name].nan_to_num(), each.cpu().nan_to_num())
        for name, each in own.items()
    ):
        raise RunError(
            f"A checkpoint written to {checkpoint.path.parent} must be read back as it was, and was"
            " not: look at the disk, or name another folder for the work with --cache."
        )

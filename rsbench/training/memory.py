"""When a batch does not fit the memory: which part of it does, and what to do about it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

from rsbench.errors import RunError
from rsbench.training.batches import TrainingBatch

if TYPE_CHECKING:
    from rsbench.training.learner import Learner

_OF_THE_CPU = ("can't allocate memory", "not enough memory")
"""What PyTorch's allocators of the CPU say (Linux, Windows), as a plain RuntimeError."""

_STATES = {"sgd": 1, "lars": 1, "adamw": 2}
"""Tensors of a parameter's size that an optimizer keeps."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error is that of a device, or of the CPU, that has no more memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in _OF_THE_CPU)
    )


def does_not_fit(learner: Learner, batch: TrainingBatch) -> RunError:
    """Find out which part of a batch fits, and say it.

    To be called once the error is handled: while it is, it holds what the step had computed.

    Args:
        learner: Whose step ran out of memory; its gradients and statistics are lost.
        batch: The examples of the step that this process has.
    """
    plan, num_examples = learner.plan, len(batch.names)
    at_once = min(plan.examples_at_once or num_examples, num_examples)
    fits = _largest_part(learner, batch, below=at_once)
    what = (
        f"A batch of {num_examples} examples"
        if at_once == num_examples
        else f"A part of {at_once} of {num_examples} examples"
    )
    device = learner.machine.device
    if fits == 0:
        return RunError(
            f"{what} does not fit the memory of {device} in training, and not even 2 do: give"
            " smaller pictures or fewer frames, --precision bf16, or a device with more memory."
        )
    return RunError(
        f"{what} does not fit the memory of {device} in training; {fits} at once do: add --set"
        f" examples_at_once={fits}, which adds up the gradients of parts (batch norm then sees"
        " parts, so it is another recipe), or give --precision bf16 or more devices."
    )


def _largest_part(learner: Learner, batch: TrainingBatch, *, below: int) -> int:
    """Give the largest power of two of examples below a number that fits, at least 2; else 0."""
    size = 1 << (below - 1).bit_length() - 1 if below > 1 else 0
    while size >= 2:
        if _fits(learner, batch, size):
            return size
        size //= 2
    return 0


def _fits(learner: Learner, batch: TrainingBatch, size: int) -> bool:
    learner.optimizer.zero_grad(set_to_none=True)
    _let_go(learner)
    part = TrainingBatch(batch.inputs[:size], batch.labels[:size], batch.names[:size], size)
    try:
        # Before its first step an optimizer has not taken what it will keep.
        kept = [] if learner.optimizer.state else _as_much_as_states(learner)
        learner.gradient_alone(part)
        del kept
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        learner.optimizer.zero_grad(set_to_none=True)
    return True


def _as_much_as_states(learner: Learner) -> list[torch.Tensor]:
    parameters = [each for each in learner.network.parameters() if each.requires_grad]
    return [torch.empty_like(each) for each in parameters * _STATES[learner.plan.optimizer]]


def _let_go(learner: Learner) -> None:
    gc.collect()
    if learner.machine.device_type == "cuda":
        torch.cuda.empty_cache()

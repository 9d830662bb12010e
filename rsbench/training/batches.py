"""What a training step sees, and how the planned batches of an epoch become steps.

Batch normalisation can't train on a lone example. No example is dropped for that: a batch of one
joins the batch before it (or after it, if it is the first). Nor is a planned batch lost count of:
each step knows up to which of them it reaches, so a run may stop after any step and go on there.

Shape letters: B batch, C channels, T frames, H height, W width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

ReadEpoch = Callable[[int, int, dict[str, str]], "Iterable[TrainingBatch]"]
"""(epoch from 0, first, failures) -> the batches of the epoch in training order from planned batch
`first` (from 0) on, one for each planned batch: one whose examples can't be read is empty. It adds
to failures, by name, what it could not read. Under `Ranks` each process is given its own share of
each batch."""


class TrainingBatch(NamedTuple):
    """What one step sees."""

    inputs: torch.Tensor
    """What the network maps, on the device: float32 (B, C, H, W) or (B, C, T, H, W), normalised;
    or what a frozen network made of it."""
    labels: torch.Tensor
    """int64 (B,); for binary cross-entropy float32 (B, K) of noughts and ones. On the device."""
    names: tuple[str, ...]
    """Ids of the examples, for messages; none where no example could be read, and then the tensors
    are not looked at."""
    num_global: int = -1
    """Examples of the batch over all processes that train together; -1: the loop is to count."""

    @classmethod
    def joined(cls, parts: Sequence[TrainingBatch]) -> TrainingBatch:
        """Give one batch of the examples of several, at least one."""
        if len(parts) == 1:
            return parts[0]
        filled = [part for part in parts if part.names] or list(parts[:1])
        counted = all(part.num_global >= 0 for part in parts)
        return cls(
            torch.cat([part.inputs for part in filled]),
            torch.cat([part.labels for part in filled]),
            tuple(name for part in filled for name in part.names),
            sum(part.num_global for part in parts) if counted else -1,
        )


class Planned(NamedTuple):
    """One step's batch, and how far it reaches in the plan of its epoch."""

    batch: TrainingBatch
    end: int
    """Planned batches of the epoch that are behind when the step is taken, unreadable ones that
    follow included."""


def without_lone_examples(batches: Iterable[TrainingBatch], *, first: int) -> Iterator[Planned]:
    """Let each batch of one join its neighbour; empty batches vanish.

    What is joined does not depend on where a run begins: after a step it goes on with the first
    batch that the step did not take.

    Args:
        batches: One for each planned batch from `first` on, `num_global` counted.
        first: How many planned batches come before them.

    Yields:
        Batches of two or more; but the only one of one, if no other follows it.
    """
    waiting: TrainingBatch | None = None
    number = first
    for number, batch in enumerate(batches, start=first):
        if batch.num_global == 0:
            continue
        if waiting is None:
            waiting = batch
        elif batch.num_global == 1 or waiting.num_global == 1:
            waiting = TrainingBatch.joined([waiting, batch])
        else:
            yield Planned(waiting, number)
            waiting = batch
    if waiting is not None:
        yield Planned(waiting, number + 1)


def parts_of(batch: TrainingBatch, examples_at_once: int) -> Iterator[TrainingBatch]:
    """Cut a batch into parts of at most so many examples, in order; 0 leaves it whole.

    A last part of one takes an example from the part before it, and of parts of two it joins the
    one before it: batch normalisation can't train on a lone example.
    """
    num_examples = len(batch.names)
    if examples_at_once == 0 or num_examples <= examples_at_once:
        yield batch
        return
    ends = list(range(examples_at_once, num_examples, examples_at_once))
    if num_examples - ends[-1] == 1 and examples_at_once > 1:
        *ends, last = ends
        ends += [last - 1] if examples_at_once > 2 else []
    for start, end in zip([0, *ends], [*ends, num_examples], strict=True):
        part = slice(start, end)
        yield TrainingBatch(batch.inputs[part], batch.labels[part], batch.names[part])

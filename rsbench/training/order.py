"""In which order examples are trained on where a recipe counts steps and not passes over the data.

One shuffled pass follows another without end, and batches are cut of that stream, so all batches
are full and one may hold the end of a pass and the beginning of the next (the infinite sampler of
DINOv2, ``shuffle().repeat().batch()`` of TensorFlow). Each pass has its own permutation, which
follows from seed and number of the pass: any stretch of the stream can be made without what lies
before it, and an interrupted training goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Examples of one pass that lie in one batch."""

    rows: tuple[int, ...]
    """At least one, in order."""
    ends_batch: bool
    """Whether the batch is full with these; else the next pass fills it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pass:
    """The part of one pass over the data that a stretch of the stream holds."""

    number: int
    """From 0, counted from the beginning of the stream."""
    pieces: tuple[Piece, ...]


def passes(
    num_examples: int, *, batch_size: int, seed: int, first_step: int, num_steps: int
) -> Iterator[Pass]:
    """Give the examples of consecutive batches, pass by pass.

    Args:
        num_examples: At least 1.
        batch_size: Examples a batch, at least 1; it may be more than there are.
        seed: Of the permutations, at least 0.
        first_step: Number of the first batch wanted, from 0.
        num_steps: How many batches are wanted, at least 1.

    Yields:
        Passes in order; the last piece of the last one ends a batch.
    """
    start, end = first_step * batch_size, (first_step + num_steps) * batch_size
    for number in range(start // num_examples, -(-end // num_examples)):
        order = np.random.default_rng([seed, number]).permutation(num_examples).tolist()
        before = number * num_examples
        place, last = max(start, before), min(end, before + num_examples)
        pieces = []
        while place < last:
            stop = min((place // batch_size + 1) * batch_size, last)
            rows = tuple(order[place - before : stop - before])
            pieces.append(Piece(rows=rows, ends_batch=stop % batch_size == 0))
            place = stop
        yield Pass(number=number, pieces=tuple(pieces))

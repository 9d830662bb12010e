"""Planned batches become steps: no lone example, none lost, and each step knows where it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from rsbench.training.batches import TrainingBatch, parts_of, without_lone_examples


def _batch(size: int, *, first: int = 0) -> TrainingBatch:
    rows = range(first, first + size)
    return TrainingBatch(
        torch.tensor([[float(row)] for row in rows]).reshape(size, 1),
        torch.tensor(list(rows), dtype=torch.int64),
        tuple(f"item {row}" for row in rows),
        size,
    )


def _planned(sizes: Sequence[int], first: int = 0) -> list[tuple[int, int]]:
    """Give size and end of each step that batches of these sizes become."""
    batches = [_batch(size) for size in sizes[first:]]
    return [
        (len(step.batch.names), step.end) for step in without_lone_examples(batches, first=first)
    ]


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        ([4, 4, 4], [(4, 1), (4, 2), (4, 3)]),
        ([4, 4, 1], [(4, 1), (5, 3)]),
        ([1, 4, 4], [(5, 2), (4, 3)]),
        ([4, 1, 3], [(5, 2), (3, 3)]),
        ([1, 1], [(2, 2)]),
        # Unreadable batches belong to the step before them.
        ([4, 0, 4], [(4, 2), (4, 3)]),
        ([4, 4, 0], [(4, 1), (4, 3)]),
        ([0, 0, 4], [(4, 3)]),
        ([4, 0, 1, 0], [(5, 4)]),
        # Nothing is there to join.
        ([0, 1], [(1, 2)]),
        ([0, 0], []),
        ([], []),
    ],
)
def test_steps_have_two_examples_or_more_and_end_where_the_next_begins(
    sizes: list[int], steps: list[tuple[int, int]]
) -> None:
    assert _planned(sizes) == steps


@pytest.mark.parametrize(
    "sizes", [[4, 4, 1], [1, 4, 4], [4, 1, 3, 1, 2], [3, 0, 1, 2, 0, 5], [1, 1, 1, 4]]
)
def test_going_on_after_any_step_gives_the_steps_that_were_left(sizes: list[int]) -> None:
    steps = _planned(sizes)

    for number, (_, end) in enumerate(steps, start=1):
        assert _planned(sizes, first=end) == steps[number:]


def test_joined_batches_keep_their_examples_in_order() -> None:
    joined = TrainingBatch.joined([_batch(2), _batch(0), _batch(1, first=2)])

    assert joined.names == ("item 0", "item 1", "item 2")
    assert joined.inputs.tolist() == [[0.0], [1.0], [2.0]]
    assert joined.labels.tolist() == [0, 1, 2]
    assert joined.num_global == 3


def test_batches_nobody_could_read_join_to_one_that_nobody_could() -> None:
    empty = TrainingBatch(torch.empty(0), torch.empty(0), ())

    assert TrainingBatch.joined([empty, empty]).names == ()
    # A process may have no example of a batch that the others have some of.
    filled = TrainingBatch.joined([empty._replace(num_global=3), _batch(2)])
    assert (filled.names, filled.num_global) == (("item 0", "item 1"), 5)


@pytest.mark.parametrize(
    ("size", "at_once", "parts"),
    [
        (8, 0, [8]),
        (8, 8, [8]),
        (8, 3, [3, 3, 2]),
        # A lone last example takes a neighbour along.
        (7, 3, [3, 2, 2]),
        (9, 4, [4, 3, 2]),
        # Or joins it, where that would leave the neighbour alone.
        (5, 2, [2, 3]),
        (3, 2, [3]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_parts_are_as_large_as_they_may_be_and_not_lone(
    size: int, at_once: int, parts: list[int]
) -> None:
    found = list(parts_of(_batch(size), at_once))

    assert [len(part.names) for part in found] == parts
    assert [name for part in found for name in part.names] == list(_batch(size).names)
    assert torch.equal(torch.cat([part.labels for part in found]), _batch(size).labels)

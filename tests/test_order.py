"""The endless stream of shuffled passes: batches are full, and any stretch can be made alone."""

from __future__ import annotations

import numpy as np
import pytest

from rsbench.training.order import Pass, passes


def _batches(found: list[Pass]) -> list[list[int]]:
    """Put pieces together again, up to each end of a batch."""
    batches: list[list[int]] = [[]]
    for each in found:
        for piece in each.pieces:
            batches[-1] += piece.rows
            if piece.ends_batch:
                batches.append([])
    assert batches.pop() == [], "the last piece ends a batch"
    return batches


@pytest.mark.parametrize(("num_examples", "batch_size"), [(10, 4), (3, 8), (5, 5), (1, 2), (7, 1)])
def test_batches_are_cut_of_permutations_one_after_another(
    num_examples: int, batch_size: int
) -> None:
    found = _batches(
        list(passes(num_examples, batch_size=batch_size, seed=3, first_step=0, num_steps=6))
    )

    # By hand: the permutations of NumPy, laid end to end and cut.
    stream = np.concatenate(
        [np.random.default_rng([3, number]).permutation(num_examples) for number in range(60)]
    )
    assert found == stream[: 6 * batch_size].reshape(6, batch_size).tolist()


def test_a_stretch_is_what_the_whole_stream_has_there() -> None:
    whole = _batches(list(passes(7, batch_size=5, seed=0, first_step=0, num_steps=20)))

    for first in range(15):
        part = _batches(list(passes(7, batch_size=5, seed=0, first_step=first, num_steps=5)))
        assert part == whole[first : first + 5]


def test_pieces_of_one_batch_know_their_passes() -> None:
    found = list(passes(4, batch_size=3, seed=0, first_step=1, num_steps=1))

    # Examples 3 to 5 of the stream: the last of pass 0 and the first two of pass 1.
    assert [(each.number, [len(piece.rows) for piece in each.pieces]) for each in found] == [
        (0, [1]),
        (1, [2]),
    ]
    assert [piece.ends_batch for each in found for piece in each.pieces] == [False, True]


def test_another_seed_is_another_order() -> None:
    one, other = (
        _batches(list(passes(30, batch_size=30, seed=seed, first_step=0, num_steps=1)))
        for seed in (0, 1)
    )

    assert one != other
    assert sorted(one[0]) == sorted(other[0]) == list(range(30))

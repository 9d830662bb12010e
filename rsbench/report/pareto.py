"""The Pareto front of a scatter plot, and where the names of its points find room."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

LETTER_PIXELS = 6.2
"""Mean width of a letter at 11 pixels, measured on names of networks in Helvetica."""
LINE_PIXELS = 13
"""Height of a name."""

Side = Literal["left", "right", "none"]
"""Where the name of a point stands: above it and to the left, to the right, or nowhere."""


class Spot(NamedTuple):
    """A point of the front with its name, as it lies in the plot."""

    x: float
    """Pixels from the left."""
    y: float
    """Pixels from the bottom; of a metric of which less is better, from the top."""
    name: str


class _Box(NamedTuple):
    left: float
    right: float
    bottom: float
    top: float

    def meets(self, other: _Box) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.top <= other.bottom or other.top <= self.bottom)


def pareto_front(
    costs: Sequence[float], scores: Sequence[float], *, higher_is_better: bool = True
) -> list[bool]:
    """Say of each point whether no other is as cheap and as good, and better in one of the two.

    Args:
        costs: Less is better.
        scores: As many.
        higher_is_better: Whether more of a score is better.
    """
    sign = 1 if higher_is_better else -1
    order = sorted(range(len(costs)), key=lambda place: (costs[place], -sign * scores[place]))
    is_on_front = [False] * len(costs)
    best = best_cost = float("-inf")
    for place in order:
        score = sign * scores[place]
        if score > best or (score == best and costs[place] == best_cost):
            is_on_front[place] = True
            best, best_cost = score, costs[place]
    return is_on_front


def name_sides(spots: Sequence[Spot], *, width: float) -> list[Side]:
    """Find room for the names of a front's points, the best ones first.

    Above and to the left of a front there is nothing, so that a name to the left meets other names
    only; one to the right may also meet where the front rises, and what lies at the plot's edge.

    Args:
        spots: The points of the front, in any order.
        width: Of the plot, in pixels.

    Returns:
        One side a point; "none" where its name would cross another or the front.
    """
    order = sorted(range(len(spots)), key=lambda place: -spots[place].y)
    steps = sorted(spots, key=lambda spot: spot.x)
    rises = [
        _Box(after.x - 3, after.x + 3, before.y, after.y)
        for before, after in itertools.pairwise(steps)
    ]
    taken: list[_Box] = []
    sides: list[Side] = ["none"] * len(spots)
    candidates: tuple[Side, ...] = ("left", "right")
    for place in order:
        for side in candidates:
            box = _box(spots[place], side)
            is_inside = box.left >= 0 and box.right <= width
            if is_inside and not any(box.meets(other) for other in (*taken, *rises)):
                taken.append(box)
                sides[place] = side
                break
    return sides


def _box(spot: Spot, side: Side) -> _Box:
    length = len(spot.name) * LETTER_PIXELS
    left, right = (
        (spot.x - 8 - length, spot.x - 8) if side == "left" else (spot.x - 2, spot.x - 2 + length)
    )
    # A rise ends at its point, whose own name may begin there.
    return _Box(left, right, spot.y + 4, spot.y + 4 + LINE_PIXELS)

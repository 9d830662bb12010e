"""When a training keeps its state, by a clock that the tests turn."""

from __future__ import annotations

import math

import pytest

from rsbench.training import pace
from rsbench.training.pace import Pace


class Clock:
    """In place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pace, "time", made)
    return made


def _saved(clock: Clock, *, seconds: float) -> Pace:
    found = Pace(600.0)
    with found.saving():
        clock.now += seconds
    return found


def test_in_between_it_is_kept_as_often_as_is_asked_for(clock: Clock) -> None:
    found = _saved(clock, seconds=3.0)

    clock.now += 599.0
    assert not found.is_due()
    clock.now += 1.0
    assert found.is_due()
    assert Pace(0.0).is_due()


def test_what_is_soon_kept_is_kept_after_every_epoch(clock: Clock) -> None:
    assert Pace(600.0).is_due_after_epoch()
    assert _saved(clock, seconds=0.4).is_due_after_epoch()


@pytest.mark.parametrize(("seconds", "after"), [(2.0, 40.0), (60.0, 600.0)])
def test_what_takes_long_to_keep_is_kept_after_twenty_times_as_long_or_when_it_is_due(
    clock: Clock, seconds: float, after: float
) -> None:
    found = _saved(clock, seconds=seconds)

    clock.now += after - 1.0
    assert not found.is_due_after_epoch()
    clock.now += 1.0
    assert found.is_due_after_epoch()


@pytest.mark.parametrize(
    ("trained", "last_score", "is_due"),
    [(60.0, math.inf, True), (60.0, 30.0, True), (60.0, 2.0, False), (3.0, 30.0, False)],
)
def test_before_a_score_it_is_kept_where_both_are_long(
    clock: Clock, trained: float, last_score: float, is_due: bool
) -> None:
    found = Pace(600.0)
    if last_score < math.inf:
        with found.scoring():
            clock.now += last_score
        assert found.score_seconds == last_score
        with found.saving():
            pass
    clock.now += trained

    assert found.is_due_before_score() is is_due

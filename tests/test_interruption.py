"""Signals during a training: written down, and given back afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from rsbench.training.interruption import Interruption

WATCHED = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    """Python's own, whatever started the tests; a mistake here must not end them."""
    before = {each: signal.getsignal(each) for each in WATCHED}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def send(which: signal.Signals) -> None:
    os.kill(os.getpid(), which)


# 128 + number: POSIX shells, and what schedulers show for jobs ended by a signal.
@pytest.mark.parametrize(("which", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_written_down_and_stops_nothing(which: signal.Signals, exit_code: int) -> None:
    with Interruption() as interruption:
        assert not interruption.asked

        send(which)

        assert interruption.asked
        error = interruption.stopped(where="in epoch 3 of 30, after batch 12 of 40")
    assert error.exit_code == exit_code
    assert str(error) == (
        f"Stopped by {which.name} in epoch 3 of 30, after batch 12 of 40; its state is kept: run"
        " the same command again to go on from there."
    )


def test_a_second_sigterm_stops_nothing_either() -> None:
    """Schedulers repeat it, and the first one is still being obeyed."""
    with Interruption() as interruption:
        send(signal.SIGTERM)
        send(signal.SIGTERM)

        assert interruption.asked
        interruption.stopped(where="in epoch 1 of 2")


def test_control_c_pressed_again_stops_at_once() -> None:
    with Interruption() as interruption:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)

        assert interruption.asked
        interruption.stopped(where="in epoch 1 of 2")


@pytest.mark.parametrize("which", WATCHED)
def test_handlers_are_given_back(which: signal.Signals) -> None:
    heard: list[int] = []
    signal.signal(which, lambda number, frame: heard.append(number))
    ours = signal.getsignal(which)

    with Interruption() as interruption:
        assert signal.getsignal(which) != ours
        send(which)
        interruption.stopped(where="in epoch 1 of 2")
    assert heard == []
    assert signal.getsignal(which) == ours
    with pytest.raises(ZeroDivisionError), Interruption():
        raise ZeroDivisionError
    assert signal.getsignal(which) == ours


@pytest.mark.parametrize("which", WATCHED)
def test_a_signal_that_came_too_late_to_be_answered_goes_to_whoever_has_them_then(
    which: signal.Signals,
) -> None:
    """After the last step nobody asks any more, and tests may take hours."""
    heard: list[int] = []
    signal.signal(which, lambda number, frame: heard.append(number))

    with Interruption():
        send(which)
        assert heard == []

    assert heard == [which]


@pytest.mark.parametrize("which", WATCHED)
def test_a_signal_that_the_process_ignores_stays_ignored(which: signal.Signals) -> None:
    signal.signal(which, signal.SIG_IGN)

    with Interruption() as interruption:
        send(which)

        assert not interruption.asked
    assert signal.getsignal(which) == signal.SIG_IGN


def test_outside_of_the_main_thread_signals_stay_whose_they_are() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with Interruption() as interruption:
            seen.extend([signal.getsignal(signal.SIGTERM), interruption.asked])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [before, False]


def test_one_training_inside_another_gives_back_what_the_outer_one_had() -> None:
    with Interruption() as outer:
        with Interruption() as inner:
            send(signal.SIGTERM)
            assert (inner.asked, outer.asked) == (True, False)
            inner.stopped(where="in epoch 1 of 2")
        assert not outer.asked

        send(signal.SIGTERM)

        assert outer.asked
        outer.stopped(where="in epoch 1 of 2")


def test_a_process_whose_fellow_was_told_leaves_with_the_same_words() -> None:
    interruption = Interruption()

    interruption.note(signal.SIGTERM)

    assert interruption.asked
    assert interruption.stopped(where="in epoch 1 of 2").exit_code == 143

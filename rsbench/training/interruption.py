"""A training that is told to stop: it finishes its step, keeps its state, and leaves.

Clusters end a job with SIGTERM and, half a minute later, with SIGKILL: time enough for a checkpoint
and none for the rest of an epoch. Control-C is heard the same way once; pressed again, it stops
where it is, and the last checkpoint is what is left.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from rsbench.errors import RunError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_Handler = Callable[[int, FrameType | None], object] | signal.Handlers | int


class Stopped(RunError):
    """A training was told to stop, and kept its state; the same command goes on from there."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        """Carry the exit code that shells give a process ended by this signal: 128 + number."""
        super().__init__(message)
        self.exit_code = exit_code


class Interruption:
    """While it is held, SIGTERM and the first SIGINT are written down and stop nothing.

    Only a process's main thread can take signals over; in another one nothing is ever written down.
    A signal that the process was started to ignore (``nohup``, a shell's background) stays ignored.
    """

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._signal: signal.Signals | None = None
        self._is_answered = False
        self._before: dict[signal.Signals, _Handler] = {}

    @property
    def asked(self) -> bool:
        """Whether the training is to keep its state and leave."""
        return self._signal is not None

    def stopped(self, *, where: str) -> Stopped:
        """Give the error to raise once the state is kept.

        Args:
            where: How far the training came, as in "Stopped by SIGTERM in epoch 3 of 30".
        """
        assert self._signal is not None, "nobody asked"
        self._is_answered = True
        return Stopped(
            f"Stopped by {self._signal.name} {where}; its state is kept: run the same command again"
            " to go on from there.",
            exit_code=128 + self._signal,
        )

    def note(self, number: int) -> None:
        """Take it as asked: what the handlers do, and what a process does whose fellow was told."""
        self._signal = signal.Signals(number)

    def __enter__(self) -> Interruption:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for each in _SIGNALS:
                before = signal.getsignal(each)
                # None: a handler that Python did not set, which could not be given back.
                if before is not None and before != signal.SIG_IGN:
                    self._before[each] = before
                    signal.signal(each, self._heard)
        return self

    def __exit__(self, *raised: object) -> None:
        """Give them back to whoever had them, with one that came too late to be answered."""
        for each, before in self._before.items():
            signal.signal(each, before)
        self._before.clear()
        if self._signal is not None and not self._is_answered and raised[:1] == (None,):
            signal.raise_signal(self._signal)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.note(number)
        if number == signal.SIGINT:
            signal.signal(number, self._before[signal.SIGINT])

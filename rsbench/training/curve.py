"""How a training went, epoch by epoch, and what it is at now, for whoever is watching.

Losses of several classifiers are summed, those alone that are finite; their shares of right answers
are averaged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rsbench.specs import Ranks
from rsbench.training.distribution import gathered_sum
from rsbench.training.logs import EventFile

_SECONDS_BETWEEN = 1.0
"""How often whoever is watching is told, at most: a person reads no faster."""

_COUNTS = ("epoch", "steps")
"""What of a row is not drawn against the steps."""


class Taken(NamedTuple):
    """What one step came to, over the examples of this process."""

    loss: float
    """Summed over the examples."""
    right: float
    """How many were classified right."""
    num_examples: int

    def plus(self, other: Taken) -> Taken:
        """Give the sum of two."""
        return Taken(
            self.loss + other.loss,
            self.right + other.right,
            self.num_examples + other.num_examples,
        )


_NOTHING = Taken(0.0, 0.0, 0)


class Curve:
    """The rows of the epochs that are behind, and the sums of the one that is not."""

    def __init__(self) -> None:
        """Begin before the first epoch."""
        self.rows: list[dict[str, float]] = []
        self._begin()

    def _begin(self) -> None:
        self._sums = _NOTHING
        self._seconds_before, self._since = 0.0, time.perf_counter()

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean loss of each epoch's examples."""
        return tuple(row["train_loss"] for row in self.rows)

    @property
    def seconds(self) -> float:
        """Wall clock of the epoch so far, that before an interruption included."""
        return self._seconds_before + time.perf_counter() - self._since

    def add(self, taken: Taken) -> None:
        """Count a step."""
        self._sums = self._sums.plus(taken)

    def close(
        self,
        *,
        steps: int,
        learning_rate: float,
        seconds: float,
        held_out: float | None,
        ranks: Ranks | None,
    ) -> None:
        """End an epoch, with a row; all processes call it.

        Args:
            steps: Taken in all.
            learning_rate: Of the last step.
            seconds: That the epoch took.
            held_out: Score on what is held out, where something is.
            ranks: The processes that trained together.
        """
        loss, right, num_examples = gathered_sum(self._sums, ranks)
        row: dict[str, float] = {
            "epoch": len(self.rows) + 1,
            "steps": steps,
            "train_loss": loss / num_examples,
            "train_top1": right / num_examples,
            "learning_rate": learning_rate,
            "seconds": seconds,
        }
        if held_out is not None:
            row["held_out_top1"] = held_out
        self.rows.append(row)
        self._begin()

    # Any: numbers and rows of them, which a checkpoint keeps.
    def state(self, ranks: Ranks | None) -> dict[str, Any]:
        """Give what a checkpoint keeps; all processes call it."""
        sums = gathered_sum(self._sums, ranks)
        return {"rows": self.rows, "sums": sums, "seconds": self.seconds}

    def restore(self, state: Mapping[str, Any], ranks: Ranks | None) -> None:
        """Go on from what `state` gave; its sums were those of all processes."""
        self.rows = [dict(row) for row in state["rows"]]
        loss, right, num_examples = state["sums"]
        is_first = ranks is None or ranks.rank == 0
        self._sums = Taken(loss, right, int(num_examples)) if is_first else _NOTHING
        self._seconds_before, self._since = state["seconds"], time.perf_counter()


class Watch:
    """Tells whoever is watching what a training is at, and writes it into the log."""

    def __init__(
        self, measured: Callable[[Mapping[str, float]], None], log: EventFile | None
    ) -> None:
        """Begin to watch.

        Args:
            measured: Called now and then with "loss", "top1", "learning_rate" and
                "examples_per_second": of the steps since the last call, the rate of the last one.
            log: Gets the same, by step; None writes none.
        """
        self._measured = measured
        self._log = log
        self._has_spoken = False
        self._begin()

    def _begin(self) -> None:
        self._sums, self._num_global = _NOTHING, 0
        self._since = time.perf_counter()

    def add(self, taken: Taken, *, num_global: int, steps: int, learning_rate: float) -> None:
        """Count a step, and speak where it is the first or time to.

        Args:
            taken: What the step came to.
            num_global: Its examples, those of other processes included.
            steps: Steps so far.
            learning_rate: Of the step.
        """
        self._sums = self._sums.plus(taken)
        self._num_global += num_global
        seconds = time.perf_counter() - self._since
        is_early = seconds < _SECONDS_BETWEEN and self._has_spoken
        if is_early or self._sums.num_examples == 0:
            return
        self._has_spoken = True
        values = {
            "loss": self._sums.loss / self._sums.num_examples,
            "top1": self._sums.right / self._sums.num_examples,
            "learning_rate": learning_rate,
            "examples_per_second": self._num_global / seconds,
        }
        self._measured(values)
        if self._log is not None:
            self._log.add("step", values, steps=steps)
        self._begin()

    def end_epoch(self, row: Mapping[str, float], *, seconds_away: float) -> None:
        """Write an epoch's row into the log.

        Args:
            row: As `Curve` has it.
            seconds_away: That nothing was trained in, since the epoch's last step.
        """
        if self._log is not None:
            numbers = {name: value for name, value in row.items() if name not in _COUNTS}
            self._log.add("epoch", numbers, steps=int(row["steps"]))
        # Sums stay: an epoch may be over in less time than whoever is watching is told in.
        self._since += seconds_away

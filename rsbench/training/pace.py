"""When a training keeps its state: often enough that a kill costs little, and hardly ever in vain.

It is kept at the end of each epoch, but not where that would take a good part of the time, and as
often in between as whoever trains wants. It is also kept before a long score of what is held out,
in the middle of which a cluster would not wait.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CHEAP_SECONDS = 0.5
"""What is kept in less time is kept after every epoch, however short."""

_TIMES_AS_LONG = 20.0
"""What takes longer to keep is kept again after so many times as long: it takes a twentieth at
most. A ResNet-50 with momentum and average, 0.4 GB, takes 2 s, and an epoch of a thousand pictures
may be over in less."""

_LONG_SECONDS = 10.0
"""From here on a score is long, and so is what was trained and not kept before it: clusters wait
half a minute."""


class Pace:
    """What one process's clock says of keeping; where several train, the first one's counts."""

    def __init__(self, longest_seconds: float) -> None:
        """Begin with nothing to keep.

        Args:
            longest_seconds: That are trained and not kept, at least 0.
        """
        self._longest_seconds = longest_seconds
        self._saved_at = time.monotonic()
        self._save_seconds = 0.0
        self._score_seconds = math.inf

    @property
    def score_seconds(self) -> float:
        """That the last score took; infinite until there was one."""
        return self._score_seconds

    @property
    def _seconds_not_kept(self) -> float:
        return time.monotonic() - self._saved_at

    def is_due(self) -> bool:
        """Say whether to keep what there is, wherever the training is."""
        return self._seconds_not_kept >= self._longest_seconds

    def is_due_after_epoch(self) -> bool:
        """Say whether to keep what there is at the end of an epoch that is not the last."""
        worth = 0.0 if self._save_seconds < _CHEAP_SECONDS else _TIMES_AS_LONG * self._save_seconds
        return self._seconds_not_kept >= min(worth, self._longest_seconds)

    def is_due_before_score(self) -> bool:
        """Say whether to keep what there is before what is held out is scored."""
        return min(self._seconds_not_kept, self._score_seconds) >= _LONG_SECONDS

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Note what keeping takes, which is done in the block."""
        started = time.monotonic()
        yield
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - started

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Note what a score takes, which is done in the block."""
        started = time.monotonic()
        yield
        self._score_seconds = time.monotonic() - started

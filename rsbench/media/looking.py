"""What a transform looks at of a picture, so that a reader need not prepare the rest."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Look(NamedTuple):
    """What a transform looks at of a picture, in pixels of the upright one."""

    top: int
    left: int
    bottom: int
    """One behind the last row."""
    right: int
    """One behind the last column."""
    squares: tuple[tuple[int, int, int], ...] | None = None
    """Where it does nothing but cut squares out: top, left and side of each, in their order, as
    (V, S, S, 3) has them. Then whoever asks may cut them, and not call it."""


class Looking(Protocol):
    """A transform that says what it looks at, so that nothing else is converted."""

    def __call__(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.uint8 | np.float32]:
        """Transform a picture whose pixels are right where `look` says, and anything elsewhere."""

    def look(self, height: int, width: int) -> Look | None:
        """Say what of a picture of this size it looks at; None is all of it."""

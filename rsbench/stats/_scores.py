"""What all statistics ask of the scores they are given."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsbench.errors import DataError

_MAX_STEPS = 120
"""Means of hits over seeds are multiples of one over the seeds' number, and differences of two such
of one over the least common multiple of theirs."""
_TOLERANCE = 1e-9
"""Means of one value in another order differ in their last digits."""


def require_examples(n: int) -> None:
    """Refuse to make a number of nothing.

    Raises:
        DataError: There are no examples.
    """
    if n < 1:
        raise DataError("No examples, no score: at least one item must be evaluated, were 0.")


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Give values as float64 (N,).

    Raises:
        DataError: There are none, or one is not finite.
    """
    values_N = np.asarray(values, dtype=np.float64)
    assert values_N.ndim == 1
    require_examples(len(values_N))
    if not np.isfinite(values_N).all():
        row = int(np.flatnonzero(~np.isfinite(values_N))[0])
        raise DataError(f"Scores must be finite, but that of row {row} was {values_N[row]}.")
    return values_N


def as_steps(shares: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """Give shares of a whole as multiples of one step; None where no fairly large one fits.

    Args:
        shares: In [0, 1], of which one is 1.
    """
    for num_steps in range(1, _MAX_STEPS + 1):
        multiples = shares * num_steps
        if (np.abs(multiples - np.round(multiples)) < _TOLERANCE).all():
            return np.round(multiples).astype(np.int64)
    return None

"""What protocols do otherwise where an item may have several labels: its targets as numbers.

Each label is a question of its own, answered with a sigmoid; candidates are compared by mean
average precision, as the tasks' metric is.

Shape letters: N items, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def truth_of(targets: Sequence[Iterable[int]], *, num_classes: int) -> np.ndarray:
    """Say which item has which label: bool (N, K).

    Args:
        targets: Class indices of each item, in any order; none at all is a target too.
        num_classes: K.
    """
    import numpy as np

    truth_NK = np.zeros((len(targets), num_classes), dtype=bool)
    for row, labels in enumerate(targets):
        truth_NK[row, list(labels)] = True
    return truth_NK


def mean_average_precision(scores_NK: np.ndarray, truth_NK: np.ndarray) -> float:
    """Give the mean of the average precisions of the classes that some item has.

    Args:
        scores_NK: Rising with the probability of a class; comparable within a class only.
        truth_NK: Which item has which label.

    Raises:
        DataError: No item has any label.
    """
    from rsbench.metrics import MEAN_AVERAGE_PRECISION

    targets = [row.nonzero()[0].tolist() for row in truth_NK]
    return float(MEAN_AVERAGE_PRECISION.compute(targets, list(scores_NK)))

"""What a classifier must be given to learn from: finite numbers, and two classes at least.

Shape letters: N examples, D features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rsbench.errors import DataError, RsbenchError

_ROWS_PER_BLOCK = 8192


def check_examples(
    features_ND: npt.NDArray[np.floating], labels_N: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Hold examples to what every closed-form classifier needs.

    Args:
        features_ND: (N, D).
        labels_N: (N,) class indices, at least 0.

    Returns:
        The classes that have examples, rising.

    Raises:
        DataError: Fewer than two classes have examples.
        RsbenchError: A feature is not finite.
    """
    check_finite(features_ND)
    present = np.unique(labels_N).astype(np.int64)
    if len(present) < 2:
        raise DataError(
            "A classifier needs examples of at least two classes to train on; there are"
            f" {len(labels_N)} examples of {len(present)}: add data of other classes."
        )
    return present


def check_finite(features_ND: npt.NDArray[np.floating]) -> None:
    """Refuse features with NaN or infinity.

    Raises:
        RsbenchError: Some are not finite; says how many examples.
    """
    # In blocks, because the features of a large set may be a memory map.
    num_bad = sum(
        int((~np.isfinite(features_ND[start : start + _ROWS_PER_BLOCK]).all(axis=1)).sum())
        for start in range(0, len(features_ND), _ROWS_PER_BLOCK)
    )
    if num_bad:
        raise RsbenchError(
            f"Features must be finite; {num_bad} of {len(features_ND)} examples have NaN or"
            " infinity: look at the network's outputs, or run it in float32."
        )

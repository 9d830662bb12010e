"""What protocols of single-class tasks share: looking at all views, and averaging over them.

Shape letters: N items, V views, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rsbench.errors import RunError
from rsbench.specs import Failure, ItemSet, Model, Predictions, Reading, Settings

if TYPE_CHECKING:
    import numpy as np

    from rsbench.data.features import Extracted, Output


def look(
    model: Model, item_set: ItemSet, reading: Reading, settings: Settings, *, output: Output
) -> Extracted:
    """Run a frozen network over all views of a set's items.

    Raises:
        RunError: The outputs of an item that could be read are not finite; a worker died; the cache
            can't be written.
    """
    import numpy as np

    from rsbench.data.features import extract

    extracted = extract(model, item_set.pool, reading, settings, output=output, rows=item_set.rows)
    finite = np.isfinite(extracted.values).all(axis=(1, 2))
    bad = [int(place) for place in extracted.readable if not finite[place]]
    if bad:
        names = ", ".join(item_set.items[place].id for place in bad[:3])
        raise RunError(
            f"The network's {output} must be finite; they are NaN or infinite for {len(bad)} of"
            f" {len(item_set)} items: {names}{', ...' if len(bad) > 3 else ''}. Try --precision"
            " float32, or look at the weights."
        )
    return extracted


def average_views(
    probabilities_NVK: np.ndarray, item_set: ItemSet, *, failures: Mapping[int, str]
) -> Predictions:
    """Average probabilities over the views of each item, in float64.

    Args:
        probabilities_NVK: (N, V, K); rows of failed items are not looked at.
        item_set: The N items.
        failures: Reason by place in the set.

    Returns:
        float32 (K,) an item, None where it failed.
    """
    import numpy as np

    means_NK = probabilities_NVK.mean(axis=1, dtype=np.float64).astype(np.float32)
    return Predictions(
        values=tuple(
            None if place in failures else means_NK[place] for place in range(len(item_set))
        ),
        failures=named(failures, item_set),
    )


def named(failures: Mapping[int, str], item_set: ItemSet) -> tuple[Failure, ...]:
    """Name the items that failed, in the order of the set."""
    return tuple(
        Failure(id=item_set.items[place].id, reason=reason)
        for place, reason in sorted(failures.items())
    )

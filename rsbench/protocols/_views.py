"""What protocols of class tasks share: looking at all views, and averaging over them.

Shape letters: N items, V views, S tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rsbench.errors import RunError
from rsbench.specs import (
    Activation,
    Failure,
    Halves,
    ItemSet,
    MediaFacts,
    Model,
    Predictions,
    PredictRequest,
    Reading,
    Remark,
    Settings,
    TargetKind,
    ViewScores,
)

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
    # Item by item: tokens may lie on disk because they are larger than memory.
    finite_N = np.fromiter((np.isfinite(each).all() for each in extracted.values), dtype=bool)
    _refuse_unless_finite(item_set, extracted, finite_N, output)
    return extracted


def predict_views(
    model: Model,
    request: PredictRequest,
    *,
    output: Output,
    scores: Callable[[np.ndarray], np.ndarray],
    activation: Activation,
) -> Predictions:
    """Look at all views of the items to be predicted, keep their scores, and average over them.

    The predictions are derived from the scores as they are kept, in few bits
    (`rsbench.view_scores`, which says what that costs), so that the same average made of the kept
    scores later is the same to the last bit.

    Args:
        model: With a head where `output` is "logits".
        request: Which items, which views, whether every view's scores are kept.
        output: What the network gives of a view.
        scores: float32 (n, V, D) of that, or (n, V, S, D) tokens -> (n, V, K) log-probabilities, or
            log-odds for "sigmoid"; -inf is a class that can't be.
        activation: What makes probabilities of scores.

    Returns:
        float32 (K,) probabilities an item, None where it failed.

    Raises:
        RunError: The outputs of an item that could be read are not finite; a worker died; the cache
            can't be written.
        RsbenchError: Whatever `scores` raises.
    """
    import numpy as np

    from rsbench.data.features import extract
    from rsbench.view_scores import to_halves

    test = request.test
    kept = _Kept(activation, num_items=len(test), keep_views=request.settings.keep_views)
    finite_N = np.ones(len(test), dtype=bool)

    def take(places: Sequence[int], outputs_NVD: np.ndarray) -> None:
        finite_N[places] = np.isfinite(outputs_NVD).reshape(len(outputs_NVD), -1).all(axis=1)
        if finite_N[places].all():
            kept.put(places, to_halves(scores(outputs_NVD), activation))

    reading, settings = request.reading, request.settings
    extracted = extract(
        model, test.pool, reading, settings, output=output, rows=test.rows, take=take
    )
    _refuse_unless_finite(test, extracted, finite_N, output)
    views = kept.finished(num_views=extracted.values.shape[1], num_classes=len(test.classes))
    return Predictions(
        values=tuple(
            None if place in extracted.failures else views.mean_probabilities[place]
            for place in range(len(test))
        ),
        failures=named(extracted.failures, test),
        facts=extracted.facts,
        views=views,
    )


class _Kept:
    """Scores of views as they come: all of them, or their means alone."""

    def __init__(self, activation: Activation, *, num_items: int, keep_views: bool) -> None:
        self._activation = activation
        self._num_items = num_items
        self._keep_views = keep_views
        self._arrays: tuple[np.ndarray, ...] = ()
        """Halves: scores and offsets; else means: probabilities and scores."""

    def put(self, places: Sequence[int], halves: Halves) -> None:
        import numpy as np

        parts: tuple[np.ndarray, ...] = (
            (halves.scores, halves.offsets) if self._keep_views else self._means(halves)
        )
        if not self._arrays:
            self._arrays = tuple(
                np.full((self._num_items, *part.shape[1:]), np.nan, dtype=part.dtype)
                for part in parts
            )
        for array, part in zip(self._arrays, parts, strict=True):
            array[places] = part

    def finished(self, *, num_views: int, num_classes: int) -> ViewScores:
        """Give what was put; NaN of the given size where no item could be read."""
        import numpy as np

        from rsbench.view_scores import SCORE_TYPES

        if not self._arrays:
            shape = (self._num_items, num_views, num_classes)
            scores = np.full(shape, np.nan, dtype=SCORE_TYPES[self._activation])
            nothing = Halves(scores, np.full(shape[:2], np.nan, dtype=np.float32))
            self.put(range(self._num_items), nothing)
        first, second = self._arrays
        halves = Halves(first, second) if self._keep_views else None
        probabilities_NK, scores_NK = (first, second) if halves is None else self._means(halves)
        return ViewScores(
            activation=self._activation,
            halves=halves,
            mean_probabilities=probabilities_NK,
            mean_scores=scores_NK,
        )

    def _means(self, halves: Halves) -> tuple[np.ndarray, np.ndarray]:
        from rsbench.view_scores import average_views

        return (
            average_views(halves, self._activation, average="probability"),
            average_views(halves, self._activation, average="score"),
        )


def activation_of(target: TargetKind) -> Activation:
    """Say what makes probabilities of outputs: each label apart where an item may have several."""
    return "sigmoid" if target == "multilabel" else "softmax"


def named(failures: Mapping[int, str], item_set: ItemSet) -> tuple[Failure, ...]:
    """Name the items that failed, in the order of the set."""
    return tuple(
        Failure(id=item_set.items[place].id, reason=reason)
        for place, reason in sorted(failures.items())
    )


def remarked(facts: Sequence[MediaFacts | None], item_set: ItemSet) -> tuple[Remark, ...]:
    """Give what was remarked on the items of a set, in its order."""
    return tuple(
        Remark(id=item.id, reason=remark)
        for item, found in zip(item_set.items, facts, strict=True)
        if found is not None
        for remark in found.remarks
    )


def _refuse_unless_finite(
    item_set: ItemSet, extracted: Extracted, finite_N: np.ndarray, output: Output
) -> None:
    bad = [place for place in extracted.readable.tolist() if not finite_N[place]]
    if bad:
        names = ", ".join(item_set.items[place].id for place in bad[:3])
        raise RunError(
            f"The network's {output} must be finite; they are NaN or infinite for {len(bad)} of"
            f" {len(item_set)} items: {names}{', ...' if len(bad) > 3 else ''}. Try --precision"
            " float32, or look at the weights."
        )

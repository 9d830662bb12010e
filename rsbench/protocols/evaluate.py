"""`evaluate`: the weights' own classifier, nothing trained; softmax a view, mean over the views.

Version 2 averages the probabilities as they are kept, in half precision (`rsbench.view_scores`);
version 1 averaged single floats, so that a probability may differ by 1.4e-4.

The classes of the head are found by name, spaces and underscores alike. Where names are unknown on
one side, the number of classes must be the same and their order is taken on trust, which the record
says. A head that knows more classes than the task keeps its probabilities as they are: those of the
task's classes then add up to what the head leaves to them.

Where an item may have several labels, each output of the head answers for itself: the sigmoid takes
the place of the softmax, and the weights must have been trained so.

Shape letters: N items, V views, K classes of the task, H classes of the head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from rsbench.errors import WeightsError
from rsbench.protocols._views import activation_of, predict_views
from rsbench.specs import FitRequest, Fitted, Predictions, PredictRequest, Protocol

if TYPE_CHECKING:
    import numpy as np


def fit(request: FitRequest) -> Fitted:
    """Learn nothing; see to it that there is a head.

    Raises:
        WeightsError: The weights brought no classifier.
    """
    if request.model.head is None:
        raise WeightsError(
            "evaluate needs weights that bring a classifier, and these bring none (random weights"
            " never do): name others with --weights, or use --protocol linear_probe."
        )
    order = "matched by name" if request.model.head_classes else "unverified: the head has no names"
    return Fitted(chosen={"class_order": order})


def predict(request: PredictRequest) -> Predictions:
    """Give the head's probabilities of the task's classes, averaged over all views.

    Raises:
        WeightsError: The head does not know the task's classes.
        RunError: An output is not finite.
    """
    from rsbench.view_scores import log_softmax

    activation = activation_of(request.target)

    @cache
    def columns(num_outputs: int) -> np.ndarray:
        head, task = request.model.head_classes, request.test.classes
        return class_columns(head, task, num_outputs=num_outputs)

    def scores(logits_NVH: np.ndarray) -> np.ndarray:
        scores_NVH = log_softmax(logits_NVH) if activation == "softmax" else logits_NVH
        return scores_NVH[:, :, columns(logits_NVH.shape[2])]

    return predict_views(
        request.model, request, output="logits", scores=scores, activation=activation
    )


def class_columns(
    head_classes: Sequence[str], task_classes: Sequence[str], *, num_outputs: int
) -> np.ndarray:
    """Say which output of the head stands for each class of the task.

    Args:
        head_classes: H names in index order; empty where unknown.
        task_classes: K names in index order; empty where unknown.
        num_outputs: H.

    Returns:
        int64 (K,): a column of the head's output for each class.

    Raises:
        WeightsError: A class is missing from the head or is there twice, or names are unknown and
            the numbers of classes differ.
    """
    import numpy as np

    from rsbench.data.lists import normal_class_name

    head = [normal_class_name(name) for name in head_classes]
    task = [normal_class_name(name) for name in task_classes]
    if head and len(head) != num_outputs:
        raise WeightsError(
            f"The head gives {num_outputs} outputs and its weights name {len(head)} classes; the"
            " declared classes of these weights must be one an output."
        )
    if not head or not task or head == task:
        if task and len(task) != num_outputs:
            raise WeightsError(
                f"The head gives {num_outputs} classes without names and the task has {len(task)}:"
                " they can't be matched. Use weights trained on this task, or linear_probe."
            )
        return np.arange(num_outputs, dtype=np.int64)
    times = Counter(head)
    missing = [name for name, key in zip(task_classes, task, strict=True) if times[key] != 1]
    if missing:
        names = ", ".join(repr(name) for name in missing[:3])
        raise WeightsError(
            f"Each class of the task must be one class of the head; {len(missing)} of {len(task)}"
            f" are absent or there twice: {names}{', ...' if len(missing) > 3 else ''}."
            " Use weights trained on this task, or linear_probe."
        )
    place = {key: column for column, key in enumerate(head)}
    return np.array([place[key] for key in task], dtype=np.int64)


PROTOCOL = Protocol(
    name="evaluate",
    version=2,
    recipe={},
    targets=frozenset({"class", "multilabel"}),
    trains=False,
    selects_on="nothing",
    output="logits",
    fit=fit,
    predict=predict,
    title="The weights' own classifier, softmax averaged over views",
    citation="Views and averaging as in mmaction2's average_clips='prob'.",
)

"""Items that runs on different lists share, and whose right answers agree.

Videos vanish from where a data set's list points to, so that two laboratories never have the same
Kinetics. What both have can be compared all the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rsbench.errors import RecordError
from rsbench.records.predictions import read_targets
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file
from rsbench.specs import Labels
from rsbench.tables.pairing import Key


class Shared(NamedTuple):
    """What several runs have in common."""

    keys: tuple[Key, ...]
    """(fold, id) of items that all were judged on, with one right answer; sorted."""
    num_unlike: int
    """Items that all were judged on and whose right answers differ: left out."""


def shared_items(runs: Sequence[Stored]) -> Shared:
    """Find the items that all runs were judged on.

    Raises:
        RecordError: Predictions are missing, changed or damaged, the runs tell apart another number
            of classes, or a run did not keep what is right: names the file.
    """
    first = runs[0]
    answers: dict[Key, Hashable] = answers_of(first)
    unlike: set[Key] = set()
    for run in runs[1:]:
        if run.record.task.num_classes != first.record.task.num_classes:
            raise RecordError(
                f"{run.name}: its {run.record.task.num_classes} classes must be the "
                f"{first.record.task.num_classes} of {first.name} to be compared on shared items."
            )
        here = answers_of(run)
        answers = {key: answer for key, answer in answers.items() if key in here}
        unlike &= here.keys()
        unlike |= {key for key, answer in answers.items() if here[key] != answer}
    return Shared(tuple(sorted(answers.keys() - unlike)), len(unlike))


def answers_of(run: Stored) -> dict[Key, Hashable]:
    """Give what is right for each item of a run, in a form that tells equal answers.

    Raises:
        RecordError: Predictions are missing, changed or damaged, or did not keep it.
    """
    found = read_targets(read_file(run, PREDICTIONS_SUFFIX), where=f"{run.name} (predictions)")
    if any(target is None for target in found.targets):
        raise RecordError(
            f"{run.name}: its predictions must keep what is right for each item, and do not; "
            "run it again."
        )
    keys = zip(found.folds, found.ids, strict=True)
    comparable = _labels if run.record.task.target == "multilabel" else _comparable
    return {key: comparable(target) for key, target in zip(keys, found.targets, strict=True)}


def _labels(target: Iterable[int]) -> Hashable:
    """Give labels of an item in no order."""
    uncounted = target.uncounted if isinstance(target, Labels) else ()
    return frozenset(target), frozenset(uncounted)


def _comparable(target: Any) -> Hashable:  # noqa: ANN401 - anything a target may be
    if isinstance(target, np.ndarray):
        return ("array", target.dtype.str, target.shape, target.tobytes())
    if isinstance(target, np.generic):
        return _comparable(target.item())
    if isinstance(target, list | tuple):
        return ("list", *(_comparable(entry) for entry in target))
    if isinstance(target, set | frozenset):
        return frozenset(_comparable(entry) for entry in target)
    if isinstance(target, dict):
        return ("object", *((key, _comparable(target[key])) for key in sorted(target)))
    return (type(target).__name__, target)

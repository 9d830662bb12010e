"""What networks said of each item, read from predictions: which class, and whether it was right.

Only tasks of one class an item have a single right answer to be confused about; of those the scores
are reduced to the best class as soon as a file is read, so that a thousand records stay small.

Shape letters: N items, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rsbench.digests import digest_file
from rsbench.errors import RecordError
from rsbench.records.heads import FACTS
from rsbench.records.predictions import from_parquet
from rsbench.records.store import HEAD_SUFFIX, PREDICTIONS_SUFFIX, Stored, read_file
from rsbench.report.bounds import Bounds, Omissions
from rsbench.stats import wilson

FAILED = -1
"""Stands for a class where an item could not be read."""
_LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """What one run said of every item."""

    keys: tuple[tuple[str, str], ...]
    """(fold, id), sorted."""
    targets_N: NDArray[np.int64]
    answers_N: NDArray[np.int64]
    """The class with the highest score, the first of several; `FAILED` where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScore:
    """How one class was told, over all runs of a row."""

    place: int
    """Of the class, from 0 on."""
    n: int
    """Items of the class, each counted once a run."""
    num_right: int
    low: float
    high: float
    """Wilson's 95% interval of the share, over the items of a single run."""
    mistaken_for: int | None
    """The class it was most often taken for, the first of several; None where it never was."""
    num_mistaken: int

    @property
    def share(self) -> float:
        """Of the items that were told right."""
        return self.num_right / self.n


class PredictionReader:
    """Reads predictions within bounds; what it does not read, it says."""

    def __init__(self, bounds: Bounds, omissions: Omissions) -> None:
        self._bounds = bounds
        self._omissions = omissions
        self._num_read = 0

    def read(self, stored: Stored, reader: Callable[[Stored], _Read]) -> _Read | None:
        """Give what a reader makes of a run's predictions; None where they are not to be read.

        Args:
            stored: The run.
            reader: Such as `verdicts_of`.
        """
        record = stored.record
        if record.data.num_expected * record.task.num_classes > self._bounds.predicted_scores:
            self._omissions.say(
                f"{stored.name}: views by class and item, for more than "
                f"{self._bounds.predicted_scores:,} scores."
            )
            return None
        if self._num_read >= self._bounds.predicted_records:
            self._omissions.say(
                "Views by class and item are made of the predictions of the first "
                f"{self._bounds.predicted_records} records."
            )
            return None
        try:
            read = reader(stored)
        except RecordError as fault:
            self._omissions.say(f"No view by class and item: {fault}")
            return None
        self._num_read += 1
        return read


def verdicts_of(stored: Stored) -> Verdicts:
    """Read what a run said of each item of a task of one class an item.

    Raises:
        RecordError: The predictions are missing, changed, damaged, hold an item twice, or are not
            class scores; names the file.
    """
    where = f"{stored.name} (predictions)"
    table = from_parquet(read_file(stored, PREDICTIONS_SUFFIX), where=where)
    keys = list(zip(table.folds, table.ids, strict=True))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    if len(set(keys)) != len(keys):
        raise RecordError(f"{where}: an item stands twice.")
    num_classes = stored.record.task.num_classes
    answers, targets = [], []
    for row in order:
        scores_K, target = table.predictions[row], table.targets[row]
        if isinstance(target, bool) or not isinstance(target, int | np.integer):
            raise RecordError(f"{where}: a target must be the number of a class, was {target!r}.")
        if not 0 <= target < num_classes:
            raise RecordError(f"{where}: a target must be below {num_classes}, was {target}.")
        if scores_K is None:
            answers.append(FAILED)
        elif np.shape(scores_K) != (num_classes,) or not np.isfinite(scores_K).all():
            raise RecordError(f"{where}: a prediction must be {num_classes} finite class scores.")
        else:
            answers.append(int(np.argmax(scores_K)))
        targets.append(int(target))
    return Verdicts(
        keys=tuple(keys[row] for row in order),
        targets_N=np.array(targets, dtype=np.int64),
        answers_N=np.array(answers, dtype=np.int64),
    )


def class_names(stored: Stored, num_classes: int) -> tuple[str, ...]:
    """Give the names of the classes from the head beside a record, or their numbers.

    Numbers stand where a record has no head, and where the file is not the one that was written:
    a wrong name would be worse than none.
    """
    numbers = tuple(str(place) for place in range(num_classes))
    names = [name for name in stored.record.files if name.endswith(f".{HEAD_SUFFIX}")]
    if not names:
        return numbers
    path = stored.path.with_name(names[0])
    try:
        if digest_file(path) != stored.record.files[names[0]]:
            return numbers
        # Only the header is read: behind it may lie a whole network.
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
        classes = json.loads(header["__metadata__"][FACTS])["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return numbers
    if not isinstance(classes, list) or len(classes) != num_classes:
        return numbers
    return tuple(str(name) for name in classes)


def confusion_of(runs: Sequence[Verdicts], num_classes: int) -> NDArray[np.int64]:
    """Count how often each class was taken for each, over all runs.

    Returns:
        int64 (K, K + 1): a row a true class, a column an answer; the last one counts items that
        could not be read.
    """
    counts = np.zeros((num_classes, num_classes + 1), dtype=np.int64)
    for run in runs:
        answers_N = np.where(run.answers_N == FAILED, num_classes, run.answers_N)
        np.add.at(counts, (run.targets_N, answers_N), 1)
    return counts


def class_scores(counts: NDArray[np.int64], *, num_runs: int) -> tuple[ClassScore, ...]:
    """Say how each class was told that has items.

    Args:
        counts: What `confusion_of` gave.
        num_runs: Over how many runs; an item of several runs is one item to the interval.
    """
    scores = []
    for place, answers in enumerate(counts):
        n, num_right = int(answers.sum()), int(answers[place])
        if not n:
            continue
        wrong = answers[:-1].copy()
        wrong[place] = 0
        most = int(np.argmax(wrong))
        interval = wilson(num_right / num_runs, n // num_runs)
        scores.append(
            ClassScore(
                place=place,
                n=n,
                num_right=num_right,
                low=interval.low,
                high=interval.high,
                mistaken_for=most if wrong[most] else None,
                num_mistaken=int(wrong[most]),
            )
        )
    return tuple(scores)


def most_frequent_confusions(
    counts: NDArray[np.int64], limit: int
) -> tuple[tuple[int, int, int], ...]:
    """Give (true class, answer, how often) of the most frequent mistakes among readable items."""
    wrong = counts[:, :-1].copy()
    np.fill_diagonal(wrong, 0)
    # Equally frequent ones in the order of their classes.
    order = np.lexsort((np.arange(wrong.size), -wrong.ravel()))[:limit]
    width = wrong.shape[1]
    return tuple(
        (int(flat // width), int(flat % width), int(wrong.flat[flat]))
        for flat in order
        if wrong.flat[flat]
    )

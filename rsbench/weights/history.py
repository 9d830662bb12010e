"""What weights have learned, held against what a run tests.

A network that learned in one official split has seen most of what another split tests, and would
score nearly 100% there; so would one of a cross-validation in another fold. A fine-tuned file
therefore keeps a key of the content of every item that its network learned on, and the names of the
tasks and folds. Weights are refused

- where an item that the run tests has a key that they learned, whatever task and id it goes by; and
- where the task names its folds itself and they learned in another of them, or nobody knows in
  which: of published splits this holds for clips that were encoded anew, too.

Not caught are: copies of own data that were encoded or resized anew, another window of a file that
was learned, other clips of a group, files too old to say what they learned (a note says so), and
files that rsbench did not write. A linear probe leaves no history: the network never learned, and
what was put on top of it is not loaded as weights.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rsbench.digests import digest_json
from rsbench.errors import WeightsError
from rsbench.specs import Fold, Item, Task
from rsbench.weights.choosing import ChosenWeights

if TYPE_CHECKING:
    import numpy as np

DigestOf = Callable[["Path | np.ndarray"], str]
"""Gives the sha256 of a file, a folder or an array, or "unreadable: WHY"; for files remembered,
as by `rsbench.data.fingerprints.Fingerprints.digest`."""

_KEY_DIGITS = 16
"""Hexadecimal digits of a key: 8 bytes. Of 240,000 items learned and as many tested, two different
ones share a key with probability 3e-9."""


def item_key(item: Item, digest_of: DigestOf) -> int | None:
    """Name what an item holds, whatever it is called: the head of a sha256, below 2**64.

    Of an item that is part of a file, its window counts too. None where it can't be read.
    """
    content = digest_of(item.source)
    if not set(content) <= set(string.hexdigits):  # "unreadable: ..."
        return None
    if item.start_seconds is not None or item.end_seconds is not None:
        content = digest_json([content, item.start_seconds, item.end_seconds])
    return int(content[:_KEY_DIGITS], 16)


def item_keys(items: Iterable[Item], digest_of: DigestOf) -> frozenset[int]:
    """Give the keys of all items that can be read."""
    keys = (item_key(item, digest_of) for item in items)
    return frozenset(key for key in keys if key is not None)


def refuse_learned(
    weights: ChosenWeights,
    task: Task,
    *,
    task_name: str,
    folds: Sequence[Fold],
    tested: Mapping[str, Sequence[Item]],
    digest_of: DigestOf,
) -> None:
    """Refuse weights that learned on items which a run tests.

    Args:
        weights: What the run starts from.
        task: The task, fitted to its root.
        task_name: Of the task, with "@sample" where the sample stands in.
        folds: All folds of the task.
        tested: Fold name -> items, for each fold of the run.
        digest_of: Gives the content of items; not asked where no keys were learned.

    Raises:
        WeightsError: They did, or it is not known whether.
    """
    offered = tuple(fold.name for fold in folds)
    parted = [entry.partition(":") for entry in weights.trained_on]
    here = [fold for name, _, fold in parted if name == task_name]
    # Ids are those of the last task, and name nothing in another.
    ids = weights.learned_ids if parted and parted[-1][0] == task_name else frozenset()
    for fold, items in tested.items():
        if weights.learned:
            num_seen = sum(item_key(item, digest_of) in weights.learned for item in items)
        else:
            num_seen = sum(item.id in ids for item in items)
        if num_seen:
            raise _refusal(
                weights,
                f"{num_seen} of the {len(items)} items",
                task_name=task_name,
                fold=fold,
                learned_in=_blamed(here, offered, fold),
                offered=offered,
            )
    if callable(task.folds):
        # Of folds that rsbench makes, every data set has the same names: they say nothing.
        return
    if not weights.is_history_known and offered != ("",):
        raise WeightsError(
            f"Weights {weights.name} learned in a fold of a task that their file does not name, and"
            f" {task_name} has the folds {', '.join(offered)}: they may have seen what these test."
            " Put the record beside the file as the run left them, or fine-tune again."
        )
    for learned_in in here:
        if learned_in not in offered:
            names = ", ".join(filter(None, offered)) or "of today, which is one"
            raise WeightsError(
                f"Weights {weights.name} learned on {task_name}, and it is not known in which of"
                f" its folds {names}: they may have seen what these test. Name weights that did not"
                " learn on it, or fine-tune a network with --folds."
            )
        for fold in tested:
            if fold != learned_in:
                raise _refusal(
                    weights,
                    "most items",
                    task_name=task_name,
                    fold=fold,
                    learned_in=learned_in,
                    offered=offered,
                )


def _blamed(here: Sequence[str], offered: Sequence[str], fold: str) -> str | None:
    """Say in which fold of this task what a fold tests was learned; None where in another task."""
    if not here:
        return None
    return next((each for each in here if each != fold and each in offered), here[-1])


def _refusal(
    weights: ChosenWeights,
    share: str,
    *,
    task_name: str,
    fold: str,
    learned_in: str | None,
    offered: Sequence[str],
) -> WeightsError:
    """Make the refusal of weights that learned what a fold tests."""
    tests = f"{share} that {fold or task_name} tests"
    if learned_in:
        seen = f"learned in {learned_in} of {task_name} on {tests}"
    else:
        seen = f"learned on {tests}, in training on {', '.join(weights.trained_on)}"
    if learned_in is None:
        step = "Name weights that did not learn on these items."
    elif learned_in == fold or learned_in not in offered:
        step = "The data or its folds have changed since: fine-tune again."
    else:
        step = f"Run --folds {learned_in}, or fine-tune a network with --folds {fold}."
    return WeightsError(f"Weights {weights.name} {seen}: its score would be no measure. {step}")

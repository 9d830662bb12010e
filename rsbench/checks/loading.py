"""A task's splits as a check sees them: what loads, why the rest does not, what is tried of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsbench.data.roots import find_root
from rsbench.data.sample import sample_root
from rsbench.errors import RsbenchError
from rsbench.findings import explain
from rsbench.gathering import chosen_folds, folds_of
from rsbench.registry import Found
from rsbench.specs import Fold, Item, Split, Task

ITEMS_READ = 8
"""Items of each split that are read of real data; of a sample all are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A task on a root, with its folds and splits as found there."""

    task: Task
    root: Path
    is_sample: bool
    folds: tuple[Fold, ...]
    splits: Mapping[str, Split]
    """The splits that load."""
    faults: Mapping[str, str]
    """Why the others do not."""

    def items(self) -> Iterator[Item]:
        """Give the items of all splits."""
        for split in self.splits.values():
            yield from split.items

    def items_to_read(self) -> list[Item]:
        """Give all items of a sample, or a few of each split, evenly spaced."""
        chosen: list[Item] = []
        for split in self.splits.values():
            step = 1 if self.is_sample else max(len(split.items) // ITEMS_READ, 1)
            chosen += split.items[::step] if self.is_sample else split.items[::step][:ITEMS_READ]
        return list({item.id: item for item in chosen}.values())


def load(
    found: Found[Task], data: Path | None, cache_root: Path, *, folds: Sequence[str] = ()
) -> Loaded:
    """Load a task's sample, or the real data below a root.

    Raises:
        DataError: There is nothing at `data`.
        UnknownNameError: The task has no such fold.
    """
    if data is None:
        return load_from(found, sample_root(found.spec, cache_root), is_sample=True, folds=folds)
    given = find_root(found.spec, data)
    assert given is not None
    return load_from(found, given.path, is_sample=False, folds=folds)


def load_from(
    found: Found[Task], root: Path, *, is_sample: bool, folds: Sequence[str] = ()
) -> Loaded:
    """Load every split of the named folds, else of all; of real data, people often have one."""
    task = found.for_root(root) if found.for_root is not None else found.spec
    chosen = tuple(chosen_folds(task, folds_of(task, root), folds))
    splits: dict[str, Split] = {}
    faults: dict[str, str] = {}
    for name in dict.fromkeys(name for fold in chosen for name in split_names(fold)):
        try:
            splits[name] = task.load(root, name)
        except RsbenchError as error:
            faults[name] = str(error)
        except Exception as error:
            faults[name] = explain(error)
    return Loaded(
        task=task, root=root, is_sample=is_sample, folds=chosen, splits=splits, faults=faults
    )


def split_names(fold: Fold) -> list[str]:
    """Give the splits of a fold, train first."""
    return [name for name in (fold.train, fold.validation, fold.test) if name]


def target_of(task: Task, item: Item) -> Any:  # noqa: ANN401 - a task's own kind of target
    """Give an item's target, read from its file where it lies in one."""
    return item.target if task.read_target is None else task.read_target(item)


def class_indices(target: Any) -> Iterable[int]:  # noqa: ANN401 - a class index or several
    """Give the class indices of a target of kind "class" or "multilabel"."""
    return (target,) if isinstance(target, int) else target

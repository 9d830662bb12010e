"""A task's splits as found on disk, made into the sets that a protocol may see, and counted.

Test labels stop here: pools carry items without targets, a protocol is given the train targets, and
the test targets stay with the runner, which scores.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from rsbench.data.splits import limit_split, split_csv
from rsbench.digests import digest_bytes, digest_file, digest_lines
from rsbench.errors import DataError, UnknownNameError
from rsbench.records.knowledge import shared_data_notes
from rsbench.specs import Fold, Item, ItemSet, Labels, Split, Task


class Targets(Sequence[Any]):
    """Targets in item order; those that lie in files are read when they are asked for."""

    def __init__(self, items: Sequence[Item], task: Task) -> None:
        self._items = items
        self._read = task.read_target

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Any: ...  # noqa: ANN401 - a task's own kind of target
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """Give one target, or a list of them."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        item = self._items[index]
        return item.target if self._read is None else self._read(item)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldSets:
    """One train/test pairing, ready for a protocol."""

    name: str
    train: ItemSet | None
    validation: ItemSet | None
    test: ItemSet
    test_targets: Targets
    """The runner's alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """All folds of a task, with the counts and digests that the record and the ruler state."""

    folds: tuple[FoldSets, ...]
    classes: tuple[str, ...]
    split: str
    media: str
    num_official: int | None
    num_expected: int
    """Present, counted once for each fold that tests it, as official and missing ones are."""
    num_train: int
    missing: tuple[str, ...]
    """Ids, fold by fold: one that several folds test is there for each of them."""
    notes: tuple[str, ...]
    fingerprint: str
    train_fingerprint: str | None
    validation_fingerprint: str | None
    split_csv: str | None
    """The split itself, where rsbench made it and nobody published it."""


def gather(
    task: Task,
    root: Path,
    *,
    limit: int | None,
    trains: bool,
    folds: Sequence[str] = (),
    trained_on: Sequence[str] = (),
) -> Gathered:
    """Load what a run needs of a task.

    Args:
        task: The task, fitted to the root where it is one on own data.
        root: Its data.
        limit: A seeded, stratified subset of this many items of every split; None for all.
        trains: Whether the train (and validation) splits are needed.
        folds: Names of the folds to run; empty for all.
        trained_on: What the weights learned on; where that shares data with the task, a note says
            so.

    Raises:
        DataError: A split is empty, missing, or a class list differs between splits.
        UnknownNameError: The task has no such fold.
    """
    offered = folds_of(task, root)
    chosen = chosen_folds(task, offered, folds)
    made_here = callable(task.folds) and len(offered) > 1
    names = _split_names(chosen, trains=trains)
    if made_here:
        # What is saved says who was what in all folds: those not run now, too.
        names = list(dict.fromkeys((*names, *(fold.test for fold in offered))))
    splits = {name: _load(task, root, name, limit=limit) for name in names}
    classes = _common_classes(task, splits)
    test_names = [fold.test for fold in chosen]
    pools = {
        "test": _Pool([splits[name] for name in test_names]),
        "train": _Pool([splits[fold.train] for fold in chosen if trains and fold.train]),
        "validation": _Pool(
            [splits[fold.validation] for fold in chosen if trains and fold.validation]
        ),
    }
    sets = []
    for fold in chosen:
        if trains and fold.train is None:
            raise DataError(
                f"Task {task.name} has no train split to learn from; use a protocol that trains"
                " nothing, such as evaluate."
            )
        test = splits[fold.test]
        sets.append(
            FoldSets(
                name=fold.name,
                train=_set(task, pools["train"], splits.get(fold.train or ""), classes),
                validation=_set(
                    task, pools["validation"], splits.get(fold.validation or ""), classes
                )
                if trains
                else None,
                test=replace(_set_of(task, pools["test"], test, classes), targets=None),
                test_targets=Targets(test.items, task),
            )
        )
        _check_apart(task, sets[-1])
    tests = [splits[name] for name in test_names]
    trained = [splits[fold.train] for fold in chosen if trains and fold.train]
    validated = [splits[fold.validation] for fold in chosen if trains and fold.validation]
    officials = [split.num_official for split in tests]
    return Gathered(
        folds=tuple(sets),
        classes=classes,
        split=_split_in_words(chosen, offered),
        media="+".join(sorted({split.media for split in tests})),
        num_official=None if None in officials else sum(n for n in officials if n is not None),
        num_expected=sum(len(split.items) for split in tests),
        num_train=sum(len(split.items) for split in trained),
        missing=tuple(each for split in tests for each in split.missing),
        notes=tuple(
            dict.fromkeys(
                [
                    *(note for split in splits.values() for note in split.notes),
                    *(note for split in splits.values() for note in split.fold_notes),
                    *(note for fold in sets for note in _shared_groups(fold)),
                    *(note for split in tests for note in _unseen_labels(task, split)),
                    *_one_class(task, sets),
                    *shared_data_notes(trained_on, task.shares_data_with),
                ]
            )
        ),
        fingerprint=_fingerprint(tests, classes),
        train_fingerprint=_fingerprint(trained, classes) if trained else None,
        validation_fingerprint=_fingerprint(validated, classes) if validated else None,
        split_csv=split_csv(
            [(fold.name, "test", splits[fold.test]) for fold in offered], classes=classes
        )
        if made_here
        else None,
    )


def folds_of(task: Task, root: Path) -> tuple[Fold, ...]:
    """Give all train/test pairings of a task, as its data has them."""
    return task.folds(root) if callable(task.folds) else task.folds


def chosen_folds(task: Task, offered: Sequence[Fold], names: Sequence[str]) -> Sequence[Fold]:
    """Take the folds that were asked for, in the task's order; all where none was named.

    Raises:
        UnknownNameError: The task has no such fold.
    """
    known = [fold.name for fold in offered]
    for name in names:
        if known == [""]:
            raise UnknownNameError(
                f"Task {task.name} has one train/test pairing and no folds to choose from; leave"
                " --folds out."
            )
        if name not in known:
            raise UnknownNameError(
                f"Task {task.name} has no fold {name!r}; it has {', '.join(known)}."
            )
    return [fold for fold in offered if not names or fold.name in names]


def _split_in_words(chosen: Sequence[Fold], offered: Sequence[Fold]) -> str:
    """Name what is reported; more than three folds are counted if they are all there are."""
    if len(chosen) > 3 and len(chosen) == len(offered):
        return f"{len(chosen)} folds"
    return "+".join(fold.test for fold in chosen)


def _split_names(folds: Sequence[Fold], *, trains: bool) -> list[str]:
    names = [fold.test for fold in folds]
    if trains:
        names += [name for fold in folds for name in (fold.train, fold.validation) if name]
    return list(dict.fromkeys(names))


def _load(task: Task, root: Path, name: str, *, limit: int | None) -> Split:
    split = task.load(root, name)
    if not split.items:
        raise DataError(
            f"Split {name!r} of {task.name} is empty: no item of it is present below the data root"
            f" ({len(split.missing)} are listed and missing). {task.how_to_get}"
        )
    repeated = _first_repeated(item.id for item in split.items)
    if repeated is not None:
        raise DataError(f"Split {name!r} of {task.name} holds the item {repeated!r} twice.")
    _check_labels(task, split)
    return split if limit is None else limit_split(split, limit, seed=0)


def _check_labels(task: Task, split: Split) -> None:
    last = len(split.classes) - 1
    for item in split.items:
        if task.target == "class" and not _is_label(item.target, last):
            raise DataError(
                f"Item {item.id!r} of {task.name} has label {item.target!r}; it must be a class"
                f" index from 0 to {last}."
            )
        if task.target == "multilabel" and not (
            isinstance(item.target, tuple | list | set | frozenset)
            and all(_is_label(label, last) for label in item.target)
        ):
            raise DataError(
                f"Item {item.id!r} of {task.name} has labels {item.target!r}; they must be a tuple"
                f" of class indices from 0 to {last}."
            )


def _is_label(value: object, last: int) -> bool:
    return isinstance(value, numbers.Integral) and 0 <= int(value) <= last


def _first_repeated(ids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for each in ids:
        if each in seen:
            return each
        seen.add(each)
    return None


def _common_classes(task: Task, splits: dict[str, Split]) -> tuple[str, ...]:
    lists = {split.classes for split in splits.values()}
    if len(lists) > 1:
        raise DataError(
            f"The splits of {task.name} ({', '.join(splits)}) name different classes; all must"
            " share one ordered list."
        )
    return lists.pop()


class _Pool:
    """The distinct items of several splits, without targets, by id: folds index into it."""

    def __init__(self, splits: Sequence[Split]) -> None:
        distinct = {item.id: item for split in splits for item in split.items}
        self.items = tuple(replace(distinct[name], target=None) for name in sorted(distinct))
        self.rows = {item.id: row for row, item in enumerate(self.items)}


def _set(task: Task, pool: _Pool, split: Split | None, classes: tuple[str, ...]) -> ItemSet | None:
    return None if split is None else _set_of(task, pool, split, classes)


def _set_of(task: Task, pool: _Pool, split: Split, classes: tuple[str, ...]) -> ItemSet:
    return ItemSet(
        pool=pool.items,
        rows=tuple(pool.rows[item.id] for item in split.items),
        targets=Targets(split.items, task),
        classes=classes,
    )


def _check_apart(task: Task, sets: FoldSets) -> None:
    """Refuse a fold in which two of train, validation and test share an item.

    Its score would be inflated: nothing may be learned or selected on what is reported.
    """
    named = (("train", sets.train), ("validation", sets.validation), ("test", sets.test))
    for (first, one), (second, other) in itertools.combinations(named, 2):
        if one is None or other is None:
            continue
        seen = {item.id for item in one.items}
        both = next((item.id for item in other.items if item.id in seen), None)
        if both is not None:
            raise DataError(
                f"Item {both!r} of {task.name} is in {first} and in {second}; each must be in one"
                " of them."
            )


def _shared_groups(sets: FoldSets) -> Iterator[str]:
    """Say where a test shares groups with what was learned or selected on: an inflated score.

    A split that somebody published is run as it is; tasks whose splits keep groups whole refuse.
    """
    for what, other in (("train", sets.train), ("validation", sets.validation)):
        if other is None:
            continue
        groups = {item.group for item in other.items if item.group is not None}
        shared = [item.group for item in sets.test.items if item.group in groups]
        if shared:
            where = f"{sets.name}: " if sets.name else ""
            yield (
                f"{where}{len(shared)} of {len(sets.test)} test items are of groups that {what} has"
                f" too, e.g. {shared[0]!r}"
            )


def _one_class(task: Task, folds: Sequence[FoldSets]) -> Iterator[str]:
    """Say where training has nothing to tell apart; a probe will refuse it."""
    if task.target != "class":
        return
    alike = [
        fold
        for fold in folds
        if fold.train is not None and len({int(each) for each in fold.train.targets or ()}) == 1
    ]
    if alike:
        names = ", ".join(fold.name for fold in alike if fold.name)
        where = f"{names}: " if names else ""
        yield f"{where}all train items are of one class; a classifier needs two to learn from"


def _unseen_labels(task: Task, split: Split) -> Iterator[str]:
    """Say which classes an average precision has nothing to say of."""
    if task.target != "multilabel":
        return
    seen = {label for item in split.items for label in item.target}
    unseen = [name for index, name in enumerate(split.classes) if index not in seen]
    if unseen:
        yield (
            f"{len(unseen)} of {len(split.classes)} classes have no test item and are left out of"
            f" the mean: {', '.join(unseen[:3])}{', ...' if len(unseen) > 3 else ''}"
        )


def _fingerprint(splits: Sequence[Split], classes: Sequence[str]) -> str:
    """Digest ids and labels, fold by fold, with the ordered class names."""

    def lines() -> Iterator[str]:
        yield from (f"class\t{name}" for name in classes)
        for number, split in enumerate(splits):
            for item in sorted(split.items, key=lambda item: item.id):
                window = f"{item.start_seconds}\t{item.end_seconds}"
                yield f"{number}\t{item.id}\t{window}\t{_target_key(item.target)}"

    return digest_lines(lines())


def _target_key(target: object) -> str:
    """Give a text that is equal exactly for targets of equal content, in any process."""
    if isinstance(target, np.ndarray):
        shape = "x".join(map(str, target.shape))
        return (
            f"array {target.dtype} {shape} {digest_bytes(np.ascontiguousarray(target).tobytes())}"
        )
    if isinstance(target, Path):
        return f"file {_digest_of_target(target)}"
    if isinstance(target, np.generic):
        return _target_key(target.item())
    if isinstance(target, Labels) and target.uncounted:
        return f"{_target_key(tuple(target))} without {_target_key(target.uncounted)}"
    if isinstance(target, tuple | list):
        return f"({', '.join(map(_target_key, target))})"
    if isinstance(target, set | frozenset):
        return f"{{{', '.join(sorted(map(_target_key, target)))}}}"
    if isinstance(target, Mapping):
        pairs = (f"{_target_key(key)}: {_target_key(target[key])}" for key in target)
        return f"{{{', '.join(sorted(pairs))}}}"
    if target is None or isinstance(target, str | int | float):
        return repr(target)
    raise DataError(
        "A target must be text, a number, an array, the path of a file, or tuples and mappings of"
        f" them; it was a {type(target).__name__}."
    )


def _digest_of_target(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise DataError(
            f"The target file {path} must be readable: {error.strerror}; get it, or leave its item"
            " out of the split as missing."
        ) from error

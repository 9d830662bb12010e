"""What own data in class folders and own data in a CSV share: splits, folds, and the task's terms.

Splits that are given are obeyed: test is reported (validation where there is no test), validation
is for selection where both exist. Without splits, five folds keep the classes balanced and groups
whole; every item is then tested once, and the score is computed over all of them.

Own videos are read as one centre clip of 16 frames x stride 2, about a second at 30 frames a
second: own clips are often short, and a longer span would have to be looped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rsbench.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from rsbench.data.splits import FoldPlan, stratified_folds
from rsbench.errors import DataError
from rsbench.metrics import MEAN_PER_CLASS, TOP1
from rsbench.specs import ClipSpec, Fold, Item, Sample, Split, Task

Kind = Literal["image", "video"]

NUM_FOLDS = 5
"""Folds of data without splits."""

SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits, in lower case."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnItem:
    """One listed item, present or not."""

    id: str
    source: Path | None
    """None where the list names a file that is not there."""
    label: str
    split: str | None = None
    """"train", "validation" or "test"; None where no splits are given."""
    group: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnData:
    """All of a user's data, before it is split."""

    name: str
    """What the user would recognise it by: a folder or file name."""
    kind: Kind
    items: tuple[OwnItem, ...]
    """Sorted by id."""
    media: str = "original"
    """Form of the media, see `rsbench.data.prepared`."""
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return tuple(sorted({item.label for item in self.items}))

    @property
    def splits(self) -> frozenset[str]:
        """Names of the splits given; empty where none are."""
        return frozenset(item.split for item in self.items if item.split is not None)


def kind_of(names: Sequence[str], *, of: str) -> Kind:
    """Tell whether files are all images or all videos, by their endings.

    Raises:
        DataError: There are both, or none.
    """
    images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
    if images and videos:
        raise DataError(
            f"{of} must hold images or videos, it holds both: {len(images)} images such as "
            f"{images[0]!r}, {len(videos)} videos such as {videos[0]!r}; put one kind elsewhere"
        )
    if not images and not videos:
        raise DataError(
            f"{of} must hold images (.jpg, .png, ...) or videos (.mp4, ...), it has none"
        )
    return "image" if images else "video"


def own_task(
    name: str,
    *,
    read: Callable[[Path], OwnData],
    kind: Kind,
    sample: Sample,
    layouts: tuple[str, ...],
    title: str,
    how_to_get: str,
) -> Task:
    """Make the task of own data of one kind.

    Args:
        name: "folder" or "csv".
        read: Lists the data at a root.
        kind: Of the items.
        sample: The task's sample.
        layouts: On-disk layouts `read` reads.
        title: A line for people.
        how_to_get: The layout looked for.

    Returns:
        A task that reports top-1 and the mean per class, and that needs data.
    """
    return Task(
        name=name,
        version=1,
        modality=kind,
        target="class",
        metrics=(TOP1, MEAN_PER_CLASS),
        load=functools.partial(_load, read),
        folds=functools.partial(_folds, read),
        fold_average="pooled",
        sample=sample,
        clip=ClipSpec(frames=16, stride=2) if kind == "video" else None,
        without_data="error",
        layouts=layouts,
        how_to_get=how_to_get,
        title=title,
        licence="the user's own",
        citation="",
    )


def _folds(read: Callable[[Path], OwnData], root: Path) -> tuple[Fold, ...]:
    data = read(root)
    splits = data.splits
    if not splits:
        return tuple(
            Fold(train=f"{name}:train", test=f"{name}:test", name=name) for name in _fold_names()
        )
    if splits == {"train"}:
        raise DataError(
            f"{data.name} gives a train split and nothing to test on; add a test or validation "
            "split, or give no split for five-fold cross-validation"
        )
    train = "train" if "train" in splits else None
    if "test" not in splits:
        return (Fold(train=train, test="validation"),)
    return (
        Fold(
            train=train,
            test="test",
            validation="validation" if "validation" in splits else None,
        ),
    )


def _load(read: Callable[[Path], OwnData], root: Path, split: str) -> Split:
    data = read(root)
    if data.splits:
        if split not in data.splits:
            raise DataError(
                f"{data.name} has the splits {', '.join(sorted(data.splits))}, not {split!r}; "
                "name one"
            )
        chosen = [item for item in data.items if item.split == split]
        return _as_split(data, chosen, name=split, fold_notes=_leaks(data))
    names = [f"{fold}:{role}" for fold in _fold_names() for role in ("train", "test")]
    if split not in names:
        raise DataError(
            f"{data.name} has no splits of its own and {NUM_FOLDS} folds: {names[0]}, {names[1]} "
            f"... {names[-1]}, not {split!r}; name one"
        )
    plan = _plan(data)
    fold, role = split.split(":")
    tested = [index == _fold_names().index(fold) for index in plan.fold_of]
    chosen = [
        item
        for item, is_tested in zip(data.items, tested, strict=True)
        if is_tested == (role == "test")
    ]
    notes = list(plan.notes)
    if any(item.group is None for item in data.items):
        notes.append(
            "folds made without groups: if items of one person, place or source video lie on both "
            "sides, the score is too high"
        )
    return _as_split(data, chosen, name=split, fold_notes=notes)


def _plan(data: OwnData) -> FoldPlan:
    """Cut all listed items into folds, present or not: one that goes missing moves no other."""
    classes = data.classes
    groups = [item.group for item in data.items]
    named = [group for group in groups if group is not None]
    return stratified_folds(
        [classes.index(item.label) for item in data.items],
        named if len(named) == len(groups) else None,
        names=classes,
        num_folds=NUM_FOLDS,
    )


def _as_split(
    data: OwnData, chosen: Sequence[OwnItem], *, name: str, fold_notes: Sequence[str]
) -> Split:
    index_of = {label: index for index, label in enumerate(data.classes)}
    items = tuple(
        Item(
            id=each.id,
            source=each.source,
            target=index_of[each.label],
            start_seconds=each.start_seconds,
            end_seconds=each.end_seconds,
            group=each.group,
        )
        for each in chosen
        if each.source is not None
    )
    missing = tuple(each.id for each in chosen if each.source is None)
    if not items:
        why = f"none of its {len(missing)} files is there" if missing else "it names no item"
        raise DataError(f"{name} of {data.name} is empty: {why}; check the paths")
    return Split(
        items=items,
        classes=data.classes,
        num_official=len(chosen),
        missing=missing,
        media=data.media,
        notes=data.notes,
        fold_notes=tuple(fold_notes),
    )


def _leaks(data: OwnData) -> list[str]:
    """Name groups and classes that the given splits treat badly."""
    splits_of_group: dict[str, set[str]] = {}
    labels_of_split: dict[str, set[str]] = {}
    for item in data.items:
        assert item.split is not None
        labels_of_split.setdefault(item.split, set()).add(item.label)
        if item.group is not None:
            splits_of_group.setdefault(item.group, set()).add(item.split)
    shared = sorted(group for group, splits in splits_of_group.items() if len(splits) > 1)
    notes = []
    if shared:
        notes.append(
            f"{len(shared)} groups lie in several of the given splits, e.g. {shared[0]!r}: the "
            "score may be too high"
        )
    trained = labels_of_split.get("train")
    if trained is not None:
        untrained = sorted(set(data.classes) - trained)
        if untrained:
            notes.append(f"{len(untrained)} classes have no train item, e.g. {untrained[0]!r}")
    return notes


def _fold_names() -> list[str]:
    return [f"fold{number}" for number in range(1, NUM_FOLDS + 1)]

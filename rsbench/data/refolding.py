"""Other folds than a task's own: K stratified ones, or each group left out in its turn.

All items of the task's splits, train, validation and test alike, are put together, and every one is
tested once; metrics are computed over all of them. It answers another question than the official
split does, so it is part of the ruler. Small sets whose authors ask for it need it: UT-Interaction
is tested by leaving each of its ten sequences out (Ryoo and Aggarwal 2010).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rsbench.data.splits import FoldPlan, group_folds, stratified_folds
from rsbench.errors import DataError, RsbenchError
from rsbench.specs import Fold, Item, Split, Task

Folding = int | Literal["groups"]
"""A number of stratified folds, groups kept whole; or one fold a group."""


def folding_of(text: str) -> Folding:
    """Read the word after --cross-validate.

    Raises:
        RsbenchError: It is neither a whole number from 2 on nor "groups".
    """
    if text == "groups":
        return "groups"
    if text.isascii() and text.isdecimal() and int(text) >= 2:
        return int(text)
    raise RsbenchError(
        f"--cross-validate must be a number of folds from 2 on, or the word groups; it was"
        f" {text!r}."
    )


def regrouped(task: Task, pattern: str) -> Task:
    """Give the task with groups that are read off the ids.

    Args:
        task: Its own groups are forgotten.
        pattern: Regular expression, searched for in each id; what its parentheses hold is the
            group, joined by "/", or all that it matched where it has none.

    Raises:
        RsbenchError: The pattern is no regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise RsbenchError(
            f"--group-by must be a regular expression; {pattern!r} is none: {error}."
        ) from error

    def load(root: Path, name: str) -> Split:
        split = task.load(root, name)
        items = tuple(replace(item, group=_group_of(item, compiled, task)) for item in split.items)
        return replace(split, items=items)

    return replace(task, load=load)


def _group_of(item: Item, pattern: re.Pattern[str], task: Task) -> str:
    match = pattern.search(item.id)
    if match is None:
        raise DataError(
            f"--group-by must match every id of {task.name}, and {pattern.pattern!r} does not match"
            f" {item.id!r}."
        )
    group = "/".join(part or "" for part in match.groups()) if match.groups() else match[0]
    if not group.strip("/"):
        raise DataError(
            f"--group-by must find a group in every id of {task.name}, and {pattern.pattern!r}"
            f" finds nothing in {item.id!r}."
        )
    return group


def refolded(task: Task, root: Path, folding: Folding, *, own_folds: Sequence[Fold]) -> Task:
    """Give the task with other folds, made of all its items as they lie at a root.

    Args:
        task: With the groups that are to be kept whole.
        root: Its data.
        folding: Which folds.
        own_folds: The task's own, as its data has them.

    Returns:
        A task whose folds and splits are those made here; its metrics are computed over all items.

    Raises:
        DataError: There are too few items or groups, items without a group where groups are left
            out, or the splits contradict each other.
    """
    whole = _whole(task, root, own_folds)
    plan, names = _planned(whole, folding, task)
    splits: dict[str, Split] = {}
    for number, name in enumerate(names):
        is_tested = [fold == number for fold in plan.fold_of]
        parts = {
            "train": (tuple(_at(whole.items, is_tested, wanted=False)), ()),
            # Nobody knows the class of what is missing: it is dealt round, so that it is counted.
            "test": (
                tuple(_at(whole.items, is_tested, wanted=True)),
                whole.missing[number :: len(names)],
            ),
        }
        for role, (items, missing) in parts.items():
            splits[f"{name}:{role}"] = replace(
                whole,
                items=items,
                missing=missing,
                num_official=None if whole.num_official is None else len(items) + len(missing),
                fold_notes=plan.notes,
            )
    folds = tuple(Fold(train=f"{name}:train", test=f"{name}:test", name=name) for name in names)
    return replace(
        task,
        load=lambda root, name: splits[name],
        folds=lambda root: folds,
        fold_average="pooled",
    )


def _at(items: Sequence[Item], flags: Sequence[bool], *, wanted: bool) -> list[Item]:
    return [item for item, flag in zip(items, flags, strict=True) if flag == wanted]


def _whole(task: Task, root: Path, own_folds: Sequence[Fold]) -> Split:
    """Put all splits together: each item once, by id."""
    names = dict.fromkeys(
        name for fold in own_folds for name in (fold.train, fold.validation, fold.test) if name
    )
    splits = [task.load(root, name) for name in names]
    if len({split.classes for split in splits}) > 1:
        raise DataError(
            f"The splits of {task.name} ({', '.join(names)}) name different classes; all must share"
            " one ordered list."
        )
    items: dict[str, Item] = {}
    for item in (item for split in splits for item in split.items):
        first = items.setdefault(item.id, item)
        if task.target == "class" and first.target != item.target:
            raise DataError(
                f"Item {item.id!r} of {task.name} has another class in another split; it must have"
                " one to be cross-validated."
            )
    missing = dict.fromkeys(each for split in splits for each in split.missing)
    is_published = all(split.num_official is not None for split in splits)
    absent = tuple(each for each in missing if each not in items)
    return Split(
        items=tuple(items[each] for each in sorted(items)),
        classes=splits[0].classes,
        num_official=len(items) + len(absent) if is_published else None,
        missing=absent,
        media="+".join(sorted({split.media for split in splits})),
        notes=tuple(dict.fromkeys(note for split in splits for note in split.notes)),
    )


def _planned(whole: Split, folding: Folding, task: Task) -> tuple[FoldPlan, list[str]]:
    """Say which fold tests each item, and what the folds are called."""
    targets = [item.target for item in whole.items]
    names = whole.classes if task.target == "class" else ()
    alone = [item.id for item in whole.items if item.group is None]
    if folding == "groups":
        if alone:
            raise DataError(
                f"--cross-validate groups needs a group of every item, and {len(alone)} of"
                f" {len(whole.items)} of {task.name} have none, e.g. {alone[0]!r}; take groups from"
                " the ids with --group-by REGEX, or give a number of folds."
            )
        groups = [str(item.group) for item in whole.items]
        plan = group_folds(targets, groups, names=names)
        return plan, _fold_names(sorted(set(groups)))
    grouped = None
    if len(alone) < len(whole.items):
        grouped = [item.group or f"item {item.id}" for item in whole.items]
    plan = stratified_folds(targets, grouped, names=names, num_folds=folding)
    if alone:
        note = (
            f"{len(alone)} of {len(whole.items)} items have no group: if some of one person, place"
            " or source video lie on both sides of a fold, the score is too high"
        )
        plan = plan._replace(notes=(*plan.notes, note))
    return plan, [f"fold{number}" for number in range(1, folding + 1)]


def _fold_names(groups: Sequence[str]) -> list[str]:
    """Name folds by the group each tests, in letters that files and options take."""
    plain = [
        re.sub(r"[^\w.-]+", "_", group, flags=re.ASCII).strip("._-") or "group" for group in groups
    ]
    # Groups whose names are file names keep them, whatever others would be called.
    taken = {name for name, group in zip(plain, groups, strict=True) if name == group}
    names = []
    for name, group in zip(plain, groups, strict=True):
        chosen, number = name, 1
        while chosen in taken and name != group:
            number += 1
            chosen = f"{name}-{number}"
        taken.add(chosen)
        names.append(chosen)
    return names

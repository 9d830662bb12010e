"""Folds, hold-outs and limits: which items train, which select, which are reported.

All of it is a function of ids, labels, groups and a seed. Targets that are class indices (or any
str or int) are balanced; other targets (sets, boxes, masks) count as one class. Nothing here is
left to a library: a split must not change with its version.
"""

from __future__ import annotations

import csv
import hashlib
import io
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rsbench.errors import DataError
from rsbench.specs import Split


class FoldPlan(NamedTuple):
    """Which fold tests each item."""

    fold_of: tuple[int, ...]
    """Fold from 0 on in which the item of each row is tested."""
    notes: tuple[str, ...]
    """What a reader of the pooled score must know."""


class HeldOut(NamedTuple):
    """Rows of a set in two parts, each in ascending order."""

    kept: tuple[int, ...]
    held: tuple[int, ...]


def stratified_folds(
    targets: Sequence[Any],
    groups: Sequence[str] | None,
    *,
    names: Sequence[str] = (),
    num_folds: int = 5,
    seed: int = 0,
) -> FoldPlan:
    """Cut items into folds that keep the classes balanced, and groups whole.

    Args:
        targets: (N,) class indices.
        groups: (N,) what must not be split over folds, or None.
        names: Class names, for messages.
        num_folds: At least 2.
        seed: Of the shuffle.

    Returns:
        The fold of each row. A class with fewer items (or groups) than folds is left out of the
        test of some folds; the notes name it.

    Raises:
        DataError: There are fewer items (or groups) than folds, or a class has one only, which
            would have to be tested without having been trained.
    """
    what = "items" if groups is None else "groups"
    units = range(len(targets)) if groups is None else groups
    if len(set(units)) < num_folds:
        raise DataError(
            f"{num_folds} folds need at least {num_folds} {what}, there are {len(set(units))}; "
            "add data, or give a train/test split"
        )
    strata = _strata(targets)
    units_of: defaultdict[Any, set[Any]] = defaultdict(set)
    for stratum, unit in zip(strata, units, strict=True):
        units_of[stratum].add(unit)
    few = sorted((key for key in units_of if len(units_of[key]) < num_folds), key=str)
    for key in few:
        if len(units_of[key]) < 2:
            raise DataError(
                f"class {_name_of(key, names)!r} must have at least 2 {what} for cross-validation, "
                f"it has 1; add {what}, drop the class, or give a train/test split"
            )
    counts = {_name_of(key, names): len(units_of[key]) for key in few}
    notes = list(_few_in_words(counts, what=what, num_folds=num_folds))
    if groups is None:
        fold_of = _deal(strata, num_folds=num_folds, seed=seed)
    else:
        fold_of = _deal_groups(strata, groups, num_folds=num_folds, seed=seed)
    notes += _untrained(strata, fold_of, names=names)
    return FoldPlan(fold_of=fold_of, notes=tuple(notes))


def group_folds(
    targets: Sequence[Any], groups: Sequence[str], *, names: Sequence[str] = ()
) -> FoldPlan:
    """Leave each group out in its turn.

    Args:
        targets: (N,) class indices.
        groups: (N,) the group of each item.
        names: Class names, for messages.

    Returns:
        The fold of each row: the place of its group among all groups, sorted. The notes name
        classes that one group alone has.

    Raises:
        DataError: There are fewer than two groups.
    """
    places = {group: place for place, group in enumerate(sorted(set(groups)))}
    if len(places) < 2:
        raise DataError(
            f"leaving one group out needs at least 2 groups, there is {len(places)}; take other"
            " groups, or give a number of folds"
        )
    fold_of = tuple(places[group] for group in groups)
    return FoldPlan(
        fold_of=fold_of, notes=tuple(_untrained(_strata(targets), fold_of, names=names))
    )


def hold_out(
    targets: Sequence[Any],
    groups: Sequence[str | None] | None,
    *,
    share: float,
    seed: int = 0,
) -> HeldOut:
    """Hold part of a set out, balanced over classes, groups whole.

    A class with at least two groups (or items) has at least one held and one kept, where the other
    classes of its groups allow it.

    Args:
        targets: (N,) class indices.
        groups: (N,) what must stay together; None, or None for an item, stands alone.
        share: Part to hold out, above 0 and below 1, counted in items of each class.
        seed: Of the choice.

    Returns:
        The rows kept and held. The held part is empty only if no class has two groups.
    """
    assert 0 < share < 1, "a share is a part of the whole"
    strata = _strata(targets)
    members = _members(groups, len(targets))
    order = list(members)
    random.Random(seed).shuffle(order)
    totals = Counter(strata)
    wanted = {key: max(1, round(share * total)) for key, total in totals.items()}
    held_of: Counter[Any] = Counter()
    held: set[int] = set()

    def take(rows: Sequence[int]) -> None:
        held.update(rows)
        held_of.update(strata[row] for row in rows)

    for unit in order:
        counts = Counter(strata[row] for row in members[unit])
        if all(
            held_of[key] + count <= min(wanted[key], totals[key] - 1)
            for key, count in counts.items()
        ):
            take(members[unit])
    for key in sorted(totals, key=str):
        if held_of[key] == 0:
            candidates = [
                members[unit]
                for unit in order
                if any(strata[row] == key for row in members[unit])
                and _leaves_some(members[unit], strata, held_of, totals)
            ]
            if candidates:
                take(min(candidates, key=len))
    kept = tuple(row for row in range(len(targets)) if row not in held)
    if groups is not None:
        shared = {groups[row] for row in kept} & {groups[row] for row in held} - {None}
        assert not shared, "a group is held out whole: its clips would tell each other's classes"
    return HeldOut(kept=kept, held=tuple(sorted(held)))


def limit_split(split: Split, limit: int, seed: int = 0) -> Split:
    """Keep at most `limit` items of a split, balanced over classes, in their order.

    A smaller limit keeps a subset of what a larger one keeps, and an item's rank hangs on its id
    and the seed alone, on any machine.

    Args:
        split: What to take from.
        limit: Number of items to keep, at least 1.
        seed: Of the choice.

    Returns:
        The split unchanged if it is no longer than the limit; else the subset, with a note.

    Raises:
        DataError: The limit is below 1.
    """
    if limit < 1:
        raise DataError(f"a limit must be at least 1 item, got {limit}; leave it out to use all")
    if limit >= len(split.items):
        return split
    strata = _strata([item.target for item in split.items])
    totals = Counter(strata)
    digests = [_rank(seed, item.id) for item in split.items]
    seen: Counter[Any] = Counter()
    places: list[tuple[float, str, int]] = []
    for row in sorted(range(len(strata)), key=lambda row: digests[row]):
        stratum = strata[row]
        place = (seen[stratum] + 0.5) / totals[stratum]
        seen[stratum] += 1
        places.append((place, digests[row], row))
    rows = sorted(row for _, _, row in sorted(places)[:limit])
    note = f"limited to {limit} of {len(split.items)} items (seed {seed})"
    return replace(split, items=tuple(split.items[row] for row in rows), notes=(*split.notes, note))


def split_csv(parts: Iterable[tuple[str, str, Split]], *, classes: Sequence[str]) -> str:
    """Write down who was what: CSV with the header id,label,fold,role, one line an item and role.

    Args:
        parts: (fold name, role, split) each; the fold name is empty for a task with one fold, the
            role is "train", "validation" or "test".
        classes: Class names in index order; empty where targets are no classes.

    Returns:
        The text, ended by a newline. The label is the class name, empty for other targets.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("id", "label", "fold", "role"))
    for fold, role, split in parts:
        for item in split.items:
            label = classes[item.target] if isinstance(item.target, int) and classes else ""
            writer.writerow((item.id, label, fold, role))
    return stream.getvalue()


def _strata(targets: Sequence[Any]) -> list[Any]:
    if all(isinstance(target, int | str) for target in targets):
        return list(targets)
    return [0] * len(targets)


def _members(groups: Sequence[str | None] | None, num_items: int) -> dict[Any, list[int]]:
    """Give the rows of each group; an item without group is one by itself."""
    members: dict[Any, list[int]] = {}
    for row in range(num_items):
        group = groups[row] if groups is not None else None
        members.setdefault(row if group is None else ("group", group), []).append(row)
    return members


def _leaves_some(
    rows: Sequence[int], strata: Sequence[Any], held_of: Counter[Any], totals: Counter[Any]
) -> bool:
    counts = Counter(strata[row] for row in rows)
    return all(held_of[key] + count < totals[key] for key, count in counts.items())


def _deal(strata: Sequence[Any], *, num_folds: int, seed: int) -> tuple[int, ...]:
    """Deal the shuffled items of one class after another round the folds."""
    shuffled = list(range(len(strata)))
    random.Random(seed).shuffle(shuffled)
    shuffled.sort(key=lambda row: str(strata[row]))
    fold_of = [0] * len(strata)
    for place, row in enumerate(shuffled):
        fold_of[row] = place % num_folds
    return tuple(fold_of)


def _deal_groups(
    strata: Sequence[Any], groups: Sequence[str], *, num_folds: int, seed: int
) -> tuple[int, ...]:
    """Give each group, large ones first, to the fold whose class shares it unbalances least."""
    members = _members(groups, len(strata))
    order = list(members)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda unit: -len(members[unit]))
    totals = Counter(strata)
    held: list[Counter[Any]] = [Counter() for _ in range(num_folds)]
    fold_of = [0] * len(strata)

    for unit in order:
        counts = Counter(strata[row] for row in members[unit])

        def unbalance(fold: int, counts: Counter[Any] = counts) -> tuple[float, int]:
            squares = (
                ((held[fold][key] + count) ** 2 - held[fold][key] ** 2) / totals[key] ** 2
                for key, count in counts.items()
            )
            return round(sum(squares), 12), held[fold].total()

        best = min(range(num_folds), key=unbalance)
        held[best].update(counts)
        for row in members[unit]:
            fold_of[row] = best
    return tuple(fold_of)


def _untrained(strata: Sequence[Any], fold_of: Sequence[int], *, names: Sequence[str]) -> list[str]:
    """Name classes that lie in one fold only: tested there without having been trained."""
    folds_of: defaultdict[Any, set[int]] = defaultdict(set)
    for stratum, fold in zip(strata, fold_of, strict=True):
        folds_of[stratum].add(fold)
    alone = [
        repr(_name_of(key, names)) for key in sorted(folds_of, key=str) if len(folds_of[key]) == 1
    ]
    if not alone:
        return []
    if len(alone) == 1:
        return [f"class {alone[0]} lies in one fold only: it is tested untrained"]
    return [f"{len(alone)} classes lie in one fold only and are tested untrained: {_some(alone)}"]


def _few_in_words(counts: Mapping[str, int], *, what: str, num_folds: int) -> Iterator[str]:
    """Say in one line which classes some folds do not test."""
    if len(counts) > 1:
        named = _some([f"{name!r} ({count})" for name, count in counts.items()])
        yield (
            f"{len(counts)} classes have fewer {what} than the {num_folds} folds, and some folds do"
            f" not test them: {named}"
        )
        return
    for name, count in counts.items():
        yield f"class {name!r} has {count} {what} for {num_folds} folds: some folds do not test it"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _name_of(stratum: Any, names: Sequence[str]) -> str:  # noqa: ANN401 - a class index, or a name
    return names[stratum] if isinstance(stratum, int) and names else str(stratum)


def _rank(seed: int, item_id: str) -> str:
    return hashlib.sha256(f"{seed}:{item_id}".encode()).hexdigest()

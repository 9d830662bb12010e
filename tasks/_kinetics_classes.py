"""The classes of a Kinetics root, and what the labels of its lists mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rsbench.data import lists
from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, ListedPath
from rsbench.errors import DataError

from ._kinetics_places import (
    SPLIT_WORDS,
    KineticsSet,
    class_folders,
    find_sources,
    folder_name,
    loose_folder,
    read_listed,
    split_folders,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """The classes of one root."""

    listing: ClassList
    by_index: ClassList | None
    """What an integer label means; None if nothing names the indices."""
    are_canonical: bool
    notes: tuple[str, ...] = ()


def classes_of(which: KineticsSet, root: Path, guard: RootGuard) -> Classes:
    """Work out the classes of a root: the published ones, those of its class list, or those found.

    Raises:
        DataError: A list is unreadable, or nothing names a class.
    """
    names_file = next(
        (
            folder / name
            for folder in (root, root / "annotations")
            for name in ("classes.txt", "label_map.txt", f"label_map_k{which.name[8:]}.txt")
            if (folder / name).is_file()
        ),
        None,
    )
    named = None
    if names_file is not None:
        named = ClassList(lists.read_class_names(names_file), of=names_file.name)
        if len(named) != which.num_classes:
            return _own_classes(which, named, names_file)
    if which.class_names is not None:
        canonical = ClassList(which.class_names(), of=which.name)
        if named is None:
            return Classes(listing=canonical, by_index=None, are_canonical=True)
        assert names_file is not None
        if any(canonical.find(name) is None for name in named.names):
            return _own_classes(which, named, names_file)
        note = f"class indices read through {names_file.name}"
        return Classes(listing=canonical, by_index=named, are_canonical=True, notes=(note,))
    if named is not None and names_file is not None:
        note = f"classes in the order of {names_file.name}"
        return Classes(listing=named, by_index=named, are_canonical=False, notes=(note,))
    return _found_classes(which, root, guard)


def _own_classes(which: KineticsSet, named: ClassList, names_file: Path) -> Classes:
    note = f"classes are the {len(named)} of {names_file.name}, not those of {which.name}"
    return Classes(listing=named, by_index=named, are_canonical=False, notes=(note,))


def _found_classes(which: KineticsSet, root: Path, guard: RootGuard) -> Classes:
    """Take the classes from the lists of both splits, else from the class folders."""
    sources = [path for split in SPLIT_WORDS for path in find_sources(which, root, split)[:1]]
    labels: list[str] = []
    for path in sources:
        if lists.is_clip_csv(path):
            labels += [clip.label for clip in lists.read_clip_csv(path)]
        else:
            listed = read_listed(path)
            labels += [line.label if line.index is None else folder_name(line) for line in listed]
    origin = " and ".join(path.name for path in sources)
    if not sources:
        folders = [folder for split in SPLIT_WORDS for folder in split_folders(root, split)]
        loose = loose_folder(guard)
        folders += [loose] if loose else []
        labels = [sub.name for folder in folders for sub in class_folders(guard, folder)]
        origin = "the class folders"
    names = {lists.normal_class_name(label): label.replace("_", " ") for label in labels if label}
    if not names:
        raise DataError(
            f"{which.name}: no class name found below {root}; put a classes.txt there, one class "
            "name a line in index order"
        )
    note = f"classes are the {len(names)} of {origin}, sorted; {which.name} has {which.num_classes}"
    listing = ClassList((names[key] for key in sorted(names)), of=which.name)
    return Classes(listing=listing, by_index=None, are_canonical=False, notes=(note,))


def targets_of(listed: Sequence[ListedPath], classes: Classes) -> tuple[list[int], list[str]]:
    """Turn labels into class indices; class folders in the paths check the indices of a list.

    Returns:
        One index a line, and what is to be said of them.

    Raises:
        DataError: A label is outside the classes, has no name, or is not the class of its folder.
    """
    targets = []
    num_unverified = 0
    first_of_index: dict[int, tuple[int, ListedPath]] = {}
    has_names = classes.by_index is not None or classes.are_canonical
    for line in listed:
        by_folder = classes.listing.find(folder_name(line))
        if line.index is None:
            target = classes.listing.index_of(line.label, where=line.where)
        elif has_names:
            meaning = classes.by_index or classes.listing
            name = meaning.name_at(line.index, where=line.where)
            target = classes.listing.index_of(name, where=line.where)
            num_unverified += by_folder is None and classes.by_index is None
        elif by_folder is None:
            raise DataError(
                f"{line.where}: class {line.index} has no name; put a classes.txt into the root, "
                "one class name a line in index order"
            )
        else:
            target = by_folder
            before, first = first_of_index.setdefault(line.index, (target, line))
            if before != target:
                raise DataError(
                    f"{line.where}: class {line.index} must be one class, it is "
                    f"{classes.listing.names[before]!r} in {first.where} and "
                    f"{classes.listing.names[target]!r} here; mend the list"
                )
        if by_folder is not None and by_folder != target:
            said = line.label if line.index is None else f"class {line.index}"
            raise DataError(
                f"{line.where}: the path says {classes.listing.names[by_folder]!r} (class "
                f"{by_folder}) and the label {said}, which is {classes.listing.names[target]!r}; "
                "the list counts classes in another order: give a list with class names, or its "
                "order in classes.txt"
            )
        targets.append(target)
    if not num_unverified:
        return targets, []
    return targets, [
        f"class order unverified: {num_unverified} of {len(listed)} lines give an index and no name"
    ]


def refuse_other_folder(
    path: Path, target: int, classes: Classes, *, where: str, guard: RootGuard
) -> None:
    """Refuse a file that lies in another class's folder than its list says.

    Raises:
        DataError: It does.
    """
    by_folder = classes.listing.find(path.parent.name)
    if by_folder is not None and by_folder != target:
        raise DataError(
            f"{where}: the list says {classes.listing.names[target]!r} and the file lies in "
            f"{guard.relative(path)}; mend the list or move the file"
        )

"""What the data sets of labelled pictures have in common: where they lie, counts, missing pictures.

Each task reads its own lists, in the layout that its archive unpacks to; what is listed then
becomes a split here. A list is not trusted: no entry leads out of the root, each picture is listed
once, and one that is listed and absent is counted and named. torchvision's classes read most of
these layouts too and are what the tests compare with; they are not used to read, because they join
whatever a list says to a path, don't say what is absent, and know neither SUN397's partitions nor
the labels of VOC.

A root has the official number of classes, and is then measured against the published counts, or it
is a data set of its own in the same layout (as the samples are), which is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rsbench.data.files import RootGuard
from rsbench.data.lists import read_text
from rsbench.errors import DataError
from rsbench.specs import Item, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSet:
    """A published data set of pictures, and where its files may lie."""

    name: str
    """The task's."""
    num_classes: int
    num_official: Mapping[str, int]
    """Published number of pictures, by split."""
    folders: tuple[str, ...]
    """Where its files may lie below the root, "" for the root itself."""
    marker: str
    """A file, or a folder with "/" at its end, that is in this folder."""


class Listed(NamedTuple):
    """A picture as some list names it."""

    where: str
    """File and line, for messages: "train.txt, line 3"."""
    path: str
    """Below the folder of pictures; it is the item's id, too."""
    target: Any
    """Class index, or several."""


class Line(NamedTuple):
    """A line of a list."""

    where: str
    text: str
    """Without blanks around it."""


class Official(NamedTuple):
    """What a split is measured against."""

    num_pictures: int
    """Pictures as published, or as listed where the classes are others."""
    notes: tuple[str, ...]
    """What a reader of a score must know: other classes, or a list that is too short."""


def check_split(of: PictureSet, split: str) -> None:
    """Refuse a name that is none of the splits.

    Raises:
        DataError: It is none.
    """
    if split not in of.num_official:
        raise DataError(
            f"{of.name} has the splits {', '.join(of.num_official)}, not {split!r}; name one"
        )


def find_base(of: PictureSet, guard: RootGuard) -> Path:
    """Find the folder that the data set's files lie in.

    Raises:
        DataError: Its marker is in none of the folders, or in two of them.
    """
    look = guard.locate_folder if of.marker.endswith("/") else guard.locate
    places = [guard.root / folder for folder in of.folders]
    where = f"{of.name} below {guard.root}"
    found = {
        base.resolve(): base
        for base in places
        if look(of.marker, bases=[base], where=where) is not None
    }
    if not found:
        folders = " or ".join(f"{folder}/" if folder else "itself" for folder in of.folders)
        raise DataError(
            f"{of.name} must have {of.marker} in its folder, and {guard.root} ({folders}) has none;"
            " point --data at the folder that the archive was unpacked into"
        )
    if len(found) > 1:
        first, second, *_ = found.values()
        raise DataError(
            f"{of.name} must lie in one folder, and {of.marker} is in {first} and in {second}; "
            "move one away"
        )
    return next(iter(found.values()))


def list_below(guard: RootGuard, path: Path) -> Path:
    """Give a list's path where it is a file below the root.

    A list is quoted in errors, so that one that is a link to elsewhere would show what lies there.

    Args:
        guard: Of the root.
        path: Below the root, as it is written.

    Raises:
        DataError: There is no such file, or it is a link that leaves the root.
    """
    if guard.locate(path.name, bases=[path.parent], where=str(path.parent)) is None:
        raise DataError(f"the list {path} must be there, and is not; unpack the archive again")
    return path


def read_lines(guard: RootGuard, path: Path) -> Iterator[Line]:
    """Give the lines of a list that are not blank.

    Raises:
        DataError: The file is missing or a link that leaves the root, can't be read or is not text.
    """
    for number, text in enumerate(read_text(list_below(guard, path)).splitlines(), start=1):
        if text.strip():
            yield Line(f"{path.name}, line {number}", text.strip())


def bad_line(line: Line, *, form: str) -> DataError:
    """Give the error of a line that has not the form of its list: "<class>/<picture>"."""
    return DataError(
        f"{line.where}: a line must read '{form}', got {line.text[:80]!r}; get the official file"
    )


def listed_split(
    of: PictureSet,
    guard: RootGuard,
    split: str,
    listed: Iterable[Listed],
    *,
    folders: Sequence[Path],
    classes: tuple[str, ...],
) -> Split:
    """Find the pictures of a list; decodes nothing.

    Args:
        of: The data set.
        guard: Of the root.
        split: One of the data set's.
        listed: The pictures in the order of their list.
        folders: Where pictures may lie; the first that has one is taken.
        classes: Class names in index order.

    Returns:
        Pictures that are there, in the list's order. `num_official` is the published count where
        the classes are as many as published, else that of the list.

    Raises:
        DataError: A picture is listed twice, its path leaves the root, none is there, or the list
            is longer than the published one.
    """
    items: list[Item] = []
    missing: list[str] = []
    places: dict[str, str] = {}
    for where, path, target in listed:
        first = places.setdefault(path, where)
        if first != where:
            raise DataError(
                f"{where}: {path!r} must be listed once and was in {first} already; drop one"
            )
        source = guard.locate(path, bases=folders, where=where)
        if source is None:
            missing.append(path)
        else:
            items.append(Item(id=path, source=source, target=target))
    if not items:
        raise DataError(
            f"{of.name} {split}: none of the {len(missing)} pictures that are listed is below "
            f"{folders[0]}" + (f", such as {missing[0]}" if missing else "") + "; unpack them there"
        )
    official = hold_to_official(of, split, num_listed=len(places), classes=classes)
    return Split(
        items=tuple(items),
        classes=classes,
        num_official=official.num_pictures,
        missing=tuple(missing),
        notes=official.notes,
    )


def hold_to_official(
    of: PictureSet, split: str, *, num_listed: int, classes: Sequence[str]
) -> Official:
    """Hold the number of pictures to the published one.

    Raises:
        DataError: There are more pictures than were published.
    """
    published = of.num_official[split]
    if len(classes) != of.num_classes:
        note = f"{len(classes)} classes, not the {of.num_classes} of {of.name}"
        return Official(num_listed, (note,))
    if num_listed > published:
        raise DataError(
            f"{of.name} {split} must have {published} pictures at most, as published, and "
            f"{num_listed} are listed; is it another data set?"
        )
    if num_listed < published:
        note = f"{num_listed} of {published} {split} pictures are listed: which ones are left out"
        return Official(published, (f"{note} is not known",))
    return Official(published, ())

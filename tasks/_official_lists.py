"""Lists of official splits: what every reader of them gives, and mmaction2's form of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from rsbench.data.files import RootGuard
from rsbench.data.frame_lists import read_rawframe_list
from rsbench.data.lists import ClassList, read_paths
from rsbench.errors import DataError

Role = Literal["train", "test"]

ROLES: Mapping[Role, tuple[str, ...]] = {"train": ("train",), "test": ("val", "test")}
"""How mmaction2's lists name what is reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedClip:
    """One clip of a list, understood."""

    where: str
    """File and line, for messages."""
    stem: str
    """File name without ending, as listed."""
    id: str
    target: int
    group: str
    """The video it was cut from."""
    num_frames: int | None = None
    """As a list of frame folders claims."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One side of one split, as its lists have it."""

    clips: tuple[ListedClip, ...]
    classes: ClassList
    are_canonical: bool
    """Whether the classes are the published ones, so that the published counts hold."""
    origin: str
    """Names of the lists, for messages."""
    notes: tuple[str, ...] = ()


def find_list(guard: RootGuard, names: Iterable[str], *, folders: Sequence[str]) -> Path | None:
    """Give the first file of some names that is at the root or in one of some folders."""
    for name in names:
        for folder in ("", *folders):
            path = guard.root / folder / name
            if path.is_file():
                return path
    return None


def no_list(which: str, root: Path, *, looked_for: str) -> DataError:
    """Give the error of a root without the lists of a split."""
    return DataError(
        f"{which} needs the lists of its official splits below {root} and has none: looked for were"
        f" {looked_for}; put them there"
    )


class ListedFile(NamedTuple):
    """A line of a list of videos or of frame folders."""

    where: str
    stem: str
    folder: str
    """Name of the folder that it lies in; empty where the path has none."""
    label: int | None
    num_frames: int | None


def read_mmaction2(
    guard: RootGuard, name: str, role: Role, number: int
) -> tuple[str, list[ListedFile]] | None:
    """Read mmaction2's list of one side of a split, of videos or else of frame folders.

    Args:
        guard: Of the root.
        name: Of the data set.
        role: Of the side.
        number: Of the split.

    Returns:
        Its name and its lines; None where there is none.

    Raises:
        DataError: A line can't be understood.
    """
    stems = [f"{name}_{word}_split_{number}" for word in ROLES[role]]
    found = find_list(guard, [f"{stem}_videos.txt" for stem in stems], folders=("annotations",))
    if found is not None:
        return found.name, list(read_listed_videos(found))
    found = find_list(guard, [f"{stem}_rawframes.txt" for stem in stems], folders=("annotations",))
    if found is None:
        return None
    lines = []
    for line in read_rawframe_list(found):
        if len(line.labels) != 1:
            raise DataError(f"{line.where}: a clip must have one class, got {line.labels}")
        path = PurePosixPath(line.path)
        lines.append(
            ListedFile(line.where, path.name, path.parent.name, line.labels[0], line.num_frames)
        )
    return found.name, lines


def read_listed_videos(path: Path) -> Iterator[ListedFile]:
    """Read a list of videos that may have class indices or not.

    Raises:
        DataError: A line has no path of a video, or a label that is no index.
    """
    for line in read_paths(path):
        if line.label and line.index is None:
            raise DataError(
                f"{line.where}: a label must be a class index, got {line.label!r}; correct it"
            )
        listed = PurePosixPath(line.path.replace("\\", "/"))
        if ".." in listed.parts:
            raise DataError(f"{line.where}: a path must not have a '..' part, got {line.path!r}")
        yield ListedFile(line.where, listed.stem, listed.parent.name, line.index, None)


def hold_to_index(
    line: ListedFile, target: int, by_index: ClassList, classes: ClassList, *, first: int
) -> None:
    """Refuse a line whose class index says another class than its name.

    Args:
        line: The line.
        target: Class of its name.
        by_index: What an index means.
        classes: What `target` indexes.
        first: Index of the first class in the list: 0, or 1 in UCF101's own.

    Raises:
        DataError: It does, or is out of range.
    """
    if line.label is None:
        return
    place = line.label - first
    if not 0 <= place < len(by_index):
        raise DataError(
            f"{line.where}: label {line.label} must be a class index from {first} to "
            f"{len(by_index) - 1 + first}; is the list of another data set?"
        )
    if classes.find(by_index.names[place]) != target:
        raise DataError(
            f"{line.where}: the name says {classes.names[target]!r} and the label {line.label}, "
            f"which is {by_index.names[place]!r}; the list counts classes in another order: mend it"
        )

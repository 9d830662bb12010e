"""Where the lists and the media of Kinetics lie below a root, in the names people give them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rsbench.data import lists
from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.frame_lists import is_rawframe_list, read_rawframe_list
from rsbench.data.lists import ListedPath
from rsbench.errors import DataError

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation", "validate"),
}
"""Names of the splits on disk."""

REPLACEMENT_FOLDERS = ("replacement", "replacement_for_corrupted_k400")
"""Where CVDF's archive of replacements for corrupted files unpacks to."""

_LINES_TRIED = 100
"""Lines of a list that are looked up for what their absolute paths begin with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KineticsSet:
    """What differs between the Kinetics data sets."""

    name: str
    num_classes: int
    class_names: Callable[[], tuple[str, ...]] | None = None
    """Gives the canonical list; None takes the classes from the lists found."""
    num_official: Mapping[str, int] = field(default_factory=dict)
    """Published lengths by split."""


def find_sources(which: KineticsSet, root: Path, split: str) -> list[Path]:
    """Find the lists of a split: official CSVs, then lists of videos, then of folders of frames."""
    found = _lists_there(which, root, split)
    return sorted(found, key=lambda path: (not lists.is_clip_csv(path), is_rawframe_list(path)))


def read_listed(source: Path) -> tuple[ListedPath, ...]:
    """Read a list of videos, or of folders of frames, with one label each.

    Raises:
        DataError: A line can't be understood, or has several labels.
    """
    if not is_rawframe_list(source):
        return lists.read_path_labels(source)
    listed = []
    for line in read_rawframe_list(source):
        if len(line.labels) != 1:
            raise DataError(f"{line.where}: a clip must have one class, got {line.labels}")
        listed.append(
            ListedPath(
                where=line.where,
                path=line.path,
                label=str(line.labels[0]),
                num_frames=line.num_frames,
            )
        )
    return tuple(listed)


def split_folders(root: Path, split: str) -> list[Path]:
    """Give the folders that by their name hold a split's videos; one folder is given once."""
    return _folders(root, [name for word in SPLIT_WORDS[split] for name in _folder_forms(word)])


def frame_folders(root: Path, split: str) -> list[Path]:
    """Give the folders that by their name hold a split's folders of frames."""
    names = [f"rawframes_{word}" for word in SPLIT_WORDS[split]]
    return _folders(root, [*names, "rawframes", "frames"])


def media_folder(which: KineticsSet, guard: RootGuard, split: str) -> Path | None:
    """Give the folder of a split's videos, if there is one.

    Raises:
        DataError: There are two.
    """
    folders = split_folders(guard.root, split)
    if len(folders) > 1:
        raise DataError(
            f"{which.name} {split} must lie in one folder, found {folders[0]} and {folders[1]}; "
            "move one away, or link only one into a root of its own"
        )
    return folders[0] if folders else None


def replacements(guard: RootGuard) -> dict[str, Path]:
    """Give the files that CVDF hands out in place of corrupted ones, by name without ending."""
    found: dict[str, Path] = {}
    for folder in _folders(guard.root, REPLACEMENT_FOLDERS):
        for path in filter(is_video, guard.walk(folder)):
            found.setdefault(path.stem, path)
    return found


def is_video(path: Path) -> bool:
    """Tell a video by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def class_folders(guard: RootGuard, folder: Path) -> list[Path]:
    """Give the sub-folders that hold videos, directly or below."""
    return [
        sub for sub in guard.subfolders(folder) if any(is_video(path) for path in guard.walk(sub))
    ]


def loose_folder(guard: RootGuard) -> Path | None:
    """Give the folder of class folders of a root without split folders."""
    if any(split_folders(guard.root, split) for split in SPLIT_WORDS):
        return None
    for folder in (guard.root / "videos", guard.root):
        if folder.is_dir() and class_folders(guard, folder):
            return folder
    return None


def folder_name(line: ListedPath) -> str:
    """Give the folder a listed file lies in, which may be its class; empty for a split's folder."""
    name = PurePosixPath(line.path).parent.name
    words = [word for split in SPLIT_WORDS.values() for word in split]
    forms = {form for word in words for form in (*_folder_forms(word), f"rawframes_{word}")}
    return "" if name in forms else name


def foreign_prefix(
    listed: Sequence[ListedPath], guard: RootGuard, *, bases: Sequence[Path]
) -> PurePosixPath | None:
    """Find what absolute paths of a list begin with where its clips lay on another machine.

    SlowFast's and VideoMAE's lists are written so. It is what has to be taken off for one of the
    first lines to name a file below the root.

    Args:
        listed: Lines of a list.
        guard: Of the root.
        bases: Folders that the rest is tried under.

    Returns:
        None where no path is absolute and elsewhere, or none has a file here whatever is taken off.
    """
    roots = (guard.root, guard.root.resolve())
    foreign = (
        path
        for path in (PurePosixPath(line.path) for line in listed)
        if path.is_absolute() and not any(path.is_relative_to(root) for root in roots)
    )
    for path in itertools.islice(foreign, _LINES_TRIED):
        for length in range(1, len(path.parts)):
            rest = PurePosixPath(*path.parts[length:])
            if ".." not in rest.parts and any((base / rest).exists() for base in bases):
                return PurePosixPath(*path.parts[:length])
    return None


def _lists_there(which: KineticsSet, root: Path, split: str) -> list[Path]:
    spelled = (which.name, which.name.replace("kinetics", "kinetics_"), f"k{which.name[8:]}")
    prefixes = ("", *(f"{name}_" for name in spelled), "kinetics_")
    endings = (
        *(".csv", ".txt", "_list.csv", "_list.txt", "_list_videos.txt", "_videos.txt"),
        *("_list_rawframes.txt", "_rawframes.txt"),
    )
    candidates = [
        folder / f"{prefix}{word}{ending}"
        # The official archives unpack into folders of their names.
        for folder in (
            *(root, root / "annotations"),
            *(root / which.name, root / f"{which.name}_2020"),
        )
        for prefix in prefixes
        for word in SPLIT_WORDS[split]
        for ending in endings
    ]
    return [path for path in candidates if path.is_file()]


def _folders(root: Path, names: Iterable[str]) -> list[Path]:
    by_place = {(root / name).resolve(): root / name for name in names if (root / name).is_dir()}
    return list(by_place.values())


def _folder_forms(word: str) -> tuple[str, ...]:
    return (word, f"{word}_256", f"videos_{word}", f"videos_{word}_256", f"videos/{word}")

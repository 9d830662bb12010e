"""Own images or videos in class sub-folders: `--task folder --data DIR`.

Looked for are ``DIR/<class>/...`` or, with splits, ``DIR/train/<class>/...`` beside ``test`` and/or
``val`` (``validation``, ``valid``). A class is the folder's name, whatever its characters; files
may lie deeper. An item's id is its path below DIR. Hidden files are left out, and files that are
neither image nor video are counted in the notes.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path

from rsbench.data.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, RootGuard
from rsbench.data.prepared import video_form
from rsbench.data.sample import write_photograph_crops
from rsbench.errors import DataError
from rsbench.specs import Sample, Task

from ._own import SPLIT_OF_WORD, Kind, OwnData, OwnItem, kind_of, own_task

_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


def task_for(root: Path | None) -> Task:
    """Give the task as it is for the data at a root: of images, or of videos.

    Raises:
        DataError: The root is no folder, or holds both kinds or none.
    """
    return TASK if root is None else _task(read_folder(root).kind)


def read_folder(root: Path) -> OwnData:
    """List the items below a root; decodes nothing.

    Raises:
        DataError: No folder, no class folders, images mixed with videos, split folders beside class
            folders, two names for one split, or a link that leaves the root.
    """
    if not root.is_dir():
        raise DataError(f"folder data must be a folder of class folders, {root} is none")
    guard = RootGuard(root)
    split_folders: list[tuple[Path, str | None]] = [*_split_folders(guard)] or [(root, None)]
    items: dict[str, OwnItem] = {}
    num_unread = num_loose = 0
    for folder, split in split_folders:
        num_loose += sum(path.suffix.lower() in _SUFFIXES for path in _files_in(folder))
        for class_folder in guard.subfolders(folder):
            for path in guard.walk(class_folder):
                if path.suffix.lower() not in _SUFFIXES:
                    num_unread += 1
                    continue
                item_id = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
                if item_id in items:
                    raise DataError(
                        f"file names must differ in more than Unicode composition, {item_id!r} is "
                        f"there twice below {root}; rename one"
                    )
                label = unicodedata.normalize("NFC", class_folder.name)
                items[item_id] = OwnItem(id=item_id, source=path, label=label, split=split)
    if not items:
        raise DataError(
            f"{root} must hold class sub-folders with images or videos, none was found; put them "
            "into <class>/, or into train/<class>/ and test/<class>/"
        )
    notes = []
    if num_unread:
        notes.append(f"{num_unread} files are neither image nor video: left out")
    if num_loose:
        notes.append(f"{num_loose} files lie in no class folder: left out")
    return OwnData(
        name=root.name or str(root),
        kind=kind_of(sorted(items), of=str(root)),
        items=tuple(items[item_id] for item_id in sorted(items)),
        media=video_form(root),
        notes=tuple(notes),
    )


def _split_folders(guard: RootGuard) -> list[tuple[Path, str]]:
    """Find train, test and validation folders: named so, with class folders inside.

    A folder named like a split that holds media directly is a class of that name.
    """
    filled = [folder for folder in guard.subfolders(guard.root) if _has_media(guard, folder)]
    found: dict[str, Path] = {}
    others = []
    for folder in filled:
        split = SPLIT_OF_WORD.get(folder.name.lower())
        if split is None or any(path.suffix.lower() in _SUFFIXES for path in _files_in(folder)):
            others.append(folder)
        elif split in found:
            raise DataError(
                f"{guard.root} must hold each split once, {found[split].name}/ and {folder.name}/ "
                "both are; merge them or move one away"
            )
        else:
            found[split] = folder
    if found and others:
        raise DataError(
            f"{guard.root} must hold splits or classes, {next(iter(found.values())).name}/ is a "
            f"split and {others[0].name}/ is none; move one of them elsewhere"
        )
    return [(folder, split) for split, folder in found.items()]


def _has_media(guard: RootGuard, folder: Path) -> bool:
    return any(path.suffix.lower() in _SUFFIXES for path in guard.walk(folder))


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name[0] != "."]


def _task(kind: Kind) -> Task:
    return own_task(
        "folder",
        read=read_folder,
        kind=kind,
        sample=Sample(
            write=functools.partial(write_photograph_crops, layout="class folders"), pixels=64
        ),
        layouts=("class folders",),
        title="Own images or videos in class folders",
        how_to_get="DIR holds <class>/ folders of images or videos, or train/ and test/ with them.",
    )


TASK = _task("image")

"""HMDB51: 51 human actions in 6,766 clips, three official splits (Kuehne et al. 2011).

Looked for below the root, in the spellings people have (see `_official_splits` for the rest):

- ``hmdb51_org/<class>/*.avi``, ``videos/<class>/*.avi`` or ``<class>/*.avi``;
- ``testTrainMulti_7030_splits/<class>_test_splitN.txt`` with lines `name flag`, or the same in
  ``annotations/`` or at the root: 1 is train, 2 is test, 0 is unused; else mmaction2's
  ``hmdb51_{train,val}_split_N_{videos,rawframes}.txt``.

A file is named ``<video>_<class>_<parts>_<camera>_npN_<view>_<quality>_<number>``; video is the
film or upload that it was cut from, and what is held out for selection shares none with train. The
official splits were dealt class by class: a film with several actions lies on both sides of them,
which the notes of a run count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, normal_class_name, read_flags
from rsbench.errors import DataError

from ._official_lists import (
    ListedClip,
    ListedFile,
    Listing,
    Role,
    hold_to_index,
    no_list,
    read_mmaction2,
)
from ._official_splits import SplitSet, official_task

LIST_FOLDERS = (
    "testTrainMulti_7030_splits",
    "test_train_splits",
    "test_train_splits/testTrainMulti_7030_splits",
    "annotations",
    "splits",
    "metafile",
    "",
)

_NAMES = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat "
    "fall_floor fencing flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick "
    "pour pullup punch push pushup ride_bike ride_horse run shake_hands shoot_ball shoot_bow "
    "shoot_gun sit situp smile smoke somersault stand swing_baseball sword sword_exercise talk "
    "throw turn walk wave"
)
CLASSES = tuple(_NAMES.split())
"""In alphabetical order, as all lists count them."""

NUM_OFFICIAL = {
    f"{role}{n}": count for n in (1, 2, 3) for role, count in (("train", 3570), ("test", 1530))
}
"""70 and 30 clips of each class (split_readme.txt beside the official lists)."""

_FLAGS = {"train": "1", "test": "2"}
_TAIL = r"_[a-z]+_(?:cm|nm)_np[0-9]+_(?:fr|ba|le|ri)_(?:goo|med|bad)_[0-9]+"
"""Visible parts, camera motion, people, view, quality, number."""


def read_lists(guard: RootGuard, role: Role, number: int) -> Listing:
    """Read one side of an official split from whichever lists are there.

    Args:
        guard: Of the root.
        role: "train" or "test".
        number: Of the split, from 1 on.

    Raises:
        DataError: No list is there, or a line of it can't be understood or contradicts itself.
    """
    files = _class_files(guard, number)
    if files:
        classes, notes = _classes(list(files), of=f"the lists of split {number}")
        lines = [line for name, path in files.items() for line in _flagged(name, path, role)]
        absent = [name for name in classes.names if name not in files]
        if absent:
            # Counted against the published length, too; the name of the file is the next step.
            notes += (f"no list of {len(absent)} classes, e.g. {absent[0]}_test_split{number}.txt",)
        origin = f"*_test_split{number}.txt"
    else:
        found = read_mmaction2(guard, "hmdb51", role, number)
        if found is None:
            raise no_list(
                "hmdb51",
                guard.root,
                looked_for=f"testTrainMulti_7030_splits/<class>_test_split{number}.txt and "
                f"mmaction2's hmdb51_{'val' if role == 'test' else role}_split_{number}_videos.txt",
            )
        origin, lines = found
        classes, notes = _classes([line.folder for line in lines], of=origin)
    return Listing(
        clips=tuple(_clips(lines, classes)),
        classes=classes,
        are_canonical=classes.names == CLASSES,
        origin=origin,
        notes=notes,
    )


def source_video(stem: str, class_name: str) -> str:
    """Give the film or upload that a clip was cut from, by its file name without ending.

    Args:
        stem: "April_09_brush_hair_u_nm_np1_ba_goo_0".
        class_name: Of the clip. A name that holds another action of the 51 instead is read too.

    Returns:
        "April_09"; what stands before the properties where the name holds no action, and the whole
        name where it has no properties either.
    """
    actions = "|".join(
        re.escape(name) for name in (class_name, *sorted(CLASSES, key=len, reverse=True))
    )
    match = re.fullmatch(rf"(?P<video>.+?)_(?:{actions}){_TAIL}", stem, re.IGNORECASE)
    if match is None:
        match = re.fullmatch(rf"(?P<video>.+?){_TAIL}", stem, re.IGNORECASE)
    return stem if match is None else match["video"]


def _class_files(guard: RootGuard, number: int) -> dict[str, Path]:
    """Give the official lists of a split by class; those of the first folder that has any."""
    ending = f"_test_split{number}.txt"
    for name in LIST_FOLDERS:
        folder = guard.root / name
        if folder.is_dir():
            paths = [path for path in guard.files(folder) if path.name.endswith(ending)]
            if paths:
                return {path.name.removesuffix(ending): path for path in paths}
    return {}


def _flagged(class_name: str, path: Path, role: Role) -> Iterator[ListedFile]:
    for line in read_flags(path):
        if line.label not in {"0", "1", "2"}:
            raise DataError(
                f"{line.where}: the flag must be 1 for train, 2 for test or 0 for unused, got "
                f"{line.label!r}; get the official file"
            )
        if line.label == _FLAGS[role]:
            stem = line.path.rpartition(".")[0] or line.path
            yield ListedFile(line.where, stem, class_name, None, None)


def _classes(found: Iterable[str], *, of: str) -> tuple[ClassList, tuple[str, ...]]:
    """Take the published classes, or a root's own where none of them is a published one."""
    canonical = ClassList(CLASSES, of="hmdb51")
    names = {normal_class_name(name): name for name in found}
    strange = [name for name in names.values() if canonical.find(name) is None]
    if len(strange) < len(names):
        if strange:
            canonical.index_of(strange[0], where=of)
        return canonical, ()
    own = ClassList((names[key] for key in sorted(names)), of=of)
    return own, (f"classes are the {len(own)} of {of}, not those of hmdb51",)


def _clips(lines: Iterable[ListedFile], classes: ClassList) -> Iterator[ListedClip]:
    for line in lines:
        target = classes.index_of(line.folder, where=line.where)
        hold_to_index(line, target, classes, classes, first=0)
        name = classes.names[target]
        yield ListedClip(
            where=line.where,
            stem=line.stem,
            id=f"{name}/{line.stem}",
            target=target,
            group=source_video(line.stem, name),
            num_frames=line.num_frames,
        )


TASK = official_task(
    SplitSet(
        name="hmdb51",
        read=read_lists,
        num_official=NUM_OFFICIAL,
        video_folders=("hmdb51_org", "HMDB51", "hmdb51", "videos"),
        fps=30.0,
        are_groups_apart=False,
    ),
    layouts=("hmdb51", "hmdb51 mmaction2 videos", "hmdb51 mmaction2 rawframes"),
    title="HMDB51, human actions, mean of three splits",
    how_to_get=(
        "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database has "
        "hmdb51_org.rar and test_train_splits.rar; looked for are hmdb51_org/<class>/*.avi beside "
        "testTrainMulti_7030_splits/."
    ),
    citation=(
        "Kuehne et al., HMDB: A Large Video Database for Human Motion Recognition, ICCV 2011, "
        "https://doi.org/10.1109/ICCV.2011.6126543"
    ),
)

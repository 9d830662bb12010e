"""What UCF101 and HMDB51 share: three official splits over one set of clips.

Each split is a fold, trained and tested apart: the score is the mean of three, and a network or a
head that learned in one split has seen two thirds of another one's test clips.

The lists say which clips there are; each data set reads its own (`SplitSet.read`), official ones
first, else mmaction2's (``NAME_{train,val}_split_N_{videos,rawframes}.txt``). The clips lie in
class folders or flat, below one of the usual folders or at the root, as videos in any container or
as folders of frames. Read is the place that holds most of a list's clips; of equal ones the videos,
and of these the first. Clips that a list names and the disk lacks are named in `Split.missing`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.lists import ClassList
from rsbench.data.prepared import video_form
from rsbench.data.sample import write_motion_segments
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Item, Sample, Split, Task, Views

from ._official_lists import ROLES, ListedClip, Listing, Role

NUM_SPLITS = 3

FRAME_FOLDERS = ("rawframes", "frames", "jpegs_256")
"""Where folders of frames lie: mmaction2's name, a plain one, and that of the two-stream frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitSet:
    """What differs between data sets with three official splits."""

    name: str
    read: Callable[[RootGuard, Role, int], Listing]
    """(root, role, number of the split) -> what its lists say."""
    num_official: Mapping[str, int]
    """Published lengths by split name, "train1" to "test3"."""
    video_folders: tuple[str, ...]
    """Where the clips lie, tried in this order before the root itself."""
    fps: float
    """Frames per second of the published videos, for folders of frames."""
    are_groups_apart: bool
    """Whether the official splits keep each group on one side."""


class Place(NamedTuple):
    """Where clips of a data set lie on disk."""

    folder: Path
    holds_frames: bool
    files: Mapping[str, tuple[tuple[int | None, Path], ...]]
    """By `stem_key`: (class of the folder it lies in, None where flat; the file or folder)."""


def official_task(
    which: SplitSet, *, layouts: tuple[str, ...], title: str, how_to_get: str, citation: str
) -> Task:
    """Make the task of a data set with three official splits.

    Args:
        which: The data set.
        layouts: On-disk layouts that are read, the sample's own first.
        title: A line for people.
        how_to_get: Where the data is to be had.
        citation: The paper.

    Returns:
        The task: the mean of three top-1, each split trained and tested apart; clips and views are
        those of Kinetics, which networks are transferred from.
    """
    return Task(
        name=which.name,
        version=1,
        modality="video",
        target="class",
        metrics=(TOP1, TOP5),
        load=functools.partial(load_official, which),
        layouts=layouts,
        folds=tuple(
            Fold(train=f"train{number}", test=f"test{number}", name=f"split{number}")
            for number in range(1, NUM_SPLITS + 1)
        ),
        fold_average="mean",
        sample=Sample(
            write=functools.partial(write_motion_segments, layout=layouts[0], num_scenes=12),
            clip=ClipSpec(frames=16, stride=1),
            pixels=64,
            flip=False,
        ),
        clip=ClipSpec(frames=32, stride=2),
        views=Views(clips=10, crops=3),
        title=title,
        how_to_get=how_to_get,
        licence="none stated; each video is its uploader's",
        citation=citation,
    )


def load_official(which: SplitSet, root: Path, split: str) -> Split:
    """List one side of one official split as found on disk; decodes nothing.

    Args:
        which: The data set.
        root: Its folder, in any layout of the module's description.
        split: "train1", "test1" ... "test3".

    Returns:
        The clips present, sorted by id.

    Raises:
        DataError: No such split or list, none of its clips is there, a list that is longer than the
            published one, contradicts itself or the other side of its split, or leaves the root.
    """
    role, number = _side_and_number(which, split)
    if not root.is_dir():
        raise DataError(f"{which.name} must lie in a folder, {root} is none; point --data at it")
    guard = RootGuard(root)
    listing = which.read(guard, role, number)
    _refuse_repeated(listing.clips)
    _refuse_shared(which, guard, listing, role, number)
    num_official, notes = _counted(which, split, listing)
    found, unread = _find_place(which, guard, listing)
    items, missing = [], []
    for clip in listing.clips:
        path = _path_of(clip, found, listing.classes, guard)
        if path is None:
            missing.append(clip.id)
            continue
        items.append(
            Item(
                id=clip.id,
                source=path,
                target=clip.target,
                group=clip.group,
                fps=which.fps if found.holds_frames else None,
                num_frames_listed=clip.num_frames if found.holds_frames else None,
            )
        )
    return Split(
        items=tuple(sorted(items, key=lambda item: item.id)),
        classes=listing.classes.names,
        num_official=num_official,
        missing=tuple(sorted(missing)),
        media=video_form(root, folders=found.holds_frames, fps=which.fps),
        notes=(*notes, *unread),
    )


# ---------------------------------------------------------------------------- judging lists


def _side_and_number(which: SplitSet, split: str) -> tuple[Role, int]:
    match = re.fullmatch(rf"(train|test)([1-{NUM_SPLITS}])", split)
    if match is None:
        names = ", ".join(f"{role}{n}" for n in range(1, NUM_SPLITS + 1) for role in ROLES)
        raise DataError(f"{which.name} has the splits {names}, not {split!r}; name one")
    return "train" if match[1] == "train" else "test", int(match[2])


def _refuse_repeated(clips: Sequence[ListedClip]) -> None:
    seen: dict[str, ListedClip] = {}
    for clip in clips:
        first = seen.setdefault(clip.id, clip)
        if first is not clip:
            raise DataError(
                f"{clip.where}: clip {clip.id} must be listed once and was in {first.where} "
                "already; drop one of the two lines"
            )


def _refuse_shared(
    which: SplitSet, guard: RootGuard, listing: Listing, role: Role, number: int
) -> None:
    """Refuse a clip, or a group that must be whole, on both sides of a split."""
    try:
        other = which.read(guard, "test" if role == "train" else "train", number)
    except DataError:
        # Half a data set has half of the lists: a run that needs them will say so.
        return
    ids = {clip.id: clip for clip in other.clips}
    groups = {clip.group: clip for clip in other.clips} if which.are_groups_apart else {}
    for clip in listing.clips:
        shared = ids.get(clip.id) or groups.get(clip.group)
        if shared is not None:
            what = f"clip {clip.id}" if clip.id == shared.id else f"group {clip.group}"
            raise DataError(
                f"{clip.where}: {what} must be in train or in test of split {number} and is in both"
                f", see {shared.where}: the score would be too high; take the official lists"
            )


def _counted(which: SplitSet, split: str, listing: Listing) -> tuple[int, tuple[str, ...]]:
    """Hold a list to the published length; give that length, and what is to be said."""
    num_listed = len(listing.clips)
    published = which.num_official[split] if listing.are_canonical else num_listed
    if num_listed > published:
        raise DataError(
            f"{which.name} {split} must have the published {published} clips at most, "
            f"{listing.origin} has {num_listed}: it is no official list; get that one"
        )
    if num_listed == published:
        return published, listing.notes
    said = f"{listing.origin} lists {num_listed} of {published} official clips"
    return published, (*listing.notes, said)


# ---------------------------------------------------------------------------- media


def stem_key(stem: str) -> str:
    """Give the form in which a listed and a found file name are equal.

    UCF101's lists and files differ in case (HandstandPushups, v_HandStandPushups), and file systems
    in Unicode composition.
    """
    return unicodedata.normalize("NFC", stem).casefold()


def _find_place(
    which: SplitSet, guard: RootGuard, listing: Listing
) -> tuple[Place, tuple[str, ...]]:
    """Find the folder that holds most of a listing's clips; others that hold some are noted.

    Raises:
        DataError: None of them is anywhere.
    """
    wanted = {stem_key(clip.stem) for clip in listing.clips}
    found: list[Place] = []
    for holds_frames, names in (
        (False, (*which.video_folders, "")),
        (True, (*FRAME_FOLDERS, *which.video_folders, "")),
    ):
        for folder in _folders(guard, names):
            place = _look(guard, folder, listing.classes, holds_frames=holds_frames)
            if not wanted.isdisjoint(place.files):
                found.append(place)
    if not found:
        if not wanted:
            raise DataError(f"{which.name}: {listing.origin} names no clip; check the file")
        raise DataError(
            f"{which.name}: none of the {len(wanted)} clips of {listing.origin} is below "
            f"{guard.root}, e.g. no {which.video_folders[0]}/<class>/{listing.clips[0].stem}.avi; "
            "point --data at the folder with both, or name the splits that are here with --folds"
        )
    most = max(found, key=lambda place: len(wanted & place.files.keys()))
    return most, tuple(
        f"{len(wanted & place.files.keys())} clips in {_described(place, guard)} not read, "
        f"{_described(most, guard)} is"
        for place in found
        if place is not most
    )


def _folders(guard: RootGuard, names: Iterable[str]) -> list[Path]:
    """Give the folders of some names that are there; one linked to another is given once."""
    paths = [guard.root / name for name in names]
    return list({path.resolve(): path for path in reversed(paths) if path.is_dir()}.values())[::-1]


def _look(guard: RootGuard, folder: Path, classes: ClassList, *, holds_frames: bool) -> Place:
    """List what lies flat in a folder and in its class folders."""
    subfolders = guard.subfolders(folder)
    class_folders = [(sub, classes.find(sub.name)) for sub in subfolders]
    files: dict[str, tuple[tuple[int | None, Path], ...]] = {}

    def note(target: int | None, paths: Iterable[Path]) -> None:
        for path in paths:
            key = stem_key(path.name if holds_frames else path.stem)
            files[key] = (*files.get(key, ()), (target, path))

    if holds_frames:
        note(None, (sub for sub, target in class_folders if target is None))
    else:
        note(None, _videos(guard, folder))
    for sub, target in class_folders:
        if target is None:
            continue
        # HMDB51's archives, unpacked into folders of their own names, give class/class/.
        inner = sub / sub.name
        within = inner if inner.is_dir() else sub
        note(target, guard.subfolders(within) if holds_frames else _videos(guard, within))
    return Place(folder=folder, holds_frames=holds_frames, files=files)


def _videos(guard: RootGuard, folder: Path) -> list[Path]:
    return [path for path in guard.files(folder) if path.suffix.lower() in VIDEO_SUFFIXES]


def _path_of(clip: ListedClip, place: Place, classes: ClassList, guard: RootGuard) -> Path | None:
    """Give a clip's file or folder of frames; None where it is missing.

    Raises:
        DataError: There are two, or it lies in another class's folder.
    """
    there = place.files.get(stem_key(clip.stem), ())
    own = [path for target, path in there if target in (None, clip.target)]
    if len(own) > 1:
        raise DataError(
            f"{clip.where}: clip {clip.id} must be there once, found {guard.relative(own[0])} and "
            f"{guard.relative(own[1])}; keep one"
        )
    if not own and there:
        raise DataError(
            f"{clip.where}: the list says {classes.names[clip.target]!r} and the clip lies in "
            f"{guard.relative(there[0][1])}; mend the list or move it"
        )
    return own[0] if own else None


def _described(place: Place, guard: RootGuard) -> str:
    name = "the root" if place.folder == guard.root else f"{guard.relative(place.folder)}/"
    return f"{name} as {'frames' if place.holds_frames else 'files'}"

"""What Kinetics-400, -600 and -700 share: the layouts people really have, read as one.

Below the root, for each split (validation is ``val``, ``validate`` or ``validation``):

- the official CSV (label, youtube_id, time_start, time_end, split), at the root, in
  ``annotations/`` or in a folder of the data set's name, with ``ID_ssssss_eeeeee.mp4`` or trimmed
  ``ID.mp4`` files (.mkv, .webm, ... alike) anywhere below the split's folder: flat, or in class
  folders. Where CVDF's ``replacement/`` has a clip, it goes before the corrupted one;
- else a list of `path label` lines as mmaction2, SlowFast and VideoMAE have them (``val.csv``
  without header, ``val_list.txt``, ``kinetics400_val_list_videos.txt``, ...), by class name or
  index. Absolute paths of another machine are read below the root;
- else mmaction2's list of `folder frames label` lines (``kinetics400_val_list_rawframes.txt``) with
  the folders of frames below ``rawframes_val/``;
- else class folders alone: ``val/<class>/``, or ``<class>/`` directly at the root, which are then
  the validation split.

Labels are matched by class name. A ``classes.txt`` (or ``label_map.txt``), one name a line, says
what the indices of a list mean; if its names are not those of the data set, it makes a root with
classes of its own, and the notes of the split say so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from rsbench.data import lists
from rsbench.data.files import RootGuard
from rsbench.data.frame_lists import is_rawframe_list
from rsbench.data.lists import ListedClip, ListedPath
from rsbench.data.prepared import UNKNOWN_RATE, prepared_form, video_form
from rsbench.data.sample import write_motion_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Item, Sample, Split, Task, Views

from ._kinetics_classes import Classes, classes_of, refuse_other_folder, targets_of
from ._kinetics_places import (
    SPLIT_WORDS,
    KineticsSet,
    class_folders,
    find_sources,
    foreign_prefix,
    frame_folders,
    is_video,
    loose_folder,
    media_folder,
    read_listed,
    replacements,
    split_folders,
)

LAYOUTS_READ = (
    "kinetics csv, flat",
    "kinetics csv, class folders",
    "kinetics csv, trimmed",
    "kinetics class folders",
    "path label list",
    "kinetics mmaction2 rawframes",
)
"""On-disk layouts this loader reads, by their names in `rsbench.data.layouts.LAYOUTS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """Items of a split before they are judged as a whole."""

    items: list[Item]
    missing: list[str]
    num_listed: int | None
    """None where no list names the clips."""
    notes: list[str]
    holds_frames: bool = False


def kinetics_task(
    which: KineticsSet,
    *,
    title: str,
    how_to_get: str,
    citation: str,
    version: int = 1,
    shares_data_with: Mapping[str, str] | None = None,
) -> Task:
    """Make the task of one Kinetics data set.

    Args:
        which: The data set.
        title: A line for people.
        how_to_get: Where the data is to be had.
        citation: The paper.
        version: Of the task.
        shares_data_with: Of the task; None for nothing.

    Returns:
        The task: train and validation, the latter reported; 32 frames x stride 2, 10 x 3 views
        (SlowFast's 30-view test, reference protocol of R3D-RS).
    """
    return Task(
        name=which.name,
        version=version,
        modality="video",
        target="class",
        metrics=(TOP1, TOP5),
        load=functools.partial(load_kinetics, which),
        layouts=LAYOUTS_READ,
        folds=(Fold(train="train", test="validation"),),
        sample=Sample(
            write=functools.partial(write_motion_sample, layout="kinetics csv, class folders"),
            clip=ClipSpec(frames=16, stride=1),
            pixels=64,
            views=Views(),
            flip=False,
        ),
        clip=ClipSpec(frames=32, stride=2),
        views=Views(clips=10, crops=3),
        shares_data_with=shares_data_with or {},
        how_to_get=how_to_get,
        title=title,
        licence="annotations CC BY 4.0; each video is its uploader's",
        citation=citation,
    )


def load_kinetics(which: KineticsSet, root: Path, split: str) -> Split:
    """List one split of a Kinetics data set as found on disk; decodes nothing.

    Args:
        which: The data set.
        root: Its folder, in any layout of the module's description.
        split: "train" or "validation".

    Returns:
        The clips present, sorted by id, which is the file name without ending; the group is the
        YouTube id. Clips that a list names and the disk lacks are in `missing`.

    Raises:
        DataError: No such split, nothing found, a label outside the classes, a clip twice, a list
            whose indices disagree with the class folders, or a path that leaves the root.
    """
    if split not in SPLIT_WORDS:
        raise DataError(
            f"{which.name} has the splits {' and '.join(SPLIT_WORDS)}, not {split!r}; name one"
        )
    if not root.is_dir():
        raise DataError(f"{which.name} must lie in a folder, {root} is none; point --data at it")
    guard = RootGuard(root)
    sources = find_sources(which, root, split)
    classes = classes_of(which, root, guard)
    if not sources:
        found = _from_class_folders(which, split, classes, guard)
        return _judged(which, split, classes, found, None, guard)
    read = [(sources[0], _from_list(which, sources[0], split, classes, guard))]
    for other in sources[1:]:
        # mmaction2's roots hold a list for the videos and one for their frames, and one of these,
        # or little of the other. Lists of videos all name the same files.
        has_items = any(found.items for _, found in read)
        is_whole = any(found.items and not found.missing for _, found in read)
        if is_whole or (has_items and not is_rawframe_list(other)):
            continue
        read.append((other, _from_list(which, other, split, classes, guard)))
    source, found = max(read, key=lambda tried: len(tried[1].items))
    unread = [
        f"{len(tried.items)} clips that {path.name} names not read"
        for path, tried in read
        if tried.items and path != source
    ]
    found = replace(found, notes=[*found.notes, *unread])
    return _judged(which, split, classes, found, source, guard)


def _from_list(
    which: KineticsSet, source: Path, split: str, classes: Classes, guard: RootGuard
) -> _Found:
    from_list = _from_clip_csv if lists.is_clip_csv(source) else _from_path_list
    return from_list(which, source, split, classes, guard)


# ---------------------------------------------------------------------------- the three layouts


def _from_clip_csv(
    which: KineticsSet, source: Path, split: str, classes: Classes, guard: RootGuard
) -> _Found:
    clips = lists.read_clip_csv(source)
    folder = media_folder(which, guard, split) or guard.root
    replaced = replacements(guard)
    replacing = set(replaced.values())
    files: dict[str, list[Path]] = {}
    for path in filter(is_video, guard.walk(folder)):
        if path not in replacing:
            files.setdefault(path.stem, []).append(path)
    files |= {stem: [path] for stem, path in replaced.items()}
    used: dict[Path, ListedClip] = {}
    items, missing, num_trimmed = [], [], 0
    for clip in clips:
        if clip.split and clip.split.lower() not in SPLIT_WORDS[split]:
            raise DataError(
                f"{clip.where}: split must be {split} as the file's name says, got {clip.split!r}; "
                "keep one split a file"
            )
        target = classes.listing.index_of(clip.label, where=clip.where)
        paths = files.get(clip.id) or files.get(clip.youtube_id, [])
        if not paths:
            missing.append(clip.id)
            continue
        if len(paths) > 1:
            raise DataError(
                f"{clip.where}: clip {clip.id} must have one file, found "
                f"{guard.relative(paths[0])} and {guard.relative(paths[1])}; keep one"
            )
        path = paths[0]
        if path in used:
            raise DataError(
                f"{clip.where}: {path.name} is already the file of {used[path].where}; name files "
                f"that share a source {clip.id}{path.suffix}"
            )
        used[path] = clip
        num_trimmed += path.stem != clip.id
        refuse_other_folder(path, target, classes, where=clip.where, guard=guard)
        items.append(Item(id=clip.id, source=path, target=target, group=clip.youtube_id))
    notes = []
    if num_trimmed:
        notes.append(f"{num_trimmed} files are named by YouTube id alone and taken as trimmed")
    num_replaced = len(replacing & used.keys())
    if num_replaced:
        notes.append(f"{num_replaced} clips are replacements of corrupted ones")
    num_unlisted = sum(map(len, files.values())) - len(used) - len(replaced) + num_replaced
    if num_unlisted and folder != guard.root:
        notes.append(f"{num_unlisted} files in {folder.name}/ are not in {source.name}: left out")
    return _Found(items=items, missing=missing, num_listed=len(clips), notes=notes)


def _from_path_list(
    which: KineticsSet, source: Path, split: str, classes: Classes, guard: RootGuard
) -> _Found:
    listed = read_listed(source)
    holds_frames = any(line.num_frames is not None for line in listed)
    below = frame_folders(guard.root, split) if holds_frames else []
    bases = [guard.root, *below, *split_folders(guard.root, split), source.parent]
    bases = [base for base in dict.fromkeys((*bases, guard.root / "videos")) if base.is_dir()]
    prefix = foreign_prefix(listed, guard, bases=bases)
    seen: dict[str, ListedPath] = {}
    paths: list[Path | None] = []
    for line in listed:
        entry = PurePosixPath(line.path)
        clip = entry.name if holds_frames else entry.stem
        first = seen.setdefault(clip, line)
        if first is not line:
            raise DataError(
                f"{line.where}: clip {clip} must be listed once and was in {first.where} already; "
                "drop one of the two lines"
            )
        if prefix is not None and entry.is_relative_to(prefix):
            entry = entry.relative_to(prefix)
        locate = guard.locate_folder if holds_frames else guard.locate
        paths.append(locate(str(entry), bases=bases, where=line.where))
    targets, notes = targets_of(listed, classes)
    if prefix is not None:
        notes.append(f"paths of {source.name} are read below the root without {prefix}")
    items = [
        Item(
            id=clip,
            source=path,
            target=target,
            group=lists.source_of_clip(clip),
            num_frames_listed=line.num_frames,
        )
        for (clip, line), path, target in zip(seen.items(), paths, targets, strict=True)
        if path is not None
    ]
    missing = [clip for clip, path in zip(seen, paths, strict=True) if path is None]
    return _Found(
        items=items,
        missing=missing,
        num_listed=len(listed),
        notes=notes,
        holds_frames=holds_frames,
    )


def _from_class_folders(
    which: KineticsSet, split: str, classes: Classes, guard: RootGuard
) -> _Found:
    folder = media_folder(which, guard, split)
    notes = ["no list found: clips that are missing are not known"]
    if folder is None:
        folder = loose_folder(guard)
        if folder is None or not any(
            classes.listing.find(sub.name) is not None for sub in class_folders(guard, folder)
        ):
            raise _nothing_found(which, guard.root, split)
        if split != "validation":
            raise DataError(
                f"{which.name} {split} was looked for in {guard.root}, which holds class folders "
                "without split: they are the validation split; put train clips in train/<class>/"
            )
        notes.append("class folders without split are taken as the validation split")
    items: list[Item] = []
    seen: dict[str, Path] = {}
    num_loose = sum(1 for path in folder.iterdir() if path.is_file() and is_video(path))
    if num_loose:
        notes.append(f"{num_loose} files in {folder.name}/ lie in no class folder: left out")
    for sub in class_folders(guard, folder):
        target = classes.listing.index_of(sub.name, where=f"folder {guard.relative(sub)}")
        for path in filter(is_video, guard.walk(sub)):
            first = seen.setdefault(path.stem, path)
            if first is not path:
                raise DataError(
                    f"clip {path.stem} must be there once, found {guard.relative(first)} and "
                    f"{guard.relative(path)}; keep one"
                )
            group = lists.source_of_clip(path.stem)
            items.append(Item(id=path.stem, source=path, target=target, group=group))
    return _Found(items=items, missing=[], num_listed=None, notes=notes)


def _nothing_found(which: KineticsSet, root: Path, split: str) -> DataError:
    word = SPLIT_WORDS[split][0]
    return DataError(
        f"{which.name} {split} must be below {root} as {word}.csv, a {word} list of 'path label' "
        f"lines, or {word}/<class>/ folders with videos, and none was found; point --data at the "
        "folder that holds them"
    )


# ---------------------------------------------------------------------------- the whole


def _judged(
    which: KineticsSet,
    split: str,
    classes: Classes,
    found: _Found,
    source: Path | None,
    guard: RootGuard,
) -> Split:
    """Refuse an empty split, and add what a reader of the number must know."""
    origin = source.name if source else str(guard.root)
    if not found.items and not found.missing:
        raise DataError(f"{which.name} {split} is empty: {origin} names no clip; check the file")
    if not found.items:
        raise DataError(
            f"{which.name} {split}: none of the {len(found.missing)} clips of {origin} is below "
            f"{guard.root}, e.g. no {found.missing[0]}.mp4; point --data at the folder with both"
        )
    notes = [*classes.notes, *found.notes, *([UNKNOWN_RATE] if found.holds_frames else [])]
    num_official = which.num_official.get(split) if classes.are_canonical else None
    if num_official is not None and found.num_listed not in (None, num_official):
        notes.append(f"{origin} lists {found.num_listed} of {num_official} official clips")
    if num_official is None or num_official < len(found.items):
        num_official = found.num_listed
    others = [path for path in find_sources(which, guard.root, split) if path != source]
    if others:
        notes.append(f"{', '.join(path.name for path in others)} not read, {origin} is")
    return Split(
        items=tuple(sorted(found.items, key=lambda item: item.id)),
        classes=classes.listing.names,
        num_official=num_official,
        missing=tuple(sorted(found.missing)),
        media=video_form(guard.root, folders=True)
        if found.holds_frames
        else _video_form(found.items, guard),
        notes=tuple(notes),
    )


def _video_form(items: Sequence[Item], guard: RootGuard) -> str:
    """Give "short-256" where the root is marked, or folders are named so as CVDF's mirror does."""
    prepared = prepared_form(guard.root)
    if prepared is not None:
        return prepared
    forms = set()
    for item in items:
        assert isinstance(item.source, Path)
        top = guard.relative(item.source).split("/")[:-1]
        forms.add("short-256" if any(part.endswith("_256") for part in top) else "original")
    return " and ".join(sorted(forms))

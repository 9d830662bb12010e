"""What Kinetics-400, -600 and -700 share: the layouts people really have, read as one.

Below the root, for each split (validation is ``val``, ``validate`` or ``validation``):

- the official CSV (label, youtube_id, time_start, time_end, split), at the root or in
  ``annotations/``, with ``ID_ssssss_eeeeee.mp4`` or trimmed ``ID.mp4`` files (.mkv, .webm, ...
  alike) anywhere below the split's folder: flat, or in class folders;
- else a list of `path label` lines as mmaction2 and SlowFast have them (``val.csv`` without header,
  ``val_list.txt``, ``kinetics400_val_list_videos.txt``, ...), by class name or index;
- else class folders alone: ``val/<class>/``, or ``<class>/`` directly at the root, which are then
  the validation split.

Labels are matched by class name. A ``classes.txt`` (or ``label_map.txt``), one name a line, says
what the indices of a list mean; if its names are not those of the data set, it makes a root with
classes of its own, and the notes of the split say so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsbench.data import lists
from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.lists import ClassList, ListedClip, ListedPath
from rsbench.data.sample import write_motion_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Item, Sample, Split, Task, Views

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation", "validate"),
}
"""Names of the splits on disk."""

LAYOUTS_READ = (
    "kinetics csv, flat",
    "kinetics csv, class folders",
    "kinetics csv, trimmed",
    "kinetics class folders",
    "path label list",
)
"""On-disk layouts this loader reads, by their names in `rsbench.data.layouts.LAYOUTS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KineticsSet:
    """What differs between the Kinetics data sets."""

    name: str
    num_classes: int
    class_names: Callable[[], tuple[str, ...]] | None = None
    """Gives the canonical list; None takes the classes from the lists found."""
    num_official: Mapping[str, int] = field(default_factory=dict)
    """Published lengths by split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Classes:
    """The classes of one root."""

    listing: ClassList
    by_index: ClassList | None
    """What an integer label means; None if nothing names the indices."""
    are_canonical: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """Items of a split before they are judged as a whole."""

    items: list[Item]
    missing: list[str]
    num_listed: int | None
    """None where no list names the clips."""
    notes: list[str]


def kinetics_task(
    which: KineticsSet, *, title: str, how_to_get: str, citation: str, version: int = 1
) -> Task:
    """Make the task of one Kinetics data set.

    Args:
        which: The data set.
        title: A line for people.
        how_to_get: Where the data is to be had.
        citation: The paper.
        version: Of the task.

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
    source = _find_source(which, root, split)
    classes = _classes_of(which, root, guard)
    if source is not None and lists.is_clip_csv(source):
        found = _from_clip_csv(which, source, split, classes, guard)
    elif source is not None:
        found = _from_path_list(which, source, split, classes, guard)
    else:
        found = _from_class_folders(which, split, classes, guard)
    return _judged(which, split, classes, found, source, guard)


# ---------------------------------------------------------------------------- what is where


def _find_source(which: KineticsSet, root: Path, split: str) -> Path | None:
    """Find the list of a split; a clip CSV goes before a path list."""
    found = _sources(which, root, split)
    clip_csvs = [path for path in found if lists.is_clip_csv(path)]
    return next(iter(clip_csvs or found), None)


def _sources(which: KineticsSet, root: Path, split: str) -> list[Path]:
    spelled = (which.name, which.name.replace("kinetics", "kinetics_"), f"k{which.name[8:]}")
    prefixes = ("", *(f"{name}_" for name in spelled))
    endings = (".csv", ".txt", "_list.csv", "_list.txt", "_list_videos.txt", "_videos.txt")
    candidates = [
        folder / f"{prefix}{word}{ending}"
        for folder in (root, root / "annotations")
        for prefix in prefixes
        for word in SPLIT_WORDS[split]
        for ending in endings
    ]
    return [path for path in candidates if path.is_file()]


def _split_folders(root: Path, split: str) -> list[Path]:
    """Give the folders that by their name hold a split's media; one folder is given once."""
    names = [name for word in SPLIT_WORDS[split] for name in _folder_forms(word)]
    by_place = {(root / name).resolve(): root / name for name in names if (root / name).is_dir()}
    return list(by_place.values())


def _media_folder(which: KineticsSet, guard: RootGuard, split: str) -> Path | None:
    folders = _split_folders(guard.root, split)
    if len(folders) > 1:
        raise DataError(
            f"{which.name} {split} must lie in one folder, found {folders[0]} and {folders[1]}; "
            "move one away, or link only one into a root of its own"
        )
    return folders[0] if folders else None


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _class_folders(guard: RootGuard, folder: Path) -> list[Path]:
    """Give the sub-folders that hold videos, directly or below."""
    return [
        sub for sub in guard.subfolders(folder) if any(_is_video(path) for path in guard.walk(sub))
    ]


def _loose_folder(guard: RootGuard) -> Path | None:
    """Give the folder of class folders of a root without split folders."""
    if any(_split_folders(guard.root, split) for split in SPLIT_WORDS):
        return None
    for folder in (guard.root / "videos", guard.root):
        if folder.is_dir() and _class_folders(guard, folder):
            return folder
    return None


# ---------------------------------------------------------------------------- classes


def _classes_of(which: KineticsSet, root: Path, guard: RootGuard) -> _Classes:
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
            return _Classes(listing=canonical, by_index=None, are_canonical=True)
        assert names_file is not None
        if any(canonical.find(name) is None for name in named.names):
            return _own_classes(which, named, names_file)
        note = f"class indices read through {names_file.name}"
        return _Classes(listing=canonical, by_index=named, are_canonical=True, notes=(note,))
    if named is not None and names_file is not None:
        note = f"classes in the order of {names_file.name}"
        return _Classes(listing=named, by_index=named, are_canonical=False, notes=(note,))
    return _found_classes(which, root, guard)


def _own_classes(which: KineticsSet, named: ClassList, names_file: Path) -> _Classes:
    note = f"classes are the {len(named)} of {names_file.name}, not those of {which.name}"
    return _Classes(listing=named, by_index=named, are_canonical=False, notes=(note,))


def _found_classes(which: KineticsSet, root: Path, guard: RootGuard) -> _Classes:
    """Take the classes from the lists of both splits, else from the class folders."""
    sources = [path for split in SPLIT_WORDS if (path := _find_source(which, root, split))]
    labels: list[str] = []
    for path in sources:
        if lists.is_clip_csv(path):
            labels += [clip.label for clip in lists.read_clip_csv(path)]
        else:
            listed = lists.read_path_labels(path)
            labels += [line.label if line.index is None else _folder_name(line) for line in listed]
    origin = " and ".join(path.name for path in sources)
    if not sources:
        folders = [folder for split in SPLIT_WORDS for folder in _split_folders(root, split)]
        loose = _loose_folder(guard)
        folders += [loose] if loose else []
        labels = [sub.name for folder in folders for sub in _class_folders(guard, folder)]
        origin = "the class folders"
    names = {lists.normal_class_name(label): label.replace("_", " ") for label in labels if label}
    if not names:
        raise DataError(
            f"{which.name}: no class name found below {root}; put a classes.txt there, one class "
            "name a line in index order"
        )
    note = f"classes are the {len(names)} of {origin}, sorted; {which.name} has {which.num_classes}"
    listing = ClassList((names[key] for key in sorted(names)), of=which.name)
    return _Classes(listing=listing, by_index=None, are_canonical=False, notes=(note,))


# ---------------------------------------------------------------------------- the three layouts


def _from_clip_csv(
    which: KineticsSet, source: Path, split: str, classes: _Classes, guard: RootGuard
) -> _Found:
    clips = lists.read_clip_csv(source)
    folder = _media_folder(which, guard, split) or guard.root
    files: dict[str, list[Path]] = {}
    for path in filter(_is_video, guard.walk(folder)):
        files.setdefault(path.stem, []).append(path)
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
        _refuse_other_folder(path, target, classes, where=clip.where, guard=guard)
        items.append(Item(id=clip.id, source=path, target=target, group=clip.youtube_id))
    notes = []
    if num_trimmed:
        notes.append(f"{num_trimmed} files are named by YouTube id alone and taken as trimmed")
    num_unlisted = sum(map(len, files.values())) - len(used)
    if num_unlisted and folder != guard.root:
        notes.append(f"{num_unlisted} files in {folder.name}/ are not in {source.name}: left out")
    return _Found(items=items, missing=missing, num_listed=len(clips), notes=notes)


def _from_path_list(
    which: KineticsSet, source: Path, split: str, classes: _Classes, guard: RootGuard
) -> _Found:
    listed = lists.read_path_labels(source)
    bases = [guard.root, *_split_folders(guard.root, split), source.parent, guard.root / "videos"]
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    seen: dict[str, ListedPath] = {}
    paths: list[Path | None] = []
    for line in listed:
        stem = Path(line.path).stem
        first = seen.setdefault(stem, line)
        if first is not line:
            raise DataError(
                f"{line.where}: clip {stem} must be listed once and was in {first.where} already; "
                "drop one of the two lines"
            )
        paths.append(guard.locate(line.path, bases=bases, where=line.where))
    targets, notes = _targets_of(listed, classes)
    items = [
        Item(id=stem, source=path, target=target, group=lists.source_of_clip(stem))
        for stem, path, target in zip(seen, paths, targets, strict=True)
        if path is not None
    ]
    missing = [stem for stem, path in zip(seen, paths, strict=True) if path is None]
    return _Found(items=items, missing=missing, num_listed=len(listed), notes=notes)


def _targets_of(listed: Sequence[ListedPath], classes: _Classes) -> tuple[list[int], list[str]]:
    """Turn labels into class indices; class folders in the paths check the indices of a list."""
    targets = []
    num_unverified = 0
    first_of_index: dict[int, tuple[int, ListedPath]] = {}
    has_names = classes.by_index is not None or classes.are_canonical
    for line in listed:
        by_folder = classes.listing.find(_folder_name(line))
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


def _folder_name(line: ListedPath) -> str:
    """Give the folder a listed file lies in, which may be its class; empty for a split's folder."""
    name = Path(line.path).parent.name
    words = [word for split in SPLIT_WORDS.values() for word in split]
    is_split = name in {form for word in words for form in _folder_forms(word)}
    return "" if is_split else name


def _folder_forms(word: str) -> tuple[str, ...]:
    return (word, f"{word}_256", f"videos_{word}", f"videos_{word}_256", f"videos/{word}")


def _from_class_folders(
    which: KineticsSet, split: str, classes: _Classes, guard: RootGuard
) -> _Found:
    folder = _media_folder(which, guard, split)
    notes = ["no list found: clips that are missing are not known"]
    if folder is None:
        folder = _loose_folder(guard)
        if folder is None or not any(
            classes.listing.find(sub.name) is not None for sub in _class_folders(guard, folder)
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
    num_loose = sum(1 for path in folder.iterdir() if path.is_file() and _is_video(path))
    if num_loose:
        notes.append(f"{num_loose} files in {folder.name}/ lie in no class folder: left out")
    for sub in _class_folders(guard, folder):
        target = classes.listing.index_of(sub.name, where=f"folder {guard.relative(sub)}")
        for path in filter(_is_video, guard.walk(sub)):
            first = seen.setdefault(path.stem, path)
            if first is not path:
                raise DataError(
                    f"clip {path.stem} must be there once, found {guard.relative(first)} and "
                    f"{guard.relative(path)}; keep one"
                )
            group = lists.source_of_clip(path.stem)
            items.append(Item(id=path.stem, source=path, target=target, group=group))
    return _Found(items=items, missing=[], num_listed=None, notes=notes)


def _refuse_other_folder(
    path: Path, target: int, classes: _Classes, *, where: str, guard: RootGuard
) -> None:
    by_folder = classes.listing.find(path.parent.name)
    if by_folder is not None and by_folder != target:
        raise DataError(
            f"{where}: the list says {classes.listing.names[target]!r} and the file lies in "
            f"{guard.relative(path)}; mend the list or move the file"
        )


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
    classes: _Classes,
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
    notes = [*classes.notes, *found.notes]
    num_official = which.num_official.get(split) if classes.are_canonical else None
    if num_official is not None and found.num_listed not in (None, num_official):
        notes.append(f"{origin} lists {found.num_listed} of {num_official} official clips")
    if num_official is None or num_official < len(found.items):
        num_official = found.num_listed
    others = [path for path in _sources(which, guard.root, split) if path != source]
    if others:
        notes.append(f"{', '.join(path.name for path in others)} not read, {origin} is")
    return Split(
        items=tuple(sorted(found.items, key=lambda item: item.id)),
        classes=classes.listing.names,
        num_official=num_official,
        missing=tuple(sorted(found.missing)),
        media=_media_form(found.items, guard),
        notes=tuple(notes),
    )


def _media_form(items: Sequence[Item], guard: RootGuard) -> str:
    """Give "short-256" where the folders are named so (``val_256``), as CVDF's mirror does."""
    forms = set()
    for item in items:
        assert isinstance(item.source, Path)
        top = guard.relative(item.source).split("/")[:-1]
        forms.add("short-256" if any(part.endswith("_256") for part in top) else "original")
    return " and ".join(sorted(forms))

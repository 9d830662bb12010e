"""What data sets with lists of their own share: clips named by id, found as files or frames.

Below the root, for each split (validation is ``val`` or ``validation`` in lists of others), the
first of these that is there says which clips there are:

- the data set's own annotations;
- mmaction2's ``PREFIX_{train,val}_list_videos.txt`` (`path label`) or ``..._list_rawframes.txt``
  (`folder frames label`), with class names in ``label_map.txt`` or ``classes.txt`` if the data
  set's own list of classes is not there;
- SlowFast's list of frames, ``{train,val}.csv``, where it has labels. Beside annotations it says
  where a clip's frames lie.

A clip is a video file named by its id, or a folder of frames of that name, in that of the
customary folders which holds most of the split's clips, the first one if several do. Files and
folders of frames are not mixed; what lies elsewhere is not read, and the notes say so.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsbench.data.files import VIDEO_SUFFIXES, RootGuard
from rsbench.data.frame_lists import is_frame_list, read_frame_list, read_rawframe_list
from rsbench.data.lists import ClassList, read_class_names, read_path_labels, read_text
from rsbench.data.prepared import UNKNOWN_RATE, video_form
from rsbench.errors import DataError
from rsbench.specs import Item, Split

LIST_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("val", "validation"),
    "test": ("val", "test"),
}
"""What lists of others call a split. mmaction2 and SlowFast call the reported one ``val``,
whatever the data set does."""

ANNOTATION_FOLDERS = (".", "annotations", "labels", "frame_lists")
"""Where lists are looked for, below the root."""

NAMES_FILES = ("label_map.txt", "classes.txt")
"""Class names, one a line in index order, where the data set's own list is not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One clip, as a list names it."""

    where: str
    """File and line or entry, for messages."""
    id: str
    target: Any
    """Class index, or rising tuple of them."""
    group: str | None = None
    path: str | None = None
    """File or folder that a list of paths names; None where the id is the name."""
    num_frames: int | None = None
    """Frames that the list claims; a number says that `path` is a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedSet:
    """What differs between the data sets."""

    name: str
    num_classes: int
    num_official: Mapping[str, int]
    """Published lengths by split; only splits that can be loaded."""
    read_classes: Callable[[Path], tuple[Path, tuple[str, ...]] | None]
    """root -> (its file, class names in index order), None where there is none."""
    find_annotations: Callable[[Path, str], Path | None]
    """(root, split) -> the data set's own list, None where there is none."""
    read_annotations: Callable[[Path, ClassList], Sequence[Annotation]]
    prefix: str
    """What mmaction2's lists begin with."""
    media_folders: tuple[str, ...]
    """Where clips are looked for, in this order, before the root itself."""
    fps: float | None = None
    """Rate of frames as published; None where people extract them at a rate of their own."""
    group_of: Callable[[str], str | None] = lambda clip: None
    """What a clip was cut from, by its id."""
    is_multilabel: bool = False
    looked_for: str
    """The layout looked for, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listing:
    """The clips of a split before they are looked for."""

    source: Path
    annotations: Sequence[Annotation]
    frame_list: Path | None
    """Says where frames lie."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Medium:
    """Where a clip was found."""

    path: Path
    is_folder: bool
    """Whether it is a folder of frames."""
    num_frames_listed: int | None = None


def load_annotated(which: AnnotatedSet, root: Path, split: str) -> Split:
    """List one split as found on disk; decodes nothing.

    Args:
        which: The data set.
        root: Its folder, in any layout of the module's description.
        split: One of `which.num_official`.

    Returns:
        The clips present, sorted by id. Clips that a list names and the disk lacks are `missing`.

    Raises:
        DataError: No such split, no list or class names, a label outside the classes, a clip twice,
            no clip of the list there, or a path that leaves the root.
    """
    if split not in which.num_official:
        raise DataError(
            f"{which.name} has the splits {' and '.join(which.num_official)}, not {split!r}; name "
            "one"
        )
    if not root.is_dir():
        raise DataError(f"{which.name} must lie in a folder, {root} is none; point --data at it")
    guard = RootGuard(root)
    classes, class_notes = _classes_of(which, root)
    listing, media, media_notes = _found_most(which, guard, split, classes)
    items = [
        _item(which, annotation, media[annotation.id])
        for annotation in listing.annotations
        if annotation.id in media
    ]
    missing = [each.id for each in listing.annotations if each.id not in media]
    if not items:
        raise DataError(
            f"{which.name} {split}: none of the {len(missing)} clips of {listing.source.name} is "
            f"below {root}, e.g. no {missing[0]}; looked for are {which.looked_for}"
        )
    count_notes, num_official = _official(which, split, classes, listing)
    holds_frames = next(iter(media.values())).is_folder
    return Split(
        items=tuple(sorted(items, key=lambda item: item.id)),
        classes=classes.names,
        num_official=num_official,
        missing=tuple(sorted(missing)),
        media=video_form(root, folders=holds_frames, fps=which.fps),
        notes=(
            *(*class_notes, *listing.notes, *media_notes, *count_notes),
            *([UNKNOWN_RATE] if holds_frames and which.fps is None else []),
        ),
    )


def find_list(root: Path, names: Iterable[str], *, folders: Sequence[str] = ()) -> Path | None:
    """Find a file under one of its names: at the root, or in a folder of annotations.

    Args:
        root: The data root.
        names: In order of preference.
        folders: Further places, below the root.
    """
    places = [root / folder for folder in (*ANNOTATION_FOLDERS, *folders)]
    candidates = (place / name for name in names for place in places)
    return next((path for path in candidates if path.is_file()), None)


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a JSON file.

    Raises:
        DataError: It can't be read or is no JSON.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DataError(
            f"{path.name} must be JSON, and is not ({error}); fetch the file again"
        ) from error


def entries_of(path: Path, *, of: str) -> list[Mapping[str, Any]]:
    """Read a JSON list of objects.

    Raises:
        DataError: It holds anything else.
    """
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DataError(f"{path.name} must be a JSON list of {of}, and is not; is it another file?")
    return content


def index_of(label: object, classes: ClassList, *, where: str) -> int:
    """Give a class index as a list states it, a whole number or its digits.

    Raises:
        DataError: It is none, or out of range.
    """
    is_index = type(label) is int or (isinstance(label, str) and label.isdecimal())
    if not is_index:
        raise DataError(f"{where}: label must be a class index, got {label!r}; correct it")
    index = int(str(label))
    classes.name_at(index, where=where)
    return index


# ---------------------------------------------------------------------------- classes


def _classes_of(which: AnnotatedSet, root: Path) -> tuple[ClassList, list[str]]:
    found = which.read_classes(root)
    if found is None:
        names_file = find_list(root, NAMES_FILES)
        if names_file is None:
            raise DataError(
                f"{which.name}: the class names must be below {root}, and no list of them is; "
                f"looked for are {which.looked_for}, or {' or '.join(NAMES_FILES)} with one name a "
                "line in index order"
            )
        found = names_file, read_class_names(names_file)
    path, names = found
    classes = ClassList(names, of=path.name)
    if len(classes) < 2:
        raise DataError(f"{path.name} must name two classes or more, it names {len(classes)}")
    if len(classes) == which.num_classes:
        return classes, []
    return classes, [
        f"classes are the {len(classes)} of {path.name}, not the {which.num_classes} of "
        f"{which.name}"
    ]


# ---------------------------------------------------------------------------- lists


def _listings(
    which: AnnotatedSet, root: Path, split: str, classes: ClassList
) -> Iterator[_Listing]:
    """Give the list of a split; further ones name its clips in another medium."""
    official = which.find_annotations(root, split)
    words = LIST_WORDS[split]
    path_lists = [
        path
        for form in ("videos", "rawframes")
        if (path := find_list(root, [f"{which.prefix}_{word}_list_{form}.txt" for word in words]))
    ]
    frame_list = _frame_list(which, root, words)
    sources: list[tuple[Path, Callable[[], Sequence[Annotation]]]]
    if official is not None:
        sources = [(official, lambda: which.read_annotations(official, classes))]
    elif path_lists:
        frame_list = None
        sources = [
            (path, functools.partial(_read_path_list, which, path, classes)) for path in path_lists
        ]
    elif frame_list is not None:
        labelled = frame_list
        sources = [(labelled, lambda: _read_labelled_frame_list(which, labelled, classes))]
    else:
        raise DataError(
            f"{which.name} {split} must be below {root} and no list of it is; looked for are "
            f"{which.looked_for}; point --data at the folder that holds them"
        )
    for source, read in sources:
        annotations = read()
        if not annotations:
            raise DataError(f"{which.name} {split} is empty: {source.name} names no clip; check it")
        notes = [f"{path.name} not read, {source.name} is" for path in path_lists if path != source]
        listing = _Listing(
            source=source, annotations=annotations, frame_list=frame_list, notes=tuple(notes)
        )
        _refuse_repeats(listing)
        yield listing


def _frame_list(which: AnnotatedSet, root: Path, words: Sequence[str]) -> Path | None:
    names = [
        name
        for word in words
        for name in (f"{word}.csv", f"{which.prefix}_{word}_list_rawframes.csv")
    ]
    path = find_list(root, names)
    return path if path is not None and is_frame_list(path) else None


def _read_path_list(which: AnnotatedSet, path: Path, classes: ClassList) -> list[Annotation]:
    """Read one of mmaction2's lists; the id is the file's or folder's name."""
    read: list[Annotation] = []
    if path.stem.endswith("rawframes"):
        for folder in read_rawframe_list(path):
            clip = Path(folder.path).name
            read.append(
                Annotation(
                    where=folder.where,
                    id=clip,
                    target=_target(which, folder.labels, classes, where=folder.where),
                    group=which.group_of(clip),
                    path=folder.path,
                    num_frames=folder.num_frames,
                )
            )
        return read
    for line in read_path_labels(path):
        labels = [index_of(word, classes, where=line.where) for word in line.label.split()]
        clip = Path(line.path).stem
        read.append(
            Annotation(
                where=line.where,
                id=clip,
                target=_target(which, labels, classes, where=line.where),
                group=which.group_of(clip),
                path=line.path,
            )
        )
    return read


def _read_labelled_frame_list(
    which: AnnotatedSet, path: Path, classes: ClassList
) -> list[Annotation]:
    return [
        Annotation(
            where=folder.where,
            id=folder.id,
            target=_target(which, folder.labels, classes, where=folder.where),
            group=which.group_of(folder.id),
            path=folder.path,
            num_frames=folder.num_frames,
        )
        for folder in read_frame_list(path)
    ]


def _target(
    which: AnnotatedSet, labels: Sequence[int], classes: ClassList, *, where: str
) -> int | tuple[int, ...]:
    for label in labels:
        classes.name_at(label, where=where)
    if which.is_multilabel:
        return tuple(sorted(set(labels)))
    if len(labels) != 1:
        raise DataError(
            f"{where}: a clip of {which.name} must have one label, it has {len(labels)}; a list "
            "with the first frame's number between folder and count is not read"
        )
    return labels[0]


def _refuse_repeats(listing: _Listing) -> None:
    seen: dict[str, Annotation] = {}
    for annotation in listing.annotations:
        first = seen.setdefault(annotation.id, annotation)
        if first is not annotation:
            raise DataError(
                f"{annotation.where}: clip {annotation.id} must be listed once and was in "
                f"{first.where} already; drop one of the two"
            )


# ---------------------------------------------------------------------------- media


def _found_most(
    which: AnnotatedSet, guard: RootGuard, split: str, classes: ClassList
) -> tuple[_Listing, dict[str, _Medium], list[str]]:
    """Read the list most of whose clips are there: (it, medium by id, notes).

    A further list is read only where the one before it lacks some.
    """
    tried = []
    for listing in _listings(which, guard.root, split, classes):
        media, notes = _media_of(which, guard, listing)
        tried.append((listing, media, notes))
        if len(media) == len(listing.annotations):
            break
    best = max(tried, key=lambda found: len(found[1]))
    others = [
        f"{len(media)} clips that {listing.source.name} names not read"
        for listing, media, _ in tried
        if media and listing is not best[0]
    ]
    return best[0], best[1], [*best[2], *others]


def _media_of(
    which: AnnotatedSet, guard: RootGuard, listing: _Listing
) -> tuple[dict[str, _Medium], list[str]]:
    """Find the clips of a listing: (medium by id, notes)."""
    if listing.annotations[0].path is not None:
        return _named_media(which, guard, listing), []
    wanted = {annotation.id for annotation in listing.annotations}
    found_in: list[tuple[str, dict[str, _Medium]]] = []
    if listing.frame_list is not None:
        # First, so that it goes before the same folders found by their names.
        named = f"the folders of {listing.frame_list.name}"
        found_in.append((named, _frames_as_listed(which, guard, listing.frame_list, wanted)))
    for base in _bases(which, guard):
        found_in += _found_in(guard, base, wanted)
    used, media = max(found_in, key=lambda found: len(found[1]))
    notes = []
    if listing.frame_list is not None and media is found_in[0][1] and media:
        notes.append(f"frames of {len(media)} clips as {listing.frame_list.name} names them")
    counted = {medium.path for medium in media.values()}
    for name, found in found_in:
        unread = {medium.path for medium in found.values()} - counted
        counted |= unread
        if unread:
            notes.append(f"{len(unread)} clips in {name} not read, {used} is")
    return media, notes


def _bases(which: AnnotatedSet, guard: RootGuard) -> list[Path]:
    folders = [guard.root / name for name in which.media_folders]
    return [folder for folder in (*folders, guard.root) if folder.is_dir()]


def _found_in(
    guard: RootGuard, base: Path, wanted: set[str]
) -> list[tuple[str, dict[str, _Medium]]]:
    """Give what one folder holds of the wanted clips: as files, and as folders of frames."""
    files: dict[str, _Medium] = {}
    for path in guard.files(base):
        if path.suffix.lower() not in VIDEO_SUFFIXES or path.stem not in wanted:
            continue
        if path.stem in files:
            raise DataError(
                f"clip {path.stem} must have one file, found "
                f"{guard.relative(files[path.stem].path)} and {guard.relative(path)}; keep one"
            )
        files[path.stem] = _Medium(path=path, is_folder=False)
    folders = {
        path.name: _Medium(path=path, is_folder=True)
        for path in guard.subfolders(base)
        if path.name in wanted
    }
    name = "the root" if base == guard.root else f"{guard.relative(base)}/"
    return [(f"{name} as files", files), (f"{name} as frames", folders)]


def _frames_as_listed(
    which: AnnotatedSet, guard: RootGuard, frame_list: Path, wanted: set[str]
) -> dict[str, _Medium]:
    bases = _bases(which, guard)
    found = {}
    for folder in read_frame_list(frame_list):
        if folder.id in wanted:
            path = guard.locate_folder(folder.path, bases=bases, where=folder.where)
            if path is not None:
                found[folder.id] = _Medium(
                    path=path, is_folder=True, num_frames_listed=folder.num_frames
                )
    return found


def _named_media(which: AnnotatedSet, guard: RootGuard, listing: _Listing) -> dict[str, _Medium]:
    bases = _bases(which, guard)
    found = {}
    for each in listing.annotations:
        assert each.path is not None, "a list of paths names all of them"
        is_folder = each.num_frames is not None
        locate = guard.locate_folder if is_folder else guard.locate
        path = locate(each.path, bases=bases, where=each.where)
        if path is not None:
            found[each.id] = _Medium(
                path=path, is_folder=is_folder, num_frames_listed=each.num_frames
            )
    return found


def _item(which: AnnotatedSet, annotation: Annotation, medium: _Medium) -> Item:
    return Item(
        id=annotation.id,
        source=medium.path,
        target=annotation.target,
        group=annotation.group,
        fps=which.fps if medium.is_folder else None,
        num_frames_listed=medium.num_frames_listed,
    )


def _official(
    which: AnnotatedSet, split: str, classes: ClassList, listing: _Listing
) -> tuple[list[str], int]:
    """Give notes on the length of the list, and the number of official clips."""
    num_listed = len(listing.annotations)
    if len(classes) != which.num_classes:
        return [], num_listed
    num_official = which.num_official[split]
    if num_listed == num_official:
        return [], num_official
    note = f"{listing.source.name} lists {num_listed} of {num_official} official clips"
    return [note], max(num_listed, num_official)

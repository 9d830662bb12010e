"""What the 19 tasks of VTAB-1k share (Zhai et al. 2019, arXiv:1910.04867).

A task learns from 800 pictures, selects on 200 and is tested on all test pictures. It is read from
either of two forms, which make different rulers:

- the folder that NOAH and SSF release, ``<data set>/{train800,val200,test}.txt`` with lines such as
  ``images/train800/000000.jpg 307``: root is that folder, or the one above. Its pictures were
  decoded and coded again as JPEG, which costs accuracy where they are small
  (https://github.com/ZhangYuanhan-AI/NOAH/issues/28): the media of a run says so;
- the data set's own files, where which examples are shown follows from their names (see
  `_vtab_order`). These are lossless where the data set is.

Beside the lists a ``classes.txt``, one name a line, says that the folder has classes of its own, as
the samples do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rsbench.data.files import RootGuard
from rsbench.data.lists import read_class_names, read_text
from rsbench.data.picture_sample import MAX_CLASSES, write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

from ._vtab_order import (
    NUM_SHOWN,
    TEST,
    TRAIN,
    VALIDATION,
    Cuts,
    Pool,
    cut,
    hold_to_published,
    in_tfds_order,
    label_notes,
)

LISTS: Mapping[str, str] = {TRAIN: "train800.txt", VALIDATION: "val200.txt", TEST: "test.txt"}
"""Names of the released lists."""

LAYOUT = "vtab-1k"
"""The released folder, by its name in `rsbench.data.layouts.LAYOUTS`."""


class Found(NamedTuple):
    """Examples as they lie on disk."""

    items: list[Item]
    missing: list[str]
    """Ids of those that are not there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Originals:
    """How a data set's own files are read."""

    folders: tuple[str, ...]
    """Where they may lie below the root, "" for the root itself."""
    markers: tuple[str, ...]
    """Files, or folders with "/" at their end, that are all there."""
    num_keys: Mapping[Pool, int]
    """Published number of examples, by pool; a pool that is not named may have any number."""
    keys: Callable[[RootGuard, Path, Pool], Sequence[Any]]
    """(guard of the root, folder, pool) -> what TFDS names the pool's examples by."""
    find: Callable[[RootGuard, Path, Pool, Sequence[Any]], Found]
    """(guard of the root, folder, pool, keys wanted) -> these examples, in the order given."""
    layout: str = ""
    """Its name in `rsbench.data.layouts.LAYOUTS`, where that can write it."""
    notes: tuple[str, ...] = ()
    """How these pictures differ from those of TFDS."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VtabSet:
    """What differs between VTAB's tasks."""

    name: str
    """The task's."""
    data_set: str
    """Several tasks may ask about one."""
    folders: tuple[str, ...]
    """Its names among the released folders."""
    classes: tuple[str, ...]
    num_test: int
    """Examples that the test has."""
    cuts: Cuts
    originals: tuple[Originals, ...] = ()
    """Forms of its own files, of which the first that is there is read; none where the released
    folder is all that can be."""


def vtab_task(
    which: VtabSet,
    *,
    title: str,
    originals: str,
    licence: str,
    citation: str,
    flip: bool = True,
    shares_data_with: Mapping[str, str] | None = None,
) -> Task:
    """Make one of VTAB's tasks.

    Args:
        which: The task's data.
        title: A line for people.
        originals: Where the original files are to be had and what they are called, or why they
            can't be read: ends the advice on how to get the data.
        licence: Of the data.
        citation: The data set's paper.
        flip: Whether a mirrored picture keeps its label.
        shares_data_with: Of the task; None for nothing.

    Returns:
        The task: train800, validation200, test; top-1.
    """
    return Task(
        name=which.name,
        version=1,
        modality="image",
        target="class",
        metrics=(TOP1,),
        load=functools.partial(load_vtab, which),
        folds=(Fold(train=TRAIN, validation=VALIDATION, test=TEST),),
        sample=Sample(
            write=functools.partial(
                write_picture_sample,
                layout=LAYOUT,
                classes=which.classes[:MAX_CLASSES],
                num_train=4,
                num_validation=2,
                num_test=3,
            ),
            pixels=64,
        ),
        layouts=(LAYOUT, *(form.layout for form in which.originals if form.layout)),
        flip=flip,
        shares_data_with=shares_data_with or {},
        how_to_get=(
            f"https://github.com/ZhangYuanhan-AI/NOAH releases vtab-1k/{which.folders[0]}/ with "
            f"{', '.join(LISTS.values())} and images/. {originals}"
        ),
        title=title,
        licence=licence,
        citation=(
            f"{citation}; Zhai et al., A Large-scale Study of Representation Learning with the "
            "Visual Task Adaptation Benchmark, 2019, arXiv:1910.04867"
        ),
    )


def load_vtab(which: VtabSet, root: Path, split: str) -> Split:
    """List one split; decodes no picture file.

    Args:
        which: The task's data.
        root: A released folder, the one above it, or the folder of the original files.
        split: "train800", "validation200" or "test".

    Returns:
        Examples that are there, in the order of the list or of TFDS; the others in `missing`.

    Raises:
        DataError: No such split, neither form is there or both are, a list or file is not as
            published, a label is no class, no picture is there, or a path leaves the root.
    """
    if split not in LISTS:
        raise DataError(f"{which.name} has the splits {', '.join(LISTS)}, not {split!r}; name one")
    if not root.is_dir():
        raise DataError(f"{which.name} must lie in a folder, {root} is none; point --data at it")
    guard = RootGuard(root)
    released = _released_folder(which, guard)
    original = _original_files(which, guard)
    if released is not None and original is not None:
        raise DataError(
            f"{which.name} must lie below {root} in one form, and there are released lists in "
            f"{released} and original files in {original[1]}; point --data at one of them"
        )
    if released is not None:
        return _from_lists(which, guard, released, split)
    if original is not None:
        return _from_originals(which, guard, *original, split)
    raise DataError(_nothing_there(which, root))


# ---------------------------------------------------------------------------- the released folder


def _released_folder(which: VtabSet, guard: RootGuard) -> Path | None:
    for name in ("", *which.folders, *(f"vtab-1k/{folder}" for folder in which.folders)):
        folder = guard.root / name
        # A test.txt alone may be a list of anything.
        if any((folder / LISTS[split]).is_file() for split in (TRAIN, VALIDATION)):
            return folder
    return None


def _from_lists(which: VtabSet, guard: RootGuard, folder: Path, split: str) -> Split:
    list_name = LISTS[split]
    path = guard.locate(list_name, bases=[folder], where=str(folder))
    if path is None:
        raise DataError(
            f"{which.name} {split} must be listed in {folder / list_name}, which is not there; get "
            "the whole released folder"
        )
    own_classes = guard.locate("classes.txt", bases=[folder], where=str(folder))
    classes = which.classes if own_classes is None else read_class_names(own_classes)
    items: list[Item] = []
    missing: list[str] = []
    labels: list[int] = []
    lines_of: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        entry, target = _entry_of(line, where=where, num_classes=len(classes))
        if lines_of.setdefault(entry, where) != where:
            raise DataError(
                f"{where}: {entry!r} must be listed once and was in {lines_of[entry]}; drop one"
            )
        labels.append(target)
        source = guard.locate(entry, bases=[folder], where=where)
        if source is None:
            missing.append(entry)
        else:
            items.append(Item(id=entry, source=source, target=target))
    _refuse_empty(which, split, Found(items, missing), folder)
    official = len(lines_of) if own_classes is not None else NUM_SHOWN.get(split, which.num_test)
    if len(lines_of) > official:
        raise DataError(
            f"{which.name} {split} has {official} examples, and {path} lists {len(lines_of)}; get "
            "the official list"
        )
    notes: list[str] = []
    if own_classes is not None:
        notes.append(f"classes are the {len(classes)} of classes.txt, not those of {which.name}")
    elif len(lines_of) < official:
        notes.append(f"{path.name} lists {len(lines_of)} of {official} examples of {split}")
    else:
        notes += label_notes(which.name, split, labels)
    return Split(
        items=tuple(items),
        classes=classes,
        num_official=official,
        missing=tuple(missing),
        media=_media([*lines_of]),
        notes=tuple(notes),
    )


def _entry_of(line: str, *, where: str, num_classes: int) -> tuple[str, int]:
    """Read `images/train800/000000.jpg 307`: the path, and the class index."""
    entry, _, label = line.strip().rpartition(" ")
    if not entry or not label.isascii() or not label.isdigit():
        raise DataError(
            f"{where}: a line must be 'path label' with a number as label, got {line[:120]!r}; get "
            "the official list"
        )
    if int(label) >= num_classes:
        raise DataError(
            f"{where}: the label must be a class from 0 to {num_classes - 1}, got {label}; is it "
            "the list of another data set?"
        )
    return entry.strip(), int(label)


def _media(entries: Sequence[str]) -> str:
    """Name how the released pictures are coded: "vtab-1k jpeg"."""
    codings = {Path(entry).suffix.lower().lstrip(".") for entry in entries}
    codings = {{"jpg": "jpeg"}.get(coding, coding) for coding in codings}
    return f"{LAYOUT} {' and '.join(sorted(codings))}"


# ---------------------------------------------------------------------------- original files


def _original_files(which: VtabSet, guard: RootGuard) -> tuple[Originals, Path] | None:
    for originals in which.originals:
        for name in originals.folders:
            folder = guard.root / name
            if all(
                (folder / marker).is_dir() if marker.endswith("/") else (folder / marker).is_file()
                for marker in originals.markers
            ):
                return originals, folder
    return None


def _from_originals(
    which: VtabSet, guard: RootGuard, originals: Originals, folder: Path, split: str
) -> Split:
    pool = which.cuts.of(split).pool
    keys = originals.keys(guard, folder, pool)
    published = originals.num_keys.get(pool, len(keys))
    if len(keys) != published:
        raise DataError(
            f"{which.name}: {pool} below {folder} must have {published} examples, or another 800 "
            f"of them would be learned from; it has {len(keys)}: fetch it again"
        )
    wanted = cut(in_tfds_order(keys, salt=pool), which.cuts, split)
    if originals.num_keys:
        hold_to_published(which.data_set, split, wanted)
    found = originals.find(guard, folder, pool, wanted)
    _refuse_empty(which, split, found, folder)
    return Split(
        items=tuple(found.items),
        classes=which.classes,
        num_official=len(wanted),
        missing=tuple(found.missing),
        notes=originals.notes,
    )


def _refuse_empty(which: VtabSet, split: str, found: Found, folder: Path) -> None:
    if not found.items:
        example = f", such as {found.missing[0]}" if found.missing else ""
        raise DataError(
            f"{which.name} {split}: none of the {len(found.missing)} pictures that are listed is "
            f"below {folder}{example}; unpack them there"
        )


def _nothing_there(which: VtabSet, root: Path) -> str:
    looked_for = f"{which.folders[0]}/train800.txt and its like"
    for originals in which.originals:
        places = " or ".join(f"{name}/" if name else "itself" for name in originals.folders)
        looked_for += f", nor {', '.join(originals.markers)} (below {places})"
    return (
        f"{which.name} must be below {root}, and neither {looked_for} is there; point --data at "
        "the folder that holds it"
    )

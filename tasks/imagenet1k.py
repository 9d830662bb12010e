"""ImageNet-1k: photographs of 1,000 synsets (Russakovsky et al. 2015, arXiv:1409.0575).

Looked for are ``train/<wnid>/...`` and ``val/<wnid>/...`` (or ``validation``), a folder a class,
named by its WordNet id; at the root, or below ``ILSVRC/Data/CLS-LOC``. The classes are those of
`rsbench.synsets.IMAGENET1K` whatever folders are there, so that a root with a few of them gives the
top-1 over all 1,000. A ``classes.txt`` at the root, one wnid a line in index order, says that the
data set has those classes only (ImageNet-100 and the like).

Scores are reported on the validation split; the test labels were never published. An item's id is
``val/<wnid>/<file>``, whatever the folders above are called. Pictures are turned upright by their
EXIF orientation where they have one, which torchvision, timm and TensorFlow leave alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rsbench.data.examples import Example
from rsbench.data.files import IMAGE_SUFFIXES, RootGuard
from rsbench.data.layouts import LAYOUTS
from rsbench.data.lists import read_class_names
from rsbench.data.sample import photographs
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Item, Sample, Split, Task
from rsbench.synsets import IMAGENET1K

SPLIT_WORDS = {"train": ("train",), "validation": ("val", "validation")}
"""Names of the splits on disk; the first is that of the ids."""

NUM_OFFICIAL = {"train": 1_281_167, "validation": 50_000}
"""Russakovsky et al. 2015, table 2."""

_PREFIXES = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")

SAMPLE_CLASSES = IMAGENET1K[:8]
"""What the sample's classes are called; its pictures are of none of these."""


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Args:
        root: Folder of the data set.
        split: "train" or "validation".

    Returns:
        Pictures by class and name. `num_official` is the published length, and the number of
        pictures present where a ``classes.txt`` names other classes than all 1,000.

    Raises:
        DataError: No such split, no such folder or two, a class folder that is not named by one of
            the wnids, no picture at all, or a link that leaves the root.
    """
    if split not in SPLIT_WORDS:
        raise DataError(
            f"imagenet1k has the splits {' and '.join(SPLIT_WORDS)}, not {split!r}; name one"
        )
    folder = _split_folder(root, split)
    if folder is None:
        raise DataError(
            f"imagenet1k {split} must be below {root} as {SPLIT_WORDS[split][0]}/<wnid>/, such as"
            f" {SPLIT_WORDS[split][0]}/{IMAGENET1K[0]}/, and is not; point --data at the folder"
            " that holds train/ and val/"
        )
    classes = _classes_of(root)
    guard = RootGuard(root)
    items, num_unread = _items(guard, folder, classes, word=SPLIT_WORDS[split][0])
    is_whole_list = classes == IMAGENET1K
    notes = (
        [] if is_whole_list else [f"classes are the {len(classes)} of classes.txt, not all 1000"]
    )
    if num_unread:
        notes.append(f"{num_unread} files in {folder.name}/ are no pictures: left out")
    if is_whole_list and len(items) < NUM_OFFICIAL[split]:
        num_classes = len({item.target for item in items})
        notes.append(
            f"{len(items)} of {NUM_OFFICIAL[split]} {split} pictures, of {num_classes} classes, are"
            " here: which ones are missing is not known"
        )
    return Split(
        items=tuple(items),
        classes=classes,
        num_official=NUM_OFFICIAL[split] if is_whole_list else len(items),
        notes=tuple(notes),
    )


def folds(root: Path) -> tuple[Fold, ...]:
    """Give the one pairing: train and validation, or validation alone where no train/ is there."""
    has_train = _split_folder(root, "train") is not None
    return (Fold(train="train" if has_train else None, test="validation"),)


def write_sample(root: Path) -> None:
    """Write eight classes of crops of two photographs: in colour or grey, upright or upside down.

    Train crops come from the left half of a photograph and validation crops from the right.
    """
    LAYOUTS["imagenet folders"](root, _sample_examples(), SAMPLE_CLASSES)


def _split_folder(root: Path, split: str) -> Path | None:
    """Find the folder of a split.

    Raises:
        DataError: There are two of them.
    """
    found = {
        folder.resolve(): folder
        for prefix in _PREFIXES
        for word in SPLIT_WORDS[split]
        if (folder := root / prefix / word).is_dir()
    }
    if len(found) > 1:
        first, second, *_ = found.values()
        raise DataError(
            f"imagenet1k {split} must lie in one folder, found {first} and {second}; move one away"
        )
    return next(iter(found.values()), None)


def _classes_of(root: Path) -> tuple[str, ...]:
    path = root / "classes.txt"
    if not path.is_file():
        return IMAGENET1K
    classes = read_class_names(path)
    known = set(IMAGENET1K)
    wrong = [name for name in classes if name not in known]
    if wrong or len(set(classes)) < len(classes):
        raise DataError(
            f"{path} must name wnids of ImageNet-1k, each once, and names"
            f" {repr(wrong[0]) if wrong else 'one twice'}; correct it, or use --task folder for"
            " classes of your own"
        )
    return classes


def _items(
    guard: RootGuard, folder: Path, classes: tuple[str, ...], *, word: str
) -> tuple[list[Item], int]:
    """List the pictures of all class folders, and count the files that are none."""
    index_of = {wnid: index for index, wnid in enumerate(classes)}
    items = []
    num_unread = 0
    class_folders = guard.subfolders(folder)
    for class_folder in class_folders:
        if class_folder.name not in index_of:
            raise DataError(
                f"imagenet1k: the folder {guard.relative(class_folder)} must be named by one of the"
                f" {len(classes)} wnids ({classes[0]}, ...); rename it or move it away, or use"
                " --task folder for classes of your own"
            )
        for path in guard.walk(class_folder):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                num_unread += 1
                continue
            name = path.relative_to(folder).as_posix()
            target = index_of[class_folder.name]
            items.append(Item(id=f"{word}/{name}", source=path, target=target))
    if not items:
        state = "has empty ones only" if class_folders else "has none"
        raise DataError(
            f"imagenet1k: {folder} must hold folders of pictures named by wnid and {state}; sort"
            f" the pictures into {word}/<wnid>/"
        )
    return items, num_unread


def _sample_examples() -> Iterator[Example]:
    random = np.random.default_rng(0)
    for index, wnid in enumerate(SAMPLE_CLASSES):
        photograph = photographs()[index // 4]
        half = photograph.shape[1] // 2
        for number in range(10):
            is_train = number < 6
            height, width = (int(side) for side in random.integers(70, 120, 2))
            top = int(random.integers(0, photograph.shape[0] - height))
            left = int(random.integers(0, half - width)) + (0 if is_train else half)
            crop = photograph[top : top + height, left : left + width]
            if index % 2:
                crop = np.repeat(np.rint(crop.mean(axis=2, keepdims=True)).astype(np.uint8), 3, 2)
            if index % 4 >= 2:
                crop = crop[::-1]
            yield Example(
                split="train" if is_train else "validation",
                label=wnid,
                source=f"crop {number}",
                start_seconds=0,
                end_seconds=1,
                pixels=np.ascontiguousarray(crop),
            )


TASK = Task(
    name="imagenet1k",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=folds,
    sample=Sample(write=write_sample, pixels=64),
    layouts=("imagenet folders",),
    how_to_get=(
        "Ask https://image-net.org/download for the ILSVRC 2012 pictures, which are for"
        " non-commercial research, and unpack them into train/<wnid>/ and val/<wnid>/. Give the"
        " folder above with --data."
    ),
    title="ImageNet-1k, 1,000 kinds of things",
    licence="non-commercial research and education (image-net.org); each picture is its owner's",
    citation=(
        "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015,"
        " arXiv:1409.0575"
    ),
)

"""Caltech-101: pictures of 101 kinds of things, and of none of them (Fei-Fei et al. 2004).

Read is what the archive unpacks to: ``101_ObjectCategories/<class>/image_0001.jpg``, at the root or
in ``caltech101/`` or ``caltech-101/``; ``BACKGROUND_Google`` is the 102nd class, as in Kornblith et
al. and VTAB. No split was published: 30 pictures of each class are drawn for training, and all
others are for testing. Here those train whose name has the least sha256 of their class, so that
the draw is the same everywhere and depends on nothing but the names. The score is the mean of the
classes' recalls. There is no official validation data.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from rsbench.data.files import IMAGE_SUFFIXES, RootGuard
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import MEAN_PER_CLASS, TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

from ._pictures import PictureSet, check_split, find_base, hold_to_official

NUM_TRAIN = 30
"""Pictures of each class that train (Fei-Fei et al. 2004; Kornblith et al. 2019, table 1)."""

_SET = PictureSet(
    name="caltech101",
    num_classes=102,
    # 9,144 pictures, of which 102 x 30 train (Kornblith et al. 2019, table 1).
    num_official={"train": 3_060, "test": 6_084},
    folders=("", "caltech101", "caltech-101"),
    marker="101_ObjectCategories/",
)


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Raises:
        DataError: No such split, no such folder, a class with too few pictures to train and to
            test, more pictures than were published, or a link that leaves the root.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard) / "101_ObjectCategories"
    items: list[Item] = []
    classes = []
    num_unread = 0
    for index, folder in enumerate(guard.subfolders(base)):
        classes.append(folder.name)
        files = guard.files(folder)
        pictures = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        num_unread += len(files) - len(pictures)
        train = _drawn(pictures)
        if len(pictures) <= len(train):
            raise DataError(
                f"caltech101: the class {folder.name} must have more than {NUM_TRAIN} pictures, of "
                f"which {NUM_TRAIN} train, and has {len(pictures)}; unpack the archive again"
            )
        chosen = (path for path in pictures if (path in train) == (split == "train"))
        items += [
            Item(id=f"{folder.name}/{path.name}", source=path, target=index) for path in chosen
        ]
    if len(classes) < 2:
        raise DataError(f"caltech101: {base} must hold class folders, it has {len(classes)}")
    official = hold_to_official(_SET, split, num_listed=len(items), classes=classes)
    notes = [*official.notes, "the split is rsbench's draw: none was published"]
    if num_unread:
        notes.append(f"{num_unread} files are no pictures: left out")
    return Split(
        items=tuple(items),
        classes=tuple(classes),
        num_official=official.num_pictures,
        notes=tuple(notes),
    )


def _drawn(pictures: list[Path]) -> set[Path]:
    """Draw the pictures of a class that train."""

    def key(path: Path) -> bytes:
        return hashlib.sha256(f"{path.parent.name}/{path.name}".encode()).digest()

    return set(sorted(pictures, key=key)[:NUM_TRAIN])


TASK = Task(
    name="caltech101",
    version=1,
    modality="image",
    target="class",
    metrics=(MEAN_PER_CLASS, TOP1),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="caltech-101",
            classes=("BACKGROUND_Google", "accordion", "airplanes"),
            num_train=NUM_TRAIN,
        ),
        pixels=48,
    ),
    shares_data_with={
        "vtab_caltech101": "both draw 30 train pictures a class at random, each in its own way"
    },
    layouts=("caltech-101",),
    how_to_get=(
        "https://data.caltech.edu/records/mzrjq-6wc02 has caltech-101.zip; looked for is "
        "101_ObjectCategories/<class>/*.jpg (its 101_ObjectCategories.tar.gz, unpacked)."
    ),
    title="Caltech-101, 101 kinds of things and none of them",
    licence="CC BY 4.0",
    citation=(
        "Fei-Fei, Fergus, Perona, Learning Generative Visual Models from Few Training Examples, "
        "CVPR Workshop on Generative-Model Based Vision 2004"
    ),
)

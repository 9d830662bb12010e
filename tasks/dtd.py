"""Describable Textures (DTD): 5,640 pictures of 47 textures (Cimpoi et al. 2014), first split.

Read is what ``dtd-r1.0.1.tar.gz`` unpacks to: ``dtd/labels/{train,val,test}1.txt`` with lines such
as "banded/banded_0002.jpg", and ``dtd/images/banded/banded_0002.jpg``. Ten splits are published,
of which Kornblith et al. and VTAB report the first. Each deals out 40 pictures of a class to each
part; the official validation part is for selection.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList
from rsbench.data.picture_sample import write_picture_sample
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Sample, Split, Task

from ._pictures import (
    Line,
    Listed,
    PictureSet,
    bad_line,
    check_split,
    find_base,
    listed_split,
    read_lines,
)

_SET = PictureSet(
    name="dtd",
    num_classes=47,
    # Cimpoi et al. 2014: 120 pictures of each of 47 classes, in three equal parts.
    num_official={"train": 1_880, "validation": 1_880, "test": 1_880},
    folders=("", "dtd", "dtd/dtd"),
    marker="labels/test1.txt",
)

LISTS = {
    "train": "labels/train1.txt",
    "validation": "labels/val1.txt",
    "test": "labels/test1.txt",
}
"""Of the first split."""


def load(root: Path, split: str) -> Split:
    """List the pictures of one part of the first split; decodes nothing.

    The classes are those of all three parts, by name.

    Raises:
        DataError: No such split, no such folder, a line that can't be understood, or as
            `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    lines = {part: list(read_lines(guard, base / name)) for part, name in LISTS.items()}
    names = {_class_of(line) for part in lines.values() for line in part}
    classes = ClassList(sorted(names), of="dtd")
    listed = _listed(lines[split], classes)
    return listed_split(_SET, guard, split, listed, folders=[base], classes=classes.names)


def _listed(lines: list[Line], classes: ClassList) -> Iterator[Listed]:
    for line in lines:
        target = classes.index_of(_class_of(line), where=line.where)
        yield Listed(line.where, f"images/{line.text}", target)


def _class_of(line: Line) -> str:
    name, _, picture = line.text.partition("/")
    if not name or not picture:
        raise bad_line(line, form="banded/banded_0002.jpg")
    return name


TASK = Task(
    name="dtd",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1,),
    load=load,
    folds=(Fold(train="train", validation="validation", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="dtd",
            classes=("banded", "blotchy", "braided", "bubbly"),
            num_train=4,
            num_validation=4,
        ),
        pixels=48,
    ),
    layouts=("dtd",),
    how_to_get=(
        "https://www.robots.ox.ac.uk/~vgg/data/dtd has dtd-r1.0.1.tar.gz; looked for are "
        "dtd/labels/{train,val,test}1.txt and dtd/images/<class>/*.jpg."
    ),
    title="Describable Textures (DTD), first split",
    licence="for research (the data set's page); pictures are their owners'",
    citation=(
        "Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi, Describing Textures in the Wild, CVPR 2014, "
        "https://arxiv.org/abs/1311.3618"
    ),
)

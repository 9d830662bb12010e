"""PASCAL VOC 2007 classification: which of 20 kinds of things are in a photograph.

Read is what the three archives unpack to: ``VOCdevkit/VOC2007/ImageSets/Main/<class>_<set>.txt``
for the sets train, val and test, with lines such as "000012  1" (1: in the picture, -1: not, 0:
only as objects that are marked as difficult), and ``JPEGImages/000012.jpg``.

The score is the 11-point average precision of each class, averaged over classes (Everingham et al.
2010, section 4.2, arXiv:1805.08974 table 1). A picture marked 0 for a class is left out when
pictures are ranked for that class, as the development kit's VOCevalcls.m does; where it trains a
probe, it counts as a picture without that class. Kornblith et al. train on train and validation,
5,011 pictures.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.picture_sample import write_several_labels_sample
from rsbench.errors import DataError
from rsbench.metrics import MAP_11, MEAN_AVERAGE_PRECISION
from rsbench.specs import Fold, Labels, Sample, Split, Task

from ._pictures import (
    Listed,
    PictureSet,
    bad_line,
    check_split,
    find_base,
    listed_split,
    read_lines,
)

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
"""Everingham et al. 2010, by name."""

_SET = PictureSet(
    name="voc2007",
    num_classes=20,
    # Everingham et al. 2010, statistics of VOC2007 (trainval: 5,011).
    num_official={"train": 2_501, "validation": 2_510, "test": 4_952},
    folders=("", "VOC2007", "VOCdevkit/VOC2007"),
    marker="ImageSets/Main/",
)

_LISTS = {"train": "train", "validation": "val", "test": "test"}

_MARKS = frozenset({"1", "0", "-1"})


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    The classes are those of the twenty that have a list. A target is the tuple of classes that are
    in the picture, `Labels` where others are marked as difficult.

    Raises:
        DataError: No such split, no such folder, no list, a line that can't be understood, lists
            that name different pictures, or as `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    lists = base / "ImageSets" / "Main"
    paths = {name: lists / f"{name}_{_LISTS[split]}.txt" for name in CLASSES}
    present = {name: path for name, path in paths.items() if path.is_file()}
    if not present:
        raise DataError(
            f"voc2007 {split} must have lists such as {paths[CLASSES[0]].name} in {lists}, and none"
            " is there; unpack the archive of that set, too"
        )
    marks = {name: _read_marks(guard, path) for name, path in present.items()}
    listed = _joined(marks, {name: path.name for name, path in present.items()})
    return listed_split(_SET, guard, split, listed, folders=[base], classes=tuple(present))


def _read_marks(guard: RootGuard, path: Path) -> dict[str, str]:
    """Read the list of one class: "1", "0" or "-1" by the picture's name."""
    marks: dict[str, str] = {}
    for line in read_lines(guard, path):
        name, _, mark = line.text.partition(" ")
        if mark.strip() not in _MARKS or name in marks:
            raise bad_line(line, form="000012  1, 0 or -1, each picture once")
        marks[name] = mark.strip()
    return marks


def _joined(marks: Mapping[str, Mapping[str, str]], names: Mapping[str, str]) -> list[Listed]:
    """Make one list of the lists of all classes, in the order of the first."""
    counts = Counter(picture for by_picture in marks.values() for picture in by_picture)
    lone = next((picture for picture, count in counts.items() if count < len(marks)), None)
    if lone is not None:
        lacking = next(names[each] for each, by_picture in marks.items() if lone not in by_picture)
        raise DataError(
            f"the lists of all classes must name the same pictures, {lone} is not in {lacking}; "
            "get the official files"
        )
    first = next(iter(names.values()))
    return [
        Listed(f"{first}, {picture}", f"JPEGImages/{picture}.jpg", _labels(picture, marks))
        for picture in counts
    ]


def _labels(picture: str, marks: Mapping[str, Mapping[str, str]]) -> Labels:
    by_class = [by_picture[picture] for by_picture in marks.values()]
    return Labels(
        (index for index, mark in enumerate(by_class) if mark == "1"),
        uncounted=(index for index, mark in enumerate(by_class) if mark == "0"),
    )


TASK = Task(
    name="voc2007",
    version=1,
    modality="image",
    target="multilabel",
    metrics=(MAP_11, MEAN_AVERAGE_PRECISION),
    load=load,
    folds=(Fold(train="train", validation="validation", test="test"),),
    sample=Sample(
        write=functools.partial(write_several_labels_sample, layout="voc2007", classes=CLASSES[:3]),
        pixels=48,
    ),
    layouts=("voc2007",),
    how_to_get=(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007 has VOCtrainval_06-Nov-2007.tar and "
        "VOCtest_06-Nov-2007.tar; looked for are VOCdevkit/VOC2007/ImageSets/Main/ and JPEGImages/."
    ),
    title="PASCAL VOC 2007, which of 20 kinds of things are there",
    licence="Flickr's terms of use; pictures are their photographers'",
    citation=(
        "Everingham, Van Gool, Williams, Winn, Zisserman, The PASCAL Visual Object Classes (VOC) "
        "Challenge, IJCV 2010"
    ),
)

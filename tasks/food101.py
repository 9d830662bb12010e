"""Food-101: photographs of 101 dishes (Bossard et al. 2014), 750 train and 250 test of each.

Read is what ``food-101.tar.gz`` unpacks to: ``food-101/meta/{classes,train,test}.txt`` with lines
such as "apple_pie/1005649", and ``food-101/images/apple_pie/1005649.jpg``. The labels of train are
wrong now and then, on purpose (as the paper says); those of test were cleaned. There is no
official validation data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, read_class_names
from rsbench.data.picture_sample import write_picture_sample
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Sample, Split, Task

from ._pictures import (
    Listed,
    PictureSet,
    bad_line,
    check_split,
    find_base,
    list_below,
    listed_split,
    read_lines,
)

_SET = PictureSet(
    name="food101",
    num_classes=101,
    # Bossard et al. 2014: 750 and 250 pictures a class.
    num_official={"train": 75_750, "test": 25_250},
    folders=("", "food-101"),
    marker="meta/classes.txt",
)


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Raises:
        DataError: No such split, no such folder, a line that can't be understood, or as
            `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    names = read_class_names(list_below(guard, base / "meta" / "classes.txt"))
    classes = ClassList(names, of="food101")
    listed = _listed(guard, base / "meta" / f"{split}.txt", classes)
    return listed_split(_SET, guard, split, listed, folders=[base], classes=classes.names)


def _listed(guard: RootGuard, path: Path, classes: ClassList) -> Iterator[Listed]:
    for line in read_lines(guard, path):
        name, slash, number = line.text.partition("/")
        if not slash or not number:
            raise bad_line(line, form="apple_pie/1005649")
        target = classes.index_of(name, where=line.where)
        yield Listed(line.where, f"images/{line.text}.jpg", target)


TASK = Task(
    name="food101",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="food-101",
            classes=("apple_pie", "baby_back_ribs", "baklava", "beef_carpaccio"),
        ),
        pixels=48,
    ),
    layouts=("food-101",),
    how_to_get=(
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101 has food-101.tar.gz; looked for"
        " are food-101/meta/*.txt and food-101/images/<class>/*.jpg."
    ),
    title="Food-101, dishes",
    licence="pictures are of foodspotting.com's users; for scientific use (its licence_agreement)",
    citation=(
        "Bossard, Guillaumin, Van Gool, Food-101: Mining Discriminative Components with Random "
        "Forests, ECCV 2014"
    ),
)

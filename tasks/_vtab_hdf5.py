"""Original files of PatchCamelyon: HDF5, one file of pictures and one of labels for each split.

h5py is asked for when a file is read, and not before: who has the released folder needs none.

What a file says of its shapes is held to the published ones before anything is read by them.

Shape letters: N examples, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rsbench.data.files import RootGuard
from rsbench.errors import DataError
from rsbench.specs import Item

from ._vtab import Found, Originals
from ._vtab_order import Pool

_SIDE = 96
"""Height and width of a picture, in pixels."""

_COUNTS: Mapping[Pool, int] = {"train": 262_144, "validation": 32_768, "test": 32_768}

_WORDS: Mapping[Pool, str] = {"train": "train", "validation": "valid", "test": "test"}

_ROWS_AT_ONCE = 1024
"""Pictures that are unpacked together: 28 MB."""


def _name(pool: Pool, kind: str) -> str:
    return f"camelyonpatch_level_2_split_{_WORDS[pool]}_{kind}.h5"


@contextmanager
def _data_set(guard: RootGuard, folder: Path, pool: Pool, kind: str) -> Iterator[Any]:
    """Open the data set "x", uint8 (N, 96, 96, 3), or "y", whole numbers (N, 1, 1, 1)."""
    path = guard.locate(_name(pool, kind), bases=[folder], where=str(folder))
    if path is None:
        raise DataError(f"{folder / _name(pool, kind)} must be there, and is not; unpack it there")
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path.name} is HDF5, which must be read with h5py, and that is not installed: pip "
            "install h5py"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            found = file[kind] if isinstance(file.get(kind, getlink=True), h5py.HardLink) else None
            # HDF5 can point to any other file.
            if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
                raise DataError(f"{path} must hold the data set {kind!r} itself; fetch it again")
            _hold_to_form(path, found, kind, most=_COUNTS[pool])
            yield found
    # What h5py makes of damaged bytes depends on where they lie.
    except (OSError, LookupError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path} must be a whole HDF5 file: {error}; fetch it again") from error


def _hold_to_form(path: Path, data_set: Any, kind: str, *, most: int) -> None:  # noqa: ANN401
    """Refuse a data set of another type or shape than the published one, or of more examples."""
    if kind == "x":
        row_shape, form = (_SIDE, _SIDE, 3), f"uint8 pictures (N, {_SIDE}, {_SIDE}, 3)"
        is_right = data_set.dtype == np.uint8
    else:
        row_shape, form = (1, 1, 1), "whole numbers (N, 1, 1, 1)"
        is_right = data_set.dtype.kind in "iu"
    shape = data_set.shape or (0,)
    if not is_right or shape[1:] != row_shape or not 1 <= shape[0] <= most:
        raise DataError(
            f"{path} must hold as {kind!r} {form}, N at most {most}; it holds {data_set.dtype} "
            f"{data_set.shape}; fetch it again"
        )


def _rows(data_set: Any, rows: Sequence[int]) -> npt.NDArray[Any]:  # noqa: ANN401 - h5py is untyped
    """Read some rows, in the order asked, neighbours together."""
    wanted = np.asarray(rows, np.int64)
    order = np.argsort(wanted)
    kept = np.empty((len(wanted), *data_set.shape[1:]), data_set.dtype)
    breaks = np.flatnonzero(np.diff(wanted[order]) != 1) + 1
    for run in np.split(order, breaks):
        for start in range(0, len(run), _ROWS_AT_ONCE):
            places = run[start : start + _ROWS_AT_ONCE]
            first = int(wanted[places[0]])
            kept[places] = data_set[first : first + len(places)]
    return kept


def _keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    with _data_set(guard, folder, pool, "y") as labels:
        return [f"{_WORDS[pool]}_{number}" for number in range(len(labels))]


def _find(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[str]) -> Found:
    rows = [int(key.rpartition("_")[2]) for key in keys]
    with _data_set(guard, folder, pool, "y") as data_set:
        labels = _rows(data_set, rows).reshape(len(rows), -1)[:, 0]
    wrong = labels[(labels != 0) & (labels != 1)]
    if wrong.size:
        raise DataError(
            f"{_name(pool, 'y')} must hold 0 and 1, it holds {wrong[0]}; fetch it again"
        )
    with _data_set(guard, folder, pool, "x") as data_set:
        if len(data_set) <= max(rows):
            raise DataError(
                f"{_name(pool, 'x')} must hold a picture for each label, it holds {len(data_set)}; "
                "fetch it again"
            )
        pictures_NHWC = _rows(data_set, rows)
    items = [
        Item(id=key, source=picture_HWC, target=int(label))
        for key, picture_HWC, label in zip(keys, pictures_NHWC, labels, strict=True)
    ]
    return Found(items, [])


PATCH_CAMELYON = Originals(
    folders=("", "pcam", "patch_camelyon"),
    markers=tuple(_name(pool, kind) for pool in _WORDS for kind in ("x", "y")),
    num_keys=_COUNTS,
    keys=_keys,
    find=_find,
)
"""PatchCamelyon: ``camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5``, unpacked; its test
takes 0.9 GB of memory."""

"""Scores of single views beside a record: one safetensors file, an entry an item, nothing pickled.

Tensors, all with one entry an item, in the order of the record's predictions::

    scores, offsets                  float16 or float32 (N, V, K), float32 (N, V): see
                                     `rsbench.view_scores`
    mean_probabilities, mean_scores  float32 (N, K): instead, where only the means were kept
    num_frames, fps, height, width   what reading found of the item; 0 where it failed or nobody
                                     said, int64 and float64 (N,)

and one entry of metadata, JSON: what the views are (`ViewsHeader`). Views lie clips before crops;
rows of NaN are of items that failed. The file is written from the arrays as they lie in memory:
Kinetics-400 at ten clips by three crops is half a gigabyte, and stands there once.

Shape letters: N items, V views, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rsbench.digests import digest_lines
from rsbench.errors import RecordError
from rsbench.specs import Activation, Halves, MediaFacts, ViewScores

if TYPE_CHECKING:
    import numpy as np

FORMAT_VERSION = 1
"""Raised whenever an older reader would misread the file."""

_FACTS = "rsbench.views"
_BYTES_OF_FACTS = 4 * 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewsHeader:
    """What the views of a file are."""

    kept: Literal["all", "means"]
    activation: Activation
    sampler: str
    """Of the clips, with its version."""
    frames: int
    """Frames a clip."""
    stride: int
    clips: int
    crops: int
    cropper: str
    """Of the crops, with its version."""
    ids: str
    """`ids_digest` of the items."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredViews:
    """A file, read."""

    header: ViewsHeader
    halves: Halves | None
    """None where only the means were kept."""
    mean_probabilities: np.ndarray | None
    """float32 (N, K); None where all views were kept."""
    mean_scores: np.ndarray | None
    """float32 (N, K); likewise."""
    num_frames: np.ndarray
    """int64 (N,)."""
    fps: np.ndarray
    """float64 (N,)."""
    height: np.ndarray
    """int64 (N,)."""
    width: np.ndarray
    """int64 (N,)."""


def ids_digest(ids: Sequence[str], folds: Sequence[str]) -> str:
    """Digest the items of a record's predictions, in their order."""
    return digest_lines(f"{fold}\t{item}" for item, fold in zip(ids, folds, strict=True))


def num_bytes(
    num_items: int, num_views: int, num_classes: int, *, activation: Activation, kept_all: bool
) -> int:
    """Say how large a file is, its header of less than a kilobyte left out."""
    import numpy as np

    from rsbench.view_scores import SCORE_TYPES

    score_bytes = np.dtype(SCORE_TYPES[activation]).itemsize
    values = num_views * (score_bytes * num_classes + 4) if kept_all else 2 * 4 * num_classes
    return num_items * (values + _BYTES_OF_FACTS)


def to_parts(
    header: ViewsHeader,
    scores: Sequence[ViewScores],
    facts: Sequence[MediaFacts | None],
) -> tuple[bytes | memoryview, ...]:
    """Give the bytes of the file in pieces, most of which are the arrays themselves.

    Args:
        header: What the views are.
        scores: Of each fold, of one width; items in the order of the predictions.
        facts: One an item of all folds; None where it failed or nobody said.
    """
    import numpy as np

    tensors: dict[str, list[np.ndarray]] = {
        "num_frames": [np.array([0 if each is None else each.num_frames for each in facts])],
        "height": [np.array([0 if each is None else each.height for each in facts])],
        "width": [np.array([0 if each is None else each.width for each in facts])],
        "fps": [np.array([0.0 if each is None else each.fps for each in facts])],
    }
    # Tensors of wider numbers first, so that each begins where its numbers may lie.
    if header.kept == "all":
        tensors["offsets"] = [each.halves.offsets for each in scores if each.halves is not None]
        tensors["scores"] = [each.halves.scores for each in scores if each.halves is not None]
    else:
        tensors["mean_probabilities"] = [each.mean_probabilities for each in scores]
        tensors["mean_scores"] = [each.mean_scores for each in scores]
    entries: dict[str, object] = {
        "__metadata__": {_FACTS: json.dumps({"format": FORMAT_VERSION, **asdict(header)})}
    }
    data: list[memoryview] = []
    end = 0
    for name, pieces in tensors.items():
        assert len({piece.shape[1:] for piece in pieces}) == 1, f"{name} of folds are alike"
        start, end = end, end + sum(piece.nbytes for piece in pieces)
        shape = [sum(len(piece) for piece in pieces), *pieces[0].shape[1:]]
        dtype = {"i": "I", "f": "F"}[pieces[0].dtype.kind] + str(8 * pieces[0].dtype.itemsize)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        # Bytes are those of little-endian numbers, as the format asks and every machine here has.
        data += [np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data for piece in pieces]
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return (len(text).to_bytes(8, "little"), text, *data)


def from_file(path: Path, *, where: str) -> StoredViews:
    """Read the file; its arrays lie in memory once.

    Args:
        path: Of the file, already held to its digest.
        where: Its name, for messages.

    Raises:
        RecordError: It is damaged, of a newer format, or no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = _header((file.metadata() or {})[_FACTS], where)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return _checked(header, arrays)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as fault:
        cause = " ".join(str(fault).split())[:120]
        raise RecordError(
            f"{where} must be scores of single views as a run writes them, but it is damaged"
            f" ({cause}); run it again."
        ) from None


def _header(text: str, where: str) -> ViewsHeader:
    fields = json.loads(text)
    version = fields.pop("format")
    if version > FORMAT_VERSION:
        raise RecordError(
            f"{where} was written by a newer rsbench (views format {version}, this one reads"
            f" {FORMAT_VERSION}); update rsbench to read it."
        )
    return ViewsHeader(**fields)


def _checked(header: ViewsHeader, arrays: Mapping[str, np.ndarray]) -> StoredViews:
    halves = None
    if header.kept == "all":
        halves = Halves(arrays["scores"], arrays["offsets"])
        num_views = header.clips * header.crops
        if halves.scores.shape[:2] != halves.offsets.shape or halves.offsets.shape[1] != num_views:
            raise ValueError(f"{halves.scores.shape} is not of {num_views} views")
    stored = StoredViews(
        header=header,
        halves=halves,
        mean_probabilities=None if halves else arrays["mean_probabilities"],
        mean_scores=None if halves else arrays["mean_scores"],
        num_frames=arrays["num_frames"],
        fps=arrays["fps"],
        height=arrays["height"],
        width=arrays["width"],
    )
    if len({len(array) for array in arrays.values()}) != 1:
        raise ValueError("tensors of different lengths")
    return stored

"""mmaction2's predictions: what `tools/test.py --dump out.pkl` writes, with the list behind it.

A dump is a pickle: a list with one entry a video in the order of the list, which names no video.
Versions differ in the entries: dicts with ``pred_score`` and ``gt_label`` (1.1 on), dicts with
``pred_scores`` and ``gt_labels`` that hold ``item`` (1.0), the data elements themselves, or arrays
of scores alone (0.x). The list is what ``ann_file`` named: ``path label`` lines, or ``folder frames
label`` for frames. Metrics are computed again from the scores, and where the dump has labels they
must be those of the list, so that a list of another order is found.

Shape letters: N videos, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np

from rsbench.data.files import VIDEO_SUFFIXES
from rsbench.data.frame_lists import is_rawframe_list, read_rawframe_list
from rsbench.data.lists import read_path_labels
from rsbench.errors import DataError
from rsbench.importing.pickles import Element, read_plain
from rsbench.metrics import Score, evaluate_metric
from rsbench.specs import Metric

TOOL = "mmaction2"

Ids = Literal["name", "path"]
"""What names a video: its file's name without ending, or its path in the list without ending."""

_SCORES = ("pred_score", "pred_scores", "_pred_score", "_pred_scores")
_LABELS = ("gt_label", "gt_labels", "_gt_label", "_gt_labels")


class MmactionDump(NamedTuple):
    """What a dump holds, put together with its list."""

    ids: tuple[str, ...]
    scores: tuple[np.ndarray, ...]
    """float32 (K,), one a video."""
    targets: tuple[int, ...]
    metrics: tuple[tuple[Metric, Score], ...]
    """Computed here from the scores."""
    notes: tuple[str, ...]


class _Listed(NamedTuple):
    where: str
    path: str
    label: int


def read_mmaction(
    dump: Path, annotations: Path, *, metrics: Sequence[Metric], ids: Ids = "name"
) -> MmactionDump:
    """Read a dump and the list it was made of, and compute the metrics.

    Args:
        dump: The pickle; it is read, never unpickled.
        annotations: The list, `ann_file` of the configuration.
        metrics: Of class scores, of the task.
        ids: What names a video in rsbench's task.

    Raises:
        DataError: One of them can't be read, they differ in length or labels, videos differ in
            their number of classes, a score is not finite, or two videos have one name.
    """
    listed = _read_list(annotations)
    content = _content(dump)
    entries = read_plain(content, where=dump.name)
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{dump.name} must hold a list with an entry a video, holds"
            f" {'none' if entries == [] else f'a {type(entries).__name__}'}; write it with"
            " tools/test.py --dump."
        )
    if len(entries) != len(listed):
        raise DataError(
            f"{dump.name} and {annotations.name} must be of the same videos, but have"
            f" {len(entries):,} and {len(listed):,}; give the list that ann_file named."
        )
    held = [_held_scores(entry, _entry(dump, place)) for place, entry in enumerate(entries)]
    # Each was written apart: what is more than the file is one array, referred to again and again.
    if sum(each.size for each in held) > len(content):
        raise DataError(
            f"{dump.name} must hold scores for each of its {len(entries):,} videos, holds fewer"
            " bytes than that; write it with tools/test.py --dump."
        )
    scores = tuple(_scores_of(each, _entry(dump, place)) for place, each in enumerate(held))
    _check_classes(dump, listed, scores)
    num_labelled = 0
    for place, (entry, line) in enumerate(zip(entries, listed, strict=True)):
        label = _label_of(entry, _entry(dump, place))
        num_labelled += label is not None
        if label is not None and label != line.label:
            raise DataError(
                f"{_entry(dump, place)} must be of {line.where}, whose label is {line.label},"
                f" but has {label}: the list is another, or in another order; give the one that"
                " ann_file named."
            )
    targets = tuple(line.label for line in listed)
    notes = (
        () if num_labelled else ("the dump has no labels: that the list fits is taken on trust",)
    )
    return MmactionDump(
        ids=_ids_of(listed, ids),
        scores=scores,
        targets=targets,
        metrics=tuple((metric, evaluate_metric(metric, targets, scores)) for metric in metrics),
        notes=notes,
    )


def _content(dump: Path) -> bytes:
    try:
        return dump.read_bytes()
    except OSError as fault:
        raise DataError(
            f"{dump.name} must be a dump of mmaction2's, and can't be read ({fault.strerror}); name"
            " an existing file."
        ) from None


def _read_list(path: Path) -> list[_Listed]:
    if is_rawframe_list(path):
        folders = read_rawframe_list(path)
        rows = [(each.where, each.path, " ".join(map(str, each.labels))) for each in folders]
    else:
        rows = [(each.where, each.path, each.label) for each in read_path_labels(path)]
    listed = []
    for where, name, label in rows:
        if not label.isdecimal():
            raise DataError(
                f"{where}: a video must have the index of one class as label, has {label!r}; give"
                " the list that ann_file named, not one by class names or of several labels."
            )
        listed.append(_Listed(where, name, int(label)))
    if not listed:
        raise DataError(f"{path.name} must list a video a line, lists none.")
    return listed


def _held(entry: Any, names: Sequence[str]) -> Any:  # noqa: ANN401 - of a pickle
    """Give the first of some fields that an entry has, out of its element; None without any."""
    fields = entry.state if isinstance(entry, Element) else entry
    if not isinstance(fields, Mapping):
        return None
    held = next((fields[name] for name in names if name in fields), None)
    if isinstance(held, Element):
        held = held.state
    # LabelData: {"item": tensor}.
    return held.get("item") if isinstance(held, Mapping) else held


def _entry(dump: Path, place: int) -> str:
    return f"{dump.name}, entry {place}"


def _held_scores(entry: Any, where: str) -> np.ndarray:  # noqa: ANN401 - of a pickle
    """Give the scores of an entry as they lie there, some numbers."""
    held = entry if isinstance(entry, np.ndarray) else _held(entry, _SCORES)
    if not isinstance(held, np.ndarray) or held.dtype.kind not in "fiu" or not held.size:
        raise DataError(
            f"{where} must have class scores (pred_score), has"
            f" {'none' if held is None else f'a {type(held).__name__}'}; write it with"
            " tools/test.py --dump."
        )
    # (1, K) in dumps of 0.x and of single-clip tests.
    if held.size != max(held.shape, default=0):
        raise DataError(
            f"{where} must have one score a class, has an array of the shape {held.shape}: average"
            " the clips (average_clips='prob') and dump again."
        )
    return held


def _scores_of(held: np.ndarray, where: str) -> np.ndarray:
    scores_K = held.reshape(-1).astype(np.float32)
    if not np.isfinite(scores_K).all():
        raise DataError(f"{where} must have finite scores, has one that is not; dump again.")
    return scores_K


def _label_of(entry: Any, where: str) -> int | None:  # noqa: ANN401 - of a pickle
    held = _held(entry, _LABELS)
    if held is None:
        return None
    values = held.reshape(-1).tolist() if isinstance(held, np.ndarray) else held
    values = values if isinstance(values, list | tuple) else [values]
    if len(values) != 1 or type(values[0]) is not int:
        # Not the values themselves: lists in lists of a few bytes may take for ever to show.
        what = f"{len(values)} values" if len(values) != 1 else f"a {type(values[0]).__name__}"
        raise DataError(
            f"{where} must have the index of one class as label, has {what}: dumps of several"
            " labels a video are not read."
        )
    return values[0]


def _check_classes(dump: Path, listed: Sequence[_Listed], scores: Sequence[np.ndarray]) -> None:
    num_classes = len(scores[0])
    for place, scores_K in enumerate(scores):
        if len(scores_K) != num_classes:
            raise DataError(
                f"{_entry(dump, place)} must have {num_classes} scores as entry 0 has, has"
                f" {len(scores_K)}; dump again."
            )
    for line in listed:
        if line.label >= num_classes:
            raise DataError(
                f"{line.where}: a label must be from 0 to {num_classes - 1}, since the dump has"
                f" {num_classes} scores a video, was {line.label}; is the list of another data set?"
            )


def _ids_of(listed: Sequence[_Listed], ids: Ids) -> tuple[str, ...]:
    """Name the videos, each once."""
    names: dict[str, _Listed] = {}
    for line in listed:
        path = PurePosixPath(line.path.replace("\\", "/"))
        # Folders of frames have no ending, and names of clips may hold points.
        ending = path.suffix if path.suffix.lower() in VIDEO_SUFFIXES else ""
        name = (path.name if ids == "name" else str(path)).removesuffix(ending)
        first = names.setdefault(name, line)
        if first is not line:
            raise DataError(
                f"{line.where}: each video must have a name of its own, and {name!r} is that of"
                f" {first.where} too; --ids path names them by their paths."
            )
    return tuple(names)

"""Per-item predictions beside a record: one Parquet file, one row an item, nothing pickled.

Columns::

    id, fold                       text
    failed                         whether the item is present and could not be read
    target, target_arrays          JSON text, and the arrays it names (null: not kept)
    scores                         list<float32>: class scores, where every prediction is such
    prediction, prediction_arrays  JSON text, and the arrays it names: everything else
    score:<metric>                 float64, the item's part of that metric, where it has one

A value of any other kind than class scores is JSON in which an array stands as ``{"$array": 0,
"dtype": "<f4", "shape": [3, 4]}`` and its bytes (C order) in the arrays column; ``$tuple``,
``$set`` and ``$object`` mark what JSON has no word for. Boxes with labels, masks, depth maps,
volumes and sets of labels come back equal in value, shape, type and byte order.

Shape letters: N items, K classes.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from rsbench.errors import RecordError
from rsbench.specs import Labels, TargetKind

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

FORMAT_VERSION = 1
"""Stands in the file's metadata; raised whenever an older reader would misread the file."""

_VERSION_KEY = b"rsbench.predictions"
_KIND_KEY = b"rsbench.kind"
_SCORE = "score:"
_PLAIN_KINDS = frozenset("biufcSU")
"""Kinds of numpy type that are plain bytes: truth, integers, floats, complex, text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionTable:
    """What was predicted for each item, and what was right. All columns have one entry an item."""

    ids: tuple[str, ...]
    predictions: tuple[Any, ...]
    """float32 (K,) class scores, or arrays, numbers, text, and mappings, lists, tuples and sets of
    them; None where the item failed."""
    targets: tuple[Any, ...]
    """Class index, or anything a prediction may be; None where it is not kept."""
    folds: tuple[str, ...]
    """Name of the fold that tested the item; "" where there is one only."""
    kind: TargetKind = "class"
    item_scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Metric name -> float64 (N,), whose mean is the metric: intervals and paired differences are
    made of them."""


class ItemScores(NamedTuple):
    """The items' parts of one metric."""

    ids: tuple[str, ...]
    folds: tuple[str, ...]
    scores: NDArray[np.float64]
    """float64 (N,)."""


class ItemTargets(NamedTuple):
    """What was right for each item."""

    ids: tuple[str, ...]
    folds: tuple[str, ...]
    targets: tuple[Any, ...]
    """See `PredictionTable.targets`."""


def to_parquet(
    *,
    ids: Sequence[str],
    targets: Sequence[Any],
    predictions: Sequence[Any],
    folds: Sequence[str] = (),
    kind: TargetKind = "class",
    item_scores: Mapping[str, NDArray[np.float64]] | None = None,
) -> bytes:
    """Give the bytes of the Parquet file (zstd); equal columns give equal bytes.

    The columns are those of `PredictionTable`, with one entry an item.

    Raises:
        RecordError: Columns differ in length, an item stands twice in one fold, a score is not
            finite, or a value is of a kind that can't be kept (objects, paths).
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = PredictionTable(
        ids=tuple(ids),
        predictions=tuple(predictions),
        targets=tuple(targets),
        folds=tuple(folds) or ("",) * len(ids),
        kind=kind,
        item_scores=item_scores or {},
    )
    _check_columns(table)
    columns: dict[str, pa.Array] = {
        "id": pa.array(table.ids, pa.string()),
        "fold": pa.array(table.folds, pa.string()),
        "failed": pa.array([value is None for value in table.predictions], pa.bool_()),
    }
    _add_values(columns, "target", table.targets)
    if _are_class_scores(table.predictions):
        columns["scores"] = pa.array(table.predictions, pa.list_(pa.float32()))
    else:
        _add_values(columns, "prediction", table.predictions)
    for metric, scores_N in table.item_scores.items():
        columns[f"{_SCORE}{metric}"] = pa.array(np.asarray(scores_N, np.float64), pa.float64())
    content = pa.table(columns).replace_schema_metadata(
        {_VERSION_KEY: str(FORMAT_VERSION).encode(), _KIND_KEY: kind.encode()}
    )
    stream = io.BytesIO()
    parquet.write_table(content, stream, compression="zstd")
    return stream.getvalue()


def from_parquet(content: bytes, *, where: str) -> PredictionTable:
    """Read what `to_parquet` wrote.

    Args:
        content: The bytes of the file.
        where: Name of the file, for messages.

    Raises:
        RecordError: It is damaged, of a newer format, or not a file of predictions.
    """
    table = _read_table(content, where, None)
    try:
        if "scores" in table.column_names:
            predictions = _class_scores(table["scores"])
        else:
            predictions = _values(table, "prediction")
        return PredictionTable(
            ids=tuple(table["id"].to_pylist()),
            folds=tuple(table["fold"].to_pylist()),
            predictions=predictions,
            targets=_values(table, "target"),
            kind=table.schema.metadata[_KIND_KEY].decode(),
            item_scores={
                name.removeprefix(_SCORE): table[name].to_numpy()
                for name in table.column_names
                if name.startswith(_SCORE)
            },
        )
    except (ValueError, KeyError, TypeError, IndexError) as fault:
        raise _damaged(where, fault) from None


def read_item_scores(content: bytes, metric: str, *, where: str) -> ItemScores | None:
    """Read the items' parts of one metric and nothing else.

    Args:
        content: The bytes of the file.
        metric: Name of the metric.
        where: Name of the file, for messages.

    Returns:
        The scores, or None where this metric has no per-item scores.

    Raises:
        RecordError: It is damaged, of a newer format, or not a file of predictions.
    """
    table = _read_table(content, where, ["id", "fold", f"{_SCORE}{metric}"])
    if f"{_SCORE}{metric}" not in table.column_names:
        return None
    try:
        return ItemScores(
            tuple(table["id"].to_pylist()),
            tuple(table["fold"].to_pylist()),
            table[f"{_SCORE}{metric}"].to_numpy(),
        )
    except (ValueError, KeyError) as fault:
        raise _damaged(where, fault) from None


def read_targets(content: bytes, *, where: str) -> ItemTargets:
    """Read what was right for each item and nothing else.

    Args:
        content: The bytes of the file.
        where: Name of the file, for messages.

    Raises:
        RecordError: It is damaged, of a newer format, or not a file of predictions.
    """
    table = _read_table(content, where, ["id", "fold", "target", "target_arrays"])
    try:
        return ItemTargets(
            tuple(table["id"].to_pylist()),
            tuple(table["fold"].to_pylist()),
            _values(table, "target"),
        )
    except (ValueError, KeyError, TypeError, IndexError) as fault:
        raise _damaged(where, fault) from None


def _check_columns(table: PredictionTable) -> None:
    lengths = {
        "ids": len(table.ids),
        "folds": len(table.folds),
        "predictions": len(table.predictions),
        "targets": len(table.targets),
        **{f"scores of {name}": len(scores) for name, scores in table.item_scores.items()},
    }
    for name, length in lengths.items():
        if length != len(table.ids):
            raise RecordError(
                f"Predictions must have one entry an item in each column, but there are "
                f"{len(table.ids)} ids and {length} {name}."
            )
    seen: set[tuple[str, str]] = set()
    for pair in zip(table.folds, table.ids, strict=True):
        if pair in seen:
            raise RecordError(f"Each item must be predicted once a fold, but {pair[1]!r} is twice.")
        seen.add(pair)
        try:
            "".join(pair).encode()
        except UnicodeEncodeError:
            raise RecordError(
                f"An id must be Unicode text, but {pair[1]!r} is not; rename that file."
            ) from None
    for name, scores in table.item_scores.items():
        for item, score in zip(table.ids, scores, strict=True):
            if not math.isfinite(score):
                raise RecordError(f"The {name} of item {item!r} must be finite, was {score}.")


def _are_class_scores(values: Sequence[Any]) -> bool:
    """Whether every prediction is a float32 vector, at least one is there, and all are as long."""
    import numpy as np

    present = [value for value in values if value is not None]
    return bool(present) and all(
        isinstance(value, np.ndarray)
        and value.dtype == np.float32
        and value.dtype.isnative
        and value.ndim == 1
        and value.shape == present[0].shape
        for value in present
    )


def _class_scores(column: pa.ChunkedArray) -> tuple[Any, ...]:
    """Give a list<float32> column as arrays, None where null."""
    rows: list[Any] = []
    for chunk in column.chunks:
        offsets = chunk.offsets.to_numpy()
        flat = chunk.values.to_numpy()
        valid = chunk.is_valid().to_pylist()
        rows.extend(
            flat[offsets[row] : offsets[row + 1]].copy() if valid[row] else None
            for row in range(len(chunk))
        )
    return tuple(rows)


def _add_values(columns: dict[str, pa.Array], name: str, values: Sequence[Any]) -> None:
    import pyarrow as pa

    texts: list[str | None] = []
    buffers: list[list[bytes]] = []
    for row, value in enumerate(values):
        arrays: list[bytes] = []
        encoded = _encode(value, arrays, f"The {name} of row {row}")
        texts.append(None if value is None else json.dumps(encoded, separators=(",", ":")))
        buffers.append(arrays)
    columns[name] = pa.array(texts, pa.string())
    columns[f"{name}_arrays"] = pa.array(buffers, pa.list_(pa.large_binary()))


def _values(table: pa.Table, name: str) -> tuple[Any, ...]:
    texts = table[name].to_pylist()
    buffers = table[f"{name}_arrays"].to_pylist()
    return tuple(
        None if text is None else _decode(json.loads(text), arrays)
        for text, arrays in zip(texts, buffers, strict=True)
    )


def _encode(value: Any, arrays: list[bytes], where: str) -> Any:  # noqa: ANN401 - any prediction
    """Give a value as JSON, its arrays' bytes appended to `arrays`."""
    import numpy as np

    if value is None or type(value) in (str, int, bool, float):
        return value
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind not in _PLAIN_KINDS:
            raise RecordError(
                f"{where} must hold numbers, truth values or text to be kept, was an array of "
                f"{value.dtype}."
            )
        arrays.append(value.tobytes())
        mark = "$array" if isinstance(value, np.ndarray) else "$scalar"
        return {mark: len(arrays) - 1, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, list):
        return [_encode(entry, arrays, where) for entry in value]
    if isinstance(value, tuple):
        members = {"$tuple": [_encode(entry, arrays, where) for entry in value]}
        if isinstance(value, Labels) and value.uncounted:
            members["uncounted"] = list(value.uncounted)
        return members
    if isinstance(value, set | frozenset):
        ordered = sorted(value, key=lambda entry: (type(entry).__name__, entry))
        return {"$set": [_encode(entry, arrays, where) for entry in ordered]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"$object": {key: _encode(value[key], arrays, where) for key in value}}
    raise RecordError(
        f"{where} must be arrays, numbers, text, or mappings, lists, tuples and sets of them to be "
        f"kept, was a {type(value).__name__}."
    )


def _decode(encoded: Any, arrays: Sequence[bytes]) -> Any:  # noqa: ANN401 - any prediction
    import numpy as np

    if isinstance(encoded, list):
        return [_decode(entry, arrays) for entry in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if "$object" in encoded:
        return {key: _decode(entry, arrays) for key, entry in encoded["$object"].items()}
    if "$tuple" in encoded:
        members = tuple(_decode(entry, arrays) for entry in encoded["$tuple"])
        uncounted = encoded.get("uncounted")
        return members if uncounted is None else Labels(members, uncounted=uncounted)
    if "$set" in encoded:
        return frozenset(_decode(entry, arrays) for entry in encoded["$set"])
    dtype = np.dtype(encoded["dtype"])
    if dtype.kind not in _PLAIN_KINDS:
        raise ValueError(f"an array of {dtype}")
    shape = tuple(encoded["shape"])
    mark = "$array" if "$array" in encoded else "$scalar"
    array = np.frombuffer(arrays[encoded[mark]], dtype).reshape(shape).copy()
    return array if mark == "$array" else array[()]


def _read_table(content: bytes, where: str, columns: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        source = parquet.ParquetFile(pa.BufferReader(content))
        version = int((source.schema_arrow.metadata or {}).get(_VERSION_KEY, b"0"))
        if version == FORMAT_VERSION:
            # Of a few columns a thread each costs more than it brings.
            return source.read(columns, use_threads=columns is None)
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise _damaged(where, fault) from None
    if version > FORMAT_VERSION:
        raise RecordError(
            f"{where} was written by a newer rsbench (predictions format {version}, this one reads "
            f"{FORMAT_VERSION}); update rsbench to read it."
        )
    raise RecordError(f"{where} must be predictions written by rsbench, was another Parquet file.")


def _damaged(where: str, fault: Exception) -> RecordError:
    cause = " ".join(str(fault).split())[:120]
    return RecordError(
        f"{where} must be predictions in Parquet, but it is damaged ({cause}); run it again."
    )

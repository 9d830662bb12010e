"""What a run fitted, as safetensors: arrays by fold, with the class names; loading runs no code."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsbench.errors import RecordError

if TYPE_CHECKING:
    import numpy as np

FACTS = "rsbench.head"
"""Name of the metadata: JSON with the class names, the names of the folds, and the history."""
LEARNED = "rsbench.learned/"
"""Before the name of a fold: the tensor of what its network has learned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The fitted arrays of one fold, and the classes they speak of."""

    arrays: Mapping[str, np.ndarray]
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """What the networks of a file have learned on; it lies in the file, so it moves with it."""

    task: str
    """With "@sample" where the sample stood in."""
    version: int
    """Of the task."""
    before: tuple[str, ...]
    """What they had been trained on before, as `WeightsPart.trained_on`."""
    is_complete: bool
    """Whether it is known in which folds they had been trained before."""
    learned: Mapping[str, Collection[int]]
    """Fold name -> a key below 2**64 for each item learned on, now or before; see
    `rsbench.weights.history.item_key`."""


def to_bytes(
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    *,
    classes: Sequence[str],
    history: History | None = None,
) -> bytes:
    """Give the bytes of the file; equal arrays and histories give equal bytes.

    Args:
        arrays: Fold name ("" where there is one fold only) -> name -> array.
        classes: Class names in index order.
        history: Of networks that learned; None where they stayed as they were. Keys take 8 bytes
            an item.
    """
    import numpy as np
    from safetensors.numpy import save

    flat = {
        # Not ascontiguousarray, which makes a scalar (BatchNorm's counter) an array of one.
        f"{fold}/{name}" if fold else name: np.asarray(array, order="C")
        for fold, named in arrays.items()
        for name, array in named.items()
    }
    facts: dict[str, Any] = {"classes": list(classes), "folds": list(arrays)}
    if history is not None:
        facts["history"] = {
            "task": history.task,
            "version": history.version,
            "before": list(history.before),
            "is_complete": history.is_complete,
        }
        for fold, keys in history.learned.items():
            flat[f"{LEARNED}{fold}"] = np.array(sorted(keys), dtype=np.uint64)
    # One entry: safetensors writes several in any order, and equal heads must be equal bytes.
    return save(flat, metadata={FACTS: json.dumps(facts)})


def read_history(path: Path, metadata: Mapping[str, str], *, fold: str) -> History | None:
    """Read what the network of one fold has learned on; no other tensor is read.

    Args:
        path: The file.
        metadata: Of the file.
        fold: Whose `learned` is wanted.

    Returns:
        None where the file does not say: it is older than this, or its networks did not learn.

    Raises:
        RecordError: The file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        found = json.loads(metadata[FACTS]).get("history")
        if found is None:
            return None
        with safe_open(path, framework="numpy") as tensors:
            keys = frozenset(tensors.get_tensor(f"{LEARNED}{fold}").tolist())
        return History(
            task=str(found["task"]),
            version=int(found["version"]),
            before=tuple(map(str, found["before"])),
            is_complete=bool(found["is_complete"]),
            learned={fold: keys},
        )
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path.name, error) from error


def fold_names(metadata: Mapping[str, str], *, where: str) -> tuple[str, ...]:
    """Give the folds that a file has arrays of, by its metadata; ("",) where there was one only.

    Raises:
        RecordError: The metadata is not what `to_bytes` writes.
    """
    folds = _names(metadata, "folds", where)
    if not folds:
        raise _damaged(where, ValueError("no folds are named"))
    return folds


def class_names(metadata: Mapping[str, str], *, where: str) -> tuple[str, ...]:
    """Give the classes that a file speaks of in index order, by its metadata.

    Raises:
        RecordError: The metadata is not what `to_bytes` writes.
    """
    return _names(metadata, "classes", where)


def _names(metadata: Mapping[str, str], fact: str, where: str) -> tuple[str, ...]:
    try:
        names = json.loads(metadata[FACTS])[fact]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(where, error) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _damaged(where, ValueError(f"no {fact} are named"))
    return tuple(names)


def from_bytes(content: bytes, *, fold: str | None, where: str) -> Head:
    """Read the arrays of one fold.

    Args:
        content: What `to_bytes` gave.
        fold: Which fold; None where there is one only.
        where: The file's name, for messages.

    Raises:
        RecordError: The file is damaged, or the fold is not the one it has.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        header_length = int.from_bytes(content[:8], "little")
        facts = json.loads(json.loads(content[8 : 8 + header_length])["__metadata__"][FACTS])
        folds, classes = facts["folds"], facts["classes"]
        flat = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(where, error) from error
    if fold is None and len(folds) > 1:
        raise RecordError(
            f"{where} has one head for each of {', '.join(folds)}; say which with --fold NAME."
        )
    if fold is not None and fold not in folds:
        names = ", ".join(filter(None, folds)) or "one head only"
        raise RecordError(f"{where} has no fold {fold!r}; it has {names}.")
    chosen = folds[0] if fold is None else fold
    prefix = f"{chosen}/" if chosen else ""
    arrays = {
        name.removeprefix(prefix): array
        for name, array in flat.items()
        if name.startswith(prefix) and not name.startswith(LEARNED)
    }
    return Head(arrays=arrays, classes=tuple(classes))


def _damaged(where: str, error: Exception) -> RecordError:
    return RecordError(
        f"{where} must be the safetensors file a run wrote; it can't be read: {error}."
    )

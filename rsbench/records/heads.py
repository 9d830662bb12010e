"""What a run fitted, as safetensors: arrays by fold, with the class names; loading runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsbench.errors import RecordError

if TYPE_CHECKING:
    import numpy as np

FACTS = "rsbench.head"
"""Name of the metadata: JSON with the class names and the names of the folds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The fitted arrays of one fold, and the classes they speak of."""

    arrays: Mapping[str, np.ndarray]
    classes: tuple[str, ...]


def to_bytes(arrays: Mapping[str, Mapping[str, np.ndarray]], *, classes: Sequence[str]) -> bytes:
    """Give the bytes of the file; equal arrays give equal bytes.

    Args:
        arrays: Fold name ("" where there is one fold only) -> name -> array.
        classes: Class names in index order.
    """
    import numpy as np
    from safetensors.numpy import save

    flat = {
        # Not ascontiguousarray, which makes a scalar (BatchNorm's counter) an array of one.
        f"{fold}/{name}" if fold else name: np.asarray(array, order="C")
        for fold, named in arrays.items()
        for name, array in named.items()
    }
    # One entry: safetensors writes several in any order, and equal heads must be equal bytes.
    facts = {FACTS: json.dumps({"classes": list(classes), "folds": list(arrays)})}
    return save(flat, metadata=facts)


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
        raise RecordError(
            f"{where} must be the safetensors file a run wrote; it can't be read: {error}."
        ) from error
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
        name.removeprefix(prefix): array for name, array in flat.items() if name.startswith(prefix)
    }
    return Head(arrays=arrays, classes=tuple(classes))

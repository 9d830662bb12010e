"""What rows are called: as short as tells them apart, and by which names a user may mean them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath

from rsbench.tables.table import Row

_PARTS: tuple[Callable[[Row], str], ...] = (
    lambda row: row.weights,
    lambda row: f"{row.frames}x{row.stride}x{row.pixels}",
    lambda row: "" if row.lifting == "none" else row.lifting,
    lambda row: f"v{row.backbone_version}",
    lambda row: (row.weights_digest or "")[:8],
    lambda row: (row.backbone_source or "")[:8],
    lambda row: f"trained on {', '.join(row.trained_on) or 'nothing known'}",
    lambda row: f"crop {row.crop_ratio:g}",
    lambda row: f"{row.resizer} {row.interpolation}" + ("" if row.antialias else " no antialias"),
    lambda row: f"mean {row.mean[0]:g}" if row.mean else "",
)
"""What may stand behind a backbone's name, what matters most first."""
_MAX_NAMES = 6
"""More names than these are counted."""


def labels_of(rows: Sequence[Row], *, rulers: Sequence[str]) -> tuple[str, ...]:
    """Name rows by their backbone, and by as much more as tells them from others of that name.

    Args:
        rows: The rows, whatever they are.
        rulers: Digest of the ruler of each.
    """
    return tuple(
        _label(
            place, [other for other in range(len(rows)) if _is_of(rows, place, other)], rows, rulers
        )
        for place in range(len(rows))
    )


def is_called(row: Row, label: str, name: str) -> bool:
    """Tell whether a user may mean a row by a name: backbone, weights, label, or a record's file.

    Args:
        row: The row.
        label: What it is called among the others.
        name: The user's word.
    """
    names = {row.backbone, row.weights, f"{row.backbone} {row.weights}", label}
    files = {PurePath(record).name for record in row.records}
    return name in names or PurePath(name).name in files


def listed(names: Sequence[str]) -> str:
    """Name the first few of many, and count the others."""
    if len(names) <= _MAX_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MAX_NAMES - 1])} and {len(names) - _MAX_NAMES + 1} more"


def _is_of(rows: Sequence[Row], place: int, other: int) -> bool:
    return place != other and rows[place].backbone == rows[other].backbone


def _label(place: int, others: Sequence[int], rows: Sequence[Row], rulers: Sequence[str]) -> str:
    label = rows[place].backbone
    left = list(others)
    for part in _PARTS:
        here = part(rows[place])
        if left and any(part(rows[other]) != here for other in left):
            label += f" {here}" if here else ""
            left = [other for other in left if part(rows[other]) == here]
    if any(rulers[other] != rulers[place] for other in left):
        label += f" on list {rulers[place][:8]}"
        left = [other for other in left if rulers[other] == rulers[place]]
    # Precision, or the bytes of the media: a row does not say, its records do.
    return f"{label} ({PurePath(rows[place].records[0]).stem})" if left else label

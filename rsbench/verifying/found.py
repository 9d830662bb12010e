"""What is found while a record is looked over, and the words for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rsbench.specs import Scalar

_SHOWN = 3
"""Names of several that are said."""


@dataclass(kw_only=True, slots=True)
class Findings:
    """What is found while a record is looked over."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def listed(names: Iterable[str]) -> str:
    """Name the first few of some things."""
    each = [name or "(without a name)" for name in names]
    if not each:
        return "none"
    more = f" and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    return ", ".join(each[:_SHOWN]) + more


def number(value: float | None) -> str:
    """Give a number with ten digits."""
    return "nothing" if value is None else f"{value:.10g}"


def short(digest: str | None) -> str:
    """Give the beginning of a digest."""
    return "nothing" if digest is None else digest[:12]


def shown(value: Scalar) -> str:
    """Give a value of a ruler in a few words."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."

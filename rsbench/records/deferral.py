"""Fields of a frozen data class that are read when somebody asks for them.

A record's traces (its selection, its curve) are most of its text, and a table needs none of them.
Where the index gives a record, their slots stay empty until the first use; from then on, and for
every comparison, copy and page, the record is as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

Fields = Callable[[], Mapping[str, Any]]
"""Gives the deferred fields, by name."""

Kind = TypeVar("Kind", bound="Deferring")


class Deferring:
    """What a data class with deferred fields begins with."""

    __slots__ = ("_deferred",)
    _deferred: Fields

    if not TYPE_CHECKING:  # A type checker would take every name for a field.

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any field
            """Fill the empty slots; Python asks here only where a slot is empty."""
            if name not in type(self).__dataclass_fields__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            for field, value in object.__getattribute__(self, "_deferred")().items():
                object.__setattr__(self, field, value)
            return object.__getattribute__(self, name)


def with_deferred(kind: type[Kind], fields: Mapping[str, Any], deferred: Fields) -> Kind:
    """Make an instance without calling its constructor.

    Args:
        kind: A frozen data class with slots.
        fields: All fields but the deferred ones, of the right types.
        deferred: Gives the others; called at most a few times, if at all.
    """
    instance = kind.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
    object.__setattr__(instance, "_deferred", deferred)
    return instance

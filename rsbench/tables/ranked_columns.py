"""Columns of a ranking: the headlines of tables of single rulers, each under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rsbench.records.store import Stored
from rsbench.tables.table import Column, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedColumn:
    """The headline of one task under one protocol."""

    label: str
    """Task and protocol, and what else tells it from the other columns."""
    task: str
    protocol: str
    metric: Column
    ruler: str
    """Digest of the ruler."""
    data: str
    """Digest of the reported items: columns of equal ones are not independent."""
    counts: bool
    """Whether it enters the mean: a share in percent, where higher is better."""


def columns_of(tables: Sequence[Table], stored: Mapping[str, Stored]) -> tuple[RankedColumn, ...]:
    """Give the column of each table.

    Args:
        tables: In the order of the columns.
        stored: Records by their names, as rows name them.
    """
    labels = _labels(tables, stored)
    return tuple(
        RankedColumn(
            label=label,
            task=table.task,
            protocol=table.protocol,
            metric=table.columns[0],
            ruler=table.digest,
            data=str(table.ruler.get("data")),
            counts=table.columns[0].percent,
        )
        for table, label in zip(tables, labels, strict=True)
    )


def _labels(tables: Sequence[Table], stored: Mapping[str, Stored]) -> list[str]:
    """Name columns by task and protocol, and where several share these, by what parts them."""
    labels = [f"{table.task} {table.protocol}" for table in tables]
    for label in [each for each in dict.fromkeys(labels) if labels.count(each) > 1]:
        places = [place for place, each in enumerate(labels) if each == label]
        alike = [tables[place] for place in places]
        for place in places:
            table = tables[place]
            said = _told_apart(table, alike, stored[table.rows[0].records[0]])
            labels[place] = f"{label} ({', '.join(said)})"
    return [
        label if labels.count(label) == 1 else f"{label} ruler {table.digest[:8]}"
        for table, label in zip(tables, labels, strict=True)
    ]


def _told_apart(table: Table, alike: Sequence[Table], example: Stored) -> Iterator[str]:
    """Say in what a column's ruler differs from others of its task and protocol."""
    fields = [
        field
        for field, value in table.ruler.items()
        if any(other.ruler.get(field) != value for other in alike)
    ]
    if "data" in fields:
        yield f"{example.record.task.num_classes} classes"
        yield f"data {str(table.ruler['data'])[:8]}"
    plain = [field for field in fields if not _is_digest(table.ruler[field])]
    yield from (f"{field} {table.ruler[field]}" for field in plain)
    if not fields:
        yield "without what others say"


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64

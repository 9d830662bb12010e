"""Which results compare: rows under one ruler do, unequal rulers are refused by field.

With a common subset rulers that differ in their items alone are joined: what all rows share is
compared, and their numbers are computed anew on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rsbench.comparison.compared import Refusal
from rsbench.errors import UnknownNameError, suggest
from rsbench.records.ruler import differences
from rsbench.tables.layout import table_title
from rsbench.tables.table import Row, Table

WHICH_ITEMS = frozenset({"data", "limit"})
"""Fields of a ruler that say which items were judged, and nothing of how."""
WHAT_WAS_LEARNED = frozenset({"train", "validation"})
"""Fields of a ruler that say what was trained and selected on."""

OF_ROWS = (
    *("backbone", "backbone_version", "weights", "trained_on", "knows_task", "frames", "stride"),
    *("pixels", "crop_ratio", "interpolation", "resizer", "lifting", "num_parameters"),
)
"""Fields of a row that results may be parted by, beside those of a ruler."""


class Group(NamedTuple):
    """Rows that were asked to be compared with each other."""

    fields: tuple[tuple[str, str], ...]
    """(field, value) of what the user parted results by, beside task and protocol."""
    parts: tuple[tuple[Table, tuple[Row, ...]], ...]
    """The rows under each ruler; several rulers do not compare."""


class Joined(NamedTuple):
    """Rows that are compared, of one ruler or of several that differ in their items alone."""

    table: Table
    """Whose ruler stands for all."""
    rows: tuple[Row, ...]
    digests: tuple[str, ...]
    """Of the rulers."""
    of_ruler: tuple[str, ...]
    """Digest of each row's ruler."""
    other_training: bool


def grouped(tables: Iterable[Table], by: Sequence[str]) -> list[Group]:
    """Part the rows of tables by fields of rulers and rows.

    Raises:
        UnknownNameError: There is no such field; says the nearest ones.
    """
    drawn = list(tables)
    known = {*OF_ROWS, *(field for table in drawn for field in table.ruler)}
    for field in by if drawn else ():
        if field not in known:
            raise UnknownNameError(
                f"Results can't be parted by {field!r}: no ruler or row has such a"
                f" field.{suggest(field, known)}"
            )
    parted: dict[tuple[str, ...], dict[str, tuple[Table, list[Row]]]] = {}
    places = {table.digest: place for place, table in enumerate(drawn)}

    def place(part: tuple[tuple[str, ...], Mapping[str, object]]) -> tuple[object, ...]:
        """Order parts as their tables are, and within one by their fields, numbers as numbers."""
        values = [
            (0, float(value), "") if _is_number(value) else (1, 0.0, value) for value in part[0]
        ]
        return min(places[digest] for digest in part[1]), values

    for table in drawn:
        for row in table.rows:
            key = tuple(_field(field, table, row) for field in by)
            part = parted.setdefault(key, {}).setdefault(table.digest, (table, []))
            part[1].append(row)
    return [
        Group(
            fields=tuple(
                (field, value)
                for field, value in zip(by, key, strict=True)
                if field not in ("task", "protocol")
            ),
            parts=tuple((table, tuple(rows)) for table, rows in parts.values()),
        )
        for key, parts in sorted(parted.items(), key=place)
    ]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _field(field: str, table: Table, row: Row) -> str:
    if field not in OF_ROWS:
        return str(table.ruler.get(field))
    value = getattr(row, field)
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def joined(group: Group, *, common_subset: bool, allow_other_training: bool) -> list[Joined]:
    """Say which rows of a group are compared: those of one ruler, or on shared items of several."""
    free = WHICH_ITEMS if common_subset else frozenset()
    if common_subset and allow_other_training:
        free |= WHAT_WAS_LEARNED
    classes: list[list[tuple[Table, tuple[Row, ...]]]] = []
    for table, rows in group.parts:
        for others in classes:
            first = others[0][0]
            if all(each.field in free for each in differences(first.ruler, table.ruler)):
                others.append((table, rows))
                break
        else:
            classes.append([(table, rows)])
    return [
        Joined(
            table=parts[0][0],
            rows=tuple(row for _, rows in parts for row in rows),
            digests=tuple(table.digest for table, _ in parts),
            of_ruler=tuple(table.digest for table, rows in parts for _ in rows),
            other_training=any(
                each.field in WHAT_WAS_LEARNED
                for table, _ in parts
                for each in differences(parts[0][0].ruler, table.ruler)
            ),
        )
        for parts in classes
    ]


def refusals_of(classes: Sequence[Joined], *, common_subset: bool) -> list[Refusal]:
    """Say of each class of rows but the largest why it is not compared with that one."""
    if len(classes) < 2:
        return []
    first = max(classes, key=lambda each: len(each.rows))
    return [
        _refusal(first, other, common_subset=common_subset)
        for other in classes
        if other is not first
    ]


def _refusal(first: Joined, other: Joined, *, common_subset: bool) -> Refusal:
    fields = tuple(differences(first.table.ruler, other.table.ruler))
    names = {each.field for each in fields}
    way_out = ""
    if names <= WHICH_ITEMS and not common_subset:
        way_out = "--common-subset"
    elif names <= WHICH_ITEMS | WHAT_WAS_LEARNED:
        way_out = "--common-subset --allow-other-training"
    return Refusal(
        first=named(first),
        second=named(other),
        first_digest=first.table.digest,
        second_digest=other.table.digest,
        fields=fields,
        way_out=way_out,
    )


def named(rows: Joined) -> str:
    """Name rows in a line: their table, and the first few of their networks."""
    names = list(dict.fromkeys(row.backbone for row in rows.rows))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{table_title(rows.table)}: {', '.join(names[:4])}{more}"

"""What rows are called in figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rsbench.comparison.row_names import labels_of
from rsbench.tables.layout import clean
from rsbench.tables.table import Row, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The names of a table's rows, as a comparison of them has them; no two are the same."""

    by_records: Mapping[tuple[str, ...], str]

    @classmethod
    def of_table(cls, table: Table) -> Labels:
        """Name the rows of a table."""
        texts = labels_of(table.rows, rulers=[table.digest] * len(table.rows))
        names: dict[tuple[str, ...], str] = {}
        taken: set[str] = set()
        for row, text in zip(table.rows, texts, strict=True):
            # Control characters may have been all that told two names apart.
            name, number = clean(text), 2
            while name in taken:
                name, number = f"{clean(text)} ({number})", number + 1
            taken.add(name)
            names[row.records] = name
        return cls(by_records=names)

    def of(self, row: Row) -> str:
        """Give the name of one of the table's rows."""
        return self.by_records[row.records]

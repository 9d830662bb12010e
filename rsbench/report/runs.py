"""The records behind the numbers: those of shown rows in full, the others in one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rsbench.records.store import Stored
from rsbench.report.anchors import anchor_of, row_anchor
from rsbench.report.bounds import Bounds, Omissions
from rsbench.report.grid import Heading, Place, grid
from rsbench.report.markup import Markup, join, tag, wrappable
from rsbench.report.provenance import SHORT_HEADINGS, provenance, short_line
from rsbench.tables.layout import metric_text
from rsbench.tables.table import Row, Table


def runs(
    tables: Sequence[Table],
    stored: Mapping[str, Stored],
    *,
    bounds: Bounds,
    omissions: Omissions,
) -> Iterator[Markup]:
    """Give the records of each table, folded; a row of several runs says how it was made of them.

    Args:
        tables: Of the page.
        stored: Records by name.
        bounds: How many are shown in full.
        omissions: Where is said what was left out.
    """
    full = _in_full(tables, bounds.full_records)
    left = bounds.short_records
    num_records = 0
    for table in tables:
        bodies: list[Markup] = []
        short: list[Stored] = []
        for row in table.rows:
            num_records += len(row.records)
            inside = [name for name in row.records if name in full]
            short += [stored[name] for name in row.records if name not in full]
            details = [
                provenance(stored[name], bounds=bounds, table_digest=table.digest)
                for name in inside
            ]
            bodies.append(_row(row, table, details) if len(row.records) > 1 else join(details))
        kept, left = short[:left], left - min(left, len(short))
        if kept:
            lines = (short_line(each) for each in kept)
            bodies.append(
                tag(
                    "details",
                    tag("summary", f"{len(kept)} more records, in short"),
                    grid(SHORT_HEADINGS, lines, label=f"Other records of {table.task}"),
                )
            )
        if any(bodies):
            yield tag(
                "section",
                tag("h3", f"{table.task}, {table.protocol}, ruler {table.digest[:8]}"),
                join(bodies),
                class_="runs",
            )
    if len(full) < num_records:
        omissions.say(
            f"Every field is shown of {len(full)} of {num_records} records; the others are files "
            "in the results folder."
        )


def _in_full(tables: Sequence[Table], limit: int) -> frozenset[str]:
    """Choose records: the best rows of all tables before the second best of any."""
    chosen: dict[str, None] = {}
    for place in range(max((len(table.rows) for table in tables), default=0)):
        for table in tables:
            if place < len(table.rows):
                chosen |= dict.fromkeys(table.rows[place].records)
        if len(chosen) >= limit:
            break
    return frozenset(list(chosen)[:limit])


def _row(row: Row, table: Table, details: Sequence[Markup]) -> Markup:
    """Give a row of several runs: what each of them came to, then each of them."""
    column = table.columns[0]
    summary = tag(
        "summary",
        tag("span", wrappable(f"{row.backbone}, {row.weights}"), class_="what"),
        " ",
        tag(
            "span",
            f"{len(row.records)} runs, {column.metric} {metric_text(row.cells[0], column).main}",
            class_="said",
        ),
    )
    lines = (
        (Place(tag("a", wrappable(name), href=f"#{anchor_of(name)}")),) for name in row.records
    )
    listed = "" if details else grid([Heading("record")], lines, label="Runs", class_="plain")
    return tag("details", summary, listed, join(details), id=row_anchor(row.records), class_="row")

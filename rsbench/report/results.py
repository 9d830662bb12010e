"""The tables of the page: one a ruler, each number a link to where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rsbench.report.anchors import row_anchor, table_anchor
from rsbench.report.bounds import Bounds, Omissions
from rsbench.report.grid import Heading, Place, definitions, grid
from rsbench.report.markup import Markup, join, tag, wrappable
from rsbench.report.markup import text as text_of
from rsbench.report.provenance import shown
from rsbench.tables.layout import Layout, Text, lay_out, unlike_sentence
from rsbench.tables.ranked_layout import lay_out_ranking
from rsbench.tables.ranking import Ranking
from rsbench.tables.table import Cell, Row, Table


class Axis(NamedTuple):
    """What the small bars of a column are drawn on."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Give a value's place from 0 to 100."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def result_tables(
    tables: Sequence[Table], *, bounds: Bounds, omissions: Omissions
) -> Iterator[Markup]:
    """Give each table as a section of its own, the best rows of long ones alone."""
    left = bounds.all_rows
    for table in tables:
        num_shown = min(len(table.rows), bounds.table_rows, left)
        left -= num_shown
        if num_shown:
            yield _section(table, num_shown)
    num_rows = sum(len(table.rows) for table in tables)
    num_shown = bounds.all_rows - left
    if num_shown < num_rows:
        omissions.say(
            f"{num_shown:,} of {num_rows:,} rows of tables are shown, the best of each table; "
            "`rsbench table` shows all."
        )


def _section(table: Table, num_shown: int) -> Markup:
    layout = lay_out(table)
    first = layout.numeric.index(True)
    axes = [_axis(table, index) for index in range(len(table.columns))]
    order = _reading_order(layout, first)
    names = _headings(layout, axes, first)
    rows = []
    for row, texts in zip(table.rows[:num_shown], layout.rows[:num_shown], strict=True):
        places = [_place(text, row, table, axes, index - first) for index, text in enumerate(texts)]
        places[0] = Place(_network(texts[0].main, row.marks))
        rows.append([places[index] for index in order])
    ruler = definitions((name, wrappable(shown(value))) for name, value in table.ruler.items())
    return tag(
        "section",
        tag("h3", layout.title),
        tag("p", unlike_sentence(layout), class_="unlike") if layout.unlike else "",
        tag("p", layout.caption, class_="caution") if layout.caption else "",
        grid([names[index] for index in order], rows, label=layout.title, filterable=True),
        _remarks(layout),
        tag(
            "details",
            tag("summary", "ruler ", tag("code", table.digest[:12])),
            tag("p", "What must be equal for two numbers to share a column.", class_="hint"),
            tag("div", ruler, class_="fields"),
            class_="ruler",
        ),
        id=table_anchor(table.digest),
        class_="result",
    )


def _reading_order(layout: Layout, first: int) -> list[int]:
    """Put numbers right behind names, where a narrow screen still shows them.

    Args:
        layout: Of the table; its last column, the marks, stands below the names instead.
        first: The first column of numbers; two before it are backbone and weights.
    """
    last = len(layout.headers) - 1
    return [0, 1, *range(first, last), *range(2, first)]


def _network(name: str, marks: Sequence[str]) -> Markup:
    """Give a network's name with what no reader may miss about its row."""
    chips = (tag("span", mark, class_="mark") for mark in marks)
    return wrappable(name) + (tag("span", join(chips, " "), class_="marks") if marks else "")


def _remarks(layout: Layout) -> Markup:
    """Give the lines below a table; what many networks lack is folded."""
    missing = [line for line in layout.remarks if line.startswith("Missing:")]
    others = [line for line in layout.remarks if line not in missing]
    folded = Markup("")
    if len(missing) > 2:
        summary = tag("summary", f"What {len(missing)} networks or tasks lack")
        folded = tag("details", summary, _lines(missing), class_="ruler")
    else:
        others += missing
    return _lines(others) + folded


def _lines(lines: Sequence[str]) -> Markup:
    if not lines:
        return Markup("")
    items = (
        tag("li", line, class_="warning" if line.startswith("Warning:") else None) for line in lines
    )
    return tag("ul", join(items), class_="remarks")


def _headings(layout: Layout, axes: Sequence[Axis | None], first: int) -> list[Heading]:
    explained = {
        first + index: (
            f"bars: the 95% interval, on an axis from {100 * axis.low:.0f} to {100 * axis.high:.0f}"
        )
        for index, axis in enumerate(axes)
        if axis is not None
    }
    return [
        Heading(header, numeric, explained.get(index, ""))
        for index, (header, numeric) in enumerate(zip(layout.headers, layout.numeric, strict=True))
    ]


def _place(text: Text, row: Row, table: Table, axes: Sequence[Axis | None], metric: int) -> Place:
    """Give one cell; `metric` is the place among the table's columns, of cells that show one."""
    if 0 <= metric < len(table.columns):
        cell = row.cells[metric]
        number = _number(text, row_anchor(row.records), _bar(cell, axes[metric]))
        return Place(number, sort=None if cell is None else cell.value)
    if metric == len(table.columns) and row.difference is not None:
        return Place(_number(text), sort=row.difference.difference)
    if metric >= 0:
        return Place(_number(text), sort=row.num_evaluated if "/" in text.main else None)
    return Place(wrappable(text.main))


def _number(text: Text, anchor: str | None = None, bar: Markup | str = "") -> Markup:
    """Give a number with its interval; with an anchor it leads to where it comes from."""
    parts = [text_of(text.main)]
    if anchor is not None:
        parts = [tag("a", text.main, href=f"#{anchor}", class_="value")]
    if text.detail:
        parts.append(tag("span", f"[{text.detail}]", class_="interval"))
    if text.more:
        parts.append(tag("span", text.more, class_="more"))
    return join(parts, " ") + bar


def _axis(table: Table, index: int) -> Axis | None:
    """Choose the axis of a column's bars: whole tens around all its intervals."""
    column = table.columns[index]
    cells = [row.cells[index] for row in table.rows]
    ends = [
        (cell.low, cell.high)
        for cell in cells
        if cell is not None and cell.low is not None and cell.high is not None
    ]
    if not column.percent or not ends:
        return None
    # Rounded first, so that 0.3000000000000001 does not open another ten.
    low = min(round(10 * low, 6) // 1 for low, _ in ends) / 10
    high = max(-(round(-10 * high, 6) // 1) for _, high in ends) / 10
    return Axis(low, high if high > low else low + 0.1)


def _bar(cell: Cell | None, axis: Axis | None) -> Markup:
    if cell is None or axis is None or cell.low is None or cell.high is None:
        return Markup("")
    low, high, value = (axis.place(end) for end in (cell.low, cell.high, cell.value))
    return tag(
        "svg",
        tag("line", class_="axis", x1=0, x2=100, y1=4, y2=4),
        tag("line", class_="span", x1=low, x2=high, y1=4, y2=4),
        tag("circle", cx=value, cy=4, r=3),
        class_="bar",
        viewBox="-3 0 106 8",
        aria_hidden="true",
    )


def ranking_table(ranking: Ranking, *, bounds: Bounds, omissions: Omissions) -> Markup:
    """Give a ranking as a section: means over tasks beside the tasks they are made of.

    It is folded where nobody has a rank, since it then says no more than the tables below.
    """
    layout = lay_out_ranking(ranking)
    order = _ranked_order(layout)
    # A column a task stands before the marks, which come last.
    first = len(layout.headers) - 1 - len(ranking.columns)
    headings = [
        Heading(header, numeric)
        for header, numeric in zip(layout.headers, layout.numeric, strict=True)
    ]
    rows = []
    num_shown = min(len(ranking.rows), bounds.table_rows)
    if num_shown < len(ranking.rows):
        omissions.say(
            f"{num_shown:,} of {len(ranking.rows):,} networks stand side by side; `rsbench table "
            "--ranked` shows all."
        )
    for row, texts in zip(ranking.rows[:num_shown], layout.rows[:num_shown], strict=True):
        places = []
        for index, text in enumerate(texts):
            cell = row.cells[index - first] if 0 <= index - first < len(row.cells) else None
            if cell is not None:
                number = _number(text, row_anchor(cell.records))
                places.append(Place(number, sort=cell.score.value))
            elif headings[index].numeric:
                places.append(Place(_number(text)))
            else:
                places.append(Place(wrappable(text.main)))
        places[_NAME] = Place(_network(texts[_NAME].main, row.marks))
        rows.append([places[index] for index in order])
    body: tuple[Markup, ...] = (
        tag("p", layout.caption, class_="caution") if layout.caption else Markup(""),
        grid([headings[index] for index in order], rows, label=layout.title, filterable=True),
        _remarks(layout),
    )
    if all(row.rank is None for row in ranking.rows):
        summary = tag("summary", "No network has a number in every column, so none has a rank")
        body = (tag("details", summary, *body),)
    return tag("section", tag("h3", layout.title), *body, class_="result")


_RANK, _NAME = 0, 1
"""Columns of a ranking's layout."""


def _ranked_order(layout: Layout) -> list[int]:
    """Put a ranking's networks first, numbers next; marks stand below the names instead."""
    first, last = layout.numeric.index(True), len(layout.headers) - 1
    return [_NAME, _RANK, *range(first, last), *range(_NAME + 1, first)]


def layout_table(layout: Layout) -> Markup:
    """Give a table in words as a section, without links."""
    headings = [
        Heading(header, numeric)
        for header, numeric in zip(layout.headers, layout.numeric, strict=True)
    ]
    rows = [
        [
            Place(_number(text) if numeric else wrappable(str(text)))
            for text, numeric in zip(texts, layout.numeric, strict=True)
        ]
        for texts in layout.rows
    ]
    return tag(
        "section",
        tag("h3", layout.title),
        tag("p", layout.caption, class_="caution") if layout.caption else "",
        grid(headings, rows, label=layout.title, filterable=True),
        _remarks(layout),
        class_="result",
    )

"""A table of the page: sorted and filtered by the page's own script, a plain table without it.

What a cell sorts by stands in ``data-sort`` where it is not what the cell says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rsbench.report.markup import Markup, join, tag, text

_TALL = 25
"""A table of more rows scrolls in its box, below its headings."""


class Heading(NamedTuple):
    """Of a column."""

    name: str
    numeric: bool = False
    explained: str = ""
    """Shown where the pointer rests."""


class Place(NamedTuple):
    """What stands in one cell."""

    content: str | Markup
    sort: float | str | None = None
    """What the cell sorts by; None for its text."""
    class_: str | None = None
    id_: str | None = None


def grid(
    headings: Sequence[Heading],
    rows: Iterable[Sequence[Place]],
    *,
    label: str,
    class_: str = "data",
    filterable: bool = False,
    row_classes: Sequence[str | None] = (),
) -> Markup:
    """Give a table in a box of its own, which scrolls where the screen is narrow or it is long.

    Args:
        headings: One a column.
        rows: One place a heading; the first one names the row.
        label: What the table is, for whoever does not see it.
        class_: Of the table; "data" makes its columns sortable.
        filterable: Whether the page's filter hides rows of it.
        row_classes: One a row, where rows differ.
    """
    head = join(
        tag(
            "th",
            _breakable(heading.name),
            scope="col",
            class_="num" if heading.numeric else None,
            title=heading.explained or None,
        )
        for heading in headings
    )
    classes = list(row_classes)
    lines = [
        tag(
            "tr",
            join(_cell(place, heading, index) for index, (place, heading) in _pairs(row, headings)),
            class_=classes[number] if classes else None,
        )
        for number, row in enumerate(rows)
    ]
    table = tag(
        "table",
        tag("thead", tag("tr", head)),
        tag("tbody", join(lines)),
        class_=f"{class_} filterable" if filterable else class_,
        aria_label=label,
    )
    # A box that scrolls must be reachable by the keyboard, and then needs a name.
    box = "scroll tall" if len(lines) > _TALL else "scroll"
    return tag("div", table, class_=box, tabindex="0", role="region", aria_label=label)


def definitions(fields: Iterable[tuple[str | Markup, str | Markup]]) -> Markup:
    """Give names and values beside each other."""
    return tag("dl", join(tag("dt", name) + tag("dd", value) for name, value in fields))


def _breakable(name: str) -> Markup:
    """Let the name of a metric break, which on a narrow screen would push its numbers out."""
    return Markup(text(name).replace("_", "_<wbr>"))


def _pairs(
    row: Sequence[Place], headings: Sequence[Heading]
) -> Iterable[tuple[int, tuple[Place, Heading]]]:
    return enumerate(zip(row, headings, strict=True))


def _cell(place: Place, heading: Heading, index: int) -> Markup:
    classes = " ".join(filter(None, ["num" if heading.numeric else None, place.class_]))
    return tag(
        "td" if index else "th",
        place.content,
        scope=None if index else "row",
        class_=classes or None,
        id=place.id_,
        data_sort=place.sort,
    )

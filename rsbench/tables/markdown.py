"""Tables as GitHub markdown, and the README of a results folder."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsbench.records.store import Contents
from rsbench.tables.layout import Layout, clean, lay_out, unlike_sentence
from rsbench.tables.table import Tables, build

_PREFACE = """\
# Results

Drawn from the records in `runs/` by `rsbench table`, never by hand; `rsbench table --check`
says when it is stale. Each table stands under one ruler (the same items, protocol, recipe and
metric); numbers of two tables do not compare.
"""


def to_markdown(tables: Tables) -> str:
    """Give all tables as markdown, each under a heading of the second level.

    Names from records are escaped: they can neither break the table nor become markup.
    """
    return _page([_section(lay_out(table)) for table in tables.tables], tables.problems)


def _page(sections: list[str], problems: Sequence[str]) -> str:
    if problems:
        lines = "\n".join(f"- {escape(problem)}" for problem in problems)
        sections = [*sections, f"## Left out\n\n{lines}\n"]
    return "\n".join(sections) if sections else "No results yet.\n"


def ranking_to_markdown(layouts: Sequence[Layout], problems: Sequence[str]) -> str:
    """Give rankings as markdown, each under a heading of the second level.

    Args:
        layouts: What `rsbench.tables.ranked_layout.lay_out_ranking` gave, one a ranking.
        problems: Lines on files that are in none.
    """
    return _page([_section(layout) for layout in layouts], problems)


def readme(contents: Contents) -> str:
    """Give the README of a results folder; it is stale where its text differs from this."""
    tables = build(contents)
    return f"{_PREFACE}\n{to_markdown(tables)}{_records(tables)}"


def escape(text: str) -> str:
    """Escape what markdown, or HTML in it, would take for markup."""
    text = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|~$])", r"\\\1", text)
    # Brackets are text unless a target follows them.
    text = re.sub(r"\](?=[(\[:])", r"\\]", text)
    # An underscore between letters is text to markdown; elsewhere it may begin emphasis.
    return re.sub(r"(?<![A-Za-z0-9_])_|_(?![A-Za-z0-9_])", r"\\_", text)


def _section(layout: Layout) -> str:
    lines = [f"## {escape(layout.title)}", ""]
    if layout.unlike:
        lines += [escape(unlike_sentence(layout)), ""]
    if layout.caption:
        lines += [f"**{escape(layout.caption)}**", ""]
    lines.append(_line(list(layout.headers)))
    lines.append(_line(["--:" if numeric else ":--" for numeric in layout.numeric], raw=True))
    lines += [_line([str(text) for text in row]) for row in layout.rows]
    lines.append("")
    if layout.remarks:
        lines += [*(f"- {escape(remark)}" for remark in layout.remarks), ""]
    return "\n".join(lines)


def _line(cells: list[str], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else [escape(cell) for cell in cells])} |"


def _records(tables: Tables) -> str:
    names = sorted(name for table in tables.tables for row in table.rows for name in row.records)
    if not names:
        return ""
    # In angle brackets a target may hold anything but these two and a line's end.
    links = [f"- [{escape(name)}](<{re.sub('[<>]', '_', clean(name))}>)" for name in names]
    return "\n".join(["\n## Records\n", *links, ""])

"""Tables as GitHub markdown, and the README of a results folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rsbench.records.store import Contents
from rsbench.suites import SUITES, other_version
from rsbench.tables.layout import Layout, clean, lay_out, unlike_sentence
from rsbench.tables.ranked_layout import lay_out_ranking
from rsbench.tables.ranking import rank
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
    sections = [_section(lay_out(table)) for table in tables.tables]
    return _page(sections, tables.problems, tables.absence)


def _page(sections: list[str], problems: Sequence[str], absence: str) -> str:
    if not sections:
        sections = [f"{escape(absence)}\n"]
    if problems:
        lines = "\n".join(f"- {escape(problem)}" for problem in problems)
        sections = [*sections, f"## Left out\n\n{lines}\n"]
    return "\n".join(sections)


def ranking_to_markdown(layouts: Sequence[Layout], problems: Sequence[str], *, absence: str) -> str:
    """Give rankings as markdown, each under a heading of the second level.

    Args:
        layouts: What `rsbench.tables.ranked_layout.lay_out_ranking` gave, one a ranking.
        problems: Lines on files that are in none.
        absence: What is said where there is no ranking.
    """
    return _page([_section(layout) for layout in layouts], problems, absence)


def layout_to_markdown(layout: Layout) -> str:
    """Give one table in words as markdown, under a heading of the second level."""
    return _section(layout)


def readme(contents: Contents) -> str:
    """Give the README of a results folder; it is stale where its text differs from this.

    Networks are ranked on each suite of which there are two tasks or more, above the tables.
    """
    tables = build(contents)
    rankings = "".join(f"{section}\n" for section in _suites(contents))
    return f"{_PREFACE}\n{rankings}{to_markdown(tables)}{_records(tables)}"


def _suites(contents: Contents) -> Iterator[str]:
    for suite in (version for each in SUITES for version in (each, other_version(each))):
        here = [each for each in contents.records if each.record.task.name in suite.tasks]
        if len({each.record.task.name for each in here}) > 1:
            for ranking in rank(Contents(tuple(here), ()), suite).rankings:
                if ranking.num_tasks > 1:
                    yield _section(lay_out_ranking(ranking))


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

"""A comparison drawn for people: tables, what is refused, how it was done, and the answers last."""

from __future__ import annotations

from collections.abc import Sequence

from rsbench.comparison.compared import Comparison
from rsbench.comparison.layout import lay_out_comparison, legend_of, refusal_text
from rsbench.tables.layout import clean
from rsbench.tables.markdown import escape, layout_to_markdown

NOTHING = "Nothing to compare: no two networks have results under one ruler."


def to_terminal(comparison: Comparison, *, width: int, styled: bool) -> str:
    """Give a comparison as text for a terminal; what was left out has no place here.

    Args:
        comparison: What `compare` gave.
        width: Letters in a line.
        styled: Whether to put in the escape codes for colour and weight.
    """
    from rsbench.tables.terminal import ranking_to_terminal

    layouts = lay_out_comparison(comparison)
    tables = ranking_to_terminal(layouts, absence="", width=width, styled=styled) if layouts else ""
    lines = [f"Refused: {refusal_text(each)}" for each in comparison.refusals]
    lines += [f"To read: {legend_of(comparison)}."] if layouts else []
    lines += [f"Note: {clean(note)}." for note in comparison.notes]
    answers = [clean(each) for each in comparison.sentences] or [_absence(comparison)]
    parts = [tables.rstrip("\n"), "\n".join(lines), "\n".join(answers)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_markdown(comparison: Comparison) -> str:
    """Give a comparison as markdown: the answers first, then a section a table."""
    answers = comparison.sentences or (_absence(comparison),)
    sections = [_listed("Compared", answers)]
    sections += [layout_to_markdown(each) for each in lay_out_comparison(comparison)]
    for heading, lines in (
        ("Refused", [refusal_text(each) for each in comparison.refusals]),
        ("To read", (legend_of(comparison), *comparison.notes)),
        ("Left out", comparison.problems),
    ):
        if lines:
            sections.append(_listed(heading, lines))
    return "\n".join(sections)


def _absence(comparison: Comparison) -> str:
    if not comparison.families and not comparison.problems:
        return "No results to compare yet: run something first."
    return NOTHING


def _listed(heading: str, lines: Sequence[str]) -> str:
    items = "\n".join(f"- {escape(line)}" for line in lines)
    return f"## {heading}\n\n{items}\n"

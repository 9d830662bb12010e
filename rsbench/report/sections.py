"""Which sections a report has, in which order, and what each of them says before it shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rsbench.comparison import compare
from rsbench.comparison.compared import Comparison
from rsbench.comparison.layout import lay_out_comparison
from rsbench.others import besides_of
from rsbench.profiling import cost_tables, costs
from rsbench.records import store
from rsbench.records.store import Contents, Stored
from rsbench.report.bounds import Bounds, Omissions
from rsbench.report.classes import ClassViews
from rsbench.report.comparisons import comparisons, refusals, sentences
from rsbench.report.drawing import javascript, style
from rsbench.report.figure import Figure
from rsbench.report.figures import figures_of
from rsbench.report.figures_selection import undrawn_traces
from rsbench.report.grid import Heading, Place, grid
from rsbench.report.markup import Markup, join, tag
from rsbench.report.page import Section, draw_page, figure_place
from rsbench.report.results import layout_table, ranking_table, result_tables
from rsbench.report.runs import runs
from rsbench.suites import Suite
from rsbench.tables import build, rank
from rsbench.tables.beside import Besides
from rsbench.tables.beside_layout import lay_out_beside
from rsbench.tables.table import Tables

_FIGURE_SECTIONS = {
    "cost": ("What accuracy costs", "Accuracy and cost"),
    "differences": ("Paired differences", "Differences"),
    "views": ("How many views it takes", "Views"),
    "learning": ("Learning curves", "Learning curves"),
    "selection": ("How settings were selected", "Selection"),
}
"""Sections of figures: title, and its short form for the list of ways."""

_STYLE = style(
    ink="var(--ink)",
    muted="var(--muted)",
    grid="var(--line)",
    background="transparent",
    font="system-ui, sans-serif",
)
"""Colours by the names that the style sheet gives them, so that figures follow the reader's theme
without being drawn again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A page, and what is to be said of it."""

    html: str
    figures: tuple[Figure, ...]
    num_records: int
    """In tables."""
    num_tables: int
    omissions: tuple[str, ...]
    """What the page left out, mostly to stay of a size; it says so itself."""
    problems: tuple[str, ...]
    """Files that are in no table, and why; the page says so itself."""


def draw(
    root: Path,
    *,
    data: Path | None,
    suite: Suite | None,
    title: str,
    bounds: Bounds,
    with_figures: bool,
) -> Report:
    """Draw the report of an existing results folder; see `rsbench.report.write_report`."""
    contents = store.read_all(root)
    tables = build(contents)
    comparison = compare(contents, suite=suite)
    measured = costs.read_all(root)
    besides = besides_of(root, contents)
    omissions = Omissions(lines=[])
    figures: tuple[Figure, ...] = ()
    if with_figures:
        figures = figures_of(contents, tables, comparison, measured.costs)
        for line in undrawn_traces(contents, tables):
            omissions.say(line)
    else:
        omissions.say("Figures were not asked for (--no-figures).")
    stored = {each.name: each for each in contents.records}
    problems = tuple(
        dict.fromkeys(
            (
                *tables.problems,
                *comparison.problems,
                *measured.problems,
                *besides.problems,
            )
        )
    )
    views = ClassViews(stored, bounds=bounds, omissions=omissions, data=data)
    drawn = dict(_figures(figures))
    body = [
        _answers(comparison),
        _ranking(contents, tables, suite, bounds, omissions),
        drawn.get("cost"),
        _tables(tables, bounds, omissions),
        _pairs(comparison, bounds, omissions),
        *(drawn.get(name) for name in ("differences", "views", "learning", "selection")),
        _classes(tables, views),
        _published(besides),
        _costs(measured.costs),
        _records(tables, stored, bounds, omissions),
    ]
    body.append(_left_out(problems, omissions, tables))
    names = [name for table in tables.tables for row in table.rows for name in row.records]
    html = draw_page(
        title=title,
        facts=_facts(tables, names, stored),
        sections=[section for section in body if section is not None],
        figures=figures,
        library=javascript() if figures else "",
        style=_STYLE,
    )
    return Report(
        html=html,
        figures=figures,
        num_records=len(names),
        num_tables=len(tables.tables),
        omissions=tuple(omissions.lines),
        problems=problems,
    )


def _facts(
    tables: Tables, names: Sequence[str], stored: Mapping[str, Stored]
) -> list[tuple[str, str]]:
    rows = [row for table in tables.tables for row in table.rows]
    counts = {
        "records": len(names),
        "tables": len(tables.tables),
        "tasks": len({table.task for table in tables.tables}),
        "networks": len({(row.backbone, row.weights) for row in rows}),
    }
    facts = [(f"{count:,}", what[:-1] if count == 1 else what) for what, count in counts.items()]
    newest = max((stored[name].record.created for name in names), default="")
    return [*facts, (newest[:10], "newest record")] if newest else facts


def _section(anchor: str, title: str, short: str, pieces: Iterable[Markup]) -> Section | None:
    """Give a section, or nothing where there is nothing in it."""
    body = join(pieces)
    return Section(anchor, title, short, body) if body else None


def _answers(comparison: Comparison) -> Section | None:
    if not comparison.sentences:
        return None
    lines = (tag("p", note, class_="hint") for note in comparison.notes)
    return Section(
        "answers", "In plain words", "In plain words", sentences(comparison) + join(lines)
    )


def _figures(figures: Sequence[Figure]) -> Iterator[tuple[str, Section]]:
    for name, (title, short) in _FIGURE_SECTIONS.items():
        here = [figure_place(figure) for figure in figures if figure.section == name]
        if here:
            body = tag("div", join(here), class_="figures")
            yield name, Section(f"figures-{name}", title, short, body)


def _ranking(
    contents: Contents,
    tables: Tables,
    suite: Suite | None,
    bounds: Bounds,
    omissions: Omissions,
) -> Section | None:
    if suite is None and len(tables.tables) > bounds.ranked_tables:
        omissions.say(
            f"{len(tables.tables)} tables are too many to stand side by side; --suite ranks some."
        )
        return None
    rankings = rank(contents, suite).rankings
    # One column is a table, which stands below.
    pieces = [
        ranking_table(each, bounds=bounds, omissions=omissions)
        for each in rankings
        if len(each.columns) > 1
    ]
    return _section("ranking", "Side by side", "Side by side", pieces)


def _tables(tables: Tables, bounds: Bounds, omissions: Omissions) -> Section:
    if not tables.tables:
        return Section("tables", "Results", "Results", tag("p", tables.absence))
    hint = tag(
        "p",
        "One table a ruler: the same items, protocol, recipe and metric. Numbers of two tables do "
        "not compare. A number leads to the run it comes from.",
        class_="hint",
    )
    pieces = join(result_tables(tables.tables, bounds=bounds, omissions=omissions))
    return Section("tables", "Results", "Results", hint + pieces)


def _pairs(comparison: Comparison, bounds: Bounds, omissions: Omissions) -> Section | None:
    # Of a suite there is one number a network, which compares as each of its columns does.
    averages = lay_out_comparison(replace(comparison, families=()))
    pieces = [
        *(layout_table(layout) for layout in averages),
        *comparisons(comparison, bounds=bounds, omissions=omissions),
        refusals(comparison),
    ]
    return _section("pairs", "Who is better than whom", "Pair by pair", pieces)


def _classes(tables: Tables, views: ClassViews) -> Section | None:
    pieces = (piece for table in tables.tables if (piece := views.section(table)) is not None)
    return _section("classes", "Classes and wrong items", "Classes, wrong items", pieces)


def _published(besides: Besides) -> Section | None:
    pieces = [layout_table(layout) for layout in lay_out_beside(besides)]
    return _section("published", "Beside published numbers", "Published", pieces)


def _costs(measured: Sequence[costs.Cost]) -> Section | None:
    pieces = [
        tag(
            "section",
            tag("h3", each.title),
            grid(
                [Heading(header, numeric=place > 0) for place, header in enumerate(each.headers)],
                [[Place(text) for text in row] for row in each.rows],
                label=each.title,
                filterable=True,
            ),
            tag("ul", join(tag("li", line) for line in each.remarks), class_="remarks"),
            class_="result",
        )
        for each in cost_tables.cost_grids(measured)
    ]
    return _section("costs", "Measured speed and memory", "Speed, memory", pieces)


def _records(
    tables: Tables, stored: Mapping[str, Stored], bounds: Bounds, omissions: Omissions
) -> Section | None:
    pieces = runs(tables.tables, stored, bounds=bounds, omissions=omissions)
    return _section("records", "Where each number comes from", "Records", pieces)


def _left_out(problems: Sequence[str], omissions: Omissions, tables: Tables) -> Section | None:
    pieces = []
    if problems:
        listed = tag("ul", join(tag("li", line) for line in problems))
        pieces += [tag("h3", "Files in no table"), listed]
    if omissions.lines:
        listed = tag("ul", join(tag("li", line) for line in omissions.lines))
        pieces += [tag("h3", "Left out of the page"), listed]
    return _section("left-out", "Left out", "Left out", pieces)

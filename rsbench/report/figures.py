"""The charts of a report, drawn from records and from nothing else; `figure` says what one is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rsbench.comparison.compared import Comparison
from rsbench.profiling.costs import Cost
from rsbench.records.store import Contents
from rsbench.report.figure import MAX_FIGURES, Figure
from rsbench.report.figures_cost import cost_figures
from rsbench.report.figures_differences import difference_figures
from rsbench.report.figures_learning import learning_figures
from rsbench.report.figures_selection import selection_figures
from rsbench.report.figures_views import view_figures
from rsbench.tables.table import Tables


def figures_of(
    contents: Contents, tables: Tables, comparison: Comparison, costs: Sequence[Cost] = ()
) -> tuple[Figure, ...]:
    """Draw all figures that the records have numbers for, up to `MAX_FIGURES` of a section.

    Args:
        contents: What the tables were built from.
        tables: What `rsbench.tables.build` gave.
        comparison: What `rsbench.comparison.compare` gave, of the same records.
        costs: What `rsbench profile` measured.

    Returns:
        Figures section by section; empty where there is nothing to draw. Each caption says what was
        left out of it, and that of a section's last figure whether there are more.

    Raises:
        RsbenchError: The extra "report" is not installed.
    """
    sections = (
        cost_figures(contents, tables, costs),
        difference_figures(tables, comparison),
        view_figures(contents, tables),
        learning_figures(contents, tables),
        selection_figures(contents, tables),
    )
    return tuple(figure for section in sections for figure in _bounded(section))


def _bounded(section: Iterator[Figure]) -> Sequence[Figure]:
    """Take the first figures of a section; the last says whether there are more."""
    figures = list(islice(section, MAX_FIGURES))
    if len(figures) == MAX_FIGURES and next(section, None) is not None:
        last = figures[-1]
        more = f" Figures of further tables are not drawn: {MAX_FIGURES} of a kind are the most."
        figures[-1] = replace(last, caption=last.caption + more)
    return figures

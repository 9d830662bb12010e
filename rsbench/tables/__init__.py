"""Records become tables, and tables become text: a pure function of records and their files."""

from __future__ import annotations

import shutil
import sys
from typing import Literal, get_args

from rsbench.errors import UnknownNameError
from rsbench.tables.ablation import Ablation, ablation_json, build_ablation, lay_out_ablation
from rsbench.tables.markdown import layout_to_markdown, ranking_to_markdown, readme, to_markdown
from rsbench.tables.ranked_layout import lay_out_ranking
from rsbench.tables.ranking import Ranking, Rankings, rank
from rsbench.tables.table import Table, Tables, build

__all__ = [
    "Ablation",
    "Form",
    "Ranking",
    "Rankings",
    "Table",
    "Tables",
    "ablation_json",
    "build",
    "build_ablation",
    "rank",
    "readme",
    "render",
    "render_ablation",
    "render_ranking",
]

Form = Literal["terminal", "markdown", "csv", "latex", "json"]
"""What a table can be drawn as."""


def render(tables: Tables, form: str) -> str:
    """Draw all tables in one form, ending with a newline.

    On a terminal, in CSV and in LaTeX the files that were left out (`Tables.problems`) have no
    place; who draws these says them elsewhere.

    Args:
        tables: What `build` gave.
        form: One of `Form`; "terminal" fits the width of the screen, or 120 letters without one.

    Raises:
        UnknownNameError: There is no such form.
    """
    if form == "terminal":
        from rsbench.tables.terminal import to_terminal

        return to_terminal(tables, width=screen_width(), styled=sys.stdout.isatty())
    if form == "markdown":
        return to_markdown(tables)
    if form == "latex":
        from rsbench.tables.latex import to_latex

        return to_latex(tables)
    from rsbench.tables import machine

    if form == "csv":
        return machine.to_csv(tables)
    if form == "json":
        return machine.to_json(tables)
    raise unknown_form(form)


def render_ranking(rankings: Rankings, form: str) -> str:
    """Draw rankings in one form, ending with a newline; see `render`.

    Args:
        rankings: What `rank` gave.
        form: One of `Form`.

    Raises:
        UnknownNameError: There is no such form.
    """
    layouts = [lay_out_ranking(each) for each in rankings.rankings]
    if form == "terminal":
        from rsbench.tables.terminal import ranking_to_terminal

        return ranking_to_terminal(
            layouts, absence=rankings.absence, width=screen_width(), styled=sys.stdout.isatty()
        )
    if form == "markdown":
        return ranking_to_markdown(layouts, rankings.problems, absence=rankings.absence)
    if form == "latex":
        from rsbench.tables.latex import layouts_to_latex

        return layouts_to_latex(layouts)
    from rsbench.tables import ranked_machine

    if form == "csv":
        return ranked_machine.ranking_to_csv(rankings)
    if form == "json":
        return ranked_machine.ranking_to_json(rankings)
    raise unknown_form(form)


def render_ablation(ablation: Ablation, form: Literal["terminal", "markdown"]) -> str:
    """Draw a study in one form, ending with a newline; see `render`.

    Args:
        ablation: What `build_ablation` gave.
        form: See `ablation_json` for machines.
    """
    layout = lay_out_ablation(ablation)
    if form == "markdown":
        return layout_to_markdown(layout)
    from rsbench.tables.terminal import layout_to_terminal

    return layout_to_terminal(layout, width=screen_width(), styled=sys.stdout.isatty())


def screen_width() -> int:
    """Give the letters that fit into a line: of the screen, or 120 without one."""
    return shutil.get_terminal_size(fallback=(120, 24)).columns


def unknown_form(form: str) -> UnknownNameError:
    """Give the error that names the forms there are."""
    return UnknownNameError(f"No form {form!r} of a table; there are {', '.join(get_args(Form))}.")

"""Records become tables, and tables become text: a pure function of records and their files."""

from __future__ import annotations

import shutil
import sys
from typing import Literal, get_args

from rsbench.errors import UnknownNameError
from rsbench.tables.markdown import readme, to_markdown
from rsbench.tables.table import Table, Tables, build

__all__ = ["Form", "Table", "Tables", "build", "readme", "render"]

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

        width = shutil.get_terminal_size(fallback=(120, 24)).columns
        return to_terminal(tables, width=width, styled=sys.stdout.isatty())
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
    raise UnknownNameError(f"No form {form!r} of a table; there are {', '.join(get_args(Form))}.")

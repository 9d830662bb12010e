"""Tables on a terminal, drawn by rich; intervals stand below their numbers to save width."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text as Styled

from rsbench.tables.layout import Layout, Text, lay_out, unlike_sentence
from rsbench.tables.table import Tables

_NAME_WIDTH = 30
"""Names up to so many letters stay in one piece."""
_HEADER_WIDTH = 14
"""Headers of numbers break after so many letters."""


def to_terminal(tables: Tables, *, width: int, styled: bool) -> str:
    """Give all tables as text for a terminal; names from records are never markup or escape codes.

    Args:
        tables: What `rsbench.tables.build` gave.
        width: Letters in a line.
        styled: Whether to put in the escape codes for colour and weight.
    """
    console = Console(file=io.StringIO(), width=width, force_terminal=styled, highlight=False)
    with console.capture() as captured:
        _print(tables, console)
    return captured.get()


def _print(tables: Tables, console: Console) -> None:
    if not tables.tables:
        console.print("No results yet.")
    for table in tables.tables:
        _print_layout(lay_out(table), console)


def _print_layout(layout: Layout, console: Console) -> None:
    console.print()
    console.print(Styled(layout.title, style="bold"))
    if layout.unlike:
        console.print(Styled(unlike_sentence(layout), style="yellow"))
    if layout.caption:
        console.print(Styled(layout.caption, style="bold yellow"))
    console.print(_grid(layout))
    for remark in layout.remarks:
        style = "yellow" if remark.startswith("Warning") else "dim"
        console.print(Padding(Styled(remark, style=style), (0, 0, 0, 2)))


def _grid(layout: Layout) -> Grid:
    """Draw the table; all that names or marks a row shares its first column, line below line."""
    num_names = layout.numeric.index(True)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column(
        _name(layout.headers[:num_names], layout.headers[-1]),
        min_width=min(_NAME_WIDTH, max(len(row[0].main) for row in layout.rows)),
        overflow="fold",
    )
    for header in layout.headers[num_names:-1]:
        wrapped = "\n".join(textwrap.wrap(header, _HEADER_WIDTH))
        grid.add_column(Styled(wrapped), justify="right", overflow="fold")
    for row in layout.rows:
        names = [text.main for text in row[:num_names]]
        grid.add_row(_name(names, row[-1].main), *(_styled(text) for text in row[num_names:-1]))
    return grid


def _name(texts: Sequence[str], marks: str) -> Styled:
    styled = Styled(texts[0])
    styled.append(f"\n{', '.join(texts[1:])}", style="dim")
    if marks:
        styled.append(f"\n{marks}", style="yellow")
    return styled


def _styled(text: Text) -> Styled:
    styled = Styled(text.main)
    if text.detail:
        styled.append(f"\n[{text.detail}]", style="dim")
    return styled

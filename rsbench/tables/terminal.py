"""Tables on a terminal, drawn by rich; intervals stand below their numbers to save width."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace

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


def ranking_to_terminal(
    layouts: Sequence[Layout], *, absence: str, width: int, styled: bool
) -> str:
    """Give rankings as text for a terminal: what does not fit beside each other goes below.

    Args:
        layouts: What `rsbench.tables.ranked_layout.lay_out_ranking` gave, one a ranking.
        absence: What is said where there is none.
        width: Letters in a line.
        styled: Whether to put in the escape codes for colour and weight.
    """
    console = Console(file=io.StringIO(), width=width, force_terminal=styled, highlight=False)
    with console.capture() as captured:
        if not layouts:
            console.print(Styled(absence))
        for layout in layouts:
            _print_layout(_rank_before_name(layout), console, columns=_columns_in(width))
    return captured.get()


def layout_to_terminal(layout: Layout, *, width: int, styled: bool) -> str:
    """Give one table in words as text for a terminal; see `to_terminal`."""
    console = Console(file=io.StringIO(), width=width, force_terminal=styled, highlight=False)
    with console.capture() as captured:
        _print_layout(layout, console)
    return captured.get()


def _rank_before_name(layout: Layout) -> Layout:
    """Write "1. NAME", or "2= NAME", in the first column: on a terminal names share it."""
    rows = tuple((Text(f"{_dotted(row[0].main)}{row[1].main}"), *row[2:]) for row in layout.rows)
    return replace(layout, headers=layout.headers[1:], numeric=layout.numeric[1:], rows=rows)


def _dotted(rank: str) -> str:
    if rank == "-":
        return ""
    return f"{rank} " if rank.endswith("=") else f"{rank}. "


def _columns_in(width: int) -> int:
    """Say how many columns of numbers stand beside the names."""
    return max((width - _NAME_WIDTH - 2) // (_HEADER_WIDTH + 2), 1)


def _print(tables: Tables, console: Console) -> None:
    if not tables.tables:
        console.print(Styled(tables.absence))
    for table in tables.tables:
        _print_layout(lay_out(table), console)


def _print_layout(layout: Layout, console: Console, *, columns: int | None = None) -> None:
    console.print()
    console.print(Styled(layout.title, style="bold"))
    if layout.unlike:
        console.print(Styled(unlike_sentence(layout), style="yellow"))
    if layout.caption:
        console.print(Styled(layout.caption, style="bold yellow"))
    num_names = layout.numeric.index(True)
    numbers = range(num_names, len(layout.headers) - 1)
    for start in range(0, len(numbers), columns or len(numbers)):
        shown = numbers[start : start + (columns or len(numbers))]
        console.print(_grid(layout, shown, is_continued=start > 0))
    for remark in layout.remarks:
        style = "yellow" if remark.startswith("Warning") else "dim"
        console.print(Padding(Styled(remark, style=style), (0, 0, 0, 2)))


def _grid(layout: Layout, numbers: Sequence[int], *, is_continued: bool) -> Grid:
    """Draw columns of numbers; all that names or marks a row is in the first, line below line.

    Where columns are continued below others the rows have their first name alone, if it tells them
    apart.
    """
    num_names = layout.numeric.index(True)
    is_short = is_continued and len({row[0].main for row in layout.rows}) == len(layout.rows)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column(
        Styled(layout.headers[0])
        if is_short
        else _name(layout.headers[:num_names], layout.headers[-1]),
        min_width=min(_NAME_WIDTH, max(len(row[0].main) for row in layout.rows)),
        overflow="fold",
    )
    for header in (layout.headers[place] for place in numbers):
        wrapped = "\n".join(_wrapped(header))
        grid.add_column(Styled(wrapped), justify="right", overflow="fold")
    for row in layout.rows:
        names = [text.main for text in row[:num_names]]
        name = Styled(names[0]) if is_short else _name(names, row[-1].main)
        grid.add_row(name, *(_styled(row[place]) for place in numbers))
    return grid


def _wrapped(header: str) -> list[str]:
    """Break a header between its words, and words that are too long at an underscore or an @."""
    lines: list[str] = []
    for line in textwrap.wrap(header, _HEADER_WIDTH, break_long_words=False):
        begun = ""
        for part in re.findall(r"@?[^_@]+_?|.", line):
            if begun and len(begun) + len(part) > _HEADER_WIDTH:
                lines.append(begun)
                begun = ""
            begun += part
        lines.append(begun)
    return lines


def _name(texts: Sequence[str], marks: str) -> Styled:
    styled = Styled(texts[0])
    if len(texts) > 1:
        styled.append(f"\n{', '.join(texts[1:])}", style="dim")
    if marks:
        styled.append(f"\n{marks}", style="yellow")
    return styled


def _styled(text: Text) -> Styled:
    styled = Styled(text.main)
    if text.detail:
        styled.append(f"\n[{text.detail}]", style="dim")
    for line in (text.more, text.cost):
        if line:
            styled.append(f"\n{line}", style="dim")
    return styled

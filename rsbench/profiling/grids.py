"""Small tables in words, drawn for a terminal and as markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 100
"""Letters in a line on a terminal."""
_HEADER_WIDTH = 7
"""Headers of numbers break after so many letters, or where their numbers end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table in words; the first column is a name, the others are numbers."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()
    """Lines below the table."""


def to_terminal(grids: Iterable[Grid]) -> str:
    """Draw tables for a terminal, `WIDTH` letters wide; longer names lose their middle."""
    lines: list[str] = []
    for grid in grids:
        if grid.title:
            lines += ["", *textwrap.wrap(grid.title, WIDTH)]
        lines += ["", *_aligned(grid)]
        for remark in grid.remarks:
            lines += textwrap.wrap(
                remark, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
    return "\n".join([*lines[1:], ""]) if lines else ""


def _aligned(grid: Grid) -> list[str]:
    """Give the lines of a table; a header of several words takes as many lines as it needs."""
    columns = list(zip(*grid.rows, strict=True)) or [() for _ in grid.headers]
    headers, widths = [], []
    for header, cells in zip(grid.headers, columns, strict=True):
        broken = _broken(header, max([_HEADER_WIDTH, *map(len, cells)]))
        headers.append(broken)
        widths.append(max(map(len, (*broken, *cells))))
    widths[0] = max(8, min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
    height = max(map(len, headers))
    above = [
        [
            header[line - (height - len(header))] if line >= height - len(header) else ""
            for header in headers
        ]
        for line in range(height)
    ]
    return [_line(cells, widths) for cells in [*above, *grid.rows]]


def _broken(header: str, width: int) -> list[str]:
    """Break a header between words so that it is not wider than what stands below it."""
    lines: list[str] = []
    for word in header.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name = _shortened(cells[0], widths[0]).ljust(widths[0])
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([name, *numbers]).rstrip()


def _shortened(name: str, width: int) -> str:
    if len(name) <= width:
        return name
    return f"{name[: (width - 1) // 2]}…{name[len(name) - width // 2 :]}"


def to_markdown(grids: Iterable[Grid]) -> str:
    """Draw tables as markdown, ending with a newline; names can't break a cell."""
    blocks = []
    for grid in grids:
        if grid.title:
            blocks.append(f"## {grid.title}")
        lines = [_cells(grid.headers), _cells([":--", *["--:"] * (len(grid.headers) - 1)])]
        blocks.append("\n".join([*lines, *(_cells(row) for row in grid.rows)]))
        if grid.remarks:
            blocks.append("\n".join(f"- {remark}" for remark in grid.remarks))
    return "\n\n".join(blocks) + "\n"


def _cells(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"

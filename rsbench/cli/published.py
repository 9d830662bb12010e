"""Others' numbers for the verbs that show them: by themselves, and beside those of a folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.cli.results import matches
from rsbench.errors import UnknownNameError, suggest

if TYPE_CHECKING:
    from rsbench.records.foreign import ForeignRow
    from rsbench.tables.beside import Besides
    from rsbench.tables.layout import Layout

OTHERS = frozenset({"task", "protocol", "backbone", "weights"})
"""What rows of others are filtered by."""


def list_others(results: Path, wanted: Mapping[str, str], *, as_json: bool) -> None:
    """Print what others published and measured, as far as a results folder has it.

    Args:
        results: The results folder, whose `reference/` and `foreign/` are read.
        wanted: One of `OTHERS` -> names with commas between them, * for any letters.
        as_json: Whether as a JSON list.

    Raises:
        UnknownNameError: No row has a name that was asked for; the nearest is said.
        DataError: A published table is not as it must be; names the file.
    """
    from rsbench.published import read_published
    from rsbench.records import foreign
    from rsbench.tables.beside_layout import lay_out_foreign
    from rsbench.tables.layout import clean

    imported = foreign.read_all(results)
    rows = _chosen([*read_published(results), *imported.rows], wanted, results)
    if as_json:
        plain = [foreign.plain_row(row) for row in rows]
        click.echo(json.dumps(plain, indent=1, ensure_ascii=False))
    elif rows:
        _print_layouts(lay_out_foreign(rows))
    else:
        click.echo(f"{results} holds nothing that others measured.")
    for problem in imported.problems:
        click.echo(clean(f"rsbench: left out: {problem}"), err=True)


def _chosen(
    rows: Sequence[ForeignRow], wanted: Mapping[str, str], results: Path
) -> list[ForeignRow]:
    chosen = list(rows)
    for noun, words in wanted.items():
        patterns = [word.strip() for word in words.split(",") if word.strip()]
        known = {getattr(row, noun) for row in rows} - {None}
        for pattern in patterns:
            if not any(matches(name, pattern) for name in known):
                raise UnknownNameError(
                    f"{results} holds nothing of others of {noun} {pattern!r}."
                    f"{suggest(pattern, known)}"
                    f" `rsbench ls others --results {results}` lists all {len(rows)}."
                )
        chosen = [
            row
            for row in chosen
            if any(matches(getattr(row, noun) or "", pattern) for pattern in patterns)
        ]
    return chosen


def _print_layouts(layouts: Sequence[Layout]) -> None:
    from rsbench.tables.terminal import layout_to_terminal

    width = shutil.get_terminal_size(fallback=(120, 24)).columns
    for layout in layouts:
        click.echo(layout_to_terminal(layout, width=width, styled=sys.stdout.isatty()), nl=False)


def print_besides(besides: Besides, form: str) -> None:
    """Print what stands beside each other; what could not be used goes to standard error.

    Args:
        besides: What `rsbench.others.besides_of` gave.
        form: See `rsbench.tables.Form`.
    """
    from rsbench.tables.beside_layout import beside_csv, beside_json, lay_out_beside
    from rsbench.tables.layout import clean

    if form == "json":
        click.echo(json.dumps(beside_json(besides), indent=2, ensure_ascii=False))
        return
    for problem in besides.problems:
        click.echo(clean(f"rsbench: left out: {problem}"), err=True)
    if form == "csv":
        click.echo(beside_csv(besides), nl=False)
        return
    layouts = lay_out_beside(besides)
    if form == "latex":
        from rsbench.tables.latex import layouts_to_latex

        click.echo(layouts_to_latex(layouts), nl=False)
    elif form == "markdown":
        from rsbench.tables.markdown import layout_to_markdown

        click.echo("\n".join(map(layout_to_markdown, layouts)), nl=False)
    else:
        _print_layouts(layouts)
    if besides.absence:
        click.echo(f"% {besides.absence}" if form == "latex" else besides.absence)

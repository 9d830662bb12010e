"""`rsbench table`: the records of a folder, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.cli.options import RESULTS, examples
from rsbench.errors import RsbenchError
from rsbench.suites import Suite, find_suite

if TYPE_CHECKING:
    from rsbench.records.store import Contents


@click.command(
    epilog=examples(
        "rsbench table results --format markdown", "rsbench table results --suite offline"
    )
)
@click.argument("results", type=RESULTS, default="results")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]),
    default="terminal",
    show_default=True,
    help="What it is drawn as.",
)
@click.option("--suite", help="One table of networks ranked on a suite's tasks (ls suites).")
@click.option("--ranked", is_flag=True, help="One table of networks ranked on all that is there.")
@click.option("--write", is_flag=True, help="Draw RESULTS/README.md from the records.")
@click.option("--check", is_flag=True, help="Exit with 1 if RESULTS/README.md is stale.")
def table(
    results: Path, form: str, suite: str | None, ranked: bool, write: bool, check: bool
) -> int:
    """Draw the tables of a results folder: a pure function of its records.

    Runs whose rulers differ stand in separate tables, with the fields that differ; or, with --suite
    or --ranked, in columns of one table that ranks the networks which have them all.
    """
    from rsbench.records import store
    from rsbench.tables import readme

    if write and check:
        raise RsbenchError("--write and --check exclude each other; give one.")
    if sum([write or check, suite is not None, ranked]) > 1:
        raise RsbenchError(
            "--suite, --ranked and --write or --check exclude each other; give one of the three."
        )
    if not results.is_dir():
        raise RsbenchError(f"No results folder {results}; run something first, or name another.")
    contents = store.read_all(results)
    page = results / "README.md"
    if write or check:
        text = readme(contents)
        if write:
            store.write_page(page, text)
            click.echo(f"{page} is drawn from {len(contents.records)} records.")
        elif not page.is_file() or page.read_bytes() != text.encode():
            click.echo(
                f"rsbench: {page} is stale; `rsbench table {results} --write` draws it.", err=True
            )
            return 1
        else:
            click.echo(f"{page} is up to date with {len(contents.records)} records.")
        return 0
    if ranked or suite is not None:
        chosen = None if suite is None else find_suite(suite)
        print_ranked(contents, form, suite=chosen)
    else:
        print_tables(contents, form)
    return 0


def print_tables(contents: Contents, form: str) -> None:
    """Print the tables of records in one form; what was left out is said on standard error."""
    from rsbench.tables import build, render

    tables = build(contents)
    click.echo(render(tables, form), nl=False)
    say_problems(tables.problems, form)


def print_ranked(contents: Contents, form: str, *, suite: Suite | None) -> None:
    """Print records as rankings in one form; what was left out is said on standard error.

    Args:
        contents: Of a results folder.
        form: See `rsbench.tables.render`.
        suite: Whose tasks and protocols; None takes whatever is there.
    """
    from rsbench.tables import rank, render_ranking

    rankings = rank(contents, suite)
    click.echo(render_ranking(rankings, form), nl=False)
    say_problems(rankings.problems, form)


def say_problems(problems: Sequence[str], form: str) -> None:
    """Say on standard error what was left out, where the form itself has no place for it."""
    if form not in {"markdown", "json"}:  # these two hold the problems themselves
        for problem in problems:
            click.echo(f"rsbench: left out: {problem}", err=True)

"""`rsbench merge`: results folders of several machines, made into one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import RESULTS, examples

if TYPE_CHECKING:
    from rsbench.records.merging import Conflict, Merged

_MOST_FIELDS = 4
"""Of a conflict, as many as a line holds; --json has all."""


@click.command(
    epilog=examples(
        "rsbench merge machine_a/results machine_b/results --into results",
        "rsbench merge /mnt/b/results --into results --dry-run",
    )
)
@click.argument("sources", type=RESULTS, nargs=-1, required=True, metavar="FROM...")
@click.option(
    "--into",
    "target",
    type=RESULTS,
    default="results",
    show_default=True,
    help="Results folder that takes them.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be merged; copy nothing.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def merge(sources: Sequence[Path], target: Path, dry_run: bool, as_json: bool) -> int:
    """Merge results folders into one; nothing is overwritten.

    A run that is there already is left out. Two different records of one run are a conflict: the
    one that is there stays, both are named, and the exit code is 1. Rows that were imported, and
    measured costs, merge as well.
    """
    from rsbench.records import merging

    found = merging.merge(sources, target, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(_plain(found, target, dry_run=dry_run), indent=1))
    else:
        for merged in found:
            click.echo(f"{merged.source}: {_in_words(merged, dry_run=dry_run)}")
        for merged in found:
            _print_problems(merged)
        if any(merged.copied for merged in found) and not dry_run:
            click.echo(f"`rsbench table {target} --write` draws {target}/README.md anew.")
    return 0 if all(merged.is_whole for merged in found) else 1


def _in_words(merged: Merged, *, dry_run: bool) -> str:
    said = [
        f"{len(merged.copied)} {'to copy' if dry_run else 'copied'}",
        f"{len(merged.present)} there already",
    ]
    if merged.twins:
        said.append(f"{len(merged.twins)} made twice with the same outcome, the one there stays")
    if merged.conflicts:
        said.append(_counted(len(merged.conflicts), "conflict"))
    if merged.problems:
        said.append(f"{_counted(len(merged.problems), 'file')} that can't be merged")
    return ", ".join(said)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _print_problems(merged: Merged) -> None:
    from rsbench.tables.layout import clean

    for conflict in merged.conflicts:
        click.echo(f"rsbench: conflict: {clean(_conflict_in_words(conflict))}", err=True)
    for problem in merged.problems:
        click.echo(clean(f"rsbench: left out: {merged.source}: {problem}"), err=True)


def _conflict_in_words(conflict: Conflict) -> str:
    shown = [
        f"{each.field} {_short(each.first)} there, {_short(each.second)} here"
        for each in conflict.fields[:_MOST_FIELDS]
    ]
    more = len(conflict.fields) - _MOST_FIELDS
    if more > 0:
        shown.append(f"and {_counted(more, 'more field')}")
    why = f" ({'; '.join(shown)})" if shown else " (other bytes)"
    return (
        f"{conflict.source} is not what {conflict.target} is{why}; nothing was overwritten: remove"
        " the one that is wrong, and merge again."
    )


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:21]}..."


def _plain(found: Sequence[Merged], target: Path, *, dry_run: bool) -> dict[str, Any]:
    return {
        "into": str(target),
        "dry_run": dry_run,
        "whole": all(merged.is_whole for merged in found),
        "from": [
            {
                "folder": str(merged.source),
                "copied": list(merged.copied),
                "present": list(merged.present),
                "twins": list(merged.twins),
                "conflicts": [
                    {
                        "source": str(conflict.source),
                        "target": str(conflict.target),
                        "fields": [
                            {"field": each.field, "target": each.first, "source": each.second}
                            for each in conflict.fields
                        ],
                    }
                    for conflict in merged.conflicts
                ],
                "problems": list(merged.problems),
            }
            for merged in found
        ],
    }

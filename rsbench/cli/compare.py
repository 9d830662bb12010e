"""`rsbench compare`: which network is better, by how much, and is it sure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from rsbench.cli.options import examples
from rsbench.cli.tables import say_problems
from rsbench.errors import RsbenchError
from rsbench.suites import find_suite

if TYPE_CHECKING:
    from rsbench.comparison.compared import Comparison
    from rsbench.records.store import Contents

_DEFAULT = "results"
_RECORD = ".json"


class _Words(NamedTuple):
    """What the words before the options mean."""

    folders: tuple[Path, ...]
    records: tuple[Path, ...]
    names: tuple[str, ...]


@click.command(
    epilog=examples(
        "rsbench compare results",
        "rsbench compare results --baseline resnet_rs_50",
        "rsbench compare A.json B.json --common-subset",
    )
)
@click.argument("words", nargs=-1, metavar="[RESULTS | RECORD.json ...] [NAME ...]")
@click.option("--baseline", metavar="NAME", help="Compare all others with this network alone.")
@click.option(
    "--by",
    default="task,protocol",
    show_default=True,
    metavar="FIELDS",
    help="What parts results; within a part all is compared or refused.",
)
@click.option(
    "--common-subset", is_flag=True, help="Compare runs of different lists on the items they share."
)
@click.option(
    "--allow-other-training",
    is_flag=True,
    help="With --common-subset: also what learned from, or selected on, other lists.",
)
@click.option("--suite", help="Its tasks and protocols alone, and averages over them (ls suites).")
@click.option(
    "--published",
    is_flag=True,
    help="Put published and imported numbers beside those measured here.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]),
    default="terminal",
    show_default=True,
    help="What it is drawn as.",
)
def compare(
    words: tuple[str, ...],
    baseline: str | None,
    by: str,
    common_subset: bool,
    allow_other_training: bool,
    suite: str | None,
    published: bool,
    form: str,
) -> int:
    """Compare networks within each ruler, item by item: is one better, and is it sure?

    All of a results folder, or the records and networks that are named. Every difference comes with
    its 95% interval, p, q over all pairs of its table, and what so many items could have shown.
    Results under unequal rulers are refused, with the fields that differ.
    """
    from rsbench.comparison import compare as compared
    from rsbench.comparison import render_comparison

    if allow_other_training and not common_subset:
        raise RsbenchError("--allow-other-training must stand with --common-subset; give both.")
    meant = _meaning(words)
    contents = _read(meant)
    comparison = compared(
        contents,
        baseline=baseline,
        by=_fields(by),
        common_subset=common_subset,
        suite=None if suite is None else find_suite(suite),
        names=meant.names,
        allow_other_training=allow_other_training,
    )
    if meant.records:
        _require_pairs(comparison)
    if form == "json":
        _print_json(comparison, meant, contents, published=published)
        return 0
    click.echo(render_comparison(comparison, form), nl=False)
    if form in ("csv", "latex"):
        _say_refusals(comparison)
    say_problems(comparison.problems, form)
    if published:
        from rsbench.cli.published import print_besides
        from rsbench.others import besides_of

        print_besides(besides_of(_folder(meant), contents), form)
    return 0


def _meaning(words: tuple[str, ...]) -> _Words:
    """Tell folders, records and names apart: what ends in .json is a record's file."""
    folders = [Path(word) for word in words if _is_results(word, is_first=word == words[0])]
    records = [Path(word) for word in words if word.endswith(_RECORD) and Path(word) not in folders]
    names = [word for word in words if Path(word) not in (*folders, *records)]
    if not folders and not records:
        folders = [Path(_DEFAULT)]
    return _Words(tuple(folders), tuple(records), tuple(names))


def _is_results(word: str, *, is_first: bool) -> bool:
    """Tell a results folder from a network that some folder here is called like."""
    path = Path(word)
    return path.is_dir() and (is_first or len(path.parts) > 1 or (path / "runs").is_dir())


def _read(meant: _Words) -> Contents:
    from rsbench.records import store

    records: list[store.Stored] = []
    problems: list[str] = []
    for folder in meant.folders:
        if not folder.is_dir():
            raise RsbenchError(
                f"No results folder {folder}; run something first, or name another or a record."
            )
        found = store.read_all(folder)
        records += found.records
        problems += found.problems
    records += [store.Stored(path, store.read(path)) for path in meant.records]
    return store.Contents(tuple(records), tuple(problems))


def _folder(meant: _Words) -> Path:
    return meant.folders[0] if meant.folders else Path(_DEFAULT)


def _fields(by: str) -> tuple[str, ...]:
    fields = tuple(field.strip() for field in by.split(",") if field.strip())
    if not fields:
        raise RsbenchError(f"--by must be fields, such as task,protocol; it was {by!r}.")
    return fields


def _require_pairs(comparison: Comparison) -> None:
    """Refuse where records were named and none of them compares."""
    from rsbench.comparison.layout import refusal_text

    if any(family.pairs for family in comparison.families):
        return
    if comparison.refusals:
        raise RsbenchError(refusal_text(comparison.refusals[0]))
    if comparison.problems:
        raise RsbenchError(comparison.problems[0])


def _say_refusals(comparison: Comparison) -> None:
    from rsbench.comparison.layout import refusal_text

    for refusal in comparison.refusals:
        click.echo(f"rsbench: refused: {refusal_text(refusal)}", err=True)


def _print_json(
    comparison: Comparison, meant: _Words, contents: Contents, *, published: bool
) -> None:
    from rsbench.comparison.machine import comparison_json

    content = comparison_json(comparison)
    if published:
        from rsbench.others import besides_of
        from rsbench.tables.beside_layout import beside_json

        content["published"] = beside_json(besides_of(_folder(meant), contents))
    click.echo(json.dumps(content, indent=2, ensure_ascii=False))

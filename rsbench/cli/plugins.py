"""`rsbench new` and `rsbench check`: write a plug-in to start from, and try one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from rsbench.cli.options import FILE, RESULTS, examples
from rsbench.cli.printing import print_checks


@click.command(epilog=examples("rsbench new task birds"))
@click.argument("kind", type=click.Choice(["task", "backbone"]))
@click.argument("name")
@click.option("--into", type=RESULTS, default=".", help="Folder to write it in.")
def new(kind: Literal["task", "backbone"], name: str, into: Path) -> None:
    """Write a small working plug-in, NAME.py, to start from."""
    from rsbench.registry import everything
    from rsbench.templates import write_plugin

    taken = [found.spec.name for found in everything(kind)[0]]
    path = write_plugin(kind, name, into, taken=taken)
    click.echo(f"{path} is written; `rsbench check {kind} {path}` tries it.")


@click.command(epilog=examples("rsbench check task kinetics400"))
@click.argument("kind", type=click.Choice(["task", "backbone"]))
@click.argument("name")
@click.option("--data", type=FILE, help="Check the real data too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def check(kind: str, name: str, data: Path | None, as_json: bool) -> int:
    """Try a plug-in: counts, labels, ids, decoding, shapes, preprocessing, determinism.

    NAME is a registered name, a path, or the NAME.py in this folder.
    """
    from rsbench.checks import check_backbone, check_task
    from rsbench.data.roots import cache_root
    from rsbench.errors import UnknownNameError
    from rsbench.registry import find_backbone, find_task

    def find(look_up: Callable[[str], Any]) -> Any:  # noqa: ANN401 - Found of either kind
        try:
            return look_up(name)
        except UnknownNameError:
            here = Path(f"{name}.py")
            if not (name.isidentifier() and here.is_file()):
                raise
            return look_up(f"./{here}")

    if kind == "task":
        results = check_task(find(find_task), data=data, cache_root=cache_root())
    else:
        results = check_backbone(find(find_backbone))
    return print_checks(results, as_json=as_json)

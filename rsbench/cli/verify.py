"""`rsbench verify`: whether records say what the files beside them say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import FILE, examples
from rsbench.cli.printing import metric_in_words
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.verifying import Verified


@click.command(
    epilog=examples(
        "rsbench verify results",
        "rsbench verify results/runs/.../resnet_rs_50-none-s0-1a2b3c4d.json",
    )
)
@click.argument("paths", type=FILE, nargs=-1, metavar="[RECORD|RESULTS]...")
@click.option("--task", help="The task's file, where its metrics are its own: ./mine.py.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a record, a line each.")
def verify(paths: tuple[Path, ...], task: str | None, as_json: bool) -> int:
    """Compute recorded numbers anew from stored predictions, and hold files to their digests.

    Metrics, intervals and scores of single items come from the predictions, the ruler from the
    record's parts, counts from the items; scores of single views must average to the predictions.
    Nothing is run. Exit code 1 if anything is not as recorded.
    """
    num_records = num_wrong = num_files = num_metrics = num_absent = 0
    for each in _verified(paths or (Path("results"),), task):
        num_records += each.kind != "stray"
        num_wrong += not each.is_sound
        num_files += each.num_files
        num_metrics += len(each.metrics)
        num_absent += len(each.notes)
        if as_json:
            click.echo(json.dumps(_json(each)))
        else:
            alone = len(paths) == 1 and paths[0].is_file()
            for line in _lines(each, in_full=alone):
                click.echo(line)
    if not as_json:
        are = "is" if num_wrong == 1 else "are"
        said = f"{num_wrong} {are} not as recorded" if num_wrong else "all as recorded"
        click.echo(
            f"{_counted(num_records, 'record')}: {said}; {_counted(num_metrics, 'metric')} computed"
            f" anew, {_counted(num_files, 'file')} held to their digests"
            + (f", {_counted(num_absent, 'remark')} on what is not here" if num_absent else "")
            + "."
        )
    return 1 if num_wrong else 0


def _verified(paths: Sequence[Path], task: str | None) -> Iterator[Verified]:
    from rsbench.verifying import verify, verify_folder

    for path in paths:
        if path.is_dir():
            if not (path / "runs").is_dir() and not (path / "foreign").is_dir():
                raise RsbenchError(
                    f"{path} must be a results folder, with records below {path}/runs; name one,"
                    " or a record."
                )
            yield from verify_folder(path, task=task)
        elif path.is_file():
            yield verify(path, task=task)
        else:
            raise RsbenchError(
                f"{path} must be a record or a results folder, and does not exist; `rsbench ls"
                " results` lists records."
            )


def _lines(each: Verified, *, in_full: bool) -> Iterator[str]:
    """Give the lines of a record: what is wrong, and all that was seen where it is asked for."""
    for problem in each.problems:
        said = problem.removeprefix(f"{each.name}: ")
        yield f"{each.name}: {said}" if each.name not in said else said
    if not in_full:
        return
    for metric in each.metrics:
        value, low, high = metric.recorded
        percent = 0 <= value <= 1
        yield f"  {metric.name} {metric_in_words(value, low, high, percent)}"
    for note in each.notes:
        yield f"  note: {note}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _json(each: Verified) -> dict[str, Any]:
    return {
        "record": str(each.path),
        "kind": each.kind,
        "sound": each.is_sound,
        "problems": list(each.problems),
        "notes": list(each.notes),
        "num_files": each.num_files,
        "num_items": each.num_items,
        "metrics": [
            {
                "name": metric.name,
                "recorded": list(metric.recorded),
                "recomputed": list(metric.recomputed),
            }
            for metric in each.metrics
        ],
    }

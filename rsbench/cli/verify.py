"""`rsbench verify`: whether records say what the files beside them say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import FILE, examples
from rsbench.cli.printing import metric_in_words
from rsbench.cli.progress import reporter
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
    from rsbench.tables.layout import clean

    paths = paths or (Path("results"),)
    _check_paths(paths)
    found = _verified(paths, task)
    for each in found:
        if as_json:
            click.echo(json.dumps(_json(each)))
        else:
            for line in _lines(each, in_full=paths == (each.path,)):
                click.echo(clean(line))
    if not as_json:
        click.echo(_summary(found))
    return 0 if all(each.is_sound for each in found) else 1


def _check_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.exists():
            raise RsbenchError(
                f"{path} must be a record or a results folder, and does not exist; `rsbench ls"
                " results` lists records."
            )
        if path.is_dir() and not ((path / "runs").is_dir() or (path / "foreign").is_dir()):
            raise RsbenchError(
                f"{path} must be a results folder, with records below {path}/runs; name one,"
                " or a record."
            )


def _verified(paths: Sequence[Path], task: str | None) -> list[Verified]:
    """Look all records over before a line is printed: what is printed would break the bars."""
    from rsbench.verifying import verify, verify_folder

    found: list[Verified] = []
    num_records = sum(
        sum(1 for _ in path.rglob("*.json")) if path.is_dir() else 1 for path in paths
    )
    with reporter() as report:
        for path in paths:
            for each in (
                verify_folder(path, task=task) if path.is_dir() else [verify(path, task=task)]
            ):
                found.append(each)
                report("verify", min(len(found), num_records), num_records)
    return found


def _summary(found: Sequence[Verified]) -> str:
    """Count what was looked at: "2 records: 1 is not as recorded; 2 metrics computed anew ..."."""
    num_records = sum(each.kind != "stray" for each in found)
    num_wrong = sum(not each.is_sound for each in found)
    num_absent = sum(len(each.notes) for each in found)
    are = "is" if num_wrong == 1 else "are"
    said = f"{num_wrong} {are} not as recorded" if num_wrong else "all as recorded"
    if not num_records:
        said = "there is nothing to verify"
    num_metrics = sum(len(each.metrics) for each in found)
    num_files = sum(each.num_files for each in found)
    remarks = f", {_counted(num_absent, 'remark')} on what is not here" if num_absent else ""
    return (
        f"{_counted(num_records, 'record')}: {said}; {_counted(num_metrics, 'metric')} computed"
        f" anew, {_counted(num_files, 'file')} held to their digests{remarks}."
    )


def _lines(each: Verified, *, in_full: bool) -> Iterator[str]:
    """Give the lines of a record: what is wrong, and all that was seen where it is asked for."""
    for problem in each.problems:
        said = problem.removeprefix(f"{each.name}: ")
        yield f"{each.name}: {said}" if each.name not in said else said
    if not in_full:
        return
    for metric in each.metrics:
        said = metric_in_words(*metric.recorded, metric.higher_is_better)
        yield f"  {metric.name} {said}"
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
        "metrics": {
            metric.name: {
                "recorded": _number(metric.recorded),
                "recomputed": _number(metric.recomputed),
            }
            for metric in each.metrics
        },
    }


def _number(ends: tuple[float, float | None, float | None]) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), ends, strict=True))

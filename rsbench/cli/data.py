"""`rsbench data`: where a task's data lies, whether it is whole, a sample of it, smaller copies."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.cli.grid import names_of
from rsbench.cli.options import FILE, RESULTS, examples
from rsbench.cli.printing import bytes_in_words, duration_in_words, print_checks
from rsbench.errors import RsbenchError
from rsbench.findings import failure_in_words

if TYPE_CHECKING:
    from rsbench.preparation.roots import Report
    from rsbench.preparation.survey import Expected


@click.group(epilog=examples("rsbench data where kinetics400"))
def data() -> None:
    """Say where a task's data is looked for, check it, prepare it, or write its sample."""


@data.command("where", epilog=examples("rsbench data where kinetics400"))
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
def data_where(task: str, given: Path | None) -> None:
    """Say where the data of TASK is looked for, and what was found."""
    from rsbench.data.roots import config_path, find_root, variable_name
    from rsbench.registry import find_task

    spec = find_task(task).spec
    root = find_root(spec, given)
    places = f"--data, {variable_name(spec.name)}, then [data] {spec.name} in {config_path()}"
    if root is None:
        click.echo(f"{spec.name}: nothing is configured. Looked for in {places}.")
    else:
        click.echo(f"{spec.name}: {root.path} (named by {root.said_by})")
    click.echo(spec.how_to_get)


@data.command("sample", epilog=examples("rsbench data sample kinetics400 my-sample"))
@click.argument("task")
@click.argument("folder", type=RESULTS)
def data_sample(task: str, folder: Path) -> None:
    """Write the sample of TASK into FOLDER (new or empty), in the layout of the real data set."""
    from rsbench.registry import find_task

    spec = find_task(task).spec
    if folder.exists() and any(folder.iterdir()):
        raise RsbenchError(f"{folder} must be new or empty to take a sample; it holds files.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        spec.sample.write(folder)
    except OSError as error:
        raise RsbenchError(
            f"The sample of {spec.name} can't be written into {folder}: {error.strerror or error};"
            " free some space, or name a folder that is yours to write."
        ) from error
    num_files = sum(path.is_file() for path in folder.rglob("*"))
    click.echo(f"{folder} holds the sample of {spec.name}: {num_files} files.")


@data.command("check", epilog=examples("rsbench data check kinetics400 --data DIR"))
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--folds", help="Official splits or folds by commas, such as split1; else all.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def data_check(task: str, given: Path | None, folds: str | None, as_json: bool) -> int:
    """Check the configured data of TASK (or --data) through the real loader."""
    from rsbench.checks import check_task
    from rsbench.data.roots import cache_root, find_root
    from rsbench.registry import find_task

    found = find_task(task)
    root = find_root(found.spec, given)
    if root is None:
        raise RsbenchError(
            f"No data of {task} is configured: give --data DIR. {found.spec.how_to_get}"
        )
    names = () if folds is None else names_of(folds)
    checks = check_task(found, data=root.path, cache_root=cache_root(), folds=names)
    return print_checks(checks, as_json=as_json)


@data.command(
    "prepare", epilog=examples("rsbench data prepare kinetics400 --data K400 --to K400-short256")
)
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--to", "target", type=RESULTS, required=True, help="Folder of the copies.")
@click.option(
    "--short-side",
    type=click.IntRange(16, 4096),
    default=256,
    show_default=True,
    help="In pixels, even; smaller videos are copied as they are.",
)
@click.option("--crf", type=click.IntRange(0, 40), default=18, show_default=True, help="Of x264.")
@click.option(
    "--gop", type=click.IntRange(min=1), default=32, show_default=True, help="Key frame interval."
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; else one a usable core.")
@click.option("--dry-run", is_flag=True, help="Say how much room and time it takes; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def data_prepare(
    task: str,
    given: Path | None,
    target: Path,
    short_side: int,
    crf: int,
    gop: int,
    workers: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Write copies of all videos of TASK with a shorter short side; go on where it was stopped.

    Names stay as they are, so the copies are read like the originals. Frames and their times stay
    too; sound is dropped. What is small enough or can't be read is copied as it is, and named.
    """
    from rsbench.cells import find_task_and_data
    from rsbench.cli.progress import reporter
    from rsbench.cores import usable_cores
    from rsbench.data.roots import cache_root
    from rsbench.media.short_side import Encoding
    from rsbench.preparation.roots import prepare
    from rsbench.preparation.survey import expect, survey

    if short_side % 2:
        raise RsbenchError(f"--short-side must be even, as H.264 has it; it was {short_side}.")
    found, root = find_task_and_data(task, given)
    if root is None:
        raise RsbenchError(
            f"No data of {task} is configured: give --data DIR. {found.spec.how_to_get}"
        )
    tree = survey(found.spec, root.path)
    encoding = Encoding(short_side=short_side, crf=crf, gop=gop)
    num_workers = workers or usable_cores()
    if dry_run:
        expected = expect(tree, encoding, num_workers=num_workers, cache_root=cache_root())
        if as_json:
            click.echo(json.dumps(dataclasses.asdict(expected)))
        else:
            click.echo(_expected_in_words(expected, num_workers))
        return
    with reporter() as report:
        done = prepare(
            tree,
            target,
            encoding,
            num_workers=num_workers,
            cache_root=cache_root(),
            progress=report,
        )
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done), indent=1))
    else:
        click.echo("\n".join(_report_lines(done, target)))


@data.command("quarantine", epilog=examples("rsbench data quarantine"))
@click.option("--clear", is_flag=True, help="Forget all of them: they are tried again.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def data_quarantine(clear: bool, as_json: bool) -> None:
    """List the files that are known to be unreadable and are not decoded again."""
    from rsbench.data.quarantine import Quarantine
    from rsbench.data.roots import cache_root

    quarantine = Quarantine(cache_root())
    entries = quarantine.entries()
    if clear:
        click.echo(f"{quarantine.clear()} unreadable files are forgotten and will be tried again.")
        return
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1))
        return
    for entry in entries:
        failed = failure_in_words(entry.id, entry.reason)
        click.echo(f"{failed} (known since {entry.first_seen}, {entry.decoder})")
    click.echo(f"{len(entries)} unreadable files in {quarantine.path}")


def _expected_in_words(expected: Expected, num_workers: int) -> str:
    return (
        f"{expected.num_videos} videos, {bytes_in_words(expected.source_bytes)}: the copies would"
        f" take about {bytes_in_words(expected.bytes)} and {duration_in_words(expected.seconds)}"
        f" with {num_workers} processes, from {expected.num_sampled} videos tried."
    )


def _report_lines(done: Report, target: Path) -> list[str]:
    """Say what became of every video; those that are not what was asked for by name."""
    words = {
        "resized": "resized",
        "small": "small enough, copied as they are",
        "kept": "not resized (no exact copy could be made), copied as they are",
        "failed": "unreadable, copied as they are: they stay failures",
    }
    lines = [
        f"{target}: {bytes_in_words(done.bytes)} of videos,"
        f" were {bytes_in_words(done.source_bytes)}",
        *(f"  {done.counts[name]} {text}" for name, text in words.items() if done.counts.get(name)),
    ]
    if done.num_done_before:
        lines.append(f"  {done.num_done_before} of them were done before")
    named = (*done.failed, *done.kept)
    lines += [f"  {failure_in_words(entry.path, entry.reason)}" for entry in named]
    if done.remarked:
        number = len(done.remarked)
        lines.append(f"  of {number} of the originals there is something to remark:")
        lines += [f"  {entry.path}: {'; '.join(entry.remarks)}" for entry in done.remarked]
    if done.lowest_psnr is not None:
        lines.append(f"  every copy decoded again: worst frame {done.lowest_psnr:.1f} dB of luma")
    others = "list or other file" if done.num_others == 1 else "lists and other files"
    lines.append(f"  {done.num_others} {others} copied")
    if done.archives:
        lines.append(f"  {len(done.archives)} archives left out ({done.archives[0]}, ...)")
    lines.append(f"  the loader gives equal items from both: {', '.join(done.splits)}")
    return lines

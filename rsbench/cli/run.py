"""`rsbench run`: every cell of the grid in its turn, or with --dry-run what it would be."""

from __future__ import annotations

import dataclasses
import json
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.grid import MOST_SEED, Grid, grid_of, say_left_out
from rsbench.cli.options import AMOUNT, FILE, RECORDS, RESULTS, examples
from rsbench.cli.printing import (
    bytes_in_words,
    duration_in_words,
    record_in_words,
    record_json,
    remarks_in_words,
)
from rsbench.cli.progress import reporter
from rsbench.cli.tables import print_ranked, print_tables
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.cells import Cell, RunRequest
    from rsbench.cli.grid import Grid
    from rsbench.data.team import Team
    from rsbench.estimate import Estimate
    from rsbench.gathering import Gathered
    from rsbench.runner import Finished
    from rsbench.specs import Reading
    from rsbench.suites import Suite


@click.command(
    epilog=examples(
        "rsbench run --task kinetics400",
        "rsbench run --task folder --data DIR --backbone resnet_rs_50,./net.py:build --seeds 0,1,2",
        "rsbench run --suite offline --backbone efficientnet_lite_0,efficientnet_lite_1"
        " --weights pretrained",
    )
)
@click.option("--task", "tasks", help="Task, or several by commas; or ./mine.py.")
@click.option("--suite", help="Instead of --task: offline, kornblith12, ... (ls suites).")
@click.option("--backbone", "backbones", help="Backbone, or several by commas; or ./net.py:build.")
@click.option(
    "--protocol",
    "protocols",
    help="Protocol, or several by commas.  [default: linear_probe, or the suite's]",
)
@click.option("--data", type=FILE, help="Folder (or CSV) of the data; of a suite, a folder a task.")
@click.option(
    "--weights",
    default="none",
    show_default=True,
    help="none, pretrained, a known name, a file or a finetune's record; inflate:... in 3D."
    " One for all, or one a backbone by commas.",
)
@click.option("--seed", type=click.IntRange(0, MOST_SEED), help="One seed.  [default: 0]")
@click.option("--seeds", help="Several by commas, instead of --seed: 0,1,2.")
@click.option("--limit", type=click.IntRange(min=1), help="Items a split: seeded, stratified.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--pixels", type=click.IntRange(min=8), help="Side of the input.")
@click.option("--frames", type=click.IntRange(min=1), help="Frames per clip.")
@click.option("--stride", type=click.IntRange(min=1), help="Frames of the video per clip frame.")
@click.option("--views", metavar="CLIPSxCROPS", help="Test views, such as 10x3; else the task's.")
@click.option("--sampler", help="By which clips are cut: psf, mmaction2, ... (ls samplers).")
@click.option("--cropper", help="By which crops are cut: psf, mmaction2, ... (ls croppers).")
@click.option("--folds", help="Official splits or folds by commas, such as split1; else all.")
@click.option(
    "--cross-validate",
    metavar="K|groups",
    help="K folds, or one a group, instead of the task's own splits.",
)
@click.option("--group-by", metavar="REGEX", help="Take groups from ids, such as '^(seq[0-9]+)_'.")
@click.option(
    "--keep-views-up-to",
    type=click.FloatRange(min=0),
    default=2.0,
    show_default=True,
    metavar="GIB",
    help="Keep every view's scores where they are no more than this; else only their means.",
)
@click.option("--max-failed", type=click.IntRange(min=0), help="Stop (1) at more unreadable items.")
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Views a forward pass; no score depends on it.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Loader processes.")
@click.option(
    "--cache-clips",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="GIB",
    help="Keep so many GiB of decoded test clips for other runs.  [default: none]",
)
@click.option(
    "--cache-limit",
    type=click.FloatRange(min=0),
    metavar="GIB",
    help="Keep no more than this of features; the rest is computed each time.  [default: no limit]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="Of the network; bf16 and fp16 by autocast.",
)
@click.option("--compile", is_flag=True, help="Train through torch.compile.")
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Latest checkpoints of a training that stay on the disk until it ends.",
)
@click.option(
    "--checkpoint-minutes",
    type=AMOUNT,
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="Longest time between two checkpoints; all but short epochs end with one.",
)
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write trainings' losses, rates and scores there.",
)
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use N GPUs of this machine (or N processes: --device cpu).  [default: one]",
)
@click.option("--dry-run", is_flag=True, help="Say what would run, and its size; run nothing.")
@click.option("--again", is_flag=True, help="Run even if the same run is finished.")
@click.option(
    "--allow-test-selection",
    is_flag=True,
    help="Select settings on the test set, to show the leak; tables leave the record out.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a finished cell, a line each."
)
def run(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Run backbones on tasks under protocols, and leave one record each.

    A task without configured data runs on its embedded sample and says so; of a suite it is left
    out, and said. A suite ends with one table of ranked backbones.
    """
    grid: Grid | None = None

    def plan() -> Grid:
        nonlocal grid
        grid = grid_of(words)
        return grid

    def conclude(finished: Mapping[int, Finished]) -> None:
        assert grid is not None, "what is finished was planned"
        if finished and not words["as_json"]:
            _print_tables_of([*finished.values()], words["results"], suite=grid.suite)
            if grid.faults:
                names = ", ".join(backbone for backbone, _ in grid.faults)
                click.echo(f"  Left out of this run: {names}, as said at its beginning.")

    return carry_out(plan, words, conclude)


def carry_out(
    plan: Callable[[], Grid],
    words: Mapping[str, Any],
    conclude: Callable[[Mapping[int, Finished]], None],
) -> int:
    """Run the cells of a plan, in this process or in several; give the exit code.

    Args:
        plan: Gives the cells; every process of a run calls it, and must be given the same.
        words: Of the command line: "dry_run", "as_json" and "gpus" are looked at.
        conclude: Called at the end, in one process, with what is finished, by the number of its
            request in the plan.

    Raises:
        RsbenchError: There is one cell, and it failed; or nothing could be planned.
    """
    from rsbench.data.team import joined
    from rsbench.processes import ENDS_WITH_STARTER, end_with_starter

    if os.environ.pop(ENDS_WITH_STARTER, None):
        end_with_starter()
    if words["gpus"] is not None and not words["dry_run"]:
        return _run_on_gpus(plan(), words, conclude)
    with joined() as team:
        if team is None:
            return _run_grid(plan(), words, conclude)
        if not team.leads:
            return _help_grid(plan, team)
        try:
            return _run_grid(plan(), words, conclude, team=team)
        finally:
            team.dismiss()


def _help_grid(plan: Callable[[], Grid], team: Team) -> int:
    """Help the first process of the team, without a word."""
    from rsbench.runner import assist

    try:
        requests = plan().requests
    except RsbenchError:
        # The first process meets the same fault and says it, or sends an order, which fails there.
        requests = ()
    assist(requests, team)
    return 0


class _Faults:
    """Says what goes wrong in a grid, each thing once, and keeps the exit code."""

    def __init__(self, grid: Grid) -> None:
        """Begin with what of the grid can't run."""
        self.code = say_left_out(grid)
        self._said: set[str] = set()

    def meet(self, request: RunRequest, error: Exception) -> None:
        """Take the fault of one cell."""
        self.code = max(self.code, error.exit_code if isinstance(error, RsbenchError) else 1)
        # What is wrong with the data is wrong in every cell, and said once.
        if str(error) not in self._said:
            self._said.add(str(error))
            _report_cell(request, error)


def _run_grid(
    grid: Grid,
    words: Mapping[str, Any],
    conclude: Callable[[Mapping[int, Finished]], None],
    *,
    team: Team | None = None,
) -> int:
    from rsbench.cli.gpus import processes_of
    from rsbench.data.team import Helpers
    from rsbench.training.interruption import Stopped

    faults = _Faults(grid)
    finished: dict[int, Finished] = {}
    sizes: list[Estimate] = []
    nums = [1 if team is None else team.size] * len(grid.requests)
    if words["gpus"] is not None:
        # Only a dry run comes here with it.
        nums = processes_of(grid.requests, words["gpus"])
    requests = [
        request
        if team is None
        else dataclasses.replace(request, helpers=Helpers(team=team, cell=number))
        for number, request in enumerate(grid.requests)
    ]
    for number, request in enumerate(requests):
        try:
            if words["dry_run"]:
                as_json, num = words["as_json"], nums[number]
                sizes.append(_dry_run(request, as_json=as_json, num_processes=num))
            else:
                finished[number] = _run_cell(request, as_json=words["as_json"])
        # Who ends a training ends the grid: the next cell is not begun in its place.
        except Stopped:
            raise
        # One bad cell must not cost the finished ones, nor those still to come, whatever it raises:
        # plug-ins are anybody's code.
        except Exception as error:
            if len(requests) == 1:
                raise
            faults.meet(request, error)
    if len(sizes) > 1 and not words["as_json"]:
        click.echo(_sum_in_words(sizes))
    if not words["dry_run"]:
        conclude(finished)
    return faults.code


def _run_on_gpus(
    grid: Grid,
    words: Mapping[str, Any],
    conclude: Callable[[Mapping[int, Finished]], None],
) -> int:
    """Run each cell in processes of its own; this one says what comes of it."""
    from rsbench.cells import prepare
    from rsbench.cli.gpus import Told, check_gpus, jobs_of, run_in_processes
    from rsbench.records import store
    from rsbench.runner import Finished

    num, as_json = words["gpus"], words["as_json"]
    kind = check_gpus(num, words["device"])
    faults = _Faults(grid)
    finished: dict[int, Finished] = {}
    introductions: list[str] = []

    def cells() -> Iterator[Cell | None]:
        """Give the cells one after another: together, the items of a large grid fill the memory."""
        for request in grid.requests:
            store.check_writable(request.results)
            try:
                cell = prepare(request)
            # The cell's own process meets it again, and says so.
            except RsbenchError:
                introductions.append("")
                yield None
            else:
                introductions.append(_introduction(cell))
                yield cell

    jobs = jobs_of(cells(), num)
    if len(jobs) > 1 and not as_json:
        num_alone = sum(not job.on_all for job in jobs)
        one, many = ("GPU", "GPUs") if kind == "cuda" else ("process", "processes")
        click.echo(
            f"{len(jobs)} cells on {num} {many}: {num_alone} on one {one} each,"
            f" {len(jobs) - num_alone} on all of them."
        )

    def tell(number: int, told: Told) -> None:
        if told.fault is not None:
            faults.meet(grid.requests[number], told.fault)
            return
        assert told.path is not None, "what did not fail left a record"
        each = Finished(record=store.read(told.path), path=told.path, reused=told.reused)
        finished[number] = each
        if introductions[number] and not as_json:
            click.echo(introductions[number])
        _say_finished(each, as_json=as_json)

    stopped = run_in_processes(
        grid.requests,
        jobs,
        num=num,
        kind=kind,
        heard=lambda line: click.echo(line, err=True),
        told=tell,
    )
    conclude(finished)
    return faults.code if stopped is None else 128 + stopped


def _report_cell(request: RunRequest, error: Exception) -> None:
    """Say which cell of a grid failed and why; a plug-in's own fault with its traceback."""
    cell = f"{request.task}, {request.backbone}, {request.protocol}, seed {request.seed}"
    if isinstance(error, RsbenchError):
        click.echo(f"rsbench: {cell}: {error}", err=True)
        return
    click.echo(f"rsbench: {cell}: stopped by this {type(error).__name__}:", err=True)
    traceback.print_exception(error)


def _run_cell(request: RunRequest, *, as_json: bool) -> Finished:
    from rsbench.cells import prepare
    from rsbench.records import store
    from rsbench.runner import run_cell

    with reporter() as report:
        say = partial(_say_note, err=as_json)
        told = dataclasses.replace(request, progress=report, measured=report.measured, say=say)
        cell = prepare(told)
        store.check_writable(request.results)
        if not as_json:
            click.echo(_introduction(cell))
        finished = run_cell(cell)
    _say_finished(finished, as_json=as_json)
    return finished


def _say_finished(finished: Finished, *, as_json: bool) -> None:
    if as_json:
        described = record_json(finished.record, finished.path) | {"reused": finished.reused}
        click.echo(json.dumps(described))
    elif finished.reused:
        commit = finished.record.environment.get("commit") or "unknown"
        click.echo(
            f"  finished before, not run again: {finished.path} (commit {str(commit)[:12]});"
            " --again runs it."
        )
    else:
        remarks = remarks_in_words(finished.record)
        lines = [record_in_words(finished.record), remarks, f"record: {finished.path}"]
        click.echo("\n".join(f"  {line}" for line in lines if line))


def _say_note(line: str, *, err: bool) -> None:
    click.echo(f"  note: {line}", err=err)


def sample_in_words(cell: Cell) -> list[str]:
    """Say, in one line, that the embedded sample runs where no data was found; else in none."""
    if not cell.sample or cell.task_name == cell.request.task:
        return []
    return [
        f"{cell.request.task}: no data is configured, so this runs the embedded sample"
        f" {cell.task_name} (synthetic; its numbers say nothing of the real data set)."
    ]


def _introduction(cell: Cell) -> str:
    """Say what is about to run; on a sample, that it is one comes first."""
    request, gathered = cell.request, cell.gathered
    lines = [request.purpose] if request.purpose else []
    lines += sample_in_words(cell)
    seen = f"{cell.input.frames} x {cell.input.stride} x {cell.input.pixels}"
    lines.append(
        f"{cell.task_name} · {cell.backbone.spec.name} · {cell.protocol.spec.name}"
        f" · seed {request.seed} · weights {cell.weights.name}: {_counted(gathered)} at {seen}"
    )
    lines += [f"  note: {note}" for note in cell.notes]
    if gathered.missing:
        names = list(dict.fromkeys(gathered.missing))
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lines.append(f"  listed and not here: {len(gathered.missing)} ({shown})")
    lines += [f"  note: {note}" for note in gathered.notes]
    return "\n".join(lines)


def _counted(gathered: Gathered) -> str:
    """Count the items; where there are several folds, those of one."""
    if len(gathered.folds) == 1:
        train = f"{gathered.num_train} train, " if gathered.num_train else ""
        return f"{train}{gathered.num_expected} test items"
    tests = _span([len(fold.test) for fold in gathered.folds])
    trains = [len(fold.train) for fold in gathered.folds if fold.train is not None]
    train = f"{_span(trains)} train, " if trains else ""
    return f"{len(gathered.folds)} folds of {train}{tests} test items"


def _span(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least} to {most}"


def _dry_run(request: RunRequest, *, as_json: bool, num_processes: int) -> Estimate:
    from rsbench.cells import prepare
    from rsbench.estimate import estimate

    cell = prepare(request)
    size = estimate(cell, num_processes=num_processes)
    reading = cell.predict_reading
    if as_json:
        described = {
            "task": cell.task_name,
            "backbone": cell.backbone.spec.name,
            "protocol": cell.protocol.spec.name,
            "seed": request.seed,
            "views": [reading.views.clips, reading.views.crops],
            "sampler": reading.sampler if reading.modality == "video" else None,
            "cropper": reading.cropper,
            **dataclasses.asdict(size),
        }
        # Which outputs cells share is for the sum, which has no line of its own here.
        del described["looks"]
        click.echo(json.dumps(described))
        return size
    click.echo(_introduction(cell))
    if reading.read is None and reading.modality != "volume":
        click.echo(f"  tested on {_views_in_words(reading)}")
    lines = _estimate_lines(size, counted=_counted(cell.gathered))
    click.echo("\n".join(f"  {line}" for line in lines))
    return size


def _sum_in_words(sizes: Sequence[Estimate]) -> str:
    """Say what all cells come to; what several ask the network for is computed and kept once."""
    ahead = [size for size in sizes if not size.finished]
    if not ahead:
        return f"in all: {len(sizes)} cells, finished before: they would be shown, not run"
    looks = {look.key: look for size in ahead for look in size.looks}
    parts = [f"{len(sizes)} cells"]
    if len(ahead) < len(sizes):
        parts.append(f"{len(sizes) - len(ahead)} of them finished before")
    num_bytes = sum(look.num_bytes for look in looks.values())
    parts.append(f"{bytes_in_words(num_bytes)} of network outputs in the cache")
    known = [look.seconds for look in looks.values() if look.seconds is not None]
    own = [size.own_seconds for size in ahead if size.own_seconds is not None]
    if own:
        parts.append(f"about {duration_in_words(sum(known) + sum(own))}")
    if len(own) < len(ahead):
        parts.append(f"the time of {len(ahead) - len(own)} unknown")
    num_trained = sum(size.num_trained for size in ahead)
    return f"in all: {', '.join(parts)}{_not_counted(num_trained)}"


def _not_counted(num_trained: int) -> str:
    return f", not counting the training of {num_trained} classifiers" if num_trained else ""


def _views_in_words(reading: Reading) -> str:
    num_clips, num_crops = reading.views.clips, reading.views.crops
    crops = f"{num_crops} crop{'s' * (num_crops > 1)} by {reading.cropper}"
    if reading.modality == "image":
        return crops
    return f"{num_clips} clip{'s' * (num_clips > 1)} by {reading.sampler} x {crops}"


def _estimate_lines(size: Estimate, *, counted: str) -> list[str]:
    if size.finished:
        return ["finished before: it would be shown, not run"]
    time = "unknown: none of the first items could be read"
    if size.seconds is not None:
        time = f"roughly {duration_in_words(size.seconds)}, from one batch measured"
        time += _not_counted(size.num_trained)
    return [
        f"would run: {counted}, {size.num_views} views",
        f"reads {bytes_in_words(size.media_bytes)} of media",
        _cache_line(size),
        *_view_lines(size),
        *_training_lines(size),
        f"time: {time}",
    ]


def _training_lines(size: Estimate) -> list[str]:
    """Say how long the network learns; nothing where it stays as it is."""
    if not size.train_steps:
        return []
    line = f"training: about {size.train_steps} steps"
    if size.train_seconds is None:
        return [line]
    hours = f"{size.train_seconds / 3600:.2g} hours"
    return [f"{line}, {hours} of one device, from one step measured"]


def _cache_line(size: Estimate) -> str:
    """Say what the cache would keep, and whether a limit leaves room for it."""
    from rsbench.data.assembling import LARGEST_IN_MEMORY_BYTES

    line = f"cache: {bytes_in_words(size.cache_bytes)} of network outputs"
    if size.cache_room_bytes is None or size.cache_bytes <= size.cache_room_bytes:
        return line
    refused = ""
    if size.cache_bytes - size.cache_room_bytes > LARGEST_IN_MEMORY_BYTES:
        most = bytes_in_words(LARGEST_IN_MEMORY_BYTES)
        refused = f"; refused if more than {most} of it is learned from at once"
    return (
        f"{line}, and --cache-limit leaves room for {bytes_in_words(size.cache_room_bytes)}: the"
        f" rest is not kept, and the next run computes it again{refused}"
    )


def _view_lines(size: Estimate) -> list[str]:
    """Say what would be kept of single views; nothing for tasks that have no class scores."""
    if not size.view_score_bytes:
        return []
    whole = bytes_in_words(size.view_score_bytes)
    if size.keeps_views:
        return [f"beside the record: {whole} of scores of single views"]
    return [
        f"beside the record: {bytes_in_words(size.mean_score_bytes)} of mean scores; those of"
        f" single views would be {whole}, more than --keep-views-up-to allows"
    ]


def _print_tables_of(
    finished: Sequence[Finished], results: Path, *, suite: Suite | None = None
) -> None:
    """Print the tables that the finished cells stand in, with the rows that were there before."""
    from rsbench.records import store
    from rsbench.records.ruler import ruler_digest, selected_on_test

    if all(selected_on_test(each.record.ruler) for each in finished):
        click.echo("Selected on the test set: no table shows this.")
        return
    contents = store.read_all(results)
    wanted = {ruler_digest(each.record.ruler) for each in finished}
    shown = [each for each in contents.records if ruler_digest(each.record.ruler) in wanted]
    contents = store.Contents(tuple(shown), contents.problems)
    if suite is None:
        print_tables(contents, "terminal")
    else:
        print_ranked(contents, "terminal", suite=suite)

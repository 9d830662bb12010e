"""The command line: words in, lines out; nothing else parses or prints.

Exit codes: 0 done, 1 the work failed, 2 the user's words or data are wrong. What goes wrong by
the user's hand is one line on standard error; results go to standard output, progress to standard
error.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rsbench import __version__
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.cells import RunRequest
    from rsbench.checks import Check
    from rsbench.estimate import Estimate
    from rsbench.records.schema import RunRecord
    from rsbench.registry import Found, Kind

RESULTS = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RECORDS = "Folder of records."
KINDS: tuple[Kind, ...] = ("task", "backbone", "protocol")
MOST_SEED = 2**32 - 1
"""The largest seed that numpy's generators, torch's and Python's all take."""
SECONDS_BETWEEN_LINES = 30.0
"""How often a run whose progress goes to a file says where it is."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    try:
        code = commands.main(args=arguments, prog_name="rsbench", standalone_mode=False)
    except RsbenchError as error:
        click.echo(f"rsbench: {error}", err=True)
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        click.echo(f"rsbench: {error.format_message()}", err=True)
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("rsbench: stopped; what was finished is kept.", err=True)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _examples(*lines: str) -> str:
    """Give the end of a help page; the mark keeps click from filling the lines up."""
    return "\n".join(
        ["\b", "Example:" if len(lines) == 1 else "Examples:", *map("  {}".format, lines)]
    )


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_examples("rsbench run --task kinetics400"),
)
@click.version_option(__version__, prog_name="rsbench")
def commands() -> None:
    """How well does a visual backbone transfer, to images and to video?"""


# ---------------------------------------------------------------------------- run


@commands.command(
    epilog=_examples(
        "rsbench run --task kinetics400",
        "rsbench run --task folder --data DIR --backbone resnet_rs_50,./net.py:build --seeds 0,1,2",
    )
)
@click.option("--task", "tasks", required=True, help="Task, or several by commas; or ./mine.py.")
@click.option("--backbone", "backbones", help="Backbone, or several by commas; or ./net.py:build.")
@click.option(
    "--protocol",
    "protocols",
    default="linear_probe",
    show_default=True,
    help="Protocol, or several by commas.",
)
@click.option("--data", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--weights", default="none", show_default=True, help="none, a known name, or a file.")
@click.option("--seed", type=click.IntRange(0, MOST_SEED), help="One seed.  [default: 0]")
@click.option("--seeds", help="Several by commas, instead of --seed: 0,1,2.")
@click.option("--limit", type=click.IntRange(min=1), help="Items a split: seeded, stratified.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--pixels", type=click.IntRange(min=8), help="Side of the input.")
@click.option("--frames", type=click.IntRange(min=1), help="Frames per clip.")
@click.option("--stride", type=click.IntRange(min=1), help="Frames of the video per clip frame.")
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
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="Of the network; bf16 and fp16 by autocast.",
)
@click.option("--dry-run", is_flag=True, help="Say what would run, and its size; run nothing.")
@click.option("--again", is_flag=True, help="Run even if the same run is finished.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a finished cell, a line each."
)
def run(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Run backbones on tasks under protocols, and leave one record each.

    A task without configured data runs on its embedded sample and says so.
    """
    code = 0
    finished = []
    said: set[str] = set()
    requests = _grid(words)
    for request in requests:
        try:
            if words["dry_run"]:
                _dry_run(request, as_json=words["as_json"])
            else:
                finished.append(_run_cell(request, as_json=words["as_json"]))
        # One bad cell must not cost the finished ones, nor those still to come, whatever it raises:
        # plug-ins are anybody's code.
        except Exception as error:
            if len(requests) == 1:
                raise
            code = max(code, error.exit_code if isinstance(error, RsbenchError) else 1)
            # What is wrong with the data is wrong in every cell, and said once.
            if str(error) not in said:
                said.add(str(error))
                _report_cell(request, error)
    if finished and not words["as_json"]:
        _print_tables_of(finished, words["results"])
    return code


def _report_cell(request: RunRequest, error: Exception) -> None:
    """Say which cell of a grid failed and why; a plug-in's own fault with its traceback."""
    cell = f"{request.task}, {request.backbone}, {request.protocol}, seed {request.seed}"
    if isinstance(error, RsbenchError):
        click.echo(f"rsbench: {cell}: {error}", err=True)
        return
    click.echo(f"rsbench: {cell}: stopped by this {type(error).__name__}:", err=True)
    traceback.print_exception(error)


def _grid(words: dict[str, Any]) -> list[RunRequest]:
    """Take the words apart: one request a cell; names and data are found before anything runs."""
    from rsbench.cells import RunRequest, find_task_and_data
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone, find_protocol

    tasks, protocols = _names(words["tasks"]), _names(words["protocols"])
    seeds = _seeds(words["seed"], words["seeds"])
    overrides = dict(_pair(text) for text in words["overrides"])
    for name in protocols:
        find_protocol(name)
    cells = []
    for task in tasks:
        found, _ = find_task_and_data(task, words["data"])
        backbones = _names(words["backbones"] or _default_backbones(found.spec.modality))
        for name in backbones:
            find_backbone(name)
        cells += list(itertools.product([task], backbones, protocols, seeds))
    device = words["device"] or _default_device()
    workers = _default_workers(device) if words["workers"] is None else words["workers"]
    return [
        RunRequest(
            task=task,
            backbone=backbone,
            protocol=protocol,
            results=words["results"],
            cache_root=cache_root(),
            data=words["data"],
            weights=words["weights"],
            seed=seed,
            limit=words["limit"],
            overrides=overrides,
            pixels=words["pixels"],
            frames=words["frames"],
            stride=words["stride"],
            max_failed=words["max_failed"],
            device=device,
            batch_size=words["batch_size"],
            num_workers=workers,
            precision=words["precision"],
            again=words["again"],
        )
        for task, backbone, protocol, seed in cells
    ]


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RsbenchError(f"A list of names must be separated by single commas; it was {text!r}.")
    return list(dict.fromkeys(names))


def _seeds(one: int | None, several: str | None) -> list[int]:
    if several is None:
        return [one or 0]
    if one is not None:
        raise RsbenchError(f"--seed {one} and --seeds {several} exclude each other; give one.")
    try:
        seeds = [int(part) for part in several.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) > MOST_SEED:
        raise RsbenchError(
            f"--seeds must be whole numbers from 0 to {MOST_SEED} by commas (0,1,2);"
            f" it was {several!r}."
        )
    return list(dict.fromkeys(seeds))


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise RsbenchError(f"--set must be KEY=VALUE, such as --set lr=0.1; it was {text!r}.")
    return key, value


def _default_backbones(modality: str) -> str:
    """The paper's network, and beside it on video the same one without a sense of time."""
    return "resnet_rs_3d_50,resnet_rs_50" if modality == "video" else "resnet_rs_50"


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _default_workers(device: str) -> int:
    """Give loader processes: on a CPU the network needs the cores itself."""
    return 0 if device == "cpu" else min(8, os.cpu_count() or 1)


def _run_cell(request: RunRequest, *, as_json: bool) -> Any:  # noqa: ANN401 - runner.Finished
    from rsbench.cells import prepare
    from rsbench.records import store
    from rsbench.runner import run_cell

    with _progress() as report:
        cell = prepare(dataclasses.replace(request, progress=report))
        store.check_writable(request.results)
        if not as_json:
            _introduce(cell)
        finished = run_cell(cell)
    if as_json:
        described = _cell_json(finished.record, finished.path) | {"reused": finished.reused}
        click.echo(json.dumps(described))
    elif finished.reused:
        commit = finished.record.environment.get("commit") or "unknown"
        click.echo(
            f"  finished before, not run again: {finished.path} (commit {str(commit)[:12]});"
            " --again runs it."
        )
    else:
        click.echo(f"  {_in_words(finished.record)}\n  record: {finished.path}")
    return finished


def _introduce(cell: Any) -> None:  # noqa: ANN401 - cells.Cell
    """Say what is about to run; on a sample, that it is one comes first."""
    request, gathered = cell.request, cell.gathered
    if cell.sample and cell.task_name != request.task:
        click.echo(
            f"{request.task}: no data is configured, so this runs the embedded sample"
            f" {cell.task_name} (synthetic; its numbers say nothing of the real data set)."
        )
    counted = f"{gathered.num_expected} test"
    if gathered.num_train:
        counted = f"{gathered.num_train} train, {counted}"
    seen = f"{cell.input.frames} x {cell.input.stride} x {cell.input.pixels}"
    click.echo(
        f"{cell.task_name} · {cell.backbone.spec.name} · {cell.protocol.spec.name}"
        f" · seed {request.seed} · weights {cell.weights.name}: {counted} items at {seen}"
    )
    if gathered.missing:
        shown = ", ".join(gathered.missing[:3]) + (", ..." if len(gathered.missing) > 3 else "")
        click.echo(f"  listed and not here: {len(gathered.missing)} ({shown})")
    for note in gathered.notes:
        click.echo(f"  note: {note}")


def _in_words(record: RunRecord) -> str:
    shown = []
    for metric in record.metrics:
        # In percent where the tables have it so.
        percent = metric.higher_is_better and 0 <= metric.value <= 1
        value, low, high = (
            f"{100 * number:.1f}" if percent else f"{number:.4g}"
            for number in (metric.value, metric.low or 0.0, metric.high or 0.0)
        )
        interval = f" [{low}, {high}]" if metric.low is not None else ""
        shown.append(f"{metric.name} {value}{interval}")
    data = record.data
    failed = f", {data.num_failed} unreadable scored wrong" if data.num_failed else ""
    limit = "" if record.task.limit is None else f", limit {record.task.limit}"
    return f"{', '.join(shown)} on {data.num_expected} items{failed}{limit}"


def _cell_json(record: RunRecord, path: Path) -> dict[str, Any]:
    return {
        "record": str(path),
        "task": record.task.name,
        "sample": record.task.sample,
        "limit": record.task.limit,
        "backbone": record.backbone.name,
        "weights": record.weights.name,
        "protocol": record.protocol.name,
        "seed": record.seed,
        "metrics": {
            metric.name: {"value": metric.value, "low": metric.low, "high": metric.high}
            for metric in record.metrics
        },
        "n_official": record.data.num_official,
        "n_expected": record.data.num_expected,
        "n_evaluated": record.data.num_evaluated,
        "n_failed": record.data.num_failed,
    }


def _dry_run(request: RunRequest, *, as_json: bool) -> None:
    from rsbench.cells import prepare
    from rsbench.estimate import estimate

    cell = prepare(request)
    size = estimate(cell)
    if as_json:
        described = {
            "task": cell.task_name,
            "backbone": cell.backbone.spec.name,
            "protocol": cell.protocol.spec.name,
            "seed": request.seed,
            **dataclasses.asdict(size),
        }
        click.echo(json.dumps(described))
        return
    _introduce(cell)
    click.echo("\n".join(f"  {line}" for line in _estimate_lines(size)))


def _estimate_lines(size: Estimate) -> list[str]:
    if size.finished:
        return ["finished before: it would be shown, not run"]
    time = "unknown: none of the first items could be read"
    if size.seconds is not None:
        time = f"roughly {_duration(size.seconds)}, from one item measured"
    return [
        f"would run: {size.num_train} train and {size.num_test} test items, {size.num_views} views",
        f"reads {_bytes(size.media_bytes)} of media",
        f"cache: {_bytes(size.cache_bytes)} of features;"
        f" per-view scores would be {_bytes(size.view_score_bytes)}",
        f"time: {time}",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (stage, done, total) that shows on standard error how long it still takes.

    On a terminal these are bars, from the first call on; elsewhere a line now and then.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_reporter()
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Standard output stays where it was sent, and is not drawn into by the bars.
    bars = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    stages: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        bars.start()
        if stage not in stages:
            stages[stage] = bars.add_task(stage, total=total)
        bars.update(stages[stage], completed=done, total=total)

    try:
        yield report
    finally:
        bars.stop()


def _line_reporter() -> Callable[[str, int, int], None]:
    """Give a callback that prints where a stage is, at most every half minute."""
    began: dict[str, tuple[float, int]] = {}
    spoke = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        nonlocal spoke
        now = time.monotonic()
        start, done_before = began.setdefault(stage, (now, done))
        if done in (done_before, total) or now - spoke < SECONDS_BETWEEN_LINES:
            return
        spoke = now
        left = (now - start) / (done - done_before) * (total - done)
        click.echo(f"  {stage}: {done} of {total}, about {_duration(left)} left", err=True)

    return report


def _print_tables_of(finished: Sequence[Any], results: Path) -> None:
    """Print the tables that the finished cells stand in, with the rows that were there before."""
    from rsbench.records import store
    from rsbench.records.ruler import ruler_digest

    contents = store.read_all(results)
    wanted = {ruler_digest(each.record.ruler) for each in finished}
    shown = [each for each in contents.records if ruler_digest(each.record.ruler) in wanted]
    _print_tables(store.Contents(tuple(shown), contents.problems), "terminal")


# ---------------------------------------------------------------------------- table


@commands.command(epilog=_examples("rsbench table results --format markdown"))
@click.argument("results", type=RESULTS, default="results")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]),
    default="terminal",
    show_default=True,
    help="What it is drawn as.",
)
@click.option("--write", is_flag=True, help="Draw RESULTS/README.md from the records.")
@click.option("--check", is_flag=True, help="Exit with 1 if RESULTS/README.md is stale.")
def table(results: Path, form: str, write: bool, check: bool) -> int:
    """Draw the tables of a results folder: a pure function of its records.

    Runs whose rulers differ stand in separate tables, with the fields that differ.
    """
    from rsbench.records import store
    from rsbench.tables import readme

    if write and check:
        raise RsbenchError("--write and --check exclude each other; give one.")
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
    _print_tables(contents, form)
    return 0


def _print_tables(contents: Any, form: str) -> None:  # noqa: ANN401 - store.Contents
    from rsbench.tables import build, render

    tables = build(contents)
    click.echo(render(tables, form), nl=False)
    if form not in {"markdown", "json"}:  # these two hold the problems themselves
        for problem in tables.problems:
            click.echo(f"rsbench: left out: {problem}", err=True)


# ---------------------------------------------------------------------------- ls and show


@commands.command(epilog=_examples("rsbench ls backbones --json"))
@click.argument("what", type=click.Choice(["tasks", "backbones", "protocols", "results"]))
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--video", "modality", flag_value="video", help="Of this modality only.")
@click.option("--image", "modality", flag_value="image", help="Of this modality only.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def ls(what: str, results: Path, modality: str | None, as_json: bool) -> None:
    """List tasks, backbones, protocols or results.

    A plug-in that can't be imported is named at the end and breaks nothing else.
    """
    if what == "results":
        _list_results(results, as_json=as_json)
        return
    from rsbench.registry import everything

    kind: Kind = what[:-1]  # type: ignore[assignment]  # "tasks" lists the kind "task"
    found, broken = everything(kind)
    rows = [
        row
        for row in map(_spec_json, found)
        if modality is None or row.get("modality", modality) == modality
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        _print_columns([_spec_line(row) for row in rows])
    for each in broken:
        click.echo(f"rsbench: left out {each.kind} {each.origin}: {each.reason}", err=True)


def _spec_json(found: Found[Any]) -> dict[str, Any]:
    from rsbench.specs import Backbone, Task

    spec = found.spec
    row: dict[str, Any] = {"name": spec.name, "version": spec.version, "title": spec.title}
    row["origin"] = found.origin
    if isinstance(spec, Backbone):
        row |= {
            "modality": spec.modality,
            "parameters": spec.num_parameters,
            "parameters_with_classes": spec.parameters_with_classes,
            "feature_width": spec.feature_width,
            "input": dataclasses.asdict(spec.input),
            "weights": ["none", *(weights.name for weights in spec.weights)],
            "licence": spec.licence,
        }
    elif isinstance(spec, Task):
        row |= {
            "modality": spec.modality,
            "target": spec.target,
            "metrics": [metric.name for metric in spec.metrics],
            "views": [spec.views.clips, spec.views.crops],
            "licence": spec.licence,
        }
    else:
        row |= {
            "targets": sorted(spec.targets),
            "trains": spec.trains,
            "selects_on": spec.selects_on,
            "sampler": spec.sampler,
            "recipe": dict(spec.recipe),
        }
    return row


def _spec_line(row: dict[str, Any]) -> tuple[str, ...]:
    if "parameters" in row:
        middle = f"{row['parameters']:,} parameters"
    elif "target" in row:
        middle = f"{row['target']}, {'/'.join(row['metrics'])}"
    else:
        middle = (
            f"{'trains' if row['trains'] else 'trains nothing'}, selects on {row['selects_on']}"
        )
    return (row["name"], row.get("modality", ""), middle, row["title"])


def _print_columns(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _list_results(results: Path, *, as_json: bool) -> None:
    from rsbench.records import store

    contents = store.read_all(results)
    if as_json:
        rows = [_cell_json(each.record, each.path) for each in contents.records]
        click.echo(json.dumps(rows, indent=1))
    else:
        _print_columns([(each.name, _in_words(each.record)) for each in contents.records])
        if not contents.records:
            click.echo(f"{results} holds no records.")
    for problem in contents.problems:
        click.echo(f"rsbench: left out: {problem}", err=True)


@commands.command(epilog=_examples("rsbench show resnet_rs_3d_50"))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a task, backbone or protocol by name, or a record by its path."""
    if name.endswith(".json"):
        from rsbench.records import store
        from rsbench.records.schema import to_json

        click.echo(to_json(store.read(Path(name))), nl=False)
        return
    rows = [_spec_json(found) | _more(found.spec) for found in _named(name)]
    if as_json:
        click.echo(json.dumps(rows[0] if len(rows) == 1 else rows, indent=1, default=str))
        return
    for row in rows:
        _print_columns(
            [(f"{key}:", str(value)) for key, value in row.items() if value not in ("", [])]
        )


def _named(name: str) -> list[Found[Any]]:
    """Find every kind of plug-in of this name; none is an error with near misses of all kinds."""
    from rsbench.errors import PluginError, UnknownNameError
    from rsbench.registry import (
        everything,
        find_backbone,
        find_protocol,
        find_task,
        split_sample,
        suggest,
    )

    found: list[Found[Any]] = []
    faults = []
    for find in (lambda name: find_task(split_sample(name)[0]), find_backbone, find_protocol):
        try:
            found.append(find(name))
        except UnknownNameError:
            continue
        except PluginError as error:
            # A file holds one kind of plug-in, and is none of the others.
            faults.append(error)
    if found:
        return found
    if faults:
        raise faults[0]
    known = [each.spec.name for kind in KINDS for each in everything(kind)[0]]
    raise UnknownNameError(
        f"No task, backbone, protocol or record is called {name!r}.{suggest(name, known)}"
        " `rsbench ls tasks|backbones|protocols|results` lists them."
    )


def _more(spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the three nouns
    """Give what a page about one plug-in says beyond its line in a list."""
    more = {}
    if hasattr(spec, "weights"):
        more["known_weights"] = [
            f"{each.name}: {each.url or each.source}, sha256 {each.sha256 or 'unverified'}"
            f", trained on {', '.join(each.trained_on)}, published {dict(each.published)}"
            f" {each.published_conditions}".rstrip()
            for each in spec.weights
        ]
    for name in ("how_to_get", "citation"):
        if hasattr(spec, name):
            more[name] = getattr(spec, name)
    return more


# ---------------------------------------------------------------------------- predict


@commands.command(
    epilog=_examples("rsbench predict results/runs/.../resnet_rs_50-none-s0-1a2b3c4d.json clip.mp4")
)
@click.argument("record", type=FILE)
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--weights", help="The weights' file, where the record's came from one.")
@click.option("--backbone", help="The backbone's file, where the record's came from one.")
@click.option("--protocol", help="The protocol's file, where the record's came from one.")
@click.option("--fold", help="Whose head, where the run fitted one a fold.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes shown a file."
)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, a line each.")
def predict(
    record: Path,
    files: tuple[Path, ...],
    weights: str | None,
    backbone: str | None,
    protocol: str | None,
    fold: str | None,
    top: int,
    device: str | None,
    as_json: bool,
) -> int:
    """Apply a finished run's head to new images or videos.

    On the run's own items it gives the recorded scores.
    """
    from rsbench.data.roots import cache_root
    from rsbench.predicting import predict_files

    answer = predict_files(
        record,
        files,
        cache_root=cache_root(),
        backbone=backbone,
        protocol=protocol,
        weights=weights,
        fold=fold,
        device=device or _default_device(),
    )
    reasons = {failure.id: failure.reason for failure in answer.failures}
    for number, (path, value) in enumerate(zip(files, answer.values, strict=True)):
        if value is None:
            reason = reasons[f"{number}:{path.name}"]
            click.echo(f"rsbench: {path} can't be read: {reason}", err=True)
        elif as_json:
            scores = dict(zip(answer.classes, map(float, value), strict=True))
            click.echo(json.dumps({"file": str(path), "scores": scores}))
        else:
            ranked = sorted(range(len(value)), key=lambda k: -value[k])[:top]
            said = ", ".join(f"{answer.classes[k]} {100 * value[k]:.1f}%" for k in ranked)
            click.echo(f"{path}: {said}")
    return 1 if reasons else 0


# ---------------------------------------------------------------------------- new and check


@commands.command(epilog=_examples("rsbench new task birds"))
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


@commands.command(epilog=_examples("rsbench check task kinetics400"))
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
    return _print_checks(results, as_json=as_json)


def _print_checks(checks: Sequence[Check], *, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in checks], indent=1))
    else:
        for each in checks:
            click.echo(f"{'ok    ' if each.ok else 'FAILED'}  {each.name}: {each.detail}")
            if not each.ok and each.next_step:
                click.echo(f"        next: {each.next_step}")
    return 0 if all(each.ok for each in checks) else 1


@commands.command(epilog=_examples("rsbench doctor"))
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(results: Path, as_json: bool) -> int:
    """Examine data, weights, decoder, disk, versions and plug-ins on this machine."""
    from rsbench.data.roots import cache_root
    from rsbench.doctor import examine

    return _print_checks(examine(results=results, cache_root=cache_root()), as_json=as_json)


# ---------------------------------------------------------------------------- data


@commands.group(epilog=_examples("rsbench data where kinetics400"))
def data() -> None:
    """Say where a task's data is looked for, check it, or write its sample."""


@data.command("where", epilog=_examples("rsbench data where kinetics400"))
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


@data.command("sample", epilog=_examples("rsbench data sample kinetics400 my-sample"))
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


@data.command("check", epilog=_examples("rsbench data check kinetics400 --data DIR"))
@click.argument("task")
@click.option("--data", "given", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def data_check(task: str, given: Path | None, as_json: bool) -> int:
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
    checks = check_task(found, data=root.path, cache_root=cache_root())
    return _print_checks(checks, as_json=as_json)

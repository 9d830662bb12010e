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
KINDS: tuple[Kind, ...] = ("task", "backbone", "protocol")


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
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain once more while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code if isinstance(code, int) else 0)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rsbench")
def commands() -> None:
    r"""How well does a visual backbone transfer, to images and to video?

    \b
    Example: rsbench run --task kinetics400
    """


# ---------------------------------------------------------------------------- run


@commands.command()
@click.option("--task", "tasks", required=True, help="Task, or several by commas; or ./mine.py.")
@click.option("--backbone", "backbones", help="Backbone, or several by commas; or ./net.py:build.")
@click.option("--protocol", "protocols", default="linear_probe", show_default=True)
@click.option("--data", type=FILE, help="Folder (or CSV) of the data set.")
@click.option("--weights", default="none", show_default=True, help="none, a known name, or a file.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--seeds", help="Several by commas, instead of --seed: 0,1,2.")
@click.option("--limit", type=click.IntRange(min=1), help="Items a split: seeded, stratified.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe.")
@click.option("--pixels", type=click.IntRange(min=8), help="Side of the input.")
@click.option("--frames", type=click.IntRange(min=1), help="Frames per clip.")
@click.option("--stride", type=click.IntRange(min=1), help="Frames of the video per clip frame.")
@click.option("--max-failed", type=click.IntRange(min=0), help="Stop (1) at more unreadable items.")
@click.option("--results", type=RESULTS, default="results", show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--workers", type=click.IntRange(min=0), help="Loader processes.")
@click.option("--precision", type=click.Choice(["float32", "bf16", "fp16"]), default="float32")
@click.option("--dry-run", is_flag=True, help="Say what would run, and its size; run nothing.")
@click.option("--again", is_flag=True, help="Run even if the same run is finished.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a finished cell, a line each."
)
def run(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    r"""Run backbones on tasks under protocols, and leave one record each.

    A task without configured data runs on its embedded sample and says so.

    \b
    Examples:
      rsbench run --task kinetics400
      rsbench run --task folder --data DIR --backbone resnet_rs_50,./net.py:build --seeds 0,1,2
    """
    code = 0
    finished = []
    requests = _grid(words)
    for request in requests:
        try:
            if words["dry_run"]:
                _dry_run(request, as_json=words["as_json"])
            else:
                finished.append(_run_cell(request, as_json=words["as_json"]))
        except RsbenchError as error:
            # One bad cell must not cost the finished ones, nor those still to come.
            if len(requests) == 1:
                raise
            cell = f"{request.task}, {request.backbone}, {request.protocol}, seed {request.seed}"
            click.echo(f"rsbench: {cell}: {error}", err=True)
            code = max(code, error.exit_code)
    if finished and not words["as_json"]:
        _print_tables_of(finished, words["results"])
    return code


def _grid(words: dict[str, Any]) -> list[RunRequest]:
    """Take the words apart: one request a cell, every name looked up before anything runs."""
    from rsbench.cells import RunRequest
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone, find_protocol, find_task, split_sample

    tasks, protocols = _names(words["tasks"]), _names(words["protocols"])
    seeds = [words["seed"]] if words["seeds"] is None else _seeds(words["seeds"])
    for name in protocols:
        find_protocol(name)
    requests = []
    device = words["device"] or _default_device()
    for task in tasks:
        modality = find_task(split_sample(task)[0]).spec.modality
        backbones = _names(words["backbones"] or _default_backbones(modality))
        for name in backbones:
            find_backbone(name)
        for backbone, protocol, seed in itertools.product(backbones, protocols, seeds):
            requests.append(
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
                    overrides=dict(_pair(text) for text in words["overrides"]),
                    pixels=words["pixels"],
                    frames=words["frames"],
                    stride=words["stride"],
                    max_failed=words["max_failed"],
                    device=device,
                    batch_size=words["batch_size"],
                    num_workers=_default_workers(device)
                    if words["workers"] is None
                    else words["workers"],
                    precision=words["precision"],
                    again=words["again"],
                )
            )
    return requests


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RsbenchError(f"A list of names must be separated by single commas; it was {text!r}.")
    return list(dict.fromkeys(names))


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise RsbenchError(
            f"--seeds must be whole numbers from 0 by commas (0,1,2); it was {text!r}."
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

    store.check_writable(request.results)
    with _progress() as report:
        cell = prepare(dataclasses.replace(request, progress=report))
        if not as_json:
            _introduce(cell)
        finished = run_cell(cell)
    if as_json:
        click.echo(json.dumps(_cell_json(finished.record, finished.path, reused=finished.reused)))
    elif finished.reused:
        commit = finished.record.environment.get("rsbench_commit") or "unknown"
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
        shown = ", ".join(gathered.missing[:3])
        click.echo(f"  {len(gathered.missing)} listed items are not here: {shown}, ...")
    for note in gathered.notes:
        click.echo(f"  note: {note}")


def _in_words(record: RunRecord) -> str:
    shown = []
    for metric in record.metrics:
        text = f"{metric.name} {100 * metric.value:.1f}"
        if metric.low is not None and metric.high is not None:
            text += f" [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
        shown.append(text)
    data = record.data
    failed = f", {data.num_failed} unreadable scored wrong" if data.num_failed else ""
    return f"{', '.join(shown)} on {data.num_expected} items{failed}"


def _cell_json(record: RunRecord, path: Path, *, reused: bool) -> dict[str, Any]:
    return {
        "record": str(path),
        "reused": reused,
        "task": record.task.name,
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
    """Give a callback (stage, done, total) that draws bars with the time left on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        stages: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage, total=total)
            bars.update(stages[stage], completed=done, total=total)

        yield report


def _print_tables_of(finished: Sequence[Any], results: Path) -> None:
    """Print the tables that the finished cells stand in, with the rows that were there before."""
    from rsbench.records import store
    from rsbench.records.ruler import ruler_digest

    contents = store.read_all(results)
    wanted = {ruler_digest(each.record.ruler) for each in finished}
    shown = [each for each in contents.records if ruler_digest(each.record.ruler) in wanted]
    click.echo()
    _print_tables(store.Contents(tuple(shown), contents.problems), "terminal")


# ---------------------------------------------------------------------------- table


@commands.command()
@click.argument("results", type=RESULTS, default="results")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "markdown", "csv", "latex", "json"]),
    default="terminal",
    show_default=True,
)
@click.option("--write", is_flag=True, help="Draw RESULTS/README.md from the records.")
@click.option("--check", is_flag=True, help="Exit with 1 if RESULTS/README.md is stale.")
def table(results: Path, form: str, write: bool, check: bool) -> int:
    r"""Draw the tables of a results folder: a pure function of its records.

    Runs whose rulers differ stand in separate tables, with the fields that differ.

    \b
    Example: rsbench table results --format markdown
    """
    from rsbench.records import store
    from rsbench.tables import readme

    if not results.is_dir():
        raise RsbenchError(f"No results folder {results}; run something first, or name another.")
    contents = store.read_all(results)
    page = results / "README.md"
    if write or check:
        text = readme(contents)
        if write:
            page.write_text(text)
            click.echo(f"{page} is drawn from {len(contents.records)} records.")
        elif not page.is_file() or page.read_text() != text:
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


@commands.command()
@click.argument("what", type=click.Choice(["tasks", "backbones", "protocols", "results"]))
@click.option("--results", type=RESULTS, default="results", show_default=True)
@click.option("--video", "modality", flag_value="video", help="Of this modality only.")
@click.option("--image", "modality", flag_value="image", help="Of this modality only.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def ls(what: str, results: Path, modality: str | None, as_json: bool) -> None:
    r"""List tasks, backbones, protocols or results.

    A plug-in that can't be imported is named at the end and breaks nothing else.

    \b
    Example: rsbench ls backbones --json
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
        rows = [_cell_json(each.record, each.path, reused=True) for each in contents.records]
        click.echo(json.dumps(rows, indent=1))
    else:
        _print_columns([(each.name, _in_words(each.record)) for each in contents.records])
    for problem in contents.problems:
        click.echo(f"rsbench: left out: {problem}", err=True)


@commands.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True)
def show(name: str, as_json: bool) -> None:
    r"""Show a task, backbone or protocol by name, or a record by its path.

    \b
    Example: rsbench show resnet_rs_3d_50
    """
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
    from rsbench.errors import UnknownNameError
    from rsbench.registry import everything, find_backbone, find_protocol, find_task, suggest

    found: list[Found[Any]] = []
    for find in (find_task, find_backbone, find_protocol):
        try:
            found.append(find(name))
        except UnknownNameError:
            continue
    if not found:
        known = [each.spec.name for kind in KINDS for each in everything(kind)[0]]
        raise UnknownNameError(
            f"No task, backbone, protocol or record is called {name!r}.{suggest(name, known)}"
            " `rsbench ls tasks|backbones|protocols|results` lists them."
        )
    return found


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


@commands.command()
@click.argument("record", type=FILE)
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--weights", help="The weights' file, where the record's came from one.")
@click.option("--backbone", help="The backbone's file, where the record's came from one.")
@click.option("--fold", help="Whose head, where the run fitted one a fold.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, a line each.")
def predict(
    record: Path,
    files: tuple[Path, ...],
    weights: str | None,
    backbone: str | None,
    fold: str | None,
    top: int,
    device: str | None,
    as_json: bool,
) -> int:
    r"""Apply a finished run's head to new images or videos.

    On the run's own items it gives the recorded scores.

    \b
    Example: rsbench predict results/runs/.../resnet_rs_50-none-s0-1a2b3c4d.json clip.mp4
    """
    from rsbench.data.roots import cache_root
    from rsbench.predicting import predict_files

    answer = predict_files(
        record,
        files,
        cache_root=cache_root(),
        backbone=backbone,
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


@commands.command()
@click.argument("kind", type=click.Choice(["task", "backbone"]))
@click.argument("name")
@click.option("--into", type=RESULTS, default=".", help="Folder to write it in.")
def new(kind: Literal["task", "backbone"], name: str, into: Path) -> None:
    r"""Write a small working plug-in, NAME.py, to start from.

    \b
    Example: rsbench new task birds
    """
    from rsbench.registry import everything
    from rsbench.templates import write_plugin

    taken = [found.spec.name for found in everything(kind)[0]]
    path = write_plugin(kind, name, into, taken=taken)
    click.echo(f"{path} is written; `rsbench check {kind} {path}` tries it.")


@commands.command()
@click.argument("kind", type=click.Choice(["task", "backbone"]))
@click.argument("name")
@click.option("--data", type=FILE, help="Check the real data too.")
@click.option("--json", "as_json", is_flag=True)
def check(kind: str, name: str, data: Path | None, as_json: bool) -> int:
    r"""Try a plug-in: counts, labels, ids, decoding, shapes, preprocessing, determinism.

    NAME is a registered name, a path, or the NAME.py in this folder.

    \b
    Example: rsbench check task kinetics400
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


@commands.command()
@click.option("--results", type=RESULTS, default="results", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def doctor(results: Path, as_json: bool) -> int:
    r"""Examine data, weights, decoder, disk, versions and plug-ins on this machine.

    \b
    Example: rsbench doctor
    """
    from rsbench.data.roots import cache_root
    from rsbench.doctor import examine

    return _print_checks(examine(results=results, cache_root=cache_root()), as_json=as_json)


# ---------------------------------------------------------------------------- data


@commands.group()
def data() -> None:
    r"""Say where a task's data is looked for, check it, or write its sample.

    \b
    Example: rsbench data where kinetics400
    """


@data.command("where")
@click.argument("task")
@click.option("--data", "given", type=FILE)
def data_where(task: str, given: Path | None) -> None:
    r"""Say where the data of TASK is looked for, and what was found.

    \b
    Example: rsbench data where kinetics400
    """
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


@data.command("sample")
@click.argument("task")
@click.argument("folder", type=RESULTS)
def data_sample(task: str, folder: Path) -> None:
    r"""Write the sample of TASK into FOLDER (new or empty), in the layout of the real data set.

    \b
    Example: rsbench data sample kinetics400 my-sample
    """
    from rsbench.registry import find_task

    spec = find_task(task).spec
    if folder.exists() and any(folder.iterdir()):
        raise RsbenchError(f"{folder} must be new or empty to take a sample; it holds files.")
    folder.mkdir(parents=True, exist_ok=True)
    spec.sample.write(folder)
    num_files = sum(path.is_file() for path in folder.rglob("*"))
    click.echo(f"{folder} holds the sample of {spec.name}: {num_files} files.")


@data.command("check")
@click.argument("task")
@click.option("--data", "given", type=FILE)
@click.option("--json", "as_json", is_flag=True)
def data_check(task: str, given: Path | None, as_json: bool) -> int:
    r"""Check the configured data of TASK (or --data) through the real loader.

    \b
    Example: rsbench data check kinetics400 --data DIR
    """
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

"""`rsbench profile`: what networks cost, measured side by side; what was measured before, drawn."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import RESULTS, default_device, examples, views_of
from rsbench.cli.progress import reporter
from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.profiling.costs import Contents
    from rsbench.profiling.side_by_side import Fault, Profiled, ProfileRequest

PAGE = "README.md"
DEFAULT_RESULTS = Path("results")


@click.command(
    epilog=examples(
        "rsbench profile resnet_rs_50@160,resnet_rs_3d_50 --train --batch-size 4",
        "rsbench profile resnet_rs_350@256 --train --batch-size 128 --device cuda --results mine",
        "rsbench profile --join --results results",
    )
)
@click.argument("backbones", required=False)
@click.option("--pixels", type=click.IntRange(min=1), help="Side of the input.")
@click.option(
    "--frames", type=click.IntRange(min=1), help="Frames a clip; image networks read each of them."
)
@click.option("--stride", type=click.IntRange(min=1), help="Frames of the video per clip frame.")
@click.option(
    "--views", default="1x1", show_default=True, metavar="CLIPSxCROPS", help="Views an item."
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Views a pass; halved until it fits. Single views are measured besides.",
)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="Of the network; bf16 and fp16 by autocast.",
)
@click.option(
    "--layout",
    type=click.Choice(["channels_last", "contiguous"]),
    default="channels_last",
    show_default=True,
    help="Memory format of weights and batches.",
)
@click.option("--train", is_flag=True, help="Measure training steps too.")
@click.option(
    "--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Timed rounds."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the CPU; torch's number.")
@click.option("--compile", "compiled", is_flag=True, help="Measure under torch.compile.")
@click.option("--results", type=RESULTS, help="Results folder to save in, or to read from.")
@click.option("--show", is_flag=True, help="Print what RESULTS/profile holds; measure nothing.")
@click.option("--join", "joined", is_flag=True, help="Print it beside the scores of RESULTS.")
@click.option("--write", is_flag=True, help="Draw RESULTS/profile/README.md from it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, a line each.")
def profile(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Measure what networks cost: parameters, multiply-adds, activations, time and memory.

    Networks named together take turns, so that a machine that slows down slows all of them. Pixels
    are part of a name: resnet_rs_50@160. Nothing is saved without --results.
    """
    modes = [mode for mode in ("show", "joined", "write") if words[mode]]
    if len(modes) + (words["backbones"] is not None) != 1:
        raise RsbenchError(
            "profile takes either names of backbones by commas, or one of --show, --join and"
            " --write; give exactly one of these four."
        )
    if modes:
        return _draw(modes[0], words["results"] or DEFAULT_RESULTS, as_json=words["as_json"])
    return _measure(words)


# ---------------------------------------------------------------------------- measuring


def _measure(words: dict[str, Any]) -> int:
    from rsbench.profiling import costs
    from rsbench.profiling.side_by_side import profile as measure

    results: Path | None = words["results"]
    request = _request(words)
    if results is not None:
        costs.check_writable(results)
    with reporter() as report:
        profiled = measure(dataclasses.replace(request, progress=report))
    if len(request.backbones) == 1 and not profiled.costs:
        raise profiled.faults[0].error
    _print_measured(profiled, results, as_json=words["as_json"])
    for fault in profiled.faults:
        _report(fault)
    return max((_exit_code(fault) for fault in profiled.faults), default=0)


def _request(words: dict[str, Any]) -> ProfileRequest:
    from rsbench.profiling.side_by_side import ProfileRequest
    from rsbench.profiling.steps import Setting

    return ProfileRequest(
        backbones=_names(words["backbones"]),
        pixels=words["pixels"],
        frames=words["frames"],
        stride=words["stride"],
        views=views_of(words["views"]),
        batch_size=words["batch_size"],
        setting=Setting(
            device=words["device"] or default_device(),
            precision=words["precision"],
            layout=words["layout"],
            compiled=words["compiled"],
        ),
        training=words["train"],
        rounds=words["repeats"],
        threads=words["threads"],
    )


def _names(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise RsbenchError(f"A list of names must be separated by single commas; it was {text!r}.")
    return tuple(dict.fromkeys(names))


def _print_measured(profiled: Profiled, results: Path | None, *, as_json: bool) -> None:
    from rsbench.profiling import cost_tables, costs, grids

    if not as_json and profiled.costs:
        click.echo(grids.to_terminal(cost_tables.cost_grids(profiled.costs)), nl=False)
    for cost in profiled.costs:
        path = None if results is None else costs.save(results, cost)
        if as_json:
            file = None if path is None else str(path)
            click.echo(json.dumps({"file": file, **costs.cost_json(cost)}))
        elif path is not None:
            click.echo(f"  saved: {path}")


def _report(fault: Fault) -> None:
    """Say which network failed and at what; a stranger's own fault with its traceback."""
    where = f"{fault.backbone}, {fault.what}"
    if isinstance(fault.error, RsbenchError):
        click.echo(f"rsbench: {where}: {fault.error}", err=True)
        return
    click.echo(f"rsbench: {where}: stopped by this {type(fault.error).__name__}:", err=True)
    traceback.print_exception(fault.error)


def _exit_code(fault: Fault) -> int:
    return fault.error.exit_code if isinstance(fault.error, RsbenchError) else 1


# ---------------------------------------------------------------------------- drawing


def _draw(mode: str, results: Path, *, as_json: bool) -> int:
    from rsbench.profiling import cost_tables, costs, grids

    if not results.is_dir():
        raise RsbenchError(
            f"No results folder {results}; measure something with --results first, or name another."
        )
    contents = costs.read_all(results)
    if mode == "write":
        _write_page(results, contents)
    elif mode == "joined":
        _print_joined(results, contents, as_json=as_json)
    elif as_json:
        for path, cost in contents.files:
            click.echo(json.dumps({"file": str(path), **costs.cost_json(cost)}))
    else:
        click.echo(grids.to_terminal(cost_tables.cost_grids(contents.costs)), nl=False)
        if not contents.costs:
            click.echo(f"{results / costs.FOLDER} holds no costs.")
    _say_left_out(contents.problems)
    return 0


def _write_page(results: Path, contents: Contents) -> None:
    from rsbench.atomic import write_atomically
    from rsbench.profiling import costs
    from rsbench.profiling.cost_tables import page

    path = results / costs.FOLDER / PAGE
    write_atomically(path, page(contents.costs).encode())
    click.echo(f"{path} is drawn from {len(contents.costs)} costs.")


def _print_joined(results: Path, contents: Contents, *, as_json: bool) -> None:
    from rsbench.profiling import cost_tables, grids
    from rsbench.records import store
    from rsbench.tables import build

    records = store.read_all(results)
    tables = build(records)
    rows = cost_tables.join(tables, contents.costs)
    if as_json:
        for row in rows:
            click.echo(json.dumps(cost_tables.joined_json(row, results=str(results))))
    else:
        click.echo(grids.to_terminal(cost_tables.joined_grids(rows)), nl=False)
        if not rows:
            click.echo(f"{results} holds no records.")
    _say_left_out(tables.problems)


def _say_left_out(problems: Sequence[str]) -> None:
    for problem in problems:
        click.echo(f"rsbench: left out: {problem}", err=True)

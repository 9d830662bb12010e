"""`rsbench ablate`: a study step by step, each a run, and one table of what each step is worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.grid import Grid, grid_of, names_of, overrides_of
from rsbench.cli.options import AMOUNT, examples
from rsbench.cli.printing import duration_in_words, print_columns
from rsbench.cli.run import carry_out, run, sample_in_words
from rsbench.errors import RsbenchError
from rsbench.plans import STUDIES, Plan, find_study, plan_of, with_options

if TYPE_CHECKING:
    from rsbench.cells import RunRequest
    from rsbench.estimate import Estimate, Speeds
    from rsbench.runner import Finished


@click.command(
    epilog=examples(
        "rsbench ablate --task imagenet1k --backbone resnet_rs_200 --seeds 0,1 --dry-run",
        "rsbench ablate --study optimizers --task cifar10 --backbone resnet_rs_garden_50@32"
        " --batch-sizes 128,512",
        "rsbench ablate --task digits --backbone resnet_rs_garden_50+width=0.125@32"
        " --set batch_size=64 --times-epochs 0.04",
    ),
)
@click.option("--task", required=True, help="One task; or ./mine.py.")
@click.option("--backbone", required=True, help="One backbone, as it is when all steps are taken.")
@click.option(
    "--study",
    default="rs",
    show_default=True,
    help=f"What is varied: {', '.join(study.name for study in STUDIES)}.",
)
@click.option("--protocol", help="Whose recipe is varied.  [default: the study's]")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Hold an entry of the recipe for all rows; a step that only sets it is left out.",
)
@click.option(
    "--times-epochs",
    type=AMOUNT,
    default=1.0,
    metavar="FACTOR",
    help="Multiply the epochs of all rows, such as 0.1 on small data.",
)
@click.option("--batch-sizes", help="Of the study of optimizers, by commas.")
@click.option(
    "--write",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the table there too, as markdown.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a finished cell, and the study at the end, a line each.",
)
def ablate(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Run one network under a row of recipes, and say what each change is worth.

    The study rs turns the switches of the ResNet-RS paper's table 1 one after another; optimizers
    sets SGD, LARS and AdamW side by side. Each row is a run of its own for each seed: finished ones
    are not run again, and an interrupted study goes on where it was.
    """
    if words["dry_run"]:
        plan = _plan(words)
        return _foretell(plan, _grid(plan, words), words["gpus"], as_json=words["as_json"])
    return carry_out(lambda: _grid(_plan(words), words), words, conclude=partial(_conclude, words))


def _plan(words: Mapping[str, Any]) -> Plan:
    """Lay the study out for the network, whose options are asked for one by one.

    Raises:
        RsbenchError: There is no such study or backbone, or words contradict each other.
    """
    from rsbench.registry import find_backbone

    study = find_study(words["study"], batch_sizes=_batch_sizes(words["batch_sizes"]))
    backbone = words["backbone"]
    if len(names_of(backbone)) > 1 or len(names_of(words["task"])) > 1:
        raise RsbenchError(
            "A study is of one backbone on one task; --backbone was"
            f" {backbone!r} and --task {words['task']!r}: start one study for each."
        )
    find_backbone(backbone)

    def has_option(key: str, value: str) -> bool:
        # The network itself exists: what is refused now is the option.
        try:
            find_backbone(with_options(backbone, {key: value}))
        except RsbenchError:
            return False
        return True

    return plan_of(
        study,
        backbone,
        held=overrides_of(words["overrides"]),
        times_epochs=words["times_epochs"],
        has_option=has_option,
    )


def _grid(plan: Plan, words: Mapping[str, Any]) -> Grid:
    """Give the cells of a plan, row by row, and of each row seed by seed.

    Raises:
        RsbenchError: A word is wrong, or the protocol's recipe lacks what the study varies.
    """
    requests: list[RunRequest] = []
    for number, row in enumerate(plan.rows, start=1):
        of_row = {
            **words,
            "suite": None,
            "tasks": words["task"],
            "backbones": row.backbone,
            "protocols": words["protocol"] or plan.study.protocol,
            "overrides": [f"{key}={value}" for key, value in row.overrides.items()],
            "allow_test_selection": False,
        }
        purpose = f"{plan.study.name}, row {number} of {len(plan.rows)}: {row.name}"
        found = grid_of(of_row).requests
        requests += [dataclasses.replace(request, purpose=purpose) for request in found]
    return Grid(requests=tuple(requests))


def _by_row(plan: Plan, grid: Grid) -> list[int]:
    """Give the number of the row that each request of `_grid` is of."""
    num_seeds = len(grid.requests) // len(plan.rows)
    return [number // num_seeds for number in range(len(grid.requests))]


def _conclude(words: Mapping[str, Any], finished: Mapping[int, Finished]) -> None:
    """Print the table of the rows that are finished, if any is."""
    from rsbench.records import store
    from rsbench.tables import ablation_json, build_ablation, render_ablation

    if not finished:
        return
    plan = _plan(words)
    rows = _by_row(plan, _grid(plan, words))
    members: list[list[store.Stored]] = [[] for _ in plan.rows]
    for number, each in finished.items():
        members[rows[number]].append(store.Stored(each.path, each.record))
    ablation = build_ablation(plan, members)
    if words["as_json"]:
        click.echo(json.dumps(ablation_json(ablation), ensure_ascii=False))
    else:
        click.echo(render_ablation(ablation, "terminal"), nl=False)
    if words["page"] is not None:
        store.write_page(words["page"], render_ablation(ablation, "markdown"))


def _foretell(plan: Plan, grid: Grid, gpus: int | None, *, as_json: bool) -> int:
    """Print what each row of a study would take, and all of them; run nothing."""
    from rsbench.cells import prepare
    from rsbench.cli.gpus import processes_of
    from rsbench.estimate import estimate

    speeds: Speeds = {}
    nums = [1] * len(grid.requests) if gpus is None else processes_of(grid.requests, gpus)
    sizes: list[Estimate] = []
    for request, num in zip(grid.requests, nums, strict=True):
        cell = prepare(request)
        if not sizes and not as_json:
            click.echo("".join(f"{line}\n" for line in sample_in_words(cell)), nl=False)
        sizes.append(estimate(cell, speeds=speeds, num_processes=num))
    rows = _by_row(plan, grid)
    of_rows = [
        [size for row, size in zip(rows, sizes, strict=True) if row == number]
        for number in range(len(plan.rows))
    ]
    if as_json:
        for row, estimates in zip(plan.rows, of_rows, strict=True):
            described = {
                "step": row.name,
                "task": cell.task_name,
                "backbone": row.backbone,
                "overrides": dict(row.overrides),
                "num_runs": len(estimates),
                "num_finished": sum(size.finished for size in estimates),
                "train_steps": estimates[0].train_steps,
                "seconds_per_run": estimates[0].seconds,
                "seconds_ahead": _seconds_of(estimates),
            }
            click.echo(json.dumps(described))
        return 0
    device = "GPU" if grid.requests[0].device.startswith("cuda") else "CPU"
    click.echo(f"{plan.study.title}: {plan.backbone} on {cell.task_name}, {len(sizes)} runs")
    lines = [("step", "steps", "a run", "all seeds")]
    for row, estimates in zip(plan.rows, of_rows, strict=True):
        ahead = _seconds_of(estimates)
        all_finished = all(size.finished for size in estimates)
        lines.append(
            (
                row.name,
                str(estimates[0].train_steps),
                _in_words(estimates[0].seconds),
                "finished before" if all_finished else _in_words(ahead),
            )
        )
    print_columns(lines)
    for note in plan.notes:
        click.echo(f"note: {note}")
    num_finished = sum(size.finished for size in sizes)
    before = f", {num_finished} of them finished before" if num_finished else ""
    total = _seconds_of(sizes)
    time = "time unknown" if total is None else f"about {duration_in_words(total)} of one {device}"
    click.echo(f"in all: {len(sizes)} runs{before}, {time}; a training step of each was measured")
    return 0


def _seconds_of(sizes: Sequence[Estimate]) -> float | None:
    """Give what is still to be computed; None where the time of a run is not known."""
    ahead = [size.seconds for size in sizes if not size.finished]
    known = [seconds for seconds in ahead if seconds is not None]
    return sum(known) if len(known) == len(ahead) else None


def _in_words(seconds: float | None) -> str:
    return "unknown" if seconds is None else duration_in_words(seconds)


def _batch_sizes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    words = names_of(text)
    if not all(word.isascii() and word.isdecimal() and int(word) >= 2 for word in words):
        raise RsbenchError(
            "--batch-sizes must be whole numbers from 2 on by commas, such as 128,512; it was"
            f" {text!r}."
        )
    return tuple(int(word) for word in words)


# What is not said otherwise above is said as in `rsbench run`.
_OTHERWISE = ("tasks", "backbones", "suite", "protocols", "overrides", "as_json")
ablate.params += [
    each for each in run.params if each.name not in (*_OTHERWISE, "allow_test_selection")
]

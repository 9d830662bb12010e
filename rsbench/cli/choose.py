"""`rsbench choose`: which network to take for one's own data, within limits of time and memory."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.grid import MOST_SEED, backbones_with_weights, names_of
from rsbench.cli.options import AMOUNT, FILE, RECORDS, RESULTS, default_device, examples
from rsbench.cli.printing import duration_in_words, print_columns
from rsbench.cli.progress import reporter
from rsbench.errors import DiskError, RsbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsbench.choosing.answer import Answer
    from rsbench.choosing.shortlist import ChoiceRequest, LeftOut, Measured, Network, Plan


@click.command(
    epilog=examples(
        "rsbench choose --data clips.csv --max-latency-ms 50",
        "rsbench choose --data PICTURES --max-memory-mib 200 --minutes 20 --yes --json",
    )
)
@click.option("--data", type=FILE, help="Folder of class folders, or CSV with path,label.")
@click.option("--task", help="Another task than the user's own data: digits, ...")
@click.option("--max-latency-ms", type=AMOUNT, metavar="MS", help="Most time an item may take.")
@click.option("--max-memory-mib", type=AMOUNT, metavar="MIB", help="Most memory it may take.")
@click.option(
    "--minutes", type=AMOUNT, help="Run no more probes than fit into so many.  [default: all]"
)
@click.option("--backbone", "backbones", help="Among these by commas.  [default: all at hand]")
@click.option("--weights", help="Of these backbones; one for all, or one each by commas.")
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Timed passes of each network.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Items a split: seeded, stratified.")
@click.option("--cross-validate", metavar="K|groups", help="Folds, in place of the data's splits.")
@click.option("--group-by", metavar="REGEX", help="Take groups from ids, such as '^(seq[0-9]+)_'.")
@click.option(
    "--seed",
    type=click.IntRange(0, MOST_SEED),
    default=0,
    show_default=True,
    help="Of the probes, and of what --limit draws.",
)
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--yes", is_flag=True, help="Run the probes without asking.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; needs --yes.")
def choose(**words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Say which network to take for your data, of those whose weights are here.

    Measures time and memory of each on this machine, says how many minutes the rest takes, judges
    what holds the limits by linear probes, and answers in a sentence. Probes are records like any
    other: an interrupted choice goes on where it stopped. Data without splits is cross-validated.
    """
    from rsbench.choosing import shortlist
    from rsbench.profiling import costs

    if words["as_json"] and not words["yes"]:
        raise RsbenchError("--json can't ask before it runs the probes; give --yes with it.")
    request = _request(words)
    costs.check_writable(request.results)
    candidates, left_out = shortlist.candidates_of(request)
    if not words["as_json"]:
        num = len(candidates)
        click.echo(f"{num} network{'s' * (num != 1)} to measure on {request.device}")
    with reporter() as report:
        measured, unmeasured = shortlist.measure(candidates, _watched(request, report))
    for each in measured:
        costs.save(request.results, each.cost)
    kept, over = shortlist.within(
        measured,
        most_latency_ms=words["max_latency_ms"],
        most_memory_mib=words["max_memory_mib"],
    )
    left_out = [*left_out, *unmeasured, *over]
    if not words["as_json"]:
        _print_measured(measured, left_out)
    if not kept:
        raise RsbenchError(_nothing_within(measured, left_out))
    plan = shortlist.plan(kept, most_minutes=words["minutes"])
    if not words["as_json"]:
        _print_left_out(plan.left_out)
        click.echo(_plan_in_words(plan))
    if not words["yes"] and not _goes_on(plan):
        click.echo("Nothing was run; what was measured is kept.")
        return 0
    found, failed = _judge(plan, as_json=words["as_json"])
    if words["as_json"]:
        click.echo(json.dumps(_answer_json(found, (*left_out, *plan.left_out, *failed), plan)))
    else:
        _print_answer(found)
    return 0


def _request(words: dict[str, Any]) -> ChoiceRequest:
    from rsbench.choosing.shortlist import ChoiceRequest, task_of
    from rsbench.data.roots import cache_root

    data: Path | None = words["data"]
    if data is None and words["task"] is None:
        raise RsbenchError(
            "Say what to choose for: --data FOLDER or --data FILE.csv, or a --task of `rsbench ls"
            " tasks`."
        )
    if words["weights"] is not None and words["backbones"] is None:
        raise RsbenchError("--weights must go with --backbone, whose they are; name both.")
    task = words["task"]
    if task is None:
        assert data is not None, "one of the two was given"
        task = task_of(data)
    return ChoiceRequest(
        task=task,
        data=data,
        results=words["results"],
        cache_root=cache_root(),
        networks=_networks(words),
        device=words["device"] or default_device(),
        rounds=words["repeats"],
        seed=words["seed"],
        limit=words["limit"],
        cross_validate=words["cross_validate"],
        group_by=words["group_by"],
    )


def _networks(words: dict[str, Any]) -> tuple[Network, ...]:
    from rsbench.choosing.shortlist import Network, named_networks
    from rsbench.data.roots import cache_root

    if words["backbones"] is None:
        return ()
    if words["weights"] is None:
        return named_networks(names_of(words["backbones"]), cache_root=cache_root())
    pairs = backbones_with_weights(words["backbones"], words["weights"])
    return tuple(Network(*pair) for pair in pairs)


def _watched(request: ChoiceRequest, report: Any) -> ChoiceRequest:  # noqa: ANN401 - a Reporter
    return dataclasses.replace(request, progress=report)


def _print_measured(measured: Sequence[Measured], left_out: Sequence[LeftOut]) -> None:
    if measured:
        cost = measured[0].cost
        threads = f", {cost.threads} thread{'s' * (cost.threads != 1)}" * (
            cost.device_type == "cpu"
        )
        views = measured[0].cell.predict_reading.views.num_views
        click.echo(
            f"An item ({views} view{'s' * (views != 1)}) on {cost.device}{threads},"
            f" {cost.precision}, median of {cost.rounds} passes:"
        )
        lines = [("", "network", "weights", "ms", "slowest", "MiB")]
        lines += [
            (
                "",
                each.network.backbone,
                each.network.weights,
                f"{1000 * each.latency_seconds:.1f}",
                f"{1000 * max(each.lap_seconds):.1f}",
                "-" if each.memory_bytes is None else f"{each.memory_bytes / 2**20:.0f}",
            )
            for each in sorted(measured, key=lambda each: each.latency_seconds)
        ]
        print_columns(lines)
    _print_left_out(left_out)


def _print_left_out(left_out: Sequence[LeftOut]) -> None:
    for network, reason in left_out:
        click.echo(f"  left out: {network.backbone} ({network.weights}): {reason}")


def _nothing_within(measured: Sequence[Measured], left_out: Sequence[LeftOut]) -> str:
    if not measured:
        return f"No network could be measured: {left_out[0].network.backbone}: {left_out[0].reason}"
    least = min(measured, key=lambda each: each.latency_seconds)
    memory = (
        "" if least.memory_bytes is None else f" and {least.memory_bytes / 2**20:.0f} MiB an item"
    )
    return (
        "A network must hold the limits to be chosen, and none does: the fastest,"
        f" {least.network.backbone}, takes {1000 * least.latency_seconds:.1f} ms{memory}. Raise"
        " --max-latency-ms or --max-memory-mib, or fetch weights of a smaller network (`rsbench ls"
        " backbones --pretrained`)."
    )


def _plan_in_words(plan: Plan) -> str:
    ahead = [each for each in plan.runs if not each.size.finished]
    done = len(plan.runs) - len(ahead)
    before = f" ({done} more finished before)" if done else ""
    if not ahead:
        return f"{done} linear probe{'s' * (done != 1)}, finished before."
    time = (
        "an unknown time: no item of the first few could be read"
        if plan.seconds is None
        else f"about {duration_in_words(plan.seconds)}, and the fits of the probes"
    )
    return f"To run: {len(ahead)} linear probe{'s' * (len(ahead) != 1)}{before}, {time}."


def _goes_on(plan: Plan) -> bool:
    if all(each.size.finished for each in plan.runs):
        return True
    if not sys.stdin.isatty():
        raise RsbenchError("Nobody is there to be asked whether to run this; give --yes.")
    return click.confirm("Go on?", default=True)


def _judge(plan: Plan, *, as_json: bool) -> tuple[Answer, list[LeftOut]]:
    """Run the probes, each a record of its own, and compare those that could be run.

    Raises:
        RsbenchError: None could be; of the first one.
    """
    from rsbench.choosing.answer import Judged, answer
    from rsbench.choosing.shortlist import LeftOut
    from rsbench.records.store import Stored
    from rsbench.runner import run_cell

    judged = []
    faults: list[tuple[Network, RsbenchError]] = []
    for number, (measured, _) in enumerate(plan.runs, start=1):
        if not as_json:
            click.echo(f"  probe {number} of {len(plan.runs)}: {measured.network.backbone}")
        try:
            with reporter() as report:
                request = dataclasses.replace(measured.cell.request, progress=report)
                finished = run_cell(dataclasses.replace(measured.cell, request=request))
        except DiskError:
            raise  # So would be all others.
        except RsbenchError as error:
            faults.append((measured.network, error))
        else:
            judged.append(Judged(measured, Stored(finished.path, finished.record)))
    failed = [LeftOut(network, f"its probe failed: {error}") for network, error in faults]
    if not judged:
        raise faults[0][1]
    if not as_json:
        _print_left_out(failed)
    return answer(judged), failed


def _print_answer(found: Answer) -> None:
    click.echo()
    click.echo(found.sentence)
    for note in found.notes:
        click.echo(f"  note: {note}")
    for option in found.options:
        click.echo(f"  {option.label}: {option.record}")


def _answer_json(found: Answer, left_out: Sequence[LeftOut], plan: Plan) -> dict[str, Any]:
    return {
        "task": found.task,
        "protocol": found.protocol,
        "metric": found.metric.metric,
        "n": found.num_items,
        "sentence": found.sentence,
        "take": found.options[0].network.backbone,
        "options": [
            {
                "backbone": each.network.backbone,
                "weights": each.network.weights,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "verdict": each.verdict,
                "difference": None if each.gain is None else each.gain.value,
                "difference_low": None if each.gain is None else each.gain.low,
                "difference_high": None if each.gain is None else each.gain.high,
                "p": each.p,
                "q": each.q,
                "detectable": each.detectable,
                "seconds_an_item": each.latency_seconds,
                "seconds_an_item_slowest": each.slowest_seconds,
                "memory_bytes": each.memory_bytes,
                "times_as_fast": each.times_as_fast,
                "speed_told_apart": each.speed_told_apart,
                "marks": list(each.marks),
                "record": str(each.record),
            }
            for each in found.options
        ],
        "left_out": [
            {
                "backbone": network.backbone,
                "weights": network.weights,
                "reason": reason,
            }
            for network, reason in left_out
        ],
        "seconds_estimated": plan.seconds,
        "notes": list(found.notes),
    }

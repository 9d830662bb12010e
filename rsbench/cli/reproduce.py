"""`rsbench reproduce`: a recorded run made again in a fresh process, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import FILE, RESULTS, TOLERANCE, examples
from rsbench.cli.printing import metric_in_words
from rsbench.errors import RsbenchError, RunError

if TYPE_CHECKING:
    from rsbench.cells import RunRequest
    from rsbench.drift import Change, Comparison, Items
    from rsbench.records.predictions import PredictionTable
    from rsbench.records.schema import RunRecord
    from rsbench.records.store import Stored

_KEPT_NOWHERE = Path("reproduced")
"""The folder in commands that are shown, where the new record is not to be kept."""

_FRESH = "fresh-"
"""How the names of caches begin that are made for one run."""

_MOST_LINES = 12
"""Of one kind of difference that are printed; --json has all."""


@click.command(
    epilog=examples(
        "rsbench reproduce results/runs/.../resnet_rs_50-none-s0-1a2b3c4d.json",
        "rsbench reproduce RECORD.json --data DIR --fresh-cache",
        "rsbench reproduce RECORD.json --dry-run",
    )
)
@click.argument("record", type=FILE)
@click.option("--data", type=FILE, help="Folder (or CSV) of the data, where none is configured.")
@click.option("--weights", help="The file that the run began with; known weights are found.")
@click.option("--task", help="The task's file, where it was of one: ./mine.py.")
@click.option("--backbone", help="The network's file, where it was of one: ./net.py:build.")
@click.option("--protocol", help="The protocol's file, where it was of one: ./mine.py.")
@click.option("--device", help="cpu, cuda, cuda:1.  [default: of the kind that was recorded]")
@click.option(
    "--gpus",
    type=click.IntRange(min=1),
    metavar="N",
    help="GPUs, or processes of the CPU.  [default: as many as were recorded]",
)
@click.option(
    "--fresh-cache",
    is_flag=True,
    help="Compute features anew; weights are still found in the cache.",
)
@click.option(
    "--tolerance",
    type=TOLERANCE,
    default=1e-4,
    show_default=True,
    help="Floats no further apart are the same; 0 asks for every bit.",
)
@click.option("--results", type=RESULTS, help="Keep the new record there.  [default: nowhere]")
@click.option("--dry-run", is_flag=True, help="Print the command; run nothing.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def reproduce(record: Path, **words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments
    """Make a recorded run again in a fresh process, and hold its record to the first one.

    Says match (exit code 0) or drift (1) field by field: metrics, items whose class changed,
    counts, digests, ruler, what was selected. What may differ (seconds, commit, versions) is listed
    apart. Threads, batch size and processes are those recorded.
    """
    from rsbench.places import cache_root
    from rsbench.records import store
    from rsbench.tables.layout import clean

    stored = store.Stored(record, store.read(record))
    table = store.read_predictions(record)
    with ExitStack() as stack:
        results: Path = words["results"] or _KEPT_NOWHERE
        _check_apart(stored, results)
        cache = cache_root()
        if not words["dry_run"]:
            if words["results"] is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rsbench-"))
                results = Path(folder)
            if words["fresh_cache"]:
                cache = _fresh_cache(cache, stack)
        request = _request(stored, table, words, results=results, cache=cache)
        num = _num_processes(stored, request, words["gpus"])
        command = _command(stored, request, num, results=words["results"] or _KEPT_NOWHERE)
        if words["dry_run"]:
            click.echo(json.dumps({"command": command}) if words["as_json"] else clean(command))
            return 0
        if not words["as_json"]:
            click.echo(f"{clean(_named(stored.record))}\n  $ {clean(command)}")
        _say_what_is_known(stored, request)
        again = _run(stored, request, num)
        comparison = _compared(stored, table, again, tolerance=words["tolerance"])
    if words["as_json"]:
        kept = str(again.path) if words["results"] is not None else None
        click.echo(json.dumps(_json(stored, again, comparison, command, kept), indent=1))
    else:
        for line in _lines(stored, again, comparison):
            click.echo(f"  {clean(line)}")
        if words["results"] is not None:
            click.echo(f"  record: {again.path}")
        click.echo(_verdict(comparison))
    return 0 if comparison.match else 1


# -------------------------------------------------------------------------------- the new run


def _check_apart(stored: Stored, results: Path) -> None:
    """Refuse to write over the record that is to be reproduced."""
    from rsbench.reproducing import results_folder

    # A link to a record, or from where it lies: either is written over.
    own = [results_folder(path) for path in (stored.path, stored.path.resolve())]
    if results.resolve() in [folder.resolve() for folder in own if folder is not None]:
        raise RsbenchError(
            f"--results must be another folder than {results}, where the record lies that is to be"
            " reproduced: the new one would take its place."
        )


def _fresh_cache(cache: Path, stack: ExitStack) -> Path:
    """Make an empty cache inside the other, with its weights: what is fetched is no result."""
    from rsbench.claims import claimed, remove_abandoned

    # Those of processes that were killed.
    for folder in cache.glob(f"{_FRESH}*"):
        remove_abandoned(folder)
    # Not where temporary files lie, for features may be larger than what fits there.
    folder = cache / f"{_FRESH}{uuid.uuid4().hex}"
    stack.enter_context(claimed(folder, waiting=lambda: None))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    (cache / "weights").mkdir(exist_ok=True)
    (folder / "weights").symlink_to(cache / "weights", target_is_directory=True)
    return folder


def _request(
    stored: Stored,
    table: PredictionTable,
    words: dict[str, Any],
    *,
    results: Path,
    cache: Path,
) -> RunRequest:
    from rsbench.reproducing import Places, request_of

    places = Places(
        **{name: words[name] for name in ("data", "task", "backbone", "protocol", "weights")},
        device=words["device"],
    )
    return request_of(stored, table, places=places, results=results, cache_root=cache)


def _num_processes(stored: Stored, request: RunRequest, asked: int | None) -> int:
    """Give the processes of the new run, and see that this machine has what they need.

    Raises:
        RsbenchError: It has not; says what to type instead.
    """
    import torch

    from rsbench.reproducing import processes_of

    num = asked or processes_of(stored.record)
    kind, is_one, _ = request.device.partition(":")
    if is_one and num > 1:
        raise RsbenchError(
            f"{stored.name} is to run in {num} processes, and --device {request.device} is one GPU;"
            f" --device {kind} takes the first {num}, --gpus 1 that one alone."
        )
    num_here = torch.cuda.device_count()
    if kind == "cuda" and num > num_here:
        there = f"{num} GPUs" if num > 1 else "a GPU"
        here = f"there are {num_here}" if num_here else "there is none"
        instead = f"--gpus {num_here}" if num_here else "--device cpu"
        raise RsbenchError(
            f"{stored.name} is to run on {there}, and {here} here; {instead} runs it on what there"
            " is, where scores may differ by rounding, and training by more."
        )
    return num


def _command(stored: Stored, request: RunRequest, num: int, *, results: Path) -> str:
    """Give what could be typed for the same run, into a folder that does not pass."""
    from rsbench.cli.gpus import words_of
    from rsbench.reproducing import threads_of

    threads = threads_of(stored.record)
    before = "" if threads is None else f"OMP_NUM_THREADS={threads} "
    gpus = [f"--gpus={num}"] if num > 1 else []
    typed = dataclasses.replace(request, results=results)
    return before + shlex.join(["rsbench", "run", *words_of(typed), *gpus])


def _say_what_is_known(stored: Stored, request: RunRequest) -> None:
    """Say, before a long run rather than after it, that its data is not what it was."""
    from rsbench.cells import prepare

    gathered, data = prepare(request).gathered, stored.record.data
    known = {
        "data.fingerprint": (data.fingerprint, gathered.fingerprint),
        "data.train_fingerprint": (data.train_fingerprint, gathered.train_fingerprint),
        "data.validation_fingerprint": (
            data.validation_fingerprint,
            gathered.validation_fingerprint,
        ),
    }
    other = [name for name, (before, now) in known.items() if before != now]
    if other:
        click.echo(
            f"  note: the items here are not those of the record ({', '.join(other)} differ"
            f"{'s' * (len(other) == 1)}; {gathered.num_expected} are reported on, and were"
            f" {data.num_expected}): this will be drift.",
            err=True,
        )


def _run(stored: Stored, request: RunRequest, num: int) -> Stored:
    """Run the request in a process of its own, or in several, and read what it left."""
    from rsbench.cli.gpus import Told, run_in_processes
    from rsbench.processes import Job
    from rsbench.records import store
    from rsbench.reproducing import threads_of

    outcomes: list[Told] = []
    stopped = run_in_processes(
        [request],
        [Job(number=0, on_all=num > 1)],
        num=num,
        kind=request.device.partition(":")[0],
        heard=lambda line: click.echo(line, err=True),
        told=lambda number, told: outcomes.append(told),
        threads=threads_of(stored.record),
    )
    if stopped is not None:
        raise KeyboardInterrupt
    (told,) = outcomes
    if told.fault is not None:
        kind = RsbenchError if told.fault.exit_code == RsbenchError.exit_code else RunError
        raise kind(f"{stored.name} could not be run again: {told.fault}")
    assert told.path is not None, "what did not fail left a record"
    return store.Stored(told.path, store.read(told.path))


def _compared(
    stored: Stored, table: PredictionTable, again: Stored, *, tolerance: float
) -> Comparison:
    from rsbench.drift import compare
    from rsbench.records import heads, store
    from rsbench.weights.shelf import metadata_of

    head = again.path.with_name(f"{again.path.stem}.{store.HEAD_SUFFIX}")
    return compare(
        as_written(stored),
        as_written(again),
        tables=(table, store.read_predictions(again.path)),
        classes=heads.class_names(metadata_of(head), where=head.name),
        tolerance=tolerance,
    )


def as_written(stored: Stored) -> dict[str, Any]:
    """Give a record's own JSON, which lacks the fields that are younger than it."""
    from rsbench.records.migrations import migrate
    from rsbench.records.schema import SCHEMA_VERSION

    plain = json.loads(stored.path.read_text(encoding="utf-8"))
    del plain["digest"]
    return migrate(plain, to=SCHEMA_VERSION, where=stored.name)


# -------------------------------------------------------------------------------- in words


def _named(record: RunRecord) -> str:
    return (
        f"{record.task.name} · {record.backbone.name} · {record.weights.name} ·"
        f" {record.protocol.name} · seed {record.seed}"
    )


def _verdict(comparison: Comparison) -> str:
    if comparison.match:
        return "match: this is the run that was recorded."
    drifted = comparison.of_kind("drift")
    parts = [f"{len(drifted)} of {comparison.num_fields} fields"] if drifted else []
    if not comparison.items.match:
        parts.append("items")
    return f"drift: {' and '.join(parts)} are not what was recorded."


def _lines(stored: Stored, again: Stored, comparison: Comparison) -> Iterator[str]:
    yield from _metric_lines(stored.record, again.record)
    yield from _item_lines(comparison.items, comparison.tolerance)
    drifted = comparison.of_kind("drift")
    if drifted:
        yield "drift:"
        yield from _all_lines(drifted)
    rounding = comparison.of_kind("rounding")
    if rounding:
        worst = max(rounding, key=lambda change: change.size)
        yield (
            f"within the tolerance of {comparison.tolerance:g}: {_counted(len(rounding), 'field')},"
            f" most of all {worst.field} ({_shown(worst.before)} -> {_shown(worst.after)})"
        )
    younger = comparison.of_kind("younger")
    if younger:
        names = ", ".join(change.field for change in younger[:_MOST_LINES])
        yield f"not in the record, which is older: {names}{_more(younger)}"
    free = comparison.of_kind("free")
    if free:
        yield "may differ, and does:"
        yield from _all_lines(free)
    computed, cached = (again.record.cost.get(f"views_{how}") for how in ("computed", "cached"))
    if cached:
        yield (
            f"features: {computed} views were computed and {cached} taken from the cache;"
            " --fresh-cache computes all"
        )


def _metric_lines(before: RunRecord, after: RunRecord) -> Iterator[str]:
    now = {part.name: part for part in after.metrics}
    for part in before.metrics:
        said = metric_in_words(part.value, part.low, part.high, part.higher_is_better)
        other = now.get(part.name)
        if other is None:
            yield f"{part.name} {said}, and is not measured any more"
        elif (other.value, other.low, other.high) == (part.value, part.low, part.high):
            yield f"{part.name} {said}, to the last bit"
        else:
            found = metric_in_words(other.value, other.low, other.high, other.higher_is_better)
            yield f"{part.name} {said} -> {found} ({other.value - part.value:+.3g})"


def _item_lines(items: Items, tolerance: float) -> Iterator[str]:
    relabelled = [each for each in items.changed if each.label_changed]
    if items.num_identical == items.num_both and items.match:
        yield f"all {items.num_both} items predicted alike, to the last bit"
    else:
        num_moved = sum(each.score_change > tolerance for each in items.changed)
        yield (
            f"{_counted(items.num_both, 'item')}: {len(relabelled)} as another class, {num_moved}"
            f" with a score more than {tolerance:g} away, {items.num_identical} alike to the last"
            f" bit; the largest change of a score is {items.largest_change:.2g}"
        )
    for each in (relabelled or list(items.changed))[:_MOST_LINES]:
        fold = f"{each.fold}: " if each.fold else ""
        labels = f"{each.before} -> {each.after}" if each.label_changed else each.before
        truth = f", truly {each.target}" if each.target else ""
        yield f"  {fold}{each.id}: {labels}{truth}, scores by up to {each.score_change:.2g}"
    if len(relabelled or items.changed) > _MOST_LINES:
        yield f"  and {len(relabelled or items.changed) - _MOST_LINES} more; --json names all"
    if items.num_other_targets:
        yield f"{items.num_other_targets} items have another true class"
    for what, ids in (("no more", items.lost), ("now and were not", items.gained)):
        if ids:
            more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
            yield f"{len(ids)} items are here {what}: {', '.join(ids[:3])}{more}"


def _all_lines(changes: Sequence[Change]) -> Iterator[str]:
    """Give the lines of single fields, and count those of rows."""
    yield from _change_lines([change for change in changes if "[" not in change.field])
    for field, count in _grouped(changes).items():
        yield f"  {field}: {_counted(count, 'row')}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _change_lines(changes: Sequence[Change]) -> Iterator[str]:
    for change in changes[:_MOST_LINES]:
        yield f"  {change.field}: {_shown(change.before)} -> {_shown(change.after)}"
    if len(changes) > _MOST_LINES:
        yield f" {_more(changes)}"


def _more(changes: Sequence[Change]) -> str:
    left = len(changes) - _MOST_LINES
    return f" and {left} more; --json names all" if left > 0 else ""


def _grouped(changes: Sequence[Change]) -> dict[str, int]:
    """Count the fields of rows: "curve[].seconds", of how many rows."""
    rows = [change.field for change in changes if "[" in change.field]
    return dict(Counter(f"{field.partition('[')[0]}[]{field.partition(']')[2]}" for field in rows))


def _shown(value: object) -> str:
    """Give a value in a few words; of digests and commits their beginning."""
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) in {40, 64} and all(letter in "0123456789abcdef" for letter in text):
        return f"{text[:12]}..."
    return text if len(text) <= 60 else f"{text[:57]}..."


def _json(
    stored: Stored, again: Stored, comparison: Comparison, command: str, kept: str | None
) -> dict[str, Any]:
    from rsbench.drift import as_json

    return {
        "record": str(stored.path),
        "again": kept,
        "command": command,
        "views_computed": again.record.cost.get("views_computed"),
        "views_cached": again.record.cost.get("views_cached"),
        **as_json(comparison),
    }

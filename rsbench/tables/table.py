"""What a table is, and how records become tables.

One table a ruler: numbers that do not compare never stand in one column. Within a table one row a
network under its weights and input, all its seeds aggregated and none chosen, the best first. The
same records in any order give the same tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rsbench.garbage import collection_held
from rsbench.records.knowledge import is_known_through
from rsbench.records.ruler import Difference, differences, ruler_digest, selected_on_test
from rsbench.records.schema import MetricPart, RunRecord
from rsbench.records.scorebook import Scorebook, open_scorebook
from rsbench.records.store import Contents, Stored
from rsbench.specs import Scalar
from rsbench.stats import Interval, PairedDifference, mean_std, with_seeds
from rsbench.tables.pairing import Pairing, paired_with_first

NOTHING_PROVEN = 1e100
"""Gaps from here on are a solver's word for having no bound."""

RANDOM_INIT = "random init"
"""Mark of a row whose network began with random weights."""

UNVERIFIED = "unverified weights"
"""Mark of a row whose weights were held to no declared sha256."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One metric of a table."""

    metric: str
    level: str
    interval: str
    """How the intervals were made: "wilson", "bootstrap", "" for none."""
    higher_is_better: bool
    percent: bool
    """Whether it is shown in percent: higher is better, and every value lies in [0, 1]."""
    decimals: int
    """Of the shown number in percent: 2 from 5,000 items on, where one item is 0.02, else 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One metric of one row, as a fraction or in its own unit (never in percent)."""

    value: float
    """Mean over seeds."""
    std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    low: float | None
    high: float | None
    """95% interval over items, and over seeds where there are several; see `cell_of`."""
    num_seeds: int
    n: int
    """Items it was computed over, failed ones included."""
    folds: tuple[float, ...] = ()
    """Of each official split, where the value is their mean; with several seeds the mean of each.
    In the order of the table's `split`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One network under its weights and input; everything here may differ within a table."""

    backbone: str
    backbone_version: int
    backbone_source: str | None
    """Digest of the file where the backbone was named by a path."""
    weights: str
    weights_digest: str | None
    """None for random weights, which differ from seed to seed."""
    trained_on: tuple[str, ...]
    knows_task: bool
    """Whether the weights have seen this task, or its data through a task that shares some."""
    frames: int
    stride: int
    pixels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    antialias: bool
    crop_ratio: float
    resizer: str
    resize_to: tuple[int, ...]
    """(height, width) of frames before the crop; empty where their aspect was kept."""
    lifting: str
    num_parameters: int
    seeds: tuple[int, ...]
    cells: tuple[Cell | None, ...]
    """One a column; None where the records lack this metric."""
    difference: PairedDifference | None
    """Headline of this row minus that of the first row over the same items, with its 95% interval;
    None for the first row, and where it can't be known."""
    num_evaluated: int
    num_failed: int
    num_expected: int
    num_missing: int
    num_official: int | None
    seconds: float | None
    """Wall clock of a run, reading and extraction included, on average over the row's runs; None
    where a record does not say."""
    cached: bool
    """Whether no run of the row computed features: earlier ones had left them in the cache."""
    marks: tuple[str, ...]
    """What no reader may miss: "random init", "sample", "limit 100", "unverified weights",
    and what its fits say of themselves (`fit_marks`)."""
    fit_marks: tuple[str, ...]
    """Where a fit had less than its recipe promises: "6 of 10 shots"."""
    records: tuple[str, ...]
    """Names of the records below the results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under one ruler."""

    task: str
    task_version: int
    split: str
    protocol: str
    protocol_version: int
    modality: str
    """Of the task."""
    sampler: str
    clips: int
    crops: int
    ruler: Mapping[str, Scalar]
    digest: str
    """Of the ruler."""
    columns: tuple[Column, ...]
    """The headline first."""
    rows: tuple[Row, ...]
    caption: str
    """What the whole table must be read with; may be empty."""
    notes: tuple[str, ...]
    """From the records: "class order unverified", ..."""
    warnings: tuple[str, ...]
    """What may have moved a number and differs among the rows; files that are not as recorded."""
    unlike_first: tuple[Difference, ...]
    """Fields in which the ruler differs from that of the first table of this task and protocol,
    as (field, there, here); empty for that table itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """All tables of a results folder."""

    tables: tuple[Table, ...]
    problems: tuple[str, ...]
    """One line for each file that is in no table, and why; one line counts the runs that selected
    their settings on the test set."""
    absence: str
    """What is said where there is no table; empty where there is one."""


def build(contents: Contents, *, pairing: Pairing = paired_with_first) -> Tables:
    """Draw tables from records, and paired differences from the predictions beside them.

    A row whose predictions are missing or changed is shown with that said, without a difference.

    Args:
        contents: Records in any order, and lines on files that could not be read.
        pairing: What gives each row its difference to the first; `unpaired` gives none, and reads
            no predictions.

    Returns:
        Tables in the order of task, protocol and ruler; real data before samples.
    """
    kept, repeated = _without_repeats(contents.records)
    kept, leaked = _without_leaks(kept)
    by_ruler: dict[str, list[Stored]] = {}
    # Records that were read together share the rulers that are equal, as one object each.
    digests: dict[int, str] = {}
    for stored in kept:
        ruler = stored.record.ruler
        digest = digests.get(id(ruler)) or digests.setdefault(id(ruler), ruler_digest(ruler))
        by_ruler.setdefault(digest, []).append(stored)
    ordered = sorted(by_ruler.items(), key=lambda entry: (*_place(entry[1][0].record), entry[0]))
    firsts: dict[tuple[str, str], Mapping[str, Scalar]] = {}
    tables = []
    with collection_held(), open_scorebook() as book:
        for digest, group in ordered:
            record = group[0].record
            first = firsts.setdefault(_family(record), record.ruler)
            unlike = tuple(differences(first, record.ruler))
            tables.append(_table(group, digest, unlike, pairing, book))
    problems = (*sorted(contents.problems), *repeated, *leaked)
    absence = "" if tables else _absence(contents)
    return Tables(tables=tuple(tables), problems=problems, absence=absence)


def _absence(contents: Contents) -> str:
    num_there = len(contents.records) + len(contents.problems)
    if not num_there:
        return "No results yet."
    return f"No results to show: all {num_there} records are left out."


def _without_repeats(records: Iterable[Stored]) -> tuple[list[Stored], list[str]]:
    """Keep one record a key: a copied file is no second run."""
    kept: dict[str, Stored] = {}
    repeated = []
    for stored in sorted(records, key=lambda stored: (stored.name, stored.record.key)):
        first = kept.setdefault(stored.record.key, stored)
        if first is not stored:
            repeated.append(f"{stored.name} is the same run as {first.name} and is counted once.")
    return list(kept.values()), repeated


def _without_leaks(records: Sequence[Stored]) -> tuple[list[Stored], list[str]]:
    """Leave out what was selected on the items it reports, and count it: it measures nothing."""
    honest: list[Stored] = []
    leaked: list[Stored] = []
    for stored in records:
        (leaked if selected_on_test(stored.record.ruler) else honest).append(stored)
    if not leaked:
        return honest, []
    are = "run that selected its" if len(leaked) == 1 else "runs that selected their"
    names = ", ".join(stored.name for stored in leaked[:3])
    more = f" and {len(leaked) - 3} more" if len(leaked) > 3 else ""
    line = f"{len(leaked)} {are} settings on the test set (--allow-test-selection): {names}{more}."
    return honest, [line]


def _base(task: str) -> str:
    """Give a task's name without "@sample", and without the fold that weights learned in."""
    return task.partition(":")[0].partition("@")[0]


def _family(record: RunRecord) -> tuple[str, str]:
    return _base(record.task.name), record.protocol.name


def _place(record: RunRecord) -> tuple[str, str, bool, bool, int]:
    task = record.task
    return *_family(record), task.sample, task.limit is not None, task.limit or 0


def _table(
    group: Sequence[Stored],
    digest: str,
    unlike: tuple[Difference, ...],
    pairing: Pairing,
    book: Scorebook,
) -> Table:
    record = group[0].record
    columns = tuple(column_of(metric, group) for metric in record.metrics)
    members = _ranked(group)
    pairs = pairing(
        [by_seed(row) for row in members],
        record.metrics[0].name,
        averaging=str(record.ruler.get("averaging", "pooled")),
        book=book,
    )
    rows = tuple(
        _row(stored, columns, pair.difference) for stored, pair in zip(members, pairs, strict=True)
    )
    problems = sorted({problem for pair in pairs for problem in pair.problems})
    return Table(
        task=record.task.name,
        task_version=record.task.version,
        split=record.task.split,
        protocol=record.protocol.name,
        protocol_version=record.protocol.version,
        modality=record.task.modality,
        sampler=record.protocol.sampler,
        clips=record.protocol.clips,
        crops=record.protocol.crops,
        ruler=dict(sorted(record.ruler.items())),
        digest=digest,
        columns=columns,
        rows=rows,
        caption=_caption(record, rows),
        notes=_notes(group),
        warnings=(*problems, *_repeated_seeds(members), *_differing_surroundings(group)),
        unlike_first=unlike,
    )


def column_of(metric: MetricPart, group: Sequence[Stored]) -> Column:
    """Say how a metric of some records is shown."""
    parts = [part for stored in group for part in stored.record.metrics if part.name == metric.name]
    return Column(
        metric=metric.name,
        level=metric.level,
        interval=metric.interval,
        higher_is_better=metric.higher_is_better,
        percent=metric.higher_is_better and all(0 <= part.value <= 1 for part in parts),
        decimals=2 if max(part.n for part in parts) >= 5000 else 1,
    )


def _identity(record: RunRecord) -> tuple[object, ...]:
    """What makes a row: equal for runs that differ in seed, machine and versions alone."""
    network, weights = record.backbone, record.weights
    return (
        network.name,
        network.version,
        network.source_sha256 or "",
        weights.name,
        (weights.digest, network.numeric_digest) if weights.init_seed is None else (),
        record.data.content,
        record.environment.get("precision"),
        weights.trained_on,
        network.frames,
        network.stride,
        network.pixels,
        network.mean,
        network.std,
        network.interpolation,
        network.antialias,
        network.crop_ratio,
        network.resizer,
        network.resize_to,
        network.lifting,
    )


def _ranked(group: Sequence[Stored]) -> list[list[Stored]]:
    """Give the records of each row, the row of the best headline first."""
    by_identity: dict[tuple[object, ...], list[Stored]] = {}
    for stored in sorted(group, key=lambda stored: (stored.record.seed, stored.record.key)):
        by_identity.setdefault(_identity(stored.record), []).append(stored)
    headline = group[0].record.metrics[0]
    sign = -1.0 if headline.higher_is_better else 1.0

    def place(entry: tuple[tuple[object, ...], list[Stored]]) -> tuple[float, str]:
        value = _value_of(headline.name, entry[1])
        return (math.inf if value is None else sign * value), repr(entry[0])

    return [members for _, members in sorted(by_identity.items(), key=place)]


def _value_of(metric: str, members: Sequence[Stored]) -> float | None:
    """Give the value that `cell_of` gives, and nothing else of it."""
    values = []
    for runs in by_seed(members):
        parts = [part.value for run in runs for part in run.record.metrics if part.name == metric]
        if not parts:
            return None
        values.append(_mean(parts))
    return _mean(values)


def by_seed(members: Sequence[Stored]) -> list[list[Stored]]:
    """Give the records of each seed of a row, in the order of the seeds."""
    seeds: dict[int, list[Stored]] = {}
    for stored in sorted(members, key=lambda stored: (stored.record.seed, stored.record.key)):
        seeds.setdefault(stored.record.seed, []).append(stored)
    return list(seeds.values())


def cell_of(metric: str, members: Sequence[Stored]) -> Cell | None:
    """Aggregate a metric: runs of one seed first (they may differ by machine), then seeds.

    The interval of several seeds is for other items and other seeds alike: that over items, taken
    as the mean of the runs' own bounds, and Student's t over the seeds, in quadrature. The former
    is rather too wide, for it holds some of the seeds' chance already: what one seed gets wrong
    another may get right. It needs no more than the records, whose predictions may be gone.

    None where a record lacks the metric.
    """
    values, lows, highs, counts = [], [], [], []
    folds: list[list[float]] = []
    for runs in by_seed(members):
        parts = [part for run in runs for part in run.record.metrics if part.name == metric]
        if not parts:
            return None
        values.append(_mean([part.value for part in parts]))
        lows += [part.low for part in parts if part.low is not None]
        highs += [part.high for part in parts if part.high is not None]
        counts += [part.n for part in parts]
        of_runs = zip(*(part.folds for part in parts), strict=True)
        folds.append([_mean(of_fold) for of_fold in of_runs])
    over_seeds = mean_std(values)
    complete = len(lows) == len(highs) == len(counts)
    over_both = None
    if complete:
        over_both = with_seeds(over_seeds.mean, Interval(_mean(lows), _mean(highs)), values)
        if _is_share(metric, members):
            over_both = Interval(max(0.0, over_both.low), min(1.0, over_both.high))
    return Cell(
        value=over_seeds.mean,
        std=over_seeds.std,
        low=None if over_both is None else over_both.low,
        high=None if over_both is None else over_both.high,
        num_seeds=over_seeds.n,
        n=min(counts),
        folds=tuple(_mean(of_fold) for of_fold in zip(*folds, strict=True)),
    )


def _is_share(metric: str, members: Sequence[Stored]) -> bool:
    """Tell whether nothing of a metric can lie outside [0, 1], by what its runs came to."""
    parts = [part for run in members for part in run.record.metrics if part.name == metric]
    ends = [end for part in parts for end in (part.value, part.low, part.high) if end is not None]
    return all(part.higher_is_better for part in parts) and all(0 <= end <= 1 for end in ends)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _row(
    members: Sequence[Stored], columns: Sequence[Column], difference: PairedDifference | None
) -> Row:
    record = members[0].record
    network, weights = record.backbone, record.weights
    parts = [stored.record.data for stored in members]
    return Row(
        backbone=network.name,
        backbone_version=network.version,
        backbone_source=network.source_sha256,
        weights=weights.name,
        weights_digest=weights.digest if weights.init_seed is None else None,
        trained_on=weights.trained_on,
        knows_task=_base(record.task.name) in {_base(name) for name in weights.trained_on}
        or is_known_through(weights.trained_on, record.data.notes),
        frames=network.frames,
        stride=network.stride,
        pixels=network.pixels,
        mean=network.mean,
        std=network.std,
        interpolation=network.interpolation,
        antialias=network.antialias,
        crop_ratio=network.crop_ratio,
        resizer=network.resizer,
        resize_to=network.resize_to,
        lifting=network.lifting,
        num_parameters=network.num_parameters,
        seeds=tuple(sorted({stored.record.seed for stored in members})),
        cells=tuple(cell_of(column.metric, members) for column in columns),
        difference=difference,
        num_evaluated=min(part.num_evaluated for part in parts),
        num_failed=max(part.num_failed for part in parts),
        num_expected=parts[0].num_expected,
        num_missing=parts[0].num_missing,
        num_official=parts[0].num_official,
        seconds=seconds_of(members),
        cached=all(
            stored.record.cost.get("views_computed") == 0
            and bool(stored.record.cost.get("views_cached"))
            for stored in members
        ),
        marks=marks_of(members),
        fit_marks=_fit_marks(members),
        records=tuple(sorted(stored.name for stored in members)),
    )


def seconds_of(members: Sequence[Stored]) -> float | None:
    """Give the wall clock of a run on average; None where a record does not say."""
    totals = [stored.record.cost.get("seconds_total") for stored in members]
    known = [float(total) for total in totals if isinstance(total, int | float)]
    return _mean(known) if len(known) == len(totals) else None


def marks_of(members: Sequence[Stored]) -> tuple[str, ...]:
    """Give what no reader of a row of runs may miss."""
    record = members[0].record
    verified = all(stored.record.weights.verified for stored in members)
    marks = []
    if record.weights.name == "none":
        marks.append(RANDOM_INIT)
    elif not verified:
        marks.append(UNVERIFIED)
    if record.task.sample:
        marks.append("sample")
    if record.task.limit is not None:
        marks.append(f"limit {record.task.limit}")
    return (*marks, *_fit_marks(members))


def _fit_marks(members: Sequence[Stored]) -> tuple[str, ...]:
    of_fits = (mark for stored in members for mark in stored.record.protocol.marks)
    return tuple(dict.fromkeys(of_fits))


def _caption(record: RunRecord, rows: Sequence[Row]) -> str:
    if not all(RANDOM_INIT in row.marks for row in rows):
        return ""
    if record.protocol.trains_backbone:
        return "every network began with random weights: not the quality of a pretrained one"
    if record.task.modality == "video":
        return "untrained features: shows motion sensitivity, not quality"
    return "untrained features: not quality"


def _notes(group: Sequence[Stored]) -> tuple[str, ...]:
    notes = {note for stored in group for note in stored.record.data.notes}
    for stored in group:
        record = stored.record
        notes |= {f"{record.backbone.name}: {note}" for note in record.weights.notes}
        if record.data.train_failed:
            notes.add(f"training items that could not be read: {len(record.data.train_failed)}")
        chosen = record.protocol.chosen
        notes |= {f"{record.backbone.name}: {note}" for note in _fit_notes(record)}
        if any(_on_trust(value) for key, value in chosen.items() if key.endswith("class_order")):
            notes.add(f"{record.backbone.name}: the order of the head's classes is taken on trust")
    return tuple(sorted(notes))


def _fit_notes(record: RunRecord) -> Iterator[str]:
    """Say what went wrong in fitting that no score shows."""
    chosen = record.protocol.chosen
    yield from record.protocol.notes
    unfinished = [
        key.removesuffix("converged")
        for key, value in chosen.items()
        if key.endswith("converged") and value is False
    ]
    if unfinished:
        gaps = [chosen.get(f"{fold}relative_gap") for fold in unfinished]
        worst = max((gap for gap in gaps if isinstance(gap, float)), default=None)
        how_far = ""
        if worst is not None:
            known = worst < NOTHING_PROVEN
            how_far = f" (relative gap {worst:.0e})" if known else " (no gap proven)"
        ends = {chosen.get(f"{fold}ended") for fold in unfinished}
        if ends == {"rounding"}:
            yield f"a fit ended where rounding leaves no proof that it converged{how_far}"
        else:
            yield f"a fit stopped before it converged{how_far}"
    width = record.backbone.feature_width
    if any(key.endswith("num_constant_features") and chosen[key] == width for key in chosen):
        yield "no feature tells any training item from another"


def _on_trust(class_order: Scalar) -> bool:
    """Tell what `evaluate` says of a head without class names."""
    return str(class_order).startswith("unverified")


def _repeated_seeds(members: Sequence[Sequence[Stored]]) -> list[str]:
    return [
        f"{runs[0].record.backbone.name} ran {len(runs)} times under seed {runs[0].record.seed}; "
        "the runs of a seed are averaged."
        for row in members
        for runs in by_seed(row)
        if len(runs) > 1
    ]


def _differing_surroundings(group: Sequence[Stored]) -> list[str]:
    """Name what the runs of a table do not have in common: device, versions, decoder, commit."""
    # Runs of one machine have one environment: one object, where they were read together.
    environments: dict[int, tuple[Mapping[str, Scalar], int]] = {}
    for stored in group:
        environment = stored.record.environment
        _, count = environments.get(id(environment), (environment, 0))
        environments[id(environment)] = (environment, count + 1)
    keys = sorted({key for environment, _ in environments.values() for key in environment})
    lines = []
    for key in keys:
        counts: dict[str, int] = {}
        for environment, count in environments.values():
            value = environment.get(key)
            text = "unknown" if value is None else str(value)
            counts[text] = counts.get(text, 0) + count
        if len(counts) > 1 and not key.endswith("_note"):
            shown = ", ".join(f"{value} ({counts[value]})" for value in sorted(counts))
            lines.append(f"{key} differs among the runs: {shown}.")
    contents = sorted({stored.record.data.content for stored in group})
    if len(contents) > 1:
        shown = ", ".join(content[:8] for content in contents)
        lines.append(f"The media behind the same ids differ in their bytes: {shown}.")
    outputs: dict[tuple[str, int, str], set[str]] = {}
    for stored in group:
        network, weights = stored.record.backbone, stored.record.weights
        same = (network.name, network.version, weights.digest)
        outputs.setdefault(same, set()).add(network.numeric_digest)
    lines += [
        f"{name} gives other outputs in some runs under the same weights: its code or the "
        "libraries changed."
        for (name, _, _), digests in sorted(outputs.items())
        if len(digests) > 1
    ]
    return lines

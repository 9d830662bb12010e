"""Tables of what networks cost, alone and beside the scores that they reached.

A table holds what was measured under one setting; numbers of two settings do not compare. Beside
scores a table also stands under one ruler, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from rsbench.profiling.costs import Cost, Timing
from rsbench.profiling.grids import Grid, to_markdown
from rsbench.tables.layout import clean
from rsbench.tables.table import Row, Table, Tables

_MISSING = "-"

_PAGE_HEAD = """# What networks cost

Drawn by `rsbench profile --write` from the files beside this page, never by hand. Each part
stands under one setting: numbers of two parts do not compare. Networks that were named together
took turns, lap by lap; each file says which, and holds every lap.
"""


class Joined(NamedTuple):
    """A row of a table of scores, and what that network costs."""

    table: Table
    row: Row
    cost: Cost | None
    """None where nothing was measured for this network at this input."""


# ---------------------------------------------------------------------------- costs alone


class _Column(NamedTuple):
    header: str
    text: Callable[[Cost], str]


_COUNTED = (
    _Column("input", lambda cost: _input(cost)),
    _Column("parameters", lambda cost: f"{cost.counts['parameters_with_head']:,}"),
    _Column("without head", lambda cost: f"{cost.counts['parameters']:,}"),
    _Column("GMACs", lambda cost: _giga(cost.counts["macs_with_head"])),
    _Column("x views", lambda cost: _times_views(cost, cost.views)),
    _Column("M activations", lambda cost: _scaled(cost.counts["activations"], 1e6, 2)),
)
_TIMED = (
    _Column("batch", lambda cost: _batches(cost)),
    _Column("1 view ms", lambda cost: _ms(cost.timing("inference", single=True))),
    _Column("forward ms", lambda cost: _ms(cost.timing("inference"))),
    _Column("step ms", lambda cost: _ms(cost.timing("training"))),
    _Column("step / forward", lambda cost: _ratio(cost.training_over_inference())),
    _Column("views/s", lambda cost: _rate(cost.timing("inference"))),
    _Column("trained/s", lambda cost: _rate(cost.timing("training"))),
)
_DETAILED = (
    _Column("forward CPU ms", lambda cost: _cpu_ms(cost.timing("inference"))),
    _Column("step CPU ms", lambda cost: _cpu_ms(cost.timing("training"))),
    _Column("step / forward", lambda cost: _ratio(cost.training_over_inference(cpu=True))),
    _Column("spread", lambda cost: _spread(cost)),
    _Column("forward of peak", lambda cost: _of_peak(cost, cost.timing("inference"))),
    _Column("step of peak", lambda cost: _of_peak(cost, cost.timing("training"))),
    _Column("forward MiB", lambda cost: _mib(cost.timing("inference"))),
    _Column("step MiB", lambda cost: _mib(cost.timing("training"))),
)

_HOW_TO_READ = (
    "Medians over the rounds. 1 view: a forward pass of a batch of one. step: forward, backward and"
    " an SGD step with momentum, batch norms in train mode; step / forward: view for view.",
    "CPU ms: what the process computed, all threads together, which other processes lengthen little"
    " where the clock is lengthened much. spread: the largest (slowest - fastest lap) / median.",
    "of peak: operations a second over those of the fastest matrix product in the same rounds."
    " MiB: peak memory; on a CPU the growth of a process of its own, on a GPU what torch allocated",
)


def cost_grids(costs: Iterable[Cost]) -> list[Grid]:
    """Give the tables of costs: three for each setting, its conditions above the first.

    Costs stand in order of multiply-adds, those that can't be counted last.
    """
    grids = []
    for title, group in _by_setting(costs).items():
        ordered = sorted(group, key=_size)
        remarks = [f"{cost.backbone}: {note}" for cost in ordered for note in cost.notes]
        grids += [
            Grid(
                title=title,
                headers=("network", *(column.header for column in _COUNTED)),
                rows=_rows(ordered, _COUNTED),
                remarks=tuple(map(clean, remarks)),
            ),
            Grid(title="", headers=_headers(_TIMED), rows=_rows(ordered, _TIMED)),
            Grid(
                title="",
                headers=_headers(_DETAILED),
                rows=_rows(ordered, _DETAILED),
                remarks=(*_HOW_TO_READ, _peaks(ordered)),
            ),
        ]
    return grids


def page(costs: Sequence[Cost]) -> str:
    """Give the page of a folder of costs, in markdown."""
    return f"{_PAGE_HEAD}\n{to_markdown(cost_grids(costs))}" if costs else _PAGE_HEAD


def _by_setting(costs: Iterable[Cost]) -> dict[str, list[Cost]]:
    groups: dict[str, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(conditions(cost), []).append(cost)
    return dict(sorted(groups.items()))


def conditions(cost: Cost) -> str:
    """Say in one line what two costs must share to compare."""
    words = [cost.device, cost.precision, cost.layout]
    if cost.compiled:
        words.append("torch.compile")
    if cost.device_type == "cuda":
        words.append("TF32 allowed" if cost.tf32 else "no TF32")
        words.append("cudnn.benchmark" if cost.cudnn_benchmark else "no cudnn.benchmark")
    else:
        words.append(f"{cost.threads} thread{'' if cost.threads == 1 else 's'}")
    words.append(f"{cost.rounds} rounds")
    names = ("torch", "torchvision", "timm", "cuda", "cudnn")
    versions = [
        f"{name} {cost.environment[name]}"
        for name in names
        if cost.environment.get(name) is not None
    ]
    commit = cost.environment.get("commit")
    dirty = " with changes" if cost.environment.get("dirty") else ""
    made = f"rsbench {str(commit)[:12]}{dirty}" if commit else "rsbench of unknown commit"
    return clean(f"{', '.join(words)}; {', '.join([*versions, made, cost.created[:10]])}")


def _headers(columns: Sequence[_Column]) -> tuple[str, ...]:
    return ("network", *(column.header for column in columns))


def _rows(costs: Sequence[Cost], columns: Sequence[_Column]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (clean(cost.backbone), *(column.text(cost) for column in columns)) for cost in costs
    )


def _size(cost: Cost) -> tuple[float, str]:
    macs = cost.counts["macs_with_head"]
    return (float("inf") if macs is None else macs, cost.backbone)


def _peaks(costs: Sequence[Cost]) -> str:
    peaks = sorted({each.peak_flops_per_second for each in costs if each.peak_flops_per_second})
    if not peaks:
        return "No peak is known: no matrix product was measured."
    shown = " to ".join(f"{peak / 1e9:,.1f}" for peak in dict.fromkeys([peaks[0], peaks[-1]]))
    return f"Peak: {shown} GFLOP/s."


# ---------------------------------------------------------------------------- beside scores


def join(tables: Tables, costs: Iterable[Cost]) -> list[Joined]:
    """Put beside each row of scores what its network costs, once for every setting measured.

    A cost belongs to a row if network, version, pixels and frames are the same, and an image
    network reads clips in both or in neither; the number of views is the row's own.
    """
    by_network: dict[tuple[object, ...], list[Cost]] = {}
    for cost in costs:
        key = (_base(cost.backbone), cost.version, cost.pixels, cost.frames, _work(cost.lifting))
        by_network.setdefault(key, []).append(cost)
    joined = []
    for table in tables.tables:
        for row in table.rows:
            key = (
                _base(row.backbone),
                row.backbone_version,
                row.pixels,
                row.frames,
                _work(row.lifting),
            )
            found: list[Cost | None] = [*by_network.get(key, [])]
            joined += [Joined(table, row, cost) for cost in found or [None]]
    return joined


def joined_grids(joined: Iterable[Joined]) -> list[Grid]:
    """Give the tables of scores beside costs: one for each ruler and setting."""
    groups: dict[tuple[str, str], list[Joined]] = {}
    for each in joined:
        setting = "not measured" if each.cost is None else conditions(each.cost)
        groups.setdefault((each.table.digest, setting), []).append(each)
    return [_joined_grid(setting, group) for (_, setting), group in groups.items()]


def _joined_grid(setting: str, group: Sequence[Joined]) -> Grid:
    table = group[0].table
    headline = table.columns[0]
    unit = " %" if headline.percent else ""
    return Grid(
        title=clean(
            f"{table.task} v{table.task_version}, {table.split}: {table.protocol}"
            f" v{table.protocol_version}, {table.clips} x {table.crops} views,"
            f" ruler {table.digest[:8]}; {setting}"
        ),
        headers=(
            *("network", "weights", f"{headline.metric}{unit}", "95%", "GMACs x views"),
            *("1 view ms", "views/s", "forward MiB"),
        ),
        rows=tuple(_joined_row(each) for each in group),
        remarks=tuple(dict.fromkeys(_joined_remarks(group))),
    )


def _joined_row(joined: Joined) -> tuple[str, ...]:
    table, row, cost = joined
    scale = 100 if table.columns[0].percent else 1
    cell, decimals = row.cells[0], table.columns[0].decimals
    score = interval = _MISSING
    if cell is not None:
        score = f"{scale * cell.value:.{decimals}f}"
        if cell.low is not None and cell.high is not None:
            interval = f"{scale * cell.low:.{decimals}f}-{scale * cell.high:.{decimals}f}"
    measured = (_MISSING,) * 4
    if cost is not None:
        measured = (
            _times_views(cost, table.clips * table.crops),
            _ms(cost.timing("inference", single=True)),
            _rate(cost.timing("inference")),
            _mib(cost.timing("inference")),
        )
    return (clean(row.backbone), clean(row.weights), score, interval, *measured)


def _joined_remarks(group: Sequence[Joined]) -> Iterable[str]:
    for _, row, cost in group:
        if row.marks:
            yield clean(f"{row.backbone}, {row.weights}: {', '.join(row.marks)}")
        if cost is None:
            frames = f" --frames {row.frames}" if _reads_clips(row) else ""
            yield clean(
                f"Measure it: rsbench profile {_base(row.backbone)} --pixels {row.pixels}{frames}"
                " --results FOLDER"
            )


def _reads_clips(row: Row) -> bool:
    return row.frames > 1 or row.lifting == "frame_mean"


def joined_json(joined: Joined, *, results: str) -> dict[str, Any]:
    """Give a row of scores beside costs as JSON values.

    Args:
        joined: The row.
        results: The results folder, as the user named it.
    """
    table, row, cost = joined
    cell = row.cells[0]
    single, batch = (
        (None, None)
        if cost is None
        else (cost.timing("inference", single=True), cost.timing("inference"))
    )
    macs = None if cost is None else cost.counts["macs_with_head"]
    return {
        "task": table.task,
        "split": table.split,
        "protocol": table.protocol,
        "ruler": table.digest,
        "backbone": row.backbone,
        "weights": row.weights,
        "metric": table.columns[0].metric,
        "value": None if cell is None else cell.value,
        "low": None if cell is None else cell.low,
        "high": None if cell is None else cell.high,
        "seeds": list(row.seeds),
        "records": [f"{results}/{name}" for name in row.records],
        "parameters": row.num_parameters,
        "views": table.clips * table.crops,
        "macs_all_views": None if macs is None else macs * table.clips * table.crops,
        "device": None if cost is None else cost.device,
        "precision": None if cost is None else cost.precision,
        "seconds_one_view": None if single is None else single.median_seconds,
        "batch_size": None if batch is None else batch.batch_size,
        "views_per_second": None if batch is None else batch.views_per_second,
        "peak_bytes": None if batch is None else batch.peak_bytes,
    }


def _work(lifting: str) -> str:
    """Say what a network does under a lifting: a still clip is as much work as any other."""
    return "none" if lifting == "still_clip" else lifting


def _base(backbone: str) -> str:
    return backbone.partition("@")[0]


# ---------------------------------------------------------------------------- texts


def _input(cost: Cost) -> str:
    if cost.modality == "image":
        return str(cost.pixels)
    return f"{cost.frames}x{cost.stride}x{cost.pixels}"


def _giga(count: int | None) -> str:
    return _scaled(count, 1e9, 3 if count is None or count >= 1e8 else 6)


def _scaled(count: int | None, unit: float, decimals: int) -> str:
    return _MISSING if count is None else f"{count / unit:,.{decimals}f}"


def _times_views(cost: Cost, views: int) -> str:
    macs = cost.counts["macs_with_head"]
    return _giga(None if macs is None else macs * views)


def _batches(cost: Cost) -> str:
    """Give the batch of inference, and after a stroke that of training where it is another."""
    found = [cost.timing(work) for work in ("inference", "training")]
    return "/".join(dict.fromkeys(str(each.batch_size) for each in found if each is not None))


def _ms(timing: Timing | None) -> str:
    return _MISSING if timing is None else _milliseconds(timing.median_seconds)


def _cpu_ms(timing: Timing | None) -> str:
    return _MISSING if timing is None else _milliseconds(timing.median_cpu_seconds)


def _milliseconds(seconds: float) -> str:
    """Give three digits or more: 1.23, 12.3, 123, 1,234."""
    value = 1000 * seconds
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def _rate(timing: Timing | None) -> str:
    if timing is None:
        return _MISSING
    rate = timing.views_per_second
    decimals = 2 if rate < 10 else 1 if rate < 100 else 0
    return f"{rate:,.{decimals}f}"


def _ratio(ratio: float | None) -> str:
    return _MISSING if ratio is None else f"{ratio:.2f}"


def _spread(cost: Cost) -> str:
    return f"{max(timing.spread for timing in cost.timings):.0%}"


def _of_peak(cost: Cost, timing: Timing | None) -> str:
    reached = None if timing is None else cost.of_peak(timing)
    return _MISSING if reached is None else f"{reached:.0%}"


def _mib(timing: Timing | None) -> str:
    if timing is None or timing.peak_bytes is None:
        return _MISSING
    return f"{timing.peak_bytes / 2**20:,.0f}"

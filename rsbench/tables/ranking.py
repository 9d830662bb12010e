"""Networks ranked over many tasks: the tables of single rulers, put side by side.

A column is the headline of one table, a row a network under its weights. A rank is given only to
networks that have a number in every column: means over different columns do not compare. Nothing is
chosen: all seeds of a cell are averaged, and a network that ran on one task under several inputs
(`--pixels`) has a row for each.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rsbench.records.store import Contents, Stored
from rsbench.stats import Estimate, mean_of, unpaired_difference
from rsbench.suites import Suite, other_version
from rsbench.tables.pairing import paired_with_first
from rsbench.tables.ranked_columns import RankedColumn, columns_of
from rsbench.tables.table import RANDOM_INIT, UNVERIFIED, Cell, Row, Table, Tables, build, by_seed


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedCell:
    """What one network came to in one column."""

    score: Cell
    seconds: float | None
    """Wall clock of a run; see `Row.seconds`."""
    cached: bool
    """Whether it computed no features; see `Row.cached`."""
    knows_task: bool
    num_failed: int
    fit_marks: tuple[str, ...]
    """See `Row.fit_marks`."""
    records: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RankedRow:
    """One network under its weights."""

    rank: int | None
    """From 1 on, equal for equal means; None where a column is missing, and for the only network
    that has all of them: it is first of nothing."""
    backbone: str
    backbone_version: int
    backbone_source: str | None
    weights: str
    weights_digest: str | None
    trained_on: tuple[str, ...]
    num_parameters: int
    inputs: tuple[str, ...]
    """Frames x stride x pixels, as often as they differ over the columns."""
    cells: tuple[RankedCell | None, ...]
    """One a column; None where this network has no result."""
    mean: Estimate | None
    """Over all columns that count; None where one of them is missing. Without an interval where a
    column has none, and a note names it."""
    groups: tuple[Estimate | None, ...]
    """The same of each group of the suite."""
    difference: Estimate | None
    """Mean of this row minus that of the first, paired over items; None for the first row, and for
    rows without rank. A column whose metric has no scores of single items is taken as unpaired."""
    is_separated: bool
    """Whether the interval of the difference leaves out 0; False for the first row, and where it is
    not known."""
    seconds: float | None
    """Of all its cells together."""
    marks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """A suite's results, one table."""

    name: str
    """Of the suite; empty for whatever is there."""
    title: str
    caption: str
    """What the whole ranking must be read with: that of its tables where all have one."""
    limit: int | None
    """`--limit` of all its runs."""
    groups: tuple[str, ...]
    columns: tuple[RankedColumn, ...]
    rows: tuple[RankedRow, ...]
    """The best first, rows without rank at the end."""
    num_tasks: int
    """Tasks that have a column."""
    num_suite_tasks: int
    """Tasks of the suite."""
    missing: tuple[str, ...]
    """What of the suite no network has a result on: tasks, or "TASK PROTOCOL"."""
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rankings:
    """All rankings of a results folder: one for each `--limit`."""

    rankings: tuple[Ranking, ...]
    problems: tuple[str, ...]
    """One line for each file that is in no table, and why."""
    absence: str
    """What is said where there is no ranking; empty where there is one."""


def rank(contents: Contents, suite: Suite | None = None) -> Rankings:
    """Put the tables of records side by side.

    Args:
        contents: Records in any order, and lines on files that could not be read.
        suite: Whose tasks and protocols in which order, and in which groups; None takes whatever is
            there.

    Returns:
        Rankings of all items first, then those of limited runs.
    """
    tables = build(contents)
    stored = {each.name: each for each in contents.records}
    by_limit: dict[int | None, list[Table]] = {}
    for table in tables.tables:
        limit = table.ruler.get("limit")
        if suite is None or _is_of(table, suite):
            by_limit.setdefault(limit if isinstance(limit, int) else None, []).append(table)
    limits = sorted(by_limit, key=lambda limit: (limit is not None, limit or 0))
    return Rankings(
        rankings=tuple(_ranking(by_limit[limit], stored, suite, limit) for limit in limits),
        problems=tables.problems,
        absence="" if by_limit else _absence(contents, tables, suite),
    )


def _absence(contents: Contents, tables: Tables, suite: Suite | None) -> str:
    if not contents.records or suite is None:
        return tables.absence
    num_of = _num_of(contents, suite)
    if num_of:
        return f"No results of suite {suite.name} to rank: all {num_of} records of it are left out."
    other = other_version(suite)
    there = f"; there are some of {other.name}" if _num_of(contents, other) else ""
    return f"No results of suite {suite.name} among {len(contents.records)} records{there}."


def _num_of(contents: Contents, suite: Suite) -> int:
    return sum(
        each.record.task.name in suite.tasks and each.record.protocol.name in suite.protocols
        for each in contents.records
    )


def _is_of(table: Table, suite: Suite) -> bool:
    return table.task in suite.tasks and table.protocol in suite.protocols


def _ranking(
    tables: Sequence[Table],
    stored: Mapping[str, Stored],
    suite: Suite | None,
    limit: int | None,
) -> Ranking:
    ordered = tables if suite is None else sorted(tables, key=lambda each: _place(each, suite))
    columns = columns_of(ordered, stored)
    groups = {} if suite is None else suite.groups
    networks = networks_of([table.rows for table in ordered])
    rows = sorted((_row(each, columns, groups) for each in networks), key=_order)
    num_found = len({table.task for table in tables})
    return Ranking(
        name="" if suite is None else suite.name,
        title="All results side by side" if suite is None else suite.title,
        caption=_caption(tables),
        limit=limit,
        groups=tuple(groups),
        columns=columns,
        rows=tuple(_with_ranks(rows, columns, ordered, stored)),
        num_tasks=num_found,
        num_suite_tasks=num_found if suite is None else len(suite.tasks),
        missing=() if suite is None else tuple(_missing(tables, suite)),
        notes=(*_notes(columns, ordered, rows), *_not_chosen(networks, columns)),
    )


def _caption(tables: Sequence[Table]) -> str:
    captions = dict.fromkeys(table.caption for table in tables)
    return "" if "" in captions else "; ".join(captions)


def _place(table: Table, suite: Suite) -> tuple[int, int]:
    """Give the place of a column in the suite's own order."""
    return suite.tasks.index(table.task), suite.protocols.index(table.protocol)


def _missing(tables: Sequence[Table], suite: Suite) -> Iterator[str]:
    """Name the tasks without any column, and of the others the protocols without one."""
    found = {(table.task, table.protocol) for table in tables}
    for task in suite.tasks:
        absent = [protocol for protocol in suite.protocols if (task, protocol) not in found]
        if len(absent) == len(suite.protocols):
            yield task
        else:
            yield from (f"{task} {protocol}" for protocol in absent)


# --------------------------------------------------------------------------------------- rows


def networks_of(columns: Sequence[Sequence[Row]]) -> list[list[list[Row]]]:
    """Give the rows of each network, a list a column; one of several inputs comes several times.

    A list holds several rows where a network ran several times in ways that are no choice of input
    (precision, the bytes of the media), and none where it did not.
    """
    found: dict[Hashable, list[list[Row]]] = {}
    for place, rows in enumerate(columns):
        for row in rows:
            found.setdefault(_network(row), [[] for _ in columns])[place].append(row)
    return [rows for cells in found.values() for rows in _under_each_input(cells)]


def _network(row: Row) -> Hashable:
    return (
        row.backbone,
        row.backbone_version,
        row.backbone_source,
        row.weights,
        row.weights_digest,
        row.trained_on,
    )


_INPUT = (
    *("frames", "stride", "pixels", "crop_ratio", "mean", "std", "interpolation", "antialias"),
    *("resizer", "resize_to", "lifting"),
)
"""Fields of a row that say what the network was shown."""


def _under_each_input(cells: Sequence[Sequence[Row]]) -> Iterator[list[list[Row]]]:
    """Part the rows of one network, which may be several in a column, by their inputs.

    Inputs differ from task to task as they must; only what differs within one column parts them,
    and a column in which it does not differ belongs to all of them.
    """
    varying = [
        [name for name in _INPUT if len({getattr(row, name) for row in rows}) > 1] for rows in cells
    ]
    inputs: list[dict[str, object]] = [{}]
    for rows, names in sorted(zip(cells, varying, strict=True), key=lambda pair: -len(pair[1])):
        for row in rows:
            if not any(_agrees(row, names, each) for each in inputs if each or not names):
                inputs.append({name: getattr(row, name) for name in names})
    for each in inputs[1:] or inputs:
        yield [
            [row for row in rows if _agrees(row, names, each)]
            for rows, names in zip(cells, varying, strict=True)
        ]


def _agrees(row: Row, names: Sequence[str], input: Mapping[str, object]) -> bool:
    return all(input.get(name, getattr(row, name)) == getattr(row, name) for name in names)


def _row(
    rows: Sequence[Sequence[Row]],
    columns: Sequence[RankedColumn],
    groups: Mapping[str, tuple[str, ...]],
) -> RankedRow:
    # Rows that differ in precision, or in the bytes of the media alone: a table does not choose.
    cells = tuple(_cell(here[0]) if len(here) == 1 else None for here in rows)
    here = [row for several in rows for row in several]
    first = here[0]
    seconds = [row.seconds for row in here if row.seconds is not None]
    known = {mark for row in here for mark in row.marks if mark in (RANDOM_INIT, UNVERIFIED)}
    return RankedRow(
        rank=None,
        backbone=first.backbone,
        backbone_version=first.backbone_version,
        backbone_source=first.backbone_source,
        weights=first.weights,
        weights_digest=first.weights_digest,
        trained_on=first.trained_on,
        num_parameters=first.num_parameters,
        inputs=tuple(dict.fromkeys(f"{row.frames}x{row.stride}x{row.pixels}" for row in here)),
        cells=cells,
        mean=_mean(cells, columns),
        groups=tuple(_mean(cells, columns, tasks=tasks) for tasks in groups.values()),
        difference=None,
        is_separated=False,
        seconds=sum(seconds) if len(seconds) == len(here) else None,
        marks=tuple(sorted(known)),
    )


def _cell(row: Row) -> RankedCell | None:
    score = row.cells[0]
    if score is None:
        return None
    return RankedCell(
        score=score,
        seconds=row.seconds,
        cached=row.cached,
        knows_task=row.knows_task,
        num_failed=row.num_failed,
        fit_marks=row.fit_marks,
        records=row.records,
    )


def _mean(
    cells: Sequence[RankedCell | None],
    columns: Sequence[RankedColumn],
    *,
    tasks: Iterable[str] | None = None,
) -> Estimate | None:
    """Average the columns that count, of some tasks or of all; None unless all are there.

    A group that lacks tasks of its own is averaged over those that have a column.
    """
    wanted = None if tasks is None else frozenset(tasks)
    places = [
        place
        for place, column in enumerate(columns)
        if column.counts and (wanted is None or column.task in wanted)
    ]
    chosen = [cells[place] for place in places]
    found = [cell for cell in chosen if cell is not None]
    if not found or len(found) < len(chosen):
        return None
    estimates = [_estimate(cell.score) for cell in found]
    return mean_of(estimates, clusters=[columns[place].data for place in places])


def _estimate(score: Cell) -> Estimate:
    return Estimate(score.value, score.low, score.high)


def _order(row: RankedRow) -> tuple[bool, float, str]:
    mean = 0.0 if row.mean is None else row.mean.value
    return row.mean is None, -mean, repr((row.backbone, row.weights, row.weights_digest))


# ------------------------------------------------------------------------------------ ranks


def _with_ranks(
    rows: Sequence[RankedRow],
    columns: Sequence[RankedColumn],
    tables: Sequence[Table],
    stored: Mapping[str, Stored],
) -> list[RankedRow]:
    """Number the rows that have a mean, and pair each with the first of them."""
    ranked: list[RankedRow] = []
    for row in rows:
        if row.mean is None:
            ranked.append(row)
            continue
        above = ranked[-1] if ranked else None
        is_tied = (
            above is not None and above.mean is not None and above.mean.value == row.mean.value
        )
        place = above.rank if is_tied and above is not None else len(ranked) + 1
        difference = _difference(row, rows[0], columns, tables, stored) if ranked else None
        ranked.append(
            replace(row, rank=place, difference=difference, is_separated=_is_separated(difference))
        )
    if sum(row.rank is not None for row in ranked) == 1:
        return [replace(row, rank=None) for row in ranked]
    return ranked


def _is_separated(difference: Estimate | None) -> bool:
    """Tell whether a difference has an interval that leaves out 0."""
    if difference is None or difference.low is None or difference.high is None:
        return False
    return difference.low > 0 or difference.high < 0


def _difference(
    row: RankedRow,
    first: RankedRow,
    columns: Sequence[RankedColumn],
    tables: Sequence[Table],
    stored: Mapping[str, Stored],
) -> Estimate:
    estimates, clusters = [], []
    for column, table, here, there in zip(columns, tables, row.cells, first.cells, strict=True):
        if not column.counts:
            continue
        assert here is not None and there is not None, (
            "a row with a mean has all columns that count"
        )
        pairs = paired_with_first(
            [by_seed([stored[name] for name in cell.records]) for cell in (there, here)],
            column.metric.metric,
            averaging=str(table.ruler.get("averaging", "pooled")),
        )
        paired = pairs[1].difference
        estimates.append(
            unpaired_difference(_estimate(here.score), _estimate(there.score))
            if paired is None
            else Estimate(*paired)
        )
        clusters.append(column.data)
    return mean_of(estimates, clusters=clusters)


def _notes(
    columns: Sequence[RankedColumn], tables: Sequence[Table], rows: Sequence[RankedRow]
) -> Iterator[str]:
    """Say what the ranks do not stand on, and what the tables of the columns warn of."""
    uncounted = [column.label for column in columns if not column.counts]
    if uncounted:
        yield f"no share of right answers, and left out of the mean: {', '.join(uncounted)}"
    without = [
        column.label
        for place, column in enumerate(columns)
        if column.counts
        and any(
            cell is not None and cell.score.low is None
            for cell in (row.cells[place] for row in rows)
        )
    ]
    if without:
        yield (
            f"the mean has no interval, because a result has none (older records of some metrics"
            f" have none; --again measures it): {', '.join(without)}"
        )
    data = [column.data for column in columns if column.counts]
    if len(set(data)) < len(data):
        yield (
            "columns of the same items are taken to err alike: the interval of the mean is rather"
            " too wide"
        )
    warned = [column.label for column, table in zip(columns, tables, strict=True) if table.warnings]
    if warned:
        yield f"`rsbench table` has warnings on {', '.join(warned)}"


def _not_chosen(
    networks: Sequence[Sequence[Sequence[Row]]], columns: Sequence[RankedColumn]
) -> Iterator[str]:
    """Name the cells that stay empty because a network has several rows in one column."""
    for rows in networks:
        for several, column in zip(rows, columns, strict=True):
            if len(several) > 1:
                yield (
                    f"{several[0].backbone} has {len(several)} results on {column.label} that"
                    " differ in precision or in the bytes of the media: none of them is chosen"
                )

"""What was measured here beside what others published or measured of the same network.

A foreign number stands beside a row and never in its column: it is ranked nowhere. It is compared
where the conditions agree: task, split, protocol, weights, input, views, and the official items,
all of them. Elsewhere the difference is shown with the reasons why it is none between equals; under
another protocol or split there is no difference to show. Samples stand beside nothing: whoever
published a number published it of the real data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rsbench.errors import RecordError
from rsbench.records.foreign import ForeignRow, ForeignStored, completed, number_of, read_scores
from rsbench.records.ruler import IMPLIED
from rsbench.records.schema import RunRecord
from rsbench.records.store import Contents, Stored
from rsbench.specs import Scalar
from rsbench.stats import PairedDifference, paired_difference
from rsbench.tables.pairing import over_seeds, sorted_scores, unpaired
from rsbench.tables.table import Cell, Column, Row, Table, build, by_seed

_SAME_RATIO = 1e-3
"""How far two crop ratios may be apart: others print three digits."""

_OF_ROWS = ("crop_ratio", "interpolation", "antialias", "resizer")
"""Conditions that a row of a table has under the same name."""

_OF_TABLES = ("sampler", "cropper", "media")
"""Conditions that a table's ruler has under the same name."""

_ORIGINAL = "original"
"""Media as they were published, neither made small nor cut into frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """One metric of a measured row beside one foreign row of it."""

    task: str
    protocol: str
    split: str
    digest: str
    """Of the ruler the row stands under."""
    column: Column
    row: Row
    cell: Cell
    """What was measured; its interval is that of the measured score alone."""
    foreign: ForeignRow
    difference: PairedDifference | None
    """Measured minus foreign, with its 95% interval: over the items that both have where the
    foreign predictions are known (`num_paired`), else that of the measured score, the foreign
    number taken as exact; without bounds the difference is (d, d, d) and `cell.low` is None. None
    where split or protocol differ."""
    num_paired: int | None
    """Items that the difference is paired over; None where it is not paired."""
    inside: bool | None
    """Whether the foreign number, as rounded by whoever printed it, lies in the interval; None
    where there is no interval."""
    reasons: tuple[str, ...]
    """Why the conditions do not agree, one each; empty where they do."""

    @property
    def agrees(self) -> bool:
        """Whether the conditions are the same as far as both sides say them."""
        return not self.reasons


@dataclass(frozen=True, kw_only=True, slots=True)
class Besides:
    """All that stands beside each other."""

    pairs: tuple[Beside, ...]
    """In the order of tables, rows, columns; for each cell the fewest reasons first."""
    problems: tuple[str, ...]
    """One line for each file of predictions that could not be used, and why; what is wrong with
    the records themselves the tables say."""
    absence: str
    """Why there are no pairs; empty where there are."""


def against(
    contents: Contents, rows: Sequence[ForeignRow], *, imported: Sequence[ForeignStored] = ()
) -> Besides:
    """Put what was measured beside foreign rows of the same network, task and metric.

    Rows of the same weights are taken, and of other weights where there are none of the same; a
    network that learned nothing (random weights under a probe) stands beside no trained one.

    Args:
        contents: Records of a results folder.
        rows: Published numbers; see `rsbench.published`.
        imported: Files of other tools' results, which may have predictions to pair with; a number
            without them that is among `rows` stands there alone.
    """
    tables = build(contents, pairing=unpaired)
    by_name = {stored.name: stored for stored in contents.records}
    foreign = _all_of(rows, imported)
    neighbours: dict[tuple[str | None, str, str], list[_Foreign]] = {}
    for each in foreign:
        key = (each[0].backbone, each[0].task, each[0].metric)
        neighbours.setdefault(key, []).append(each)
    problems: list[str] = []
    pairs: list[Beside] = []
    for table in tables.tables:
        if table.ruler.get("sample") is True:
            continue
        for row in table.rows:
            members = [by_name[name] for name in row.records]
            for column, cell in zip(table.columns, row.cells, strict=True):
                of_same = neighbours.get((row.backbone, table.task, column.metric), [])
                found = [
                    _beside(table, row, column, cell, members, other, stored, problems)
                    for other, stored in _matches(table, row, of_same, members)
                    if cell is not None
                ]
                pairs += sorted(found, key=lambda pair: len(pair.reasons))
    return Besides(
        pairs=tuple(pairs),
        problems=tuple(dict.fromkeys(problems)),
        absence="" if pairs else _absence(tables.tables, foreign),
    )


_Foreign = tuple[ForeignRow, ForeignStored | None]


def _all_of(rows: Sequence[ForeignRow], imported: Sequence[ForeignStored]) -> list[_Foreign]:
    """Give all rows once: what was imported is often the file that a published table quotes.

    Then it has conditions that the table leaves out.
    """
    there = {number_of(row) for row in rows}
    bare = {
        number_of(row): row for each in imported if not each.file.files for row in each.file.rows
    }
    return [(completed(row, bare.get(number_of(row))), None) for row in rows] + [
        (row, stored)
        for stored in imported
        for row in stored.file.rows
        if stored.file.files or number_of(row) not in there
    ]


def _absence(tables: Sequence[Table], foreign: Sequence[_Foreign]) -> str:
    if not foreign:
        return "No published or imported numbers to stand beside."
    num_samples = sum(table.ruler.get("sample") is True for table in tables)
    if num_samples == len(tables) > 0:
        return "No published number is of a sample, and every result here is."
    samples = f" ({num_samples} of {len(tables)} tables are of samples)" if num_samples else ""
    return f"No published or imported number is of a network and task that was run here{samples}."


def _matches(
    table: Table, row: Row, foreign: Sequence[_Foreign], members: Sequence[Stored]
) -> list[_Foreign]:
    """Choose what may stand beside a cell, out of what is of its network, task and metric."""
    if row.backbone_source is not None:
        return []
    learned = members[0].record.protocol.trains_backbone
    there = [
        each
        for each in foreign
        if (row.weights != "none" or learned)
        and (each[0].protocol == table.protocol or each[0].weights == row.weights)
    ]
    same = [each for each in there if each[0].weights == row.weights]
    return same or there


def _beside(
    table: Table,
    row: Row,
    column: Column,
    cell: Cell | None,
    members: Sequence[Stored],
    foreign: ForeignRow,
    stored: ForeignStored | None,
    problems: list[str],
) -> Beside:
    assert cell is not None
    reasons = list(_reasons(table, row, cell, members[0].record, foreign))
    difference, num_paired = None, None
    if (table.split, table.protocol) == (foreign.split, foreign.protocol):
        paired = None
        if stored is not None and column.level == "item":
            try:
                paired = _paired(members, stored, column.metric)
            except RecordError as fault:
                problems.append(str(fault))
        if paired is not None:
            difference, num_paired = paired
            if num_paired < max(cell.n, foreign.n or 0):
                reasons.append(f"the difference is over the {num_paired:,} items both have")
        else:
            difference = _unpaired(cell, foreign)
    return Beside(
        task=table.task,
        protocol=table.protocol,
        split=table.split,
        digest=table.digest,
        column=column,
        row=row,
        cell=cell,
        foreign=foreign,
        difference=difference,
        num_paired=num_paired,
        inside=_inside(cell, column, foreign, difference),
        reasons=tuple(reasons),
    )


def _unpaired(cell: Cell, foreign: ForeignRow) -> PairedDifference:
    low = cell.value if cell.low is None else cell.low
    high = cell.value if cell.high is None else cell.high
    return PairedDifference(*(round(end - foreign.value, 12) for end in (cell.value, low, high)))


def _paired(
    members: Sequence[Stored], stored: ForeignStored, metric: str
) -> tuple[PairedDifference, int] | None:
    """Give the difference over the items that both have, and how many; None without such items.

    Raises:
        RecordError: Predictions of either side are missing, changed or damaged.
    """
    theirs = read_scores(stored, metric)
    if theirs is None:
        return None
    places = {item: place for place, item in enumerate(theirs.ids)}
    ours, keys = [], None
    for runs in by_seed(members):
        found = [sorted_scores(run, metric) for run in runs]
        columns = [each.scores for each in found if each is not None]
        here = {each.keys for each in found if each is not None}
        if len(columns) < len(runs) or len(here | ({keys} if keys else set())) > 1:
            return None
        keys = here.pop()
        ours.append(columns)
    if keys is None or len({fold for fold, _ in keys}) > 1:
        return None
    shared = [(place, places[item]) for place, (_, item) in enumerate(keys) if item in places]
    if not shared:
        return None
    here_N, there_N = (np.asarray(side) for side in zip(*shared, strict=True))
    return paired_difference(over_seeds(ours)[here_N], theirs.scores[there_N]), len(shared)


def _inside(
    cell: Cell, column: Column, foreign: ForeignRow, difference: PairedDifference | None
) -> bool | None:
    """Say whether no difference at all is in the interval, give or take what rounding hid."""
    if difference is None or cell.low is None or cell.high is None:
        return None
    unit = 0.01 if column.percent else 1.0
    half = 0.0 if foreign.decimals is None else unit * 10.0**-foreign.decimals / 2
    return difference.low - half <= 1e-12 and difference.high + half >= -1e-12


def _reasons(
    table: Table, row: Row, cell: Cell, record: RunRecord, foreign: ForeignRow
) -> Iterator[str]:
    """Say one by one why two numbers are not of the same conditions."""
    yield from _differing("split", table.split, foreign.split)
    yield from _differing("protocol", table.protocol, foreign.protocol)
    for what in ("task", "protocol"):
        if f"{what}_source" in table.ruler:
            yield f"the {what} here is a file of its own"
    for name, value in sorted(record.protocol.overrides.items()):
        yield f"changed here: {name}={value}"
    if foreign.weights is None:
        yield "which weights is not said there"
    else:
        yield from _differing("weights", row.weights, foreign.weights)
    yield from _inputs(table, row, foreign)
    yield from _conditions(table, row, foreign.conditions)
    yield from _items(row, cell, record, foreign)


def _differing(what: str, here: object, there: object) -> Iterator[str]:
    if here != there:
        yield f"{what}: {here} here, {there} there"


def _inputs(table: Table, row: Row, foreign: ForeignRow) -> Iterator[str]:
    """Compare what the network saw; an image network on pictures has frames of no meaning."""
    pairs = [("pixels", row.pixels, foreign.pixels)]
    if table.modality == "video":
        pairs = [
            ("frames", row.frames, foreign.frames),
            ("stride", row.stride, foreign.stride),
            *pairs,
        ]
    pairs += [("clips", table.clips, foreign.clips), ("crops", table.crops, foreign.crops)]
    for what, here, there in pairs:
        if there is not None:
            yield from _differing(what, here, there)
    unsaid = [what for what, _, there in pairs if there is None]
    if unsaid:
        yield f"not said there: {', '.join(unsaid)}"


def _conditions(table: Table, row: Row, conditions: Mapping[str, Scalar]) -> Iterator[str]:
    for name in sorted(conditions.keys() & set(_OF_ROWS)):
        here, there = getattr(row, name), conditions[name]
        is_near = (
            name == "crop_ratio"
            and isinstance(there, int | float)
            and math.isclose(here, there, abs_tol=_SAME_RATIO)
        )
        if not is_near:
            yield from _differing(name, _shown(here), _shown(there))
    of_table = {
        "sampler": table.sampler,
        "cropper": table.ruler.get("cropper", IMPLIED["cropper"]),
        "media": table.ruler.get("media", _ORIGINAL),
    }
    for name in sorted(conditions.keys() & set(_OF_TABLES)):
        if table.modality == "video" or name != "sampler":
            yield from _differing(name, _shown(of_table[name]), _shown(conditions[name]))
    if "media" not in conditions and of_table["media"] != _ORIGINAL:
        yield f"media: {of_table['media']} here, not said there"
    for name in sorted(conditions.keys() - {*_OF_ROWS, *_OF_TABLES}):
        yield f"{name}: {_shown(conditions[name])} there, not said here"


def _shown(value: Scalar) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _items(row: Row, cell: Cell, record: RunRecord, foreign: ForeignRow) -> Iterator[str]:
    """Compare which items were scored."""
    if record.task.limit is not None:
        yield f"{record.task.limit:,} drawn items here"
    elif row.num_official is None:
        yield "the items here are of no published list"
    elif row.num_expected > row.num_official:
        yield f"{row.num_expected:,} items here, {row.num_official:,} on the official list"
    elif row.num_expected < row.num_official:
        there = "" if foreign.n in (None, row.num_official) else f", {foreign.n:,} were there"
        yield f"{row.num_expected:,} of {row.num_official:,} official items are here{there}"
    elif row.num_missing:
        yield f"{row.num_missing:,} official items are missing here, and others are here instead"
    elif foreign.n not in (None, cell.n):
        yield f"{cell.n:,} items here, {foreign.n:,} there"
    if row.num_failed:
        yield f"{row.num_failed:,} items here could not be read and count as wrong"

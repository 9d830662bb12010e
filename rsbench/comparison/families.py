"""A family: rows that compare, judged when a pair of them was not compared before."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from rsbench.comparison.compared import Family, Pairwise, Standing
from rsbench.comparison.evidence import Evidence
from rsbench.comparison.groups import Joined, named
from rsbench.comparison.judged import (
    Items,
    Judged,
    averaging_of,
    hangs_on_seed,
    judged_by_item,
    judged_by_resampling,
    num_different,
    scores_on_subset,
)
from rsbench.comparison.pairwise import compare_pair, counts_of, places_of, with_verdicts
from rsbench.comparison.row_names import is_called, labels_of, listed
from rsbench.comparison.subsets import Shared, answers_of, shared_items
from rsbench.digests import digest_json
from rsbench.errors import RecordError, RsbenchError
from rsbench.records.store import Stored
from rsbench.stats import Estimate
from rsbench.tables.layout import table_title
from rsbench.tables.pairing import SortedScores, strata_of
from rsbench.tables.table import Row


class Jury:
    """Judges the rows of one family, each when it is first asked for.

    Its state is what it has judged; where all rows are of one list, their numbers and counts are
    known without reading what they came to by item.
    """

    def __init__(self, rows: Joined, evidence: Evidence) -> None:
        """Judge rows by evidence.

        Raises:
            RecordError: Several lists share nothing, or can't be held beside each other.
        """
        self.rows = rows
        self.is_subset = len(rows.digests) > 1
        self.metric = rows.table.columns[0]
        self._evidence = evidence
        self._runs = [evidence.runs_of(row) for row in rows.rows]
        self._judged: dict[int, Judged] = {}
        self.shared = self._shared() if self.is_subset else None

    @cached_property
    def items(self) -> Items:
        """The items that are compared."""
        first = self._runs[0][0]
        averaging = averaging_of(first)
        known = self._evidence.scores(first)
        has_classes = known is not None and self.metric.level == "class"
        answers = answers_of(first) if known is None or has_classes else {}
        if self.shared is not None:
            keys = self.shared.keys
        else:
            keys = tuple(sorted(answers)) if known is None else known.keys
        classes = {key: answers[key] for key in keys} if has_classes else {}
        return Items(
            keys=keys,
            averaging=averaging,
            is_subset=self.is_subset,
            strata=strata_of(keys, averaging=averaging, classes=classes),
        )

    @property
    def num_items(self) -> int:
        """Different items that are compared."""
        if self.shared is not None:
            return num_different(self.shared.keys)
        return self._evidence.facts(self._runs[0][0]).num_different

    def num_own(self, place: int) -> int:
        """Different items that a row was judged on, compared or not."""
        return self._evidence.facts(self._runs[place][0]).num_different

    def content(self, place: int) -> str:
        """Name all that a row's statistics are made of."""
        return self._evidence.content_of(self.rows.rows[place])

    def hangs_on_seed(self, place: int) -> bool:
        """Say whether a row's number hangs on its seed; see `rsbench.comparison.judged`."""
        return hangs_on_seed(self._runs[place][0])

    def estimate(self, place: int) -> Estimate:
        """Give a row's headline over the items that are compared."""
        if self.is_subset:
            return self.judged(place).estimate
        return self._estimate(place)

    def judged(self, place: int) -> Judged:
        """Give what a row came to by item.

        Raises:
            RecordError: The metric can't be had on the shared items; names the file.
        """
        if place not in self._judged:
            self._judged[place] = self._judge(place)
        return self._judged[place]

    def _shared(self) -> Shared:
        shared = shared_items([run for runs in self._runs for run in runs])
        if not shared.keys:
            raise RecordError(
                f"{named(self.rows)}: its lists share no item whose right answer agrees; compare"
                " runs of lists that overlap."
            )
        return shared

    def _estimate(self, place: int) -> Estimate:
        cell = self.rows.rows[place].cells[0]
        assert cell is not None, "every record has the headline of its ruler"
        return Estimate(cell.value, cell.low, cell.high)

    def _judge(self, place: int) -> Judged:
        runs, metric = self._runs[place], self.metric.metric
        estimate = self._estimate(place)
        if not self._evidence.facts(runs[0]).is_by_item:
            return judged_by_resampling(runs, metric, self.items, estimate)
        scores = {run.name: self._scores_of(run) for run in runs}
        return judged_by_item(runs, scores, self.items, estimate)

    def _scores_of(self, run: Stored) -> SortedScores:
        known = self._evidence.scores(run)
        assert known is not None, "all runs of a row have scores of single items, or none"
        return (
            scores_on_subset(run, self.metric.metric, self.items, known)
            if self.is_subset
            else known
        )


class Made(NamedTuple):
    """A family, and who judged it: averages over a suite need both."""

    family: Family
    jury: Jury
    places: tuple[int, ...]
    """The jury's place of each of the family's rows."""


def family_of(
    rows: Joined, group: Sequence[tuple[str, str]], evidence: Evidence, *, baseline: str | None
) -> Made:
    """Compare the rows of one family.

    Args:
        rows: What `rsbench.comparison.groups.joined` gave.
        group: See `Family.group`.
        evidence: All runs.
        baseline: Name of the row that all others are compared with; None compares all pairs. A
            family that has no such row has no pairs.

    Raises:
        RecordError: Items can't be shared, or a metric can't be had on them; names the file.
        RsbenchError: The baseline's name fits several rows.
    """
    jury = Jury(rows, evidence)
    metric = jury.metric
    sign = -1.0 if metric.higher_is_better else 1.0
    estimates = [jury.estimate(place) for place in range(len(rows.rows))]
    order = sorted(range(len(estimates)), key=lambda place: sign * estimates[place].value)
    ordered = tuple(rows.rows[place] for place in order)
    labels = labels_of(ordered, rulers=[rows.of_ruler[place] for place in order])
    based = None
    if baseline is not None:
        called = [
            is_called(row, label, baseline) for row, label in zip(ordered, labels, strict=True)
        ]
        based = place_of_baseline(baseline, called, labels)
    places = places_of(len(ordered), based, has_baseline=baseline is not None)
    pairs = _pairs(jury, order, places, evidence)
    standings = []
    for place, (label, count) in enumerate(
        zip(labels, counts_of(pairs, len(ordered)), strict=True)
    ):
        standings.append(
            Standing(
                label=label,
                rank=count.rank,
                wins=count.wins,
                ties=count.ties,
                losses=count.losses,
                value=estimates[order[place]].value,
                n=jury.num_own(order[place]),
            )
        )
    family = Family(
        title=table_title(rows.table),
        task=rows.table.task,
        protocol=rows.table.protocol,
        group=tuple(group),
        ruler=rows.table.ruler,
        digest=rows.table.digest,
        digests=rows.digests,
        metric=metric,
        num_items=jury.num_items,
        is_common_subset=jury.is_subset,
        other_training=rows.other_training,
        baseline=based,
        rows=ordered,
        standings=tuple(standings),
        pairs=pairs,
        caption=rows.table.caption,
        warnings=tuple(_family_warnings(jury)),
    )
    return Made(family, jury, tuple(order))


def place_of_baseline(name: str, called: Sequence[bool], labels: Sequence[str]) -> int | None:
    """Find the one row that a baseline's name means; None where there is none.

    Raises:
        RsbenchError: There are several; names them.
    """
    found = [place for place, is_so in enumerate(called) if is_so]
    if len(found) > 1:
        listed = ", ".join(repr(labels[place]) for place in found)
        raise RsbenchError(
            f"--baseline {name!r} must be one row, but {len(found)} are called so: {listed}; name "
            "one of these."
        )
    return found[0] if found else None


def _pairs(
    jury: Jury, order: Sequence[int], places: Sequence[tuple[int, int]], evidence: Evidence
) -> tuple[Pairwise, ...]:
    """Compare rows, or recall how they compared; the latter only where all are of one list."""
    if not places:
        return ()
    said = [_row_warnings(jury.rows.rows[place]) for place in order]
    warnings = [tuple(dict.fromkeys((*said[first], *said[second]))) for first, second in places]
    key = ""
    if not jury.is_subset:
        contents = [jury.content(place) for place in order]
        hanging = [jury.hangs_on_seed(place) for place in order]
        made_of = [contents, places, said, hanging, jury.metric.metric, jury.metric.level]
        key = digest_json([*made_of, jury.metric.higher_is_better])
        known = evidence.recall_pairs(key)
        if known is not None:
            return known
    found = [
        compare_pair(
            jury.judged(order[first]),
            jury.judged(order[second]),
            first=first,
            second=second,
            n=jury.num_items,
            n_first=jury.num_own(order[first]),
            n_second=jury.num_own(order[second]),
            strata=jury.items.strata,
        )
        for first, second in places
    ]
    pairs = with_verdicts(found, higher_is_better=jury.metric.higher_is_better, warnings=warnings)
    if key:
        evidence.remember_pairs(key, pairs)
    return pairs


def _family_warnings(jury: Jury) -> list[str]:
    warnings = list(jury.rows.table.warnings) if jury.shared is None else []
    single = [
        row.backbone
        for place, row in enumerate(jury.rows.rows)
        if len(row.seeds) == 1 and jury.hangs_on_seed(place)
    ]
    if single and len(jury.rows.rows) > 1:
        warnings.append(
            f"of one seed, which other seeds may turn: {listed(tuple(dict.fromkeys(single)))}"
        )
    if jury.shared is None:
        return warnings
    if jury.shared.num_unlike:
        warnings.append(
            f"{jury.shared.num_unlike} shared items are left out: what is right for them differs"
            " between the lists"
        )
    if jury.rows.other_training:
        warnings.append("the rows did not learn from, or select on, the same items")
    return warnings


def _row_warnings(row: Row) -> tuple[str, ...]:
    """Say what every pair with a row must be read with."""
    lines = [f"{row.backbone}: {mark}" for mark in row.fit_marks]
    if row.num_failed:
        lines.append(f"{row.num_failed} items that {row.backbone} could not read count as wrong")
    if row.knows_task:
        lines.append(f"the weights of {row.backbone} have seen this task's data")
    return tuple(lines)

"""Which network is better than which, and is it sure: records in, comparisons and sentences out.

Every pair of rows under one ruler is compared item by item: the difference with its paired
bootstrap interval, p by McNemar's exact test (hits of single runs), by sign flips (scores averaged
over seeds or folds) or from resampled items (mAP), q over all pairs of a family (Benjamini and
Hochberg), and what so many items could have shown. p is over items: it says of these runs, not of
others with other seeds, whether the items could be a coincidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from rsbench.comparison.compared import (
    SIGNIFICANT,
    Average,
    Comparison,
    Family,
    Refusal,
)
from rsbench.comparison.evidence import Evidence
from rsbench.comparison.families import Made, family_of
from rsbench.comparison.groups import grouped, joined, refusals_of
from rsbench.comparison.row_names import is_called, labels_of
from rsbench.comparison.sentences import sentences_of
from rsbench.comparison.suite_averages import averages_of
from rsbench.errors import RecordError, UnknownNameError, suggest
from rsbench.records.ruler import selected_on_test
from rsbench.records.scorebook import open_scorebook
from rsbench.records.store import Contents, Stored
from rsbench.suites import Suite
from rsbench.tables.pairing import unpaired
from rsbench.tables.table import Row, Table, build


def compare(
    contents: Contents,
    *,
    baseline: str | None = None,
    by: tuple[str, ...] = ("task", "protocol"),
    common_subset: bool = False,
    suite: Suite | None = None,
    names: Sequence[str] = (),
    allow_other_training: bool = False,
) -> Comparison:
    """Compare the networks of records within each ruler.

    A record whose predictions are missing, changed or not what the record says is left out and
    named; so is what was selected on the items it reports.

    Args:
        contents: Records in any order, and lines on files that could not be read.
        baseline: Compare all others with this row alone, rather than all pairs: its backbone,
            weights, "BACKBONE WEIGHTS", label or record.
        by: Fields of rulers and rows that part results: within a group all is to be compared, and
            what can't be is refused.
        common_subset: Compare runs of lists that differ on the items they share.
        suite: Take its tasks and protocols alone, and compare averages over them.
        names: Rows to be compared, named as a baseline is; empty for all.
        allow_other_training: On common subsets, compare also what learned from other lists.

    Raises:
        UnknownNameError: No row has a name, or no ruler a field, that was asked for.
        RsbenchError: The baseline's name fits several rows.
    """
    _require_names(contents.records)
    # What was selected on the items it reports is left out, and counted, by the tables.
    honest = [each for each in contents.records if not selected_on_test(each.record.ruler)]
    with open_scorebook() as book:
        evidence = Evidence(book, honest)
        faults = evidence.look_over()
        sound = tuple(each for each in contents.records if each.name not in faults)
        tables = build(Contents(sound, contents.problems), pairing=unpaired)
        drawn = [each for each in tables.tables if suite is None or _is_of(each, suite)]
        if names:
            drawn = _named(drawn, (*names, *([baseline] if baseline else [])))
        _require_baseline(drawn, baseline)
        problems = [faults[name] for name in sorted(faults)]
        made: list[Made] = []
        refusals: list[Refusal] = []
        for group in grouped(drawn, by):
            classes = joined(
                group, common_subset=common_subset, allow_other_training=allow_other_training
            )
            refusals += refusals_of(classes, common_subset=common_subset)
            for rows in classes:
                try:
                    made.append(family_of(rows, group.fields, evidence, baseline=baseline))
                except RecordError as fault:
                    problems.append(str(fault))
        averages = () if suite is None else tuple(averages_of(made, suite, evidence, baseline))
    families = tuple(each.family for each in made)
    return Comparison(
        families=families,
        refusals=tuple(refusals),
        averages=averages,
        sentences=tuple(sentences_of(families, averages)),
        problems=(*tables.problems, *problems),
        notes=tuple(_notes(families, averages, baseline)),
    )


def _require_names(records: Iterable[Stored]) -> None:
    keys: dict[str, str] = {}
    for stored in records:
        if keys.setdefault(stored.name, stored.record.key) != stored.record.key:
            raise RecordError(
                f"Two records of different runs are both called {stored.name}; rename one, or keep"
                " them below a folder runs/TASK/PROTOCOL."
            )


def _is_of(table: Table, suite: Suite) -> bool:
    return table.task in suite.tasks and table.protocol in suite.protocols


def _called(table: Table) -> list[tuple[Row, str]]:
    labels = labels_of(table.rows, rulers=[table.digest] * len(table.rows))
    return list(zip(table.rows, labels, strict=True))


def _named(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """Keep rows of some names."""
    kept = []
    found: set[str] = set()
    for table in tables:
        rows = []
        for row, label in _called(table):
            here = {name for name in names if is_called(row, label, name)}
            found |= here
            if here:
                rows.append(row)
        if rows:
            kept.append(replace(table, rows=tuple(rows)))
    for name in names:
        if name not in found:
            raise _unknown(name, tables)
    return kept


def _require_baseline(tables: Sequence[Table], baseline: str | None) -> None:
    if baseline is None or not tables:
        return
    if not any(
        is_called(row, label, baseline) for table in tables for row, label in _called(table)
    ):
        raise _unknown(baseline, tables)


def _unknown(name: str, tables: Sequence[Table]) -> UnknownNameError:
    known = {row.backbone for table in tables for row in table.rows}
    known |= {label for table in tables for _, label in _called(table)}
    listed = f" There are {', '.join(sorted(known))}." if len(known) <= 8 else ""
    return UnknownNameError(f"No result is of {name!r}.{suggest(name, known)}{listed}")


def _notes(
    families: Sequence[Family], averages: Sequence[Average], baseline: str | None
) -> Iterator[str]:
    num_pairs = [len(each.pairs) for each in families if each.pairs]
    if num_pairs:
        counted = (
            f"{num_pairs[0]} {'pair' if num_pairs[0] == 1 else 'pairs'}"
            if len(num_pairs) == 1
            else f"{sum(num_pairs)} pairs in {len(num_pairs)} families, each by itself"
        )
        yield (
            f"q: Benjamini and Hochberg over {counted}; a difference is taken for real up to q ="
            f" {SIGNIFICANT:g}"
        )
        yield (
            "p and q are over items and say of these runs whether the items could be a coincidence;"
            " other seeds may turn what hangs on a single one, and what several seeds leave open"
            " (over seeds too)"
        )
    if baseline is not None:
        lacking = [each.title for each in families if each.baseline is None]
        if lacking:
            yield f"no {baseline} to compare with: {'; '.join(lacking)}"
    alone = [each.title for each in families if len(each.rows) == 1]
    if alone:
        yield f"one network alone, nothing to compare: {'; '.join(alone)}"
    if averages:
        yield "averages: each column counts alike; an item that several columns judge is one item"

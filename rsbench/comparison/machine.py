"""Comparisons for machines: JSON with everything in it, and CSV with one line a pair.

Numbers are exact: fractions or the metric's own unit, never percent, never rounded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict

from rsbench.comparison.compared import Average, AverageRow, Comparison, Family, Pairwise, Refusal
from rsbench.tables.machine import safe

_HEADERS = (
    *("task", "protocol", "suite", "group", "ruler", "metric", "first", "first_weights", "second"),
    *("second_weights", "first_rank", "second_rank", "first_value", "second_value", "difference"),
    *(
        "low",
        "high",
        "low_with_seeds",
        "high_with_seeds",
        "seeds_may_turn",
        "interval",
        "p",
        "test",
        "exact",
        "q",
        "verdict",
        "n",
        "n_first",
        "n_second",
    ),
    *("wins_items", "losses_items", "detectable", "common_subset", "other_training", "warnings"),
    *("first_records", "second_records"),
)


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """Give a comparison as JSON values: the fields of `Comparison` by name."""
    return {
        "families": [_family(each) for each in comparison.families],
        "refusals": [_refusal(each) for each in comparison.refusals],
        "averages": [_average(each) for each in comparison.averages],
        "sentences": list(comparison.sentences),
        "problems": list(comparison.problems),
        "notes": list(comparison.notes),
    }


def comparison_csv(comparison: Comparison) -> str:
    """Give one line a pair, with a header line: those of families, then those of averages.

    Text that a spreadsheet would run as a formula is preceded by an apostrophe.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_HEADERS)
    for line in (*_lines_of_families(comparison), *_lines_of_averages(comparison)):
        writer.writerow([safe(line.get(header)) for header in _HEADERS])
    return stream.getvalue()


def _family(family: Family) -> dict[str, object]:
    content = asdict(family)
    content["group"] = dict(family.group)
    content["rows"] = [
        {**asdict(row), "difference": None if row.difference is None else row.difference._asdict()}
        for row in family.rows
    ]
    return content


def _refusal(refusal: Refusal) -> dict[str, object]:
    return {**asdict(refusal), "fields": [each._asdict() for each in refusal.fields]}


def _average(average: Average) -> dict[str, object]:
    return {**asdict(average), "rows": [_average_row(row) for row in average.rows]}


def _average_row(row: AverageRow) -> dict[str, object]:
    return {**asdict(row), "mean": row.mean._asdict()}


def _pair(pair: Pairwise) -> dict[str, object]:
    return {**asdict(pair), "warnings": "; ".join(pair.warnings)}


def _lines_of_families(comparison: Comparison) -> Iterator[dict[str, object]]:
    for family in comparison.families:
        for pair in family.pairs:
            first, second = family.rows[pair.first], family.rows[pair.second]
            yield {
                **_pair(pair),
                "task": family.task,
                "protocol": family.protocol,
                "group": "; ".join(f"{field} {value}" for field, value in family.group),
                "ruler": " ".join(family.digests),
                "metric": family.metric.metric,
                "first": family.standings[pair.first].label,
                "first_weights": first.weights,
                "second": family.standings[pair.second].label,
                "second_weights": second.weights,
                "first_rank": family.standings[pair.first].rank,
                "second_rank": family.standings[pair.second].rank,
                "common_subset": family.is_common_subset,
                "other_training": family.other_training,
                "first_records": " ".join(first.records),
                "second_records": " ".join(second.records),
            }


def _lines_of_averages(comparison: Comparison) -> Iterator[dict[str, object]]:
    for average in comparison.averages:
        for pair in average.pairs:
            first, second = average.rows[pair.first], average.rows[pair.second]
            yield {
                **_pair(pair),
                "suite": average.suite,
                "ruler": " ".join(average.digests),
                "metric": "mean",
                "first": first.label,
                "first_weights": first.weights,
                "second": second.label,
                "second_weights": second.weights,
                "first_rank": first.rank,
                "second_rank": second.rank,
            }

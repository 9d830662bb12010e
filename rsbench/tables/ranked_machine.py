"""Rankings for machines: JSON with everything in it, and CSV with one line a network and column.

Numbers are exact: fractions or the metric's own unit, never percent, never rounded.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from rsbench.stats import Estimate
from rsbench.tables.machine import safe
from rsbench.tables.ranking import RankedRow, Ranking, Rankings

_HEADERS = (
    *("suite", "limit", "rank", "backbone", "backbone_version", "weights", "weights_digest"),
    *("trained_on", "num_parameters", "inputs", "mean", "mean_low", "mean_high", "difference"),
    *("difference_low", "difference_high", "seconds_in_all", "marks", "task", "protocol", "column"),
    *("ruler", "metric", "value", "std", "low", "high", "n", "num_failed", "knows_task"),
    *("seconds", "cached", "records"),
)


def ranking_to_json(rankings: Rankings) -> str:
    """Give ``{"rankings": [...], "problems": [...]}``: the fields of `Ranking` by name.

    A mean, and a difference, is ``{"value", "low", "high"}`` or null; means of groups go by the
    groups' names.
    """
    content = {
        "rankings": [_ranking(each) for each in rankings.rankings],
        "problems": list(rankings.problems),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def ranking_to_csv(rankings: Rankings) -> str:
    """Give one line a network and column, with a header line; a column without a result has none.

    Text that a spreadsheet would run as a formula is preceded by an apostrophe.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_HEADERS)
    for ranking in rankings.rankings:
        for row in ranking.rows:
            for line in _lines(ranking, row):
                writer.writerow([safe(line.get(header)) for header in _HEADERS])
    return stream.getvalue()


def _ranking(ranking: Ranking) -> dict[str, object]:
    content = asdict(ranking)
    content["rows"] = [
        {
            **asdict(row),
            "mean": _estimate(row.mean),
            "difference": _estimate(row.difference),
            "groups": dict(zip(ranking.groups, map(_estimate, row.groups), strict=True)),
        }
        for row in ranking.rows
    ]
    return content


def _estimate(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()


def _lines(ranking: Ranking, row: RankedRow) -> list[dict[str, object]]:
    nothing: tuple[None, None, None] = (None, None, None)
    mean, mean_low, mean_high = row.mean or nothing
    difference, difference_low, difference_high = row.difference or nothing
    network: dict[str, object] = {
        **asdict(row),
        "suite": ranking.name,
        "limit": ranking.limit,
        "trained_on": " ".join(row.trained_on),
        "inputs": " ".join(row.inputs),
        "mean": mean,
        "mean_low": mean_low,
        "mean_high": mean_high,
        "difference": difference,
        "difference_low": difference_low,
        "difference_high": difference_high,
        "seconds_in_all": row.seconds,
        "marks": "; ".join(row.marks),
    }
    return [
        {
            **network,
            **asdict(cell.score),
            "task": column.task,
            "protocol": column.protocol,
            "column": column.label,
            "ruler": column.ruler,
            "metric": column.metric.metric,
            "num_failed": cell.num_failed,
            "knows_task": cell.knows_task,
            "seconds": cell.seconds,
            "cached": cell.cached,
            "records": " ".join(cell.records),
        }
        for cell, column in zip(row.cells, ranking.columns, strict=True)
        if cell is not None
    ]

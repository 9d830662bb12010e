"""Tables for machines: JSON with everything in it, and CSV with one line a row and metric.

Numbers are exact: fractions or the metric's own unit, never percent, never rounded.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from rsbench.tables.layout import clean
from rsbench.tables.table import Cell, Column, Row, Table, Tables

_HEADERS = (
    "task",
    "task_version",
    "split",
    "protocol",
    "protocol_version",
    "ruler",
    "backbone",
    "backbone_version",
    "weights",
    "weights_digest",
    "trained_on",
    "knows_task",
    "frames",
    "stride",
    "pixels",
    "crop_ratio",
    "interpolation",
    "antialias",
    "resizer",
    "resize_to",
    "lifting",
    "num_parameters",
    "seeds",
    "metric",
    "value",
    "std",
    "low",
    "high",
    "n",
    "folds",
    "difference",
    "difference_low",
    "difference_high",
    "num_evaluated",
    "num_failed",
    "num_expected",
    "num_missing",
    "num_official",
    "marks",
    "records",
)


def to_json(tables: Tables) -> str:
    """Give ``{"tables": [...], "problems": [...]}``: the fields of `Table` and `Row` by name.

    Each cell carries its metric; a difference is ``{"difference", "low", "high"}`` or null.
    """
    content = {
        "tables": [_table(table) for table in tables.tables],
        "problems": list(tables.problems),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def to_csv(tables: Tables) -> str:
    """Give one line a row and metric, with a header line; the difference stands at the headline.

    Text that a spreadsheet would run as a formula is preceded by an apostrophe.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_HEADERS)
    for table in tables.tables:
        for row in table.rows:
            for place, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
                values = _line(table, row, cell, column, headline=place == 0)
                writer.writerow([safe(values[header]) for header in _HEADERS])
    return stream.getvalue()


def _table(table: Table) -> dict[str, object]:
    content = asdict(table)
    content["unlike_first"] = [difference._asdict() for difference in table.unlike_first]
    content["rows"] = [_row(row, table) for row in table.rows]
    return content


def _row(row: Row, table: Table) -> dict[str, object]:
    content = asdict(row)
    content["cells"] = [
        None if cell is None else {"metric": column.metric, **asdict(cell)}
        for cell, column in zip(row.cells, table.columns, strict=True)
    ]
    content["difference"] = None if row.difference is None else row.difference._asdict()
    return content


def _line(
    table: Table, row: Row, cell: Cell | None, column: Column, *, headline: bool
) -> dict[str, object]:
    content: dict[str, object] = {
        **asdict(row),
        **({} if cell is None else asdict(cell)),
        "task": table.task,
        "task_version": table.task_version,
        "split": table.split,
        "protocol": table.protocol,
        "protocol_version": table.protocol_version,
        "ruler": table.digest,
        "metric": column.metric,
        "trained_on": " ".join(row.trained_on),
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "resize_to": "x".join(str(side) for side in row.resize_to),
        "marks": "; ".join(row.marks),
        "records": " ".join(row.records),
        # The row has a standard deviation of its pixels, the cell one over seeds.
        "std": None if cell is None else cell.std,
        "folds": "" if cell is None else " ".join(str(value) for value in cell.folds),
        "difference": None,
    }
    if headline and row.difference is not None:
        content["difference"] = row.difference.difference
        content["difference_low"] = row.difference.low
        content["difference_high"] = row.difference.high
    return {header: content.get(header) for header in _HEADERS}


def safe(value: object) -> object:
    """Give what CSV may hold: no formula, nothing for None."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = clean(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text

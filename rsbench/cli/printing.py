"""How several verbs put things into lines: records, columns, checks, sizes and durations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.findings import kinds_in_words
from rsbench.records.ruler import selected_on_test

if TYPE_CHECKING:
    from rsbench.checks import Check
    from rsbench.records.schema import RunRecord


def record_in_words(record: RunRecord) -> str:
    """Give the line of a record: its metrics, and how many items they stand on."""
    shown = []
    for metric in record.metrics:
        said = metric_in_words(metric.value, metric.low, metric.high, metric.higher_is_better)
        shown.append(f"{metric.name} {said}")
    data = record.data
    failed = f", {data.num_failed} unreadable scored wrong" if data.num_failed else ""
    if data.train_failed:
        failed += f", {len(data.train_failed)} unreadable left out of training"
    limit = "" if record.task.limit is None else f", limit {record.task.limit}"
    leaked = ", SELECTED ON THESE ITEMS" if selected_on_test(record.ruler) else ""
    return f"{', '.join(shown)} on {data.num_expected} items{failed}{limit}{leaked}"


def metric_in_words(
    value: float, low: float | None, high: float | None, higher_is_better: bool
) -> str:
    """Give a number with its interval, in percent where the tables have it so."""
    percent = higher_is_better and 0 <= value <= 1

    def said(number: float) -> str:
        return f"{100 * number:.1f}" if percent else f"{number:.4g}"

    if low is None or high is None:
        return said(value)
    return f"{said(value)} [{said(low)}, {said(high)}]"


def remarks_in_words(record: RunRecord) -> str:
    """Give one line that counts the items which were read with remarks, by kind; empty for none."""
    data = record.data
    sets = {
        "test": ("data.remarked", data.remarked),
        "train": ("data.train_remarked", data.train_remarked),
    }
    said = {what: entries for what, (_, entries) in sets.items() if entries}
    if not said:
        return ""
    numbers = {what: len({each["id"] for each in entries}) for what, entries in said.items()}
    counted = " and ".join(f"{number} {what}" for what, number in numbers.items())
    are = "item was" if sum(numbers.values()) == 1 else "items were"
    # Where folds test each other's training items, an item's remark counts once.
    distinct = {(each["id"], each["reason"]) for entries in said.values() for each in entries}
    kinds = kinds_in_words(reason for _, reason in sorted(distinct))
    where = " and ".join(sets[what][0] for what in said)
    return f"{counted} {are} read with remarks: {kinds}; see {where} in the record"


def record_json(record: RunRecord, path: Path) -> dict[str, Any]:
    """Give the object that ``--json`` prints for a record that lies at ``path``."""
    return {
        "record": str(path),
        "task": record.task.name,
        "sample": record.task.sample,
        "limit": record.task.limit,
        "backbone": record.backbone.name,
        "weights": record.weights.name,
        "protocol": record.protocol.name,
        "seed": record.seed,
        "selected_on_test": selected_on_test(record.ruler),
        "metrics": {
            metric.name: {"value": metric.value, "low": metric.low, "high": metric.high}
            for metric in record.metrics
        },
        "n_official": record.data.num_official,
        "n_expected": record.data.num_expected,
        "n_evaluated": record.data.num_evaluated,
        "n_failed": record.data.num_failed,
        "n_remarked": len({each["id"] for each in record.data.remarked}),
    }


def print_columns(lines: Sequence[tuple[str, ...]]) -> None:
    """Print lines of equally many cells, each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_checks(checks: Sequence[Check], *, as_json: bool) -> int:
    """Print what was checked; give the exit code, 1 if anything failed."""
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in checks], indent=1))
    else:
        for each in checks:
            click.echo(f"{'ok    ' if each.ok else 'FAILED'}  {each.name}: {each.detail}")
            if not each.ok and each.next_step:
                click.echo(f"        next: {each.next_step}")
    return 0 if all(each.ok for each in checks) else 1


def duration_in_words(seconds: float) -> str:
    """Give a duration as it is said: 45 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bytes_in_words(count: int) -> str:
    """Give a number of bytes in the unit that suits it: 512 B, 1.5 MiB."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"

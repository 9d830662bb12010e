"""`rsbench ls results`: the records of a folder, those of some names or days, in some order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rsbench.cli.printing import print_columns, record_in_words, record_json
from rsbench.errors import RsbenchError, UnknownNameError, suggest
from rsbench.records.ruler import selected_on_test

if TYPE_CHECKING:
    from rsbench.records.store import Stored

ORDERS = ("name", "created", "score", "seconds")
"""What records can be sorted by."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)([hd])")
_NAMES: Mapping[str, Callable[[Any], str]] = {
    "task": lambda record: record.task.name,
    "protocol": lambda record: record.protocol.name,
    "backbone": lambda record: record.backbone.name,
    "weights": lambda record: record.weights.name,
    "seed": lambda record: str(record.seed),
}
"""What records are filtered by -> what they are called by it."""


class Filters(NamedTuple):
    """Which records are wanted."""

    names: Mapping[str, str]
    """One of "task", "protocol", "backbone", "weights", "seed" -> the user's words: names with
    commas between them, in which * stands for any letters."""
    since: str | None
    """A day or time in ISO 8601 (UTC unless it says so), or an age: "7d", "12h"."""


def list_results(results: Path, filters: Filters, *, order: str, as_json: bool) -> None:
    """Print the records of a folder that pass the filters.

    Raises:
        RsbenchError: No record has a name that was asked for (the nearest is said), or `since` is
            no day.
    """
    from rsbench.records import store
    from rsbench.tables.layout import clean

    contents = store.read_all(results)
    chosen = _sorted(_chosen(contents.records, filters, results), order)
    if as_json:
        rows = [record_json(each.record, each.path) for each in chosen]
        click.echo(json.dumps(rows, indent=1))
    elif chosen:
        lines = [(each.name, record_in_words(each.record)) for each in chosen]
        print_columns([tuple(map(clean, line)) for line in lines])
    elif contents.records:
        click.echo(f"None of the {len(contents.records)} records of {results} is all of that.")
    else:
        click.echo(f"{results} holds no records.")
    for problem in contents.problems:
        click.echo(clean(f"rsbench: left out: {problem}"), err=True)


def _chosen(records: Sequence[Stored], filters: Filters, results: Path) -> list[Stored]:
    chosen = list(records)
    for noun, words in filters.names.items():
        called = _NAMES[noun]
        patterns = [word.strip() for word in words.split(",") if word.strip()]
        known = {called(each.record) for each in records}
        wanted = {name for name in known for pattern in patterns if matches(name, pattern)}
        for pattern in patterns:
            if not any(matches(name, pattern) for name in known):
                raise UnknownNameError(
                    f"{results} holds no result of {noun} {pattern!r}.{suggest(pattern, known)}"
                    f" `rsbench ls results --results {results}` lists all {len(records)}."
                )
        chosen = [each for each in chosen if called(each.record) in wanted]
    if filters.since is not None:
        start = _start_of(filters.since)
        chosen = [each for each in chosen if _created(each) >= start]
    return chosen


def matches(name: str, pattern: str) -> bool:
    """Compare a name with the user's word: as it is, or with * for any letters."""
    return name == pattern or ("*" in pattern and _glob(pattern).fullmatch(name) is not None)


def _glob(pattern: str) -> re.Pattern[str]:
    # Only the star is special: names hold brackets and question marks of their own.
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _start_of(since: str) -> datetime:
    try:
        if match := _AGE.fullmatch(since):
            hours = float(match[1]) * (24 if match[2] == "d" else 1)
            return datetime.now(UTC) - timedelta(hours=hours)
        start = datetime.fromisoformat(since)
    except (ValueError, OverflowError):
        raise RsbenchError(
            f"--since must be a day (2026-01-31), a time (2026-01-31T12:00), or an age (7d, 12h);"
            f" it was {since!r}."
        ) from None
    return start if start.tzinfo is not None else start.replace(tzinfo=UTC)


def _created(stored: Stored) -> datetime:
    try:
        created = datetime.fromisoformat(stored.record.created)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return created if created.tzinfo is not None else created.replace(tzinfo=UTC)


def _sorted(records: Sequence[Stored], order: str) -> list[Stored]:
    """Sort records: names from A on, the latest, the best and the longest first."""
    if order == "created":
        return sorted(records, key=_created, reverse=True)
    if order == "score":
        return sorted(records, key=_badness)
    if order == "seconds":
        return sorted(records, key=_seconds, reverse=True)
    return list(records)


def _badness(stored: Stored) -> float:
    if selected_on_test(stored.record.ruler):
        return math.inf  # It is no measure, and better than none.
    headline = stored.record.metrics[0]
    return -headline.value if headline.higher_is_better else headline.value


def _seconds(stored: Stored) -> float:
    seconds = stored.record.cost.get("seconds_total")
    return float(seconds) if isinstance(seconds, int | float) else 0.0

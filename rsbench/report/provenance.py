"""Every field of a record, folded away until somebody asks where a number comes from."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence

from rsbench.records.schema import MetricPart
from rsbench.records.store import Stored
from rsbench.report.anchors import anchor_of, table_anchor
from rsbench.report.bounds import Bounds
from rsbench.report.grid import Heading, Place, definitions, grid
from rsbench.report.markup import Markup, join, tag, wrappable
from rsbench.specs import Scalar
from rsbench.tables.layout import percent

_PARTS = ("task", "backbone", "weights", "protocol", "data")
_MAPPINGS = ("ruler", "cost", "environment", "views", "files")
_LISTED = ("failed", "missing", "train_failed", "remarked", "train_remarked")
"""Fields of the data that name items, of which there may be thousands."""


def provenance(stored: Stored, *, bounds: Bounds, table_digest: str) -> Markup:
    """Give all that a record says, as one element that opens.

    Args:
        stored: The record.
        bounds: How many items and steps are listed.
        table_digest: Of its ruler, for the way back to its table.
    """
    record = stored.record
    headline = record.metrics[0]
    what = f"{record.backbone.name}, {record.weights.name}, seed {record.seed}"
    own: dict[str, object] = {
        "name": stored.name,
        **{name: getattr(record, name) for name in ("key", "digest", "schema", "created", "seed")},
    }
    groups = [_group("record", own), _metrics(stored)]
    groups += [_part(name, getattr(record, name), bounds) for name in _PARTS]
    groups += [
        _group(name, mapping) for name in _MAPPINGS if (mapping := dict(getattr(record, name)))
    ]
    groups += [
        _trace(title, rows, bounds)
        for title, rows in (("selection", record.selection), ("learning curve", record.curve))
        if rows
    ]
    return tag(
        "details",
        tag(
            "summary",
            tag("span", wrappable(what), class_="what"),
            " ",
            tag("span", f"{_in_words(headline)}, n = {headline.n}", class_="said"),
        ),
        tag(
            "p",
            tag("a", "its table", href=f"#{table_anchor(table_digest)}"),
            " · to run it again and compare, in the results folder: ",
            # It will be pasted into a shell, and a file may be called anything.
            tag("code", f"rsbench reproduce {shlex.quote(stored.name)}"),
            class_="leads",
        ),
        tag("div", join(groups), class_="fields"),
        id=anchor_of(stored.name),
        class_="record",
    )


def short_line(stored: Stored) -> Sequence[Place]:
    """Give the line of a record whose fields are left out; its headings are `SHORT_HEADINGS`."""
    record = stored.record
    headline = record.metrics[0]
    return (
        Place(wrappable(stored.name), id_=anchor_of(stored.name)),
        Place(record.created),
        Place(headline.name),
        Place(f"{headline.value:.4g}", sort=headline.value),
        Place(str(headline.n), sort=headline.n),
        Place(tag("code", record.digest[:12])),
    )


SHORT_HEADINGS = (
    Heading("record"),
    Heading("created"),
    Heading("metric"),
    Heading("value", numeric=True),
    Heading("n", numeric=True),
    Heading("digest"),
)


def _part(name: str, part: object, bounds: Bounds) -> Markup:
    """Give one part of a record; what it maps or lists stands below its plain fields."""
    assert dataclasses.is_dataclass(part)
    fields: dict[str, object] = {}
    listed: list[Markup] = []
    for entry in dataclasses.fields(part):
        value = getattr(part, entry.name)
        if entry.name in _LISTED and value:
            fields[entry.name] = len(value)
            listed.append(_items(entry.name, value, bounds))
        elif isinstance(value, Mapping) and value:
            fields |= {f"{entry.name}.{key}": value[key] for key in sorted(value)}
        else:
            fields[entry.name] = value
    return _group(name, fields, *listed)


def _group(name: str, fields: Mapping[str, object], *more: Markup) -> Markup:
    pairs = ((wrappable(key), wrappable(shown(value))) for key, value in fields.items())
    return tag("section", tag("h5", name), definitions(pairs), *more)


def _items(name: str, entries: Sequence[object], bounds: Bounds) -> Markup:
    lines = [
        f"{entry.get('id', '')}: {entry.get('reason', '')}"
        if isinstance(entry, Mapping)
        else str(entry)
        for entry in entries[: bounds.listed_items]
    ]
    if len(entries) > len(lines):
        lines.append(f"and {len(entries) - len(lines)} more, in the record")
    listed = tag("ul", join(tag("li", wrappable(line)) for line in lines))
    return tag("details", tag("summary", f"{name}: {len(entries)}"), listed)


def _metrics(stored: Stored) -> Markup:
    headings = [Heading("metric"), Heading("value", numeric=True), Heading("95%", numeric=True)]
    headings += [Heading("n", numeric=True), Heading("level"), Heading("interval")]
    headings += [Heading("better"), Heading("folds")]
    rows = [
        (
            Place(metric.name),
            Place(repr(metric.value)),
            Place(_interval(metric)),
            Place(str(metric.n)),
            Place(metric.level),
            Place(metric.interval or "none"),
            Place("higher" if metric.higher_is_better else "lower"),
            Place(", ".join(map(repr, metric.folds)) or "-"),
        )
        for metric in stored.record.metrics
    ]
    table = grid(headings, rows, label=f"Metrics of {stored.name}", class_="plain")
    return tag("section", tag("h5", "metrics"), table, class_="wide")


def _in_words(metric: MetricPart) -> str:
    """Give a metric in percent where the tables most likely have it so."""
    if metric.higher_is_better and 0 <= metric.value <= 1:
        return f"{metric.name} {percent(metric.value, decimals=2)} %"
    return f"{metric.name} {metric.value:.4g}"


def _interval(metric: MetricPart) -> str:
    if metric.low is None or metric.high is None:
        return "-"
    return f"{metric.low!r}, {metric.high!r}"


def _trace(title: str, rows: Sequence[Mapping[str, Scalar]], bounds: Bounds) -> Markup:
    """Give the steps of a selection or a training as a table of its own."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: name not in ("chosen", "epoch", "fold"))
    headings = [
        Heading(name, numeric=all(_is_number(row.get(name, 0)) for row in rows)) for name in names
    ]
    kept = rows[: bounds.trace_rows]
    places = [[_trace_place(row.get(name, "")) for name in names] for row in kept]
    classes = ["chosen" if row.get("chosen") is True else None for row in kept]
    more = f", the first {len(kept)}" if len(kept) < len(rows) else ""
    table = grid(headings, places, label=title, class_="plain", row_classes=classes)
    summary = tag("summary", f"{title}: {len(rows)} steps{more}")
    return tag("section", tag("details", summary, table), class_="wide")


def _trace_place(value: Scalar) -> Place:
    if isinstance(value, float):
        return Place(f"{value:.6g}")
    return Place(shown(value))


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def shown(value: object) -> str:
    """Give a value of a record as text: exact, lists joined, nothing as "none"."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return json.dumps(dict(value), ensure_ascii=False) if value else "(empty)"
    if isinstance(value, Sequence):
        return ", ".join(shown(each) for each in value) or "(empty)"
    return repr(value) if isinstance(value, float) else str(value)

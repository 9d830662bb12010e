"""Match or drift: the record of a run made again, held to the first one field by field.

- What the first one says and the second one says otherwise is drift, floats within a tolerance
  excepted: on another machine the same run adds up in another order.
- When and where it ran, how long that took, and the steps by which a solver came to its solution
  may differ, and are listed apart; so are fields that the first record is too old to have.

Items are held to each other too: a score can be the same number while other items are wrong.

Shape letters: K classes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rsbench.records.predictions import PredictionTable
from rsbench.records.ruler import ABSENT, differences

TOLERANCE = 1e-4
"""How far scores of one network may lie apart with other batches, threads or machines."""

Kind = Literal["drift", "rounding", "free", "younger"]
"""What a difference is: drift; a float within the tolerance; what may differ; a field that the
first record is too old to have."""

_FREE = ("created", "key", "environment.", "cost.", "files.")
"""Fields that may differ, by how their names begin. A key is made of fields that are all compared,
and of what newer versions take into it."""

_IN_SHARES = ("metrics.",)
"""Computed fields on a scale of their own, where floats may lie apart by the tolerance itself."""

_COMPUTED = (*_IN_SHARES, "protocol.chosen.", "selection[", "curve[")
"""Fields that a run computes, by how their names begin: floats may lie apart by the tolerance as a
share of them. All other floats are settings."""

_COUNTED_COSTS = frozenset({"cost.num_parameters", "cost.macs_per_view", "cost.views"})
"""Costs that are counted and not measured."""

_FREE_ENDS = frozenset({"seconds", "iterations", "gradient_norm", "relative_gap", "ended"})
"""Computed fields that may differ, by the last part of their names: the time of an epoch, and the
way of a solver to a solution that is held to its own proof."""

_ROWS = ("selection", "curve")
"""Fields that are lists of mappings, compared row by row."""

_APART = frozenset({"schema", "digest", "ruler"})
"""Compared otherwise, or not at all: a digest is of all other fields."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A field that differs."""

    field: str
    before: Any
    """JSON value, or `ABSENT`."""
    after: Any
    kind: Kind

    @property
    def size(self) -> float:
        """How far two numbers, or lists of as many, lie apart; infinity for anything else."""
        return _apart(self.before, self.after)


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemChange:
    """An item whose prediction is another."""

    fold: str
    id: str
    before: str
    """Predicted class; "unreadable", or "" where a prediction is no class."""
    after: str
    target: str
    """The true class; "" likewise."""
    score_change: float
    """Of its scores, the largest; infinity where they can't be compared."""

    @property
    def label_changed(self) -> bool:
        """Whether it is taken for another class, or was read once only."""
        return self.before != self.after


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """The predictions of two records, held to each other."""

    num_both: int
    """Items that both have, by fold and id."""
    num_identical: int
    """Of these, predicted to the last bit."""
    lost: tuple[str, ...]
    """Ids that the first has alone."""
    gained: tuple[str, ...]
    """Ids that the second has alone."""
    num_other_targets: int
    """Items with another true class, or whatever a target is."""
    largest_change: float
    """Of a score, over all items."""
    changed: tuple[ItemChange, ...]
    """Items of another class, or with a score beyond the tolerance; the largest change first."""

    @property
    def match(self) -> bool:
        """Whether the same items are predicted alike."""
        return not (self.lost or self.gained or self.num_other_targets or self.changed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two records of what should be one run."""

    num_fields: int
    """That both were compared in."""
    tolerance: float
    changes: tuple[Change, ...]
    """In the order of the fields."""
    items: Items

    @property
    def match(self) -> bool:
        """Whether the second is the first made again."""
        return self.items.match and not self.of_kind("drift")

    def of_kind(self, kind: Kind) -> tuple[Change, ...]:
        """Give the changes of a kind."""
        return tuple(change for change in self.changes if change.kind == kind)


def compare(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    tables: tuple[PredictionTable, PredictionTable],
    classes: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Hold the record of a run made again to the first one.

    Args:
        before: JSON of the first record, as it was written.
        after: JSON of the second.
        tables: Predictions of both.
        classes: Names of the classes, for the items that changed; empty shows indices.
        tolerance: Scores and metrics no further apart than this are the same, and other floats
            that a run computes no further than this share of them.
    """
    changes = [
        *_field_changes(_flat(before), _flat(after), tolerance),
        *(
            Change(field=f"ruler.{field}", before=first, after=second, kind="drift")
            for field, first, second in differences(before["ruler"], after["ruler"])
        ),
    ]
    return Comparison(
        num_fields=len(_flat(before)) + len(before["ruler"]),
        tolerance=tolerance,
        changes=tuple(changes),
        items=_items(*tables, classes=classes, tolerance=tolerance),
    )


# ----------------------------------------------------------------------------------------- fields


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a record by dotted names; metrics by their own, rows by their number."""

    def fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON
        if isinstance(value, Mapping):
            for key, entry in value.items():
                yield from fields(entry, f"{name}.{key}" if name else key)
        elif name == "metrics":
            for entry in value:
                yield from fields(
                    {k: v for k, v in entry.items() if k != "name"}, f"{name}.{entry['name']}"
                )
        elif name in _ROWS:
            yield f"{name}.num_rows", len(value)
            for number, entry in enumerate(value):
                yield from fields(entry, f"{name}[{number}]")
        else:
            yield name, value

    plain = {key: record[key] for key in record if key not in _APART}
    # Their names begin with that of the record, which holds a part of its key.
    plain["files"] = {
        ".".join(name.rsplit(".", 2)[-2:]): digest for name, digest in record["files"].items()
    }
    return dict(fields(plain, ""))


def _field_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], tolerance: float
) -> Iterator[Change]:
    for field in dict.fromkeys([*before, *after]):
        first, second = before.get(field, ABSENT), after.get(field, ABSENT)
        # The rows that one of the two lacks are told by their number.
        if not _is_same(first, second) and _has_row(before, field) and _has_row(after, field):
            kind = _kind_of(field, first, second, tolerance)
            yield Change(field=field, before=first, after=second, kind=kind)


def _has_row(fields: Mapping[str, Any], field: str) -> bool:
    """Say whether a record is long enough to have a field, if it is one of a row."""
    name, _, rest = field.partition("[")
    if name not in _ROWS:
        return True
    return bool(int(rest.partition("]")[0]) < fields.get(f"{name}.num_rows", math.inf))


def _kind_of(field: str, before: Any, after: Any, tolerance: float) -> Kind:  # noqa: ANN401 - JSON
    is_free = field.startswith(_FREE) and field not in _COUNTED_COSTS
    is_way = field.startswith(_COMPUTED) and field.rpartition(".")[2] in _FREE_ENDS
    if is_free or is_way:
        return "free"
    if before is ABSENT:
        return "younger"
    absolute = tolerance if field.startswith(_IN_SHARES) else 0.0
    if field.startswith(_COMPUTED) and _is_close(before, after, tolerance, absolute):
        return "rounding"
    return "drift"


def _is_same(before: Any, after: Any) -> bool:  # noqa: ANN401 - JSON
    """Compare by meaning: 1 and 1.0 are one number, true is none."""
    if _is_number(before) and _is_number(after):
        return bool(before == after)
    return type(before) is type(after) and bool(before == after)


def _is_close(before: Any, after: Any, tolerance: float, absolute: float) -> bool:  # noqa: ANN401
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(
            _is_same(first, second) or _is_close(first, second, tolerance, absolute)
            for first, second in zip(before, after, strict=True)
        )
    if not (_is_number(before) and _is_number(after)):
        return False
    if isinstance(before, int) and isinstance(after, int):
        return False
    return math.isclose(before, after, rel_tol=tolerance, abs_tol=absolute)


def _apart(before: Any, after: Any) -> float:  # noqa: ANN401 - JSON
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return max(map(_apart, before, after), default=0.0)
    if _is_number(before) and _is_number(after):
        return abs(float(before) - float(after))
    return math.inf


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------ items


def _items(
    before: PredictionTable,
    after: PredictionTable,
    *,
    classes: Sequence[str],
    tolerance: float,
) -> Items:
    first, second = _by_item(before), _by_item(after)
    both = [key for key in first if key in second]
    num_identical = num_other_targets = 0
    largest = 0.0
    changed = []
    for key in both:
        (value, target), (other, other_target) = first[key], second[key]
        distance = _distance(value, other)
        num_identical += distance == 0
        num_other_targets += _distance(target, other_target) > 0
        largest = max(largest, distance)
        labels = [_label(each, before.kind, classes) for each in (value, other)]
        if labels[0] != labels[1] or distance > tolerance:
            shown = _label_of_target(target, before.kind, classes)
            changed.append(
                ItemChange(
                    fold=key[0],
                    id=key[1],
                    before=labels[0],
                    after=labels[1],
                    target=shown,
                    score_change=distance,
                )
            )
    return Items(
        num_both=len(both),
        num_identical=num_identical,
        lost=tuple(key[1] for key in first if key not in second),
        gained=tuple(key[1] for key in second if key not in first),
        num_other_targets=num_other_targets,
        largest_change=largest,
        changed=tuple(sorted(changed, key=lambda each: (-each.score_change, each.fold, each.id))),
    )


def _by_item(table: PredictionTable) -> dict[tuple[str, str, int], tuple[Any, Any]]:
    """Give (prediction, target) by fold, id, and how often it stood there before."""
    seen: Counter[tuple[str, str]] = Counter()
    found = {}
    for fold, item, prediction, target in zip(
        table.folds, table.ids, table.predictions, table.targets, strict=True
    ):
        found[fold, item, seen[fold, item]] = (prediction, target)
        seen[fold, item] += 1
    return found


def _distance(before: Any, after: Any) -> float:  # noqa: ANN401 - any prediction
    """Say how far two predictions lie apart: 0 for equal ones, infinity for unlike things."""
    if isinstance(before, np.ndarray | np.generic) and isinstance(after, np.ndarray | np.generic):
        return _array_distance(np.asarray(before), np.asarray(after))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if before.keys() != after.keys():
            return math.inf
        return max((_distance(before[key], after[key]) for key in before), default=0.0)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        if len(before) != len(after):
            return math.inf
        return max(map(_distance, before, after), default=0.0)
    if _is_number(before) and _is_number(after):
        return _array_distance(np.asarray(before), np.asarray(after))
    return 0.0 if type(before) is type(after) and before == after else math.inf


def _array_distance(before: np.ndarray, after: np.ndarray) -> float:
    if before.shape != after.shape:
        return math.inf
    if before.dtype.kind not in "biuf" or after.dtype.kind not in "biuf":
        return 0.0 if before.dtype == after.dtype and (before == after).all() else math.inf
    first, second = before.astype(np.float64), after.astype(np.float64)
    # Infinities of one sign are the same score; their difference is none.
    with np.errstate(invalid="ignore"):
        apart = np.where(first == second, 0.0, np.abs(first - second))
    largest = float(apart.max(initial=0.0))
    return math.inf if math.isnan(largest) else largest


def _label(value: Any, kind: str, classes: Sequence[str]) -> str:  # noqa: ANN401 - any prediction
    if value is None:
        return "unreadable"
    return _named(int(np.argmax(value)), classes) if kind == "class" else ""


def _label_of_target(target: Any, kind: str, classes: Sequence[str]) -> str:  # noqa: ANN401
    is_class = kind == "class" and isinstance(target, int | np.integer)
    return _named(int(target), classes) if is_class else ""


def _named(index: int, classes: Sequence[str]) -> str:
    return classes[index] if index < len(classes) else str(index)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Give a comparison as JSON values; infinities are null."""

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    items = comparison.items
    return {
        "match": comparison.match,
        "tolerance": comparison.tolerance,
        "num_fields": comparison.num_fields,
        "changes": [
            {"field": each.field, "kind": each.kind, "before": each.before, "after": each.after}
            for each in comparison.changes
        ],
        "items": {
            "match": items.match,
            "num_both": items.num_both,
            "num_identical": items.num_identical,
            "lost": list(items.lost),
            "gained": list(items.gained),
            "num_other_targets": items.num_other_targets,
            "largest_change": number(items.largest_change),
            "changed": [
                {
                    "fold": each.fold,
                    "id": each.id,
                    "before": each.before,
                    "after": each.after,
                    "target": each.target,
                    "label_changed": each.label_changed,
                    "score_change": number(each.score_change),
                }
                for each in items.changed
            ],
        },
    }

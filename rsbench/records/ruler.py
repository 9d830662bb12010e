"""The ruler: what must be equal for two numbers to share one column.

A ruler is a flat mapping of scalars. What a *row* may differ in (weights, frames, pixels, seed,
versions, device) is not part of it; the table prints it instead. A recipe enters entry by entry
(``recipe.lr``) as the rule, not as what the rule came to, so that two rulers which differ can say
where, and so that stating a default aloud (``--set lr=0.1`` where 0.1 is the default) changes
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rsbench.digests import digest_json
from rsbench.records.schema import DataPart, ProtocolPart, TaskPart
from rsbench.specs import Metric, Scalar

Ruler = Mapping[str, Scalar]

ABSENT = "(absent)"
"""Stands in a difference for a field that one of two rulers does not have."""

SELECTED_ON = "selected_on"
"""Field that says "test" where settings were selected on the reported items."""

IMPLIED: Mapping[str, Scalar] = {
    "cropper": "resizer@1",
    "recipe.train_sampler": "dense_random@1",
    SELECTED_ON: "other items",
}
"""Fields younger than the first records, with what their absence means. A ruler states them only
where they say something else, so that the old and the new of equal meaning share a column."""


class Difference(NamedTuple):
    """One field in which two rulers differ."""

    field: str
    first: Scalar
    second: Scalar


def make_ruler(
    *,
    task: TaskPart,
    protocol: ProtocolPart,
    data: DataPart,
    metrics: Sequence[Metric],
    averaging: str,
    failure_policy: str = "wrong",
) -> dict[str, Scalar]:
    """Build the ruler of a run from the parts of its record.

    Args:
        task: Name, version, split, whether a sample or a limited subset; digest of a plug-in file.
        protocol: Name, version, sampler, views, recipe as a rule; digest of a plug-in file.
        data: Fingerprints of the reported, train and validation items, and the form of the media.
        metrics: The task's metrics, the headline first.
        averaging: How folds are brought together: "pooled" or "mean".
        failure_policy: How failed items are scored: "wrong" counts them as wrong.

    Returns:
        Field -> scalar. Train and validation fingerprints stand in it only if the protocol trains,
        fields of `IMPLIED` only where they say something else.
    """
    ruler: dict[str, Scalar] = {
        "task": task.name,
        "task_version": task.version,
        "split": task.split,
        "sample": task.sample,
        "limit": task.limit,
        "data": data.fingerprint,
        "media": data.media,
        "num_folds": data.num_folds,
        "sampler": protocol.sampler,
        "clips": protocol.clips,
        "crops": protocol.crops,
        "cropper": protocol.cropper,
        "metrics": ", ".join(f"{metric.name} by {metric.level}" for metric in metrics),
        "averaging": averaging,
        "failure_policy": failure_policy,
        "protocol": protocol.name,
        "protocol_version": protocol.version,
    }
    if protocol.selected_on_test:
        ruler[SELECTED_ON] = "test"
    if protocol.trains:
        ruler["train"] = data.train_fingerprint
        ruler["validation"] = data.validation_fingerprint
    for key in sorted(protocol.recipe):
        ruler[f"recipe.{key}"] = protocol.recipe[key]
    if task.source_sha256 is not None:
        ruler["task_source"] = task.source_sha256
    if protocol.source_sha256 is not None:
        ruler["protocol_source"] = protocol.source_sha256
    return _stated(ruler)


def differences(first: Ruler, second: Ruler) -> list[Difference]:
    """List the fields in which two rulers differ, in the order of their names.

    A field that one ruler lacks is shown as what `IMPLIED` says of it, else as `ABSENT`. The
    numbers 1 and 1.0 are equal; 1 and true are not.
    """
    fields = sorted(first.keys() | second.keys())
    found = [Difference(field, _value(first, field), _value(second, field)) for field in fields]
    return [each for each in found if _comparable(each.first) != _comparable(each.second)]


def selected_on_test(ruler: Ruler) -> bool:
    """Say whether settings were selected on the reported items: no table may show the number."""
    return _value(ruler, SELECTED_ON) == "test"


def ruler_digest(ruler: Ruler) -> str:
    """Give the sha256 of a ruler; equal exactly where `differences` finds none."""
    return digest_json({field: _comparable(value) for field, value in _stated(ruler).items()})


def _stated(ruler: Ruler) -> dict[str, Scalar]:
    """Leave out what goes without saying."""
    return {
        field: value
        for field, value in ruler.items()
        if field not in IMPLIED or _comparable(value) != _comparable(IMPLIED[field])
    }


def _value(ruler: Ruler, field: str) -> Scalar:
    return ruler.get(field, IMPLIED.get(field, ABSENT))


def _comparable(value: Scalar) -> list[Scalar]:
    """Give a value that compares by JSON meaning: 1 equals 1.0, and true is no number."""
    if isinstance(value, bool):
        return ["truth", value]
    if isinstance(value, int | float):
        return ["number", repr(float(value)) if float(value) == value else str(value)]
    return ["text", value]

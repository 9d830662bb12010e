from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from records_factory import make_record

from rsbench.metrics import MEAN_PER_CLASS, TOP1, TOP5
from rsbench.records.ruler import ABSENT, differences, make_ruler, ruler_digest


def _fields_that_differ(**parts: Any) -> set[str]:
    first, second = make_record().ruler, make_record(**parts).ruler
    return {difference.field for difference in differences(first, second)}


@pytest.mark.parametrize(
    ("part", "field", "value", "named"),
    [
        ("task", "name", "kinetics400", "task"),
        ("task", "version", 2, "task_version"),
        ("task", "split", "test", "split"),
        ("task", "sample", False, "sample"),
        ("task", "limit", 100, "limit"),
        ("task", "source_sha256", "d" * 64, "task_source"),
        ("data", "fingerprint", "d" * 64, "data"),
        ("data", "train_fingerprint", "d" * 64, "train"),
        ("data", "validation_fingerprint", "d" * 64, "validation"),
        ("data", "media", "short-256", "media"),
        ("protocol", "name", "knn", "protocol"),
        ("protocol", "version", 2, "protocol_version"),
        ("protocol", "sampler", "psf@1", "sampler"),
        ("protocol", "clips", 10, "clips"),
        ("protocol", "crops", 3, "crops"),
        ("protocol", "cropper", "psf@1", "cropper"),
        ("protocol", "recipe", {"strengths": 45, "held_out": 0.1}, "recipe.held_out"),
        ("protocol", "source_sha256", "d" * 64, "protocol_source"),
    ],
)
def test_what_moves_a_number_is_in_the_ruler(
    part: str, field: str, value: object, named: str
) -> None:
    assert _fields_that_differ(**{part: {field: value}}) == {named}


@pytest.mark.parametrize(
    "parts",
    [
        {"backbone": {"name": "x", "frames": 32, "stride": 2, "pixels": 224, "crop_ratio": 0.9}},
        {"weights": {"name": "k400", "digest": "e" * 64, "init_seed": None}},
        {"seed": 7},
        {"environment": {"device": "cuda"}},
        {"protocol": {"chosen": {"strength": 9.0}}},
        {"data": {"num_train": 5}},
    ],
)
def test_what_a_row_may_differ_in_is_not_in_the_ruler(parts: dict[str, Any]) -> None:
    assert _fields_that_differ(**parts) == set()


def test_train_data_counts_only_where_the_protocol_trains() -> None:
    still = {"trains": False}
    first = make_record(protocol=still).ruler
    second = make_record(protocol=still, data={"train_fingerprint": "d" * 64}).ruler
    assert differences(first, second) == []


def test_metrics_level_averaging_and_failure_policy_are_in_the_ruler() -> None:
    record = make_record()

    def ruler(**changes: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = {"metrics": [TOP1, TOP5], "averaging": "pooled", **changes}
        return make_ruler(task=record.task, protocol=record.protocol, data=record.data, **arguments)

    assert ruler()["metrics"] == "top1 by item, top5 by item"
    for change in (
        {"metrics": [TOP1]},
        {"metrics": [MEAN_PER_CLASS, TOP5]},
        {"metrics": [replace(TOP1, level="class"), TOP5]},
        {"averaging": "mean"},
        {"failure_policy": "excluded"},
    ):
        assert len(differences(ruler(), ruler(**change))) == 1


def test_an_override_that_states_the_default_changes_nothing() -> None:
    assert _fields_that_differ(protocol={"overrides": {"held_out": 0.2}}) == set()


def test_a_field_that_one_ruler_lacks_is_absent() -> None:
    assert differences({"a": None}, {}) == [("a", None, ABSENT)]
    assert differences({"a": 1}, {"a": 1, "b": 2}) == [("b", ABSENT, 2)]


def test_what_goes_without_saying_is_not_said() -> None:
    # Records older than the choice of a cropper, or of training clips, have no such field.
    recipe = {"strengths": 45, "held_out": 0.2}
    old = make_record(protocol={"recipe": recipe}).ruler
    new = make_record(
        protocol={"recipe": {**recipe, "train_sampler": "dense_random@1"}, "cropper": "resizer@1"}
    ).ruler

    assert new == old
    assert "cropper" not in old


def test_a_field_that_goes_without_saying_shows_what_its_absence_means() -> None:
    old = make_record().ruler
    new = make_record(protocol={"cropper": "psf@1"}).ruler

    assert differences(old, new) == [("cropper", "resizer@1", "psf@1")]
    assert differences(new, old) == [("cropper", "psf@1", "resizer@1")]
    # However a ruler came to be: saying it aloud changes nothing.
    assert differences(old, {**old, "cropper": "resizer@1"}) == []
    assert ruler_digest(old) == ruler_digest({**old, "cropper": "resizer@1"})
    assert ruler_digest(old) != ruler_digest(new)


def test_one_is_one_point_nought_and_not_true() -> None:
    assert differences({"a": 1}, {"a": 1.0}) == []
    assert len(differences({"a": 1}, {"a": True})) == 1
    assert len(differences({"a": 1}, {"a": "1"})) == 1


_rulers = some.dictionaries(
    some.sampled_from(["a", "b", "cropper"]),
    some.one_of(
        some.none(),
        some.booleans(),
        some.integers(-2, 2),
        some.sampled_from([0.0, 1.0, 0.5, "1", "resizer@1"]),
    ),
)


@given(_rulers, _rulers)
def test_digests_are_equal_exactly_where_nothing_differs(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert (ruler_digest(first) == ruler_digest(second)) == (differences(first, second) == [])

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from records_factory import make_record

from rsbench.digests import digest_json
from rsbench.errors import RecordError
from rsbench.records.schema import SCHEMA_VERSION, RunRecord, from_json, seal, to_json


def _edited(change: Callable[[dict[str, Any]], object], *, reseal: bool = True) -> str:
    """Give a record's text after a change; resealed, so that only the change itself is wrong."""
    content = json.loads(to_json(make_record()))
    change(content)
    if reseal:
        content["digest"] = digest_json({k: v for k, v in content.items() if k != "digest"})
    return json.dumps(content)


def test_a_record_comes_back_equal() -> None:
    record = make_record(
        data={
            "missing": ("a", "b"),
            "failed": ({"id": "ü/1.mp4", "reason": "empty"},),
            "num_failed": 1,
            "num_evaluated": 159,
        },
        selection=({"strength": 0.1, "score": 1 / 3, "chosen": True, "note": None},),
    )
    assert from_json(to_json(record), where="r") == seal(record)


def test_floats_come_back_exactly() -> None:
    cost = {"a": 0.1 + 0.2, "b": 1e-320, "c": 2**53 + 1.0, "d": -0.0, "e": 1.0}
    back = from_json(to_json(make_record(cost=cost)), where="r").cost
    assert {key: repr(value) for key, value in back.items()} == {
        key: repr(value) for key, value in cost.items()
    }


def test_the_text_does_not_depend_on_the_order_of_mappings() -> None:
    one = make_record(cost={"a": 1, "b": 2})
    other = make_record(cost={"b": 2, "a": 1})
    assert to_json(one) == to_json(other)
    assert to_json(one).endswith("}\n")


def test_the_digest_is_sha256_of_the_canonical_rest() -> None:
    # Second source: the canonical form written out with json and hashlib.
    import hashlib

    content = json.loads(to_json(make_record()))
    stated = content.pop("digest")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert stated == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_changed_number_is_told_from_the_digest() -> None:
    def better(content: dict[str, Any]) -> None:
        content["metrics"][0]["value"] = 0.99

    with pytest.raises(RecordError, match=r"r\.json was edited by hand"):
        from_json(_edited(better, reseal=False), where="r.json")


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_an_emptied_digest_does_not_pass(digest: str) -> None:
    with pytest.raises(RecordError, match="edited by hand"):
        from_json(_edited(lambda content: content.update(digest=digest), reseal=False), where="r")


def test_a_record_cut_anywhere_is_refused_by_name() -> None:
    text = to_json(make_record())
    for length in range(0, len(text) - 2, 97):
        with pytest.raises(RecordError, match=r"^r\.json must be"):
            from_json(text[:length], where="r.json")


@pytest.mark.parametrize(
    "text", ["", "hello", "[1]", "null", "3", "[" * 100_000, '{"schema": NaN}']
)
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match=r"^r\.json must be"):
        from_json(text, where="r.json")


def test_a_newer_schema_is_named() -> None:
    text = _edited(lambda content: content.update(schema=2, novelty=[1]))
    with pytest.raises(
        RecordError, match=r"written by a newer rsbench \(schema 2, this one reads 1\)"
    ):
        from_json(text, where="r.json")


@pytest.mark.parametrize("schema", [0, -1, "1", True, None, 1.0])
def test_a_schema_that_never_was_is_refused(schema: object) -> None:
    with pytest.raises(RecordError, match="schema"):
        from_json(_edited(lambda content: content.update(schema=schema)), where="r.json")


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        (None, "seed", "0", r"record\.seed must be an integer, was '0'"),
        (None, "seed", 1.5, r"record\.seed must be an integer, was 1\.5"),
        (None, "seed", True, r"record\.seed must be an integer, was True"),
        (None, "key", None, r"record\.key must be text, was missing"),
        (None, "cost", [], r"record\.cost must be an object"),
        (None, "cost", {"a": [1]}, r"record\.cost\.a must be text or an integer or"),
        (None, "metrics", {}, r"record\.metrics must be a list"),
        (None, "metrics", [], "at least one metric"),
        (None, "metrics", [3], r"record\.metrics\[0\] must be an object"),
        ("task", "limit", "ten", r"record\.task\.limit must be an integer or null"),
        ("task", "sample", 1, r"record\.task\.sample must be true or false"),
        ("backbone", "mean", [0.5, "x"], r"record\.backbone\.mean\[1\] must be a number"),
        ("backbone", "wings", 2, r"record\.backbone has no field 'wings'"),
        ("data", "failed", [{"id": 3}], r"record\.data\.failed\[0\]\.id must be text"),
        ("data", "num_failed", 7, r"num_expected must be num_evaluated \+ num_failed"),
    ],
)
def test_a_wrong_field_is_named(part: str | None, field: str, value: object, message: str) -> None:
    def change(content: dict[str, Any]) -> None:
        (content if part is None else content[part])[field] = value

    with pytest.raises(RecordError, match=message):
        from_json(_edited(change), where="r.json")


def test_every_required_field_is_missed() -> None:
    optional = {"schema", "digest", "selection", "curve", "cost", "environment", "files", "views"}
    for field in fields(RunRecord):
        if field.name in optional:
            continue
        with pytest.raises(RecordError, match=f"'{field.name}', which is missing"):
            from_json(_edited(lambda content, name=field.name: content.pop(name)), where="r.json")


def test_a_record_older_than_remarks_and_view_scores_has_none() -> None:
    def as_before(content: dict[str, Any]) -> None:
        del content["data"]["remarked"], content["views"]

    old = from_json(_edited(as_before), where="old.json")

    assert (old.data.remarked, dict(old.views)) == ((), {})


def test_a_curve_comes_back_and_a_record_older_than_curves_has_none() -> None:
    row = {"fold": "split1", "epoch": 1, "steps": 12, "train_loss": 0.7, "held_out_top1": 1 / 3}
    record = make_record(curve=(row,))
    text = _edited(lambda content: content.pop("curve"))

    assert from_json(to_json(record), where="r").curve == (row,)
    assert from_json(text, where="r").curve == ()


def test_a_record_older_than_the_choice_of_resizer_means_torchvisions() -> None:
    def as_before(content: dict[str, Any]) -> None:
        del content["backbone"]["resizer"], content["backbone"]["resize_to"]

    backbone = from_json(_edited(as_before), where="old.json").backbone
    assert (backbone.resizer, backbone.resize_to) == ("torchvision", ())


def test_a_record_older_than_the_choice_of_cropper_means_the_resizers_own() -> None:
    old = from_json(_edited(lambda content: content["protocol"].pop("cropper")), where="old.json")

    assert old.protocol.cropper == "resizer@1"
    assert old.ruler == make_record().ruler


def test_a_size_that_frames_were_resized_to_comes_back() -> None:
    record = make_record(backbone={"resizer": "torchvision", "resize_to": (128, 171)})
    assert from_json(to_json(record), where="r").backbone.resize_to == (128, 171)


def test_a_name_twice_in_an_object_is_refused() -> None:
    text = to_json(make_record()).replace('"seed": 0,', '"seed": 0, "seed": 1,')
    with pytest.raises(RecordError, match="twice"):
        from_json(text, where="r.json")


def test_a_huge_number_is_not_taken_for_infinity() -> None:
    text = to_json(make_record()).replace("12.5", "1e999")
    with pytest.raises(RecordError, match="finite"):
        from_json(text, where="r.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j, object()])
def test_what_json_can_not_say_is_not_written(value: object) -> None:
    with pytest.raises(RecordError, match=r"record\.cost\.seconds"):
        to_json(make_record(cost={"seconds": value}))


def test_a_numpy_number_is_not_written_by_accident() -> None:
    import numpy as np

    with pytest.raises(RecordError, match=r"record\.cost\.seconds.*float32"):
        to_json(make_record(cost={"seconds": np.float32(1)}))


def test_text_that_is_not_unicode_is_not_written() -> None:
    with pytest.raises(RecordError, match="UTF-8"):
        to_json(make_record(cost={"name": "\udcff"}))


def test_errors_are_one_line() -> None:
    text = _edited(lambda content: content.update(key=["a\nb"] * 100))
    with pytest.raises(RecordError) as caught:
        from_json(text, where="r.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_sealing_a_sealed_record_changes_nothing() -> None:
    sealed = seal(make_record())
    assert seal(sealed) == sealed
    assert seal(replace(sealed, seed=5)).digest != sealed.digest
    assert sealed.schema == SCHEMA_VERSION


def test_an_integer_that_no_float_can_hold_is_named() -> None:
    text = _edited(lambda content: content["metrics"][0].update(value=10**400))
    with pytest.raises(RecordError, match=r"record\.metrics\[0\]\.value must be a finite number"):
        from_json(text, where="r")

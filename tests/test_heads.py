"""Fitted arrays come back as they were given, by fold, and equal ones are equal bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from rsbench.errors import RecordError
from rsbench.records import heads

CLASSES = ("cat", "dög", "ox")


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "weight": random.normal(size=(3, 4)),
        "bias": random.normal(size=3).astype(np.float32),
        "backbone.norm.num_batches_tracked": np.array(7, dtype=np.int64),
        "turned": random.normal(size=(2, 3)).T,
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_arrays_of_any_shape_come_back_with_their_classes() -> None:
    content = heads.to_bytes({"": arrays()}, classes=CLASSES)

    head = heads.from_bytes(content, fold=None, where="head")

    assert head.classes == CLASSES
    assert_same(dict(head.arrays), arrays())


def test_the_file_is_plain_safetensors_for_others() -> None:
    content = heads.to_bytes({"": arrays()}, classes=CLASSES)

    assert_same(load(content), arrays())


def test_equal_heads_are_equal_bytes() -> None:
    folds = {"one": arrays(1), "two": arrays(2)}

    assert len({heads.to_bytes(folds, classes=CLASSES) for _ in range(20)}) == 1


def test_each_fold_has_its_own_arrays() -> None:
    folds = {"fold1": arrays(1), "fold10": arrays(2)}
    content = heads.to_bytes(folds, classes=CLASSES)

    for name, expected in folds.items():
        assert_same(dict(heads.from_bytes(content, fold=name, where="head").arrays), expected)


def test_one_fold_with_a_name_need_not_be_named() -> None:
    content = heads.to_bytes({"only": arrays()}, classes=CLASSES)

    assert_same(dict(heads.from_bytes(content, fold=None, where="head").arrays), arrays())


@pytest.mark.parametrize(
    ("folds", "asked", "words"),
    [
        (("a", "b"), None, "one head for each of a, b; say which with --fold"),
        (("a", "b"), "c", "no fold 'c'; it has a, b"),
        (("",), "a", "no fold 'a'; it has one head only"),
    ],
)
def test_a_fold_that_is_not_there_is_named(
    folds: tuple[str, ...], asked: str | None, words: str
) -> None:
    content = heads.to_bytes({name: arrays() for name in folds}, classes=CLASSES)

    with pytest.raises(RecordError, match=words):
        heads.from_bytes(content, fold=asked, where="head")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no head",
        heads.to_bytes({"": arrays()}, classes=CLASSES)[:-5],
        save(arrays()),
        save(arrays(), metadata={"rsbench.head": json.dumps([1])}),
    ],
    ids=["empty", "text", "cut short", "of others", "of another form"],
)
def test_a_damaged_file_is_one_line_with_its_name(content: bytes) -> None:
    with pytest.raises(RecordError, match=r"^the head must be the safetensors") as caught:
        heads.from_bytes(content, fold=None, where="the head")
    assert "\n" not in str(caught.value)

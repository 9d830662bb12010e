"""Fitted arrays come back as they were given, by fold, and equal ones are equal bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from rsbench.errors import RecordError
from rsbench.records import heads
from rsbench.weights.shelf import metadata_of

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


HISTORY = heads.History(
    task="ucf101",
    version=3,
    before=("kinetics400",),
    is_complete=True,
    # The smallest and the largest of 8 bytes, and one that no float64 holds.
    learned={"one": {2**64 - 1, 0, 2**53 + 1}, "two": set()},
)


@pytest.mark.parametrize("fold", ["one", "two"])
def test_what_was_learned_comes_back_by_fold(tmp_path: Path, fold: str) -> None:
    path = tmp_path / "head"
    folds = {"one": arrays(1), "two": arrays(2)}
    path.write_bytes(heads.to_bytes(folds, classes=CLASSES, history=HISTORY))

    found = heads.read_history(path, metadata_of(path), fold=fold)

    assert found == replace(HISTORY, learned={fold: frozenset(HISTORY.learned[fold])})


@pytest.mark.parametrize("fold", ["one", ""])
def test_what_was_learned_is_no_array_of_the_head_and_equal_histories_are_equal_bytes(
    fold: str,
) -> None:
    history = replace(HISTORY, learned={fold: {3, 1, 2}})
    again = replace(HISTORY, learned={fold: [1, 2, 3]})
    content = heads.to_bytes({fold: arrays()}, classes=CLASSES, history=history)

    assert_same(dict(heads.from_bytes(content, fold=fold, where="head").arrays), arrays())
    assert content == heads.to_bytes({fold: arrays()}, classes=CLASSES, history=again)


def test_a_head_without_history_says_none(tmp_path: Path) -> None:
    path = tmp_path / "head"
    path.write_bytes(heads.to_bytes({"": arrays()}, classes=CLASSES))

    assert heads.read_history(path, metadata_of(path), fold="") is None


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

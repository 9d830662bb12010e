"""Folds, hold-outs and limits."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from rsbench.data.splits import group_folds, hold_out, limit_split, split_csv, stratified_folds
from rsbench.errors import DataError
from rsbench.specs import Item, Split


def _table(targets, fold_of, num_folds=5):
    """Counts of each class in each fold, (folds, classes)."""
    table = np.zeros((num_folds, max(targets) + 1), dtype=int)
    for target, fold in zip(targets, fold_of, strict=True):
        table[fold, target] += 1
    return table


def _split(targets):
    items = tuple(
        Item(id=f"{n:03d}.png", source=Path(f"{n:03d}.png"), target=target)
        for n, target in enumerate(targets)
    )
    return Split(items=items, classes=("a", "b", "c"), num_official=len(items))


def test_folds_are_as_balanced_as_scikit_learns():
    targets = [0] * 23 + [1] * 11 + [2] * 7
    ours = _table(targets, stratified_folds(targets, None).fold_of)

    theirs = np.zeros_like(ours)
    cut = StratifiedKFold(n_splits=5, shuffle=True, random_state=0).split(targets, targets)
    for fold, (_, test) in enumerate(cut):
        for row in test:
            theirs[fold, targets[row]] += 1

    assert np.array_equal(np.sort(ours, axis=0), np.sort(theirs, axis=0))
    assert np.ptp(ours.sum(axis=1)) <= 1


def test_folds_with_groups_are_as_balanced_as_scikit_learns():
    random = np.random.default_rng(3)
    groups = [f"g{n}" for n in random.integers(0, 30, size=300)]
    targets = [int(n) for n in random.integers(0, 3, size=300)]
    ours = _table(targets, stratified_folds(targets, groups).fold_of)

    theirs = np.zeros_like(ours)
    cut = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=0).split(
        targets, targets, groups
    )
    for fold, (_, test) in enumerate(cut):
        for row in test:
            theirs[fold, targets[row]] += 1

    assert ours.std(axis=0).sum() <= 1.2 * theirs.std(axis=0).sum()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=5, max_size=60))
def test_no_group_is_split_and_no_fold_is_empty(pairs):
    targets = [target for target, _ in pairs]
    groups = [f"g{group}" for _, group in pairs]
    try:
        fold_of = stratified_folds(targets, groups).fold_of
    except DataError as error:
        assert "at least" in str(error)
        return
    folds_of_group = {}
    for group, fold in zip(groups, fold_of, strict=True):
        folds_of_group.setdefault(group, set()).add(fold)
    assert all(len(folds) == 1 for folds in folds_of_group.values())
    assert set(fold_of) == set(range(5))


def test_folds_are_the_same_every_time_and_another_seed_gives_others():
    targets = [0, 1] * 30

    assert stratified_folds(targets, None) == stratified_folds(targets, None)
    assert stratified_folds(targets, None, seed=1) != stratified_folds(targets, None, seed=0)


def test_a_class_with_one_item_is_refused_by_name():
    with pytest.raises(DataError, match=r"class 'rare' must have at least 2 items.*it has 1"):
        stratified_folds([0] * 10 + [1], None, names=("common", "rare"))


def test_a_class_in_one_group_is_refused_by_name():
    groups = [f"g{n}" for n in range(10)] + ["h", "h"]

    with pytest.raises(DataError, match=r"class 'rare' must have at least 2 groups"):
        stratified_folds([0] * 10 + [1, 1], groups, names=("common", "rare"))


def test_a_class_with_fewer_items_than_folds_is_noted_by_name():
    plan = stratified_folds([0] * 10 + [1] * 3, None, names=("common", "rare"))

    assert plan.notes == ("class 'rare' has 3 items for 5 folds: some folds do not test it",)


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(DataError, match="at least 5 groups, there are 2"):
        stratified_folds([0, 1] * 10, ["a", "b"] * 10)


def test_hold_out_takes_its_share_of_every_class_and_keeps_groups_whole():
    # The video sample's case: 40 scenes of 8 classes, a scene is a group; a fifth is 8 scenes.
    targets = [row % 8 for row in range(320)]
    groups = [f"scene-{row // 8}" for row in range(320)]

    kept, held = hold_out(targets, groups, share=0.2)

    assert sorted(kept + held) == list(range(320))
    assert Counter(targets[row] for row in held) == dict.fromkeys(range(8), 8)
    assert not {groups[row] for row in kept} & {groups[row] for row in held}


def test_hold_out_holds_one_item_at_least_of_a_small_class_and_none_of_a_class_of_one():
    targets = [0] * 50 + [1] * 2 + [2]

    kept, held = hold_out(targets, None, share=0.1)

    assert Counter(targets[row] for row in held) == {0: 5, 1: 1}
    assert {0, 1, 2} == {targets[row] for row in kept}


def test_an_item_without_group_stands_alone_in_a_hold_out():
    kept, held = hold_out([0] * 10, [None] * 10, share=0.3)

    assert (len(kept), len(held)) == (7, 3)


def test_targets_that_are_no_classes_are_held_out_at_random():
    kept, held = hold_out([(1, 2), (), (3,), (1,)] * 5, None, share=0.25)

    assert (len(kept), len(held)) == (15, 5)


def test_a_limit_keeps_classes_balanced_and_the_order_of_items():
    split = _split([0] * 60 + [1] * 30 + [2] * 10)

    limited = limit_split(split, 20)

    assert Counter(item.target for item in limited.items) == {0: 12, 1: 6, 2: 2}
    assert [item.id for item in limited.items] == sorted(item.id for item in limited.items)
    assert limited.notes == ("limited to 20 of 100 items (seed 0)",)
    assert limited.num_official == 100


def test_a_smaller_limit_is_a_subset_of_a_larger_one():
    split = _split([n % 3 for n in range(50)])
    ids = [{item.id for item in limit_split(split, n).items} for n in (5, 10, 30)]

    assert ids[0] < ids[1] < ids[2]


def test_a_limit_is_stable_and_hangs_on_its_seed():
    split = _split([n % 3 for n in range(50)])

    assert limit_split(split, 9) == limit_split(split, 9)
    assert limit_split(split, 9).items != limit_split(split, 9, seed=1).items


def test_a_limit_that_is_not_reached_changes_nothing_and_one_below_1_is_refused():
    split = _split([0, 1, 2])

    assert limit_split(split, 3) is split
    with pytest.raises(DataError, match="at least 1 item, got 0"):
        limit_split(split, 0)


def test_a_saved_split_says_who_was_what():
    split = _split([0, 2])

    text = split_csv([("fold1", "test", split)], classes=split.classes)

    assert list(csv.DictReader(io.StringIO(text))) == [
        {"id": "000.png", "label": "a", "fold": "fold1", "role": "test"},
        {"id": "001.png", "label": "c", "fold": "fold1", "role": "test"},
    ]


def test_classes_smaller_than_the_folds_are_named_in_one_note() -> None:
    targets = [0] * 3 + [1] * 4 + [2] * 3 + [3] * 2 + [4] * 9
    plan = stratified_folds(targets, None, names=("a", "b", "c", "d", "e"), num_folds=5)

    assert plan.notes == (
        "4 classes have fewer items than the 5 folds, and some folds do not test them:"
        " 'a' (3), 'b' (4), 'c' (3), ...",
    )


def test_classes_that_lie_in_one_group_each_are_named_in_one_note() -> None:
    plan = group_folds([0, 1, 2, 2], ["x", "y", "x", "y"], names=("a", "b", "c"))

    assert plan.notes == ("2 classes lie in one fold only and are tested untrained: 'a', 'b'",)

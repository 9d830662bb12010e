"""Folds: which are run, what they are called, and what their sides share."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rsbench_tasks import ucf101

from rsbench.errors import DataError, UnknownNameError
from rsbench.gathering import Gathered, gather
from rsbench.records.knowledge import is_known_through
from rsbench.specs import Fold, Item, Split, Task

FOLDS = tuple(Fold(train=f"train{n}", test=f"test{n}", name=f"fold{n}") for n in range(1, 6))


def load(root: Path, name: str) -> Split:
    """Give ten items in five folds; fold n tests items 2n - 2 and 2n - 1."""
    number = int(name[-1])
    tested = {2 * number - 2, 2 * number - 1}
    rows = [row for row in range(10) if (row in tested) == name.startswith("test")]
    items = tuple(
        Item(id=f"item{row}", source=Path("x"), target=row % 2, group=f"group{row // 3}")
        for row in rows
    )
    return Split(items=items, classes=("even", "odd"), num_official=len(items))


TASK = replace(ucf101.TASK, name="toy", load=load, folds=FOLDS)
MADE_HERE = replace(TASK, folds=lambda root: FOLDS)


def gathered(*folds: str, task: Task = TASK, trains: bool = True) -> Gathered:
    return gather(task, Path(), limit=None, trains=trains, folds=folds)


def test_only_the_folds_asked_for_are_run_in_the_task_s_order() -> None:
    found = gathered("fold4", "fold2")

    assert [fold.name for fold in found.folds] == ["fold2", "fold4"]
    assert [item.id for fold in found.folds for item in fold.test.items] == [
        "item2", "item3", "item6", "item7"
    ]  # fmt: skip
    assert (found.num_expected, found.num_official, found.num_train) == (4, 4, 16)


def test_what_is_reported_names_its_folds_unless_it_is_all_of_many() -> None:
    assert gathered("fold2").split == "test2"
    assert gathered().split == "5 folds"
    # Four of five must not stand in a column with another four of five.
    assert gathered("fold1", "fold2", "fold3", "fold5").split == "test1+test2+test3+test5"


def test_part_of_the_folds_is_another_data_set_by_its_fingerprint() -> None:
    prints = {gathered(*folds).fingerprint for folds in ((), ("fold1",), ("fold2",))}

    assert len(prints) == 3


def test_an_unknown_fold_is_refused_and_so_is_one_of_a_task_without_folds() -> None:
    with pytest.raises(UnknownNameError, match=r"no fold 'fold9'; it has fold1, fold2, fold3"):
        gathered("fold1", "fold9")
    with pytest.raises(UnknownNameError, match="no folds to choose from; leave --folds out"):
        gathered("fold1", task=replace(TASK, folds=(Fold(train="train1", test="test1"),)))


def test_a_split_made_here_is_saved_whole_though_one_fold_is_run() -> None:
    text = gathered("fold2", task=MADE_HERE).split_csv

    assert text is not None
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["fold"] for row in rows} == {fold.name for fold in FOLDS}
    assert len(rows) == 10
    assert gathered("fold2").split_csv is None


def test_groups_on_both_sides_of_a_published_split_are_counted() -> None:
    # Fold 2 tests items 2 and 3, of groups 0 and 1; items 0, 1, 4 and 5 of these are in train.
    # Fold 5 tests 8 and 9: item 8 is of group 2 with 6 and 7, item 9 of group 3 alone.
    notes = gathered("fold2", "fold5").notes

    assert notes == (
        "fold2: 2 of 2 test items are of groups that train has too, e.g. 'group0'",
        "fold5: 1 of 2 test items are of groups that train has too, e.g. 'group2'",
    )
    assert gathered("fold2", trains=False).notes == ()


def test_counts_add_up_where_two_folds_test_the_same_missing_clip() -> None:
    # HMDB51's splits overlap: of three clips each, b and c are tested twice, and b is not here.
    def overlapping(root: Path, name: str) -> Split:
        ids = {"test1": "abc", "test2": "bcd"}[name]
        items = tuple(Item(id=each, source=Path(each), target=0) for each in ids if each != "b")
        return Split(items=items, classes=("p", "q"), num_official=3, missing=("b",))

    found = gathered("fold1", "fold2", task=replace(TASK, load=overlapping), trains=False)

    assert (found.num_official, found.num_expected) == (6, 4)
    assert found.missing == ("b", "b")


@pytest.mark.parametrize(
    ("trained_on", "is_noted"),
    [
        (("kinetics700",), True),
        (("imagenet1k", "kinetics700:fold1", "ssv2"), True),
        (("kinetics700@sample",), False),
        (("kinetics70",), False),
        ((), False),
    ],
)
def test_weights_that_know_the_data_through_another_task_are_noted(
    trained_on: tuple[str, ...], is_noted: bool
) -> None:
    task = replace(TASK, shares_data_with={"kinetics700": "its train split holds our tests"})

    found = gather(task, Path(), limit=None, trains=False, folds=["fold1"], trained_on=trained_on)

    said = "weights that learned on kinetics700 know this task's data through it: its train split"
    assert [note.startswith(said) for note in found.notes] == [True] * is_noted
    assert is_known_through(trained_on, found.notes) == is_noted
    assert not is_known_through(("imagenet1k",), found.notes)


def test_an_item_on_both_sides_is_refused() -> None:
    shared = replace(TASK, folds=(Fold(train="train1", test="test2"),))

    with pytest.raises(DataError, match="Item 'item2' of toy is in train and in test"):
        gathered(task=shared)


def test_training_items_of_a_single_class_are_noted_before_anything_runs() -> None:
    def load_even(root: Path, name: str) -> Split:
        split = load(root, name)
        items = split.items
        if name == "train2":
            items = tuple(replace(item, target=0) for item in items)
        return replace(split, items=items)

    task = replace(TASK, load=load_even)

    said = "fold2: all train items are of one class; a classifier needs two to learn from"
    assert said in gathered("fold1", "fold2", task=task).notes
    assert not any("one class" in note for note in gathered("fold1", task=task).notes)

"""Other folds than a task's own: K of them, or one a group, groups read off the ids."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import rsbench
from PIL import Image
from rsbench_tasks import ucf101
from sklearn.model_selection import LeaveOneGroupOut

from rsbench.data.refolding import Folding, folding_of, refolded, regrouped
from rsbench.errors import DataError, RsbenchError
from rsbench.gathering import Gathered, folds_of, gather
from rsbench.specs import Fold, Item, Split, Task

SEQUENCES = ("seq1", "seq2", "seq10")


def load(root: Path, name: str) -> Split:
    """Give 18 items, two of each of three classes in each of three sequences, in two splits."""
    items = tuple(
        Item(id=f"{sequence}_{label}_{number}.avi", source=Path("x"), target=label)
        for sequence in SEQUENCES
        for label in range(3)
        for number in range(2)
        if (sequence == "seq10") == (name == "test")
    )
    missing = ("seq10_9_9.avi",) if name == "test" else ()
    return Split(
        items=items,
        classes=("hug", "kick", "push"),
        num_official=len(items) + len(missing),
        missing=missing,
        notes=("of the data",),
        fold_notes=("of its own folds",),
    )


TASK = replace(
    ucf101.TASK,
    name="toy",
    load=load,
    folds=(Fold(train="train", test="test"),),
    metrics=ucf101.TASK.metrics[:1],
)


def _gathered(folding: Folding, task: Task = TASK, *folds: str) -> Gathered:
    made = refolded(task, Path(), folding, own_folds=folds_of(task, Path()))
    assert made.fold_average == "pooled"
    return gather(made, Path(), limit=None, trains=True, folds=folds)


def test_leaving_groups_out_gives_the_folds_of_scikit_learn() -> None:
    found = _gathered("groups", regrouped(TASK, r"^(seq\d+)_"))
    items = sorted(item.id for fold in found.folds for item in fold.test.items)
    groups = [each.partition("_")[0] for each in items]
    expected = {
        (frozenset(items[row] for row in train), frozenset(items[row] for row in test))
        for train, test in LeaveOneGroupOut().split(items, groups=groups)
    }

    assert [fold.name for fold in found.folds] == ["seq1", "seq10", "seq2"]
    assert {
        (
            frozenset(item.id for item in fold.train.items if fold.train),
            frozenset(item.id for item in fold.test.items),
        )
        for fold in found.folds
        if fold.train
    } == expected


@pytest.mark.parametrize("folding", [2, 3, 6])
def test_every_item_of_all_splits_is_tested_once_and_never_beside_itself(folding: int) -> None:
    found = _gathered(folding)
    tested = [item.id for fold in found.folds for item in fold.test.items]

    assert len(found.folds) == folding
    assert sorted(tested) == sorted(
        item.id for name in ("train", "test") for item in load(Path(), name).items
    )
    for fold in found.folds:
        assert fold.train is not None
        assert not {item.id for item in fold.train.items} & {item.id for item in fold.test.items}
        # Six items a class over two, three or six folds: 3, 2 or 1 of each.
        assert np.bincount(list(fold.test_targets)).tolist() == [6 // folding] * 3


def test_folds_keep_groups_whole() -> None:
    found = _gathered(2, regrouped(TASK, r"^(seq\d+)_"))

    for fold in found.folds:
        assert fold.train is not None
        assert not {i.group for i in fold.train.items} & {i.group for i in fold.test.items}


def test_counts_say_what_is_official_and_what_is_missing() -> None:
    found = _gathered(3)

    assert (found.num_official, found.num_expected, found.missing) == (19, 18, ("seq10_9_9.avi",))


def test_what_is_said_of_other_folds_is_not_said_of_these() -> None:
    ungrouped = _gathered(3).notes

    assert "of the data" in ungrouped
    assert "of its own folds" not in ungrouped
    assert any("18 of 18 items have no group" in note for note in ungrouped)
    assert not any("no group" in note for note in _gathered(3, regrouped(TASK, r"seq\d+")).notes)
    own = gather(TASK, Path(), limit=None, trains=True)
    assert {"of the data", "of its own folds"} <= set(own.notes)


def test_a_class_that_one_group_alone_has_is_named() -> None:
    notes = _gathered("groups", regrouped(TASK, r"_(\d)_")).notes

    said = "3 classes lie in one fold only and are tested untrained: 'hug', 'kick', 'push'"
    assert said in notes


def test_single_folds_can_be_run_and_the_whole_plan_is_saved() -> None:
    found = _gathered("groups", regrouped(TASK, r"^(seq\d+)_"), "seq2")

    assert [fold.name for fold in found.folds] == ["seq2"]
    assert found.split_csv is not None
    rows = list(csv.DictReader(io.StringIO(found.split_csv)))
    assert {row["fold"] for row in rows} == set(SEQUENCES)


def test_groups_whose_names_are_no_file_names_give_folds_that_are() -> None:
    def load_odd(root: Path, name: str) -> Split:
        split = load(root, name)
        groups = {"seq1": "a/b", "seq2": "a b", "seq10": "../"}
        items = tuple(replace(i, group=groups[i.id.partition("_")[0]]) for i in split.items)
        return replace(split, items=items)

    names = [fold.name for fold in _gathered("groups", replace(TASK, load=load_odd)).folds]

    assert names == ["group", "a_b", "a_b-2"]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (("a b", "a_b", "a_b-2"), ["a_b-3", "a_b", "a_b-2"]),
        (("a b", "a b-2", "a/b"), ["a_b", "a_b-2", "a_b-3"]),
        (("a b", "a b-2", "a b-2-2"), ["a_b", "a_b-2", "a_b-2-2"]),
        (("/", "group", "é"), ["group-2", "group", "group-3"]),
    ],
)
def test_no_two_groups_share_a_fold_s_name(groups: tuple[str, ...], names: list[str]) -> None:
    def load_odd(root: Path, name: str) -> Split:
        split = load(root, name)
        of = dict(zip(SEQUENCES, groups, strict=True))
        items = tuple(replace(i, group=of[i.id.partition("_")[0]]) for i in split.items)
        return replace(split, items=items)

    found = _gathered("groups", replace(TASK, load=load_odd))

    assert [fold.name for fold in found.folds] == names
    assert [{i.group for i in fold.test.items} for fold in found.folds] == [{g} for g in groups]


@pytest.mark.parametrize("text", ["1", "0", "-3", "2.5", "group", "", "٣"])
def test_a_word_that_is_no_folding_is_refused(text: str) -> None:
    with pytest.raises(RsbenchError, match="number of folds from 2 on, or the word groups"):
        folding_of(text)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "must be a regular expression; '\\(' is none: missing"),
        (r"^(clip\d)", "does not match 'seq1_0_0.avi'"),
        (r"^(z*)", "finds nothing in 'seq1_0_0.avi'"),
    ],
)
def test_a_pattern_that_gives_no_groups_is_refused_with_the_id(pattern: str, message: str) -> None:
    with pytest.raises(RsbenchError, match=message):
        regrouped(TASK, pattern).load(Path(), "train")


@pytest.mark.parametrize(
    ("pattern", "group"),
    [(r"seq\d", "seq1"), (r"^(\w)\w*_(\d)", "s/0"), (r"^(x)?(seq)", "/seq")],
)
def test_a_group_is_what_the_parentheses_hold_or_the_whole_match(pattern: str, group: str) -> None:
    assert regrouped(TASK, pattern).load(Path(), "train").items[0].group == group


def test_groups_that_are_not_there_or_too_few_are_refused() -> None:
    with pytest.raises(DataError, match=r"18 of 18 of toy have none, e\.g\. 'seq10_0_0\.avi'"):
        _gathered("groups")
    with pytest.raises(DataError, match="at least 2 groups, there is 1"):
        _gathered("groups", regrouped(TASK, "seq"))
    with pytest.raises(DataError, match="19 folds need at least 19 items, there are 18"):
        _gathered(19)


def test_an_item_with_two_classes_is_refused() -> None:
    def load_twice(root: Path, name: str) -> Split:
        split = load(root, "train")
        shifted = tuple(replace(item, target=(item.target + 1) % 3) for item in split.items)
        return replace(split, items=shifted) if name == "test" else split

    with pytest.raises(DataError, match="has another class in another split"):
        _gathered(3, replace(TASK, load=load_twice))


# -------------------------------------------------------------------------- on the command line


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write two classes by three people, three pictures each, without splits."""
    generator = np.random.default_rng(0)
    for index, name in enumerate(("bright", "dark")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(9):
            pixels = generator.normal(180 - 120 * index, 20, (16, 16, 3)).clip(0, 255)
            path = tmp_path / "data" / name / f"person{number % 3}_{number}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path / "data"


def test_a_run_with_other_folds_says_so_in_its_ruler_and_its_table(pictures: Path) -> None:
    results = pictures.parent / "results"
    words = ("run", "--task", "folder", "--data", pictures, "--backbone", "tiny_2d")
    words = (*words, "--pixels", "16", "--set", "strengths=2", "--results", results)
    regex = r"(person\d)_"

    plain = rsbench(*words)
    left_out = rsbench(*words, "--cross-validate", "groups", "--group-by", regex)
    again = rsbench(*words, "--cross-validate", "groups", "--group-by", regex)
    records = [json.loads(path.read_text()) for path in sorted(results.glob("runs/**/*.json"))]
    by_folds = {each["data"]["num_folds"]: each for each in records}

    assert (plain.code, left_out.code, again.code) == (0, 0, 0), left_out.err
    assert "finished before" in again.out
    assert set(by_folds) == {5, 3}
    ruler = by_folds[3]["ruler"]
    assert (ruler["cross_validate"], ruler["group_by"]) == ("groups", regex)
    assert "cross_validate" not in by_folds[5]["ruler"]
    assert by_folds[3]["data"]["num_expected"] == 18
    # Titles break where the terminal is narrow.
    printed = " ".join(left_out.out.split())
    assert "(each group left out in turn, groups by (person\\d)_)" in printed
    # What is said of folds that rsbench makes by itself does not hold of these.
    assert "without groups" in plain.out
    assert "without groups" not in left_out.out


def test_a_pattern_without_other_folds_is_held_to_every_id_too(pictures: Path) -> None:
    answer = rsbench(
        *("run", "--task", "folder", "--data", pictures, "--backbone", "tiny_2d", "--dry-run"),
        *("--pixels", "16", "--group-by", "nobody"),
    )

    assert answer.code == 2
    assert "'nobody' does not match 'bright/person0_0.png'" in answer.err

"""Digits: scikit-learn's own pictures and its own halves, whatever else is configured."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import rsbench
from rsbench_tasks.digits import FILE, NUM_OFFICIAL, TASK
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from rsbench.data.roots import find_root
from rsbench.errors import DataError
from rsbench.specs import Split


def _split(name: str) -> Split:
    root = find_root(TASK)
    assert root is not None
    return TASK.load(root.path, name)


def test_pictures_digits_and_halves_are_those_of_scikit_learn() -> None:
    # https://scikit-learn.org/stable/auto_examples/classification/plot_digits_classification.html
    digits = load_digits()
    train_N64, test_N64, train_N, test_N = train_test_split(
        digits.data, digits.target, test_size=0.5, shuffle=False
    )

    for name, grey_N64, digit_N in (("train", train_N64, train_N), ("test", test_N64, test_N)):
        split = _split(name)
        assert [item.target for item in split.items] == digit_N.tolist()
        assert len(split.items) == split.num_official == NUM_OFFICIAL[name]
        for item, grey_64 in zip(split.items, grey_N64, strict=True):
            assert isinstance(item.source, np.ndarray)
            assert item.source.shape == (8, 8, 3)
            for channel in range(3):
                np.testing.assert_array_equal(
                    item.source[..., channel].ravel(), np.rint(grey_64 * 255 / 16)
                )


def test_scikit_learn_s_own_classifier_reads_them_as_well_as_its_example_prints() -> None:
    # The example (gamma=0.001 on grey values from 0 to 16) prints an accuracy of 0.97.
    train, test = ((np.stack([i.source for i in s.items])[..., 0].reshape(-1, 64), s)
                   for s in (_split("train"), _split("test")))  # fmt: skip
    machine = SVC(gamma=0.001)
    machine.fit(train[0] * (16 / 255), [item.target for item in train[1].items])
    right = machine.predict(test[0] * (16 / 255)) == [item.target for item in test[1].items]

    assert round(float(right.mean()), 2) == 0.97


def test_they_are_real_data_that_nobody_has_to_configure(tmp_path: Path) -> None:
    answer = rsbench(
        *("run", "--task", "digits", "--backbone", "tiny_2d", "--limit", "20", "--pixels", "16"),
        *("--set", "strengths=2", "--results", tmp_path / "results"),
    )

    assert answer.code == 0, answer.err
    assert "digits · tiny_2d" in answer.out
    assert "synthetic" not in answer.out
    assert "sample" not in answer.out


def test_a_package_without_the_file_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="must come with the package scikit-learn, and is not in"):
        find_root(replace(TASK, package="scikit-learn:sklearn/datasets/data/letters.csv.gz"))


_ZEROS = ",".join(["0"] * 65) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,4\n", "lines of 65 numbers; it holds 2 of 2"),
        ("1,x\n", "must hold whole numbers by commas"),
        (_ZEROS, "two or more lines"),
        (_ZEROS + ",".join(["17"] * 65), "line 2 "),
        ((",".join(["0"] * 64 + ["10"]) + "\n") * 2, "line 1 must hold"),
        (_ZEROS * 1796, "1,797 .* holds 1,796;"),
        (_ZEROS * 1798, "1,797 .* holds 1,798;"),
        # A hundred million blanks, in 97 kB.
        (" " * 100_000_000, "more than 1,048,576 bytes"),
    ],
    ids=["short", "words", "one", "grey", "label", "fewer", "more", "bomb"],
)
def test_a_file_that_is_not_theirs_is_refused_by_name(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / FILE).write_bytes(gzip.compress(text.encode()))

    with pytest.raises(DataError, match=message):
        TASK.load(tmp_path, "train")


def test_a_file_that_is_no_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no gzip")

    with pytest.raises(DataError, match=r"can't be read .BadGzipFile."):
        TASK.load(tmp_path, "train")


def test_the_sample_says_that_it_holds_other_digits(tmp_path: Path) -> None:
    TASK.sample.write(tmp_path)

    split = TASK.load(tmp_path, "test")
    assert split.num_official == len(split.items) == 30
    assert split.notes == ("seven_segments.csv.gz holds 60 pictures, not scikit-learn's 1,797",)
    assert TASK.load(tmp_path / "seven_segments.csv.gz", "test").notes == split.notes
    assert _split("test").notes == ()


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the splits train and test, not 'validation'"):
        TASK.load(tmp_path, "validation")

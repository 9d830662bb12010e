"""Jester over 20BN's lists and mmaction2's."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_world import labels, touch, write
from rsbench_tasks.jester import TASK

from rsbench.errors import DataError

# The classes of 20BN's jester-v1-labels.csv, as mmaction2's tools/data/jester/label_map.txt.
GESTURES = (
    *("Swiping Left", "Swiping Right", "Swiping Down", "Swiping Up", "Pushing Hand Away"),
    *("Pulling Hand In", "Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    *("Sliding Two Fingers Down", "Sliding Two Fingers Up", "Pushing Two Fingers Away"),
    *("Pulling Two Fingers In", "Rolling Hand Forward", "Rolling Hand Backward"),
    *("Turning Hand Clockwise", "Turning Hand Counterclockwise", "Zooming In With Full Hand"),
    *("Zooming Out With Full Hand", "Zooming In With Two Fingers"),
    *("Zooming Out With Two Fingers", "Thumb Up", "Thumb Down", "Shaking Hand", "Stop Sign"),
    *("Drumming Fingers", "No gesture", "Doing other things"),
)


@pytest.fixture(params=["", "annotations/"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write(tmp_path, f"{request.param}jester-v1-labels.csv", *GESTURES)
    write(tmp_path, f"{request.param}jester-v1-train.csv", "34870;Drumming Fingers")
    write(tmp_path, f"{request.param}jester-v1-validation.csv", "9223;Swiping Left", "7;Thumb Up")
    write(tmp_path, f"{request.param}jester-v1-test.csv", "142525", "144373")
    touch(tmp_path, "20bn-jester-v1/34870/00001.jpg", "20bn-jester-v1/9223/00001.jpg")
    return tmp_path


def test_20bn_s_lists_and_folders_of_frames_are_read(root):
    split = TASK.load(root, "validation")

    assert labels(split) == {"9223": "Swiping Left"}
    assert labels(TASK.load(root, "train")) == {"34870": "Drumming Fingers"}
    (item,) = split.items
    assert item.source == root / "20bn-jester-v1" / "9223"
    # The frames were extracted at 12 a second (the data set's page).
    assert item.fps == 12.0
    assert split.classes == GESTURES
    assert split.media == "frames@12"
    assert split.missing == ("7",)
    # The data set's paper: 118,562 train, 14,787 validation of 148,092 in all (14,743 test).
    assert (split.num_official, TASK.load(root, "train").num_official) == (14_787, 118_562)
    assert 118_562 + 14_787 + 14_743 == 148_092


def test_a_list_without_gestures_is_refused(root):
    (validation,) = root.rglob("jester-v1-validation.csv")
    write(validation.parent, validation.name, "142525")

    with pytest.raises(DataError, match=r"line 1: a line must be 'id;gesture'.* test set"):
        TASK.load(root, "validation")


def test_a_gesture_outside_the_classes_is_refused_with_the_nearest(root):
    (validation,) = root.rglob("jester-v1-validation.csv")
    write(validation.parent, validation.name, "9223;Swiping Lefft")

    with pytest.raises(DataError, match="did you mean 'Swiping Left'"):
        TASK.load(root, "validation")


def test_the_test_split_is_refused(root):
    with pytest.raises(DataError, match="has the splits train and validation, not 'test'"):
        TASK.load(root, "test")


def test_mmaction2_s_rawframe_list_is_read(tmp_path):
    write(tmp_path, "annotations/jester-v1-labels.csv", *GESTURES)
    write(tmp_path, "jester_val_list_rawframes.txt", "9223 37 0")
    touch(tmp_path, "rawframes/9223/00001.jpg")

    split = TASK.load(tmp_path, "validation")

    assert labels(split) == {"9223": "Swiping Left"}
    assert split.items[0].num_frames_listed == 37


def test_directions_forbid_flips():
    assert not TASK.flip

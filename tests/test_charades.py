"""Charades over its own lists and SlowFast's; a video may have any number of labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_world import labels, touch, write
from rsbench_tasks.charades import TASK

from rsbench.errors import DataError
from rsbench.metrics import MEAN_AVERAGE_PRECISION

HEADER = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
CLASSES = ("Holding some clothes", "Putting clothes somewhere", "Taking some clothes")


def row(clip: str, actions: str, *, subject: str = "HR43") -> str:
    return f'{clip},{subject},Kitchen,6,7,Yes,"A person cooks, and laughs.",,a;b,{actions},24.83'


@pytest.fixture(params=["", "Charades/", "annotations/"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    where = request.param
    write(tmp_path, f"{where}Charades_v1_classes.txt",
          *(f"c{index:03d} {name}" for index, name in enumerate(CLASSES)))  # fmt: skip
    write(tmp_path, f"{where}Charades_v1_train.csv", HEADER, row("46GP8", "c001 0.00 3.20"))
    write(tmp_path, f"{where}Charades_v1_test.csv", HEADER,
          row("YSKX3", "c002 11.90 21.20;c000 0.00 12.60;c002 1.00 2.00", subject="XXN9"),
          row("N11GT", ""))  # fmt: skip
    touch(tmp_path, "Charades_v1_480/46GP8.mp4", "Charades_v1_480/YSKX3.mp4")
    touch(tmp_path, "Charades_v1_480/N11GT.mp4")
    return tmp_path


def test_a_video_s_labels_are_all_its_actions_once(root):
    split = TASK.load(root, "test")

    assert labels(split) == {
        "N11GT": (),
        "YSKX3": ("Holding some clothes", "Taking some clothes"),
    }
    assert split.classes == CLASSES
    assert [item.group for item in split.items] == ["HR43", "XXN9"]
    assert [item.fps for item in split.items] == [None, None]
    assert split.media == "480p"
    assert "1 of 2 videos of test show no action of any class" in split.notes


def test_157_classes_are_the_official_ones_with_the_official_counts(root):
    (path,) = root.rglob("Charades_v1_classes.txt")
    write(path.parent, path.name, *(f"c{index:03d} action {index}" for index in range(157)))

    # arXiv:1604.01753: 9,848 videos, 7,985 for training and 1,863 for testing.
    assert TASK.load(root, "train").num_official == 7_985
    assert TASK.load(root, "test").num_official == 1_863
    assert 7_985 + 1_863 == 9_848


def test_originals_and_published_frames_are_other_forms_of_media(root):
    (root / "Charades_v1_480").rename(root / "Charades_v1")
    assert TASK.load(root, "test").media == "original"
    (root / "Charades_v1").rename(root / "elsewhere")
    touch(root, "Charades_v1_rgb/YSKX3/YSKX3-000001.jpg")

    split = TASK.load(root, "test")

    assert split.media == "frames@24"
    (item,) = split.items
    # The README of the data set: "extracted at 24fps".
    assert item.fps == 24.0
    assert split.missing == ("N11GT",)


# SlowFast's own name, and the one mmaction2 gives the same file (tools/data/charades).
@pytest.mark.parametrize(
    "name", ["frame_lists/val.csv", "annotations/charades_val_list_rawframes.csv"]
)
def test_slowfast_s_frame_list_joins_the_labels_of_a_video_s_frames(tmp_path, name):
    write(tmp_path, "Charades_v1_classes.txt",
          *(f"c{index:03d} {name}" for index, name in enumerate(CLASSES)))  # fmt: skip
    write(tmp_path, name, "original_vido_id video_id frame_id path labels",
          'YSKX3 0 0 YSKX3/YSKX3-000001.jpg "2"', 'YSKX3 0 1 YSKX3/YSKX3-000002.jpg "2,0"',
          'N11GT 1 0 N11GT/N11GT-000001.jpg ""')  # fmt: skip
    touch(tmp_path, "Charades_v1_rgb/YSKX3/YSKX3-000001.jpg", "Charades_v1_rgb/N11GT/1.jpg")

    split = TASK.load(tmp_path, "test")

    assert labels(split) == {
        "N11GT": (),
        "YSKX3": ("Holding some clothes", "Taking some clothes"),
    }
    assert {item.id: item.num_frames_listed for item in split.items} == {"YSKX3": 2, "N11GT": 1}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("c003 0.00 3.20", "line 2: label 3 must be a class index from 0 to 2"),
        ("c001 0.00", "line 2: an action must read 'c092 11.90 21.20', got 'c001 0.00'"),
        ("1 0.00 3.20", "line 2: an action must read"),
    ],
)
def test_an_action_that_can_not_be_right_is_refused(root, actions, message):
    (path,) = root.rglob("Charades_v1_test.csv")
    write(path.parent, path.name, HEADER, row("YSKX3", actions))

    with pytest.raises(DataError, match=message):
        TASK.load(root, "test")


def test_classes_in_another_order_are_refused(root):
    (path,) = root.rglob("Charades_v1_classes.txt")
    write(path.parent, path.name, "c000 a", "c002 b", "c001 c")

    with pytest.raises(DataError, match="class 1 must read 'c001 name', it is 'c002 b'"):
        TASK.load(root, "test")


def test_the_score_is_mean_average_precision():
    assert TASK.target == "multilabel"
    assert TASK.metrics == (MEAN_AVERAGE_PRECISION,)

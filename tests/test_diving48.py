"""Diving48 V2 over its own lists and mmaction2's."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_world import labels, touch, write, write_json
from rsbench_tasks.diving48 import TASK

from rsbench.errors import DataError

VOCABULARY = [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]]
DIVE = {"vid_name": "_8Vy3dlHg2w_00000", "label": 1, "start_frame": 0, "end_frame": 183}


@pytest.fixture(params=["", "annotations/"])
def root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_json(tmp_path, f"{request.param}Diving48_vocab.json", VOCABULARY)
    second = {**DIVE, "vid_name": "_8Vy3dlHg2w_00001", "label": 0}
    write_json(tmp_path, f"{request.param}Diving48_V2_train.json", [DIVE, second])
    write_json(tmp_path, f"{request.param}Diving48_V2_test.json", [{**DIVE, "vid_name": "a_b_00"}])
    touch(tmp_path, "rgb/_8Vy3dlHg2w_00000.mp4", "rgb/_8Vy3dlHg2w_00001.mp4", "rgb/a_b_00.mp4")
    return tmp_path


def test_lists_of_v2_are_read_and_dives_of_a_recording_stay_together(root):
    train, test = TASK.load(root, "train"), TASK.load(root, "test")

    # Names as in mmaction2's tools/data/diving48/label_map.txt.
    assert labels(train) == {
        "_8Vy3dlHg2w_00000": "Back+15som+15Twis+FREE",
        "_8Vy3dlHg2w_00001": "Back+15som+05Twis+FREE",
    }
    assert [item.group for item in train.items] == ["_8Vy3dlHg2w"] * 2
    assert test.items[0].group == "a_b"
    assert (test.items[0].start_seconds, test.items[0].end_seconds) == (None, None)


def test_48_dives_are_the_official_ones_with_the_official_counts(root):
    (vocabulary,) = root.rglob("Diving48_vocab.json")
    dives = [["Back", f"{number}som"] for number in range(48)]
    write_json(vocabulary.parent, vocabulary.name, dives)

    assert TASK.load(root, "train").num_official == 15_027
    assert TASK.load(root, "test").num_official == 1_970


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 2}, "dive 1: label 2 must be a class index from 0 to 1"),
        ({"label": "Back"}, "dive 1: label must be a class index, got 'Back'"),
        ({"label": True}, "dive 1: label must be a class index, got True"),
        ({"vid_name": "../x"}, "vid_name must be the name of a file"),
    ],
)
def test_a_dive_that_can_not_be_right_is_refused(root, change, message):
    (path,) = root.rglob("Diving48_V2_test.json")
    write_json(path.parent, path.name, [{**DIVE, **change}])

    with pytest.raises(DataError, match=message):
        TASK.load(root, "test")


def test_a_vocabulary_of_another_form_is_refused(root):
    (path,) = root.rglob("Diving48_vocab.json")
    write_json(path.parent, path.name, {"0": "Back"})

    with pytest.raises(DataError, match="must be a JSON list of dives, each a list of words"):
        TASK.load(root, "test")


def test_the_lists_of_v1_are_not_read(tmp_path):
    write_json(tmp_path, "Diving48_vocab.json", VOCABULARY)
    write_json(tmp_path, "Diving48_test.json", [DIVE])
    touch(tmp_path, "rgb/_8Vy3dlHg2w_00000.mp4")

    with pytest.raises(DataError, match=r"diving48 test must be below .* no list of it is"):
        TASK.load(tmp_path, "test")


def test_mmaction2_s_val_list_is_the_test_split(tmp_path):
    write_json(tmp_path, "annotations/Diving48_vocab.json", VOCABULARY)
    write(tmp_path, "diving48_val_list_rawframes.txt", "_8Vy3dlHg2w_00000 183 1")
    touch(tmp_path, "rawframes/_8Vy3dlHg2w_00000/img_00001.jpg")

    split = TASK.load(tmp_path, "test")

    assert labels(split) == {"_8Vy3dlHg2w_00000": "Back+15som+15Twis+FREE"}
    assert split.items[0].group == "_8Vy3dlHg2w"

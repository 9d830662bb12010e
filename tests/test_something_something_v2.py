"""Something-Something v2 over the layouts people have, and the traps of its lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from annotated_world import labels, touch, write, write_json
from rsbench_tasks.something_something_v2 import TASK

from rsbench.data.loaders import read_item
from rsbench.data.prepared import UNKNOWN_RATE
from rsbench.errors import DataError
from rsbench.specs import ClipSpec, InputSpec, Reading, Views

SHARED = Path(__file__).parents[2] / "shared" / "data"

NAMES = {"Holding something": "1", "Dropping something onto something": "0"}
HOLDING = {"id": "74225", "label": "holding a cup", "template": "Holding [something]"}
DROPPING = {
    "id": "116154",
    "label": "dropping a pen onto the floor",
    "template": "Dropping [something] onto [something]",
    "placeholders": ["a pen", "the floor"],
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root as the release of today has it, of two classes."""
    write_json(tmp_path, "labels/labels.json", NAMES)
    write_json(tmp_path, "labels/train.json", [DROPPING])
    write_json(tmp_path, "labels/validation.json", [HOLDING])
    touch(tmp_path, "videos/74225.webm", "videos/116154.webm")
    return tmp_path


def test_today_s_release_is_read_by_template(root):
    split = TASK.load(root, "validation")

    assert labels(split) == {"74225": "Holding something"}
    assert labels(TASK.load(root, "train")) == {"116154": "Dropping something onto something"}
    # In the order of the indices, not of the file.
    assert split.classes == ("Dropping something onto something", "Holding something")
    assert split.items[0].source == root / "videos" / "74225.webm"
    assert (split.num_official, split.missing, split.media) == (1, (), "original")
    assert split.notes == (
        "classes are the 2 of labels.json, not the 174 of something_something_v2",
    )


@pytest.mark.parametrize("folder", ["", "annotations/", "labels/"])
@pytest.mark.parametrize("media", ["20bn-something-something-v2", "videos"])
def test_the_old_names_are_read(tmp_path, folder, media):
    for name, content in (("labels", NAMES), ("train", [DROPPING]), ("validation", [HOLDING])):
        write_json(tmp_path, f"{folder}something-something-v2-{name}.json", content)
    touch(tmp_path, f"{media}/74225.webm")

    assert labels(TASK.load(tmp_path, "validation")) == {"74225": "Holding something"}


def test_174_classes_are_the_official_ones_with_the_official_counts(tmp_path):
    names = {f"Doing {number} to something": str(number) for number in range(174)}
    write_json(tmp_path, "labels/labels.json", names)
    entry = {"id": "1", "template": "Doing 173 to [something]"}
    write_json(tmp_path, "labels/validation.json", [entry])
    write_json(tmp_path, "labels/train.json", [{**entry, "id": "2"}])
    touch(tmp_path, "videos/1.webm", "videos/2.webm")

    validation, train = TASK.load(tmp_path, "validation"), TASK.load(tmp_path, "train")

    assert validation.items[0].target == 173
    # VideoMAE v2, docs/DATASET.md: 168913 train and 24777 validation.
    assert (validation.num_official, train.num_official) == (24_777, 168_913)
    assert validation.notes == ("validation.json lists 1 of 24777 official clips",)


# ---------------------------------------------------------------------------- the test set


def test_the_test_split_is_refused(root):
    with pytest.raises(DataError, match=r"24,777 clips: the test split \(27,157\) has no labels"):
        TASK.load(root, "test")


def test_a_root_with_the_test_list_only_is_refused_by_its_name(tmp_path):
    write_json(tmp_path, "something-something-v2-labels.json", NAMES)
    write_json(tmp_path, "something-something-v2-test.json", [{"id": "5"}])
    touch(tmp_path, "videos/5.webm")

    with pytest.raises(DataError, match=r"something-something-v2-test\.json lists the test set"):
        TASK.load(tmp_path, "validation")


def test_a_test_list_called_validation_is_refused(root):
    write_json(root, "labels/validation.json", [{"id": "74225"}])

    with pytest.raises(DataError, match=r"validation\.json, clip 1: .*names none; .* test set"):
        TASK.load(root, "validation")


def test_a_test_list_beside_validation_is_noted_and_not_read(root):
    write_json(root, "labels/test.json", [{"id": "9"}])

    split = TASK.load(root, "validation")

    assert labels(split) == {"74225": "Holding something"}
    assert split.notes[-1] == ("test.json lists the test set, which has no labels, and is not read")


# ---------------------------------------------------------------------------- lists of others


def test_mmaction2_s_rawframe_list_is_read_with_its_counts(tmp_path):
    # tools/data/sthv2: rawframes/<id>/img_00001.jpg, flow beside.
    write(
        tmp_path,
        "annotations/label_map.txt",
        "Dropping something onto something",
        "Holding something",
    )
    write(tmp_path, "sthv2_val_list_rawframes.txt", "74225 3 1", "7 45 0")
    touch(tmp_path, "rawframes/74225/img_00001.jpg")

    split = TASK.load(tmp_path, "validation")

    assert labels(split) == {"74225": "Holding something"}
    (item,) = split.items
    assert item.source == tmp_path / "rawframes" / "74225"
    # mmaction2 keeps a video's own rate: nobody says it.
    assert (item.num_frames_listed, item.fps) == (3, None)
    assert split.missing == ("7",)
    assert split.media == "frames"


def test_mmaction2_s_video_list_is_read(tmp_path):
    write(tmp_path, "label_map.txt", "Dropping something onto something", "Holding something")
    write(tmp_path, "sthv2_train_list_videos.txt", "74225.webm 1", "8.mp4 0")
    write(tmp_path, "sthv2_train_list_rawframes.txt", "74225 3 1")
    touch(tmp_path, "videos/74225.webm", "videos/8.mp4")

    split = TASK.load(tmp_path, "train")

    assert labels(split) == {
        "74225": "Holding something",
        "8": "Dropping something onto something",
    }
    assert "sthv2_train_list_rawframes.txt not read, sthv2_train_list_videos.txt is" in split.notes


def test_slowfast_s_frame_list_says_where_frames_lie(tmp_path):
    for name, content in (("labels", NAMES), ("train", [DROPPING]), ("validation", [HOLDING])):
        write_json(tmp_path, f"something-something-v2-{name}.json", content)
    lines = [f'74225 0 {n} moved/74225/74225_{n + 1:06d}.jpg ""' for n in range(4)]
    write(tmp_path, "val.csv", "original_vido_id video_id frame_id path labels", *lines)
    touch(tmp_path, "frames/moved/74225/74225_000001.jpg")

    split = TASK.load(tmp_path, "validation")

    (item,) = split.items
    assert item.source == tmp_path / "frames" / "moved" / "74225"
    assert item.num_frames_listed == 4
    assert split.classes[item.target] == "Holding something"
    assert "frames of 1 clips as val.csv names them" in split.notes


def test_a_label_outside_the_list_s_classes_is_refused_by_its_line(tmp_path):
    write(tmp_path, "label_map.txt", "Dropping something onto something", "Holding something")
    write(tmp_path, "sthv2_val_list_videos.txt", "1.webm 1", "2.webm 2")

    with pytest.raises(DataError, match="line 2: label 2 must be a class index from 0 to 1"):
        TASK.load(tmp_path, "validation")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 12 163 0", "line 1: a clip of something_something_v2 must have one label, it has 2"),
        ("1 0 163 0", "line 1: a folder must have at least 1 frame"),
    ],
)
def test_a_list_with_offsets_is_refused(tmp_path, line, message):
    # mmaction2's with_offset: folder, first frame, frames, label.
    write(tmp_path, "label_map.txt", *(f"Doing {number} to something" for number in range(200)))
    write(tmp_path, "sthv2_val_list_rawframes.txt", line)

    with pytest.raises(DataError, match=message):
        TASK.load(tmp_path, "validation")


# ---------------------------------------------------------------------------- what is wrong


def test_files_are_preferred_to_frames_and_the_notes_say_so(root):
    touch(root, "rawframes/74225/img_00001.jpg")

    split = TASK.load(root, "validation")

    assert split.media == "original"
    assert "1 clips in rawframes/ as frames not read, videos/ as files is" in split.notes


@pytest.mark.parametrize("listed", [True, False])
def test_one_stray_folder_of_frames_hides_no_videos(root, listed):
    ids = [str(number) for number in range(20)]
    write_json(root, "labels/validation.json", [{**HOLDING, "id": each} for each in ids])
    touch(root, *(f"videos/{each}.webm" for each in ids))
    touch(root, "frames/3/3_000001.jpg")
    if listed:
        lines = [f'{each} 0 0 {each}/{each}_000001.jpg ""' for each in ids]
        write(root, "val.csv", "original_vido_id video_id frame_id path labels", *lines)

    split = TASK.load(root, "validation")

    assert (len(split.items), split.missing, split.media) == (20, (), "original")
    stray = "the folders of val.csv" if listed else "frames/ as frames"
    assert split.notes[1:] == (f"1 clips in {stray} not read, videos/ as files is",)


def test_frames_that_most_clips_have_go_before_a_stray_video(root):
    write_json(root, "labels/validation.json", [HOLDING, {**HOLDING, "id": "3"}])
    touch(root, "frames/74225/1.jpg", "frames/3/1.jpg")

    split = TASK.load(root, "validation")

    assert (len(split.items), split.missing, split.media) == (2, (), "frames")
    assert "1 clips in videos/ as files not read, frames/ as frames is" in split.notes


def test_a_list_of_frames_goes_before_one_of_videos_that_are_not_there(tmp_path):
    write(tmp_path, "label_map.txt", "Dropping something onto something", "Holding something")
    write(tmp_path, "sthv2_val_list_videos.txt", "1.webm 1", "2.webm 0")
    write(tmp_path, "sthv2_val_list_rawframes.txt", "1 3 1", "2 3 0")
    touch(tmp_path, "videos/1.webm", "rawframes/1/1.jpg", "rawframes/2/1.jpg")

    split = TASK.load(tmp_path, "validation")

    assert [item.id for item in split.items] == ["1", "2"]
    assert split.media == "frames"
    assert "1 clips that sthv2_val_list_videos.txt names not read" in split.notes


def test_frames_whose_rate_nobody_states_are_noted_and_those_of_a_prepared_root_are_others(root):
    (root / "videos" / "74225.webm").unlink()
    touch(root, "frames/74225/1.jpg")
    write_json(root, "rsbench-prepared.json", {"short_side": 240})

    split = TASK.load(root, "validation")

    assert split.media == "frames-short-240"
    assert UNKNOWN_RATE in split.notes


def test_missing_clips_are_named(root):
    write_json(root, "labels/validation.json", [HOLDING, {**HOLDING, "id": "3"}])

    split = TASK.load(root, "validation")

    assert split.missing == ("3",)
    assert split.num_official == 2


def test_a_root_without_any_clip_of_the_list_is_refused(root):
    (root / "videos" / "74225.webm").unlink()

    with pytest.raises(DataError, match=r"none of the 1 clips of validation\.json .* no 74225"):
        TASK.load(root, "validation")


def test_two_files_of_one_clip_are_refused(root):
    touch(root, "videos/74225.mp4")

    with pytest.raises(DataError, match="clip 74225 must have one file"):
        TASK.load(root, "validation")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("validation", [HOLDING, HOLDING], "clip 2: clip 74225 must be listed once and was in"),
        ("validation", [{**HOLDING, "template": "Holdin [something]"}], "did you mean 'Holding"),
        ("validation", [{**HOLDING, "id": "../74225"}], "id must be the name of a file"),
        ("validation", {"74225": HOLDING}, "must be a JSON list of clips"),
        ("validation", [], "is empty: validation.json names no clip"),
        ("labels", {"Holding something": "0", "Dropping something": "2"}, "numbered 0 to 1"),
        ("labels", {"Holding something": "0", "Dropping something": "0"}, "numbered 0 to 1"),
        ("labels", ["Holding something"], "must be a JSON object"),
        ("labels", {"Holding something": "0"}, "must name two classes or more"),
    ],
)
def test_a_list_that_can_not_be_right_is_refused(root, name, content, message):
    write_json(root, f"labels/{name}.json", content)

    with pytest.raises(DataError, match=message):
        TASK.load(root, "validation")


def test_a_list_that_is_no_json_is_refused(root):
    write(root, "labels/validation.json", "[{")

    with pytest.raises(DataError, match=r"validation\.json must be JSON, and is not"):
        TASK.load(root, "validation")


def test_a_root_without_class_names_is_refused_with_what_is_looked_for(tmp_path):
    write(tmp_path, "sthv2_val_list_videos.txt", "1.webm 1")

    with pytest.raises(DataError, match=r"no list of them is; looked for are labels/\{labels"):
        TASK.load(tmp_path, "validation")


def test_a_frame_folder_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    touch(tmp_path, "elsewhere/74225/img_00001.jpg")
    root = tmp_path / "root"
    write(root, "label_map.txt", "Dropping something", "Holding something")
    write(root, "sthv2_val_list_rawframes.txt", "74225 1 1")
    (root / "rawframes").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataError, match=r"sthv2_val_list_rawframes\.txt, line 1: .*below the data"):
        TASK.load(root, "validation")


def test_nothing_is_flipped_and_frames_are_spread_over_the_whole_video():
    assert not TASK.flip
    assert not TASK.sample.flip
    assert TASK.sampler == "ssv2@1"


# ---------------------------------------------------------------------------- real clips


@pytest.mark.skipif(
    not (SHARED / "egogestar_ssv2").is_dir(), reason="the real clips in ../shared are absent"
)
def test_real_clips_of_ten_classes_in_this_layout_are_read_whole():
    root = SHARED / "egogestar_ssv2"

    train, validation = TASK.load(root, "train"), TASK.load(root, "validation")

    # The README of the data: 80 clips, 10 classes x 8 scenes, 60 of them for training.
    assert (len(train.items), len(validation.items)) == (60, 20)
    assert train.missing == validation.missing == ()
    assert train.classes == validation.classes
    assert train.classes[0] == "Moving a pointing finger from right to left"
    assert train.classes[9] == "Drawing a star with a pointing finger"
    assert sorted(item.target for item in train.items) == sorted([*range(10)] * 6)
    assert sorted(item.target for item in validation.items) == sorted([*range(10)] * 2)
    assert "classes are the 10 of labels.json, not the 174 of something_something_v2" in train.notes
    reading = Reading(
        modality="video",
        input=InputSpec(pixels=32, frames=8, stride=1),
        clip=ClipSpec(frames=8, stride=1),
        sampler="ssv2@1",
        views=Views(crops=3),
    )
    views, facts = read_item(validation.items[0], reading)
    assert tuple(views.shape) == (3, 3, 8, 32, 32)
    assert 10 <= facts.fps <= 30

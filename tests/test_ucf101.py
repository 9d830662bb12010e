"""UCF101: official counts and classes, the layouts people have, splits that keep groups whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from rsbench_tasks import ucf101

from rsbench.data.files import RootGuard
from rsbench.data.layouts import LAYOUTS, untested_layouts
from rsbench.data.sample import write_motion_segments
from rsbench.data.splits import hold_out
from rsbench.errors import DataError
from rsbench.gathering import gather
from rsbench.specs import Fold, Split

SHARED = Path(__file__).parents[2] / "shared" / "data" / "ucf101_sample"

with_real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real clips and lists in ../shared are absent"
)

SPLITS = [f"{role}{number}" for number in (1, 2, 3) for role in ("train", "test")]


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def load(root: Path, split: str = "test1") -> Split:
    return ucf101.TASK.load(root, split)


def labels(split: Split) -> dict[str, str]:
    return {item.id: split.classes[item.target] for item in split.items}


# ------------------------------------------------------------------------------- as published


@with_real_data
def test_the_real_lists_have_the_published_lengths() -> None:
    # protocols.md 5.6 for split 1; the lists themselves (wc -l) for the others. 13,320 videos:
    # Soomro et al. 2012, table 1.
    lengths = {name: len(listing(name).clips) for name in SPLITS}

    assert lengths == ucf101.NUM_OFFICIAL
    assert (lengths["train1"], lengths["test1"]) == (9537, 3783)
    assert {lengths[f"train{n}"] + lengths[f"test{n}"] for n in (1, 2, 3)} == {13320}


@with_real_data
@pytest.mark.parametrize("number", [1, 2, 3])
def test_no_group_is_on_both_sides_of_a_real_split(number: int) -> None:
    train, test = (listing(f"{role}{number}").clips for role in ("train", "test"))

    assert not {clip.group for clip in train} & {clip.group for clip in test}
    # 25 groups of each of 101 classes, 7 of them tested.
    assert len({clip.group for clip in (*train, *test)}) == 25 * 101
    assert len({clip.group for clip in test}) == 7 * 101


@with_real_data
def test_what_is_held_out_of_a_real_train_set_shares_no_group_with_the_rest() -> None:
    clips = listing("train1").clips

    kept, held = hold_out(
        [clip.target for clip in clips], [clip.group for clip in clips], share=0.2
    )

    assert not {clips[row].group for row in kept} & {clips[row].group for row in held}
    assert {clips[row].target for row in held} == set(range(101))
    assert 0.15 < len(held) / len(clips) < 0.2


@with_real_data
def test_the_canonical_classes_are_those_of_the_real_file_in_its_order() -> None:
    lines = (SHARED / "ucfTrainTestlist" / "classInd.txt").read_text().splitlines()

    assert [f"{index} {name}" for index, name in enumerate(ucf101.CLASSES, 1)] == lines


def listing(name: str):
    role = "train" if name.startswith("train") else "test"
    return ucf101.read_lists(RootGuard(SHARED), role, int(name[-1]))


@with_real_data
@pytest.mark.parametrize(
    ("split", "num_items", "num_official"),
    [("train1", 2, 9537), ("test1", 15, 3783), ("train2", 17, 9586), ("train3", 17, 9624)],
)
def test_the_seventeen_real_clips_are_where_the_lists_say(
    split: str, num_items: int, num_official: int
) -> None:
    # By the README beside them: g01 is test in split 1 alone, SoccerJuggling is always train.
    found = load(SHARED, split)

    assert (len(found.items), found.num_official) == (num_items, num_official)
    assert len(found.missing) == num_official - num_items
    assert found.classes == ucf101.CLASSES
    assert found.media == "original"
    assert all(item.id.startswith(f"v_{found.classes[item.target]}_g") for item in found.items)


@with_real_data
def test_a_split_none_of_whose_clips_is_here_is_refused_by_its_list() -> None:
    with pytest.raises(DataError, match=r"none of the 3734 clips of testlist02.txt is below"):
        load(SHARED, "test2")


@with_real_data
def test_real_missing_clips_are_named_and_change_what_is_reported() -> None:
    gathered = gather(ucf101.TASK, SHARED, limit=None, trains=True, folds=("split1",))

    assert (gathered.num_official, gathered.num_expected, gathered.num_train) == (3783, 15, 2)
    assert len(gathered.missing) == 3768
    assert "v_YoYo_g01_c01" in gathered.missing
    assert gathered.split == "test1"
    assert gathered.folds[0].name == "split1"


def test_three_splits_are_three_folds_whose_scores_are_averaged() -> None:
    # protocols.md 5.6: each split apart, with its own head; the unweighted mean of three top-1.
    assert ucf101.TASK.folds == tuple(
        Fold(train=f"train{n}", test=f"test{n}", name=f"split{n}") for n in (1, 2, 3)
    )
    assert ucf101.TASK.fold_average == "mean"
    assert ucf101.TASK.metrics[0].name == "top1"
    assert len(ucf101.CLASSES) == len(set(ucf101.CLASSES)) == 101


# ------------------------------------------------------------------------------- layouts


def small(root: Path, *, train: str = "trainlist01.txt", test: str = "testlist01.txt") -> None:
    """Write lists of split 1 with three clips."""
    write(
        root, train, "Archery/v_Archery_g08_c01.avi 3", "YoYo/v_YoYo_g08_c01.avi 101"
    )  # fmt: skip
    write(root, test, "Archery/v_Archery_g01_c01.avi")


@pytest.mark.parametrize("lists", ["ucfTrainTestlist", "annotations", "splits", "."])
@pytest.mark.parametrize(
    "place",
    [
        "UCF-101/Archery/v_Archery_g01_c01.avi",
        "UCF-101/v_Archery_g01_c01.avi",
        "videos/Archery/v_Archery_g01_c01.mp4",
        "Archery/v_Archery_g01_c01.avi",
        "v_Archery_g01_c01.webm",
    ],
)
def test_lists_and_clips_are_found_in_the_usual_places(
    tmp_path: Path, lists: str, place: str
) -> None:
    small(tmp_path, train=f"{lists}/trainlist01.txt", test=f"{lists}/testlist01.txt")
    touch(tmp_path, place)

    split = load(tmp_path)

    (item,) = split.items
    assert labels(split) == {"v_Archery_g01_c01": "Archery"}
    assert (item.group, item.source) == ("Archery_g01", tmp_path / place)
    assert split.num_official == 3783
    assert split.notes == ("testlist01.txt lists 1 of 3783 official clips",)


def test_every_layout_gives_the_same_ids_labels_and_groups(tmp_path: Path) -> None:
    found = []
    for layout in ucf101.TASK.layouts:
        root = tmp_path / layout
        root.mkdir()
        write_motion_segments(root, layout=layout, num_scenes=4)
        splits = [load(root, name) for name in SPLITS]
        found.append([[(i.id, i.target, i.group) for i in split.items] for split in splits])
        assert [len(split.items) for split in splits] == [24, 8] * 3
        forms = {split.media for split in splits}
        assert forms == {"frames@25" if "rawframes" in layout else "original"}

    assert found == [found[0]] * len(found)
    assert untested_layouts(ucf101.TASK.layouts) == ()


def test_a_folder_of_frames_brings_the_listed_count_and_the_published_rate(tmp_path: Path) -> None:
    LAYOUTS["ucf101 mmaction2 rawframes"](tmp_path, [], ["archery"])
    write(tmp_path, "ucf101_val_split_1_rawframes.txt", "Archery/v_Archery_g01_c01 164 0")
    touch(tmp_path, "rawframes/Archery/v_Archery_g01_c01/img_00001.jpg")

    (item,) = load(tmp_path).items

    assert item.source.is_dir()
    # "fixed frame rate of 25 FPS": Soomro et al. 2012, section 2.
    assert (item.num_frames_listed, item.fps) == (164, 25.0)


def test_videos_go_before_frames_and_the_first_folder_before_another(tmp_path: Path) -> None:
    small(tmp_path)
    touch(
        tmp_path,
        "rawframes/Archery/v_Archery_g01_c01/img_00001.jpg",
        "UCF-101/Archery/v_Archery_g01_c01.avi",
        "videos/Archery/v_Archery_g01_c01.avi",
    )

    split = load(tmp_path)

    assert split.items[0].source == tmp_path / "UCF-101/Archery/v_Archery_g01_c01.avi"
    assert split.notes[-2:] == (
        "1 clips in videos/ as files not read, UCF-101/ as files is",
        "1 clips in rawframes/ as frames not read, UCF-101/ as files is",
    )


@pytest.mark.parametrize("stray", ["UCF-101", "videos"])
def test_a_stray_clip_hides_nothing_of_where_most_lie(tmp_path: Path, stray: str) -> None:
    clips = [f"v_Archery_g0{number}_c01" for number in (1, 2, 3)]
    write(tmp_path, "testlist01.txt", *(f"Archery/{clip}.avi" for clip in clips))
    touch(tmp_path, *(f"rawframes/Archery/{clip}/img_00001.jpg" for clip in clips))
    touch(tmp_path, f"{stray}/Archery/{clips[0]}.avi")

    split = load(tmp_path)

    assert [item.id for item in split.items] == clips
    assert (split.missing, split.media) == ((), "frames@25")
    assert split.notes[-1] == (f"1 clips in {stray}/ as files not read, rawframes/ as frames is")


def test_frames_alone_are_read_by_the_official_lists_too(tmp_path: Path) -> None:
    small(tmp_path)
    touch(tmp_path, "rawframes/Archery/v_Archery_g01_c01/img_00001.jpg")

    split = load(tmp_path)

    assert split.media == "frames@25"
    assert split.items[0].source.name == "v_Archery_g01_c01"


def test_the_spelling_of_handstand_pushups_makes_no_difference(tmp_path: Path) -> None:
    # Files on disk are named v_HandStandPushups, as in the published archive; lists differ.
    write(tmp_path, "testlist01.txt", "HandstandPushups/v_HandstandPushups_g01_c01.avi")
    touch(tmp_path, "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi")

    assert labels(load(tmp_path)) == {"v_HandstandPushups_g01_c01": "HandstandPushups"}


def test_prepared_copies_are_another_form_of_media(tmp_path: Path) -> None:
    small(tmp_path)
    touch(tmp_path, "UCF-101/Archery/v_Archery_g01_c01.avi")
    write(tmp_path, "rsbench-prepared.json", '{"short_side": 128}')

    assert load(tmp_path).media == "short-128"


# ------------------------------------------------------------------------------- what is refused


def test_a_label_that_is_not_the_class_of_the_name_is_refused(tmp_path: Path) -> None:
    # mmaction2 counts from 0, the official lists from 1: one for the other is a shift by one.
    write(tmp_path, "trainlist01.txt", "Archery/v_Archery_g08_c01.avi 2")

    with pytest.raises(DataError, match=r"line 1: the name says 'Archery' and the label 2, which"):
        load(tmp_path, "train1")


@pytest.mark.parametrize("label", ["0", "102"])
def test_a_label_out_of_range_is_refused(tmp_path: Path, label: str) -> None:
    write(tmp_path, "trainlist01.txt", f"Archery/v_Archery_g08_c01.avi {label}")

    with pytest.raises(DataError, match=f"label {label} must be a class index from 1 to 101"):
        load(tmp_path, "train1")


def test_a_group_on_both_sides_is_refused_by_both_lines(tmp_path: Path) -> None:
    small(tmp_path)
    write(tmp_path, "testlist01.txt", "Archery/v_Archery_g08_c02.avi")
    touch(tmp_path, "Archery/v_Archery_g08_c02.avi")

    with pytest.raises(DataError, match=r"testlist01.txt, line 1: group Archery_g08 .* see trainl"):
        load(tmp_path)


def test_a_clip_listed_twice_is_refused(tmp_path: Path) -> None:
    clip = "Archery/v_Archery_g01_c01.avi"
    write(tmp_path, "testlist01.txt", clip, clip)

    with pytest.raises(DataError, match=r"line 2: clip v_Archery_g01_c01 must be listed once"):
        load(tmp_path)


def test_a_list_longer_than_the_published_one_is_none(tmp_path: Path) -> None:
    clips = [f"Archery/v_Archery_g01_c{n:04d}.avi" for n in range(3784)]
    write(tmp_path, "testlist01.txt", *clips)

    with pytest.raises(DataError, match="must have the published 3783 clips at most"):
        load(tmp_path)


def test_a_clip_in_another_class_s_folder_is_refused(tmp_path: Path) -> None:
    small(tmp_path)
    touch(tmp_path, "UCF-101/YoYo/v_Archery_g01_c01.avi")

    with pytest.raises(DataError, match=r"the list says 'Archery' and the clip lies in UCF-101/Yo"):
        load(tmp_path)


def test_two_files_of_a_clip_are_refused(tmp_path: Path) -> None:
    small(tmp_path)
    touch(tmp_path, *(f"UCF-101/Archery/v_Archery_g01_c01.{end}" for end in ("avi", "mp4")))

    with pytest.raises(DataError, match="must be there once"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("Archery/archery_01.avi", "must be named v_<Class>_gXX_cYY"),
        ("YoYo/v_Archery_g01_c01.avi", "lies in the folder 'YoYo' of another class"),
        ("Archery/v_Archary_g01_c01.avi", "did you mean 'Archery'"),
        ("../v_Archery_g01_c01.avi", "'..' part"),
        ("Archery/v_Archery_g01_c01.avi archery", "a label must be a class index"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, fault: str) -> None:
    write(tmp_path, "testlist01.txt", "YoYo/v_YoYo_g01_c01.avi", line)

    with pytest.raises(DataError, match=f"testlist01.txt, line 2: .*{fault}"):
        load(tmp_path)


def test_a_class_file_out_of_order_is_refused(tmp_path: Path) -> None:
    small(tmp_path)
    write(tmp_path, "classInd.txt", "1 Archery", "3 YoYo")

    with pytest.raises(DataError, match=r"line 2 must be '2 <Class>', got '3 YoYo'"):
        load(tmp_path)


def test_a_root_without_lists_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "UCF-101/Archery/v_Archery_g01_c01.avi")

    with pytest.raises(DataError, match=r"ucfTrainTestlist/testlist02.txt and mmaction2's ucf101_"):
        load(tmp_path, "test2")


def test_a_split_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has the splits train1, test1, .*, not 'split1'"):
        load(tmp_path, "split1")

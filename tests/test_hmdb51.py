"""HMDB51: flags, odd names, source videos, and the layouts people have."""

from __future__ import annotations

from pathlib import Path

import pytest
from rsbench_tasks import hmdb51
from test_ucf101 import SPLITS, labels, touch, write

from rsbench.data.layouts import untested_layouts
from rsbench.data.sample import write_motion_segments
from rsbench.errors import DataError
from rsbench.gathering import gather
from rsbench.media.video import read_all_frames
from rsbench.specs import Fold, Split

LISTS = "testTrainMulti_7030_splits"

CLIP = "April_09_brush_hair_u_nm_np1_ba_goo_0"
"""A real name, by mmaction2's description of the data set."""

ODD = (
    "#20_Rhythm_clap_u_nm_np1_fr_goo_0",
    "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_1",
    "(Rad)Schlag_die_Bank!_cartwheel_f_cm_np1_le_med_0",
    "It's_me;_&_you_brush_hair_h_cm_np1_le_goo_1",
)
"""Real names, and the last of them the kinds of sign that are in the others."""


def load(root: Path, split: str = "test1") -> Split:
    return hmdb51.TASK.load(root, split)


def test_three_splits_of_70_and_30_clips_a_class_are_averaged() -> None:
    # protocols.md 5.6: 3,570 / 1,530 per split, 70 / 30 per class of 51.
    assert len(hmdb51.CLASSES) == len(set(hmdb51.CLASSES)) == 51
    assert set(hmdb51.NUM_OFFICIAL) == set(SPLITS)
    assert {hmdb51.NUM_OFFICIAL[f"train{n}"] for n in (1, 2, 3)} == {3570} == {51 * 70}
    assert {hmdb51.NUM_OFFICIAL[f"test{n}"] for n in (1, 2, 3)} == {1530} == {51 * 30}
    assert hmdb51.TASK.fold_average == "mean"
    assert hmdb51.TASK.folds[2] == Fold(train="train3", test="test3", name="split3")
    assert tuple(sorted(hmdb51.CLASSES)) == hmdb51.CLASSES


def test_a_flag_says_on_which_side_a_clip_is_or_that_it_is_on_none(tmp_path: Path) -> None:
    # split_readme.txt beside the official lists: 1 train, 2 test, 0 neither; lines end in a blank.
    stems = [f"a{n}_clap_u_nm_np1_fr_goo_0" for n in range(4)]
    flags = ("1", "2", "0", "1")
    lines = [f"{stem}.avi {flag} " for stem, flag in zip(stems, flags, strict=True)]
    write(tmp_path, f"{LISTS}/clap_test_split1.txt", *lines)
    touch(tmp_path, *(f"hmdb51_org/clap/{stem}.avi" for stem in stems))

    train, test = load(tmp_path, "train1"), load(tmp_path, "test1")

    assert [item.id for item in train.items] == [f"clap/{stems[0]}", f"clap/{stems[3]}"]
    assert [item.id for item in test.items] == [f"clap/{stems[1]}"]
    assert (train.num_official, test.num_official) == (3570, 1530)
    assert train.classes == test.classes == hmdb51.CLASSES
    assert "no list of 50 classes, e.g. brush_hair_test_split1.txt" in test.notes


@pytest.mark.parametrize("lists", [LISTS, f"test_train_splits/{LISTS}", "annotations", "."])
@pytest.mark.parametrize(
    "place",
    [
        f"hmdb51_org/brush_hair/{CLIP}.avi",
        f"hmdb51_org/brush_hair/brush_hair/{CLIP}.avi",
        f"videos/brush_hair/{CLIP}.mp4",
        f"brush_hair/{CLIP}.avi",
        f"videos/{CLIP}.avi",
    ],
)
def test_lists_and_clips_are_found_in_the_usual_places(
    tmp_path: Path, lists: str, place: str
) -> None:
    write(tmp_path, f"{lists}/brush_hair_test_split1.txt", f"{CLIP}.avi 2")
    touch(tmp_path, place)

    split = load(tmp_path)

    assert labels(split) == {f"brush_hair/{CLIP}": "brush_hair"}
    assert split.items[0].group == "April_09"
    assert split.items[0].source == tmp_path / place


@pytest.mark.parametrize("stem", ODD)
@pytest.mark.parametrize("form", ["official", "videos", "rawframes"])
def test_odd_names_are_found_whatever_the_list(tmp_path: Path, stem: str, form: str) -> None:
    name = next(name for name in ("clap", "brush_hair", "cartwheel") if f"_{name}_" in stem)
    index = hmdb51.CLASSES.index(name)
    if form == "official":
        write(tmp_path, f"{LISTS}/{name}_test_split1.txt", f"{stem}.avi 2")
        touch(tmp_path, f"hmdb51_org/{name}/{stem}.avi")
    elif form == "videos":
        write(tmp_path, "hmdb51_val_split_1_videos.txt", f"{name}/{stem}.avi {index}")
        touch(tmp_path, f"videos/{name}/{stem}.avi")
    else:
        write(tmp_path, "hmdb51_val_split_1_rawframes.txt", f"{name}/{stem} 90 {index}")
        touch(tmp_path, f"rawframes/{name}/{stem}/img_00001.jpg")

    assert labels(load(tmp_path)) == {f"{name}/{stem}": name}


@pytest.mark.parametrize(
    ("stem", "class_name", "video"),
    [
        (CLIP, "brush_hair", "April_09"),
        (ODD[0], "clap", "#20_Rhythm"),
        (ODD[1], "brush_hair", "Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!"),
        ("x_y_sword_exercise_f_nm_np2_ri_bad_10", "sword_exercise", "x_y"),
        # The name holds another action than the folder; of two of one name the last is the class.
        ("x_kick_ball_f_cm_np1_ba_med_0", "kick", "x"),
        ("walk_of_life_walk_f_cm_np1_ba_med_0", "walk", "walk_of_life"),
        # No action in it, and no properties.
        ("x_y_f_cm_np1_ba_med_0", "walk", "x_y"),
        ("holiday", "walk", "holiday"),
    ],
)
def test_the_source_of_a_clip_is_what_stands_before_its_action(
    stem: str, class_name: str, video: str
) -> None:
    assert hmdb51.source_video(stem, class_name) == video


def test_every_layout_gives_the_same_ids_and_tests(tmp_path: Path) -> None:
    found = []
    for layout in hmdb51.TASK.layouts:
        root = tmp_path / layout
        root.mkdir()
        write_motion_segments(root, layout=layout, num_scenes=4)
        splits = [load(root, f"test{n}") for n in (1, 2, 3)]
        found.append([[(i.id, i.target, i.group) for i in split.items] for split in splits])
        assert [len(split.items) for split in splits] == [8] * 3

    assert found == [found[0]] * len(found)
    assert untested_layouts(hmdb51.TASK.layouts) == ()


def test_a_sample_clip_with_an_odd_name_decodes(tmp_path: Path) -> None:
    write_motion_segments(tmp_path, layout="hmdb51", num_scenes=2)
    odd = next(item for item in load(tmp_path, "test2").items if "'" in item.id)

    assert "#02" in odd.id
    assert "[new]" in odd.id
    assert len(read_all_frames(odd.source)) == 24


def test_a_film_on_both_sides_is_counted_in_the_notes_of_a_run(tmp_path: Path) -> None:
    for name, flags in (("clap", "1"), ("walk", "2")):
        write(tmp_path, f"{LISTS}/{name}_test_split1.txt",
              f"Film_{name}_u_nm_np1_fr_goo_0.avi {flags}", f"Own_{name}_u_nm_np1_fr_goo_0.avi 2",
              f"Sure{name}_{name}_u_nm_np1_fr_goo_0.avi 1")  # fmt: skip
        touch(tmp_path, *(f"{name}/{each}_{name}_u_nm_np1_fr_goo_0.avi"
                          for each in ("Film", "Own", f"Sure{name}")))  # fmt: skip

    gathered = gather(hmdb51.TASK, tmp_path, limit=None, trains=True, folds=("split1",))

    assert (
        "split1: 1 of 3 test items are of groups that train has too, e.g. 'Film'" in gathered.notes
    )


@pytest.mark.parametrize("flag", ["3", "train"])
def test_another_flag_is_refused_by_its_line(tmp_path: Path, flag: str) -> None:
    write(tmp_path, f"{LISTS}/clap_test_split1.txt", "a_clap.avi 2", f"b_clap.avi {flag}")

    with pytest.raises(DataError, match=r"clap_test_split1.txt, line 2: the flag must be 1 for"):
        load(tmp_path)


def test_a_class_that_is_none_of_the_51_is_refused_with_the_nearest(tmp_path: Path) -> None:
    for name in ("clap", "cartwhel"):
        write(tmp_path, f"{LISTS}/{name}_test_split1.txt", f"a_{name}.avi 2")

    with pytest.raises(DataError, match=r"'cartwhel' is none of the 51 .*did you mean 'cartwheel'"):
        load(tmp_path)


def test_a_permuted_class_index_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "hmdb51_val_split_1_videos.txt", f"brush_hair/{CLIP}.avi 1")

    with pytest.raises(DataError, match="the name says 'brush_hair' and the label 1, which is 'ca"):
        load(tmp_path)


def test_a_root_without_lists_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"<class>_test_split3.txt and mmaction2's hmdb51_train_sp"):
        load(tmp_path, "train3")

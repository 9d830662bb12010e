"""The Kinetics loader over the layouts people have; the files are empty, as it decodes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from rsbench_tasks import kinetics400, kinetics600, kinetics700
from rsbench_tasks._kinetics import load_kinetics
from rsbench_tasks._kinetics_places import KineticsSet

from rsbench import cells
from rsbench.data.examples import Example
from rsbench.data.layouts import LAYOUTS, untested_layouts
from rsbench.data.prepared import UNKNOWN_RATE
from rsbench.errors import DataError
from rsbench.specs import ClipSpec, Fold, Views
from rsbench.weights.choosing import ChosenWeights

SHARED = Path(__file__).parents[2] / "shared" / "data"

HEADER = "label,youtube_id,time_start,time_end,split"

NAMES = ("abseiling", "air drumming", "answering questions", "riding a bike")

SMALL = KineticsSet(
    name="kinetics400",
    num_classes=4,
    class_names=lambda: NAMES,
    num_official={"validation": 5},
)
"""Kinetics-400 cut to four classes, so that no test waits for torchvision."""

UNNAMED = KineticsSet(name="kinetics600", num_classes=4)


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _write(root, name, *lines):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _load(root, split="validation", which=SMALL):
    return load_kinetics(which, root, split)


def _labels(split):
    return {item.id: split.classes[item.target] for item in split.items}


# ---------------------------------------------------------------------------- official CSVs


@pytest.mark.parametrize(
    "name", ["val.csv", "annotations/validate.csv", "annotations/validation.csv"]
)
@pytest.mark.parametrize("folder", ["val", "validation", "val/air_drumming", "val/part 1"])
def test_a_csv_finds_its_clips_flat_or_in_folders(tmp_path, name, folder):
    _write(tmp_path, name, HEADER, "air drumming,aaaaaaaaaaa,10,20,val")
    _touch(tmp_path, f"{folder}/aaaaaaaaaaa_000010_000020.mp4")

    split = _load(tmp_path)

    (item,) = split.items
    assert _labels(split) == {"aaaaaaaaaaa_000010_000020": "air drumming"}
    assert item.group == "aaaaaaaaaaa"
    assert item.source == tmp_path / folder / "aaaaaaaaaaa_000010_000020.mp4"
    assert (item.start_seconds, item.end_seconds) == (None, None)


@pytest.mark.parametrize("ending", [".mkv", ".webm", ".avi", ".MP4"])
def test_other_containers_are_found(tmp_path, ending):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,10,20,val")
    _touch(tmp_path, f"val/a_000010_000020{ending}")

    assert len(_load(tmp_path).items) == 1


def test_trimmed_files_named_by_id_alone_are_found_and_noted(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,10,20,val", "riding a bike,b,0,10,val")
    _touch(tmp_path, "val/a.mp4", "val/b_000000_000010.mp4")

    split = _load(tmp_path)

    assert [item.id for item in split.items] == ["a_000010_000020", "b_000000_000010"]
    assert "1 files are named by YouTube id alone and taken as trimmed" in split.notes


def test_one_trimmed_file_can_not_be_two_clips(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,10,20,val", "riding a bike,a,30,40,val")
    _touch(tmp_path, "val/a.mp4")

    with pytest.raises(DataError, match=r"val.csv, line 3: a.mp4 is already the file of val.csv"):
        _load(tmp_path)


def test_missing_clips_are_named_and_counted(tmp_path):
    _write(
        tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val", "abseiling,c,0,10,val",
        "riding_a_bike,b,0,10,val",
    )  # fmt: skip
    _touch(tmp_path, "val/b_000000_000010.mp4")

    split = _load(tmp_path)

    assert split.missing == ("a_000000_000010", "c_000000_000010")
    assert split.num_official == 5
    assert "val.csv lists 3 of 5 official clips" in split.notes


def test_a_csv_without_folder_for_its_split_finds_clips_anywhere_below_the_root(tmp_path):
    _write(tmp_path, "train.csv", HEADER, "abseiling,a,0,10,train")
    _write(tmp_path, "val.csv", HEADER, "abseiling,b,0,10,val")
    _touch(tmp_path, "abseiling/a_000000_000010.mp4", "clips/b_000000_000010.mp4")

    assert list(_labels(_load(tmp_path, "train"))) == ["a_000000_000010"]
    assert list(_labels(_load(tmp_path))) == ["b_000000_000010"]


def test_the_train_list_s_length_is_its_own_official_count(tmp_path):
    _write(tmp_path, "train.csv", HEADER, "abseiling,a,0,10,train", "abseiling,b,0,10,train")
    _touch(tmp_path, "train/a_000000_000010.mp4")

    assert _load(tmp_path, "train").num_official == 2


def test_a_label_outside_the_classes_is_refused_with_the_nearest(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "ridding a bike,a,0,10,val")

    with pytest.raises(DataError, match=r"val.csv, line 2: .*did you mean 'riding a bike'"):
        _load(tmp_path)


def test_a_file_in_another_class_s_folder_is_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val/riding a bike/a_000000_000010.mp4")

    with pytest.raises(DataError, match=r"line 2: the list says 'abseiling' and the file lies in"):
        _load(tmp_path)


def test_two_files_of_one_clip_are_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4", "val/abseiling/a_000000_000010.mkv")

    with pytest.raises(DataError, match="must have one file"):
        _load(tmp_path)


def test_a_row_of_another_split_is_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,train")

    with pytest.raises(DataError, match="line 2: split must be validation"):
        _load(tmp_path)


def test_files_that_no_row_names_are_counted(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4", "val/b_000000_000010.mp4")

    assert "1 files in val/ are not in val.csv: left out" in _load(tmp_path).notes


def test_an_empty_list_is_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER)

    with pytest.raises(DataError, match=r"validation is empty: val.csv names no clip"):
        _load(tmp_path)


def test_a_list_none_of_whose_clips_is_there_is_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")

    with pytest.raises(DataError, match=r"none of the 1 clips .* no a_000000_000010.mp4"):
        _load(tmp_path)


def test_a_short_side_mirror_is_another_form_of_media(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val_256/a_000000_000010.mp4")

    assert _load(tmp_path).media == "short-256"


def test_two_folders_for_one_split_are_refused(tmp_path):
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val_256/a_000000_000010.mp4", "val/a_000000_000010.mp4")

    with pytest.raises(DataError, match="must lie in one folder"):
        _load(tmp_path)


@pytest.mark.parametrize(
    "name",
    # DeepMind's archive, mmaction2's download_annotations.sh.
    ["kinetics400/validate.csv", "annotations/kinetics_val.csv"],
)
def test_official_csvs_are_found_where_archives_and_scripts_put_them(tmp_path, name):
    _write(tmp_path, name, HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4")

    assert len(_load(tmp_path).items) == 1


@pytest.mark.parametrize("folder", ["replacement/replacement_for_corrupted_k400", "replacement"])
@pytest.mark.parametrize("media", ["val/", ""])
def test_a_replacement_goes_before_the_corrupted_file(tmp_path, folder, media):
    # github.com/cvdfoundation/kinetics-dataset has an archive of its own for corrupted clips.
    _write(
        tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val", "abseiling,b,0,10,val",
        "abseiling,c,0,10,val",
    )  # fmt: skip
    _touch(tmp_path, f"{media}a_000000_000010.mp4", f"{media}b_000000_000010.mp4")
    _touch(tmp_path, *(f"{folder}/{name}_000000_000010.mp4" for name in "bcz"))

    split = _load(tmp_path)

    names = [item.source.relative_to(tmp_path).parent.as_posix() for item in split.items]
    assert names == [media.rstrip("/") or ".", folder, folder]
    assert "2 clips are replacements of corrupted ones" in split.notes
    assert not any("left out" in note for note in split.notes)


# ---------------------------------------------------------------------------- path label lists


@pytest.mark.parametrize(
    "name",
    ["val_list.txt", "kinetics400_val_list_videos.txt", "val.csv", "annotations/val.txt",
     "annotations/k400_val.csv"],
)  # fmt: skip
@pytest.mark.parametrize("separator", [" ", ",", "\t"])
def test_path_label_lists_are_found_under_their_usual_names(tmp_path, name, separator):
    _write(tmp_path, name, f"riding a bike/b b.mp4{separator}riding a bike")
    _touch(tmp_path, "videos_val/riding a bike/b b.mp4")

    assert _labels(_load(tmp_path)) == {"b b": "riding a bike"}


def test_an_index_list_without_names_says_that_its_order_is_unverified(tmp_path):
    _write(tmp_path, "val_list.txt", "val/a.mp4 3", "val/b.mp4 0")
    _touch(tmp_path, "val/a.mp4", "val/b.mp4")

    split = _load(tmp_path)

    assert _labels(split) == {"a": "riding a bike", "b": "abseiling"}
    assert any(note.startswith("class order unverified: 2 of 2") for note in split.notes)


def test_an_index_list_that_agrees_with_its_class_folders_is_verified(tmp_path):
    _write(tmp_path, "val_list.txt", "riding_a_bike/a.mp4 3", "abseiling/b.mp4 0")
    _touch(tmp_path, "val/riding_a_bike/a.mp4", "val/abseiling/b.mp4")

    assert not any("unverified" in note for note in _load(tmp_path).notes)


def test_a_permuted_class_map_is_caught_at_its_first_disagreement(tmp_path):
    _write(tmp_path, "val_list.txt", "abseiling/b.mp4 0", "riding_a_bike/a.mp4 1")
    _touch(tmp_path, "val/riding_a_bike/a.mp4", "val/abseiling/b.mp4")

    with pytest.raises(DataError) as error:
        _load(tmp_path)

    assert "val_list.txt, line 2" in str(error.value)
    assert "'riding a bike' (class 3)" in str(error.value)
    assert "class 1, which is 'air drumming'" in str(error.value)


def test_a_permuted_class_map_is_caught_though_the_file_is_missing(tmp_path):
    _write(tmp_path, "val_list.txt", "abseiling/b.mp4 0", "riding_a_bike/a.mp4 1")
    _touch(tmp_path, "val/abseiling/b.mp4")

    with pytest.raises(DataError, match="line 2: the path says"):
        _load(tmp_path)


def test_a_label_map_of_the_same_classes_says_what_the_indices_mean(tmp_path):
    _write(tmp_path, "label_map_k400.txt", *reversed(NAMES))
    _write(tmp_path, "val_list.txt", "val/riding_a_bike/a.mp4 0", "val/b.mp4 3")
    _touch(tmp_path, "val/riding_a_bike/a.mp4", "val/b.mp4")

    split = _load(tmp_path)

    assert split.classes == NAMES
    assert _labels(split) == {"a": "riding a bike", "b": "abseiling"}
    assert split.notes[0] == "class indices read through label_map_k400.txt"


def test_an_index_outside_the_classes_is_refused(tmp_path):
    _write(tmp_path, "val_list.txt", "val/a.mp4 4")
    _touch(tmp_path, "val/a.mp4")

    with pytest.raises(DataError, match="line 1: label 4 must be a class index from 0 to 3"):
        _load(tmp_path)


def test_missing_files_of_a_path_list_are_named(tmp_path):
    _write(tmp_path, "val_list.txt", "val/a.mp4 abseiling", "val/b.mp4 abseiling")
    _touch(tmp_path, "val/b.mp4")

    assert _load(tmp_path).missing == ("a",)


@pytest.mark.parametrize("entry", ["../a.mp4", "/etc/a.mp4", "val/link.mp4"])
def test_a_path_that_leaves_the_root_is_refused_by_its_line(tmp_path, entry):
    root = tmp_path / "root"
    _touch(tmp_path, "a.mp4", "root/val/b.mp4")
    (root / "val" / "link.mp4").symlink_to(tmp_path / "a.mp4")
    _write(root, "val_list.txt", "val/b.mp4 abseiling", f"{entry} abseiling")

    with pytest.raises(DataError, match=r"val_list.txt, line 2"):
        _load(root)


def test_a_split_folder_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    _touch(tmp_path, "elsewhere/abseiling/a.mp4")
    root = tmp_path / "root"
    root.mkdir()
    (root / "val").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(DataError, match="'val' must lie below the data root"):
        _load(root)


def test_an_absolute_path_inside_the_root_is_read(tmp_path):
    _touch(tmp_path, "val/b.mp4")
    _write(tmp_path, "val.csv", f"{tmp_path}/val/b.mp4 0")

    split = _load(tmp_path)

    assert _labels(split) == {"b": "abseiling"}
    assert not any("are read below the root" in note for note in split.notes)


@pytest.mark.parametrize("separator", [" ", ","])
def test_absolute_paths_of_another_machine_are_read_below_the_root(tmp_path, separator):
    # SlowFast's DATASET.md: "path_to_video_1 label_1" with PATH_LABEL_SEPARATOR " " or ",".
    prefix = "/mnt/my data/k400"
    _write(
        tmp_path, "val.csv", *(f"{prefix}/val/{name}.mp4{separator}{label}"
                               for name, label in (("abseiling/a", 0), ("abseiling/b", 0))),
    )  # fmt: skip
    _touch(tmp_path, "val/abseiling/b.mp4")

    split = _load(tmp_path)

    assert _labels(split) == {"b": "abseiling"}
    assert split.missing == ("a",)
    assert f"paths of val.csv are read below the root without {prefix}" in split.notes


def test_a_path_of_a_third_machine_is_refused_by_its_line(tmp_path):
    _write(tmp_path, "val.csv", "/mnt/one/val/a.mp4 0", "/mnt/two/val/b.mp4 0")
    _touch(tmp_path, "val/a.mp4")

    with pytest.raises(DataError, match=r"val.csv, line 2: '/mnt/two/val/b.mp4' must lie below"):
        _load(tmp_path)


# ---------------------------------------------------------------------------- frame folders


def test_a_list_of_frame_folders_is_read(tmp_path):
    # mmaction2, tools/data/kinetics: kinetics400_val_list_rawframes.txt of `folder frames label`.
    LAYOUTS["kinetics mmaction2 rawframes"](
        tmp_path,
        [
            Example(
                split=split, label=label, source=f"{split[:5]}-{label[:5]}", start_seconds=0,
                end_seconds=10, pixels=np.zeros((3, 32, 32, 3), dtype=np.uint8),
            )
            for split in ("train", "validation")
            for label in ("yoga", "zumba")
        ],
        ["yoga", "zumba"],
    )  # fmt: skip

    split = kinetics400.TASK.load(tmp_path, "validation")

    assert _labels(split) == {
        "valid-yoga_000000_000010": "yoga",
        "valid-zumba_000000_000010": "zumba",
    }
    assert split.media == "frames"
    assert all(item.source.is_dir() and item.num_frames_listed == 3 for item in split.items)
    assert [item.group for item in split.items] == ["valid-yoga", "valid-zumba"]


def test_frames_are_read_where_the_videos_of_another_list_are_not_there(tmp_path):
    _write(tmp_path, "annotations/kinetics_val.csv", HEADER, "abseiling,a,0,10,val")
    _write(tmp_path, "kinetics400_val_list_videos.txt", "abseiling/a_000000_000010.mp4 0")
    _write(tmp_path, "kinetics400_val_list_rawframes.txt", "abseiling/a_000000_000010 300 0")
    _touch(tmp_path, "rawframes_val/abseiling/a_000000_000010/img_00001.jpg")

    frames = _load(tmp_path)
    _touch(tmp_path, "videos_val/abseiling/a_000000_000010.mp4")
    videos = _load(tmp_path)

    assert (frames.media, videos.media) == ("frames", "original")
    assert [item.id for item in frames.items] == [item.id for item in videos.items]
    assert any(note.endswith("not read, kinetics400_val_list_rawframes.txt is")
               for note in frames.notes)  # fmt: skip


def test_a_stray_video_does_not_hide_the_frames_of_all_clips(tmp_path):
    names = [f"{each}_000000_000010" for each in "abc"]
    _write(tmp_path, "kinetics400_val_list_videos.txt", *(f"abseiling/{n}.mp4 0" for n in names))
    _write(tmp_path, "kinetics400_val_list_rawframes.txt", *(f"abseiling/{n} 9 0" for n in names))
    _touch(tmp_path, *(f"rawframes_val/abseiling/{name}/img_00001.jpg" for name in names))
    _touch(tmp_path, f"videos_val/abseiling/{names[0]}.mp4")

    split = _load(tmp_path)

    assert [item.id for item in split.items] == names
    assert split.missing == ()
    assert "1 clips that kinetics400_val_list_videos.txt names not read" in split.notes
    # Videos that are all there go before frames that are, too.
    _touch(tmp_path, *(f"videos_val/abseiling/{name}.mp4" for name in names))
    assert _load(tmp_path).media == "original"


def test_frames_of_a_prepared_root_are_told_from_others_and_their_rate_is_not_known(tmp_path):
    _write(tmp_path, "val_list_rawframes.txt", "abseiling/a 300 0")
    _touch(tmp_path, "rawframes/abseiling/a/img_00001.jpg")
    assert _load(tmp_path).media == "frames"
    _write(tmp_path, "rsbench-prepared.json", '{"short_side": 256}')

    split = _load(tmp_path)

    assert split.media == "frames-short-256"
    assert UNKNOWN_RATE in split.notes
    assert "assume 30 a second" in UNKNOWN_RATE


@pytest.mark.parametrize("task", [kinetics400.TASK, kinetics600.TASK], ids=lambda task: task.name)
def test_what_kinetics_700_learned_from_is_partly_tested_by_the_older_sets(task):
    # Carreira et al. 2019 (arXiv:1907.06987): not safe to train on 700 and evaluate on 600;
    # for 400 cvdfoundation/kinetics-dataset, issue 48.
    assert set(task.shares_data_with) == {"kinetics700"}
    assert kinetics700.TASK.shares_data_with == {}


def test_a_permuted_list_of_frame_folders_is_caught(tmp_path):
    _write(tmp_path, "val_list_rawframes.txt", "abseiling/a 300 1")
    _touch(tmp_path, "rawframes/abseiling/a/img_00001.jpg")

    with pytest.raises(DataError, match=r"line 1: the path says 'abseiling' \(class 0\)"):
        _load(tmp_path)


def test_prepared_copies_are_another_form_of_media(tmp_path):
    _touch(tmp_path, "val/abseiling/a.mp4")
    _write(tmp_path, "rsbench-prepared.json", '{"short_side": 320, "finished": true}')

    assert _load(tmp_path).media == "short-320"


def test_a_path_listed_twice_is_refused_by_both_lines(tmp_path):
    _touch(tmp_path, "val/b.mp4")
    _write(tmp_path, "val_list.txt", "val/b.mp4 0", "val/b.mp4 1")

    with pytest.raises(DataError, match=r"line 2: clip b must be listed once .* line 1"):
        _load(tmp_path)


def test_a_csv_goes_before_a_path_list_and_the_notes_say_so(tmp_path):
    _write(tmp_path, "val_list.txt", "val/zz.mp4 0")
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4")

    split = _load(tmp_path)

    assert list(_labels(split)) == ["a_000000_000010"]
    assert "val_list.txt not read, val.csv is" in split.notes


# ---------------------------------------------------------------------------- class folders alone


@pytest.mark.parametrize("name", ["val/riding a bike", "validation/Riding_a_Bike"])
def test_class_folders_alone_are_read_whatever_their_spelling(tmp_path, name):
    _touch(tmp_path, f"{name}/aaaaaaaaaaa_000010_000020.mp4")

    split = _load(tmp_path)

    assert _labels(split) == {"aaaaaaaaaaa_000010_000020": "riding a bike"}
    assert split.items[0].group == "aaaaaaaaaaa"
    assert split.num_official == 5
    assert "no list found: clips that are missing are not known" in split.notes


def test_a_class_folder_of_another_name_is_refused(tmp_path):
    _touch(tmp_path, "val/ridding a bike/a.mp4")

    with pytest.raises(DataError, match=r"folder val/ridding a bike: .*did you mean"):
        _load(tmp_path)


@pytest.mark.parametrize("folder", ["", "videos/"])
def test_class_folders_at_the_root_are_the_validation_split_alone(tmp_path, folder):
    _touch(tmp_path, f"{folder}abseiling/a.mp4", f"{folder}riding a bike/b.mp4", "README.md")

    split = _load(tmp_path)

    assert _labels(split) == {"a": "abseiling", "b": "riding a bike"}
    assert "class folders without split are taken as the validation split" in split.notes
    with pytest.raises(DataError, match="train was looked for"):
        _load(tmp_path, "train")


def test_a_clip_in_two_class_folders_is_refused(tmp_path):
    _touch(tmp_path, "val/abseiling/a.mp4", "val/riding a bike/a.mp4")

    with pytest.raises(DataError, match="clip a must be there once"):
        _load(tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"val.csv, a val list .* val/<class>/"):
        _load(tmp_path)


def test_train_data_alone_is_no_validation_split(tmp_path):
    _touch(tmp_path, "train/abseiling/a.mp4")

    assert len(_load(tmp_path, "train").items) == 1
    with pytest.raises(DataError, match="validation must be below"):
        _load(tmp_path)


def test_every_layout_gives_the_same_ids_and_labels(tmp_path):
    clips = {"a_000000_000010": "abseiling", "b_000005_000015": "riding a bike"}
    roots = [tmp_path / name for name in ("csv", "list", "folders")]
    for root in roots:
        _touch(root, *(f"val/{label}/{name}.mp4" for name, label in clips.items()))
    rows = (f"{label},{name[0]},{name[2:8]},{name[9:]},val" for name, label in clips.items())
    _write(roots[0], "val.csv", HEADER, *rows)
    _write(roots[1], "val.txt", *(f"{label}/{name}.mp4 {label}" for name, label in clips.items()))

    assert [_labels(_load(root)) for root in roots] == [clips] * 3
    assert len({tuple(item.group for item in _load(root).items) for root in roots}) == 1


# ---------------------------------------------------------------------------- classes


def test_a_root_with_a_list_of_other_classes_has_its_own(tmp_path):
    _write(tmp_path, "classes.txt", "zoom in", "pan left")
    _write(tmp_path, "val.csv", HEADER, "pan left,a,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4")

    split = _load(tmp_path)

    assert split.classes == ("zoom in", "pan left")
    assert split.num_official == 1
    assert split.notes == ("classes are the 2 of classes.txt, not those of kinetics400",)


def test_without_canonical_list_the_classes_are_those_of_both_csvs_sorted(tmp_path):
    _write(tmp_path, "train.csv", HEADER, "yoga,a,0,10,train", "Archery,b,0,10,train")
    _write(tmp_path, "val.csv", HEADER, "zumba,c,0,10,val")
    _touch(tmp_path, "val/c_000000_000010.mp4")

    split = _load(tmp_path, which=UNNAMED)

    assert split.classes == ("Archery", "yoga", "zumba")
    assert split.notes[0] == (
        "classes are the 3 of train.csv and val.csv, sorted; kinetics600 has 4"
    )


def test_without_canonical_list_an_index_must_always_mean_one_folder(tmp_path):
    _write(tmp_path, "val_list.txt", "yoga/a.mp4 7", "yoga/b.mp4 7", "zumba/c.mp4 7")
    _touch(tmp_path, "val/yoga/a.mp4", "val/yoga/b.mp4", "val/zumba/c.mp4")

    with pytest.raises(DataError, match="line 3: class 7 must be one class, it is 'yoga'"):
        _load(tmp_path, which=UNNAMED)


@pytest.mark.parametrize("entry", ["a.mp4", "val/a.mp4"])
def test_without_canonical_list_indices_alone_are_refused(tmp_path, entry):
    _write(tmp_path, "val_list.txt", f"{entry} 7")
    _touch(tmp_path, "val/a.mp4")

    with pytest.raises(DataError, match=r"put a classes.txt"):
        _load(tmp_path, which=UNNAMED)


def test_without_canonical_list_class_folders_name_the_classes(tmp_path):
    _touch(tmp_path, "train/yoga/a.mp4", "val/air_drumming/b.mp4")

    assert _load(tmp_path, which=UNNAMED).classes == ("air drumming", "yoga")


# ---------------------------------------------------------------------------- the tasks


def test_the_canonical_list_of_kinetics400_has_400_sorted_names():
    # Kay et al. 2017 (arXiv:1705.06950), appendix A lists 400 classes in alphabetical order.
    names = kinetics400.class_names()

    assert len(set(names)) == 400
    assert list(names) == sorted(names, key=str.casefold)
    assert (names[0], names[-1]) == ("abseiling", "zumba")


def test_the_tasks_state_the_published_test():
    # protocols.md 5.6: report on validation, 19,907 official clips, 32 x 2, 30 views.
    for module in (kinetics400, kinetics600, kinetics700):
        task = module.TASK
        assert task.name == module.__name__.rpartition(".")[2]
        assert task.folds == (Fold(train="train", test="validation"),)
        assert task.clip == ClipSpec(frames=32, stride=2)
        assert task.views == Views(clips=10, crops=3)
        assert [metric.name for metric in task.metrics] == ["top1", "top5"]


def test_every_layout_the_loader_reads_has_a_writer():
    assert untested_layouts(kinetics400.TASK.layouts) == ()


def test_a_split_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="has the splits train and validation, not 'test'"):
        _load(tmp_path, "test")


def test_a_file_for_a_root_is_refused(tmp_path):
    _touch(tmp_path, "val.csv")

    with pytest.raises(DataError, match="must lie in a folder"):
        _load(tmp_path / "val.csv")


def test_a_list_longer_than_the_published_one_is_counted_against_itself(tmp_path):
    which = dataclasses.replace(SMALL, num_official={"validation": 1})
    _write(tmp_path, "val.csv", HEADER, "abseiling,a,0,10,val", "abseiling,b,0,10,val")
    _touch(tmp_path, "val/a_000000_000010.mp4", "val/b_000000_000010.mp4")

    # More clips than were published: the list itself is what is counted against.
    assert _load(tmp_path, which=which).num_official == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real clips in ../shared are absent")
def test_three_real_clips_in_a_class_folder_are_the_validation_split():
    split = kinetics400.TASK.load(SHARED / "kinetics_sample" / "videos", "validation")

    assert sorted(_labels(split)) == ["R6llTwEh07w", "SOX5yA1l24A", "WUzgd7C1pWA"]
    assert set(_labels(split).values()) == {"using segway"}
    assert split.num_official == 19907


@pytest.mark.parametrize("has_data", [True, False], ids=["real data", "the sample"])
def test_a_run_with_weights_of_kinetics_700_says_what_they_know(tmp_path, monkeypatch, has_data):
    def choose(backbone, name, *, cache_root):
        return ChosenWeights(name="mine", input=backbone.input, trained_on=("kinetics700",))

    monkeypatch.setattr(cells, "choose_weights", choose)
    for split in ("train", "val"):
        for label in ("abseiling", "yoga"):
            _touch(tmp_path, *(f"data/{split}/{label}/{split}{label}{n}.mp4" for n in range(4)))
    cell = cells.prepare(
        cells.RunRequest(
            task="kinetics400" if has_data else "kinetics400@sample",
            data=tmp_path / "data" if has_data else None,
            backbone="tiny_2d",
            protocol="linear_probe",
            results=tmp_path / "results",
            cache_root=tmp_path / "cache",
        )
    )

    said = "weights that learned on kinetics700 know this task's data through it: "
    assert any(note.startswith(said) for note in cell.gathered.notes) == has_data

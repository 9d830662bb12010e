"""Own media listed in a CSV; the files are empty, as the loader decodes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rsbench_tasks import csv as csv_task

from rsbench.data.layouts import untested_layouts
from rsbench.errors import DataError
from rsbench.specs import Fold

TASK = csv_task.TASK


def _list(root, header, *rows, name="items.csv", touch=True):
    root.mkdir(exist_ok=True)
    path = root / name
    path.write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8")
    for row in rows if touch else ():
        media = root / row.split(",")[0]
        media.parent.mkdir(parents=True, exist_ok=True)
        media.touch()
    return path


def _pairs(num=10, ending=".jpg"):
    return [f"{name} {n}{ending},{name}" for name in ("cat", "dog") for n in range(num)]


def _split(path, name):
    return TASK.load(path, name)


def test_without_splits_there_are_five_folds_that_test_everything_once(tmp_path):
    path = _list(tmp_path, "path,label", *_pairs())

    folds = TASK.folds(path)
    ids = [item.id for fold in folds for item in _split(path, fold.test).items]

    assert len(folds) == 5
    assert sorted(ids) == sorted(row.split(",")[0] for row in _pairs())
    assert any("without groups" in note for note in _split(path, "fold1:train").fold_notes)


def test_groups_are_never_split_and_then_nothing_warns(tmp_path):
    rows = [f"{n}.jpg,{'cat' if n % 2 else 'dog'},person {n // 4}" for n in range(40)]
    path = _list(tmp_path, "path,label,group", *rows)

    for fold in TASK.folds(path):
        train, test = (_split(path, name) for name in (fold.train, fold.test))
        assert not {item.group for item in train.items} & {item.group for item in test.items}
        assert train.fold_notes == ()


def test_a_split_column_is_obeyed(tmp_path):
    rows = ("a.jpg,cat,train", "b.jpg,dog,Train", "c.jpg,cat,val", "d.jpg,dog,test")
    path = _list(tmp_path, "path,label,split", *rows)

    assert TASK.folds(path) == (Fold(train="train", validation="validation", test="test"),)
    assert [item.id for item in _split(path, "train").items] == ["a.jpg", "b.jpg"]
    assert [item.id for item in _split(path, "validation").items] == ["c.jpg"]


def test_groups_on_both_sides_of_a_given_split_are_noted(tmp_path):
    path = _list(tmp_path, "path,label,split,group", "a.jpg,cat,train,ann", "b.jpg,cat,test,ann")

    (note,) = _split(path, "test").fold_notes

    assert note.startswith("1 groups lie in several of the given splits, e.g. 'ann'")


def test_segments_of_one_video_are_items_of_their_own(tmp_path):
    rows = ("a.mp4,cat,0,1.5,train", "a.mp4,dog,1.5,3,test", "b.mp4,dog,,,train")
    path = _list(tmp_path, "path,label,start,end,split", *rows)

    items = {
        item.id: (item.start_seconds, item.end_seconds)
        for name in ("train", "test")
        for item in _split(path, name).items
    }

    # Media fragments as in https://www.w3.org/TR/media-frags/#naming-time.
    assert items == {
        "a.mp4#t=0,1.5": (0.0, 1.5),
        "a.mp4#t=1.5,3": (1.5, 3.0),
        "b.mp4": (None, None),
    }


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_separators_and_a_byte_order_mark_are_read(tmp_path, delimiter):
    for name in ("a, b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    lines = (("Path", "Label", "Split"), ("a, b.jpg", "x", "train"), ("c.jpg", "y", "test"))
    path = tmp_path / "items.csv"
    path.write_text("\n".join(delimiter.join(line) for line in lines), encoding="utf-8-sig")

    assert [item.id for item in _split(path, "train").items] == ["a, b.jpg"]


def test_a_folder_with_one_csv_is_as_good_as_the_file(tmp_path):
    path = _list(tmp_path, "path,label", *_pairs())

    assert TASK.load(tmp_path, "fold1:test") == TASK.load(path, "fold1:test")
    (tmp_path / "other.csv").touch()
    with pytest.raises(DataError, match=r"with exactly one.*it holds 2"):
        TASK.load(tmp_path, "fold1:test")


def test_missing_files_are_named_and_move_no_other_item(tmp_path):
    path = _list(tmp_path, "path,label", *_pairs())
    before = {fold.test: _split(path, fold.test) for fold in TASK.folds(path)}
    (tmp_path / "cat 3.jpg").unlink()
    after = {fold.test: _split(path, fold.test) for fold in TASK.folds(path)}

    assert [id for split in after.values() for id in split.missing] == ["cat 3.jpg"]
    for name, split in before.items():
        kept = [item for item in split.items if item.id != "cat 3.jpg"]
        assert list(after[name].items) == kept
        assert after[name].num_official == split.num_official == 4


def test_a_split_all_of_whose_files_are_missing_is_refused(tmp_path):
    path = _list(tmp_path, "path,label,split", "a.jpg,cat,train", "b.jpg,cat,test", touch=False)

    with pytest.raises(
        DataError, match=r"test of items.csv is empty: none of its 1 files is there"
    ):
        _split(path, "test")


def test_a_column_without_meaning_is_noted(tmp_path):
    path = _list(tmp_path, "path,label,colour", *(f"{row},red" for row in _pairs()))

    assert "columns colour of items.csv have no meaning here" in _split(path, "fold1:test").notes


@pytest.mark.parametrize(
    ("header", "row", "fault"),
    [
        ("path,label,split", "b.jpg,cat,dev", "split must be train, val or test, got 'dev'"),
        ("path,label,split", "b.jpg,cat,", "split must not be empty"),
        ("path,label,group", "b.jpg,cat,", "group must not be empty"),
        ("path,label", "b.jpg,", "label must not be empty"),
        ("path,label", ",cat", "path must not be empty"),
        ("path,label", "b.txt,cat", "path must name an image"),
        ("path,label", "../b.jpg,cat", r"'\.\.' part"),
        ("path,label", "/etc/b.jpg,cat", "must lie below the data root"),
        ("path,label", "a.jpg,dog", "'a.jpg' must be listed once and was in items.csv, line 2"),
        ("path,label", "b.jpg,cat,1", "a row must have 2 fields"),
        ("path,label,start,end", "b.mp4,cat,x,2", "start must be seconds from 0 on, got 'x'"),
        ("path,label,start,end", "b.mp4,cat,nan,2", "start must be seconds from 0 on, got 'nan'"),
        ("path,label,start,end", "b.mp4,cat,-1,2", "start must be seconds from 0 on"),
        ("path,label,start,end", "b.mp4,cat,2,2", "end must be after start, got 2 to 2"),
    ],
)
def test_a_bad_row_is_named(tmp_path, header, row, fault):
    good = {"path,label,split": "a.jpg,cat,test", "path,label,group": "a.jpg,cat,ann"}
    first = good.get(header, "a.mp4,cat,0,1" if "start" in header else "a.jpg,cat")
    path = _list(tmp_path / "data", header, first, row, touch=False)

    with pytest.raises(DataError, match=f"items.csv, line 3: .*{fault}"):
        TASK.folds(path)


def test_a_link_that_leaves_the_folder_is_refused_by_its_line(tmp_path):
    (tmp_path / "secret.jpg").touch()
    path = _list(tmp_path / "data", "path,label", "a.jpg,cat", "link.jpg,cat", touch=False)
    (tmp_path / "data" / "link.jpg").symlink_to(tmp_path / "secret.jpg")

    with pytest.raises(DataError, match=r"items.csv, line 3: 'link.jpg' must lie below"):
        TASK.folds(path)


def test_times_make_no_sense_for_images(tmp_path):
    path = _list(tmp_path, "path,label,start,end", "a.jpg,cat,0,1")

    with pytest.raises(DataError, match="start and end are for videos"):
        TASK.folds(path)


def test_images_mixed_with_videos_are_refused(tmp_path):
    path = _list(tmp_path, "path,label", "a.jpg,cat", "b.mp4,dog")

    with pytest.raises(DataError, match="it holds both: 1 images"):
        csv_task.task_for(path)


@pytest.mark.parametrize("text", ["", "a.jpg,cat\n", "path,label\n"])
def test_a_file_without_header_or_rows_is_refused(tmp_path, text):
    (tmp_path / "items.csv").write_text(text)

    with pytest.raises(DataError, match="must"):
        TASK.folds(tmp_path / "items.csv")


def test_the_modality_is_that_of_the_files(tmp_path):
    images = _list(tmp_path / "images", "path,label", *_pairs())
    videos = _list(tmp_path / "videos", "path,label", *_pairs(ending=".avi"))

    assert csv_task.task_for(images).modality == "image"
    assert csv_task.task_for(videos).modality == "video"
    assert csv_task.task_for(None) is TASK


def test_the_sample_goes_through_the_loader_and_its_segments_cut_whole_clips(tmp_path):
    from rsbench.media.video import read_all_frames

    TASK.sample.write(tmp_path)

    task = csv_task.task_for(tmp_path)
    items = [item for fold in task.folds(tmp_path) for item in task.load(tmp_path, fold.test).items]
    first = [item for item in items if item.group == "scene-00000"]

    assert task.modality == TASK.modality
    assert len(items) == 48
    assert {item.target for item in first} == set(range(8))
    for item in first:
        frames = read_all_frames(
            item.source, start_seconds=item.start_seconds, end_seconds=item.end_seconds
        )
        assert len(frames) == 24
    assert untested_layouts(csv_task.TASK.layouts) == ()


def test_the_standard_library_s_csv_is_found_from_inside_the_folder_of_tasks(tmp_path):
    # Python puts the folder it was started in first on its path; there lies a csv.py of ours.
    folder = Path(csv_task.__file__).parent
    code = (
        "import csv, sys; print(csv.__file__, hasattr(csv, 'DictReader'));"
        "import rsbench_tasks.csv as ours; print(ours.TASK.name, ours.TASK is not None)"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONSAFEPATH", None)

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    standard, ours = done.stdout.splitlines()
    assert not standard.startswith(str(folder))
    assert standard.endswith("csv.py True")
    assert ours == "csv True"

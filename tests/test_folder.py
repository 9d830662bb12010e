"""Own media in class folders; the files are empty, as the loader decodes nothing."""

from __future__ import annotations

import pytest
from rsbench_tasks import folder

from rsbench.data.layouts import untested_layouts
from rsbench.errors import DataError
from rsbench.specs import ClipSpec, Fold

TASK = folder.TASK


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _classes(root, *, prefix="", num=10, ending=".jpg"):
    for name in ("cat", "dog"):
        _touch(root, *(f"{prefix}{name}/{n:02d}{ending}" for n in range(num)))


def _ids(split):
    return [item.id for item in split.items]


# ---------------------------------------------------------------------------- folds


def test_without_splits_every_item_is_tested_once_over_five_folds(tmp_path):
    _classes(tmp_path)

    folds = TASK.folds(tmp_path)
    tested = [TASK.load(tmp_path, fold.test) for fold in folds]

    assert [fold.name for fold in folds] == ["fold1", "fold2", "fold3", "fold4", "fold5"]
    assert sorted(id for split in tested for id in _ids(split)) == sorted(
        f"{name}/{n:02d}.jpg" for name in ("cat", "dog") for n in range(10)
    )
    assert all([item.target for item in split.items] == [0, 0, 1, 1] for split in tested)
    assert TASK.fold_average == "pooled"


def test_a_fold_trains_on_all_that_it_does_not_test(tmp_path):
    _classes(tmp_path)

    for fold in TASK.folds(tmp_path):
        train, test = (set(_ids(TASK.load(tmp_path, name))) for name in (fold.train, fold.test))
        assert not train & test
        assert len(train | test) == 20


def test_folds_are_the_same_every_time(tmp_path):
    _classes(tmp_path)

    assert TASK.load(tmp_path, "fold1:test") == TASK.load(tmp_path, "fold1:test")


def test_folds_without_groups_warn_of_leaks(tmp_path):
    _classes(tmp_path)

    assert any(
        "made without groups" in note for note in TASK.load(tmp_path, "fold2:train").fold_notes
    )


def test_a_class_with_one_item_is_refused_by_name(tmp_path):
    _classes(tmp_path)
    _touch(tmp_path, "eel/1.jpg")

    with pytest.raises(DataError, match="class 'eel' must have at least 2 items"):
        TASK.load(tmp_path, "fold1:test")


def test_a_fold_that_does_not_exist_is_refused(tmp_path):
    _classes(tmp_path)

    with pytest.raises(DataError, match="5 folds: fold1:train"):
        TASK.load(tmp_path, "test")


# ---------------------------------------------------------------------------- given splits


@pytest.mark.parametrize(
    ("folders", "fold"),
    [
        (("train", "test"), Fold(train="train", test="test")),
        (("train", "val"), Fold(train="train", test="validation")),
        (("Train", "validation"), Fold(train="train", test="validation")),
        (("train", "valid", "test"), Fold(train="train", validation="validation", test="test")),
        (("test",), Fold(train=None, test="test")),
    ],
)
def test_given_splits_are_obeyed(tmp_path, folders, fold):
    for name in folders:
        _classes(tmp_path, prefix=f"{name}/", num=2)

    assert TASK.folds(tmp_path) == (fold,)
    split = TASK.load(tmp_path, fold.test)
    assert split.classes == ("cat", "dog")
    assert all(id.startswith(f"{folders[-1]}/") for id in _ids(split))
    assert not any("without groups" in note for note in split.fold_notes)


def test_a_train_folder_alone_has_nothing_to_test_on(tmp_path):
    _classes(tmp_path, prefix="train/")

    with pytest.raises(DataError, match="nothing to test on"):
        TASK.folds(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    _touch(tmp_path, *(f"{name}/{n}.jpg" for name in ("train", "car") for n in range(5)))

    assert TASK.load(tmp_path, "fold1:test").classes == ("car", "train")


def test_a_split_beside_a_class_is_refused(tmp_path):
    _classes(tmp_path, prefix="train/")
    _touch(tmp_path, "eel/1.jpg")

    with pytest.raises(DataError, match="train/ is a split and eel/ is none"):
        TASK.folds(tmp_path)


def test_two_names_for_one_split_are_refused(tmp_path):
    _classes(tmp_path, prefix="val/")
    _classes(tmp_path, prefix="validation/")

    with pytest.raises(DataError, match="each split once, val/ and validation/"):
        TASK.folds(tmp_path)


def test_a_tested_class_without_train_items_is_noted(tmp_path):
    _classes(tmp_path, prefix="train/")
    _touch(tmp_path, "test/eel/1.jpg")

    split = TASK.load(tmp_path, "test")

    assert split.classes[split.items[0].target] == "eel"
    assert "1 classes have no train item, e.g. 'eel'" in split.fold_notes


def test_a_split_that_is_not_there_is_refused(tmp_path):
    _classes(tmp_path, prefix="train/")
    _classes(tmp_path, prefix="test/")

    with pytest.raises(DataError, match="has the splits test, train, not 'fold1:test'"):
        TASK.load(tmp_path, "fold1:test")


# ---------------------------------------------------------------------------- files


def test_odd_names_are_kept_as_they_are(tmp_path):
    names = ("50% [off] (new)", "日本", "a b", "caf\u00e9")
    _touch(tmp_path, *(f"{name}/pic #{n} [1].JPG" for name in names for n in range(5)))

    split = TASK.load(tmp_path, "fold1:train")

    assert split.classes == tuple(sorted(names))
    assert "50% [off] (new)/pic #0 [1].JPG" in {
        *_ids(split), *_ids(TASK.load(tmp_path, "fold1:test")),
    }  # fmt: skip


def test_ids_are_composed_unicode_whatever_the_disk_has(tmp_path):
    _touch(tmp_path, *(f"cafe\u0301/{n}.jpg" for n in range(5)))

    assert TASK.load(tmp_path, "fold1:test").classes == ("caf\u00e9",)


def test_hidden_files_are_left_out_and_unknown_endings_counted(tmp_path):
    _classes(tmp_path)
    _touch(tmp_path, "cat/.DS_Store", "cat/Thumbs.db", "dog/notes.txt", "loose.jpg", ".git/x.jpg")

    notes = TASK.load(tmp_path, "fold1:test").notes

    assert "2 files are neither image nor video: left out" in notes
    assert "1 files lie in no class folder: left out" in notes


def test_deeper_files_belong_to_the_top_folder_s_class(tmp_path):
    _touch(tmp_path, *(f"{name}/day {n}/1.jpg" for name in ("cat", "dog") for n in range(5)))

    split = TASK.load(tmp_path, "fold1:test")

    assert split.classes == ("cat", "dog")
    assert all("/day " in id for id in _ids(split))


def test_images_mixed_with_videos_are_refused(tmp_path):
    _classes(tmp_path)
    _touch(tmp_path, "cat/clip.mp4")

    with pytest.raises(DataError, match=r"it holds both: 20 images such as .* 1 videos such as"):
        folder.task_for(tmp_path)


def test_the_modality_is_that_of_the_files(tmp_path):
    _classes(tmp_path / "images")
    _classes(tmp_path / "videos", ending=".webm")

    assert folder.task_for(tmp_path / "images").modality == "image"
    videos = folder.task_for(tmp_path / "videos")
    assert (videos.modality, videos.clip) == ("video", ClipSpec(frames=16, stride=2))
    assert videos.name == "folder"
    assert folder.task_for(None) is TASK


def test_a_link_that_leaves_the_root_is_refused(tmp_path):
    _classes(tmp_path / "root")
    _touch(tmp_path, "secret.jpg")
    (tmp_path / "root" / "cat" / "link.jpg").symlink_to(tmp_path / "secret.jpg")

    with pytest.raises(DataError, match=r"'link.jpg' must lie below the data root"):
        TASK.load(tmp_path / "root", "fold1:test")


@pytest.mark.parametrize("name", ["readme.txt", "loose.jpg", "cat/readme.txt"])
def test_a_folder_without_class_folders_is_refused(tmp_path, name):
    _touch(tmp_path, name)

    with pytest.raises(DataError, match="must hold class sub-folders"):
        TASK.folds(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    _touch(tmp_path, "a.jpg")

    with pytest.raises(DataError, match="must be a folder of class folders"):
        TASK.folds(tmp_path / "a.jpg")


def test_the_sample_goes_through_the_loader(tmp_path):
    TASK.sample.write(tmp_path)

    task = folder.task_for(tmp_path)
    split = task.load(tmp_path, "fold1:test")

    assert task.modality == TASK.modality
    assert len(split.items) == 8
    assert split.classes == ("china (colour)", "china (grey)", "flower (colour)", "flower (grey)")
    assert untested_layouts(folder.TASK.layouts) == ()

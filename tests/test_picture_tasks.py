"""The twelve data sets of Kornblith et al.: published counts, torchvision's reading, bad lists."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rsbench_tasks import (
    caltech101,
    dtd,
    oxford_flowers102,
    oxford_iiit_pet,
    sun397,
)
from torchvision import datasets

from rsbench.data.layouts import untested_layouts
from rsbench.errors import DataError
from rsbench.media.image import read_image
from rsbench.specs import Split, Task

# Classes, train, test and metric of arXiv:1805.08974, table 1 (train holds the official validation
# pictures); for Pets the archive's own test list, which has 3,669 where the table prints 3,369.
PUBLISHED = {
    "food101": (101, 75_750, 25_250, "top1"),
    "cifar10": (10, 50_000, 10_000, "top1"),
    "cifar100": (100, 50_000, 10_000, "top1"),
    "birdsnap": (500, 47_386, 2_443, "top1"),
    "sun397": (397, 19_850, 19_850, "top1"),
    "stanford_cars": (196, 8_144, 8_041, "top1"),
    "fgvc_aircraft": (100, 6_667, 3_333, "mean_per_class"),
    "voc2007": (20, 5_011, 4_952, "map_11"),
    "dtd": (47, 3_760, 1_880, "top1"),
    "oxford_iiit_pet": (37, 3_680, 3_669, "mean_per_class"),
    "caltech101": (102, 3_060, 6_084, "mean_per_class"),
    "oxford_flowers102": (102, 2_040, 6_149, "mean_per_class"),
}

WITH_VALIDATION = {"fgvc_aircraft", "voc2007", "dtd", "oxford_flowers102"}

LISTED = sorted(PUBLISHED.keys() - {"cifar10", "cifar100", "caltech101"})
"""Those whose pictures stand in lists."""


def task_of(name: str) -> Task:
    task: Task = importlib.import_module(f"rsbench_tasks.{name}").TASK
    return task


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def splits_of(task: Task, root: Path) -> dict[str, Split]:
    (fold,) = task.folds if isinstance(task.folds, tuple) else task.folds(root)
    names = [name for name in (fold.train, fold.validation, fold.test) if name]
    return {name: task.load(root, name) for name in names}


# -------------------------------------------------------------------------------- all twelve


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_and_metric_are_the_published_ones(name: str) -> None:
    official = importlib.import_module(f"rsbench_tasks.{name}")._SET
    task = task_of(name)
    counts = official.num_official

    train = counts["train"] + counts.get("validation", 0)

    assert (official.num_classes, train, counts["test"], task.metrics[0].name) == PUBLISHED[name]
    assert isinstance(task.folds, tuple)
    assert [fold.validation is not None for fold in task.folds] == [name in WITH_VALIDATION]
    assert untested_layouts(task.layouts) == ()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_sample_says_that_its_classes_are_fewer(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)

    for split in splits_of(task, tmp_path).values():
        num_classes = PUBLISHED[name][0]
        assert f"{len(split.classes)} classes, not the {num_classes} of {name}" in split.notes
        assert split.num_official == len(split.items)


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_unknown_split_and_an_empty_folder_are_refused_in_a_line(
    name: str, tmp_path: Path
) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=f"{name} has the splits train, .*not 'val'; name one"):
        task.load(tmp_path, "val")
    for split in splits_of(task, tmp_path):
        with pytest.raises(DataError, match=name) as caught:
            task.load(tmp_path / "empty", split)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_picture_that_is_absent_is_counted_and_named(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)
    whole = task.load(tmp_path, "test")
    gone = whole.items[1]
    assert isinstance(gone.source, Path)
    gone.source.unlink()

    split = task.load(tmp_path, "test")

    assert split.missing == (gone.id,)
    assert [item.id for item in split.items] == [i.id for i in whole.items if i.id != gone.id]
    assert split.num_official == len(whole.items)


@pytest.mark.parametrize("name", LISTED)
def test_no_picture_at_all_is_an_error(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)
    for path in tmp_path.rglob("*.jpg"):
        path.unlink()

    with pytest.raises(DataError, match=rf"{name} test: none of the \d+ pictures .* is below"):
        task.load(tmp_path, "test")


@pytest.mark.parametrize("name", [*LISTED, "caltech101"])
def test_a_link_that_leaves_the_root_is_refused(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    root = tmp_path / "root"
    root.mkdir()
    task.sample.write(root)
    source = task.load(root, "test").items[0].source
    assert isinstance(source, Path)
    shutil.move(source, tmp_path / "outside.jpg")
    source.symlink_to(tmp_path / "outside.jpg")

    with pytest.raises(DataError, match="must lie below the data root"):
        task.load(root, "test")


@pytest.mark.parametrize("name", LISTED)
def test_a_list_that_leads_out_of_the_root_is_not_shown(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    root, secret = tmp_path / "root", tmp_path / "secret"
    root.mkdir()
    task.sample.write(root)
    secret.write_text("SECRET\n")
    splits = splits_of(task, root)
    refused = set()

    for path in [each for each in root.rglob("*") if each.suffix in (".txt", ".mat")]:
        content = path.read_bytes()
        path.unlink()
        path.symlink_to(secret)
        for split in splits:
            # Not every file that an archive has is read.
            try:
                task.load(root, split)
            except DataError as error:
                assert "must lie below the data root" in str(error), path
                refused.add(path)
        path.unlink()
        path.write_bytes(content)
    assert len(refused) >= 2


# A list, and a line of it that names a file elsewhere.
LISTS = {
    "food101": ("food-101/meta/test.txt", "apple_pie/../../../passwd"),
    "dtd": ("dtd/labels/test1.txt", "banded/../../../passwd"),
    "fgvc_aircraft": (
        "fgvc-aircraft-2013b/data/images_variant_test.txt",
        "../../../../passwd 707-320",
    ),
    "sun397": ("SUN397/Testing_01.txt", "/../abbey/passwd"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_can_t_lead_out_of_the_root(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)
    path, line = LISTS[name]
    write_lines(tmp_path / path, line)

    with pytest.raises(
        DataError, match=rf"{Path(path).name}, line 1: the path .* has a '\.\.' part"
    ):
        task.load(tmp_path, "test")


@pytest.mark.parametrize("name", LISTS)
def test_a_picture_that_is_listed_twice_is_refused(name: str, tmp_path: Path) -> None:
    task = task_of(name)
    task.sample.write(tmp_path)
    path = tmp_path / LISTS[name][0]
    lines = path.read_text().splitlines()
    write_lines(path, *lines, lines[2])

    with pytest.raises(
        DataError, match=rf"line {len(lines) + 1}: .* and was in {path.name}, line 3 already"
    ):
        task.load(tmp_path, "test")


# ----------------------------------------------------------- what torchvision reads of the same


def as_path(path: str | Path) -> Path:
    """Stands in for torchvision's decoder: its datasets then give (path, label)."""
    return Path(path)


class Flowers102(datasets.Flowers102):  # type: ignore[misc]
    """torchvision's, for lists that are not the published ones."""

    _file_dict: ClassVar = {
        name: (file, None) for name, (file, _) in datasets.Flowers102._file_dict.items()
    }


TORCHVISION: dict[str, tuple[str, dict[str, Callable[[Path], Any]]]] = {
    "food101": (
        "",
        {
            "train": lambda root: datasets.Food101(root, "train", loader=as_path),
            "test": lambda root: datasets.Food101(root, "test", loader=as_path),
        },
    ),
    "dtd": (
        "dtd",
        {
            "train": lambda root: datasets.DTD(root, "train", loader=as_path),
            "validation": lambda root: datasets.DTD(root, "val", loader=as_path),
            "test": lambda root: datasets.DTD(root, "test", loader=as_path),
        },
    ),
    "fgvc_aircraft": (
        "",
        {
            "train": lambda root: datasets.FGVCAircraft(root, "train", loader=as_path),
            "validation": lambda root: datasets.FGVCAircraft(root, "val", loader=as_path),
            "test": lambda root: datasets.FGVCAircraft(root, "test", loader=as_path),
        },
    ),
    "stanford_cars": (
        "",
        {
            "train": lambda root: datasets.StanfordCars(root, "train", loader=as_path),
            "test": lambda root: datasets.StanfordCars(root, "test", loader=as_path),
        },
    ),
    "oxford_flowers102": (
        "flowers-102",
        {
            "train": lambda root: Flowers102(root, "train", loader=as_path),
            "validation": lambda root: Flowers102(root, "val", loader=as_path),
            "test": lambda root: Flowers102(root, "test", loader=as_path),
        },
    ),
}
"""Folder that a sample is written to, for torchvision to find it, and its data set by split."""


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_lists_the_same_pictures_with_the_same_classes(
    name: str, tmp_path: Path
) -> None:
    folder, theirs = TORCHVISION[name]
    (tmp_path / folder).mkdir(exist_ok=True)
    task = task_of(name)
    task.sample.write(tmp_path / folder)

    for split, ours in splits_of(task, tmp_path).items():
        data = theirs[split](tmp_path)
        assert [(item.source, item.target) for item in ours.items] == [*data]
        if name != "oxford_flowers102":
            assert list(ours.classes) == data.classes


def test_torchvision_reads_the_same_pets(tmp_path: Path) -> None:
    (tmp_path / "oxford-iiit-pet").mkdir()
    oxford_iiit_pet.TASK.sample.write(tmp_path / "oxford-iiit-pet")

    for split, theirs in (("train", "trainval"), ("test", "test")):
        ours = oxford_iiit_pet.TASK.load(tmp_path, split)
        data = datasets.OxfordIIITPet(tmp_path, theirs)
        assert [name.title() for name in ours.classes] == data.classes
        for item, (picture, label) in zip(ours.items, data, strict=True):
            assert item.target == label
            assert isinstance(item.source, Path)
            assert np.array_equal(read_image(item.source), np.asarray(picture))


def test_torchvision_has_the_same_classes_of_sun397(tmp_path: Path) -> None:
    # It knows no partitions: theirs are the pictures of both splits.
    sun397.TASK.sample.write(tmp_path)
    data = datasets.SUN397(tmp_path, loader=as_path)

    ours = splits_of(sun397.TASK, tmp_path)

    assert list(ours["test"].classes) == data.classes
    found = {item.source: item.target for split in ours.values() for item in split.items}
    assert found == dict(data)


def test_torchvision_has_the_same_classes_of_caltech101(tmp_path: Path) -> None:
    # It leaves the background out; ours is the first class.
    caltech101.TASK.sample.write(tmp_path)
    (tmp_path / "caltech-101").rename(tmp_path / "caltech101")
    data = datasets.Caltech101(tmp_path)

    ours = splits_of(caltech101.TASK, tmp_path)

    assert list(ours["test"].classes) == ["BACKGROUND_Google", *data.categories]
    theirs = {
        f"{data.categories[label]}/image_{number:04d}.jpg": label + 1
        for number, label in zip(data.index, data.y, strict=True)
    }
    items = [item for split in ours.values() for item in split.items if item.target]
    assert {item.id: item.target for item in items} == theirs


def test_the_names_of_flowers_are_torchvisions() -> None:
    assert list(oxford_flowers102.CLASSES) == datasets.Flowers102.classes


# ------------------------------------------------------------------------- counts as published


def write_dtd(root: Path, *, num_last: int) -> None:
    """Write lists of 47 classes, 40 pictures each; the last class of test has another number."""
    for part in ("train", "val", "test"):
        numbers = {
            f"class{index:02d}": num_last if (part, index) == ("test", 46) else 40
            for index in range(47)
        }
        entries = [
            f"{name}/{name}_{part}{number}.jpg"
            for name, last in numbers.items()
            for number in range(last)
        ]
        write_lines(root / "labels" / f"{part}1.txt", *entries)
        for entry in entries[:2]:
            write_lines(root / "images" / entry, "a picture")


def test_a_whole_list_is_the_published_one_whatever_is_on_disk(tmp_path: Path) -> None:
    write_dtd(tmp_path, num_last=40)

    for split in splits_of(dtd.TASK, tmp_path).values():
        assert (split.num_official, len(split.items), len(split.missing)) == (1880, 2, 1878)
        assert split.notes == ()
        assert len(split.classes) == 47


def test_a_list_that_is_too_short_says_so(tmp_path: Path) -> None:
    write_dtd(tmp_path, num_last=39)

    split = dtd.TASK.load(tmp_path, "test")

    assert split.num_official == 1880
    assert split.notes == (
        "1879 of 1880 test pictures are listed: which ones are left out is not known",
    )


def test_a_list_that_is_longer_than_published_is_refused(tmp_path: Path) -> None:
    write_dtd(tmp_path, num_last=41)

    with pytest.raises(DataError, match=r"dtd test must have 1880 pictures at most, .* and 1881 "):
        dtd.TASK.load(tmp_path, "test")


def test_two_copies_of_a_data_set_are_refused(tmp_path: Path) -> None:
    write_dtd(tmp_path, num_last=40)
    write_dtd(tmp_path / "dtd", num_last=40)

    with pytest.raises(DataError, match=r"dtd must lie in one folder, and labels/test1\.txt is in"):
        dtd.TASK.load(tmp_path, "test")

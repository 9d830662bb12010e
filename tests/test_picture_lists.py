"""Food-101, SUN397, Birdsnap, Cars, Flowers, Pets, Caltech-101: their lists, one by one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rsbench_tasks import (
    birdsnap,
    caltech101,
    dtd,
    fgvc_aircraft,
    food101,
    oxford_flowers102,
    oxford_iiit_pet,
    stanford_cars,
    sun397,
)
from scipy.io import savemat
from test_picture_tasks import splits_of, write_lines

from rsbench.errors import DataError
from rsbench.specs import Split


def labels(split: Split) -> dict[str, str]:
    """Class name by the name of the picture's file."""
    return {Path(item.id).name: split.classes[item.target] for item in split.items}


def test_food101_finds_its_folder_and_keeps_its_ids(tmp_path: Path) -> None:
    food101.TASK.sample.write(tmp_path)

    above, inside = (food101.TASK.load(r, "test") for r in (tmp_path, tmp_path / "food-101"))

    assert above.items == inside.items
    assert re.fullmatch(r"images/apple_pie/\d+\.jpg", above.items[0].id)


@pytest.mark.parametrize(
    ("task", "path", "line", "message"),
    [
        (food101, "food-101/meta/test.txt", "apple_pie", "must read 'apple_pie/1005649'"),
        (food101, "food-101/meta/test.txt", "aple_pie/1", "did you mean 'apple_pie'"),
        (dtd, "dtd/labels/val1.txt", "banded", "must read 'banded/banded_0002.jpg'"),
        (
            fgvc_aircraft,
            "fgvc-aircraft-2013b/data/images_variant_test.txt",
            "1025794",
            "must read '1025794 707-320'",
        ),
        (sun397, "SUN397/Testing_01.txt", "a/abbey/sun_a.jpg", "must read '/a/abbey/sun_"),
        (sun397, "SUN397/ClassName.txt", "abbey", "must read '/a/abbey'"),
        (
            oxford_iiit_pet,
            "annotations/trainval.txt",
            "Abyssinian 1 1 1",
            "must read 'Abyssinian_100 1 1 1'",
        ),
        (
            oxford_iiit_pet,
            "annotations/trainval.txt",
            "Persian_3 1 1 1",
            "class 1 is 'Persian' in another line, here 'Abyssinian'",
        ),
        (
            oxford_iiit_pet,
            "annotations/trainval.txt",
            "Persian_3 9 1 9",
            "numbered from 1 on without a gap, 5 have numbers up to 9",
        ),
    ],
)
def test_a_bad_line_is_named(task: Any, path: str, line: str, message: str, tmp_path: Path) -> None:
    task.TASK.sample.write(tmp_path)
    write_lines(tmp_path / path, line)

    with pytest.raises(DataError, match=re.escape(message)) as caught:
        task.TASK.load(tmp_path, "test")
    assert "\n" not in str(caught.value)


def test_textures_have_the_same_classes_whichever_part_shows_them(tmp_path: Path) -> None:
    # torchvision takes them from the part alone: labels of parts that lack a class would shift.
    dtd.TASK.sample.write(tmp_path)
    path = tmp_path / "dtd" / "labels" / "test1.txt"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("banded/")]
    write_lines(path, *lines)

    split = dtd.TASK.load(tmp_path, "test")

    assert split.classes == ("banded", "blotchy", "braided", "bubbly")
    assert {item.target for item in split.items} == {1, 2, 3}


def test_sun397_takes_lists_from_where_people_unpack_them(tmp_path: Path) -> None:
    sun397.TASK.sample.write(tmp_path)
    expected = sun397.TASK.load(tmp_path, "train")
    (tmp_path / "Partitions").mkdir()
    for path in [*(tmp_path / "SUN397").glob("*.txt")]:
        path.rename(tmp_path / "Partitions" / path.name)

    found = sun397.TASK.load(tmp_path, "train")

    assert found == expected
    assert found.classes[2] == "apartment_building/outdoor"
    (tmp_path / "Partitions" / "Training_01.txt").unlink()
    with pytest.raises(DataError, match=r"must have Training_01\.txt in .*unpack Partitions.zip"):
        sun397.TASK.load(tmp_path, "train")


def test_birdsnap_trains_on_all_that_it_does_not_test(tmp_path: Path) -> None:
    birdsnap.TASK.sample.write(tmp_path)
    base = tmp_path / "birdsnap"
    listed = [line.split("\t")[2] for line in (base / "images.txt").read_text().splitlines()[1:]]
    tested = (base / "test_images.txt").read_text().splitlines()[1:]

    splits = splits_of(birdsnap.TASK, tmp_path)

    assert [item.id for item in splits["test"].items] == tested
    assert {item.id for item in splits["train"].items} == {*listed} - {*tested}
    assert labels(splits["test"])[Path(tested[-1]).name] == "Steller's Jay"
    (base / "download" / "images").rename(base / "images")
    assert [item.id for item in birdsnap.TASK.load(base, "test").items] == tested


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("test_images.txt", ["path", "Nowhere/1.jpg"], "line 2: .* 'Nowhere/1.jpg' is not"),
        ("test_images.txt", ["Nowhere/1.jpg"], "must begin with the header 'path'"),
        ("images.txt", ["path\turl", "a\tb"], "must name the columns path, species_id"),
        ("images.txt", ["path\tspecies_id", "a\t501"], "must be in images.txt too"),
        ("species.txt", ["id\tcommon", "1\tOwl", "1\tJay"], "has 2 rows and 1 ids"),
    ],
)
def test_birdsnaps_lists_must_fit_together(
    name: str, lines: list[str], message: str, tmp_path: Path
) -> None:
    birdsnap.TASK.sample.write(tmp_path)
    write_lines(tmp_path / "birdsnap" / name, *lines)

    with pytest.raises(DataError, match=message):
        birdsnap.TASK.load(tmp_path, "test")


def test_a_species_that_is_in_no_list_is_named(tmp_path: Path) -> None:
    birdsnap.TASK.sample.write(tmp_path)
    write_lines(tmp_path / "birdsnap" / "species.txt", "id\tcommon", "7\tOwl", "8\tJay")

    with pytest.raises(DataError, match=r"images\.txt, line \d+: species_id '1' is none of the 2"):
        birdsnap.TASK.load(tmp_path, "test")


def test_cars_take_their_test_labels_from_either_folder(tmp_path: Path) -> None:
    stanford_cars.TASK.sample.write(tmp_path)
    base = tmp_path / "stanford_cars"
    expected = stanford_cars.TASK.load(tmp_path, "test")
    name = "cars_test_annos_withlabels.mat"
    (base / name).rename(base / "devkit" / name)

    assert stanford_cars.TASK.load(base, "test") == expected
    (base / "devkit" / name).unlink()
    with pytest.raises(DataError, match=f"test must have {name} in .* devkit/, and it is in nei"):
        stanford_cars.TASK.load(base, "test")


def test_cars_are_found_where_mirrors_have_them(tmp_path: Path) -> None:
    # Kaggle's copy: car_devkit/devkit/ and cars_train/cars_train/, the test labels on their own.
    stanford_cars.TASK.sample.write(tmp_path)
    expected = splits_of(stanford_cars.TASK, tmp_path)
    base, mirror = tmp_path / "stanford_cars", tmp_path / "mirror"
    for folder, outer in (("devkit", "car_devkit"), ("cars_train", "cars_train")):
        (mirror / outer).mkdir(parents=True)
        (base / folder).rename(mirror / outer / folder)
    for name in ("cars_test", "cars_test_annos_withlabels.mat"):
        (base / name).rename(mirror / name)

    found = splits_of(stanford_cars.TASK, mirror)

    for name, split in expected.items():
        labelled = [[(item.id, item.target) for item in s.items] for s in (split, found[name])]
        assert labelled[0] == labelled[1]


def cars_of(path: Path, *rows: tuple[Any, ...], fields: tuple[str, ...]) -> None:
    table = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    table[0] = list(rows)
    savemat(path, {"annotations": table})


def test_a_list_of_one_car_is_a_list(tmp_path: Path) -> None:
    stanford_cars.TASK.sample.write(tmp_path)
    path = tmp_path / "stanford_cars" / "devkit" / "cars_train_annos.mat"
    cars_of(path, (2, "00001.jpg"), fields=("class", "fname"))

    (item,) = stanford_cars.TASK.load(tmp_path, "train").items

    assert (item.id, item.target) == ("cars_train/00001.jpg", 1)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    stanford_cars.TASK.sample.write(tmp_path)
    path = tmp_path / "stanford_cars" / "devkit" / "cars_train_annos.mat"

    cars_of(path, (5, "00001.jpg"), fields=("class", "fname"))
    with pytest.raises(DataError, match="row 1: class must be a number from 1 to 4, is '5'"):
        stanford_cars.TASK.load(tmp_path, "train")
    # The published file of test pictures without labels.
    cars_of(path, (5, "00001.jpg"), fields=("bbox_x1", "fname"))
    with pytest.raises(DataError, match="row 1: must have 'fname' and 'class'; get the file with"):
        stanford_cars.TASK.load(tmp_path, "train")
    savemat(path, {"other": [1]})
    with pytest.raises(DataError, match="must hold the variable 'annotations', it holds other"):
        stanford_cars.TASK.load(tmp_path, "train")
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(DataError, match="must be a MATLAB file of version 5"):
        stanford_cars.TASK.load(tmp_path, "train")
    path.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="must be a MATLAB file of version 5") as caught:
        stanford_cars.TASK.load(tmp_path, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variables", "message"),
    [
        ("imagelabels.mat", {"labels": [1, 103]}, "labels must be whole numbers from 1 to 102"),
        ("imagelabels.mat", {"labels": [1.5, 2.0]}, "1 to 102, 1.5 is one"),
        ("setid.mat", {"tstid": [0, 1]}, "tstid must be whole numbers from 1 to 48, 0 is one"),
        ("setid.mat", {"tstid": [[]]}, "tstid must be .* it is empty"),
        ("setid.mat", {"tstid": [3, 3]}, "row 2: 'jpg/image_00003.jpg' must be listed once"),
    ],
)
def test_flowers_with_bad_numbers_are_refused(
    name: str, variables: dict[str, Any], message: str, tmp_path: Path
) -> None:
    oxford_flowers102.TASK.sample.write(tmp_path)
    savemat(tmp_path / name, variables)

    with pytest.raises(DataError, match=message):
        oxford_flowers102.TASK.load(tmp_path, "test")


def test_caltech101_draws_thirty_of_each_class_by_name_alone(tmp_path: Path) -> None:
    caltech101.TASK.sample.write(tmp_path)
    folder = tmp_path / "caltech-101" / "101_ObjectCategories"
    (folder / "BACKGROUND_Google" / "tmp").touch()

    splits = splits_of(caltech101.TASK, tmp_path)

    for index in range(3):
        train, test = ([i for i in s.items if i.target == index] for s in splits.values())
        assert (len(train), len(test)) == (30, 4)
    # The four largest of `printf accordion/image_00NN.jpg | sha256sum` for NN = 01 ... 34.
    tested = [item.id for item in splits["test"].items if item.target == 1]
    assert tested == [f"accordion/image_00{number}.jpg" for number in ("07", "10", "11", "23")]
    assert "1 files are no pictures: left out" in splits["train"].notes
    for number in range(30, 35):
        (folder / "airplanes" / f"image_00{number}.jpg").unlink()
    with pytest.raises(DataError, match=r"airplanes must have more than 30 pictures, .* has 29"):
        caltech101.TASK.load(tmp_path, "test")

"""VTAB-1k: which examples its tasks show, how they label them, and the folder they are released in.

The orders are held to digests made with the Hasher of tensorflow-datasets 4.9.10, the cuts to
google-research/task_adaptation (data/*.py at ed9b417), class counts and test sizes to the tables of
VPT (tune_vtab.py, DATA2CLS; arXiv:2203.12119, table 6).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rsbench_tasks._vtab import VtabSet
from rsbench_tasks._vtab_labels import binned, clevr_count, clevr_distance, kitti_distance
from rsbench_tasks._vtab_order import (
    ORDER_DIGESTS,
    TEST,
    TRAIN,
    VALIDATION,
    Cut,
    Cuts,
    cut,
    held_out,
    hold_to_published,
    in_tfds_order,
    label_notes,
)

from rsbench.data.layouts import untested_layouts
from rsbench.errors import DataError
from rsbench.registry import find_task
from rsbench.specs import Fold, Task

# Name, classes and test pictures, in VTAB's order. VPT says 6,084 of Caltech-101; TFDS has 6,085:
# one of the 30 files that it draws of the background's class is no picture, and train has 3,059.
TABLE = {
    "caltech101": (102, 6_085),
    "cifar100": (100, 10_000),
    "dtd": (47, 1_880),
    "oxford_flowers102": (102, 6_149),
    "oxford_iiit_pet": (37, 3_669),
    "sun397": (397, 21_750),
    "svhn": (10, 26_032),
    "patch_camelyon": (2, 32_768),
    "eurosat": (10, 5_400),
    "resisc45": (45, 6_300),
    "diabetic_retinopathy": (5, 42_670),
    "clevr_count_all": (8, 15_000),
    "clevr_closest_object_distance": (6, 15_000),
    "dmlab": (6, 22_735),
    "kitti_closest_vehicle_distance": (4, 711),
    "dsprites_label_x_position": (16, 73_728),
    "dsprites_label_orientation": (16, 73_728),
    "smallnorb_label_azimuth": (18, 12_150),
    "smallnorb_label_elevation": (9, 12_150),
}


def task(name: str) -> Task:
    return find_task(f"vtab_{name}").spec


def data_of(name: str) -> VtabSet:
    which: VtabSet = task(name).load.args[0]  # type: ignore[attr-defined]
    return which


# ---------------------------------------------------------------------------- the 19 tasks


@pytest.mark.parametrize("name", TABLE)
def test_a_task_has_the_classes_and_the_test_of_the_published_table(name: str) -> None:
    which = data_of(name)

    assert (len(which.classes), which.num_test) == TABLE[name]
    assert which.name == f"vtab_{name}"
    assert task(name).folds == (Fold(train=TRAIN, validation=VALIDATION, test=TEST),)
    assert [metric.name for metric in task(name).metrics] == ["top1"]
    assert untested_layouts(task(name).layouts) == ()


def test_only_questions_that_survive_a_mirror_allow_one() -> None:
    # Digits, places, angles and sides change when they are mirrored; heights and distances do not.
    assert [name for name in TABLE if not task(name).flip] == [
        "svhn",
        "dsprites_label_x_position",
        "dsprites_label_orientation",
        "smallnorb_label_azimuth",
    ]


# ---------------------------------------------------------------------------- the order


def test_examples_are_ordered_by_md5_of_split_and_key() -> None:
    keys = [f"image_{number:05d}.jpg" for number in range(50)]

    def by_hand(key: str) -> int:
        return int(hashlib.md5(b"validation" + key.encode()).hexdigest(), 16)

    assert in_tfds_order(keys, salt="validation") == sorted(keys, key=by_hand)
    # Printed by the Hasher of TFDS for the 50,000 train pictures of CIFAR.
    assert in_tfds_order(range(50_000), salt="train")[:3] == [16399, 1680, 47917]


def keys_without_data(name: str, pool: str) -> list[str] | range:
    """Give all keys of a pool that are known without the data set."""
    if name == "patch_camelyon":
        word, count = {
            "train": ("train", 262_144),
            "validation": ("valid", 32_768),
            "test": ("test", 32_768),
        }[pool]
        return [f"{word}_{number}" for number in range(count)]
    originals = data_of(name).originals[0]
    if name in ("eurosat", "resisc45", "clevr_count_all"):
        return list(originals.keys(None, None, pool))  # type: ignore[arg-type]
    return range(originals.num_keys[pool])  # type: ignore[index]


@pytest.mark.parametrize(
    "name",
    [
        "cifar100",
        "svhn",
        "patch_camelyon",
        "eurosat",
        "resisc45",
        "clevr_count_all",
        "dsprites_label_orientation",
        "smallnorb_label_azimuth",
    ],
)
def test_train_validation_and_test_are_the_examples_that_tfds_gives(name: str) -> None:
    which = data_of(name)
    shown = {}
    orders: dict[str, list[str] | list[int]] = {}
    for split in (TRAIN, VALIDATION, TEST):
        pool = which.cuts.of(split).pool
        if pool not in orders:
            orders[pool] = in_tfds_order(keys_without_data(name, pool), salt=pool)
        shown[split] = [(pool, key) for key in cut(orders[pool], which.cuts, split)]
        hold_to_published(which.data_set, split, [key for _, key in shown[split]])

    assert which.data_set in ORDER_DIGESTS
    assert [len(keys) for keys in shown.values()] == [800, 200, which.num_test]
    assert len({key for keys in shown.values() for key in keys}) == 1000 + which.num_test


def test_an_order_that_is_not_the_published_one_is_refused() -> None:
    with pytest.raises(DataError, match="svhn train800 must hold the examples of VTAB"):
        hold_to_published("svhn", TRAIN, range(800))


@pytest.mark.parametrize(
    ("name", "pool", "splits"),
    [
        # caltech.py, cifar.py, clevr.py, svhn.py: 90 percent; oxford_iiit_pet.py: 80.
        ("caltech101", "train", {TRAIN: (0, 800), VALIDATION: (2753, 2953)}),
        ("svhn", "train", {TRAIN: (0, 800), VALIDATION: (65_931, 66_131)}),
        ("clevr_count_all", "train", {TRAIN: (0, 800), VALIDATION: (63_000, 63_200)}),
        ("oxford_iiit_pet", "train", {TRAIN: (0, 800), VALIDATION: (2944, 3144)}),
        # eurosat.py: 60, 20 and 20; dsprites.py: 80, 10 and 10.
        (
            "eurosat",
            "train",
            {TRAIN: (0, 800), VALIDATION: (16_200, 16_400), TEST: (21_600, 27_000)},
        ),
        (
            "dsprites_label_orientation",
            "train",
            {TRAIN: (0, 800), VALIDATION: (589_824, 590_024), TEST: (663_552, 737_280)},
        ),
        # smallnorb.py: validation and test are the halves of test.
        ("smallnorb_label_azimuth", "test", {VALIDATION: (0, 200), TEST: (12_150, 24_300)}),
        ("kitti_closest_vehicle_distance", "validation", {VALIDATION: (0, 200)}),
    ],
)
def test_the_splits_are_cut_where_task_adaptation_cuts_them(
    name: str, pool: str, splits: dict[str, tuple[int, int]]
) -> None:
    count = {
        "caltech101": 3059,
        "svhn": 73_257,
        "clevr_count_all": 70_000,
        "oxford_iiit_pet": 3680,
        "eurosat": 27_000,
        "dsprites_label_orientation": 737_280,
        "smallnorb_label_azimuth": 24_300,
        "kitti_closest_vehicle_distance": 423,
    }[name]
    cuts = data_of(name).cuts

    for split, (first, last) in splits.items():
        assert cuts.of(split).pool == pool
        assert cut(range(count), cuts, split) == range(first, last)


def test_a_pool_too_small_for_a_cut_gives_no_example_twice() -> None:
    assert cut(range(100), held_out(90), TRAIN) == range(90)
    assert cut(range(100), held_out(90), VALIDATION) == range(90, 100)
    thirds = Cuts(Cut("train"), Cut("train", 60), Cut("train", 80))
    assert cut(range(1500), thirds, VALIDATION) == range(900, 1100)
    assert cut(range(1500), thirds, TEST) == range(1200, 1500)


# ---------------------------------------------------------------------------- labels, by hand


def scene(*distances: float) -> list[dict[str, list[float]]]:
    return [{"pixel_coords": [10.0, 20.0, distance]} for distance in distances]


def test_clevr_counts_from_three_objects_on() -> None:
    assert [clevr_count(scene(*[9.0] * count)) for count in range(3, 11)] == list(range(8))


@pytest.mark.parametrize(
    ("nearest", "label"),
    [(7.9, 0), (8.0, 0), (8.25, 1), (8.5, 1), (8.75, 2), (9.25, 3), (9.75, 4), (10.0, 4), (12, 5)],
)
def test_clevr_asks_for_the_nearest_object(nearest: float, label: int) -> None:
    # Thresholds 0, 8, 8.5, 9, 9.5, 10, 100; the label is the last one that lies below.
    assert clevr_distance(scene(13.0, nearest, 14.0)) == label


def test_a_distance_is_compared_as_a_32_bit_float() -> None:
    # 8.5 plus 1e-9 is 8.5 in 32 bits, and not beyond the threshold.
    assert clevr_distance(scene(8.5 + 1e-9)) == 1
    assert clevr_distance(scene(8.5 + 1e-5)) == 2


@pytest.mark.parametrize(
    "distance", [-1.0, 0.0, 100.5, float("nan"), float("inf"), 10**400, -(10**400)]
)
def test_a_distance_that_no_class_has_is_refused(distance: float) -> None:
    with pytest.raises(ValueError, match="more than 0 and at most 100, got"):
        clevr_distance(scene(9.0, distance))


@pytest.mark.parametrize("count", [0, 1, 2, 11])
def test_a_number_of_objects_that_no_class_has_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"3 to 10 objects, one has {count}"):
        clevr_count(scene(*[9.0] * count))


@pytest.mark.parametrize("z", ["nan", "inf", "-inf", "1e999", "-100.5"])
def test_a_vehicle_that_is_nowhere_is_refused(z: str) -> None:
    with pytest.raises(ValueError, match="a distance must be"):
        kitti_distance([kitti_line("Car", 9.0), kitti_line("Car", z)])


def kitti_line(kind: str, z: float | str) -> str:
    # Type, truncated, occluded, alpha, 4 of the box, 3 dimensions, x, y, z, rotation.
    return f"{kind} 0.00 0 -1.57 614.24 181.78 727.31 284.77 1.57 1.73 4.15 1.00 1.75 {z} -1.62"


@pytest.mark.parametrize(
    ("objects", "label"),
    [
        ([("Car", 7.5), ("Van", 30.0)], 0),
        ([("Truck", 8.0)], 0),
        ([("Van", 8.01)], 1),
        ([("Car", 20.0), ("Pedestrian", 2.0)], 1),
        ([("Car", 45.0)], 2),
        ([("Car", -0.5)], 0),
        ([("Cyclist", 5.0), ("Tram", 4.0), ("DontCare", -1000.0)], 3),
        ([], 3),
    ],
)
def test_kitti_asks_for_the_nearest_car_van_or_truck(
    objects: list[tuple[str, float]], label: int
) -> None:
    assert kitti_distance([kitti_line(kind, z) for kind, z in objects]) == label


def test_values_of_dsprites_are_binned_evenly() -> None:
    # floor(value / (values / bins)), as data/dsprites.py.
    for num_values in (32, 40):
        expected = [int(value // (num_values / 16)) for value in range(num_values)]
        assert [binned(v, num_values=num_values, num_bins=16) for v in range(num_values)] == (
            expected
        )
    assert [binned(v, num_values=40, num_bins=16) for v in (0, 2, 3, 4, 5, 39)] == [
        0,
        0,
        1,
        1,
        2,
        15,
    ]


# ---------------------------------------------------------------------------- the released folder


def write_released(folder: Path, **lists: list[str]) -> Path:
    """Write lists, and the pictures that they name but those with "absent" in the name."""
    for name, lines in lists.items():
        for line in lines:
            path = folder / line.rpartition(" ")[0]
            if "absent" not in path.name and ".." not in path.parts:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_released_folder_is_read_in_the_order_of_its_lists(tmp_path: Path) -> None:
    write_released(
        tmp_path,
        train800=["images/train800/000000.jpg 46", "images/train800/000001.jpg 0"],
        val200=["images/val200/000000.jpg 3"],
        test=["images/test/000000.jpg 5", "images/test/absent.jpg 6"],
    )
    dtd = task("dtd")

    train, validation, test = (dtd.load(tmp_path, name) for name in (TRAIN, VALIDATION, TEST))

    assert [(item.id, item.target) for item in train.items] == [
        ("images/train800/000000.jpg", 46),
        ("images/train800/000001.jpg", 0),
    ]
    assert [item.target for item in validation.items] == [3]
    assert test.missing == ("images/test/absent.jpg",)
    assert (train.num_official, validation.num_official, test.num_official) == (800, 200, 1880)
    assert train.classes == test.classes == data_of("dtd").classes
    assert train.notes == ("train800.txt lists 2 of 800 examples of train800",)


def test_pictures_that_were_coded_again_are_another_medium(tmp_path: Path) -> None:
    write_released(
        tmp_path,
        train800=["images/train800/000000.jpg 1"],
        val200=["images/val200/000000.png 1"],
    )

    assert task("svhn").load(tmp_path, TRAIN).media == "vtab-1k jpeg"
    assert task("svhn").load(tmp_path, VALIDATION).media == "vtab-1k png"


@pytest.mark.parametrize("place", ["", "cifar", "cifar100", "vtab-1k/cifar"])
def test_the_root_may_be_the_folder_or_the_one_above(tmp_path: Path, place: str) -> None:
    write_released(tmp_path / place, train800=["images/train800/000000.jpg 99"])

    assert [item.id for item in task("cifar100").load(tmp_path, TRAIN).items] == [
        "images/train800/000000.jpg"
    ]


def test_the_two_questions_about_a_data_set_have_folders_of_their_own(tmp_path: Path) -> None:
    write_released(tmp_path / "clevr_count", train800=["images/train800/000000.jpg 7"])
    write_released(tmp_path / "clevr_dist", train800=["images/train800/000000.jpg 5"])

    assert task("clevr_count_all").load(tmp_path, TRAIN).items[0].target == 7
    assert task("clevr_closest_object_distance").load(tmp_path, TRAIN).items[0].target == 5


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["images/train800/000000.jpg 10"], "line 1: the label must be a class from 0 to 9"),
        (["images/train800/000000.jpg"], "line 1: a line must be 'path label'"),
        (["images/train800/000000.jpg -1"], "line 1: a line must be 'path label'"),
        (["a.jpg 1", "a.jpg 2"], r"train800.txt, line 2: 'a.jpg' must be listed once"),
        (["../a.jpg 1"], r"a '\.\.' part"),
        (["/etc/hostname 1"], "must lie below the data root"),
        (["absent0.jpg 1", "absent1.jpg 1"], "none of the 2 pictures that are listed"),
        ([f"{number}.jpg 1" for number in range(801)], "has 800 examples, and .* lists 801"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    present = [line for line in lines if " " in line and not line.startswith("/")][:2]
    write_released(tmp_path, train800=present)
    (tmp_path / "train800.txt").write_text("".join(f"{line}\n" for line in lines))

    with pytest.raises(DataError, match=message):
        task("svhn").load(tmp_path, TRAIN)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_released(tmp_path, train800=["a.jpg 1"])

    with pytest.raises(DataError, match=r"test must be listed in .*test\.txt"):
        task("svhn").load(tmp_path, TEST)


def test_a_folder_of_neither_form_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither svhn/train800.txt .* nor train_32x32.mat"):
        task("svhn").load(tmp_path, TRAIN)
    with pytest.raises(DataError, match=r"neither dmlab/train800.txt and its like is there"):
        task("dmlab").load(tmp_path, TRAIN)
    with pytest.raises(DataError, match="has the splits train800, validation200, test, not 'val'"):
        task("dmlab").load(tmp_path, "val")


def test_two_forms_below_one_root_are_refused(tmp_path: Path) -> None:
    write_released(tmp_path / "svhn", train800=["a.jpg 1"])
    (tmp_path / "train_32x32.mat").touch()
    (tmp_path / "test_32x32.mat").touch()

    with pytest.raises(DataError, match="in one form"):
        task("svhn").load(tmp_path, TRAIN)


def test_a_list_of_other_examples_than_those_of_tfds_is_noted(tmp_path: Path) -> None:
    # Labels of the first 800 of TFDS's order, which the Hasher of TFDS gave; here by class.
    counts = [94, 96, 91, 78, 81, 41, 79, 83, 70, 87]
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    write_released(tmp_path, train800=["0.jpg 0"])

    def notes_of(found: list[int]) -> tuple[str, ...]:
        lines = [f"{number}.jpg {label}\n" for number, label in enumerate(found)]
        (tmp_path / "train800.txt").write_text("".join(lines))
        return task("eurosat").load(tmp_path, TRAIN).notes

    assert notes_of(labels) == ()
    (note,) = notes_of([1, *labels[1:]])
    assert "labels of train800 are not those of TFDS 4.9.10's examples" in note


@pytest.mark.parametrize(("name", "is_known"), [("svhn", False), ("eurosat", True)])
def test_a_whole_list_without_a_digest_is_not_verified(
    tmp_path: Path, name: str, is_known: bool
) -> None:
    write_released(tmp_path, train800=["0.jpg 0"])
    (tmp_path / "val200.txt").write_text("".join(f"{number}.jpg 1\n" for number in range(200)))
    (tmp_path / "train800.txt").write_text("".join(f"{number}.jpg 1\n" for number in range(800)))

    notes = [task(name).load(tmp_path, split).notes for split in (TRAIN, VALIDATION)]

    # The same words, which a record has once.
    unverified = ("list not verified: no digest of its labels is known",)
    assert [each == unverified for each in notes] == [not is_known] * 2
    assert all(len(each) == 1 for each in notes)


@pytest.mark.parametrize("name", ["eurosat", "resisc45"])
def test_digests_of_labels_follow_from_the_keys(name: str) -> None:
    # Keys are "<class>_<class>_<number>.jpg".
    which = data_of(name)
    order = in_tfds_order(keys_without_data(name, "train"), salt="train")

    for split in (TRAIN, VALIDATION, TEST):
        words = [key.rpartition("_")[0] for key in cut(order, which.cuts, split)]
        labels = [which.classes.index(each[: len(each) // 2]) for each in words]
        assert label_notes(which.name, split, labels) == ()


@pytest.mark.parametrize(
    ("name", "step", "values"), [("label_x_position", 32, 32), ("label_orientation", 1024, 40)]
)
def test_digests_of_dsprites_follow_from_its_order(name: str, step: int, values: int) -> None:
    # Its page: "fixing the order of latent factors": the column of 32 above the row of 32, and the
    # 40 angles above both (https://github.com/google-deepmind/dsprites-dataset).
    which = data_of(f"dsprites_{name}")
    order = in_tfds_order(range(737_280), salt="train")

    for split in (TRAIN, VALIDATION, TEST):
        numbers = [key // step % values for key in cut(order, which.cuts, split)]
        assert label_notes(which.name, split, [n * 16 // values for n in numbers]) == ()


def test_own_classes_are_said(tmp_path: Path) -> None:
    write_released(tmp_path, train800=["a.jpg 0", "b.jpg 1"])
    (tmp_path / "classes.txt").write_text("odd\neven\n")

    split = task("svhn").load(tmp_path, TRAIN)

    assert split.classes == ("odd", "even")
    assert split.num_official == 2
    assert split.notes == ("classes are the 2 of classes.txt, not those of vtab_svhn",)

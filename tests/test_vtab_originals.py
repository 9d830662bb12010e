"""VTAB's tasks on data sets' own files: tiny ones in the official formats, written here.

The tiny sets have fewer examples than the published ones, which the tasks refuse; the tests lift
that count and nothing else. The expected order is TFDS's rule written out: md5 of split and key.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rsbench_tasks._vtab import VtabSet, load_vtab
from rsbench_tasks._vtab_order import TEST, TRAIN, VALIDATION
from rsbench_tasks._vtab_scenes import kitti_pools
from scipy.io import savemat

from rsbench.data.loaders import read_views
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.registry import find_task
from rsbench.specs import ClipSpec, InputSpec, Item, Reading, Split, Views


def strict(name: str) -> VtabSet:
    which: VtabSet = find_task(f"vtab_{name}").spec.load.args[0]  # type: ignore[attr-defined]
    return which


def any_size(name: str) -> VtabSet:
    which = strict(name)
    assert which.originals
    forms = tuple(replace(originals, num_keys={}) for originals in which.originals)
    return replace(which, originals=forms)


def tfds_order(salt: str, keys: Iterable[object]) -> list[Any]:
    return sorted(keys, key=lambda key: hashlib.md5(f"{salt}{key}".encode()).hexdigest())


def load_all(which: VtabSet, root: Path) -> dict[str, Split]:
    return {split: load_vtab(which, root, split) for split in (TRAIN, VALIDATION, TEST)}


def ids(split: Split) -> list[str]:
    return [item.id for item in split.items]


def views_of(item: Item, pixels: int) -> np.ndarray:
    """Read an item as runs do, at its own size: uint8 (H, W, 3)."""
    reading = Reading(
        modality="image",
        input=InputSpec(pixels=pixels),
        clip=ClipSpec(frames=1, stride=1),
        sampler="mmaction2@1",
        views=Views(),
    )
    return read_views(item, reading)[0].permute(1, 2, 0).numpy()


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(path)


# ---------------------------------------------------------------------------- arrays


def write_cifar(root: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Write records of two labels and three planes; give the pictures (N, 32, 32, 3)."""
    random = np.random.default_rng(0)
    (root / "fine_label_names.txt").write_text("\n".join(strict("cifar100").classes))
    pictures = {}
    for name, count in counts.items():
        pictures[name] = random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        planes = pictures[name].transpose(0, 3, 1, 2).reshape(count, -1)
        numbers = np.arange(count, dtype=np.uint8)
        (root / f"{name}.bin").write_bytes(
            np.column_stack([numbers % 20, numbers % 100, planes]).astype(np.uint8).tobytes()
        )
    return pictures


def test_cifar_is_cut_by_number(tmp_path: Path) -> None:
    pictures = write_cifar(tmp_path, {"train": 30, "test": 5})

    splits = load_all(any_size("cifar100"), tmp_path)

    order = tfds_order("train", range(30))
    assert ids(splits[TRAIN]) == [f"train/{number:05d}" for number in order[:27]]
    assert ids(splits[VALIDATION]) == [f"train/{number:05d}" for number in order[27:]]
    assert [item.target for item in splits[VALIDATION].items] == order[27:]
    assert ids(splits[TEST]) == [f"test/{n:05d}" for n in tfds_order("test", range(5))]
    first = splits[TRAIN].items[0]
    assert np.array_equal(first.source, pictures["train"][order[0]])
    assert np.array_equal(views_of(first, 32), pictures["train"][order[0]])
    assert splits[TRAIN].media == "original"
    assert splits[TRAIN].num_official == 27


def test_both_versions_of_cifar_give_the_same_examples(tmp_path: Path) -> None:
    found = {}
    for version in ("binary", "python"):
        (tmp_path / version).mkdir()
        write_picture_sample(
            tmp_path / version,
            layout=f"cifar-100 {version}",
            classes=strict("cifar100").classes[:4],
            sides=(32, 32),
        )
        found[version] = load_vtab(any_size("cifar100"), tmp_path / version, TRAIN).items

    for one, other in zip(found["binary"], found["python"], strict=True):
        assert (one.id, one.target) == (other.id, other.target)
        assert np.array_equal(one.source, other.source)


def test_a_cifar_file_of_another_length_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path, {"train": 30, "test": 5})

    with pytest.raises(DataError, match=r"train .* must have 50000 examples.*it has 30"):
        load_vtab(strict("cifar100"), tmp_path, TRAIN)


def test_tens_of_svhn_are_zeros(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = {}
    for name, count in {"train": 40, "test": 4}.items():
        pictures[name] = random.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        labels = np.arange(count)[:, None] % 10 + 1
        savemat(tmp_path / f"{name}_32x32.mat", {"X": pictures[name], "y": labels.astype(np.uint8)})

    splits = load_all(any_size("svhn"), tmp_path)

    order = tfds_order("train", range(40))
    assert ids(splits[TRAIN]) == [f"train_{number:06d}" for number in order[:36]]
    # Written are 1 to 10; the tenth is the digit 0.
    assert [item.target for item in splits[TRAIN].items] == [(n + 1) % 10 for n in order[:36]]
    last = splits[VALIDATION].items[-1]
    assert np.array_equal(last.source, pictures["train"][..., order[-1]])
    with pytest.raises(DataError, match=r"must have 73257 examples"):
        load_vtab(strict("svhn"), tmp_path, TRAIN)


def test_svhn_that_is_no_matlab_file_is_refused(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}_32x32.mat").write_bytes(b"<html>" * 50)

    with pytest.raises(DataError, match=r"train_32x32.mat must be a MATLAB file"):
        load_vtab(any_size("svhn"), tmp_path, TRAIN)


DSPRITES = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"


def write_dsprites(root: Path, count: int) -> np.ndarray:
    """Write pictures of 0 and 1, and classes of colour, shape, scale, angle, column and row."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 2, (count, 64, 64), dtype=np.uint8)
    numbers = np.arange(count)
    classes = np.zeros((count, 6), np.int64)
    classes[:, 3], classes[:, 4], classes[:, 5] = numbers % 40, numbers % 32, 31
    np.savez_compressed(root / DSPRITES, imgs=pictures, latents_classes=classes)
    return pictures


@pytest.mark.parametrize(("name", "values"), [("label_orientation", 40), ("label_x_position", 32)])
def test_dsprites_is_cut_twice_and_binned(
    tmp_path: Path, name: str, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of three pictures, so that several are read.
    monkeypatch.setattr("rsbench_tasks._vtab_arrays._BLOCK_BYTES", 3 * 64 * 64)
    pictures = write_dsprites(tmp_path, 100)

    splits = load_all(any_size(f"dsprites_{name}"), tmp_path)

    order = tfds_order("train", range(100))
    parts = {TRAIN: order[:80], VALIDATION: order[80:90], TEST: order[90:]}
    for split, numbers in parts.items():
        assert ids(splits[split]) == [f"{number:06d}" for number in numbers]
        expected = [int((number % values) // (values / 16)) for number in numbers]
        assert [item.target for item in splits[split].items] == expected
        for item, number in zip(splits[split].items, numbers, strict=True):
            white = np.repeat(pictures[number][..., None] * 255, 3, axis=2)
            assert np.array_equal(item.source, white)
    assert np.array_equal(views_of(splits[TEST].items[0], 64), splits[TEST].items[0].source)


def test_a_dsprites_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write_dsprites(tmp_path, 20)
    content = (tmp_path / DSPRITES).read_bytes()
    (tmp_path / DSPRITES).write_bytes(content[: len(content) // 2])

    with pytest.raises(DataError, match=r"must be numpy's \.npz"):
        load_vtab(any_size("dsprites_label_x_position"), tmp_path, TRAIN)


def write_matrix(path: Path, array: np.ndarray) -> None:
    """Write NORB's binary matrix: magic number, axes, at least three lengths, numbers."""
    magic = {"uint8": 507333717, "int32": 507333716}[array.dtype.name]
    lengths = [*array.shape, *[1] * (3 - array.ndim)]
    head = np.array([magic, array.ndim, *lengths], "<i4")
    path.write_bytes(head.tobytes() + array.tobytes())


def write_smallnorb(root: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    pictures = {}
    for name, count in counts.items():
        instances = {"training": "46789", "testing": "01235"}[name]
        stem = f"smallnorb-5x{instances}x9x18x6x2x96x96-{name}"
        pictures[name] = random.integers(0, 256, (count, 2, 96, 96), dtype=np.uint8)
        numbers = np.arange(count)
        columns = (numbers % 10, numbers % 9, numbers % 18 * 2, numbers % 6)
        write_matrix(root / f"{stem}-dat.mat", pictures[name])
        write_matrix(root / f"{stem}-info.mat", np.column_stack(columns).astype(np.int32))
    return pictures


@pytest.mark.parametrize(("name", "values"), [("label_azimuth", 18), ("label_elevation", 9)])
def test_smallnorb_selects_and_tests_on_the_halves_of_its_test(
    tmp_path: Path, name: str, values: int
) -> None:
    pictures = write_smallnorb(tmp_path, {"training": 30, "testing": 21})

    splits = load_all(any_size(f"smallnorb_{name}"), tmp_path)

    train, test = tfds_order("train", range(30)), tfds_order("test", range(21))
    assert ids(splits[TRAIN]) == [f"train_{number:05d}" for number in train]
    assert ids(splits[VALIDATION]) == [f"test_{number:05d}" for number in test[:10]]
    assert ids(splits[TEST]) == [f"test_{number:05d}" for number in test[10:]]
    assert [item.target for item in splits[TEST].items] == [n % values for n in test[10:]]
    first = splits[TEST].items[0]
    # The left camera, as three equal channels.
    grey = np.repeat(pictures["testing"][test[10], 0][..., None], 3, axis=2)
    assert np.array_equal(first.source, grey)
    assert np.array_equal(views_of(first, 96), grey)


def test_a_smallnorb_file_of_another_format_is_refused(tmp_path: Path) -> None:
    write_smallnorb(tmp_path, {"training": 3, "testing": 3})
    info = tmp_path / "smallnorb-5x46789x9x18x6x2x96x96-training-info.mat"
    content = info.read_bytes()

    info.write_bytes(content[:-4])
    with pytest.raises(DataError, match=r"must hold \(3, 4\) numbers"):
        load_vtab(any_size("smallnorb_label_azimuth"), tmp_path, TRAIN)
    info.write_bytes(b"\x1f\x8b" + content[2:])
    with pytest.raises(DataError, match="must be a binary matrix of NORB"):
        load_vtab(any_size("smallnorb_label_azimuth"), tmp_path, TRAIN)


def test_patch_camelyon_is_read_from_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    # Two pictures at once, so that runs of neighbours are parted.
    monkeypatch.setattr("rsbench_tasks._vtab_hdf5._ROWS_AT_ONCE", 2)
    random = np.random.default_rng(0)
    pictures = {}
    for word in ("train", "valid", "test"):
        pictures[word] = random.integers(0, 256, (7, 96, 96, 3), dtype=np.uint8)
        stem = tmp_path / f"camelyonpatch_level_2_split_{word}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = pictures[word]
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 1, 0, 1, 0, 0], np.uint8).reshape(7, 1, 1, 1)

    splits = load_all(any_size("patch_camelyon"), tmp_path)

    order = tfds_order("validation", [f"valid_{number}" for number in range(7)])
    assert ids(splits[VALIDATION]) == order
    for item in splits[VALIDATION].items:
        number = int(item.id[-1])
        assert np.array_equal(item.source, pictures["valid"][number])
        assert item.target == (number in (1, 2, 4))
    with pytest.raises(DataError, match="must have 32768 examples"):
        load_vtab(strict("patch_camelyon"), tmp_path, TEST)

    with h5py.File(tmp_path / "camelyonpatch_level_2_split_test_x.h5", "w") as file:
        file["x"] = h5py.ExternalLink("camelyonpatch_level_2_split_train_x.h5", "x")
    with pytest.raises(DataError, match="must hold the data set 'x' itself"):
        load_vtab(any_size("patch_camelyon"), tmp_path, TEST)
    (tmp_path / "camelyonpatch_level_2_split_test_y.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="must be a whole HDF5 file"):
        load_vtab(any_size("patch_camelyon"), tmp_path, TEST)


def write_svhn(root: Path, **variables: Any) -> None:
    for name in ("train", "test"):
        savemat(root / f"{name}_32x32.mat", variables)


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        (
            (32, 32, 3, 4),
            np.array([[np.nan], [1], [2], [3]]),
            r"y \(N\), it holds .* float64 \(4,\)",
        ),
        ((32, 32, 3, 4), np.array([[11], [1], [2], [3]], np.uint8), "y from 1 to 10, it holds 11"),
        ((32, 32, 3, 4), np.array([[0], [1], [2], [3]], np.uint8), "y from 1 to 10, it holds 0"),
        ((32, 32, 3, 4), np.ones((3, 1), np.uint8), r"\(32, 32, 3, 4\) and uint8 \(3,\)"),
        ((16, 32, 3, 4), np.ones((4, 1), np.uint8), r"it holds uint8 \(16, 32, 3, 4\)"),
        (None, np.ones((4, 1), np.uint8), "it holds a dict and uint8"),
        ((32, 32, 3, 4), None, r"must hold y \(N, 1\), it holds none"),
    ],
)
def test_svhn_of_another_form_is_refused(
    tmp_path: Path, pictures: tuple[int, ...] | None, labels: np.ndarray | None, message: str
) -> None:
    variables: dict[str, Any] = {
        "X": {"a": 1} if pictures is None else np.zeros(pictures, np.uint8)
    }
    write_svhn(tmp_path, **variables, **({} if labels is None else {"y": labels}))

    with pytest.raises(DataError, match=message):
        load_vtab(any_size("svhn"), tmp_path, TRAIN)


def test_a_table_that_is_too_large_for_the_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_svhn(tmp_path, X=np.zeros((32, 32, 3, 4), np.uint8), y=np.ones((4, 1), np.uint8))

    def full(path: Path, **options: bool) -> None:
        raise MemoryError

    monkeypatch.setattr("scipy.io.loadmat", full)
    with pytest.raises(MemoryError):
        load_vtab(any_size("svhn"), tmp_path, TRAIN)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(3, 0, 64)", r"imgs as uint8 \(N, 64, 64\).* holds uint8 \(3, 0, 64\)"),
        ("(3, -64, -64)", r"it holds uint8 \(3, -64, -64\)"),
        ("(3, 99999999, 99999999)", r"it holds uint8 \(3, 99999999, 99999999\)"),
        ("(3, 64)", r"it holds uint8 \(3, 64\)"),
        ("(1" + "0" * 30 + ", 64, 64)", "it holds uint8"),
        ("(737281, 64, 64)", "N at most 737280"),
        ("(0, 64, 64)", "it holds uint8"),
        ("(-3, 64, 64)", "it holds uint8"),
        ("(3, 10**3, 64)", "holds no plain array"),
    ],
)
def test_dsprites_of_another_form_is_refused(tmp_path: Path, shape: str, message: str) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / DSPRITES, "w") as archive:
        content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr("imgs.npy", content + bytes(200))

    with pytest.raises(DataError, match=message):
        load_vtab(any_size("dsprites_label_x_position"), tmp_path, TRAIN)


@pytest.mark.parametrize(
    ("imgs", "classes", "message"),
    [
        (np.full((10, 64, 64), 2, np.uint8), np.zeros((10, 6), np.int64), "0 and 1 in imgs"),
        (np.zeros((10, 64, 64), np.uint8), np.full((10, 6), 32), "0 to 31 in column 4"),
        (np.zeros((10, 64, 64), np.uint8), np.full((10, 6), -1), "0 to 31 in column 4"),
        (np.zeros((10, 64, 64), np.uint8), np.zeros((10, 6)), "it holds float64"),
        (np.zeros((10, 64, 64), np.uint8), np.zeros((10, 5), np.int64), r"whole numbers \(N, 6\)"),
        (
            np.zeros((10, 64, 64), np.uint8),
            np.zeros((4, 6), np.int64),
            "latents_classes, it holds 4",
        ),
    ],
)
def test_dsprites_of_other_numbers_is_refused(
    tmp_path: Path, imgs: np.ndarray, classes: np.ndarray, message: str
) -> None:
    np.savez_compressed(tmp_path / DSPRITES, imgs=imgs, latents_classes=classes)

    with pytest.raises(DataError, match=message):
        load_vtab(any_size("dsprites_label_x_position"), tmp_path, TRAIN)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (np.zeros((3, 1), np.int32), r"must hold int32 \(N, 4\), it holds int32 \(3, 1\)"),
        (np.zeros(3, np.int32), r"must hold int32 \(N, 4\), it holds int32 \(3,\)"),
        (np.full((3, 4), 36, np.int32), "0 to 34 in steps of 2, it holds 36 to 36"),
        (np.full((3, 4), 3, np.int32), "0 to 34 in steps of 2, it holds 3 to 3"),
        (np.full((3, 4), -2, np.int32), "0 to 34 in steps of 2, it holds -2 to -2"),
    ],
)
def test_smallnorb_of_other_numbers_is_refused(
    tmp_path: Path, info: np.ndarray, message: str
) -> None:
    write_smallnorb(tmp_path, {"training": 3, "testing": 3})
    write_matrix(tmp_path / "smallnorb-5x46789x9x18x6x2x96x96-training-info.mat", info)

    with pytest.raises(DataError, match=message):
        load_vtab(any_size("smallnorb_label_azimuth"), tmp_path, TRAIN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": np.array([b"abc"] * 3).reshape(3, 1, 1, 1)}, r"whole numbers \(N, 1, 1, 1\)"),
        ({"data": np.full((3, 1, 1, 1), np.nan)}, "it holds float64"),
        ({"data": np.full((3, 1, 1, 1), 0.7)}, "it holds float64"),
        ({"data": np.full((3, 1, 1, 1), 2, np.uint8)}, "must hold 0 and 1, it holds 2"),
        ({"shape": (), "dtype": "u1"}, r"it holds uint8 \(\)"),
        ({"data": np.zeros((3, 0, 1, 1), np.uint8)}, r"it holds uint8 \(3, 0, 1, 1\)"),
        ({"data": np.zeros((0, 1, 1, 1), np.uint8)}, r"it holds uint8 \(0, 1, 1, 1\)"),
        (
            {"shape": (3, 10**9, 10**4, 1), "dtype": "u1", "chunks": (1, 1000, 1000, 1)},
            r"it holds uint8 \(3, 1000000000, 10000, 1\)",
        ),
        (
            {"shape": (10**15, 1, 1, 1), "dtype": "u1", "chunks": (1000, 1, 1, 1)},
            "N at most 262144",
        ),
    ],
)
def test_labels_of_patch_camelyon_of_another_form_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    h5py = pytest.importorskip("h5py")
    for word in ("train", "valid", "test"):
        stem = tmp_path / f"camelyonpatch_level_2_split_{word}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = np.zeros((3, 96, 96, 3), np.uint8)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file.create_dataset("y", **options)

    with pytest.raises(DataError, match=message):
        load_vtab(any_size("patch_camelyon"), tmp_path, TRAIN)


@pytest.mark.parametrize("shape", [(3, 4, 4, 3), (3, 96, 96, 1), (3, 96, 96), (2, 96, 96, 3)])
def test_pictures_of_patch_camelyon_of_another_form_are_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    h5py = pytest.importorskip("h5py")
    for word in ("train", "valid", "test"):
        stem = tmp_path / f"camelyonpatch_level_2_split_{word}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = np.zeros(shape, np.uint8)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = np.zeros((3, 1, 1, 1), np.uint8)

    with pytest.raises(DataError, match=r"train_x.h5 must hold .*it holds (uint8 \(3|2)"):
        load_vtab(any_size("patch_camelyon"), tmp_path, TRAIN)


# ---------------------------------------------------------------------------- pictures


def test_dtd_is_read_by_its_first_partition(tmp_path: Path) -> None:
    keys = {
        word: [f"{name}/{name}_{number:04d}.jpg" for name in ("banded", "zigzagged")]
        for number, word in enumerate(("train", "val", "test"))
    }
    (tmp_path / "dtd" / "labels").mkdir(parents=True)
    for word, entries in keys.items():
        (tmp_path / "dtd" / "labels" / f"{word}1.txt").write_text("\n".join(entries) + "\n")
        for entry in entries:
            write_picture(tmp_path / "dtd" / "images" / entry)

    splits = load_all(any_size("dtd"), tmp_path)

    assert ids(splits[VALIDATION]) == tfds_order("validation", keys["val"])
    assert {item.id: item.target for item in splits[TEST].items} == {
        "banded/banded_0002.jpg": 0,
        "zigzagged/zigzagged_0002.jpg": 46,
    }
    with pytest.raises(DataError, match=r"train .* must have 1880 examples.*it has 2"):
        load_vtab(strict("dtd"), tmp_path, TRAIN)


@pytest.mark.parametrize("name", ["cifar100", "dtd", "oxford_flowers102", "oxford_iiit_pet"])
def test_the_layouts_that_other_tasks_write_are_read(tmp_path: Path, name: str) -> None:
    which = any_size(name)
    has_validation = name in ("dtd", "oxford_flowers102")
    for number, form in enumerate(which.originals):
        root = tmp_path / str(number)
        root.mkdir()
        write_picture_sample(
            root,
            layout=form.layout,
            classes=which.classes[:3],
            num_train=10,
            num_validation=2 * has_validation,
            sides=(32, 32),
        )

        splits = load_all(which, root)

        # Thirty train pictures, of which pets hold out a fifth, and CIFAR a tenth.
        expected = {"cifar100": (27, 3), "oxford_iiit_pet": (24, 6)}.get(name, (30, 6))
        assert (len(splits[TRAIN].items), len(splits[VALIDATION].items)) == expected
        assert {item.target for item in splits[TEST].items} == {0, 1, 2}
        assert splits[TEST].missing == ()


def test_flowers_are_labelled_by_their_number(tmp_path: Path) -> None:
    labels = np.array([[5, 1, 102, 7, 7, 30]], np.uint8)
    savemat(tmp_path / "imagelabels.mat", {"labels": labels})
    savemat(tmp_path / "setid.mat", {"trnid": [[2, 3]], "valid": [[6]], "tstid": [[1, 5]]})
    for number in (1, 2, 3, 6):
        write_picture(tmp_path / "jpg" / f"image_{number:05d}.jpg")

    splits = load_all(any_size("oxford_flowers102"), tmp_path)

    assert {item.id: item.target for item in splits[TRAIN].items} == {
        "image_00002.jpg": 0,
        "image_00003.jpg": 101,
    }
    assert [item.target for item in splits[VALIDATION].items] == [29]
    assert splits[TEST].missing == ("image_00005.jpg",)
    assert [item.target for item in splits[TEST].items] == [4]


def test_pets_hold_out_a_fifth_of_trainval(tmp_path: Path) -> None:
    lines = [f"Abyssinian_{number} 1 1 1" for number in range(5)]
    lines += [f"yorkshire_terrier_{number} 37 2 25" for number in range(5)]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "trainval.txt").write_text("\n".join(lines))
    (tmp_path / "annotations" / "test.txt").write_text("Bengal_1 6 1 2\n")
    for line in [*lines, "Bengal_1 6"]:
        write_picture(tmp_path / "images" / f"{line.split()[0]}.jpg")

    splits = load_all(any_size("oxford_iiit_pet"), tmp_path)

    order = tfds_order("train", [f"{line.split()[0]}.jpg" for line in lines])
    assert (ids(splits[TRAIN]), ids(splits[VALIDATION])) == (order[:8], order[8:])
    assert all(item.target == (0 if item.id[0] == "A" else 36) for item in splits[TRAIN].items)
    assert [item.target for item in splits[TEST].items] == [5]

    (tmp_path / "annotations" / "test.txt").write_text("Bengal_1 38 1 2\n")
    with pytest.raises(DataError, match=r"test.txt, line 1: .*class from 1 to 37"):
        load_vtab(any_size("oxford_iiit_pet"), tmp_path, TEST)


def test_sun397_leaves_out_what_tfds_leaves_out(tmp_path: Path) -> None:
    ignored = "/t/track/outdoor/sun_aophkoiosslinihb.jpg"
    lists = {
        "tr": ["/a/abbey/sun_b.jpg", ignored, "/y/youth_hostel/sun_c.jpg"],
        "va": ["/a/alley/sun_d.jpg"],
        "te": ["/t/track/outdoor/sun_e.jpg"],
    }
    for word, entries in lists.items():
        (tmp_path / f"sun397_tfds_{word}.txt").write_text("\n".join(entries))
        for entry in entries:
            write_picture(tmp_path / f"SUN397{entry}")

    splits = load_all(any_size("sun397"), tmp_path)

    names = splits[TRAIN].classes
    assert {item.id: names[item.target] for split in splits.values() for item in split.items} == {
        "/a/abbey/sun_b.jpg": "/a/abbey",
        "/y/youth_hostel/sun_c.jpg": "/y/youth_hostel",
        "/a/alley/sun_d.jpg": "/a/alley",
        "/t/track/outdoor/sun_e.jpg": "/t/track/outdoor",
    }


def test_lists_of_sun397_that_are_not_those_of_tfds_are_refused(tmp_path: Path) -> None:
    for word, count in {"tr": 76_127, "va": 10_875, "te": 21_750}.items():
        entries = (f"/a/abbey/sun_{number}.jpg\n" for number in range(count))
        (tmp_path / f"sun397_tfds_{word}.txt").write_text("".join(entries))
    (tmp_path / "SUN397").mkdir()

    with pytest.raises(DataError, match="sun397 train800 must hold the examples of VTAB"):
        load_vtab(strict("sun397"), tmp_path, TRAIN)


def test_eurosat_and_resisc45_are_named_by_class_and_number(tmp_path: Path) -> None:
    # Printed by the Hasher of TFDS: the first of train and of validation.
    eurosat = ("Forest/Forest_687.jpg", "SeaLake/SeaLake_804.jpg")
    for name in (*eurosat, "AnnualCrop/AnnualCrop_1.jpg"):
        write_picture(tmp_path / "2750" / name)
    resisc = ("dense_residential/dense_residential_068.jpg", "cloud/cloud_238.jpg")
    for name in (*resisc, "airplane/airplane_001.jpg", "wetland/wetland_001.jpg"):
        write_picture(tmp_path / "NWPU-RESISC45" / name)

    for task, (train, validation), folder in (
        ("eurosat", eurosat, "2750"),
        ("resisc45", resisc, "NWPU-RESISC45"),
    ):
        for split, name in ((TRAIN, train), (VALIDATION, validation)):
            found = load_vtab(strict(task), tmp_path, split)
            (item,) = found.items
            assert item.source == tmp_path / folder / name
            assert found.classes[item.target] == name.split("/")[0]
            assert len(found.missing) == (found.num_official or 0) - 1
    assert len(load_vtab(strict("eurosat"), tmp_path, TRAIN).missing) == 799


def test_clevr_is_labelled_by_its_scenes_and_tested_on_its_validation(tmp_path: Path) -> None:
    base = tmp_path / "CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    train = tfds_order("train", [f"CLEVR_train_{number:06d}.png" for number in range(70_000)])
    validation = [f"CLEVR_val_{number:06d}.png" for number in range(15_000)]

    def scenes(names: list[str]) -> str:
        objects = [{"pixel_coords": [0, 0, 8.25]}] * 3 + [{"pixel_coords": [0, 0, 11.0]}]
        return json.dumps({"scenes": [{"image_filename": n, "objects": objects} for n in names]})

    shown = [*train[:800], *train[63_000:63_200]]
    (base / "scenes" / "CLEVR_train_scenes.json").write_text(scenes(shown))
    (base / "scenes" / "CLEVR_val_scenes.json").write_text(scenes(validation))
    write_picture(base / "images" / "train" / train[0])
    write_picture(base / "images" / "train" / train[63_199])
    write_picture(base / "images" / "val" / "CLEVR_val_000007.png")

    counted = load_all(strict("clevr_count_all"), tmp_path)
    measured = load_vtab(strict("clevr_closest_object_distance"), tmp_path, TRAIN)

    assert [ids(split) for split in counted.values()] == [
        [train[0]],
        [train[63_199]],
        ["CLEVR_val_000007.png"],
    ]
    # Four objects are the second class; a nearest one between 8 and 8.5 is, too.
    assert [split.items[0].target for split in counted.values()] == [1, 1, 1]
    assert [item.target for item in measured.items] == [1]
    assert len(counted[TEST].missing) == 14_999

    (base / "scenes" / "CLEVR_train_scenes.json").write_text(scenes(shown[:-1]))
    with pytest.raises(DataError, match="must say the objects of each of 200 pictures"):
        load_vtab(strict("clevr_count_all"), tmp_path, VALIDATION)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("[" * 100_000, "RecursionError"),
        ('[{"pixel_coords": [0, 0, 9]}, {"pixel_coords": [0, 0, NaN]}]', "at most 100, got nan"),
        ('[{"pixel_coords": [0, 0, 5000]}]', "at most 100, got 5000"),
        (f'[{{"pixel_coords": [0, 0, {"9" * 400}]}}]', "at most 100, got 9999"),
        (f'[{{"pixel_coords": [0, 0, -{"9" * 400}]}}]', "at most 100, got -999"),
        ('[{"pixel_coords": [0, 0, "9"]}]', "TypeError"),
        ("[1, 2, 3]", "TypeError"),
        ("[]", "ValueError"),
        ('"abcd"', "objects must be a list"),
    ],
)
def test_scenes_of_clevr_that_say_no_distance_are_refused(
    tmp_path: Path, objects: str, message: str
) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "images" / "train").mkdir(parents=True)
    shown = tfds_order("train", [f"CLEVR_train_{number:06d}.png" for number in range(70_000)])
    scenes = (f'{{"image_filename": "{name}", "objects": {objects}}}' for name in shown[:800])
    if objects.startswith("[["):
        scenes = (objects for _ in range(1))
    (tmp_path / "scenes" / "CLEVR_train_scenes.json").write_text(
        f'{{"scenes": [{", ".join(scenes)}]}}'
    )
    (tmp_path / "scenes" / "CLEVR_val_scenes.json").write_text("{}")

    with pytest.raises(DataError, match=f"must say the objects .*{message}"):
        load_vtab(strict("clevr_closest_object_distance"), tmp_path, TRAIN)


def kitti_mapping() -> tuple[str, str]:
    """Give train_rand.txt and train_mapping.txt of 90 pictures of 30 videos."""
    lines = [""] * 90
    for number in range(90):
        video = f"2011_09_26_drive_{7 * number % 30 + 1:04d}_sync"
        lines[number * 11 % 90] = f"2011_09_26 {video} {number:010d}"
    return ",".join(str(number * 11 % 90 + 1) for number in range(90)), "\n".join(lines)


def test_videos_of_kitti_are_dealt_as_tfds_deals_them() -> None:
    rand, mapping = kitti_mapping()
    lines = mapping.splitlines()
    pools = kitti_pools(rand, mapping)

    pictures: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number, line in enumerate(rand.split(",")):
        pictures[pools[lines[int(line) - 1].split()[1]]].append(number)

    # Printed by TFDS 4.9.10's _build_splits for the same two files.
    assert pictures["validation"] == [4, 21, 28, 34, 51, 58, 64, 81, 88]
    assert pictures["test"] == [1, 5, 17, 31, 35, 47, 61, 65, 77]
    assert len(pictures["train"]) == 72


@pytest.mark.parametrize(
    ("rand", "message"),
    [
        ("", "must hold numbers of lines"),
        ("0, 1, 2", "numbers of lines .*line 0"),
        ("1, 91", "numbers of lines"),
        ("9" * 30, "numbers of lines"),
        ("1, 1", "three videos or more .* has 1"),
    ],
)
def test_a_mapping_of_kitti_that_makes_no_sense_is_refused(rand: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kitti_pools(rand, kitti_mapping()[1])


def test_kitti_is_labelled_by_the_nearest_vehicle(tmp_path: Path) -> None:
    rand, mapping = kitti_mapping()
    (tmp_path / "mapping").mkdir()
    (tmp_path / "mapping" / "train_rand.txt").write_text(rand)
    (tmp_path / "mapping" / "train_mapping.txt").write_text(mapping)
    labels = tmp_path / "training" / "label_2"
    labels.mkdir(parents=True)
    for number in range(90):
        if number != 47:
            write_picture(tmp_path / "training" / "image_2" / f"{number:06d}.png")
        car = f"Car 0.00 0 -1.57 1 2 3 4 1.5 1.7 4.1 1.0 1.7 {number}.0 -1.6"
        (labels / f"{number:06d}.txt").write_text(f"{car}\n" if number != 5 else "")

    splits = load_all(any_size("kitti_closest_vehicle_distance"), tmp_path)

    test = [1, 5, 17, 31, 35, 47, 61, 65, 77]
    order = tfds_order("test", [f"{number:06d}.png" for number in test])
    assert ids(splits[TEST]) == [key for key in order if key != "000047.png"]
    assert splits[TEST].missing == ("000047.png",)
    # Up to 8 m, up to 20 m, beyond; none in the picture without a car.
    assert {int(item.id[:6]): item.target for item in splits[TEST].items} == {
        1: 0,
        5: 3,
        17: 1,
        **dict.fromkeys((31, 35, 61, 65, 77), 2),
    }
    groups = [{item.group for item in split.items} for split in splits.values()]
    assert [len(each) for each in groups] == [24, 3, 3]
    assert not set.intersection(*groups)
    with pytest.raises(DataError, match=r"test .* must have 711 examples"):
        load_vtab(strict("kitti_closest_vehicle_distance"), tmp_path, TEST)

    (labels / "000001.txt").write_text("Car 0 0\n")
    with pytest.raises(DataError, match=r"000001.txt must hold lines of 15 words"):
        load_vtab(any_size("kitti_closest_vehicle_distance"), tmp_path, TEST)


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("dtd", ["labels/train1.txt", "labels/val1.txt", "labels/test1.txt", "images/"]),
        ("oxford_iiit_pet", ["annotations/trainval.txt", "annotations/test.txt", "images/"]),
        ("oxford_flowers102", ["imagelabels.mat", "setid.mat", "jpg/"]),
        ("sun397", [*(f"sun397_tfds_{word}.txt" for word in ("tr", "va", "te")), "SUN397/"]),
        (
            "clevr_count_all",
            [*(f"scenes/CLEVR_{word}_scenes.json" for word in ("train", "val")), "images/train/"],
        ),
        (
            "kitti_closest_vehicle_distance",
            [
                *("mapping/train_rand.txt", "mapping/train_mapping.txt"),
                *("training/image_2/", "training/label_2/"),
            ],
        ),
    ],
)
def test_a_list_that_leads_out_of_the_root_is_not_shown(
    tmp_path: Path, name: str, lists: list[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET\n")
    root = tmp_path / "root"
    for entry in lists:
        (root / entry).parent.mkdir(parents=True, exist_ok=True)
        if entry.endswith("/"):
            (root / entry).mkdir()
        else:
            (root / entry).symlink_to(secret)

    with pytest.raises(DataError, match="must lie below the data root") as caught:
        load_vtab(strict(name), root, TRAIN)
    assert "SECRET" not in str(caught.value)


def test_no_original_file_is_read_from_outside_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jpg"
    write_picture(outside)
    root = tmp_path / "root"
    labels = root / "labels"
    labels.mkdir(parents=True)
    (root / "images" / "banded").mkdir(parents=True)
    (root / "images" / "banded" / "a.jpg").symlink_to(outside)
    for name, entry in (("train", "banded/a.jpg"), ("val", "../../a.jpg"), ("test", "x/a.jpg")):
        (labels / f"{name}1.txt").write_text(f"{entry}\n")

    with pytest.raises(DataError, match="must lie below the data root"):
        load_vtab(any_size("dtd"), root, TRAIN)
    with pytest.raises(DataError, match="its class must be one of the 47"):
        load_vtab(any_size("dtd"), root, VALIDATION)
    with pytest.raises(DataError, match="its class must be one of the 47"):
        load_vtab(any_size("dtd"), root, TEST)

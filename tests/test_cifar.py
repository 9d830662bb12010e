"""CIFAR-10 and CIFAR-100: torchvision's pictures and labels, and pickles that are not trusted."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rsbench_tasks import cifar10, cifar100
from torchvision import datasets

from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.specs import Split, Task

TASKS = {"cifar10": cifar10.TASK, "cifar100": cifar100.TASK}

NAMES = {
    "cifar10": ("airplane", "automobile", "bird", "cat"),
    "cifar100": ("apple", "aquarium_fish", "baby", "bear"),
}


def write(root: Path, name: str, version: str) -> Path:
    """Write a sample of the binary or the python version; give its folder."""
    root.mkdir(exist_ok=True)
    layout = f"{name.replace('cifar', 'cifar-')} {version}"
    write_picture_sample(root, layout=layout, classes=NAMES[name], sides=(32, 32))
    (folder,) = root.iterdir()
    return folder


def picture(split: Split, row: int) -> np.ndarray:
    source = split.items[row].source
    assert isinstance(source, np.ndarray)
    return source


class Cifar10(datasets.CIFAR10):  # type: ignore[misc]
    """torchvision's, for files that are not the published ones."""

    train_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR10.train_list]
    test_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR10.test_list]
    meta: ClassVar = {**datasets.CIFAR10.meta, "md5": None}


class Cifar100(datasets.CIFAR100):  # type: ignore[misc]
    """torchvision's, for files that are not the published ones."""

    train_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR100.train_list]
    test_list: ClassVar = [[name, None] for name, _ in datasets.CIFAR100.test_list]
    meta: ClassVar = {**datasets.CIFAR100.meta, "md5": None}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_both_versions_are_what_torchvision_reads(name: str, split: str, tmp_path: Path) -> None:
    write(tmp_path / "binary", name, "binary")
    write(tmp_path / "python", name, "python")
    theirs = {"cifar10": Cifar10, "cifar100": Cifar100}[name](
        tmp_path / "python", train=split == "train"
    )

    for version in ("binary", "python"):
        ours = TASKS[name].load(tmp_path / version, split)
        assert [item.target for item in ours.items] == theirs.targets
        assert list(ours.classes) == theirs.classes
        assert np.array_equal(np.stack([item.source for item in ours.items]), theirs.data)
        assert ours.items[1].id == f"{split}/00001"


def test_a_record_is_a_label_and_three_planes(tmp_path: Path) -> None:
    # https://www.cs.toronto.edu/~kriz/cifar.html: "<1 x label><3072 x pixel>", red first, rows.
    folder = write(tmp_path, "cifar10", "binary")
    planes = np.zeros((3, 32, 32), dtype=np.uint8)
    planes[0, 0, 5], planes[1, 7, 0], planes[2, 31, 31] = 10, 20, 30
    (folder / "test_batch.bin").write_bytes(bytes([2]) + planes.tobytes())

    split = TASKS["cifar10"].load(tmp_path, "test")

    assert [item.target for item in split.items] == [2]
    pixels = picture(split, 0)
    assert pixels.shape == (32, 32, 3)
    assert (pixels[0, 5, 0], pixels[7, 0, 1], pixels[31, 31, 2]) == (10, 20, 30)


def test_the_classes_of_cifar100_are_the_fine_ones(tmp_path: Path) -> None:
    # "<1 x coarse label><1 x fine label><3072 x pixel>".
    folder = write(tmp_path, "cifar100", "binary")
    (folder / "test.bin").write_bytes(bytes([1, 3]) + bytes(3072))

    assert [item.target for item in TASKS["cifar100"].load(tmp_path, "test").items] == [3]


@pytest.mark.parametrize("name", TASKS)
def test_the_folder_itself_may_be_the_root_and_binary_goes_first(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    binary = write(tmp_path / "binary", name, "binary")
    python = write(tmp_path / "python", name, "python")
    for folder in (binary, python):
        assert len(task.load(folder, "test").items) == 16
    both = tmp_path / "both"
    both.mkdir()
    binary.rename(both / binary.name)
    python.rename(both / python.name)
    next((both / python.name).glob("test*")).unlink()

    assert len(task.load(both, "test").items) == 16


@pytest.mark.parametrize("version", ["binary", "python"])
def test_a_file_that_is_missing_is_named(version: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", version)
    gone = next(folder.glob("data_batch_3*"))
    gone.unlink()

    with pytest.raises(DataError, match=f"cifar10 train must have the file {gone.name} in"):
        TASKS["cifar10"].load(tmp_path, "train")
    assert TASKS["cifar10"].load(tmp_path, "test").items


def test_binary_files_that_are_cut_short_or_of_another_set_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "binary")
    path = folder / "test_batch.bin"
    whole = path.read_bytes()

    path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"records of 3073 bytes, and its \d+ bytes are no multipl"):
        TASKS["cifar10"].load(tmp_path, "test")
    path.write_bytes(bytes([4]) + whole[1:])
    with pytest.raises(DataError, match="must have labels from 0 to 3, has 4"):
        TASKS["cifar10"].load(tmp_path, "test")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cifar10 test must hold pictures"):
        TASKS["cifar10"].load(tmp_path, "test")


def write_official_size(root: Path, task: Task, *, num_last: int) -> None:
    """Write six files of zeros, of 10,000 records each but for the last."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name in names:
        num_records = num_last if name == "test_batch" else 2_000
        with (folder / f"{name}.bin").open("wb") as stream:
            stream.truncate(3073 * num_records)
    (folder / "batches.meta.txt").write_text("\n".join(f"class {index}" for index in range(10)))


@pytest.mark.parametrize(("num_pictures", "num_notes"), [(10_000, 0), (9_999, 1)])
def test_counts_are_held_to_the_published_ones(
    num_pictures: int, num_notes: int, tmp_path: Path
) -> None:
    write_official_size(tmp_path, TASKS["cifar10"], num_last=num_pictures)

    split = TASKS["cifar10"].load(tmp_path, "test")

    assert (split.num_official, len(split.items), len(split.notes)) == (
        10_000,
        num_pictures,
        num_notes,
    )


def test_more_pictures_than_were_published_are_refused(tmp_path: Path) -> None:
    write_official_size(tmp_path, TASKS["cifar10"], num_last=10_001)

    with pytest.raises(DataError, match="test must have 10000 pictures at most, as published, and"):
        TASKS["cifar10"].load(tmp_path, "test")


# -------------------------------------------------------------------------------- pickles


class Runs:
    """Runs a command of the shell when it is unpickled by an ordinary unpickler."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def write_pickle(path: Path, content: object, *, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.mark.parametrize("name", ["test_batch", "batches.meta"])
def test_a_pickle_runs_no_code(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "python")
    mark = tmp_path / "it ran"
    content = {"data": Runs(f"touch '{mark}'"), "labels": [0], "label_names": ["a"]}
    write_pickle(folder / name, content)

    with pytest.raises(DataError, match=r"it asks for posix\.system, which no picture needs"):
        TASKS["cifar10"].load(tmp_path, "test")
    assert not mark.exists()
    # The file is as bad as it looks.
    pickle.loads((folder / name).read_bytes())
    assert mark.exists()


def test_a_codec_is_no_way_around(tmp_path: Path) -> None:
    # c_codecs\nencode(text, "zip"): arrays of protocol 2 need latin1 and nothing else.
    folder = write(tmp_path, "cifar10", "python")
    (folder / "test_batch").write_bytes(
        b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0zip\x86R."
    )

    with pytest.raises(DataError, match="the encoding 'zip' is not one of arrays"):
        TASKS["cifar10"].load(tmp_path, "test")


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    # As the published files have it: protocol 2 with byte strings ("U") for keys and for the data
    # of the array, whose class numpy 1 named numpy.core.multiarray._reconstruct.
    folder = write(tmp_path, "cifar10", "python")
    data = bytes(range(256)) * 12
    (folder / "test_batch").write_bytes(
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\0K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\0tb\x89T\x00\x0c\x00\x00" + data + b"tb"
        b"U\x06labels](K\x03eu."
    )

    split = TASKS["cifar10"].load(tmp_path, "test")

    assert [item.target for item in split.items] == [3]
    planes = np.frombuffer(data, dtype=np.uint8).reshape(3, 32, 32)
    assert np.array_equal(picture(split, 0), planes.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a dict, holds a list"),
        ({"labels": [0]}, "must hold 'data' of type uint8 and the list 'labels'"),
        ({"data": np.zeros((1, 3072)), "labels": [0]}, "its arrays must be of plain uint8"),
        ({"data": np.zeros((3072, 2), np.uint8).T, "labels": [0, 0]}, "of uint8 in C order"),
        ({"data": np.zeros(3072, np.uint8), "labels": [0]}, "two lengths must fit an array's 3072"),
        ({"data": b"a" * 3072, "labels": [0]}, "must hold 'data' of type uint8"),
        ({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}, "and the list 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "for each of its 1 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [4]}, "labels from 0 to 3, has 4"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["a"]}, "must have whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [True]}, "whole numbers as .* a bool"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, "whole numbers as .* object"),
    ],
)
def test_pickles_of_something_else_are_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "cifar10", "python")
    write_pickle(folder / "test_batch", content)

    with pytest.raises(DataError, match=message) as caught:
        TASKS["cifar10"].load(tmp_path, "test")
    assert "\n" not in str(caught.value)


def raw_array(*, shape: str = "(I1\nI8\nt", code: str = "u1", state: str = "") -> bytes:
    """Write an array of eight bytes as numpy pickles it, with what is said of it replaced."""
    state = state or "(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    dtype = f"cnumpy\ndtype\n(S'{code}'\nI0\nI1\ntR{state}"
    text = (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        f"(I1\n{shape}{dtype}I00\nS'AAAAAAAA'\ntb"
    )
    return text.encode()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # Raw bytes as pointers to objects: a type of objects, or one whose state says so.
        (raw_array(code="O8"), "must be of plain uint8"),
        (raw_array(code="O"), "must be of plain uint8"),
        (raw_array(code="V8", state="(I3\nS'|'\nNNNI8\nI1\nI63\ntb"), "must be of plain uint8"),
        (raw_array(state="(I3\nS'|'\nNNNI8\nI1\nI63\ntb"), "must be of plain uint8"),
        (
            raw_array(
                state="(I3\nS'|'\nN(S'a'\nt(dS'a'\n(cnumpy\ndtype\n(S'O'\ntRI0\ntsI8\nI1\nI0\ntb"
            ),
            "must be of plain uint8",
        ),
        # Shapes that the bytes don't fill.
        (raw_array(shape="(I1\nI9\nt"), "two lengths must fit"),
        (raw_array(shape="(I-1\nI-8\nt"), "two lengths must fit"),
        (raw_array(shape="(I4611686018427387904\nI8\nt"), "two lengths must fit"),
        # An array of 128 TiB, made by calling its class.
        (b"cnumpy\nndarray\n(L17592186044416L\ntR", "not callable"),
        # What is given out is changed: the type, the function that makes arrays, the codec.
        (b"cnumpy\ndtype\n(N(dS'x'\nI1\nstb", "it changes what it is given"),
        (b"cnumpy\nndarray\n(dS'x'\nI1\nsb", "it changes what it is given"),
        (b"c_codecs\nencode\n(N(dS'__defaults__'\nI1\nstb", "it changes what it is given"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(N(dS'x'\nI1\nstb", "it changes what it is"),
        # A key that Python hashes to the end of its stack, and a memo of 32 GiB.
        (b"}" + b")" + b"\x85" * 100_000 + b"K\x01s", "made to exhaust the memory"),
        (b"N" + b"r\xff\xff\xff\xff", "made to exhaust the memory"),
    ],
)
def test_a_pickle_makes_nothing_but_small_plain_arrays(
    program: bytes, message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, "cifar10", "python")
    (folder / "test_batch").write_bytes(b"\x80\x02" + program + b".")

    with pytest.raises(DataError, match=f"test_batch must be a pickle .*{message}"):
        TASKS["cifar10"].load(tmp_path, "test")


def test_labels_that_are_arrays_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "python")
    data = np.zeros((1, 3072), np.uint8)
    write_pickle(folder / "test_batch", {"data": data, "labels": [np.zeros((1, 1), np.uint8)]})

    with pytest.raises(DataError, match="must have whole numbers as labels, has a _Array"):
        TASKS["cifar10"].load(tmp_path, "test")


@pytest.mark.parametrize("names", [None, [], [1], "airplane"])
def test_class_names_that_are_none_are_refused(names: object, tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "python")
    write_pickle(folder / "batches.meta", {"label_names": names})

    with pytest.raises(DataError, match=r"batches\.meta must hold class names as 'label_names'"):
        TASKS["cifar10"].load(tmp_path, "test")


def test_a_damaged_pickle_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = write(tmp_path, "cifar10", "python")
    path = folder / "test_batch"
    whole = path.read_bytes()

    for content in (whole[: len(whole) // 2], b"", b"<html>\nnot found</html>"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="must be a pickle of pictures as published") as caught:
            TASKS["cifar10"].load(tmp_path, "test")
        assert "\n" not in str(caught.value)

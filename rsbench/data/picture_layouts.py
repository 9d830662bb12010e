"""Writers of the layouts of data sets of pictures, as their archives unpack.

The formats and their sources are described where they are read: in the tasks of these names.
"""

from __future__ import annotations

import io
import json
import pickle
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from rsbench.data.examples import Example, Writer

if TYPE_CHECKING:
    from rsbench.data.examples import SplitWord

_SHORT: Mapping[SplitWord, str] = {"train": "train", "validation": "val", "test": "test"}
"""How lists name the splits."""

_CIFAR_SIDE = 32

_MAT_TEXT = b"MATLAB 5.0 MAT-file, written without a date so that equal tables are equal files"
"""Fills the descriptive text at the head of a file, where the time of writing stands otherwise."""

_MAT_TEXT_BYTES = 116
"""Its length (MAT-File Format, version 5, "Level 5 MAT-File Header Format")."""


def write_food101(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``food-101/images/<class>/<number>.jpg``, ``meta/{train,test}.{txt,json}``."""
    base = root / "food-101"
    listed: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for number, example in enumerate(examples, start=100001):
        _write_jpeg(base / "images" / example.label / f"{number}.jpg", example.pixels)
        listed[example.split][example.label].append(f"{example.label}/{number}")
    names = [f"{name}\n" for name in classes]
    labels = [f"{name.replace('_', ' ').capitalize()}\n" for name in classes]
    _write_lines(base / "meta" / "classes.txt", names)
    _write_lines(base / "meta" / "labels.txt", labels)
    for split, by_class in listed.items():
        lines = [f"{entry}\n" for entries in by_class.values() for entry in entries]
        _write_lines(base / "meta" / f"{split}.txt", lines)
        _write_lines(base / "meta" / f"{split}.json", [json.dumps(by_class)])


def write_cifar10_binary(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``cifar-10-batches-bin/{data_batch_N,test_batch}.bin`` and ``batches.meta.txt``."""
    base = root / "cifar-10-batches-bin"
    base.mkdir()
    # The official file ends in a blank line.
    _write_lines(base / "batches.meta.txt", [*(f"{name}\n" for name in classes), "\n"])
    for name, pictures_NCHW, labels_N in _cifar10_batches(examples, classes):
        records = np.column_stack([labels_N, pictures_NCHW.reshape(len(labels_N), -1)])
        (base / f"{name}.bin").write_bytes(records.astype(np.uint8).tobytes())


def write_cifar10_python(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``cifar-10-batches-py/{data_batch_N,test_batch,batches.meta}``, which are pickles."""
    base = root / "cifar-10-batches-py"
    base.mkdir()
    _write_pickle(base / "batches.meta", {"label_names": list(classes), "num_vis": 3072})
    for name, pictures_NCHW, labels_N in _cifar10_batches(examples, classes):
        flat = pictures_NCHW.reshape(len(labels_N), -1)
        content = {"batch_label": name, "labels": labels_N.tolist(), "data": flat}
        _write_pickle(base / name, content)


def write_cifar100_binary(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``cifar-100-binary/{train,test}.bin`` and ``{fine,coarse}_label_names.txt``."""
    base = root / "cifar-100-binary"
    base.mkdir()
    _write_lines(base / "fine_label_names.txt", [f"{name}\n" for name in classes])
    _write_lines(base / "coarse_label_names.txt", ["first half\n", "second half\n"])
    for split, pictures_NCHW, labels_N in _cifar_splits(examples, classes):
        coarse_N = labels_N * 2 // len(classes)
        flat = pictures_NCHW.reshape(len(labels_N), -1)
        records = np.column_stack([coarse_N, labels_N, flat])
        (base / f"{split}.bin").write_bytes(records.astype(np.uint8).tobytes())


def write_cifar100_python(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``cifar-100-python/{train,test,meta}``, which are pickles."""
    base = root / "cifar-100-python"
    base.mkdir()
    names = {"fine_label_names": list(classes), "coarse_label_names": ["first", "second"]}
    _write_pickle(base / "meta", names)
    for split, pictures_NCHW, labels_N in _cifar_splits(examples, classes):
        content = {
            "fine_labels": labels_N.tolist(),
            "coarse_labels": (labels_N * 2 // len(classes)).tolist(),
            "data": pictures_NCHW.reshape(len(labels_N), -1),
        }
        _write_pickle(base / split, content)


def write_birdsnap(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``birdsnap/{species,images,test_images}.txt`` and ``download/images/<dir>/*.jpg``."""
    base = root / "birdsnap"
    folders = [_plain(name) for name in classes]
    species = ["id\tcommon\tscientific\tdir\n"]
    for index, (name, folder) in enumerate(zip(classes, folders, strict=True), start=1):
        species.append(f"{index}\t{name}\tAves {index}\t{folder}\n")
    images = ["url\tmd5\tpath\tspecies_id\tbb_x1\tbb_y1\tbb_x2\tbb_y2\n"]
    tested = ["path\n"]
    for number, example in enumerate(examples, start=1):
        index = list(classes).index(example.label)
        path = f"{folders[index]}/{number:04d}.jpg"
        _write_jpeg(base / "download" / "images" / path, example.pixels)
        height, width = example.pixels.shape[:2]
        url = f"https://example.org/{number}.jpg"
        images.append(f"{url}\t{number:032x}\t{path}\t{index + 1}\t1\t1\t{width}\t{height}\n")
        if example.split == "test":
            tested.append(f"{path}\n")
    _write_lines(base / "species.txt", species)
    _write_lines(base / "images.txt", images)
    _write_lines(base / "test_images.txt", tested)


def write_sun397(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``SUN397/<letter>/<class>/sun_*.jpg``, ``ClassName.txt`` and ``*ing_01.txt``."""
    base = root / "SUN397"
    _write_lines(base / "ClassName.txt", [f"/{name[0]}/{name}\n" for name in classes])
    lines: dict[str, list[str]] = defaultdict(list)
    for number, example in enumerate(examples):
        path = f"{example.label[0]}/{example.label}/sun_{_letters(number)}.jpg"
        _write_jpeg(base / path, example.pixels)
        lines["Training" if example.split == "train" else "Testing"].append(f"/{path}\n")
    for name, content in lines.items():
        _write_lines(base / f"{name}_01.txt", content)


def write_stanford_cars(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``stanford_cars/cars_{train,test}/00001.jpg`` and the lists, in ``devkit/`` or beside.

    The labels of the test pictures came later and lie beside ``devkit/``.
    """
    base = root / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for example in examples:
        height, width = example.pixels.shape[:2]
        name = f"{len(rows[example.split]) + 1:05d}.jpg"
        _write_jpeg(base / f"cars_{example.split}" / name, example.pixels)
        index = list(classes).index(example.label) + 1
        rows[example.split].append((1, 1, width, height, index, name))
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    paths = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for split, path in paths.items():
        table = np.empty((1, len(rows[split])), dtype=[(field, object) for field in fields])
        table[0] = rows[split]
        _write_mat(base / path, {"annotations": table})
    _write_mat(
        base / "devkit" / "cars_meta.mat", {"class_names": np.array([*classes], dtype=object)}
    )


def write_fgvc_aircraft(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``fgvc-aircraft-2013b/data/images/*.jpg`` and ``images_variant_<split>.txt``."""
    base = root / "fgvc-aircraft-2013b" / "data"
    lines: dict[str, list[str]] = defaultdict(list)
    for number, example in enumerate(examples, start=34309):
        _write_jpeg(base / "images" / f"{number:07d}.jpg", example.pixels)
        line = f"{number:07d} {example.label}\n"
        lines[_SHORT[example.split]].append(line)
        if example.split != "test":
            lines["trainval"].append(line)
    _write_lines(base / "variants.txt", [f"{name}\n" for name in classes])
    for split, content in lines.items():
        _write_lines(base / f"images_variant_{split}.txt", content)


def write_voc2007(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``VOCdevkit/VOC2007/JPEGImages/*.jpg`` and ``ImageSets/Main/[<class>_]<set>.txt``.

    In every fifth picture the first class that it lacks is marked as difficult.
    """
    base = root / "VOCdevkit" / "VOC2007"
    lines: dict[str, list[str]] = defaultdict(list)
    for number, example in enumerate(examples, start=1):
        name = f"{number:06d}"
        _write_jpeg(base / "JPEGImages" / f"{name}.jpg", example.pixels)
        present = {action.label for action in example.actions}
        marks = {each: 1 if each in present else -1 for each in classes}
        if number % 5 == 0:
            marks[next(each for each in classes if each not in present)] = 0
        sets = [_SHORT[example.split], *([] if example.split == "test" else ["trainval"])]
        for each in sets:
            lines[each].append(f"{name}\n")
            for label, mark in marks.items():
                lines[f"{label}_{each}"].append(f"{name} {mark:2d}\n")
    for stem, content in lines.items():
        _write_lines(base / "ImageSets" / "Main" / f"{stem}.txt", content)


def write_dtd(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``dtd/images/<class>/<class>_0001.jpg`` and ``labels/{train,val,test}1.txt``."""
    base = root / "dtd"
    lines: dict[str, list[str]] = defaultdict(list)
    for number, example in enumerate(examples, start=1):
        path = f"{example.label}/{example.label}_{number:04d}.jpg"
        _write_jpeg(base / "images" / path, example.pixels)
        lines[_SHORT[example.split]].append(f"{path}\n")
    for split, content in lines.items():
        _write_lines(base / "labels" / f"{split}1.txt", content)


def write_oxford_iiit_pet(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``images/<Breed>_<number>.jpg`` and ``annotations/{trainval,test,list}.txt``."""
    lines: dict[str, list[str]] = defaultdict(list)
    for number, example in enumerate(examples, start=1):
        name = f"{example.label.replace(' ', '_')}_{number}"
        _write_jpeg(root / "images" / f"{name}.jpg", example.pixels)
        index = list(classes).index(example.label) + 1
        # The last two: cat or dog, and the breed among these. Cats have names with a capital.
        line = f"{name} {index} {1 if name[0].isupper() else 2} {index}\n"
        lines["trainval" if example.split == "train" else "test"].append(line)
        lines["list"].append(line)
    lines["list"].insert(0, "#Image CLASS-ID SPECIES BREED ID\n")
    for name, content in lines.items():
        _write_lines(root / "annotations" / f"{name}.txt", content)


def write_caltech101(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``caltech-101/101_ObjectCategories/<class>/image_0001.jpg``; no split is published."""
    numbers: dict[str, int] = defaultdict(int)
    for example in examples:
        numbers[example.label] += 1
        folder = root / "caltech-101" / "101_ObjectCategories" / example.label
        _write_jpeg(folder / f"image_{numbers[example.label]:04d}.jpg", example.pixels)


def write_oxford_flowers102(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``jpg/image_00001.jpg``, ``imagelabels.mat`` and ``setid.mat``."""
    labels: list[int] = []
    members: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples, start=1):
        _write_jpeg(root / "jpg" / f"image_{number:05d}.jpg", example.pixels)
        labels.append(list(classes).index(example.label) + 1)
        members[example.split].append(number)
    names = {"train": "trnid", "validation": "valid", "test": "tstid"}
    _write_mat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    _write_mat(
        root / "setid.mat",
        {name: np.array([members[split]], dtype=np.uint16) for split, name in names.items()},
    )


PICTURE_LAYOUTS: Mapping[str, Writer] = MappingProxyType(
    {
        "food-101": write_food101,
        "cifar-10 binary": write_cifar10_binary,
        "cifar-10 python": write_cifar10_python,
        "cifar-100 binary": write_cifar100_binary,
        "cifar-100 python": write_cifar100_python,
        "birdsnap": write_birdsnap,
        "sun397": write_sun397,
        "stanford cars": write_stanford_cars,
        "fgvc aircraft": write_fgvc_aircraft,
        "voc2007": write_voc2007,
        "dtd": write_dtd,
        "oxford-iiit pet": write_oxford_iiit_pet,
        "caltech-101": write_caltech101,
        "oxford flowers": write_oxford_flowers102,
    }
)


def _write_jpeg(path: Path, pixels: np.ndarray) -> None:
    """Write a JPEG; a picture without colour gets one channel, as some of the real ones have."""
    from rsbench.media.image import write_image

    path.parent.mkdir(parents=True, exist_ok=True)
    is_grey = bool((pixels == pixels[..., :1]).all())
    write_image(path, pixels[..., 0] if is_grey else pixels)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def _write_mat(path: Path, variables: Mapping[str, np.ndarray]) -> None:
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, dict(variables))
    path.write_bytes(_MAT_TEXT.ljust(_MAT_TEXT_BYTES) + stream.getvalue()[_MAT_TEXT_BYTES:])


def _write_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """Write a pickle of the protocol that the official files, made by Python 2, have."""
    path.write_bytes(pickle.dumps(dict(content), protocol=2))


def _cifar_splits(
    examples: Iterable[Example], classes: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Give (split, uint8 (N, C, H, W), int64 (N,)), the classes taking turns as in the real set."""
    by_split: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        assert example.pixels.shape[:2] == (_CIFAR_SIDE, _CIFAR_SIDE)
        by_split[example.split].append(example)
    found = []
    for split, members in by_split.items():
        members.sort(
            key=lambda example: (example.start_seconds, list(classes).index(example.label))
        )
        pictures_NHWC = np.stack([example.pixels for example in members])
        labels_N = np.array([list(classes).index(example.label) for example in members])
        found.append((split, np.ascontiguousarray(pictures_NHWC.transpose(0, 3, 1, 2)), labels_N))
    return found


def _cifar10_batches(
    examples: Iterable[Example], classes: Sequence[str]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Give (name of the file, pictures, labels): five files of train pictures and one of test."""
    batches = []
    for split, pictures_NCHW, labels_N in _cifar_splits(examples, classes):
        names = ["test_batch"] if split == "test" else [f"data_batch_{n}" for n in range(1, 6)]
        pictures = np.array_split(pictures_NCHW, len(names))
        labels = np.array_split(labels_N, len(names))
        batches += list(zip(names, pictures, labels, strict=True))
    return batches


def _letters(number: int) -> str:
    """Give sixteen letters of a number, as SUN's files are named."""
    digits = ""
    for _ in range(16):
        number, digit = divmod(number, 26)
        digits = chr(ord("a") + digit) + digits
    return digits


def _plain(name: str) -> str:
    """Give a name as Birdsnap has its folders: "Steller's Jay" is Stellers_Jay."""
    return name.replace("'", "").replace(" ", "_").replace("-", "_")

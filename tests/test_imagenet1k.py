"""ImageNet-1k: its classes against two other lists, its folders, and a head of 1,000 outputs."""

from __future__ import annotations

import csv
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numbered_world import read_done
from PIL import Image
from rsbench_tasks import imagenet1k
from torchvision.models._meta import _IMAGENET_CATEGORIES

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.data.layouts import untested_layouts
from rsbench.errors import DataError
from rsbench.protocols.evaluate import class_columns
from rsbench.specs import Fold
from rsbench.synsets import IMAGENET1K

TASK = imagenet1k.TASK
SAMPLES = Path(__file__).parents[2] / "shared" / "data" / "imagenet_samples"
TENCH, GOLDFISH, CARTON = "n01440764", "n01443537", "n02971356"


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _timm_info(name: str) -> list[str]:
    found = find_spec("timm")
    if found is None or found.origin is None:
        pytest.skip("timm, whose lists are the second source, is not installed")
    return (Path(found.origin).parent / "data" / "_info" / name).read_text().splitlines()


# ---------------------------------------------------------------------------------- classes


def test_the_classes_are_timms_in_timms_order() -> None:
    assert list(IMAGENET1K) == _timm_info("imagenet_synsets.txt")
    assert len(IMAGENET1K) == 1000
    assert list(IMAGENET1K) == sorted(set(IMAGENET1K))


def test_torchvisions_heads_have_the_same_order() -> None:
    # torchvision names its classes in English, from the words of the same synsets.
    lemmas = dict(line.split("\t") for line in _timm_info("imagenet_synset_to_lemma.txt"))

    def words(text: str) -> set[str]:
        return {re.sub(r"[^a-z]", "", word.lower()) for word in re.split(r"[,/]| or ", text)}

    differing = [
        name
        for name, wnid in zip(_IMAGENET_CATEGORIES, IMAGENET1K, strict=True)
        if not words(name) & words(lemmas[wnid])
    ]
    # Two that WordNet calls like another class, and torchvision by words of its own.
    assert differing == ["crane bird", "maillot tank suit"]


# ---------------------------------------------------------------------------------- folders


def test_folders_are_classes_of_the_thousand_whichever_are_there(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        f"val/{CARTON}/ILSVRC2012_val_00000003.JPEG",
        f"val/{GOLDFISH}/ILSVRC2012_val_00000001.JPEG",
        f"train/{TENCH}/{TENCH}_10026.JPEG",
        f"train/{TENCH}/{TENCH}_10027.jpg",
    )

    validation, train = TASK.load(tmp_path, "validation"), TASK.load(tmp_path, "train")

    # Places in the sorted list of all wnids: goldfish is 1, carton 478 (Keras's
    # imagenet_class_index.json).
    assert [(item.id, item.target) for item in validation.items] == [
        (f"val/{GOLDFISH}/ILSVRC2012_val_00000001.JPEG", 1),
        (f"val/{CARTON}/ILSVRC2012_val_00000003.JPEG", 478),
    ]
    assert [item.target for item in train.items] == [0, 0]
    assert validation.classes == train.classes == IMAGENET1K
    # Russakovsky et al. 2015, table 2.
    assert (train.num_official, validation.num_official) == (1_281_167, 50_000)
    assert validation.missing == ()
    assert any("2 of 50000 validation pictures, of 2 classes" in n for n in validation.notes)


@pytest.mark.parametrize("prefix", ["", "ILSVRC/Data/CLS-LOC/", "Data/CLS-LOC/"])
@pytest.mark.parametrize("word", ["val", "validation"])
def test_ids_are_the_same_wherever_the_folders_lie(tmp_path: Path, prefix: str, word: str) -> None:
    _touch(tmp_path, f"{prefix}{word}/{TENCH}/a.JPEG")

    assert [item.id for item in TASK.load(tmp_path, "validation").items] == [f"val/{TENCH}/a.JPEG"]


def test_a_root_without_train_is_for_testing_only(tmp_path: Path) -> None:
    _touch(tmp_path, f"val/{TENCH}/a.JPEG")
    assert callable(TASK.folds)
    assert TASK.folds(tmp_path) == (Fold(train=None, test="validation"),)

    _touch(tmp_path, f"train/{TENCH}/a.JPEG")
    assert TASK.folds(tmp_path) == (Fold(train="train", test="validation"),)


def test_files_that_are_no_pictures_are_counted(tmp_path: Path) -> None:
    _touch(tmp_path, f"val/{TENCH}/a.JPEG", f"val/{TENCH}/a.xml", f"val/{TENCH}/.DS_Store")

    split = TASK.load(tmp_path, "validation")

    assert len(split.items) == 1
    assert "1 files in val/ are no pictures: left out" in split.notes


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ([f"val/{TENCH}/a.JPEG"], "test", "the splits train and validation, not 'test'"),
        (["elsewhere/a.JPEG"], "validation", f"as val/<wnid>/, such as val/{TENCH}/, and is not"),
        ([f"{TENCH}/a.JPEG"], "validation", "point --data at the folder that holds train/ and val"),
        (["val/tench/a.JPEG"], "validation", "val/tench must be named by one of the 1000 wnids"),
        (["val/n00000001/a.JPEG"], "validation", "val/n00000001 must be named by one of the 1000"),
        (["val/ILSVRC2012_val_00000001.JPEG"], "validation", r"sort the pictures into val/<wnid>/"),
        ([f"val/{TENCH}/a.txt"], "validation", "must hold folders of pictures .* has empty ones"),
        (
            [f"val/{TENCH}/a.JPEG", f"validation/{TENCH}/a.JPEG"],
            "validation",
            "must lie in one folder, found .*val and .*validation",
        ),
    ],
)
def test_what_is_no_imagenet_is_refused_in_a_line(
    tmp_path: Path, names: list[str], split: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        TASK.load(_touch(tmp_path, *names), split)
    assert "\n" not in str(caught.value)


def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    outside = _touch(tmp_path / "outside", "a.JPEG")
    root = _touch(tmp_path / "root", f"val/{TENCH}/a.JPEG")
    (root / "val" / GOLDFISH).symlink_to(outside)

    with pytest.raises(DataError, match="must lie below the data root"):
        TASK.load(root, "validation")


def test_a_list_of_classes_makes_a_smaller_data_set(tmp_path: Path) -> None:
    _touch(tmp_path, f"val/{TENCH}/a.JPEG", f"val/{CARTON}/b.JPEG")
    (tmp_path / "classes.txt").write_text(f"{CARTON}\n{TENCH}\n")

    split = TASK.load(tmp_path, "validation")

    assert split.classes == (CARTON, TENCH)
    assert [(item.id[-6:], item.target) for item in split.items] == [("a.JPEG", 1), ("b.JPEG", 0)]
    assert split.num_official == 2
    assert "classes are the 2 of classes.txt, not all 1000" in split.notes
    _touch(tmp_path, f"val/{GOLDFISH}/c.JPEG")
    with pytest.raises(DataError, match="must be named by one of the 2 wnids"):
        TASK.load(tmp_path, "validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [("tench\n", "names 'tench'"), (f"{TENCH}\n{TENCH}\n", "names one twice"), ("", "it is empty")],
)
def test_a_list_of_other_classes_is_refused(tmp_path: Path, content: str, message: str) -> None:
    _touch(tmp_path, f"val/{TENCH}/a.JPEG")
    (tmp_path / "classes.txt").write_text(content)

    with pytest.raises(DataError, match=message):
        TASK.load(tmp_path, "validation")


def test_the_sample_is_laid_out_as_the_real_data(tmp_path: Path) -> None:
    TASK.sample.write(tmp_path)

    train, validation = TASK.load(tmp_path, "train"), TASK.load(tmp_path, "validation")

    assert untested_layouts(TASK.layouts) == ()
    assert (len(train.items), len(validation.items)) == (48, 32)
    # The names of the real files: n01440764_10026.JPEG, ILSVRC2012_val_00000293.JPEG.
    assert all(re.fullmatch(r"train/(n\d{8})/\1_\d+\.JPEG", item.id) for item in train.items)
    assert all(
        re.fullmatch(r"val/n\d{8}/ILSVRC2012_val_\d{8}\.JPEG", item.id) for item in validation.items
    )
    modes = {Image.open(str(item.source)).mode for item in train.items}
    assert modes == {"L", "RGB"}


# ------------------------------------------------------------------------------ whose classes


def test_a_head_that_says_its_classes_is_matched_by_wnid() -> None:
    backwards = IMAGENET1K[::-1]

    assert class_columns(IMAGENET1K, IMAGENET1K, num_outputs=1000).tolist() == list(range(1000))
    assert (
        class_columns(backwards, IMAGENET1K, num_outputs=1000).tolist() == list(range(1000))[::-1]
    )
    assert class_columns(IMAGENET1K, (CARTON, TENCH), num_outputs=1000).tolist() == [478, 0]


NETWORK = """
import torch
from torch import nn
from rsbench.specs import InputSpec

INPUT = InputSpec(pixels=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000)
    )
"""


def test_a_class_that_no_picture_has_can_still_be_the_wrong_answer(tmp_path: Path) -> None:
    # Red pictures are tench and said to be; green ones are goldfish, and said to be carton (which
    # is not there) before goldfish: over the two classes present all would be right.
    for wnid, colour in ((TENCH, (250, 0, 0)), (GOLDFISH, (0, 250, 0))):
        folder = tmp_path / "data" / "val" / wnid
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (20 + number, 18), colour).save(folder / f"{number}.JPEG")
    weights = np.zeros((1000, 3), dtype=np.float32)
    weights[0, 0], weights[478, 1], weights[1, 1] = 20, 20, 15
    state = {
        "0.weight": torch.eye(3)[:, :, None, None],
        "0.bias": torch.zeros(3),
        "3.weight": torch.from_numpy(weights),
        "3.bias": torch.zeros(1000),
    }
    (tmp_path / "net.py").write_text(NETWORK)
    torch.save(state, tmp_path / "net.pth")

    done = read_done(
        runner.run(
            RunRequest(
                task="imagenet1k",
                backbone=f"{tmp_path / 'net.py'}:build",
                weights=str(tmp_path / "net.pth"),
                protocol="evaluate",
                data=tmp_path / "data",
                results=tmp_path / "results",
                cache_root=tmp_path / "cache",
            )
        )
    )

    assert {metric.name: metric.value for metric in done.record.metrics} == {
        "top1": 0.5,
        "top5": 1.0,
    }
    assert (done.record.data.num_expected, done.record.data.num_official) == (4, 50_000)
    assert done.record.task.num_classes == 1000
    assert done.record.protocol.chosen["class_order"].startswith("unverified")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="real pictures (../shared) are absent")
def test_real_pictures_have_the_indices_that_came_with_them() -> None:
    with (SAMPLES / "labels.csv").open() as stream:
        listed = {row["path"]: int(row["class_index"]) for row in csv.DictReader(stream)}

    split = TASK.load(SAMPLES, "validation")

    assert {item.id: item.target for item in split.items} == listed
    assert split.num_official == 50_000

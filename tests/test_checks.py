"""`rsbench check` finds what is planted in a task or a backbone, and nothing in a sound one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from rsbench.checks import Check, check_backbone, check_task
from rsbench.media.image import write_image
from rsbench.metrics import MEAN_AVERAGE_PRECISION, TOP1
from rsbench.registry import Found, find_backbone, find_task
from rsbench.specs import Backbone, ClipSpec, Fold, InputSpec, Item, Metric, Sample, Split, Task
from rsbench.specs import Weights as KnownWeights

CLASSES = ("dark", "light")
COUNTS = {"train": 3, "test": 2}


def write_pictures(root: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for index, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(100 * index, 100 * index + 100, (24, 30, 3))
                write_image(root / split / name / f"{number}.png", pixels.astype(np.uint8))


def load_pictures(root: Path, split: str) -> Split:
    items = tuple(
        Item(
            id=path.relative_to(root).as_posix(),
            source=path,
            target=CLASSES.index(path.parent.name),
            group=path.stem + split,
        )
        for path in sorted((root / split).glob("*/*.png"))
    )
    return Split(items=items, classes=CLASSES, num_official=2 * COUNTS[split])


SOUND = Task(
    name="sound",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1,),
    load=load_pictures,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(write=write_pictures, pixels=16),
    how_to_get="made here",
    title="Sound",
    licence="none",
    citation="nobody",
)


def checked(task: Task, cache: Path, *, data: Path | None = None) -> dict[str, Check]:
    found = Found(spec=task, origin="this test")
    return {check.name: check for check in check_task(found, data=data, cache_root=cache)}


def faults(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.ok}


def test_a_sound_task_passes_every_question(tmp_path: Path) -> None:
    checks = checked(SOUND, tmp_path)

    assert faults(checks) == set()
    assert list(checks) == [
        "description",
        "sample",
        "load",
        "counts",
        "ids",
        "labels",
        "separation",
        "stable order",
        "decoding",
        "preprocessing",
        "repeatable reading",
        "metric top1",
    ]
    assert checks["counts"].detail == "train 6 of 6 official, test 4 of 4 official"
    assert checks["decoding"].detail == "10 items read"


@pytest.mark.parametrize("name", ["licence", "citation", "how_to_get", "title"])
def test_an_empty_description_is_named(name: str, tmp_path: Path) -> None:
    check = checked(replace(SOUND, **{name: " "}), tmp_path)["description"]  # type: ignore[arg-type]

    assert not check.ok
    assert check.detail == f"{name} must be given, and is empty"


def test_own_data_needs_no_citation(tmp_path: Path) -> None:
    task = replace(SOUND, citation="")
    found = Found(spec=task, origin="this test", for_root=lambda root: task)

    checks = check_task(found, data=None, cache_root=tmp_path)

    assert [check for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": ()}, "metrics must be one or more"),
        ({"metrics": (TOP1, TOP1)}, "of different names"),
        ({"version": 0}, "versions must be 1 or more"),
        ({"modality": "video"}, "which frames image networks are given"),
        ({"modality": "volume"}, "must read its items itself"),
    ],
)
def test_a_contradiction_in_the_fields_is_named(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    assert words in checked(replace(SOUND, **changes), tmp_path)["description"].detail


# ------------------------------------------------------------------------------- planted, sample


def with_sample(write: Callable[[Path], None]) -> Task:
    return replace(SOUND, sample=replace(SOUND.sample, write=write))


def test_a_sample_that_differs_from_writing_to_writing_is_found(tmp_path: Path) -> None:
    def write(root: Path) -> None:
        write_pictures(root)
        noise = np.random.default_rng().integers(0, 255, (24, 30, 3)).astype(np.uint8)
        write_image(root / "test" / "dark" / "0.png", noise)

    check = checked(with_sample(write), tmp_path)["sample"]

    assert not check.ok
    assert "1 of 10 files differ from the first writing: test/dark/0.png" in check.detail


def test_a_sample_of_nothing_is_found(tmp_path: Path) -> None:
    checks = checked(with_sample(lambda root: None), tmp_path)

    assert not checks["sample"].ok
    assert not checks["counts"].ok


def test_a_writer_that_raises_is_named_with_its_line(tmp_path: Path) -> None:
    def write(root: Path) -> None:
        raise ValueError("no such colour")

    checks = checked(with_sample(write), tmp_path)

    assert "raised ValueError: no such colour (test_checks.py, line" in checks["sample"].detail
    assert list(checks) == ["description", "sample", "load"]


def test_an_unreadable_item_is_named(tmp_path: Path) -> None:
    def write(root: Path) -> None:
        write_pictures(root)
        (root / "test" / "dark" / "1.png").write_bytes(b"not a picture")

    checks = checked(with_sample(write), tmp_path)

    assert faults(checks) == {"decoding"}
    assert checks["decoding"].detail.startswith(
        "1 of 10 items can't be read: test/dark/1.png: must be a picture that decodes ("
    )


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((8, 8, 3)), "every one that was read is of one colour"),
        (np.indices((8, 8, 3)).sum(0) % 2, "pixels must be 0 to 255; the largest of 10 items is 1"),
    ],
    ids=["blank", "scaled to 0..1"],
)
def test_pictures_that_can_t_be_right_are_found(
    picture: np.ndarray, words: str, tmp_path: Path
) -> None:
    def load(root: Path, split: str) -> Split:
        found = load_pictures(root, split)
        items = tuple(replace(each, source=picture.astype(np.uint8)) for each in found.items)
        return replace(found, items=items)

    sample = replace(SOUND.sample, pixels=8)
    checks = checked(replace(SOUND, load=load, sample=sample), tmp_path)

    assert words in checks["decoding"].detail


# --------------------------------------------------------------------------------- planted, load


def with_items(change: Callable[[Path, str, tuple[Item, ...]], Sequence[Item]]) -> Task:
    def load(root: Path, split: str) -> Split:
        found = load_pictures(root, split)
        return replace(found, items=tuple(change(root, split, found.items)))

    return replace(SOUND, load=load)


def first_changed(**changes: Any) -> Task:
    return with_items(lambda root, split, items: (replace(items[0], **changes), *items[1:]))


def test_a_dropped_item_does_not_match_the_official_count(tmp_path: Path) -> None:
    checks = checked(with_items(lambda root, split, items: items[:-1]), tmp_path)

    assert "says num_official=6, and 5 items are present and 0 missing" in checks["counts"].detail


def test_more_items_than_official_are_found(tmp_path: Path) -> None:
    def load(root: Path, split: str) -> Split:
        return replace(load_pictures(root, split), num_official=1)

    assert "num_official=1" in checked(replace(SOUND, load=load), tmp_path)["counts"].detail


def test_an_empty_split_is_found(tmp_path: Path) -> None:
    checks = checked(with_items(lambda root, split, items: ()), tmp_path)

    assert "must hold items; it holds none" in checks["counts"].detail


def test_a_split_that_does_not_load_is_named_and_the_other_is_checked(tmp_path: Path) -> None:
    def load(root: Path, split: str) -> Split:
        return load_pictures(root, {"test": "test"}[split])

    checks = checked(replace(SOUND, load=load), tmp_path)

    assert "1 of 2 splits do not load: 'train': raised KeyError: 'train'" in checks["load"].detail
    assert checks["counts"].ok


def test_a_task_without_folds_is_found(tmp_path: Path) -> None:
    checks = checked(replace(SOUND, folds=()), tmp_path)

    assert "at least one fold" in checks["load"].detail


@pytest.mark.parametrize("name", ["/abs/0.png", "a\\b.png", "../0.png", "C:/0.png", "", "a\nb"])
def test_an_id_that_is_not_portable_is_named(name: str, tmp_path: Path) -> None:
    check = checked(first_changed(id=name), tmp_path)["ids"]

    assert not check.ok
    assert repr(name) in check.detail


def test_a_repeated_id_is_named(tmp_path: Path) -> None:
    check = checked(with_items(lambda root, split, items: (*items, items[0])), tmp_path)["ids"]

    assert "'train' holds train/dark/0.png more than once" in check.detail


def test_a_file_outside_the_root_is_named(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    write_image(outside, np.full((8, 8, 3), 9, dtype=np.uint8))

    check = checked(first_changed(source=outside), tmp_path / "cache")["ids"]

    assert f"these do not: {outside}" in check.detail


@pytest.mark.parametrize("target", [-1, 2, 0.0, "dark", None, True])
def test_a_label_outside_the_classes_is_named(target: Any, tmp_path: Path) -> None:
    check = checked(first_changed(target=target), tmp_path)["labels"]

    assert "must be an int from 0 to 1" in check.detail
    assert f"train/dark/0.png: {target!r}" in check.detail


def test_a_class_without_training_items_is_named(tmp_path: Path) -> None:
    def dark_only(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        return [item for item in items if split == "test" or item.target == 0]

    check = checked(with_items(dark_only), tmp_path)["labels"]

    assert check.detail == "split 'train' must show every class; it lacks light"


def test_splits_with_other_class_lists_are_found(tmp_path: Path) -> None:
    def load(root: Path, split: str) -> Split:
        classes = CLASSES if split == "train" else CLASSES[::-1]
        return replace(load_pictures(root, split), classes=classes)

    check = checked(replace(SOUND, load=load), tmp_path)["labels"]

    assert "one ordered list of classes" in check.detail


@pytest.mark.parametrize("what", ["item", "group", "file"])
def test_what_train_and_test_share_is_named(what: str, tmp_path: Path) -> None:
    def shared(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        if what == "item":
            return [replace(items[0], id="both"), *items[1:]]
        if what == "group":
            return [replace(items[0], group="one person"), *items[1:]]
        return [replace(items[0], source=root / "train" / "dark" / "0.png"), *items[1:]]

    check = checked(with_items(shared), tmp_path)["separation"]

    assert f"'train' and 'test' must not share any {what}; they share 1" in check.detail


def test_an_order_that_changes_is_found(tmp_path: Path) -> None:
    turns = iter(range(100))

    def turned(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        return items if next(turns) % 3 else items[::-1]

    check = checked(with_items(turned), tmp_path)["stable order"]

    assert "must be the same, in the same order, when it is loaded again" in check.detail


def test_an_id_made_of_the_root_s_own_name_is_found(tmp_path: Path) -> None:
    def named(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        return [replace(item, id=f"{len(str(root))}/{item.id}") for item in items]

    check = checked(with_items(named), tmp_path / ("long" * 20))["stable order"]

    assert "from another folder" in check.detail


# ------------------------------------------------------------------------- planted, read and score


def test_a_reader_that_is_random_is_found(tmp_path: Path) -> None:
    def read(item: Item) -> np.ndarray:
        return np.random.default_rng().random((3, 16, 16), dtype=np.float32)

    checks = checked(replace(SOUND, read=read), tmp_path)

    assert faults(checks) == {"repeatable reading"}


def test_a_reader_of_another_number_of_axes_is_found(tmp_path: Path) -> None:
    def read(item: Item) -> np.ndarray:
        return np.arange(256, dtype=np.float32).reshape(16, 16)

    check = checked(replace(SOUND, read=read), tmp_path)["preprocessing"]

    assert "finite array of 3 axes, channels first" in check.detail


def hits(targets: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
    pairs = zip(targets, predictions, strict=True)
    return np.array([p is not None and int(np.argmax(p)) == t for t, p in pairs], dtype=np.float64)


def skips_failures(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
    kept = np.array([prediction is not None for prediction in predictions])
    return float(hits(targets, predictions)[kept].mean())


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (
            Metric(name="m", compute=skips_failures),
            "an item without prediction (None) must count as wrong; the score went from 1 to 1",
        ),
        (
            Metric(name="m", compute=lambda t, p: 100 * float(hits(t, p).mean())),
            "perfect predictions must score 1; they score 100",
        ),
        (
            Metric(name="m", compute=lambda t, p: float(hits(t, p).mean()), higher_is_better=False),
            "perfect predictions must score 0; they score 1",
        ),
        (
            Metric(
                name="m",
                compute=lambda t, p: float(hits(t, p).mean()),
                per_item=lambda t, p: hits(t, p)[1:],
            ),
            "per_item must give (4,) whose mean is the value 0.75; it gave (3,) with mean 1",
        ),
        (
            Metric(name="m", compute=lambda t, p: 2.0 / len(p[0])),
            "raised TypeError: object of type 'NoneType' has no len()",
        ),
    ],
    ids=["skips failures", "percent", "upside down", "per item", "raises"],
)
def test_a_wrong_metric_is_found(metric: Metric, words: str, tmp_path: Path) -> None:
    check = checked(replace(SOUND, metrics=(metric,)), tmp_path)["metric m"]

    assert words in check.detail


def test_a_multilabel_task_is_checked_by_its_sets(tmp_path: Path) -> None:
    def sets(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        return [replace(item, target=(item.target,)) for item in items]

    task = replace(with_items(sets), target="multilabel", metrics=(MEAN_AVERAGE_PRECISION,))

    assert faults(checked(task, tmp_path)) == set()
    # A class index where a set must be.
    wrong = replace(SOUND, target="multilabel", metrics=(MEAN_AVERAGE_PRECISION,))
    assert "a tuple of different ints" in checked(wrong, tmp_path)["labels"].detail


def test_a_task_on_masks_is_checked_through_its_target_reader(tmp_path: Path) -> None:
    def agreement(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
        pairs = zip(targets, predictions, strict=True)
        return float(np.mean([0.0 if p is None else (t == p).mean() for t, p in pairs]))

    task = replace(
        first_changed(),
        target="mask",
        metrics=(Metric(name="pixels", compute=agreement, level="pixel"),),
        read_target=lambda item: np.full((4, 4), item.target),
    )

    checks = checked(task, tmp_path)

    assert faults(checks) == set()
    assert checks["labels"].detail == "10 targets of kind mask were read"
    empty = replace(task, read_target=lambda item: None)
    assert "must have a target" in checked(empty, tmp_path)["labels"].detail


# ----------------------------------------------------------------------------- real data and video


def test_real_data_is_read_from_its_root_and_a_gap_is_no_fault(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write_pictures(root)
    (root / "train" / "light" / "0.png").unlink()

    checks = checked(SOUND, tmp_path / "cache", data=root)

    assert faults(checks) == set()
    assert "sample" not in checks
    assert not (tmp_path / "cache").exists()


def test_groups_that_a_published_split_shares_are_no_fault_of_the_task(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    write_pictures(root)

    def shared(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        return [replace(items[0], group="one film"), *items[1:]]

    checks = checked(with_items(shared), tmp_path / "cache", data=root)

    assert faults(checks) == set()
    assert checks["separation"].detail == "no item or file is in two splits of a fold"


def test_a_data_root_that_is_gone_is_named(tmp_path: Path) -> None:
    checks = checked(SOUND, tmp_path, data=tmp_path / "gone")

    assert list(checks) == ["description", "load"]
    assert f"{tmp_path / 'gone'}" in checks["load"].detail


def test_a_video_task_is_read_as_both_kinds_of_network_do(tmp_path: Path) -> None:
    def clips(root: Path, split: str, items: tuple[Item, ...]) -> Sequence[Item]:
        video = np.arange(10 * 20 * 24 * 3, dtype=np.uint32).reshape(10, 20, 24, 3) % 251
        return [replace(item, source=video.astype(np.uint8)) for item in items]

    task = replace(with_items(clips), modality="video", clip=ClipSpec(frames=4, stride=2))

    checks = checked(task, tmp_path)

    assert faults(checks) == set()
    assert "image network 1x3x4x32x32, video network 1x3x8x32x32" in checks["preprocessing"].detail


# --------------------------------------------------------------------------------------- backbones


class Plain(nn.Module):
    """A sound network of 3*8 + 8 = 32 parameters: means of colours, then a linear map."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.map = nn.Linear(3, 8)
        self.head = None if num_classes is None else nn.Linear(8, num_classes)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.map(batch.flatten(2).mean(2))

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"s1": batch, "s2": batch[..., ::2, ::2]}


PLAIN = Backbone(
    name="plain",
    version=1,
    modality="image",
    input=InputSpec(pixels=16),
    feature_width=8,
    num_parameters=32,
    parameters_with_classes=None,
    build=Plain,
    title="Plain",
    licence="none",
    citation="nobody",
)


def examined(backbone: Backbone) -> dict[str, Check]:
    return {c.name: c for c in check_backbone(Found(spec=backbone, origin="this test"))}


def test_a_sound_backbone_passes_every_question() -> None:
    checks = examined(PLAIN)

    assert faults(checks) == set()
    assert list(checks) == [
        "description",
        "input",
        "weights",
        "building",
        "parameters",
        "random start",
        "features",
        "stage maps",
        "head",
        "evaluation mode",
        "batch independence",
        "devices",
    ]


@pytest.mark.parametrize("name", ["tiny_2d", "tiny_3d"])
def test_the_tiny_networks_pass(name: str) -> None:
    assert [check for check in check_backbone(find_backbone(name)) if not check.ok] == []


def test_any_module_from_a_file_passes(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n"
        "from rsbench.specs import InputSpec\n"
        "INPUT = InputSpec(pixels=8)\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))\n"
    )

    checks = check_backbone(find_backbone(f"{path}:build"))

    assert [check for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("changes", "question", "words"),
    [
        ({"licence": ""}, "description", "licence must be given"),
        ({"num_parameters": 33}, "parameters", "without head, 32; it says 33"),
        ({"parameters_with_classes": 10}, "parameters", "head of 10 classes, 122; it says 32"),
        (
            {"feature_width": 9},
            "features",
            "float32 (2, 9); they were torch.float32 (2, 8)",
        ),
        ({"input": InputSpec(pixels=16, frames=4)}, "input", "an image network must take 1 frame"),
        ({"input": InputSpec(pixels=0)}, "input", "1 or more, were 0, 1 and 1"),
        ({"input": InputSpec(pixels=16, crop_ratio=1.14)}, "input", "crop_ratio must be above 0"),
        ({"input": InputSpec(pixels=16, mean=(0.5,))}, "input", "one value a channel"),
        ({"input": InputSpec(pixels=16, resizer="tpu")}, "input", "tpu resize must be bicubic"),
        ({"input": InputSpec(pixels=16, mean=(124.0, 116.0, 104.0))}, "input", "pixels in [0, 1]"),
        ({"input": InputSpec(pixels=16, std=(0.0, 1.0, 1.0))}, "input", "pixels in [0, 1]"),
        ({"modality": "video"}, "input", "a video network must take 2 frames or more"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], question: str, words: str) -> None:
    assert words in examined(replace(PLAIN, **changes))[question].detail


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "abc"}, "digits, or the first 8, or None, was 'abc'"),
        ({"sha256": "A" * 64}, "sha256 must be"),
        ({"url": "http://example.org/w"}, "url must be https://"),
        ({"url": None}, "source must say where the file is from"),
        ({"url": None, "package": "no-path"}, "package must be DISTRIBUTION:PATH/IN/IT"),
        ({"url": None, "package": "box:../../etc/passwd"}, "package must be DISTRIBUTION:PATH"),
        ({"network": "resnet_rs_49"}, "network must be a backbone that lists 'w' too"),
        ({"network": "tiny_2d"}, "network must be a backbone that lists 'w' too"),
        ({"num_classes": 0}, "num_classes must be 1 or more"),
        ({"classes": ("a", "b")}, "as many as num_classes (3), were 2"),
        ({"published": {"top1": 0.8}}, "'task/metric' to percent"),
        ({"published": {"imagenet1k/top1": 80.0}}, "published_conditions must say"),
        ({"input": InputSpec(pixels=-1)}, "input: pixels, frames and stride"),
        ({"name": "none"}, "not be 'none'"),
    ],
)
def test_a_wrong_entry_of_weights_is_named(changes: dict[str, Any], words: str) -> None:
    sound = KnownWeights(
        name="w", url="hub/w", sha256="0" * 64, num_classes=3, input=InputSpec(pixels=16)
    )
    assert examined(replace(PLAIN, weights=(sound,)))["weights"].ok

    check = examined(replace(PLAIN, weights=(replace(sound, **changes),)))["weights"]

    assert words in check.detail


class Wrong(Plain):
    """The plain network with one fault."""

    def __init__(self, fault: str, num_classes: int | None) -> None:
        super().__init__(num_classes)
        self.fault = fault
        self.norm = nn.BatchNorm1d(8, affine=False)
        if fault == "always a head":
            self.head = nn.Linear(8, 3)
        if fault == "head of features":
            self.head = None if num_classes is None else nn.Identity()
        if fault == "seeds itself":
            torch.manual_seed(7)
            nn.init.normal_(self.map.weight)
            nn.init.normal_(self.map.bias)
        if fault == "own generator":
            nn.init.normal_(self.map.weight, generator=_unseeded(self.map.weight.device))
        if fault == "plain tensor":
            self.scale = torch.ones(8)
        if fault == "zero":
            nn.init.zeros_(self.map.weight)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = super().forward(batch)
        match self.fault:
            case "logits":
                return features if self.head is None else self.head(features)
            case "noise":
                return features + torch.rand_like(features)
            case "updates":
                self.norm.running_mean.add_(1.0)
            case "batch statistics":
                return features - features.mean(0)
            case "on the CPU":
                return features + torch.arange(8.0, device="cpu")
            case "not a number":
                return features / 0
            case "half":
                return features.half()
            case "plain tensor":
                return features * self.scale
        return features

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = super().stage_maps(batch)
        if self.fault == "finest last":
            return dict(reversed(maps.items()))
        if self.fault == "pooled":
            return {"s1": self(batch)}
        return {} if self.fault == "no maps" else maps


def _unseeded(device: torch.device) -> torch.Generator | None:
    if device.type == "meta":
        return None
    generator = torch.Generator()
    generator.seed()
    return generator


@pytest.mark.parametrize(
    ("fault", "question", "words"),
    [
        ("always a head", "head", "build(None) must give head=None; it is a Linear"),
        ("head of features", "head", "a head of 7 classes must give (2, 7); it gave (2, 8)"),
        ("logits", "head", "must still give features (2, 8); it gave (2, 7)"),
        ("seeds itself", "random start", "different seeds must give different parameters"),
        ("own generator", "random start", "equal seeds must give equal parameters"),
        ("noise", "evaluation mode", "must give the same features twice"),
        ("updates", "evaluation mode", "must leave all parameters and buffers alone"),
        ("batch statistics", "batch independence", "a batch of 3 must give what its items give"),
        ("on the CPU", "devices", "must run on the device it was moved to"),
        ("plain tensor", "devices", "these are neither: scale"),
        ("not a number", "features", "must be finite"),
        ("half", "features", "must be float32 (2, 8); they were torch.float16"),
        ("zero", "features", "must depend on the input"),
        ("finest last", "stage maps", "must come coarsest last; their widths are [8, 16]"),
        ("pooled", "stage maps", "must have 4 axes, batch first; 's1' of a batch of 2 is (2, 8)"),
        ("no maps", "stage maps", "a dict of one map or more"),
    ],
)
def test_a_planted_fault_of_a_network_is_found(fault: str, question: str, words: str) -> None:
    check = examined(replace(PLAIN, build=partial(Wrong, fault)))[question]

    assert not check.ok
    assert words in check.detail
    assert check.next_step


def test_batchnorm_left_in_train_mode_is_found() -> None:
    class Stuck(Plain):
        def __init__(self, num_classes: int | None) -> None:
            super().__init__(num_classes)
            self.norm = nn.BatchNorm1d(8, affine=False)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            features = super().forward(batch)
            return nn.functional.batch_norm(features, None, None, training=True)

    checks = examined(replace(PLAIN, build=Stuck))

    assert not checks["batch independence"].ok


def test_a_network_of_fixed_size_is_tried_at_that_size() -> None:
    class Fixed(Plain):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            if batch.shape[-1] != 80:
                raise ValueError("80 pixels only")
            return super().forward(batch)

    assert faults(examined(replace(PLAIN, input=InputSpec(pixels=80), build=Fixed))) == set()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda num_classes: object(), "eval"),
        (lambda num_classes: nn.Linear(3, 8), "must have head and stage_maps; Linear lacks"),
    ],
)
def test_what_is_no_backbone_module_is_named_and_ends_the_check(
    build: Callable[[int | None], nn.Module], words: str
) -> None:
    checks = examined(replace(PLAIN, build=build))

    assert words in checks["building"].detail
    assert list(checks)[-1] == "building"


def test_checking_leaves_torch_s_generator_as_it_was() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)

    examined(PLAIN)

    assert torch.equal(torch.rand(4), wanted)


def test_a_fault_says_what_to_do(tmp_path: Path) -> None:
    for check in [*checked(first_changed(target=9), tmp_path).values(), *examined(PLAIN).values()]:
        assert check.ok == (check.next_step == "")
        assert "\n" not in check.detail


def test_only_the_folds_asked_for_are_checked(tmp_path: Path) -> None:
    found = find_task("ucf101")
    root = tmp_path / "root"
    root.mkdir()
    found.spec.sample.write(root)

    counts = {
        folds: check_task(found, data=root, cache_root=tmp_path, folds=folds)[1].detail
        for folds in ((), ("split1",))
    }

    assert counts == {(): "3 fold(s) of 6 split(s)", ("split1",): "1 fold(s) of 2 split(s)"}

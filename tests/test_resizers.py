"""Each resizer against its original: timm, TensorFlow's recorded pixels, torchvision's presets."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import write_pictures
from numbered_world import read_done
from parity.pictures import CASES, STRIDE, Case, draw_picture
from PIL import Image
from small_world import image_reading, settings, video_reading
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification, VideoClassification

from rsbench import runner
from rsbench.cells import RunRequest
from rsbench.data import loaders
from rsbench.data.sample import photographs
from rsbench.errors import MediaError, RsbenchError
from rsbench.media.image import write_image
from rsbench.media.resizers import cut_squares
from rsbench.media.transforms import normalise, view_frames
from rsbench.media.video import read_all_frames, write_video
from rsbench.predicting import predict_files
from rsbench.records import store
from rsbench.specs import InputSpec, Item
from rsbench.tables import build
from rsbench.tables.markdown import to_markdown

RECORDED = Path(__file__).parent / "parity" / "recorded" / "pixels.npz"

SPECS = {
    "torchvision": InputSpec(pixels=160, crop_ratio=0.875, interpolation="bicubic"),
    "timm": InputSpec(pixels=160, crop_ratio=0.91, interpolation="bicubic", resizer="timm"),
    "tpu": InputSpec(
        pixels=160,
        crop_ratio=160 / 192,
        interpolation="bicubic",
        antialias=False,
        resizer="tpu",
    ),
    "model_garden": InputSpec(
        pixels=160, crop_ratio=0.875, antialias=False, resizer="model_garden"
    ),
}
"""Each as ResNet-RS at 160 pixels is evaluated with it."""


def square_of(frame: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Give the one centre crop, (S, S, 3)."""
    (square,) = cut_squares(frame, spec, 1)
    return square


def normalised(frame: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Give what a network is shown of a picture, float32 (S, S, 3)."""
    views = torch.from_numpy(view_frames(frame[None], spec, 1)[:, :, 0])
    return normalise(views, spec)[0].permute(1, 2, 0).numpy()


# ------------------------------------------------------------------------------------- timm

ODD_SIZES = [
    (375, 500),
    (500, 333),
    (97, 140),
    (33, 47),
    (47, 33),
    (161, 160),
    (256, 256),
    (9, 500),
]


def timms(spec: InputSpec, **options: bool) -> object:
    """Give timm's own evaluation transform of an input."""
    data = pytest.importorskip("timm.data")
    return data.create_transform(
        (3, spec.pixels, spec.pixels),
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_ratio,
        is_training=False,
        **options,
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("pixels", "ratio"), [(160, 0.91), (224, 0.875), (240, 0.882), (96, 0.95), (64, 1.0), (61, 0.9)]
)
def test_timm_is_equal_to_timms_own_bit_by_bit(interpolation, pixels, ratio):
    spec = replace(SPECS["timm"], interpolation=interpolation, pixels=pixels, crop_ratio=ratio)
    theirs = timms(spec, use_prefetcher=True)

    for height, width in ODD_SIZES:
        frame = draw_picture(height, width)
        expected = theirs(Image.fromarray(frame))
        assert str(expected.dtype) == "torch.uint8"
        ours = square_of(frame, spec)
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, expected.permute(1, 2, 0).numpy()), (height, width)


def test_timm_is_equal_to_timms_own_after_normalisation_too():
    frame = draw_picture(97, 140)
    expected = timms(SPECS["timm"])(Image.fromarray(frame)).permute(1, 2, 0).numpy()

    np.testing.assert_allclose(normalised(frame, SPECS["timm"]), expected, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------- TensorFlow


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tpu_gives_the_pixels_of_tensorflow(recorded, case: Case):
    # The rule of its crop: image_size / (image_size + 32), tests/parity/record_pixels.py.
    ratio = case.pixels / (case.pixels + 32)
    spec = replace(SPECS["tpu"], pixels=case.pixels, crop_ratio=ratio)

    square = square_of(draw_picture(case.height, case.width), spec)

    assert square.dtype == np.float32
    # TensorFlow on another processor may fuse a product with a sum; here all values are equal.
    wanted = recorded[f"tpu {case.name}"]
    np.testing.assert_allclose(square[::STRIDE, ::STRIDE], wanted, rtol=0, atol=255 * 1e-6)
    total = square.sum(axis=(0, 1), dtype=np.float64)
    np.testing.assert_allclose(total, recorded[f"tpu {case.name} sum"], rtol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_model_garden_gives_the_input_that_its_own_code_gives(recorded, case: Case):
    spec = replace(SPECS["model_garden"], pixels=case.pixels)

    seen = normalised(draw_picture(case.height, case.width), spec)

    wanted = recorded[f"model_garden {case.name}"]
    np.testing.assert_allclose(seen[::STRIDE, ::STRIDE], wanted, rtol=0, atol=2e-6)
    total = seen.sum(axis=(0, 1), dtype=np.float64)
    wanted_total = recorded[f"model_garden {case.name} sum"]
    np.testing.assert_allclose(total, wanted_total, rtol=0, atol=1e-6 * case.pixels**2)


def test_tpu_neither_rounds_nor_clips():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::7] = 255

    square = square_of(stripes, replace(SPECS["tpu"], pixels=128, crop_ratio=1.0))

    assert square.min() < -10
    assert square.max() > 255
    assert not np.array_equal(square, np.rint(square))


# ------------------------------------------------------------------------------ torchvision


def test_resize_to_is_torchvisions_video_preset_bit_by_bit():
    # torchvision/models/video/resnet.py, R3D_18_Weights: resize (128, 171), crop 112, and its own
    # mean and std; the preset casts frames to floats and rounds them.
    preset = VideoClassification(crop_size=(112, 112), resize_size=(128, 171))
    spec = InputSpec(
        pixels=112,
        resize_to=(128, 171),
        antialias=False,
        mean=(0.43216, 0.394666, 0.37645),
        std=(0.22803, 0.22145, 0.216989),
    )
    levels = np.array(spec.std)[:, None, None, None] * 255
    for height, width in [(240, 320), (360, 480), (97, 200), (300, 120)]:
        frames = np.stack([draw_picture(height, width), draw_picture(height, width)[::-1]])

        seen = normalise(torch.from_numpy(view_frames(frames, spec, 1)), spec)[0].numpy()

        expected = preset(torch.from_numpy(frames).permute(0, 3, 1, 2)).numpy()
        assert seen.shape == expected.shape == (3, 2, 112, 112)
        # Grey levels are equal; (x / 255 - mean) / std rounds alike to the last digit or two.
        assert np.abs((seen - expected) * levels).max() < 1e-4


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_torchvision_is_its_image_preset_to_two_grey_levels(interpolation):
    preset = ImageClassification(
        crop_size=160, resize_size=183, interpolation=functional.InterpolationMode(interpolation)
    )
    spec = replace(SPECS["torchvision"], interpolation=interpolation)
    levels = np.array(spec.std) * 255
    for height, width in ODD_SIZES[:-1]:
        frame = draw_picture(height, width)

        seen = normalised(frame, spec)

        # Published scores of torchvision are of PIL images.
        expected = preset(Image.fromarray(frame)).permute(1, 2, 0).numpy()
        assert np.rint(np.abs(seen - expected) * levels).max() <= 2


# ------------------------------------------------------------------------- beside each other


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(SPECS, 2)))
def test_resizers_differ_where_their_words_are_alike(first, second):
    # 0.875 and 160 pixels in all of them.
    frame = draw_picture(375, 500)
    one, other = (
        square_of(frame, replace(SPECS[name], crop_ratio=0.875)).astype(np.float64)
        for name in (first, second)
    )

    assert np.abs(one - other).mean() > (0.05 if {first, second} == {"torchvision", "timm"} else 3)


def test_pillow_and_torchvision_resize_to_another_short_side_where_it_does_not_come_out_even():
    # 160 / 0.91 = 175.8: floor 175, round 176.
    frame = draw_picture(375, 500)
    timm, torchvision = (
        square_of(frame, replace(SPECS[name], crop_ratio=0.91)).astype(int)
        for name in ("timm", "torchvision")
    )

    assert np.abs(timm - torchvision).mean() > 3


@pytest.mark.parametrize("name", SPECS)
def test_what_needs_no_resize_is_only_cropped(name):
    # Where each puts one crop of 48 in a side of 71: round(11.5) = 12, ceil 12, floor 11.
    top = {"torchvision": 12, "timm": 12, "tpu": 12, "model_garden": 11}[name]
    frame = draw_picture(71, 71)
    # Half a pixel more keeps the ratio's rounding off the whole number.
    ratio = 48 / 71 if name in ("torchvision", "timm") else 48.25 / 71

    square = square_of(frame, replace(SPECS[name], pixels=48, crop_ratio=ratio))

    assert np.array_equal(square, frame[top : top + 48, top : top + 48])


@pytest.mark.parametrize("name", SPECS)
def test_three_crops_reach_both_ends_of_the_longer_side(name):
    spec = replace(SPECS[name], pixels=48, crop_ratio=1.0)
    wide, tall = draw_picture(48, 77), draw_picture(77, 48)
    middle = {"model_garden": 14}.get(name, 15)  # 29 / 2 = 14.5, down or up

    for start, left, top in zip(
        (0, middle, 29), cut_squares(wide, spec, 3), cut_squares(tall, spec, 3), strict=True
    ):
        assert np.array_equal(left, wide[:, start : start + 48])
        assert np.array_equal(top, tall[start : start + 48])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resizer": "tpu"}, "tpu resize must be bicubic with antialias=False, was bilinear"),
        ({"resizer": "model_garden"}, "must be bilinear with antialias=False, was bilinear with"),
        ({"resizer": "timm", "antialias": False}, "must be bilinear with antialias=True"),
        ({"resizer": "timm", "resize_to": (64, 64)}, "resize_to is for the torchvision resizer"),
        ({"resize_to": (64, 31)}, "hold the crop of 32 pixels on both axes, was 64 x 31"),
    ],
)
def test_what_a_resizer_can_not_do_is_refused(changes, message):
    with pytest.raises(RsbenchError, match=message) as caught:
        cut_squares(draw_picture(40, 40), InputSpec(pixels=32, **changes), 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tpu", "model_garden"])
def test_a_picture_without_a_pixel_for_the_crop_is_a_bad_picture(name):
    with pytest.raises(MediaError, match=r"crop of 0\.8.* of its short side, was 3 x 1"):
        cut_squares(draw_picture(1, 3), SPECS[name], 1)


@pytest.mark.parametrize("name", SPECS)
def test_pictures_of_a_few_pixels_are_enlarged(name):
    for height, width in [(2, 2), (2, 7), (5, 3)]:
        square = square_of(draw_picture(height, width), SPECS[name])
        assert square.shape == (160, 160, 3)
        assert np.isfinite(square).all()


# --------------------------------------------------------------------- from files to networks


@pytest.mark.parametrize("name", SPECS)
def test_views_of_pictures_and_clips_keep_the_type_of_their_resizer(tmp_path: Path, name):
    spec = replace(SPECS[name], pixels=32, crop_ratio=0.8)
    frames = np.stack([np.roll(draw_picture(48, 64), step, axis=1) for step in range(8)])
    write_image(tmp_path / "a.png", frames[0])
    write_video(tmp_path / "a.mp4", frames, fps=10)
    decoded = read_all_frames(tmp_path / "a.mp4")
    picture = replace(image_reading(crops=3), input=spec)
    clip = replace(video_reading(clips=2, crops=3), input=spec)
    wanted = torch.uint8 if name in ("torchvision", "timm") else torch.float32

    of_picture = loaders.read_views(Item(id="p", source=tmp_path / "a.png"), picture)
    of_clip = loaders.read_views(Item(id="c", source=tmp_path / "a.mp4"), clip)
    of_array = loaders.read_views(Item(id="a", source=decoded), clip)

    assert of_picture.dtype == of_clip.dtype == wanted
    assert of_picture.is_contiguous() and of_clip.is_contiguous()
    assert of_picture.shape == (3, 3, 32, 32)
    assert np.array_equal(of_picture.numpy(), view_frames(frames[:1], spec, 3)[:, :, 0])
    # 8 frames, clips of 4 at stride 1, mmaction2 at two clips: frames 0 and 2 or later.
    assert of_clip.shape == (6, 3, 4, 32, 32)
    assert np.array_equal(of_clip[:3].numpy(), view_frames(decoded[:4], spec, 3))
    assert torch.equal(of_clip, of_array)
    if wanted is torch.float32:
        assert not torch.equal(of_clip, of_clip.round())


def test_views_in_floats_cross_from_workers_whole(tmp_path: Path):
    reading = replace(image_reading(), input=replace(SPECS["tpu"], pixels=32))
    items = [Item(id=str(n), source=draw_picture(40 + n, 50)) for n in range(3)]

    alone, helped = (
        list(loaders.batches(items, reading, settings(tmp_path, num_workers=num_workers)))
        for num_workers in (0, 2)
    )

    for one, other in zip(alone, helped, strict=True):
        assert torch.as_tensor(one.views).dtype == torch.float32
        assert torch.equal(torch.as_tensor(one.views), torch.as_tensor(other.views))


# ------------------------------------------------------------------------------ as documented


def test_the_documented_differences_are_those_of_this_code():
    page = (Path(__file__).parents[1] / "docs" / "preprocessing.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\w+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    at_224 = {name: replace(spec, pixels=224, crop_ratio=0.875) for name, spec in SPECS.items()}

    def apart(first: InputSpec, second: InputSpec) -> float:
        pairs = (
            [square_of(frame.copy(), spec).astype(np.float64) for spec in (first, second)]
            for frame in photographs()
        )
        return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))

    assert [row[:2] for row in rows] == list(itertools.combinations(SPECS, 2))
    for first, second, alike, own in rows:
        assert apart(at_224[first], at_224[second]) == pytest.approx(float(alike), abs=0.06)
        assert apart(SPECS[first], SPECS[second]) == pytest.approx(float(own), abs=0.06)


# -------------------------------------------------------------------------------- whole runs

NETWORK = """
from torch import nn
from rsbench.specs import InputSpec

INPUT = InputSpec(
    pixels=12, crop_ratio=0.8, interpolation="bicubic", antialias=False, resizer="tpu"
)


def build() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten())
"""


def test_a_run_records_its_resizer_and_predicts_through_it(tmp_path: Path):
    data = write_pictures(tmp_path / "data")
    (tmp_path / "net.py").write_text(NETWORK)
    torch.manual_seed(0)
    backbone = f"{tmp_path / 'net.py'}:build"
    done = read_done(
        runner.run(
            RunRequest(
                task="folder",
                backbone=backbone,
                protocol="linear_probe",
                overrides={"strengths": "3"},
                data=data,
                results=tmp_path / "results",
                cache_root=tmp_path / "cache",
            )
        )
    )

    answer = predict_files(
        done.path,
        [data / name for name in done.table.ids],
        cache_root=tmp_path / "elsewhere",
        backbone=backbone,
    )

    network = done.record.backbone
    assert (network.resizer, network.crop_ratio, network.pixels) == ("tpu", 12 / 44, 12)
    assert "tpu bicubic resize, no antialias" in to_markdown(
        build(store.read_all(tmp_path / "results"))
    )
    recorded = np.stack([done.by_id[name] for name in done.table.ids])
    np.testing.assert_allclose(np.stack(answer.values), recorded, atol=1e-5)

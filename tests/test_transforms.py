"""The default resizer's sizes, crops and pixels against torchvision, Pillow and published rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from rsbench.errors import MediaError, RsbenchError
from rsbench.media.transforms import (
    FrameViews,
    normalise,
    stack_views,
    view_frame,
    view_frames,
)
from rsbench.specs import InputSpec


def _noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _unscaled(height, width, side):
    """An input under which a picture of this size is cropped and not resized."""
    return InputSpec(pixels=side, crop_ratio=side / min(height, width))


@pytest.mark.parametrize(
    ("height", "width", "pixels", "ratio", "resized"),
    [
        (240, 320, 224, 0.875, (256, 341)),  # 320 * 256 / 240 = 341.33
        (320, 240, 224, 0.875, (341, 256)),
        (256, 340, 256, 1.0, (256, 340)),
        (100, 100, 160, 0.875, (183, 183)),  # 160 / 0.875 = 182.86
        (30, 40, 224, 0.875, (256, 341)),  # smaller pictures grow
        (51, 50, 64, 1.0, (65, 64)),  # 51 * 64 / 50 = 65.28
    ],
)
def test_the_short_side_is_resized_and_the_aspect_kept(height, width, pixels, ratio, resized):
    frame = _noise(height, width, 3)
    whole = v2.functional.resize(torch.from_numpy(frame).permute(2, 0, 1), list(resized))

    (seen,) = view_frame(frame, InputSpec(pixels=pixels, crop_ratio=ratio), 1)

    expected = v2.functional.center_crop(whole, [pixels, pixels]).permute(1, 2, 0).numpy()
    assert seen.dtype == np.uint8
    assert np.abs(seen.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("height", "width"), [(90, 131), (33, 30)])
def test_one_crop_equals_torchvisions_resize_and_centre_crop(
    interpolation, antialias, height, width
):
    spec = InputSpec(pixels=56, crop_ratio=0.875, interpolation=interpolation, antialias=antialias)
    frames = _noise(3, height, width, 3)
    reference = v2.Compose(
        [
            v2.Resize(64, v2.InterpolationMode(interpolation), antialias=antialias),
            v2.CenterCrop(56),
        ]
    )
    expected = torch.stack([reference(torch.from_numpy(f).permute(2, 0, 1)) for f in frames], 1)

    views = view_frames(frames, spec, 1)

    assert views.shape == (1, 3, 3, 56, 56)
    # The two may be laid out differently in memory, which torch's kernels round differently.
    difference = np.abs(views[0].astype(int) - expected.numpy())
    assert difference.max() <= 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_antialiased_shrinking_equals_pillows(interpolation):
    pixels = _noise(120, 150, 3)
    method = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(pixels).resize((50, 40), method)).astype(int)

    left, centre, right = view_frame(pixels, InputSpec(pixels=40, interpolation=interpolation), 3)

    for square, start in ((left, 0), (centre, 5), (right, 10)):
        assert np.abs(square - expected[:, start : start + 40]).max() <= 1


def test_antialias_and_interpolation_are_not_ignored():
    pixels = _noise(120, 150, 3)
    results = [
        view_frame(pixels, InputSpec(pixels=43, interpolation=name, antialias=antialias), 1)
        for name in ("bilinear", "bicubic")
        for antialias in (False, True)
    ]

    for i, first in enumerate(results):
        for second in results[i + 1 :]:
            assert not np.array_equal(first, second)


def test_a_frame_of_the_right_size_is_not_touched():
    frames = _noise(2, 64, 64, 3)

    views = view_frames(frames, InputSpec(pixels=64), 1)

    assert np.array_equal(views[0], frames.transpose(3, 0, 1, 2))


# PySlowFast slowfast/datasets/transform.py, uniform_crop: the offsets it computes.
def _uniform_crop_offsets(height, width, size, spatial_idx):
    y_offset = math.ceil((height - size) / 2)
    x_offset = math.ceil((width - size) / 2)
    if height > width:
        if spatial_idx == 0:
            y_offset = 0
        elif spatial_idx == 2:
            y_offset = height - size
    else:
        if spatial_idx == 0:
            x_offset = 0
        elif spatial_idx == 2:
            x_offset = width - size
    return y_offset, x_offset


@pytest.mark.parametrize(("height", "width"), [(64, 85), (85, 64), (64, 64), (73, 100), (64, 65)])
def test_three_crops_lie_where_pyslowfast_puts_them(height, width):
    frames = _noise(2, height, width, 3)

    views = view_frames(frames, _unscaled(height, width, 64), 3)

    assert views.shape == (3, 3, 2, 64, 64)
    assert views.flags["C_CONTIGUOUS"]
    for index in range(3):
        top, left = _uniform_crop_offsets(height, width, 64, index)
        expected = frames[:, top : top + 64, left : left + 64].transpose(3, 0, 1, 2)
        assert np.array_equal(views[index], expected)


@pytest.mark.parametrize(("height", "width"), [(64, 85), (85, 64), (67, 70), (64, 64), (71, 73)])
def test_one_crop_lies_where_torchvision_puts_it(height, width):
    frames = _noise(1, height, width, 3)
    expected = v2.CenterCrop(64)(torch.from_numpy(frames[0]).permute(2, 0, 1))

    views = view_frames(frames, _unscaled(height, width, 64), 1)

    assert np.array_equal(views[0, :, 0], expected.numpy())


def test_views_of_an_item_come_clips_first_then_crops():
    spec = InputSpec(pixels=48, crop_ratio=0.8)
    frames = _noise(6, 80, 120, 3)
    seen = np.stack([view_frame(frame, spec, 3) for frame in frames])

    views = stack_views(seen.reshape(2, 3, *seen.shape[1:]))

    assert views.shape == (6, 3, 3, 48, 48)
    assert views.flags["C_CONTIGUOUS"]
    assert np.array_equal(views[:3], view_frames(frames[:3], spec, 3))
    assert np.array_equal(views[3:], view_frames(frames[3:], spec, 3))


def test_a_view_of_a_frame_does_not_depend_on_its_neighbours():
    spec = InputSpec(pixels=48, crop_ratio=0.8)
    frames = _noise(5, 80, 120, 3)
    together = view_frames(frames, spec, 3)

    for index in range(5):
        alone = view_frames(frames[index : index + 1], spec, 3)
        assert np.array_equal(alone[:, :, 0], together[:, :, index])


@pytest.mark.parametrize("crops", [0, 2, 4, 10])
def test_other_numbers_of_crops_are_refused(crops):
    with pytest.raises(RsbenchError, match=f"crops must be 1 or 3, was {crops}"):
        view_frames(_noise(1, 64, 80, 3), InputSpec(pixels=64), crops)


@pytest.mark.parametrize(("height", "width"), [(1, 1000), (1000, 1), (0, 5)])
def test_a_sliver_is_refused(height, width):
    with pytest.raises(MediaError, match=f"64 times as long as wide, was {width} x {height}"):
        view_frame(_noise(height, width, 3), InputSpec(pixels=224), 1)


@pytest.mark.parametrize("shape", [(2, 3, 5, 6), (2, 3, 4, 5, 6)])
def test_normalise_equals_torchvisions_channel_by_channel(shape):
    batch = torch.from_numpy(_noise(*shape))
    spec = InputSpec(pixels=8)
    reference = v2.Normalize(spec.mean, spec.std)
    scaled = batch.to(torch.float32) / 255
    if len(shape) == 4:
        expected = reference(scaled)
    else:
        expected = torch.stack([reference(frame) for frame in scaled.unbind(2)], 2)

    result = normalise(batch, spec)

    assert result.dtype == torch.float32
    assert result.shape == batch.shape
    assert torch.allclose(result, expected, atol=1e-6)
    assert batch.dtype == torch.uint8


def test_views_in_floats_are_normalised_alike_and_left_as_they_are():
    batch = torch.from_numpy(_noise(2, 3, 5, 6))
    floats = batch.to(torch.float32)
    spec = InputSpec(pixels=8)

    assert torch.equal(normalise(floats, spec), normalise(batch, spec))
    assert torch.equal(floats, batch.to(torch.float32))


def test_white_normalises_to_the_hand_calculation():
    result = normalise(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8), InputSpec(pixels=1))

    # (1 - 0.485) / 0.229 = 2.2489, (1 - 0.456) / 0.224 = 2.4286, (1 - 0.406) / 0.225 = 2.64
    assert result.flatten().tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)


def test_a_single_channel_needs_a_single_mean():
    spec = InputSpec(pixels=4, mean=(0.5,), std=(0.25,))
    assert normalise(torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8), spec).unique().tolist() == [-2]

    with pytest.raises(RsbenchError, match="one value for each of 1 channels"):
        normalise(torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8), InputSpec(pixels=4))


def test_another_side_takes_the_size_of_whole_frames_along():
    # By hand: 128 x 171 at 112 pixels is 128 / 2 x 171 / 2 = 64 x 85.5 (to even: 86) at 56.
    spec = InputSpec(pixels=112, resize_to=(128, 171), crop_ratio=0.5)

    assert spec.at(56) == InputSpec(pixels=56, resize_to=(64, 86), crop_ratio=0.5)
    assert spec.at(112) == spec
    assert InputSpec(pixels=8).at(9) == InputSpec(pixels=9)


def test_the_tpu_margin_is_32_pixels_at_every_side() -> None:
    # tensorflow/tpu, resnet_preprocessing.py: CROP_PADDING = 32.
    spec = InputSpec(pixels=160, crop_ratio=160 / 192, resizer="tpu", interpolation="bicubic")
    assert spec.at(224).crop_ratio == 224 / 256


@pytest.mark.parametrize(
    ("resizer", "interpolation", "antialias"),
    [
        ("torchvision", "bilinear", True),
        ("torchvision", "bilinear", False),
        ("torchvision", "bicubic", True),
        ("torchvision", "bicubic", False),
        ("timm", "bilinear", True),
        ("timm", "bicubic", True),
        ("tpu", "bicubic", False),
        ("model_garden", "bilinear", False),
    ],
)
def test_what_lies_outside_of_what_is_looked_at_moves_no_bit(resizer, interpolation, antialias):
    chance = np.random.default_rng(0)
    for _ in range(25):
        pixels = int(chance.integers(8, 60))
        input = InputSpec(
            pixels=pixels,
            crop_ratio=float(chance.choice([0.5, 0.875, 1.0])),
            interpolation=interpolation,
            antialias=antialias,
            resizer=resizer,
        )
        height, width = chance.integers(16, 160, 2).tolist()
        if chance.random() < 0.2:
            height = width = round(pixels / input.crop_ratio)
        num_crops = int(chance.choice([1, 3]))
        frame = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        views = FrameViews(input=input, num_crops=num_crops)
        look = views.look(height, width)
        spoiled = chance.integers(0, 256, frame.shape, dtype=np.uint8)
        spoiled[look.top : look.bottom, look.left : look.right] = frame[
            look.top : look.bottom, look.left : look.right
        ]
        planes = np.ascontiguousarray(spoiled.transpose(2, 0, 1)).transpose(1, 2, 0)

        expected = view_frame(frame, input, num_crops)

        assert np.array_equal(views(spoiled), expected)
        assert np.array_equal(views(planes), expected)
        if look.squares is not None:
            cut = [frame[top : top + n, left : left + n] for top, left, n in look.squares]
            assert np.array_equal(np.stack(cut), expected)

"""Where crops lie: the sources' own lines beside ours, for every size of frame that occurs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.media.crops import (
    CROPPERS,
    check_cropper,
    crop_boxes,
    crop_counts,
    resolve_cropper,
)
from rsbench.media.resizers import crops_of, cut_squares, resized_size
from rsbench.specs import InputSpec, Resizer

Place = tuple[int, int]
"""Top and left."""


def _cut(
    cropper: str, height: int, width: int, side: int, num_crops: int, own: Place = (0, 0)
) -> list[Place]:
    boxes = crop_boxes(
        cropper, height=height, width=width, side=side, num_crops=num_crops, own_middle=own
    )
    assert all(box.side == side for box in boxes)
    return [(box.top, box.left) for box in boxes]


# --- the sources, in their own words; each gives (top, left)


def _psf(height: int, width: int, size: int, spatial_idx: int) -> Place:
    """PySlowFast slowfast/datasets/transform.py: uniform_crop."""
    y_offset = math.ceil((height - size) / 2)
    x_offset = math.ceil((width - size) / 2)
    if height > width:
        if spatial_idx == 0:
            y_offset = 0
        elif spatial_idx == 2:
            y_offset = height - size
    elif spatial_idx == 0:
        x_offset = 0
    elif spatial_idx == 2:
        x_offset = width - size
    return y_offset, x_offset


def _mmaction2_three(img_h: int, img_w: int, crop: int) -> list[Place]:
    """Re-derive mmaction2's processing.py ThreeCrop, its middle brought between the others."""
    assert crop in (img_h, img_w)
    if crop == img_h:
        step = (img_w - crop) // 2
        return [(0, 0), (0, step), (0, 2 * step)]
    step = (img_h - crop) // 2
    return [(0, 0), (step, 0), (2 * step, 0)]


def _mmaction2_ten(image: np.ndarray, crop: int) -> list[np.ndarray]:
    """Re-derive mmaction2's processing.py TenCrop: the crops themselves."""
    img_h, img_w = image.shape[:2]
    w_step, h_step = (img_w - crop) // 4, (img_h - crop) // 4
    offsets = [
        (0, 0),
        (4 * w_step, 0),
        (0, 4 * h_step),
        (4 * w_step, 4 * h_step),
        (2 * w_step, 2 * h_step),
    ]
    crops = []
    for x, y in offsets:
        cut = image[y : y + crop, x : x + crop]
        crops += [cut, np.flip(cut, axis=1)]
    return crops


def _model_garden_three(height: int, width: int, target: int) -> list[Place]:
    """Re-derive crop_image of preprocess_ops_3d.py: float32 offsets, rounded half to even."""
    half = np.round(np.float32(max(height, width)) / np.float32(2) - target // 2)
    along = [0, int(half), max(height, width) - target]
    return [(each, 0) if height >= width else (0, each) for each in along]


SIZES = [(256, 340), (340, 256), (256, 341), (341, 256), (256, 455), (256, 256), (257, 258)]


@pytest.mark.parametrize(("height", "width"), [*SIZES, (300, 401), (401, 300)])
def test_psf_cuts_where_uniform_crop_does(height: int, width: int) -> None:
    for side in (224, 225, 256):
        wanted = [_psf(height, width, side, index) for index in (0, 1, 2)]
        assert _cut("psf@1", height, width, side, 3) == wanted
        # With one crop PySlowFast takes spatial index 1.
        assert _cut("psf@1", height, width, side, 1) == wanted[1:2]


@given(short=st.integers(1, 300), more=st.integers(0, 300), tall=st.booleans())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_mmaction2_and_model_garden_cut_where_their_three_crops_do(
    short: int, more: int, tall: bool
) -> None:
    height, width = (short + more, short) if tall else (short, short + more)

    assert _cut("mmaction2@1", height, width, short, 3) == _mmaction2_three(height, width, short)
    assert _cut("model_garden@1", height, width, short, 3) == _model_garden_three(
        height, width, short
    )


@pytest.mark.parametrize("cropper", ["mmaction2@1", "model_garden@1"])
def test_one_crop_is_the_floor_of_the_middle(cropper: str) -> None:
    # mmaction2 CenterCrop: (img_w - crop_w) // 2; TensorFlow's resize_with_crop_or_pad likewise.
    assert _cut(cropper, 256, 341, 224, 1) == [(16, 58)]
    assert _cut(cropper, 256, 343, 224, 1) == [(16, 59)]


def test_ten_crops_are_those_of_mmaction2_in_its_order_mirrored_ones_too() -> None:
    image = np.arange(23 * 34).reshape(23, 34)
    boxes = crop_boxes("mmaction2", height=23, width=34, side=16, num_crops=10, own_middle=(-1, -1))

    cut = [image[box.top : box.top + 16, box.left : box.left + 16] for box in boxes]
    ours = [each[:, ::-1] if box.mirrored else each for each, box in zip(cut, boxes, strict=True)]

    for one, wanted in zip(ours, _mmaction2_ten(image, 16), strict=True):
        assert np.array_equal(one, wanted)


def test_the_default_leaves_the_middle_to_the_resizer() -> None:
    assert _cut("resizer@1", 256, 341, 224, 1, own=(16, 58)) == [(16, 58)]
    assert _cut("resizer@1", 256, 341, 224, 3, own=(16, 59)) == [(16, 0), (16, 59), (16, 117)]
    assert _cut("resizer@1", 341, 256, 224, 3, own=(59, 16)) == [(0, 16), (59, 16), (117, 16)]


def test_the_rules_differ_by_the_pixel_they_are_named_for() -> None:
    # L - c = 85: 42 or 43 in the middle, 85 or 84 at the end.
    assert _cut("psf", 256, 341, 256, 3) == [(0, 0), (0, 43), (0, 85)]
    assert _cut("mmaction2", 256, 341, 256, 3) == [(0, 0), (0, 42), (0, 84)]
    # 170.5 - 128 = 42.5 rounds to the even 42, and 171.5 - 128 to 44.
    assert _cut("model_garden", 256, 341, 256, 3) == [(0, 0), (0, 42), (0, 85)]
    assert _cut("model_garden", 256, 343, 256, 3) == [(0, 0), (0, 44), (0, 87)]


# --- what holds for all


@pytest.mark.parametrize("cropper", sorted(CROPPERS))
@given(
    height=st.integers(1, 2000),
    width=st.integers(1, 2000),
    share=st.floats(0, 1),
    own=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_crops_lie_in_the_frame_and_in_order(
    cropper: str, height: int, width: int, share: float, own: float
) -> None:
    side = max(1, int(share * min(height, width)))
    middle = (int(own * (height - side)), int(own * (width - side)))
    for num_crops in crop_counts(cropper):
        boxes = crop_boxes(
            cropper,
            height=height,
            width=width,
            side=side,
            num_crops=num_crops,
            own_middle=middle,
        )
        assert len(boxes) == num_crops
        for box in boxes:
            assert 0 <= box.top <= height - side
            assert 0 <= box.left <= width - side
        if num_crops == 3:
            assert list(boxes) == sorted(boxes)
            moves = boxes[0].top != boxes[2].top
            assert not moves or height > width


# --- names and numbers


@pytest.mark.parametrize(
    "asked", [crop_counts, resolve_cropper, lambda name: check_cropper(name, 1)]
)
def test_a_near_miss_is_named(asked: Callable[[str], object]) -> None:
    with pytest.raises(UnknownNameError, match=r"no cropper 'mmaction'\. Did you mean 'mmaction2"):
        asked("mmaction")


def test_a_number_of_crops_that_a_rule_does_not_have_is_refused_with_the_one_that_has_it() -> None:
    with pytest.raises(
        RsbenchError, match="cropper psf@1: crops must be 1 or 3, was 10; mmaction2@1 cuts 10"
    ):
        check_cropper("psf", 10)
    with pytest.raises(RsbenchError, match=r"mmaction2@1: crops must be 1, 3 or 10, was 5$"):
        check_cropper("mmaction2", 5)


def test_a_bare_name_is_the_newest_version() -> None:
    assert resolve_cropper("psf") == "psf@1"
    assert check_cropper("mmaction2", 10) == "mmaction2@1"


# --- as they are cut


def _draw(height: int, width: int) -> np.ndarray:
    """Draw a frame in which no two columns and no two rows are alike."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint8)
    return np.stack([rows, columns, rows ^ columns], axis=-1)


@pytest.mark.parametrize(
    ("cropper", "num_crops"), [("psf", 3), ("mmaction2", 3), ("mmaction2", 10)]
)
@pytest.mark.parametrize("resizer", ["torchvision", "timm"])
def test_frames_that_need_no_resize_are_cut_as_the_rule_says(
    resizer: Resizer, cropper: str, num_crops: int
) -> None:
    frame = _draw(32, 47)
    spec = InputSpec(pixels=28, crop_ratio=28 / 32, resizer=resizer)

    squares = cut_squares(frame, spec, num_crops, cropper)

    boxes = crop_boxes(
        cropper, height=32, width=47, side=28, num_crops=num_crops, own_middle=(-1, -1)
    )
    for square, box in zip(squares, boxes, strict=True):
        wanted = frame[box.top : box.top + 28, box.left : box.left + 28]
        assert np.array_equal(square, wanted[:, ::-1] if box.mirrored else wanted)


@pytest.mark.parametrize("resizer", ["tpu", "model_garden"])
def test_a_mirrored_crop_is_the_mirror_image_of_the_one_before_it(resizer: Resizer) -> None:
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if resizer == "tpu" else "bilinear"
    spec = InputSpec(
        pixels=24, crop_ratio=0.75, resizer=resizer, interpolation=interpolation, antialias=False
    )

    squares = cut_squares(_draw(41, 60), spec, 10, "mmaction2")

    assert np.array_equal(squares[1::2], squares[0::2, :, ::-1])
    assert not np.array_equal(squares[1], squares[0])


@given(height=st.integers(20, 300), width=st.integers(20, 300), share=st.floats(0.3, 1))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_size_after_the_resize_is_torchvisions_own(
    height: int, width: int, share: float
) -> None:
    spec = InputSpec(pixels=16, crop_ratio=share)
    short_side = max(round(16 / share), 16)
    resized = functional.resize(torch.zeros(3, height, width), [short_side], antialias=True)

    assert resized_size(height, width, spec) == tuple(resized.shape[1:])
    (crop,) = crops_of(height, width, spec, 1)
    # torchvision's center_crop: round((L - c) / 2) on both axes.
    middle = [round((length - 16) / 2) for length in resized.shape[1:]]
    assert [crop.top, crop.left] == middle


@pytest.mark.parametrize(
    ("height", "width", "alike"), [(256, 340, True), (240, 320, False), (480, 640, False)]
)
def test_whether_one_crop_is_the_middle_of_three_depends_on_the_size_by_default(
    height: int, width: int, alike: bool
) -> None:
    # 340 - 256 = 84 pixels are halved; of 341 - 256 = 85 one crop leaves 42 and three 43.
    spec = InputSpec(pixels=256)

    (one,) = crops_of(height, width, spec, 1)
    assert (one == crops_of(height, width, spec, 3)[1]) is alike
    (one,) = crops_of(height, width, spec, 1, "psf")
    assert one == crops_of(height, width, spec, 3, "psf")[1]

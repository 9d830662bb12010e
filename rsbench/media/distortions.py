"""What RandAugment does to a clip: operations on grey levels of 0 to 255, alike in all frames.

Each gives what the function of its name gives in the Model Garden, `official/vision/ops/augment.py`
of tf-models-official, rounding included: grey levels are cut off, not rounded, and channels are
taken apart where its code does so. Extremes and histograms are those of the whole clip, as its code
takes them of four axes; a picture is a clip of one frame. Where an operation shifts pixels, each
comes from the nearest one (`Edges` says what lies outside).

`sharpness` alone differs, in one pixel of two hundred, by one grey level at magnitude 10, two at 15
and three at 20: the smooth copy is exact here, and there a sum of floats that is cut off a little
above a level or a little below, on other processors elsewhere.

Everything runs on the device that the clip lies on, and leaves the clip as it was.

Letters: C channels, T frames, H height, W width, L grey levels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch.nn import functional

Edges = Literal["reflected", "grey"]
"""What is seen of places outside the picture: its mirror image, as a ball would bounce off the edge
(Model Garden), or grey of level 128 (tensorflow/tpu, and the original of Cubuk et al.)."""

GREY = 128
_WEIGHTS = (0.2989, 0.5870, 0.1140)
"""Share of red, green and blue in a grey level, as TensorFlow has them."""
_NUM_LEVELS = 256


def autocontrast(clip: torch.Tensor) -> torch.Tensor:
    """Stretch each channel of uint8 (3, T, H, W) so that its extremes become 0 and 255."""
    channels = clip.flatten(1)
    low, high = channels.amin(dim=1).float(), channels.amax(dim=1).float()
    scale = 255.0 / (high - low)
    levels = _levels(clip.device)
    stretched = (levels * scale[:, None] + (-low * scale)[:, None]).clamp(0, 255)
    tables_CL = torch.where((high > low)[:, None], stretched, levels).byte()
    return _looked_up(clip, tables_CL[:, None])


def equalize(clip: torch.Tensor) -> torch.Tensor:
    """Spread the levels of each channel of uint8 (3, T, H, W) so that all are about as common."""
    # One by one: an offset a channel would have to be added to each pixel.
    counts_CL = torch.stack(
        [torch.bincount(channel.flatten(), minlength=_NUM_LEVELS) for channel in clip]
    )
    brightest = clip.flatten(1).amax(dim=1, keepdim=True).long()
    step = (counts_CL.sum(dim=1, keepdim=True) - counts_CL.gather(1, brightest)) // 255
    sums = (counts_CL.cumsum(dim=1) + step // 2) // step.clamp(min=1)
    shifted = functional.pad(sums[:, :-1], (1, 0)).clamp(0, 255)
    same = torch.arange(_NUM_LEVELS, device=clip.device)
    tables_CL = torch.where(step > 0, shifted, same).byte()
    return _looked_up(clip, tables_CL[:, None])


def invert(clip: torch.Tensor) -> torch.Tensor:
    """Give the negative of uint8 (3, T, H, W)."""
    return clip.bitwise_not()


def posterize(clip: torch.Tensor, bits: int) -> torch.Tensor:
    """Keep the first bits of each level of uint8 (3, T, H, W); 8 or more keep all."""
    shift = max(8 - bits, 0)
    return clip.bitwise_and(0xFF >> shift << shift)


def solarize(clip: torch.Tensor, threshold: int) -> torch.Tensor:
    """Invert the levels of uint8 (3, T, H, W) that are not below a threshold, modulo 256.

    The official code compares bytes, and TensorFlow makes a byte of any threshold: 256, which
    should leave everything as it is, inverts everything.
    """
    threshold %= _NUM_LEVELS
    return _mapped(clip, lambda levels: torch.where(levels < threshold, levels, 255 - levels))


def solarize_add(clip: torch.Tensor, addition: int) -> torch.Tensor:
    """Add to the levels of uint8 (3, T, H, W) that are below 128, up to 255."""

    def lightened(levels: torch.Tensor) -> torch.Tensor:
        return torch.where(levels < 128, (levels + addition).clamp(max=255), levels)

    return _mapped(clip, lightened)


def color(clip: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend uint8 (3, T, H, W) with its grey copy: 0 is grey, 1 as it was, more is gaudier."""
    weights = torch.tensor(_WEIGHTS, device=clip.device)

    def blended(frame: torch.Tensor) -> torch.Tensor:
        red, green, blue = (frame.float() * (1 / 255)).unbind(0)
        grey = red * weights[0] + green * weights[1] + blue * weights[2]
        # TensorFlow makes bytes of [0, 1] by 255.5, cut off.
        return _blended(grey.mul_(255.5).floor_(), frame.float(), factor)

    return _frame_by_frame(clip, blended)


def contrast(clip: torch.Tensor, factor: float) -> torch.Tensor:
    """Move the levels of uint8 (3, T, H, W) away from their mean, a channel and frame at a time."""
    mean_CT = (clip.double().mean(dim=(2, 3), keepdim=True) / 255).float()
    levels = _levels(clip.device) * (1 / 255)
    moved = (levels - mean_CT[..., 0]) * factor + mean_CT[..., 0]
    return _looked_up(clip, (moved * 255.5).clamp(0, 255).byte())


def contrast_by_size(clip: torch.Tensor, factor: float) -> torch.Tensor:
    """Move the levels of uint8 (3, T, H, W) away from H x W / 256, up to 255, as the TPU code does.

    It means the mean level, and divides the number of pixels by the number of levels.
    """
    height, width = clip.shape[2:]
    middle = float(min(height * width // _NUM_LEVELS, 255))
    return _mapped(clip, lambda levels: _blended(levels.new_tensor(middle), levels, factor))


def brightness(clip: torch.Tensor, factor: float) -> torch.Tensor:
    """Multiply the levels of uint8 (3, T, H, W)."""
    return _mapped(clip, lambda levels: levels * factor)


def sharpness(clip: torch.Tensor, factor: float) -> torch.Tensor:
    """Blend uint8 (3, T, H, W) with a smoothed copy: 0 is smooth, 1 as it was, more is sharper.

    A pixel of the copy is its 3 x 3 surroundings, itself five times, over 13; the outermost row and
    column stay as they were.
    """
    height, width = clip.shape[2:]
    if height < 3 or width < 3:
        return clip

    def blended(frame: torch.Tensor) -> torch.Tensor:
        levels = frame.short()
        columns = levels[:, :, :-2] + levels[:, :, 1:-1] + levels[:, :, 2:]
        sums = columns[..., :-2] + columns[..., 1:-1] + columns[..., 2:]
        inner = levels[:, :, 1:-1, 1:-1]
        # Dividing whole numbers takes three times as long; the half keeps floats off the edge.
        smooth = sums.add_(inner, alpha=4).float().add_(0.5).mul_(1 / 13).floor_()
        sharpened = frame.clone()
        sharpened[:, :, 1:-1, 1:-1] = _blended(smooth, inner.float(), factor)
        return sharpened

    return _frame_by_frame(clip, blended)


def rotate(clip: torch.Tensor, degrees: float, edges: Edges) -> torch.Tensor:
    """Turn uint8 (3, T, H, W) about its middle: each pixel shows what lay `degrees` clockwise."""
    height, width = clip.shape[2:]
    angle = torch.tensor(math.radians(degrees))
    cosine, sine = angle.cos(), angle.sin()
    across = ((width - 1) - (cosine * (width - 1) - sine * (height - 1))) / 2
    down = ((height - 1) - (sine * (width - 1) + cosine * (height - 1))) / 2
    return _moved(clip, _matrix(cosine, -sine, across, sine, cosine, down), edges)


def shear_x(clip: torch.Tensor, slope: float, edges: Edges) -> torch.Tensor:
    """Shift each row of uint8 (3, T, H, W) to the left by `slope` times its number."""
    return _moved(clip, _matrix(1.0, slope, 0.0, 0.0, 1.0, 0.0), edges)


def shear_y(clip: torch.Tensor, slope: float, edges: Edges) -> torch.Tensor:
    """Shift each column of uint8 (3, T, H, W) upwards by `slope` times its number."""
    return _moved(clip, _matrix(1.0, 0.0, 0.0, slope, 1.0, 0.0), edges)


def translate_x(clip: torch.Tensor, pixels: float, edges: Edges) -> torch.Tensor:
    """Shift uint8 (3, T, H, W) to the left."""
    return _moved(clip, _matrix(1.0, 0.0, pixels, 0.0, 1.0, 0.0), edges)


def translate_y(clip: torch.Tensor, pixels: float, edges: Edges) -> torch.Tensor:
    """Shift uint8 (3, T, H, W) upwards."""
    return _moved(clip, _matrix(1.0, 0.0, 0.0, 0.0, 1.0, pixels), edges)


def cutout(clip: torch.Tensor, half: int, *, row: int, column: int) -> torch.Tensor:
    """Paint a square of 2 x half pixels grey, where it lies inside uint8 (3, T, H, W).

    Args:
        clip: Painted alike in all frames. (Given clips, the official function paints a box of a
            random size, which ends in time too.)
        half: Half its side in pixels, at least 0.
        row: Its middle, in the picture.
        column: Likewise.
    """
    painted = clip.clone()
    rows = slice(max(row - half, 0), row + half)
    painted[:, :, rows, max(column - half, 0) : column + half] = GREY
    return painted


def _frame_by_frame(
    clip: torch.Tensor, new: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Map (3, 1, H, W) after (3, 1, H, W).

    What comes in between then stays in the processor's cache: the two slowest operations became 1.5
    times as fast on clips of 16 frames.
    """
    if clip.shape[1] == 1:
        return new(clip)
    return torch.cat([new(frame[:, None]) for frame in clip.unbind(1)], dim=1)


def _levels(device: torch.device) -> torch.Tensor:
    return torch.arange(_NUM_LEVELS, device=device, dtype=torch.float32)


def _mapped(clip: torch.Tensor, new: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Map each level on its own: a table of 256 is made, not one result a pixel."""
    return _looked_up(clip, new(_levels(clip.device)).clamp(0, 255).byte()[None, None])


def _looked_up(clip: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Replace levels by tables, uint8 (C, T, 256), 1 where channels or frames share one."""
    tables_CTL = tables.expand(*clip.shape[:2], _NUM_LEVELS)
    return tables_CTL.gather(2, clip.flatten(2).long()).view(clip.shape)


def _blended(first: torch.Tensor, second: torch.Tensor, factor: float) -> torch.Tensor:
    """Go from the first, in float32 levels, to the second and beyond; gives uint8, cut off."""
    return (first + factor * (second - first)).clamp_(0, 255).byte()


_Matrix = tuple[float, float, float, float, float, float]


def _matrix(*values: float | torch.Tensor) -> _Matrix:
    across, across_row, shift_across, down, down_row, shift_down = map(float, values)
    return across, across_row, shift_across, down, down_row, shift_down


def _moved(clip: torch.Tensor, matrix: _Matrix, edges: Edges) -> torch.Tensor:
    height, width = clip.shape[2:]
    source, outside = _sources(height, width, matrix, edges, clip.device)
    planes = clip.reshape(-1, height * width)
    moved = planes.gather(1, source.expand(len(planes), -1))
    if outside is not None:
        moved.masked_fill_(outside, GREY)
    return moved.view(clip.shape)


# Of one magnitude there are ten, two signs of five operations; 1.6 MB each at 448 x 448.
@functools.lru_cache(maxsize=16)
def _sources(
    height: int, width: int, matrix: _Matrix, edges: Edges, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Say from where each pixel comes, int64 (H x W), and which come from outside, if any may."""
    a0, a1, a2, b0, b1, b2 = (torch.tensor(value) for value in matrix)
    column = torch.arange(width, dtype=torch.float32)
    row = torch.arange(height, dtype=torch.float32)[:, None]
    across, down = a0 * column + a1 * row + a2, b0 * column + b1 * row + b2
    outside = None
    if edges == "reflected":
        across, down = _reflected(across, width), _reflected(down, height)
    across, down = _nearest(across), _nearest(down)
    if edges == "grey":
        outside = (across < 0) | (across > width - 1) | (down < 0) | (down > height - 1)
        outside = outside.flatten().to(device)
    source = down.clamp(0, height - 1).long() * width + across.clamp(0, width - 1).long()
    return source.flatten().to(device), outside


def _reflected(place: torch.Tensor, length: int) -> torch.Tensor:
    """Bounce places off the edges, which lie half a pixel outside of the outermost pixels.

    Between the last pixel and the edge TensorFlow does not bounce yet, which for its nearest pixel
    makes no difference.
    """
    period = 2 * length
    wrapped = (place + 0.5).remainder(period)
    return torch.where(wrapped > length, period - wrapped, wrapped) - 0.5


def _nearest(place: torch.Tensor) -> torch.Tensor:
    """Round halves away from nought, as C does."""
    return place.sign() * (place.abs() + 0.5).floor()

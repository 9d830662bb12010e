"""Named, versioned rules of where the spatial crops of a test lie.

The same words (three crops along the longer side) are another pixel in each project, since a crop
of c pixels rarely has a whole number of pixels on either side of a length L. A name stands for one
definition for ever; a bare name is the newest version.

| name         | one crop             | three, along the longer side          | ten              |
| ------------ | -------------------- | ------------------------------------- | ---------------- |
| resizer      | the resizer's own    | 0, the resizer's own, L - c           | -                |
| psf          | ceil((L-c)/2)        | 0, ceil((L-c)/2), L - c               | -                |
| mmaction2    | (L-c) // 2           | 0, step, 2 step, step = (L-c) // 2    | step = (L-c) // 4 |
| model_garden | (L-c) // 2           | 0, round(L/2 - c // 2), L - c         | -                |

- resizer: what lies in the middle is the business of the project whose resize is followed, see
  `rsbench.media.resizers`; this is the default, under which the weights' own scores were published.
- psf: PySlowFast slowfast/datasets/transform.py `uniform_crop`; the middle of three is the one.
- mmaction2: mmaction/datasets/transforms/processing.py `CenterCrop`, `ThreeCrop` (whose last crop
  leaves out a pixel where L - c is odd) and `TenCrop`: the four corners at 0 and 4 step, upper
  before lower and left before right, then the centre at 2 step, each followed by its mirror image.
  With 25 single frames these are the 250 views of TSN.
- model_garden: tensorflow/models official/vision/ops/preprocess_ops_3d.py `crop_image`; the
  rounding is half to even.

Three crops lie in the order left, middle, right, or top, middle, bottom (mmaction2 has its middle
last; a mean does not mind). On the other axis each lies where one crop lies; the sources meet
frames there that are as long as the crop. A square picture counts as wide, where nothing differs.

Where one project crops before it resizes, L and c are those of the frame before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from rsbench.errors import RsbenchError
from rsbench.media.naming import resolve_version

DEFAULT_CROPPER = "resizer@1"
"""The rule of every run and record that names none."""


class Crop(NamedTuple):
    """A square of a frame, in pixels."""

    top: int
    left: int
    side: int
    mirrored: bool = False
    """Whether left and right are exchanged after the cut."""


class Rule(NamedTuple):
    """Where crops lie on one axis of length L, for crops of c pixels."""

    title: str
    """In one line."""
    one: Callable[[int, int], int] | None
    """(L, c) -> the place of a single crop; None leaves it to the resizer."""
    middle: Callable[[int, int], int] | None
    """(L, c) -> the middle of three; None leaves it to the resizer."""
    last: Callable[[int, int], int]
    """(L, c) -> the last of three."""
    ten_steps: Callable[[int, int], int] | None = None
    """(L, c) -> a quarter of the way between the corners of ten; None: there are no ten."""


def crop_boxes(
    cropper: str,
    *,
    height: int,
    width: int,
    side: int,
    num_crops: int,
    own_middle: tuple[int, int],
) -> tuple[Crop, ...]:
    """Say which squares of a frame are cut.

    Args:
        cropper: A name of `CROPPERS`, or one without "@version" for its newest version.
        height: Of the frame that crops are cut from, at least `side`.
        width: Likewise.
        side: Of the crops.
        num_crops: 1, 3 along the longer side, or 10 where the rule has them.
        own_middle: (top, left) of the middle crop as the frame's resizer puts it for this number of
            crops; only resizer looks at it.

    Returns:
        The crops, in the order of the views.

    Raises:
        UnknownNameError: No such cropper; the nearest is named.
        RsbenchError: A number of crops that this rule does not have.
    """
    name = check_cropper(cropper, num_crops)
    assert min(height, width) >= side >= 1, (height, width, side)
    rule = CROPPERS[name]
    if num_crops == 10:
        return _ten(rule, height, width, side)
    top, left = own_middle
    if rule.one is not None:
        top, left = rule.one(height, side), rule.one(width, side)
    if num_crops == 1:
        return (Crop(top, left, side),)
    if height > width:
        middle = top if rule.middle is None else rule.middle(height, side)
        return tuple(Crop(each, left, side) for each in (0, middle, rule.last(height, side)))
    middle = left if rule.middle is None else rule.middle(width, side)
    return tuple(Crop(top, each, side) for each in (0, middle, rule.last(width, side)))


def check_cropper(cropper: str, num_crops: int) -> str:
    """Give the full name of a cropper that has this number of crops.

    Raises:
        UnknownNameError: No such cropper; the nearest is named.
        RsbenchError: It does not have this number of crops.
    """
    name = resolve_cropper(cropper)
    if num_crops in crop_counts(name):
        return name
    able = [other for other in CROPPERS if num_crops in crop_counts(other)]
    hint = f"; {', '.join(able)} cuts {num_crops}" if able else ""
    raise RsbenchError(
        f"cropper {name}: crops must be {_either(crop_counts(name))}, was {num_crops}{hint}"
    )


def crop_counts(cropper: str) -> tuple[int, ...]:
    """Give the numbers of crops that a cropper has.

    Raises:
        UnknownNameError: No such cropper; the nearest is named.
    """
    return (1, 3) if CROPPERS[resolve_cropper(cropper)].ten_steps is None else (1, 3, 10)


def resolve_cropper(cropper: str) -> str:
    """Give the full name, with version, of a cropper named with or without it.

    Raises:
        UnknownNameError: No such cropper; the nearest is named.
    """
    return resolve_version(cropper, CROPPERS, kind="cropper")


def _ten(rule: Rule, height: int, width: int, side: int) -> tuple[Crop, ...]:
    assert rule.ten_steps is not None
    down, right = rule.ten_steps(height, side), rule.ten_steps(width, side)
    corners = [(0, 0), (0, 4 * right), (4 * down, 0), (4 * down, 4 * right)]
    places = [*corners, (2 * down, 2 * right)]
    return tuple(
        Crop(top, left, side, mirrored) for top, left in places for mirrored in (False, True)
    )


def _either(counts: tuple[int, ...]) -> str:
    *others, last = map(str, counts)
    return f"{', '.join(others)} or {last}"


def _floor_middle(length: int, side: int) -> int:
    return (length - side) // 2


def _ceil_middle(length: int, side: int) -> int:
    return math.ceil((length - side) / 2)


def _even_middle(length: int, side: int) -> int:
    return round(length / 2 - side // 2)


def _end(length: int, side: int) -> int:
    return length - side


CROPPERS: Mapping[str, Rule] = MappingProxyType(
    {
        "mmaction2@1": Rule(
            title="mmaction2's CenterCrop, ThreeCrop and TenCrop",
            one=_floor_middle,
            middle=_floor_middle,
            last=lambda length, side: 2 * _floor_middle(length, side),
            ten_steps=lambda length, side: (length - side) // 4,
        ),
        "model_garden@1": Rule(
            title="Model Garden's crop_image",
            one=_floor_middle,
            middle=_even_middle,
            last=_end,
        ),
        "psf@1": Rule(
            title="PySlowFast's uniform_crop", one=_ceil_middle, middle=_ceil_middle, last=_end
        ),
        "resizer@1": Rule(
            title="The middle as the resizer of the weights has it; the default",
            one=None,
            middle=None,
            last=_end,
        ),
    }
)
"""Every cropper by its name with version."""

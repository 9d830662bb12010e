"""Which clips two environments distort, and how strongly: no more than numpy is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from parity.pictures import draw_picture

SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")
"""Operations that go either way."""
MAGNITUDES = (5, 10, 15, 20)
SMOOTHED_STEP = (2, 3)
"""Of sharpened pictures every how many rows and columns are kept: they are not equal to the bit."""
CORNER = 16
"""Side of the part that is kept of some results, beside the digest of the whole."""


class Case(NamedTuple):
    """A clip and what is done to it."""

    picture: str
    magnitude: int
    is_positive: bool
    row: float = 0.25
    """Middle of a cutout, as a share of the height."""
    column: float = 0.9

    @property
    def name(self) -> str:
        """What it is kept under: "wide 15 +"."""
        return f"{self.picture} {self.magnitude} {'+' if self.is_positive else '-'}"


def cases_of(operation: str, pictures: tuple[str, ...]) -> Iterator[Case]:
    """Give every picture at every magnitude, in both directions where there are two."""
    for picture in pictures:
        for magnitude in MAGNITUDES:
            for is_positive in (True, False) if operation in SIGNED else (True,):
                yield Case(picture, magnitude, is_positive)


def draw_clips() -> dict[str, np.ndarray]:
    """Draw by name, uint8 (H, W, 3) or (T, H, W, 3): pictures, flat colours, and a clip."""
    flat = np.full((40, 52, 3), 255, np.uint8)
    flat[:, 20:] = (200, 100, 7)
    frames = [draw_picture(61, 90 + shift)[:, shift:] for shift in range(3)]
    return {
        "wide": draw_picture(97, 140),
        "square": draw_picture(160, 160),
        "tall": draw_picture(64, 33),
        "flat": flat,
        "clip": np.stack(frames),
    }


def digest_of(pixels: np.ndarray) -> str:
    """Give 16 digits that stand for shape and bytes."""
    content = repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def summary_of(operation: str, results: dict[Case, np.ndarray]) -> dict[str, np.ndarray]:
    """Make small what an operation gave: digests of all, a corner of one, pixels of some."""
    if operation == "Sharpness":
        rows, columns = SMOOTHED_STEP
        return {
            case.name: pixels[..., ::rows, ::columns, :]
            for case, pixels in results.items()
            if case.picture in ("wide", "clip")
        }
    shown = next(
        pixels
        for case, pixels in results.items()
        if (case.picture, case.magnitude, case.is_positive) == ("wide", 15, True)
    )
    return {
        "digests": np.array([digest_of(pixels) for pixels in results.values()]),
        "corner": shown[-CORNER:, -CORNER:],
    }

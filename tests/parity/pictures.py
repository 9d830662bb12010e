"""Pictures that two environments make alike, and which sizes of them are resized to what.

Only integer arithmetic, so that any numpy gives the same bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Every how many pixels of a resized picture one is recorded, on both axes: coprime to usual sides.
STRIDE = 13


class Case(NamedTuple):
    """A picture to be cut and resized."""

    height: int
    width: int
    pixels: int
    """Side of the result."""

    @property
    def name(self) -> str:
        """What it is kept under: "375x500 to 160"."""
        return f"{self.height}x{self.width} to {self.pixels}"


# Even and odd, wide and tall, shrinking by a little and by much, enlarging, and not at all.
CASES = (
    Case(375, 500, 160),
    Case(500, 333, 192),
    Case(281, 301, 224),
    Case(427, 640, 256),
    Case(97, 140, 160),
    Case(33, 47, 64),
    Case(64, 64, 32),
    Case(200, 201, 61),
    Case(256, 256, 224),
    Case(192, 192, 160),
    Case(131, 350, 75),
)


def draw_picture(height: int, width: int) -> np.ndarray:
    """Draw slow waves with noise on them, uint8 (height, width, 3): every filter has work to do."""
    row = np.arange(height, dtype=np.int64)[:, None, None]
    column = np.arange(width, dtype=np.int64)[None, :, None]
    channel = np.arange(3, dtype=np.int64)
    slow = np.abs((3 * row + 2 * column + 90 * channel) % 512 - 256)
    noise = (row * row * 31 + column * column * 17 + row * column * (7 + 6 * channel)) % 193
    return ((2 * slow + noise) // 3 + noise // 4).clip(0, 255).astype(np.uint8)

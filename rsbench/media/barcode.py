"""Videos whose frames say which frame they are: the proof that a reader gives the frame asked for.

A frame is a grid of 5 x 6 black and white cells. Six are fixed, such that each of the seven ways to
turn or mirror a picture puts a white one where a black one belongs or the other way round. The rest
hold 16 bits of the frame's index and 8 bits of a check sum, most significant first, row by row. The
cells survive any sane codec, scaling and colour conversion; a blended, turned, mirrored or cropped
frame is refused.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rsbench.errors import MediaError, RsbenchError

Pixels = npt.NDArray[np.uint8]

_ROWS, _COLUMNS = 5, 6
_FIXED_CELLS = {(0, 0): 1, (0, 1): 1, (0, 5): 0, (1, 0): 0, (4, 0): 0, (4, 5): 0}
"""(row, column) of the cells that tell which way is up, and whether they are white."""
_BIT_CELLS = [
    (row, column)
    for row in range(_ROWS)
    for column in range(_COLUMNS)
    if (row, column) not in _FIXED_CELLS
]
_NUM_INDEX_BITS = 16
_BLACK, _WHITE = 16, 240
_CONTRAST = 32
"""How far from mid grey (128) a cell's mean must lie to be read."""


def barcode_frames(num_frames: int, height: int, width: int) -> Pixels:
    """Draw frames that carry their index.

    Args:
        num_frames: Frames, numbered from 0, at most 65,536.
        height: Of a frame in pixels, at least 10.
        width: Of a frame in pixels, at least 12.

    Returns:
        uint8 (N, H, W, 3), grey.

    Raises:
        RsbenchError: A number out of these ranges.
    """
    if not 1 <= num_frames <= 1 << _NUM_INDEX_BITS:
        raise RsbenchError(f"barcode: num_frames must be in [1, 65536], was {num_frames}")
    if height < 2 * _ROWS or width < 2 * _COLUMNS:
        raise RsbenchError(f"barcode: a frame must be at least 10 x 12, was {height} x {width}")
    rows = np.arange(height) * _ROWS // height
    columns = np.arange(width) * _COLUMNS // width
    grids = np.stack([_encode(index) for index in range(num_frames)])
    grey = grids[:, rows[:, None], columns[None, :]]
    return np.repeat(grey[..., None], 3, axis=3)


def read_barcode(pixels: Pixels) -> int:
    """Read the index from one frame.

    Args:
        pixels: uint8 (H, W, 3), the whole frame at any size.

    Returns:
        The index that `barcode_frames` drew.

    Raises:
        MediaError: The picture is no barcode, or a damaged, blended, turned or cropped one.
    """
    grey = pixels.astype(np.float64).mean(axis=2)
    for (row, column), white in _FIXED_CELLS.items():
        if _read_cell(grey, row, column) != white:
            raise MediaError(
                f"barcode: row {row} column {column} must be {'white' if white else 'black'}, was "
                "the other; the frame is turned, mirrored, cropped or no barcode"
            )
    word = 0
    for row, column in _BIT_CELLS:
        word = word << 1 | _read_cell(grey, row, column)
    index, check = word >> 8, word & 0xFF
    if check != _check_sum(index):
        raise MediaError(
            f"barcode: the check sum of index {index} must be {_check_sum(index)}, was {check}; "
            "the frame is damaged or no barcode"
        )
    return index


def _read_cell(grey: npt.NDArray[np.float64], row: int, column: int) -> int:
    """Tell whether the middle half of a cell is white (1) or black (0)."""
    height, width = grey.shape[0] / _ROWS, grey.shape[1] / _COLUMNS
    top, left = int((row + 0.25) * height), int((column + 0.25) * width)
    bottom = max(int((row + 0.75) * height), top + 1)
    right = max(int((column + 0.75) * width), left + 1)
    mean = grey[top:bottom, left:right].mean()
    if abs(mean - 128) < _CONTRAST:
        raise MediaError(
            f"barcode: every cell must be black or white, but row {row} column {column} "
            f"has grey {mean:.0f}; the frame is blended, damaged or no barcode"
        )
    return int(mean > 128)


def _encode(index: int) -> Pixels:
    """Give the grid of one index, uint8 (5, 6)."""
    word = index << 8 | _check_sum(index)
    grid = np.full((_ROWS, _COLUMNS), _BLACK, dtype=np.uint8)
    white = [cell for cell, is_white in _FIXED_CELLS.items() if is_white]
    num_bits = len(_BIT_CELLS)
    white += [cell for i, cell in enumerate(_BIT_CELLS) if word >> (num_bits - 1 - i) & 1]
    for cell in white:
        grid[cell] = _WHITE
    return grid


def _check_sum(index: int) -> int:
    """Give the CRC-8 (polynomial 0x07, start 0xA5) of the 16 bits of an index."""
    check = 0xA5
    for byte in (index >> 8, index & 0xFF):
        check ^= byte
        for _ in range(8):
            check = (check << 1 ^ 0x07) & 0xFF if check & 0x80 else check << 1
    return check

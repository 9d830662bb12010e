"""What the tests of exact reading stand on: a picture that says which frame it is, and ffmpeg.

The traps themselves are in `video_traps`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from rsbench.media.barcode import barcode_frames

NUM_FRAMES, HEIGHT, WIDTH, GROUP = 40, 64, 96, 12
EVERY = tuple(range(NUM_FRAMES))
FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")


class Unavailable(Exception):
    """What makes a video is not installed here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trap:
    """A video that is made on demand, and what a reader must show of it."""

    name: str
    suffix: str
    make: Callable[[Path], None]
    """Writes it at the path that it is given."""
    frames: tuple[int, ...] | None = EVERY
    """Barcode of each frame that is shown, in order; none at all: nothing decodes. None: pictures
    are damaged, or how many decode is the decoder's choice; the ffmpeg program has the word."""
    times: tuple[float, ...] | None = None
    """Seconds of each frame from the first; None: not held here."""
    exact: bool = True
    """Whether the ffmpeg program can hand its frames over unchanged, to be compared bit by bit."""

    ends_in_half: bool = False
    """Whether the last picture is a part of one, the rest of which each version conceals."""
    agreed: bool = True
    """Whether every version of the ffmpeg program shows the same frames."""

    def path_in(self, folder: Path) -> Path:
        """Give the file, made if it is not there yet."""
        path = (
            folder / f"{self.name.replace(' ', '_').replace(',', '').replace(':', '')}{self.suffix}"
        )
        if not path.exists():
            self.make(path)
        return path


@cache
def pictures(num_frames: int = NUM_FRAMES, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Draw barcodes under a drifting colour gradient, uint8 (N, H, W, 3): motion and chroma."""
    rows, columns = np.mgrid[:height, :width]
    drawn = barcode_frames(num_frames, height, width).astype(np.int16)
    for number, frame in enumerate(drawn):
        wave = np.sin((rows + 2 * columns) / 17 + number / 3)
        frame[..., 0] += np.rint(15 * wave).astype(np.int16)
        frame[..., 1] -= np.rint(5 * wave).astype(np.int16)
        frame[..., 2] += (number * 3 % 30) - 15
    return drawn.clip(0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------- the ffmpeg program


def ffmpeg(*words: str | Path, pixels: np.ndarray | None = None) -> bytes:
    """Run the ffmpeg program; give what it writes to its standard output."""
    if FFMPEG is None:
        raise Unavailable("no ffmpeg program")
    done = subprocess.run(
        [FFMPEG, "-v", "error", "-y", "-nostdin" if pixels is None else "-hide_banner", *words],
        input=None if pixels is None else np.ascontiguousarray(pixels).tobytes(),
        capture_output=True,
        timeout=120,
    )
    told = done.stderr.decode(errors="replace")
    if done.returncode != 0 and "Unknown encoder" in told:
        raise Unavailable(f"this ffmpeg program: {told.splitlines()[0]}")
    if done.returncode != 0:
        raise RuntimeError(told[-500:])
    return done.stdout


def encode(*words: str | Path, pixels: np.ndarray | None = None, rate: str = "25") -> None:
    """Encode pictures by the ffmpeg program; the words say how and where to."""
    shown = pictures() if pixels is None else pixels
    height, width = shown.shape[1:3]
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate)
    ffmpeg(*source, "-i", "-", *words, pixels=shown)


@cache
def _frame_mode() -> tuple[str, str]:
    """Give the words for "every frame that decodes, once": they changed with ffmpeg 5.1."""
    known = ffmpeg("-h", "full").decode(errors="replace")
    return ("-fps_mode" if "-fps_mode" in known else "-vsync", "passthrough")


def ffmpeg_frames(path: Path, height: int, width: int) -> np.ndarray:
    """Give the frames that the ffmpeg program shows, uint8 (N, H, W, 3)."""
    raw = ffmpeg(
        *("-i", path, *_frame_mode(), "-an", "-sn", "-dn"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def lossless_copy(path: Path, copy: Path) -> Path:
    """Write the frames that the ffmpeg program shows into another file, each bit as it is."""
    ffmpeg(
        *("-i", path, *_frame_mode(), "-an", "-sn", "-dn", "-vf", "setpts=N/25/TB"),
        *("-c:v", "ffv1", "-strict", "experimental", copy),
    )
    return copy


def ffprobe_times(path: Path) -> list[float]:
    """Give the seconds from the first frame at which the ffprobe program shows each frame."""
    assert FFPROBE is not None
    words = ("-v", "error", "-select_streams", "V:0", "-show_entries", "frame=pts_time")
    told = subprocess.run(
        [FFPROBE, *words, "-of", "csv=p=0", path], capture_output=True, check=True, text=True
    )
    seconds = [float(line.split(",")[0]) for line in told.stdout.split() if line[0] not in "N,"]
    return [second - seconds[0] for second in seconds]

"""Damaged videos by the hundred, and the child process that reads them and is watched.

Run as a program, it reads the files that its standard input names, one a line, and answers each
with one line of JSON before and one after; what is missing when it is gone is what killed it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import resource
import struct
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from rsbench.errors import MediaError
from rsbench.media import exactness
from rsbench.media.barcode import barcode_frames
from rsbench.media.video import Clips, count_frames, read_clips, write_video

SECONDS_A_FILE = 20
"""Far more than any of these files takes: who needs longer hangs."""
MEMORY_BYTES = 4 * 1024**3
"""Address space of the child: a table that claims gigabytes must not get them."""

_TRIALS = (
    *("H.264, B-frames, mp4", "HEVC, open groups, mkv", "MPEG-4, avi", "VP8, webm", "VP9, webm"),
    *("AV1, mp4", "AV1, webm", "MPEG-2, B-frames, mpg", "MPEG-2, open groups, ts"),
    *("MJPEG, full range, avi", "H.264, open groups, mkv", "H.264, open groups, ts"),
    *("H.264, B-frames, flv", "H.264, late start, mp4", "HEVC, B-frames, mp4", "VP9, mp4"),
    *("ProRes, 10 bits, mov", "Windows Media 8, wmv", "FFV1, RGB, mkv"),
    *("MPEG-4, B-frames, mp4", "H.264, no presentation times, avi"),
)
_SOUND = (("libx264", ".mp4", "aac"), ("mpeg4", ".avi", "mp2"), ("libvpx", ".webm", "libopus"))

_NAMES = (
    # Boxes of MP4, then chunks of AVI, then elements of Matroska (RFC 9559) by their identifiers.
    *(b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stsz", b"stco", b"stsc", b"stts", b"ctts"),
    *(b"stss", b"elst", b"mvhd", b"tkhd", b"mdhd", b"mdat", b"avcC", b"hvcC", b"av1C", b"ftyp"),
    *(b"RIFF", b"LIST", b"avih", b"strh", b"strf", b"idx1", b"movi", b"00dc", b"01wb"),
    *(b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"),
    *(b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\xe0", b"\xa3", b"\xae"),
)
_EXTREMES = (0, 1, 0x7F, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def write_seeds(folder: Path) -> list[Path]:
    """Write one sound video of each kind that this library can write."""
    seeds = []
    for trial in exactness.TRIALS:
        if trial.name in _TRIALS:
            try:
                made = exactness.write_trial(trial, folder)
            except MediaError:
                continue  # no such encoder here
            seeds.append(made.replace(folder / f"seed{len(seeds)}{trial.suffix}"))
    for codec, suffix, sound in _SOUND:
        path = folder / f"seed{len(seeds)}{suffix}"
        write_video(path, barcode_frames(30, 64, 96), fps=25, codec=codec, audio_codec=sound)
        seeds.append(path)
    return seeds


def mutate(content: bytes, other: bytes, chance: np.random.Generator) -> bytes:
    """Damage a file in one to three ways.

    Args:
        content: A sound video.
        other: Another one, from which bytes may come.
        chance: Decides what happens where.
    """
    damaged = bytearray(content)
    ways = (_flip, _flip_head, _cut, _overwrite, _insert, _remove, _header, _header, _tail)
    for way in chance.choice(len(ways), size=chance.integers(1, 4)):
        ways[way](damaged, other, chance)
    return bytes(damaged)


def _flip(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    for place in chance.integers(max(len(damaged), 1), size=2 ** int(chance.integers(8))):
        if damaged:
            damaged[place] ^= 1 << int(chance.integers(8))


def _flip_head(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    for place in chance.integers(1024, size=int(chance.integers(1, 6))):
        if place < len(damaged):
            damaged[place] = int(chance.integers(256))


def _tail(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    for place in chance.integers(2048, size=int(chance.integers(1, 6))):
        if place < len(damaged):
            damaged[-1 - place] = int(chance.integers(256))


def _cut(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    del damaged[int(len(damaged) * chance.random() ** 0.5) :]


def _span(length: int, chance: np.random.Generator) -> slice:
    start = int(chance.integers(max(length, 1)))
    return slice(start, start + int(chance.integers(1, max(length // 4, 2))))


def _overwrite(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    span = _span(len(damaged), chance)
    size = len(damaged[span])
    damaged[span] = (bytes(size), b"\xff" * size, chance.bytes(size))[int(chance.integers(3))]


def _insert(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    source = other if chance.random() < 0.5 else bytes(damaged)
    place = int(chance.integers(len(damaged) + 1))
    damaged[place:place] = source[_span(len(source), chance)]


def _remove(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    del damaged[_span(len(damaged), chance)]


def _header(damaged: bytearray, other: bytes, chance: np.random.Generator) -> None:
    """Write an extreme number into or before a named part: sizes, counts, offsets, times."""
    here = [name for name in _NAMES if name in damaged]
    if not here:
        _flip_head(damaged, other, chance)
        return
    name = here[int(chance.integers(len(here)))]
    place = damaged.index(name)
    offset = int(chance.choice([-4, len(name), *(len(name) + 4 * i for i in range(1, 12))]))
    order = ">I" if chance.random() < 0.6 else "<I"
    at = max(place + offset, 0)
    value = _EXTREMES[int(chance.integers(len(_EXTREMES)))]
    damaged[at : at + 4] = struct.pack(order, value)


def write_mutants(folder: Path, seeds: list[Path], number: int) -> list[Path]:
    """Write damaged videos, the same ones for the same seeds on every machine."""
    contents = [path.read_bytes() for path in seeds]
    folder.mkdir(parents=True, exist_ok=True)
    mutants = []
    for count in range(number):
        chance = np.random.default_rng([4, count])
        origin = count % len(seeds)
        other = contents[int(chance.integers(len(seeds)))]
        path = folder / f"mutant{count}{seeds[origin].suffix}"
        path.write_bytes(mutate(contents[origin], other, chance))
        mutants.append(path)
    return mutants


# ---------------------------------------------------------------------------------------- the child


def _spread(num_frames: int, fps: float) -> np.ndarray:
    """Choose as samplers do: two overlapping clips of eight frames across the file."""
    assert num_frames >= 1 and np.isfinite(fps) and fps > 0, (num_frames, fps)
    return np.linspace(0, num_frames - 1, 16).astype(np.int64).reshape(2, 8)


def _small(pixels: np.ndarray) -> np.ndarray:
    """Keep 16 x 16 samples of a frame: a mutant may claim to be as large as is read at all."""
    rows, columns = (np.arange(16) * size // 16 for size in pixels.shape[:2])
    return pixels[rows[:, None], columns]


def _attempt(read: Callable[[], Any]) -> tuple[Any, str | None]:
    try:
        return read(), None
    except MediaError as error:
        return None, str(error)


def judge(path: Path) -> dict[str, Any]:
    """Read a file in every way, hold the ways to each other, and say what it came to.

    Equal asks must give equal pixels. Others may differ in damaged files: where a stream says
    nothing, decoders leave what was in the memory before, and do not say so ("uncertain"); and an
    ask that does not need a damaged packet counts it by its promise, one that needs it, remarks.
    """
    clips, reason = _attempt(lambda: read_clips(path, _spread, transform=_small))
    num_counted, no_count = _attempt(lambda: count_frames(path))
    if reason is not None:
        assert reason.startswith(f"{path.name}: "), reason
        assert "\n" not in reason and len(reason) < 500, reason
        if num_counted is not None:
            return {"outcome": "differs", "what": f"counts {num_counted}, but: {reason}"}
        assert no_count == reason, (no_count, reason)
        return {"outcome": "failed", "reason": reason}
    assert all(remark and "\n" not in remark for remark in clips.remarks), clips.remarks
    kept = path.with_name(f"{path.name}.index")
    for _ in ("made", "used"):
        again = read_clips(path, _spread, transform=_small, index_file=kept)
        if again[1:] != clips[1:] or not np.array_equal(again.frames, clips.frames):
            return {"outcome": "differs", "what": f"{clips[1:]}; with an index {again[1:]}"}
    kept.unlink(missing_ok=True)
    return _compare(path, clips, num_counted)


def _compare(path: Path, clips: Clips, num_counted: int | None) -> dict[str, Any]:
    """Hold what other asks give to what the first one gave."""
    rows = _spread(clips.num_frames, clips.fps)
    asks: list[Callable[[int, float], np.ndarray]] = [
        lambda n, fps: np.arange(n)[None],
        lambda n, fps: np.array([[n - 1]]),
        lambda n, fps: np.array([[n // 2]]),
        lambda n, fps: np.array([[n * 2 // 3, n // 3]]),
    ]
    given = [read_clips(path, ask, transform=_small) for ask in asks]
    whole = given[0].frames[0]
    uncertain: set[int] = set()
    asked = [rows, *(ask(each.num_frames, each.fps) for ask, each in zip(asks, given, strict=True))]
    for chosen, each in zip(asked, [clips, *given], strict=True):
        if each.num_frames == len(whole):
            same = (whole[chosen] == each.frames).all(axis=(2, 3, 4))
            uncertain.update(chosen[~same].tolist())
    counts = {num_counted, *(each.num_frames for each in (clips, *given))}
    remarks = {remark for each in (clips, *given) for remark in each.remarks}
    if len(counts) > 1 and not remarks:
        return {"outcome": "differs", "what": f"frames {counts}, and no remark"}
    return {
        "outcome": "read",
        "num_frames": sorted(counts - {None}),
        "remarks": clips.remarks,
        "digest": crc32(clips.frames.tobytes()),
        "uncertain": sorted(uncertain),
    }


def memory_and_files() -> tuple[int, int]:
    """Give this process's resident bytes, free heap given back, and its open file descriptors."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def main() -> None:
    """Answer for each file named on standard input."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for line in sys.stdin:
        path = Path(json.loads(line))
        _say({"path": str(path), "outcome": "started"})
        faulthandler.dump_traceback_later(SECONDS_A_FILE, exit=True)
        try:
            answer = judge(path)
        except BaseException:
            answer = {"outcome": "raised", "what": traceback.format_exc()[-2000:]}
        faulthandler.cancel_dump_traceback_later()
        memory, files = memory_and_files()
        _say({"path": str(path), **answer, "memory": memory, "files": files})


if __name__ == "__main__":
    main()

"""Frame by frame, the reader shows what the ffmpeg program shows, and the frame that was asked for.

Three witnesses: the number drawn in the picture (`video_traps`), the ffmpeg program's own frames
(compared as they are, and bit by bit through a lossless copy), and, for what is read out of order,
the whole file read in order. The real clips have their counts in `annotations.csv`.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pytest
import video_world as world
from video_traps import TRAPS
from video_world import Trap, Unavailable

from rsbench.errors import MediaError
from rsbench.media.barcode import read_barcode
from rsbench.media.video import Clips, count_frames, read_all_frames, read_clips

SHARED = Path(__file__).parents[2] / "shared" / "data"
# Read now: no test sees the user's RSBENCH_ variables.
SOAK = "RSBENCH_SOAK" in os.environ
NUM_SETS = 6
NO_CODE = -1

Frames = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traps")


def made(trap: Trap, folder: Path) -> Path:
    try:
        return trap.path_in(folder)
    except Unavailable as reason:
        pytest.skip(str(reason))


each_trap = pytest.mark.parametrize(
    "trap", TRAPS, ids=[f"{trap.name}{trap.suffix}" for trap in TRAPS]
)
each_clean_trap = pytest.mark.parametrize(
    "trap",
    [trap for trap in TRAPS if trap.frames],
    ids=[f"{trap.name}{trap.suffix}" for trap in TRAPS if trap.frames],
)


def code_of(frame: Frames) -> int:
    """Give a frame's number, or NO_CODE of a damaged picture."""
    try:
        return read_barcode(frame)
    except MediaError:
        return NO_CODE


def codes_of(frames: Frames) -> list[int]:
    return [code_of(frame) for frame in frames]


@cache
def whole(path: Path) -> Frames | None:
    """Read a file in order; None where nothing of it decodes."""
    try:
        frames = read_all_frames(path)
    except MediaError as error:
        assert "must hold a video that decodes" in str(error)
        return None
    frames.flags.writeable = False
    return frames


def read(path: Path, rows: Indices, index_file: Path | None = None) -> Clips:
    return read_clips(path, lambda num_frames, fps: rows, index_file=index_file)


def sets_of_frames(num_frames: int, seed: int) -> Iterator[Indices]:
    """Give what a sampler might ask for, and what none would."""
    chance = np.random.default_rng(seed)
    last = num_frames - 1
    yield np.array([[last]])
    yield np.array([[0]])
    yield np.array([[last, 0, last]])
    yield np.arange(num_frames)[::-1].reshape(1, -1).copy()
    # The frame before, at and after each key frame, one at a time and in no order.
    borders = np.arange(world.GROUP, num_frames, world.GROUP)[:4]
    for place in chance.permutation(np.concatenate([borders - 1, borders, borders + 1])):
        yield np.array([[min(place, last)]])
    for _ in range(NUM_SETS):
        shape = (chance.integers(1, 5), chance.integers(1, 7))
        yield chance.integers(num_frames, size=shape)
    # Overlapping clips of neighbours, as test views are.
    starts = np.sort(chance.integers(num_frames, size=5))[:, None]
    yield np.minimum(starts + 2 * np.arange(6)[None, :], last)


# ------------------------------------------------------------------------------- the whole file


@each_trap
def test_the_whole_file_shows_what_was_drawn(trap: Trap, folder: Path) -> None:
    if trap.frames is None:
        pytest.skip("which pictures survive is the decoder's choice; the next test has its word")
    path = made(trap, folder)

    frames = whole(path)

    assert codes_of(frames if frames is not None else np.empty((0,))) == list(trap.frames)
    if trap.frames:
        assert count_frames(path) == len(trap.frames)


@each_trap
def test_the_whole_file_shows_what_the_ffmpeg_program_shows(trap: Trap, folder: Path) -> None:
    path = made(trap, folder)
    if not trap.agreed:
        pytest.skip("versions of the ffmpeg program differ on it")
    frames = whole(path)
    if frames is None:
        with contextlib.suppress(RuntimeError):
            assert len(world.ffmpeg_frames(path, world.HEIGHT, world.WIDTH)) == 0
        return
    try:
        shown = world.ffmpeg_frames(path, *frames.shape[1:3])
    except Unavailable as reason:
        pytest.skip(str(reason))

    assert codes_of(frames) == codes_of(shown)
    # Both convert on their own, so colours differ by rounding, and by the filter where a frame is
    # scaled to the first one's size: the same picture is the nearest one.
    farthest = 4.0 if trap.name.startswith("size changes") else 2.5
    small, small_shown = (part[:, ::4, ::4].astype(np.float32) for part in (frames, shown))
    for place, frame in enumerate(small[:-1] if trap.ends_in_half else small):
        distances = np.abs(small_shown - frame).mean(axis=(1, 2, 3))
        assert distances[place] == distances.min()
        assert distances[place] < farthest


@each_trap
def test_each_bit_is_that_of_the_ffmpeg_programs_frames(
    trap: Trap, folder: Path, tmp_path: Path
) -> None:
    path = made(trap, folder)
    frames = whole(path)
    if frames is None or not trap.exact or not trap.agreed:
        pytest.skip("the ffmpeg program can't hand these frames over unchanged")
    try:
        copy = world.lossless_copy(path, tmp_path / "copy.mkv")
    except Unavailable as reason:
        pytest.skip(str(reason))
    same = (read_all_frames(copy) == frames).all(axis=(1, 2, 3))

    same[-1] |= trap.ends_in_half
    assert same.all(), f"frames {np.flatnonzero(~same).tolist()} differ"


# -------------------------------------------------------------------------------- out of order


@each_trap
def test_frames_asked_for_in_any_order_are_those_of_the_whole_file(
    trap: Trap, folder: Path
) -> None:
    path = made(trap, folder)
    frames = whole(path)
    if frames is None:
        with pytest.raises(MediaError, match="must hold a video that decodes"):
            read(path, np.array([[0]]))
        return
    for rows in sets_of_frames(len(frames), seed=crc32(path.name.encode())):
        clips = read(path, rows)

        assert clips.num_frames == len(frames)
        assert clips.frames.shape == (*rows.shape, *frames.shape[1:])
        same = (clips.frames == frames[rows]).all(axis=(2, 3, 4))
        assert same.all(), (
            f"asked for {rows[~same].tolist()} of {rows.tolist()}, was given "
            f"{codes_of(clips.frames[~same])}"
        )


@each_clean_trap
def test_a_kept_index_of_any_kind_changes_no_bit(trap: Trap, folder: Path, tmp_path: Path) -> None:
    path = made(trap, folder)
    frames = whole(path)
    assert frames is not None
    chance = np.random.default_rng(crc32(path.name.encode()))
    rows = chance.integers(len(frames), size=(3, 4))
    index = tmp_path / "folder that is not there" / "index"
    plain = read(path, rows)

    for state in ("made", "used", "cut short", "empty", "of one changed byte", "other bytes"):
        if index.exists() and state not in ("made", "used"):
            content = bytearray(index.read_bytes())
            if state == "of one changed byte" and content:
                content[chance.integers(len(content))] ^= 1 << int(chance.integers(8))
            changed = {
                "cut short": content[: len(content) // 2],
                "empty": b"",
                "other bytes": chance.bytes(max(len(content), 64)),
            }
            index.write_bytes(changed.get(state, content))
        clips = read(path, rows, index)

        assert np.array_equal(clips.frames, frames[rows]), state
        assert (clips.num_frames, clips.fps, clips.remarks) == plain[1:], state


def test_an_index_of_another_file_changes_no_bit(folder: Path, tmp_path: Path) -> None:
    """Callers name the index by content; if one ever does not, the frames must still be right."""
    first, second = (
        made(trap, folder)
        for trap in TRAPS
        if trap.name in ("h264, one group, pyramid", "doctor H.264, variable rate, mkv")
    )
    index, rows = tmp_path / "index", np.array([[3, 17, 39, 20]])
    read(first, rows, index)

    clips = read(second, rows, index)

    frames = whole(second)
    assert frames is not None
    assert np.array_equal(clips.frames, frames[rows])
    assert clips.fps == read(second, rows).fps


@pytest.mark.parametrize(
    "trap", [trap for trap in TRAPS if trap.times], ids=lambda trap: f"{trap.name}{trap.suffix}"
)
def test_windows_hold_the_frames_whose_times_lie_in_them(trap: Trap, folder: Path) -> None:
    path = made(trap, folder)
    assert trap.times is not None and trap.frames is not None
    chance = np.random.default_rng(crc32(path.name.encode()))
    for _ in range(NUM_SETS):
        first, end = np.sort(chance.choice(len(trap.times), size=2, replace=False))
        # A third of the least step away from any frame: containers round times, to milliseconds.
        start_seconds, end_seconds = trap.times[first] - 0.006, trap.times[end] - 0.006

        frames = read_all_frames(path, start_seconds=start_seconds, end_seconds=end_seconds)
        clips = read_clips(
            path,
            lambda num_frames, fps: np.array([[num_frames - 1, 0]]),
            start_seconds=start_seconds,
            end_seconds=end_seconds,
        )

        assert codes_of(frames) == list(trap.frames[first:end])
        assert clips.num_frames == end - first
        assert np.array_equal(clips.frames[0], frames[[-1, 0]])


def test_a_reader_asked_in_turn_for_many_files_mixes_none_up(folder: Path) -> None:
    paths = [made(trap, folder) for trap in TRAPS if trap.name.startswith("doctor H.264")]
    chance = np.random.default_rng(0)
    for place in chance.integers(len(paths), size=40):
        frames = whole(paths[place])
        assert frames is not None
        rows = chance.integers(len(frames), size=(1, 2))
        assert np.array_equal(read(paths[place], rows).frames, frames[rows])


def test_a_file_that_changes_in_its_place_is_read_anew(folder: Path, tmp_path: Path) -> None:
    one, other = (
        made(trap, folder)
        for trap in TRAPS
        if trap.name in ("edit list cuts a group, h264", "edit list cuts a group, hevc")
    )
    path = tmp_path / "same name.mp4"
    for source in (one, other, one):
        shutil.copyfile(source, path)
        frames = whole(source)
        assert frames is not None
        assert np.array_equal(read(path, np.array([[5, 2]])).frames[0], frames[[5, 2]])


# ------------------------------------------------------------------------------------ real files


def _real_files() -> list[tuple[Path, int | None]]:
    """Give every real clip, and how many of its frames decode where that is written down."""
    found: list[tuple[Path, int | None]] = []
    for name in ("ut_interaction_set1", "egogestar_ssv2"):
        root = SHARED / name
        if (root / "annotations.csv").is_file():
            with (root / "annotations.csv").open() as stream:
                for row in csv.DictReader(stream):
                    place = row["path"] if "path" in row else f"videos/{row['id']}.webm"
                    found.append((root / place, int(row["frames_decoded"])))
    for name, pattern in (("ucf101_sample", "*.avi"), ("kinetics_sample", "*.mp4")):
        found += [(path, None) for path in sorted((SHARED / name).rglob(pattern))]
    return found


REAL_FILES = _real_files()


def _check_real_file(path: Path, num_decoded: int | None, folder: Path) -> None:
    frames = read_all_frames(path)
    assert num_decoded in (None, len(frames))
    assert count_frames(path) == len(frames)
    for rows in sets_of_frames(len(frames), seed=crc32(path.name.encode())):
        clips = read(path, rows)
        assert clips.num_frames == len(frames)
        assert np.array_equal(clips.frames, frames[rows]), rows.tolist()
    if world.FFMPEG is None:
        return
    shown = world.ffmpeg_frames(path, *frames.shape[1:3])
    assert len(shown) == len(frames)
    copy = world.lossless_copy(path, folder / "copy.mkv")
    # MPEG-4 leaves the rounding of its inverse transform open (ISO/IEC 14496-2, annex A), and
    # versions of libavcodec differ: measured on UCF101, by 2 levels in 8 pixels of a million.
    allowed = 2 if path.suffix == ".avi" else 0
    try:
        for place, frame in enumerate(read_all_frames(copy)):
            distance = np.abs(frame.astype(np.int16) - frames[place])
            assert distance.max() <= allowed, f"frame {place}"
            assert distance.mean() < 0.001, f"frame {place}"
    finally:
        copy.unlink()


needs_shared = pytest.mark.skipif(not REAL_FILES, reason="real clips (../shared) are absent")


@needs_shared
@pytest.mark.parametrize(
    ("path", "num_decoded"), REAL_FILES[::20], ids=[path.name for path, _ in REAL_FILES[::20]]
)
def test_real_clips_are_read_as_the_ffmpeg_program_shows_them(
    path: Path, num_decoded: int | None, tmp_path: Path
) -> None:
    _check_real_file(path, num_decoded, tmp_path)


@needs_shared
@pytest.mark.slow
@pytest.mark.skipif(not SOAK, reason="a second and more a clip: RSBENCH_SOAK is not set")
@pytest.mark.parametrize(
    ("path", "num_decoded"), REAL_FILES, ids=[path.name for path, _ in REAL_FILES]
)
def test_every_real_clip_is_read_as_the_ffmpeg_program_shows_it(
    path: Path, num_decoded: int | None, tmp_path: Path
) -> None:
    _check_real_file(path, num_decoded, tmp_path)


@needs_shared
@pytest.mark.skipif(world.FFPROBE is None, reason="no ffprobe program")
@pytest.mark.parametrize(
    ("path", "num_decoded"), REAL_FILES[::40], ids=[path.name for path, _ in REAL_FILES[::40]]
)
def test_windows_of_real_clips_follow_the_times_that_ffprobe_tells(
    path: Path, num_decoded: int | None
) -> None:
    del num_decoded
    times, frames = world.ffprobe_times(path), read_all_frames(path)
    if len(times) != len(frames):
        pytest.skip("ffprobe gives a time to some of its frames only")
    chance = np.random.default_rng(crc32(path.name.encode()))
    for _ in range(3):
        first, end = np.sort(chance.choice(len(times), size=2, replace=False))

        window = read_all_frames(
            path, start_seconds=times[first] - 0.005, end_seconds=times[end] - 0.005
        )

        assert np.array_equal(window, frames[first:end])

"""Read the clips that someone chooses, each frame decoded once and only where it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import av
import numpy as np

from rsbench.errors import MediaError
from rsbench.media.video.conversion import (
    CONVERSION_VERSION,
    Converter,
    Cuts,
    Kept,
    Pixels,
    Transform,
    check_frame,
)
from rsbench.media.video.decoding import Decoded, Departure, decode_runs, decode_whole
from rsbench.media.video.index import Index, kept_index, stamp_of
from rsbench.media.video.opening import name_of, open_video
from rsbench.media.video.plan import plan_runs
from rsbench.media.video.timeline import Indices, Timeline, Window, timeline_of

Choose = Callable[[int, float], Indices]
"""(number of frames n, frames per second) -> int64 (N, T), each in [0, n): what clips are cut."""


class Clips(NamedTuple):
    """What was read of a video."""

    frames: Kept
    """uint8 (N, T, H, W, 3), RGB; with a transform (N, T, ...) of what it gives, in its type. Its
    memory may lie with the channels first and the frames behind them, as networks read it."""
    num_frames: int
    """Frames n of the window."""
    fps: float
    """Average rate of the window, finite and above 0."""
    remarks: tuple[str, ...]
    """What is odd about a file that could be read, one short line each."""


def read_clips(
    path: Path,
    choose: Choose,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    transform: Transform | None = None,
    index_file: Path | None = None,
) -> Clips:
    """Read the clips that `choose` cuts, frame by frame exact; see the package for what that means.

    Each packet that a chosen frame needs is decoded once, however many clips share it; the rest of
    the file is not. Each chosen frame is converted and transformed once, and nothing else is kept.
    Where the packets promise too little, or something else than decodes, the whole file is decoded
    (and once more for frames that the promise did not foretell).

    Args:
        path: A file with a video stream.
        choose: Which frames, from how many there are and how fast they go by. It may be asked more
            than once, and must answer alike.
        start_seconds: First moment, included; None is the first frame.
        end_seconds: Last moment, excluded; None is the end.
        transform: Applied to each chosen frame, uint8 (H, W, 3) of any strides; all its results
            must have one shape and one type, and may be views.
        index_file: Where the index of this content is kept, or is to be: named by content, for
            another content would be read by it. Without it the file is read through for each call.

    Raises:
        MediaError: The file can't be read as a video or has no frame in the window.
        RsbenchError: Clips that can't be cut.
        OSError: The machine can't read it just now, or the file changed while it was read.
    """
    window = Window(start_seconds, end_seconds)
    stamp = None if index_file is None else stamp_of(path)
    with open_video(path) as (container, stream):
        index = kept_index(path, container, stream, index_file, stamp)
        reason = index.unclear
        if not reason:
            try:
                return _as_promised(path, stream.codec_context, index, window, choose, transform)
            except Departure as departure:
                reason = str(departure)
    return _as_decoded(path, index, reason, window, choose, transform)


def read_all_frames(
    path: Path, *, start_seconds: float | None = None, end_seconds: float | None = None
) -> Pixels:
    """Read every frame of a window in presentation order, uint8 (n, H, W, 3), RGB.

    Raises:
        MediaError: The file can't be read as a video or has no frame in the window.
    """
    clips = read_clips(
        path,
        lambda num_frames, fps: np.arange(num_frames)[None],
        start_seconds=start_seconds,
        end_seconds=end_seconds,
    )
    return cast(Pixels, clips.frames[0])


def count_frames(path: Path) -> int:
    """Count the frames that really decode, at least 1, of a file that can be read.

    Raises:
        MediaError: The file can't be read as a video.
    """

    def check(place: int, frame: av.VideoFrame) -> None:
        if place == 0:
            check_frame(path, frame)

    return len(decode_whole(path, check).ticks)


def decoder_version() -> str:
    """Name what turns bytes into pixels: PyAV, its libraries and our conversion, as one word."""
    libraries = (f"{name}-{_dotted(name)}" for name in ("libavformat", "libavcodec", "libswscale"))
    return "/".join([f"av-{av.__version__}", *libraries, f"rgb-{CONVERSION_VERSION}"])


def _as_promised(
    path: Path,
    context: av.VideoCodecContext,
    index: Index,
    window: Window,
    choose: Choose,
    transform: Transform | None,
) -> Clips:
    """Read what the packets promise.

    Raises:
        Departure: They promised something else than decodes.
    """
    shown = index.shown
    try:
        timeline = timeline_of(
            path, [index.ticks[number] for number in shown], index.header, window
        )
    except MediaError as error:
        # Only what decodes may say that nothing is there.
        raise Departure(str(error)) from error
    places = np.array(shown)[timeline.order[choose(len(timeline.order), timeline.fps)]]
    batch = _Batch(places)
    convert = Converter(path, index.size, transform, reuse_memory=True)

    def take(number: int, frame: av.VideoFrame) -> None:
        batch.put(number, convert(frame))

    runs = plan_runs(index, batch.wanted)
    decode_runs(path, context, index, runs, wanted=batch.wanted, take=take)
    return Clips(batch.frames(), len(timeline.order), timeline.fps, index.remarks)


def _as_decoded(
    path: Path,
    index: Index,
    reason: str,
    window: Window,
    choose: Choose,
    transform: Transform | None,
) -> Clips:
    """Read what the whole file gives when it is decoded from its beginning.

    What the packets say serves as a guess at what will be chosen; what the guess missed is fetched
    by a second pass. A wrong guess so costs time, never a frame.
    """
    guess = _guess(path, index, window)
    wanted = frozenset[int]()
    if guess is not None:
        wanted = frozenset(guess.order[choose(len(guess.order), guess.fps)].ravel().tolist())
    decoded, kept = _decode_and_keep(path, wanted, transform)
    timeline = timeline_of(path, decoded.ticks, decoded.header, window)
    batch = _Batch(timeline.order[choose(len(timeline.order), timeline.fps)])
    missing = batch.wanted - kept.keys()
    if missing:
        kept = {**kept, **_decode_and_keep(path, missing, transform)[1]}
    lost = batch.wanted - kept.keys()
    if lost:
        # Not the content's fault: tomorrow the file may be whole.
        raise OSError(
            f"{name_of(path)}: must decode alike each time, but {len(lost)} frames were missing "
            "the second time; is the file being written?"
        )
    for place in batch.wanted:
        batch.put(place, kept.pop(place))
    remarks = _remarks(index, reason, decoded)
    return Clips(batch.frames(), len(timeline.order), timeline.fps, remarks)


def _guess(path: Path, index: Index, window: Window) -> Timeline | None:
    """Foretell the timeline from the packets alone; None where they say too little."""
    ticks = [index.ticks[number] for number in index.shown] or index.ticks
    if not ticks:
        return None
    known = sorted(tick for tick in ticks if tick is not None)
    in_decoder_order: list[int | None] = (
        [*known] if len(known) == len(ticks) else [None] * len(ticks)
    )
    try:
        return timeline_of(path, in_decoder_order, index.header, window)
    except MediaError:
        return None


def _decode_and_keep(
    path: Path, wanted: frozenset[int], transform: Transform | None
) -> tuple[Decoded, dict[int, Kept]]:
    """Decode the whole file and keep the wanted frames, named by place in decoder order."""
    kept: dict[int, Kept] = {}
    converters: list[Converter] = []

    def take(place: int, frame: av.VideoFrame) -> None:
        if not converters:
            size = frame.width, frame.height
            converters.append(Converter(path, size, transform, reuse_memory=False))
        if place in wanted:
            kept[place] = converters[0].kept(frame)

    return decode_whole(path, take), kept


def _remarks(index: Index, reason: str, decoded: Decoded) -> tuple[str, ...]:
    """Say what is odd about a file that was decoded whole."""
    remarks = [remark for remark in index.remarks if not remark.startswith("header claims")]
    num_decoded = len(decoded.ticks)
    if 0 < index.num_claimed != num_decoded + len(index.left_out):
        remarks.append(f"header claims {index.num_claimed} frames, {num_decoded} decode")
    if decoded.num_lost:
        remarks.append(f"{decoded.num_lost} packets do not decode")
    if not index.unclear:
        remarks.append(f"decoded whole: {reason}")
    return tuple(remarks)


class _Batch:
    """The chosen frames, each put into all of its places as soon as it is there."""

    def __init__(self, places: Indices) -> None:
        """Prepare for frames named by number, (N, T)."""
        self._places = places
        self._rows: dict[int, list[tuple[int, ...]]] = {}
        for row in np.ndindex(places.shape):
            self._rows.setdefault(int(places[row]), []).append(row)
        self._frames: Kept | None = None
        self.wanted = frozenset(self._rows)

    def put(self, number: int, kept: Kept | Cuts) -> None:
        """Copy what is kept of a frame to its places."""
        if self._frames is None:
            dtype = np.dtype(np.uint8) if isinstance(kept, Cuts) else kept.dtype
            self._frames = _channels_first(self._places.shape, kept.shape, dtype)
        for row in self._rows[number]:
            if isinstance(kept, Cuts):
                kept.copy_to(self._frames[row])
            else:
                self._frames[row] = kept

    def frames(self) -> Kept:
        """Give all frames, (*shape of the choice, *shape of what is kept of one)."""
        assert self._frames is not None
        return self._frames


def _channels_first(
    rows: tuple[int, ...], shape: tuple[int, ...], dtype: np.dtype[np.uint8 | np.float32]
) -> Kept:
    """Make room for (N, T, ..., H, W, 3) whose memory lies as (N, ..., 3, T, H, W).

    That is the order of a network's input, which so costs no second copy; and of decoded planes.
    """
    if len(rows) != 2 or len(shape) < 3 or shape[-1] != 3:
        return np.empty((*rows, *shape), dtype=dtype)
    num_clips, num_frames = rows
    *leading, height, width, channels = shape
    memory = np.empty((num_clips, *leading, channels, num_frames, height, width), dtype=dtype)
    return np.moveaxis(memory, (-4, -3), (-1, 1))


def _dotted(library: str) -> str:
    return ".".join(str(part) for part in av.library_versions[library])

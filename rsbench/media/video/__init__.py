"""Read clips by exact presentation time, and write videos: the only file that imports av.

What a reader may rely on:

- A video's frames are those that its decoder gives when the whole file is decoded, in order of
  presentation time (frames of equal time in decoder order). What a header claims is never used to
  count. n is the number of frames in the asked window; the sampler is applied to that n.
- Where a frame has no time stamp, or the stamps would move one further than any decoder reorders
  (a recording whose clock was set back), the decoder's order stands, and missing times are filled
  in evenly.
- Seconds are counted from the first frame presented, and compared as whole microseconds, so that a
  bound written as 7/30 in floating point is the frame shown at 7/30.
- Colours are converted by the frame's own matrix and range (BT.601 and limited range where the file
  says nothing), with full chroma and exact rounding, alike on all processors. Alpha is dropped.
- Display matrices (rotations by multiples of 90 degrees, mirrors) are applied. Sample aspect ratios
  are not: a pixel of the file is a pixel of the array. A frame of another size than the first is
  scaled to the first one's, as ffmpeg does.
- One thread decodes, so that a loader may run many processes.

A packet that does not decode is passed over, as players do; a file without any frame is a
`MediaError`, and so is everything else that stops a file from being read.

Letters: N clips, T frames a clip, H height, W width.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from rsbench.errors import MediaError

if TYPE_CHECKING:
    from typing_extensions import Buffer

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Kept = npt.NDArray[np.uint8 | np.float32]
"""What is kept of a frame: its pixels, or what a transform made of them."""
Transform = Callable[[Pixels], Kept]
Choose = Callable[[int, float], Indices]
"""(number of frames n, frames per second) -> int64 (N, T), each in [0, n): what clips are cut."""

CONVERSION = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
"""swscale flags of every conversion; 0.42 ms a frame of 340 x 256, 0.05 ms with the fast and
processor-dependent path."""

CONVERSION_VERSION = 1
"""Raised whenever equal files would give other pixels or other frames; part of cache keys."""

MAX_FRAME_PIXELS = 8192 * 8192
"""Largest frame that is read."""

DEFAULT_FPS = 30.0
"""Rate told to samplers where neither time stamps nor header give one (a single frame)."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegtsraw,mpegvideo,m4v,h261,h263,h264,"
    "hevc,vvc,obu,av1,ivf,flv,live_flv,asf,asf_o,ogg,mxf,nut,rm,wtv,dv,gif,apng,yuv4mpegpipe,"
    "vc1,vc1test,gxf,roq,smk,bink,fli,vivo,dirac,amv,mjpeg,rawvideo"
)
"""Containers of video. Left out on purpose: playlists, which open other files and addresses, and
the demuxers that make pictures of plain text or of single images."""

_MICROSECONDS = 1_000_000

_MAX_REORDERED_FRAMES = 16
"""Most frames a decoder holds back to reorder (MaxDpbFrames, ITU-T H.264 A.3.1 and H.265 A.4.2)."""


class _Timeline(NamedTuple):
    """The frames of a window in presentation order."""

    order: Indices
    """Place of each frame among all that the decoder gives: (n,)."""
    fps: float
    """Average rate, finite and above 0."""


class _Header(NamedTuple):
    """What the stream says of its times."""

    time_base: Fraction
    """Seconds a tick."""
    average_rate: Fraction | None
    """Frames per second, None where unknown."""


class _Window(NamedTuple):
    """Bounds in seconds from the first frame presented; None is open."""

    start_seconds: float | None
    end_seconds: float | None


class Clips(NamedTuple):
    """What was read of a video."""

    frames: Kept
    """uint8 (N, T, H, W, 3), RGB; with a transform (N, T, ...) of what it gives, in its type."""
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
    """Read the clips that `choose` cuts, frame by frame exact.

    The file is decoded once for all clips (twice only where its packets promise other frames than
    decode); only sampled frames are converted, transformed and kept.

    Args:
        path: A file with a video stream.
        choose: Which frames, from how many there are and how fast they go by.
        start_seconds: First moment, included; None is the first frame.
        end_seconds: Last moment, excluded; None is the end.
        transform: Applied to each sampled frame, uint8 (H, W, 3), to keep memory small; all its
            results must have one shape and one type.
        index_file: Where the index of this content is kept, or is to be.

    Raises:
        MediaError: The file can't be read as a video or has no frame in the window.
        RsbenchError: Clips that can't be cut.
    """
    return _collect(path, _Window(start_seconds, end_seconds), choose, transform)


def read_all_frames(
    path: Path, *, start_seconds: float | None = None, end_seconds: float | None = None
) -> Pixels:
    """Read every frame of a window in presentation order, uint8 (n, H, W, 3), RGB.

    Raises:
        MediaError: The file can't be read as a video or has no frame in the window.
    """
    window = _Window(start_seconds, end_seconds)
    clips = _collect(path, window, lambda num_frames, fps: np.arange(num_frames)[None], None)
    return cast(Pixels, clips.frames[0])


def count_frames(path: Path) -> int:
    """Count the frames that really decode, at least 1.

    Raises:
        MediaError: The file can't be read as a video.
    """
    return len(_decode(path, frozenset(), None).ticks)


def decoder_version() -> str:
    """Name what turns bytes into pixels: PyAV, its libraries and our conversion, as one word."""
    libraries = (f"{name}-{_dotted(name)}" for name in ("libavformat", "libavcodec", "libswscale"))
    return "/".join([f"av-{av.__version__}", *libraries, f"rgb-{CONVERSION_VERSION}"])


def write_video(
    path: Path,
    frames: Iterable[Pixels],
    *,
    fps: Fraction | int,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    times: Sequence[Fraction] | None = None,
    time_base: Fraction | None = None,
    audio_codec: str | None = None,
) -> None:
    """Write a video whose bytes depend on the arguments and the library's version only.

    Args:
        path: Where to; the suffix names the container. Written whole or not at all.
        frames: uint8 (H, W, 3) pictures of one size, RGB, or one array (n, H, W, 3). yuv420p with
            libx264 needs even sides.
        fps: Rate in frames per second; of the header only where `times` is given.
        codec: An encoder of libavcodec: "libx264", "mpeg4", "libvpx-vp9", "libx265", ...
        pixel_format: Of the encoded picture.
        options: The encoder's own: {"crf": "18", "g": "250", "bf": "2"}, ... libx264 is told
            {"mbtree": "0"} unless this says otherwise: with it, flat pictures were encoded to
            other bytes in 7 of 8 repeats.
        times: Presentation time of each frame in seconds, strictly rising, for a variable rate or
            a start other than 0. None is frame number / fps.
        time_base: Seconds a tick, in which times must be whole; None is 1/fps. A container may
            have its own.
        audio_codec: Encoder of a quiet 440 Hz tone as long as the video ("aac", "libopus",
            "mp2", ...); None writes no sound.

    Raises:
        MediaError: Nothing to write, or the library or the disk refuses.
    """
    tick = time_base if time_base is not None else 1 / Fraction(fps)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with _open_for_writing(partial) as container:
            _write_streams(
                container,
                _timed_frames(path, frames, fps=Fraction(fps), times=times, tick=tick),
                rate=Fraction(fps),
                tick=tick,
                codec=codec,
                pixel_format=pixel_format,
                options={**({"mbtree": "0"} if codec == "libx264" else {}), **(options or {})},
                audio_codec=audio_codec,
            )
        partial.replace(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{_name(path)}: can't be written as {codec} ({_reason(error)})"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------- reading


class _Decoded(NamedTuple):
    """What one pass over a file gives."""

    header: _Header
    ticks: list[int | None]
    """Time stamp of each frame in decoder order."""
    kept: dict[int, Kept]
    """What is kept of the wanted frames, by place in decoder order."""


def _collect(
    path: Path,
    window: _Window,
    choose: Choose,
    transform: Transform | None,
) -> Clips:
    """Read the chosen frames.

    The packets' time stamps say which frames will probably be chosen; one decoding pass keeps
    those. The choice itself is made from the frames that decoded, and what the guess missed is
    fetched by a second pass. A wrong guess so costs time, never a frame.
    """
    guess = _guess(path, window)
    wanted = frozenset[int]()
    if guess is not None:
        wanted = frozenset(guess.order[choose(len(guess.order), guess.fps)].ravel().tolist())
    decoded = _decode(path, wanted, transform)
    timeline = _timeline(path, decoded.ticks, decoded.header, window)
    places = timeline.order[choose(len(timeline.order), timeline.fps)]
    kept = decoded.kept
    needed: frozenset[int] = frozenset(places.ravel().tolist())
    missing = needed - kept.keys()
    if missing:
        kept = {**kept, **_decode(path, missing, transform).kept}
    lost = needed - kept.keys()
    if lost:
        raise MediaError(
            f"{_name(path)}: must decode alike each time, but {len(lost)} frames were missing the "
            "second time; is the file being written?"
        )
    first = kept[int(places.flat[0])]
    clips: Kept = np.empty((places.size, *first.shape), dtype=first.dtype)
    for row, place in enumerate(places.flat):
        clips[row] = kept[int(place)]
    frames = clips.reshape(*places.shape, *first.shape)
    return Clips(frames, len(timeline.order), timeline.fps, ())


def _guess(path: Path, window: _Window) -> _Timeline | None:
    """Foretell the timeline from the packets alone; None where they say too little."""
    with _open(path) as (container, stream):
        header = _header(stream)
        ticks = [packet.pts for packet in _packets(path, container, stream)]
    if not ticks:
        return None
    known = sorted(tick for tick in ticks if tick is not None)
    in_decoder_order: list[int | None] = (
        [*known] if len(known) == len(ticks) else [None] * len(ticks)
    )
    try:
        return _timeline(path, in_decoder_order, header, window)
    except MediaError:
        return None


def _timeline(
    path: Path, ticks: Sequence[int | None], header: _Header, window: _Window
) -> _Timeline:
    """Put decoded frames into presentation order and cut the window.

    Args:
        path: Named in messages.
        ticks: Time stamp of each frame in decoder order; at least one frame.
        header: Seconds a tick, and the rate for frames without time stamps.
        window: Bounds in seconds from the first frame presented.

    Raises:
        MediaError: No frame in the window, or the window is not one.
    """
    order, seconds = _presentation(ticks, header)
    first = seconds[order[0]]
    start, end = (_microseconds(path, bound) for bound in window)
    places = [
        place
        for place in order
        if start is None or start <= round((seconds[place] - first) * _MICROSECONDS)
        if end is None or round((seconds[place] - first) * _MICROSECONDS) < end
    ]
    if not places:
        last = float(max(seconds) - first)
        raise MediaError(
            f"{_name(path)}: must have a frame between {window.start_seconds or 0:g} s and "
            f"{'its end' if window.end_seconds is None else f'{window.end_seconds:g} s'}, but its "
            f"last frame is at {last:.3f} s; check the start and end of the item"
        )
    fps = _rate([seconds[place] for place in places], header)
    return _Timeline(np.array(places, dtype=np.int64), fps)


def _presentation(ticks: Sequence[int | None], header: _Header) -> tuple[list[int], list[Fraction]]:
    """Give the places of all frames in presentation order, and each place's exact time."""
    places = list(range(len(ticks)))
    stamps = [tick for tick in ticks if tick is not None]
    if len(stamps) == len(ticks):
        order = sorted(places, key=lambda place: stamps[place])
        if all(abs(rank - place) <= _MAX_REORDERED_FRAMES for rank, place in enumerate(order)):
            return order, [stamp * header.time_base for stamp in stamps]
    return places, _filled_in(ticks, header)


def _filled_in(ticks: Sequence[int | None], header: _Header) -> list[Fraction]:
    """Give every frame a time: between stamped neighbours evenly, outside them at average rate.

    Stamps that do not rise are no use: then all frames follow each other at the header's rate.
    """
    step = 1 / (header.average_rate or Fraction(DEFAULT_FPS))
    known = [
        (place, tick * header.time_base) for place, tick in enumerate(ticks) if tick is not None
    ]
    if not known or any(late <= early for (_, early), (_, late) in pairwise(known)):
        return [place * step for place in range(len(ticks))]
    (first_place, first), (last_place, last) = known[0], known[-1]
    if last_place > first_place:
        step = (last - first) / (last_place - first_place)
    seconds = [first + (place - first_place) * step for place in range(first_place)]
    for (left, early), (right, late) in pairwise(known):
        even = (late - early) / (right - left)
        seconds.extend(early + even * i for i in range(right - left))
    seconds.extend(last + (place - last_place) * step for place in range(last_place, len(ticks)))
    return seconds


def _rate(seconds: Sequence[Fraction], header: _Header) -> float:
    """Give frames per second: the header's where the stamps agree with it to a tick, else theirs.

    Time stamps are rounded to ticks (milliseconds in Matroska), which must not make 29.9994 of 30.
    """
    num_steps = len(seconds) - 1
    span = seconds[-1] - seconds[0]
    rate = header.average_rate
    if num_steps == 0 or span <= 0:
        return float(rate) if rate is not None else DEFAULT_FPS
    if rate is not None and abs(num_steps / rate - span) <= header.time_base:
        return float(rate)
    return float(num_steps / span)


def _microseconds(path: Path, bound: float | None) -> int | None:
    if bound is None or bound == math.inf:
        return None
    if not math.isfinite(bound):
        raise MediaError(f"{_name(path)}: start and end must be seconds, was {bound}")
    return round(bound * _MICROSECONDS)


def _decode(path: Path, wanted: frozenset[int], transform: Transform | None) -> _Decoded:
    """Decode the whole file and keep the wanted frames, named by place in decoder order.

    Raises:
        MediaError: The file can't be opened as a video, or no frame of it decodes.
    """
    ticks: list[int | None] = []
    kept: dict[int, Kept] = {}
    reformatter = VideoReformatter()
    size: tuple[int, int] | None = None
    with _open(path) as (container, stream):
        header = _header(stream)
        for place, frame in enumerate(_frames(path, container, stream)):
            ticks.append(frame.pts)
            size = size or (frame.width, frame.height)
            if place in wanted:
                pixels = _to_rgb(path, frame, size, reformatter)
                kept[place] = pixels if transform is None else transform(pixels)
    if not ticks:
        raise MediaError(
            f"{_name(path)}: must hold a video that decodes, but no frame of it does; "
            "the file is cut short or damaged, fetch it again"
        )
    return _Decoded(header, ticks, kept)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a file and its video stream for decoding on one thread."""
    if path.is_dir():
        raise MediaError(f"{_name(path)}: must be a video file, is a folder")
    if not path.exists():
        raise MediaError(f"{_name(path)}: must be a video file, is not there ({path.parent})")
    if not path.is_file():
        raise MediaError(f"{_name(path)}: must be a plain file, is a device or a pipe")
    try:
        container = av.open(
            # The prefix keeps a name with a colon from being taken for an address.
            f"file:{path.absolute()}",
            metadata_errors="ignore",
            container_options={
                "format_whitelist": _CONTAINERS,
                "protocol_whitelist": "file",
                # PyAV asks for invented time stamps by default: wrong for H.264 B-frames in AVI.
                "fflags": "-genpts",
            },
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        # "Invalid argument" is libavformat's word for a container that is not on the list.
        unlisted = isinstance(error, av.ArgumentError)
        reason = "no container of video that is read here" if unlisted else _reason(error)
        raise MediaError(f"{_name(path)}: must be a video file ({reason})") from error
    with container:
        yield container, _video_stream(path, container)


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """Give the stream that a player shows, ready to decode; cover art is none."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise MediaError(f"{_name(path)}: must hold a video stream, holds none")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if stream is best), streams[0])
    context = stream.codec_context
    if context is None:
        raise MediaError(f"{_name(path)}: must be in a known codec, this av has no decoder for it")
    _check_size(path, context.width, context.height)
    context.thread_type = "NONE"
    context.thread_count = 1
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    return stream


def _header(stream: av.VideoStream) -> _Header:
    rate = stream.average_rate
    return _Header(
        time_base=stream.time_base or Fraction(1, 1_000_000),
        average_rate=Fraction(rate) if rate is not None and rate > 0 else None,
    )


def _packets(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.Packet[av.VideoStream]]:
    """Give the stream's packets that hold data, up to the end or the first read error.

    Empty ones (a repeated picture in AVI) would tell the decoder that the video is over. No file
    holds more packets than bytes, so tables that say otherwise can't keep this going.
    """
    packets = container.demux(stream)
    for _ in range(path.stat().st_size):
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError, OSError, ValueError):
            return
        if packet.size:
            yield packet


def _frames(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Give every frame that decodes, in decoder order."""
    # The None at the end takes out the frames that the decoder held back to reorder.
    for packet in chain(_packets(path, container, stream), [None]):
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            continue
        yield from frames


def _to_rgb(
    path: Path, frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> Pixels:
    """Convert one frame to upright RGB, uint8 (H, W, 3), owning its memory."""
    _check_size(path, frame.width, frame.height)
    width, height = size
    try:
        rgb = reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=CONVERSION, threads=1
        )
        pixels = cast(Pixels, rgb.to_ndarray())
    except (av.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{_name(path)}: a frame of format {frame.format.name} must convert to RGB "
            f"({_reason(error)})"
        ) from error
    return np.array(_upright(path, pixels, _display_matrix(frame)), order="C")


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Give (a, b, c, d): where the picture's right (a, b) and down (c, d) point on the display."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack_from("=5i", cast("Buffer", side_data))
    return a, b, c, d


def _upright(path: Path, pixels: Pixels, matrix: tuple[int, int, int, int]) -> Pixels:
    """Turn and mirror a picture (H, W, 3) as its display matrix says.

    Raises:
        MediaError: An angle that is no multiple of 90 degrees (to about one degree).
    """
    a, b, c, d = matrix
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if straight == crossed == 0:
        return pixels
    if min(straight, crossed) > max(straight, crossed) / 57:
        raise MediaError(
            f"{_name(path)}: must be shown at a multiple of 90 degrees, its display matrix is "
            f"{a / 65536:.3f} {b / 65536:.3f} {c / 65536:.3f} {d / 65536:.3f}"
        )
    if straight > crossed:
        return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return pixels.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{_name(path)}: a frame must have at most {MAX_FRAME_PIXELS} pixels, "
            f"was {width} x {height}"
        )


# ------------------------------------------------------------------------------------- writing


def _timed_frames(
    path: Path,
    frames: Iterable[Pixels],
    *,
    fps: Fraction,
    times: Sequence[Fraction] | None,
    tick: Fraction,
) -> Iterator[tuple[Pixels, int]]:
    """Pair every frame with its time stamp in ticks, checking both."""
    shape: tuple[int, ...] | None = None
    last: int | None = None
    for number, pixels in enumerate(frames):
        shape = shape or pixels.shape
        if pixels.ndim != 3 or pixels.shape != shape or shape[2] != 3 or pixels.dtype != np.uint8:
            raise MediaError(
                f"{_name(path)}: frames must be uint8 (H, W, 3) of one size, "
                f"frame {number} is {pixels.dtype} {pixels.shape}"
            )
        if times is not None and number >= len(times):
            raise MediaError(f"{_name(path)}: has {len(times)} times for more frames than that")
        ticks = (times[number] if times is not None else number / fps) / tick
        if ticks.denominator != 1 or (last is not None and ticks <= last):
            raise MediaError(
                f"{_name(path)}: times must rise in whole ticks of {tick} s, "
                f"frame {number} is at {ticks} ticks"
            )
        last = int(ticks)
        yield pixels, last
    if shape is None:
        raise MediaError(f"{_name(path)}: a video must have at least one frame, there was none")


@contextlib.contextmanager
def _open_for_writing(path: Path) -> Iterator[av.container.OutputContainer]:
    with av.open(f"file:{path.absolute()}", "w", container_options={"fflags": "+bitexact"}) as made:
        yield made


def _write_streams(
    container: av.container.OutputContainer,
    frames: Iterator[tuple[Pixels, int]],
    *,
    rate: Fraction,
    tick: Fraction,
    codec: str,
    pixel_format: str,
    options: dict[str, str],
    audio_codec: str | None,
) -> None:
    """Encode and mux all frames, then the sound."""
    first_pixels, first_tick = next(frames)
    for name, kind in ((codec, "video"), (audio_codec, "audio")):
        if name is not None and av.codec.Codec(name, "w").type != kind:
            raise ValueError(f"{name} is no {kind} encoder")
    video = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=options))
    video.height, video.width = first_pixels.shape[:2]
    video.pix_fmt = pixel_format
    video.codec_context.time_base = tick
    video.codec_context.thread_count = 1
    video.codec_context.flags |= av.codec.context.Flags.bitexact
    audio: av.AudioStream | None = None
    if audio_codec is not None:
        audio = cast(av.AudioStream, container.add_stream(audio_codec, rate=48_000))
        audio.codec_context.flags |= av.codec.context.Flags.bitexact
    reformatter = VideoReformatter()
    last_tick = first_tick
    for pixels, stamp in chain([(first_pixels, first_tick)], frames):
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = reformatter.reformat(rgb, format=pixel_format, interpolation=CONVERSION, threads=1)
        frame.pts, frame.time_base = stamp, tick
        container.mux(video.encode(frame))
        last_tick = stamp
    container.mux(video.encode(None))
    if audio is not None:
        duration = (last_tick - first_tick) * tick + 1 / rate
        for sound in _tone(duration):
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def _tone(duration: Fraction) -> Iterator[av.AudioFrame]:
    """Give a quiet 440 Hz tone, stereo float at 48 kHz, in blocks of 960 samples."""
    num_blocks = math.ceil(duration * 48_000 / 960)
    for block in range(num_blocks):
        moments = (np.arange(960) + block * 960) / 48_000
        wave = (0.05 * np.sin(2 * np.pi * 440 * moments)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, block * 960, Fraction(1, 48_000)
        yield sound


# ------------------------------------------------------------------------------------- messages


def _name(path: Path) -> str:
    """Give a file's name on one line, whatever bytes it is made of."""
    return path.name if path.name.isprintable() else ascii(path.name)


def _reason(error: BaseException) -> str:
    """Give the cause of an av or system error in one line, without the path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _dotted(library: str) -> str:
    return ".".join(str(part) for part in av.library_versions[library])

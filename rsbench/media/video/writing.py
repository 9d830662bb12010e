"""Write videos whose bytes follow from the frames and the words alone."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rsbench.errors import MediaError
from rsbench.media.video.conversion import ACCURATE, Pixels
from rsbench.media.video.opening import name_of, reason_of


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
            f"{name_of(path)}: can't be written as {codec} ({reason_of(error)})"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


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
                f"{name_of(path)}: frames must be uint8 (H, W, 3) of one size, "
                f"frame {number} is {pixels.dtype} {pixels.shape}"
            )
        if times is not None and number >= len(times):
            raise MediaError(f"{name_of(path)}: has {len(times)} times for more frames than that")
        ticks = (times[number] if times is not None else number / fps) / tick
        if ticks.denominator != 1 or (last is not None and ticks <= last):
            raise MediaError(
                f"{name_of(path)}: times must rise in whole ticks of {tick} s, "
                f"frame {number} is at {ticks} ticks"
            )
        last = int(ticks)
        yield pixels, last
    if shape is None:
        raise MediaError(f"{name_of(path)}: a video must have at least one frame, there was none")


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
        frame = reformatter.reformat(rgb, format=pixel_format, interpolation=ACCURATE, threads=1)
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

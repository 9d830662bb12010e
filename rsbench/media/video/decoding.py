"""Decode packets to frames: those of a plan, held to what they promised; or all there are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple, cast

import av

from rsbench.errors import MediaError
from rsbench.media.video.bitstreams import Holds
from rsbench.media.video.index import Index
from rsbench.media.video.opening import (
    Header,
    Packet,
    header_of,
    name_of,
    open_video,
    packets_of,
    reason_of,
)
from rsbench.media.video.plan import Run

_ENTRY, _DISPOSABLE = int(Holds.ENTRY), int(Holds.DISPOSABLE)


class Departure(Exception):
    """What came out of the decoder is not what the packets promised."""


def decode_runs(
    path: Path,
    context: av.VideoCodecContext,
    index: Index,
    runs: list[Run],
    *,
    wanted: frozenset[int],
    take: Callable[[int, av.VideoFrame], None],
) -> None:
    """Decode the packets of a plan, and see that each gives the frame that it promised.

    A packet is told its own number as its time stamp, which decoders hand on to the frame: which
    frame is whose does not hang on what a container says.

    Args:
        path: The video.
        context: A decoder for it that has decoded nothing yet.
        index: Its packets.
        runs: What is to be decoded.
        wanted: Packets whose frames are taken.
        take: Called with packet and frame, in the decoder's order.

    Raises:
        Departure: A frame is missing, damaged, of another size, or comes where another should.
    """
    with _source(path, index, runs) as packets:
        for number_of_run, run in enumerate(runs):
            if number_of_run:
                context.flush_buffers()
            _decode_run(context, index, run, packets, wanted, take)


def _decode_run(
    context: av.VideoCodecContext,
    index: Index,
    run: Run,
    packets: Iterator[Packet],
    wanted: frozenset[int],
    take: Callable[[int, av.VideoFrame], None],
) -> None:
    expected = iter(run.expected)
    left = len(run.expected)
    skips = index.is_packed
    for number in chain(run.packets, [None]):
        packet = None
        if number is not None:
            packet = next(packets, None)
            if packet is None:
                raise Departure(f"packet {number} is not there")
            packet.pts = number
            if skips:
                disposable = index.holds[number] & _DISPOSABLE and number not in wanted
                context.skip_frame = "NONREF" if disposable else "DEFAULT"
        elif not left:
            break
        try:
            frames = context.decode(packet)
        except (av.FFmpegError, ValueError) as error:
            raise Departure(f"packet {number} does not decode ({reason_of(error)})") from error
        for frame in frames:
            given = frame.pts
            if given in run.lenient:
                continue
            promised = next(expected, None)
            if given != promised:
                raise Departure(f"the frame of packet {promised} is missing")
            left -= 1
            if frame.is_corrupt:
                raise Departure(f"the frame of packet {given} is damaged")
            if (frame.width, frame.height) != index.size:
                raise Departure(f"the frame of packet {given} has another size")
            if skips and frame.interlaced_frame:
                raise Departure("B pictures are packed and interlaced")
            if given in wanted:
                take(given, frame)
    if left:
        raise Departure(f"the frame of packet {next(expected)} is missing")


@contextlib.contextmanager
def _source(path: Path, index: Index, runs: list[Run]) -> Iterator[Iterator[Packet]]:
    """Give the packets of all runs one after the other.

    They are read from where they lie in the file, or else the file is read from its beginning and
    the others are passed over: no container's way to seek is trusted.
    """
    if index.offsets:
        with path.open("rb", buffering=0) as file:
            yield _read_directly(file.fileno(), index, runs)
    else:
        with open_video(path) as (container, stream):
            needed = {number for run in runs for number in run.packets}
            packets = enumerate(packets_of(path, container, stream))
            yield (packet for number, packet in packets if number in needed)


def _read_directly(handle: int, index: Index, runs: list[Run]) -> Iterator[Packet]:
    for run in runs:
        for number in run.packets:
            # Made here, so that zeros stand behind the bytes: decoders read a little too far.
            packet = cast("Packet", av.Packet(index.lengths[number]))
            content = os.pread(handle, index.lengths[number], index.offsets[number])
            if len(content) != index.lengths[number]:
                raise Departure(f"packet {number} is not there")
            packet.update(content)
            packet.is_keyframe = bool(index.holds[number] & _ENTRY)
            yield packet


class Decoded(NamedTuple):
    """What a whole file gave."""

    header: Header
    ticks: list[int | None]
    """Time stamp of each frame in the decoder's order; at least one."""
    num_lost: int
    """Packets that did not decode."""


def frames_of(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> Generator[av.VideoFrame, None, int]:
    """Give every frame that decodes, in the decoder's order.

    Returns:
        How many packets did not decode.
    """
    num_lost = 0
    # The None at the end takes out the frames that the decoder held back to reorder.
    for packet in chain(packets_of(path, container, stream), [None]):
        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            num_lost += 1
            continue
        yield from frames
    return num_lost


def decode_whole(path: Path, take: Callable[[int, av.VideoFrame], None]) -> Decoded:
    """Decode a whole file, passing over what does not decode.

    Args:
        path: The video.
        take: Called with the place of each frame in the decoder's order, and the frame.

    Raises:
        MediaError: The file can't be opened as a video, or no frame of it decodes.
    """
    ticks: list[int | None] = []
    with open_video(path) as (container, stream):
        header = header_of(stream)
        frames = frames_of(path, container, stream)
        while True:
            try:
                frame = next(frames)
            except StopIteration as end:
                num_lost: int = end.value
                break
            ticks.append(frame.pts)
            take(len(ticks) - 1, frame)
    if not ticks:
        raise MediaError(
            f"{name_of(path)}: must hold a video that decodes, but no frame of it does; "
            "the file is cut short or damaged, fetch it again"
        )
    return Decoded(header, ticks, num_lost)

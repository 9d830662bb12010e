"""Open a file as a video: its stream, its packets, and one line for whatever stops that."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av

from rsbench.errors import MediaError
from rsbench.media.machine import is_of_machine

MAX_FRAME_PIXELS = 8192 * 8192
"""Largest frame that is read."""

_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegtsraw,mpegvideo,m4v,h261,h263,h264,"
    "hevc,vvc,obu,av1,ivf,flv,live_flv,asf,asf_o,ogg,mxf,nut,rm,wtv,dv,gif,apng,yuv4mpegpipe,"
    "vc1,vc1test,gxf,roq,smk,bink,fli,vivo,dirac,amv,mjpeg,rawvideo"
)
"""Containers of video. Left out on purpose: playlists, which open other files and addresses, and
the demuxers that make pictures of plain text or of single images."""


_CHUNK = 1 << 20


class Header(NamedTuple):
    """What the stream says of its times."""

    time_base: Fraction
    """Seconds a tick."""
    average_rate: Fraction | None
    """Frames per second, None where unknown."""


Packet: TypeAlias = "av.Packet[av.VideoStream]"


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a file and its video stream for decoding on one thread.

    Raises:
        MediaError: The file is none, or holds no video of a known container and codec.
        OSError: The machine can't read it just now.
    """
    if not path.is_file():
        raise MediaError(_why_no_file(path))
    try:
        container = av.open(
            # The prefix keeps a name with a colon from being taken for an address.
            f"file:{path.absolute()}",
            # Tags in another encoding are no reason to refuse; `odd_tags` finds them.
            metadata_errors="surrogateescape",
            container_options={
                "format_whitelist": _CONTAINERS,
                "protocol_whitelist": "file",
                # PyAV asks for invented time stamps by default: wrong for H.264 B-frames in AVI.
                "fflags": "-genpts",
            },
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        _raise_if_of_machine(path, error)
        # "Invalid argument" is libavformat's word for a container that is not on the list.
        unlisted = isinstance(error, av.ArgumentError)
        reason = "no container of video that is read here" if unlisted else reason_of(error)
        raise MediaError(f"{name_of(path)}: must be a video file ({reason})") from error
    with container:
        yield container, _video_stream(path, container)


def header_of(stream: av.VideoStream) -> Header:
    """Give the stream's clock and rate."""
    rate = stream.average_rate
    return Header(
        time_base=stream.time_base or Fraction(1, 1_000_000),
        average_rate=Fraction(rate) if rate is not None and rate > 0 else None,
    )


def packets_of(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> Generator[Packet, None, str | None]:
    """Give the stream's packets that hold data, up to the end or the first read error.

    Empty ones (a repeated picture in AVI) would tell the decoder that the video is over. No file
    holds more packets than bytes, so tables that say otherwise can't keep this going.

    Returns:
        What stopped the reading before the end, None where nothing did.

    Raises:
        OSError: The machine can't read on.
    """
    packets = container.demux(stream)
    for _ in range(path.stat().st_size):
        try:
            packet = next(packets)
        except StopIteration:
            return None
        # PyAV raises IndexError when a stream turns up on the way that the header did not name.
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            _raise_if_of_machine(path, error)
            return reason_of(error)
        if packet.size:
            yield packet
    return None


def odd_tags(container: av.container.InputContainer, stream: av.VideoStream) -> bool:
    """Say whether any tag of the file or the stream is not UTF-8."""
    words = (
        word
        for tags in (container.metadata, stream.metadata)
        for pair in tags.items()
        for word in pair
    )
    return any("\udc80" <= letter <= "\udcff" for word in words for letter in word)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse frames of more than `MAX_FRAME_PIXELS`.

    Raises:
        MediaError: It is larger.
    """
    if width * height > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{name_of(path)}: a frame must have at most {MAX_FRAME_PIXELS} pixels, "
            f"was {width} x {height}"
        )


def name_of(path: Path) -> str:
    """Give a file's name on one line, whatever bytes it is made of."""
    return path.name if path.name.isprintable() else ascii(path.name)


def reason_of(error: BaseException) -> str:
    """Give the cause of an av or system error in one line, without the path."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _raise_if_of_machine(path: Path, error: BaseException) -> None:
    """Raise an OSError where the machine failed, not the file.

    libavformat calls some damage an input error too: then the file itself is asked, byte by byte.
    """
    if not is_of_machine(error):
        return
    number = getattr(error, "errno", None) or errno.ENOMEM
    if number == errno.EIO:
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass
        return
    raise OSError(number, f"{name_of(path)}: can't be read just now ({reason_of(error)})")


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return f"{name_of(path)}: must be a video file, is a folder"
    if not path.exists():
        return f"{name_of(path)}: must be a video file, is not there ({path.parent})"
    return f"{name_of(path)}: must be a plain file, is a device or a pipe"


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    """Give the stream that a player shows, ready to decode; cover art is none."""
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        raise MediaError(f"{name_of(path)}: must hold a video stream, holds none")
    best = container.streams.best("video")
    stream = next((stream for stream in streams if stream is best), streams[0])
    context = stream.codec_context
    if context is None:
        raise MediaError(
            f"{name_of(path)}: must be in a known codec, this av has no decoder for it"
        )
    check_size(path, context.width, context.height)
    context.thread_type = "NONE"
    context.thread_count = 1
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    return stream

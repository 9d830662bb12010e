"""What the packets of a file promise, found in one pass that decodes nothing, and kept on disk.

A kept index saves reading the whole file once more: a clip then costs what it needs and no more.
It follows from the bytes of the file alone, and what is read does not depend on it; it is named by
content by the caller. One that is damaged, of another version or of a file of another size is made
again, and one that can't be written is done without. It is not kept where the file changed while
it was read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from av.packet import PktSideDataT

from rsbench.atomic import write_atomically
from rsbench.errors import DiskError
from rsbench.media.video.bitstreams import Holds, is_packed, what_packets_hold
from rsbench.media.video.opening import Header, Packet, header_of, odd_tags, packets_of
from rsbench.media.video.timeline import DEFAULT_FPS, MAX_REORDERED_FRAMES

_MAGIC = b"rsbench packets 2\n"
"""Changed with what stands behind it, or with what it means."""

_NO_TICK = -(2**63)

_REORDERING = frozenset(("h264", "hevc", "mpeg1video", "mpeg2video"))
"""Codecs that only time stamps put into order."""


_HEADER_CHANGES: tuple[PktSideDataT, ...] = ("new_extradata", "param_change")


class Index(NamedTuple):
    """The packets of a video stream in decoding order, and what they promise."""

    codec: str
    size: tuple[int, int]
    """Width and height that the file declares."""
    header: Header
    ticks: list[int | None]
    """Presentation time stamp of each packet."""
    offsets: list[int]
    """Where its bytes lie in the file; empty where they do not lie there as they are."""
    lengths: list[int]
    """Number of its bytes."""
    holds: list[int]
    """`Holds` of each; ENTRY only of those that the container calls keyframes."""
    is_packed: bool
    """Every packet must reach the decoder, see `bitstreams.is_packed`."""
    output: list[int]
    """Packets whose frames the decoder gives, in the order in which it gives them. Empty where
    the packets do not promise it."""
    left_out: list[int]
    """Those among them that are decoded but not shown (before the start of an edit list)."""
    unclear: str
    """Why nothing is promised; empty where something is."""
    num_claimed: int
    """Frames that the header claims, 0 where it claims none."""
    remarks: tuple[str, ...]
    """What is odd about the file, whatever is read of it."""

    @property
    def shown(self) -> list[int]:
        """Packets whose frames are given and shown, in the decoder's order."""
        hidden = set(self.left_out)
        return [number for number in self.output if number not in hidden]


Stamp: TypeAlias = tuple[int, int, int]
"""Size, and when content and entry were last changed, in nanoseconds."""


def stamp_of(path: Path) -> Stamp | None:
    """Give the stamp of a file, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def kept_index(
    path: Path,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    index_file: Path | None,
    stamp: Stamp | None,
) -> Index:
    """Take the index from its file, or make it and keep it there.

    Args:
        path: The video.
        container: It, opened; read to its end where the index is made.
        stream: Its video stream, of which nothing was decoded yet.
        index_file: Where the index is kept; None keeps it nowhere.
        stamp: Of the file before it was opened; with another one afterwards nothing is kept.
    """
    if index_file is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, struct.error):
            return _unpacked(index_file.read_bytes(), path.stat().st_size)
    index = make_index(path, container, stream)
    if index_file is not None and stamp is not None and stamp == stamp_of(path):
        # A full disk or a folder of someone else's costs time, not the reading.
        with contextlib.suppress(DiskError):
            write_atomically(index_file, _packed(index, stamp[0]))
    return index


def make_index(path: Path, container: av.container.InputContainer, stream: av.VideoStream) -> Index:
    """Read all packets of a stream once, decoding nothing."""
    context = stream.codec_context
    extradata = context.extradata or b""
    with path.open("rb", buffering=0) as file:
        found = _Found(file.fileno())
        contents = found.contents(packets_of(path, container, stream))
        held = what_packets_hold(context.codec.name, extradata, contents)
    output, unclear = _output(context.codec.name, held, found.ticks, found.keys)
    if found.changes_headers:
        output, unclear = [], "its headers change on the way"
    if output and not set(output) - set(found.left_out):
        output, unclear = [], "its edit list leaves everything out"
    damage = _damage(found.stopped, found.num_corrupt)
    remarks = [
        *(["tags are not UTF-8"] if odd_tags(container, stream) else []),
        *([damage] if damage else []),
        *_missing_tail(container, stream, found),
    ]
    if stream.frames > 0 and output and stream.frames != len(output):
        remarks.append(f"header claims {stream.frames} frames, its packets hold {len(output)}")
    return Index(
        codec=context.codec.name,
        size=(context.width, context.height),
        header=header_of(stream),
        ticks=found.ticks,
        offsets=found.offsets if found.is_direct else [],
        lengths=found.lengths,
        holds=[
            int(each if key else each & ~Holds.ENTRY)
            for each, key in zip(held or [Holds.NOTHING] * len(found.keys), found.keys, strict=True)
        ],
        is_packed=is_packed(context.codec.name, extradata, found.first),
        output=[] if damage else output,
        left_out=found.left_out,
        unclear=damage or unclear,
        num_claimed=stream.frames,
        remarks=tuple(remarks),
    )


class _Found:
    """What is noted of each packet while all go by once."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.ticks: list[int | None] = []
        self.keys: list[bool] = []
        self.lengths: list[int] = []
        self.offsets: list[int] = []
        self.left_out: list[int] = []
        self.first = b""
        self.num_corrupt = 0
        self.last_tick = 0
        """Where the last packet to be shown ends, as far as the container tells."""
        self.is_direct = True
        self.changes_headers = False
        self.stopped: str | None = None

    def contents(self, packets: Generator[Packet, None, str | None]) -> Iterator[bytes]:
        """Give the bytes of each packet, noting the rest."""
        while True:
            try:
                packet = next(packets)
            except StopIteration as end:
                self.stopped = end.value
                return
            content = bytes(packet)
            if not self.ticks:
                self.first = content
            if packet.is_discard:
                self.left_out.append(len(self.ticks))
            self.ticks.append(packet.pts)
            if packet.pts is not None:
                self.last_tick = max(self.last_tick, packet.pts + (packet.duration or 0))
            self.keys.append(packet.is_keyframe)
            self.lengths.append(len(content))
            self.num_corrupt += packet.is_corrupt
            if next(packet.iter_sidedata(), None) is not None:
                self.is_direct = False
                self.changes_headers |= any(map(packet.has_sidedata, _HEADER_CHANGES))
            if self.is_direct:
                offset = _offset(self._handle, packet, content)
                self.is_direct = offset is not None
                self.offsets.append(offset or 0)
            yield content


def _damage(stopped: str | None, num_corrupt: int) -> str:
    """Say what the container itself admits of damage, nothing where it admits none."""
    if stopped is not None:
        return f"can't be read to its end ({stopped})"
    if num_corrupt:
        return f"cut or damaged packets: {num_corrupt}"
    return ""


_CLAIMING = frozenset(("matroska,webm", "flv"))
"""Containers that claim a length which is no estimate of libavformat's, but count no frames."""

_SLACK_FRAMES = 4


def _missing_tail(
    container: av.container.InputContainer, stream: av.VideoStream, found: _Found
) -> list[str]:
    """Remark that packets end long before the stream is to end: a download that was cut short.

    Writers differ in whether a length counts from zero or from the first frame, and in whether it
    holds the last frame's own time; so both are allowed, and the longest time of a frame.
    """
    claimed = _claimed_seconds(container, stream)
    ticks = sorted({tick for tick in found.ticks if tick is not None})
    if claimed is None or not ticks or stream.time_base is None:
        return []
    end = max(found.last_tick, found.last_tick - ticks[0]) * stream.time_base
    rate = header_of(stream).average_rate
    steps = [(late - early) * stream.time_base for early, late in pairwise(ticks)]
    slack = max(*steps, _SLACK_FRAMES / (rate or Fraction(DEFAULT_FPS)), Fraction(0))
    if end + slack >= claimed:
        return []
    return [f"ends at {float(end):.3f} s, its container claims {float(claimed):.3f} s"]


def _claimed_seconds(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Fraction | None:
    if container.format.name not in _CLAIMING:
        return None
    tag = _DURATION.fullmatch(stream.metadata.get("DURATION", ""))
    if tag is not None:
        hours, minutes, seconds = (Fraction(part) for part in tag.groups())
        return 3600 * hours + 60 * minutes + seconds
    # The whole file's length may be its sound's. A stream that has one has it from an estimate.
    if len(container.streams) > 1 or container.duration is None or stream.duration is not None:
        return None
    return Fraction(container.duration, av.time_base)


_DURATION = re.compile(r"(\d+):(\d{2}):(\d{2}(?:\.\d+)?)")
"""As libavformat and mkvmerge write the tag of a Matroska track."""


def _output(
    codec: str, held: list[Holds] | None, ticks: Sequence[int | None], keys: Sequence[bool]
) -> tuple[list[int], str]:
    """Foretell which packets give a frame, in the decoder's order; else say why that can't be."""
    if held is None:
        return [], f"packets of {codec} do not tell their frames"
    giving = [number for number, each in enumerate(held) if each & Holds.SHOWN]
    if not giving:
        return [], "no packet tells a frame"
    if codec in _REORDERING:
        stamps = [ticks[number] for number in giving]
        if None in stamps or len(set(stamps)) < len(stamps):
            return [], "time stamps are missing or equal"
        output = sorted(giving, key=lambda number: ticks[number] or 0)
        places = {number: place for place, number in enumerate(giving)}
        far = (abs(rank - places[number]) for rank, number in enumerate(output))
        if max(far) > MAX_REORDERED_FRAMES:
            return [], "time stamps jump"
    else:
        output = _delayed(held, giving)
    first = giving[0]
    if not (held[first] & Holds.ENTRY and keys[first]):
        return [], "does not begin with a keyframe"
    if output[0] != first:
        return [], "begins with frames that need earlier ones"
    return output, ""


def _delayed(held: Sequence[Holds], giving: Sequence[int]) -> list[int]:
    """Put pictures that wait for the next such one behind the B pictures that come before it."""
    output: list[int] = []
    waiting: list[int] = []
    for number in giving:
        if held[number] & Holds.FORWARD:
            output += waiting
            waiting = [number]
        else:
            output.append(number)
    return output + waiting


def _offset(handle: int, packet: Packet, content: bytes) -> int | None:
    """Find where a packet's bytes lie in the file, None where they do not, or not alone."""
    if packet.pos is None:
        return None
    near = os.pread(handle, len(content) + 32, packet.pos)
    within = near.find(content)
    return None if within < 0 else packet.pos + within


# ------------------------------------------------------------------------------------- on disk


def _packed(index: Index, file_size: int) -> bytes:
    header = index.header
    facts = {
        "file_size": file_size,
        "av": _libraries(),
        "codec": index.codec,
        "size": index.size,
        "time_base": header.time_base.as_integer_ratio(),
        "average_rate": header.average_rate and header.average_rate.as_integer_ratio(),
        "is_packed": index.is_packed,
        "unclear": index.unclear,
        "num_claimed": index.num_claimed,
        "remarks": index.remarks,
        "num_packets": len(index.ticks),
        "num_offsets": len(index.offsets),
        "num_output": len(index.output),
        "num_left_out": len(index.left_out),
    }
    numbers = [
        *(_NO_TICK if tick is None else tick for tick in index.ticks),
        *index.lengths,
        *index.holds,
        *index.offsets,
        *index.output,
        *index.left_out,
    ]
    words = json.dumps(facts).encode()
    body = struct.pack("<I", len(words)) + words + np.array(numbers, dtype="<i8").tobytes()
    return _MAGIC + hashlib.sha256(body).digest() + body


def _unpacked(content: bytes, file_size: int) -> Index:
    """Read an index back.

    Raises:
        ValueError: Of another version, not whole, or of another file.
    """
    body = content[len(_MAGIC) + 32 :]
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("another version")
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : len(_MAGIC) + 32]:
        raise ValueError("not whole")
    (length,) = struct.unpack_from("<I", body)
    facts = json.loads(body[4 : 4 + length])
    if facts["file_size"] != file_size or facts["av"] != _libraries():
        raise ValueError("of another file or library")
    numbers: list[int] = np.frombuffer(body, "<i8", offset=4 + length).tolist()
    position = 0

    def take(count: int) -> list[int]:
        nonlocal position
        position += count
        return numbers[position - count : position]

    count = facts["num_packets"]
    return Index(
        codec=facts["codec"],
        size=tuple(facts["size"]),
        header=Header(
            Fraction(*facts["time_base"]),
            None if facts["average_rate"] is None else Fraction(*facts["average_rate"]),
        ),
        ticks=[None if tick == _NO_TICK else tick for tick in take(count)],
        lengths=take(count),
        holds=take(count),
        offsets=take(facts["num_offsets"]),
        is_packed=facts["is_packed"],
        output=take(facts["num_output"]),
        left_out=take(facts["num_left_out"]),
        unclear=facts["unclear"],
        num_claimed=facts["num_claimed"],
        remarks=tuple(facts["remarks"]),
    )


def _libraries() -> list[object]:
    """Give all versions that an index may hang on, as JSON gives them back."""
    return [av.__version__, {name: [*part] for name, part in av.library_versions.items()}]

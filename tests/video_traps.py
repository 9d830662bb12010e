"""Makers of the videos that trap readers: every codec, container, clock and kind of damage we know.

The picture itself says which frame it is (`rsbench.media.barcode`), so what is shown when is known
from how a file was made and from no decoder. What this library's encoders can't write is written by
the ffmpeg program; `Unavailable` says what can't be made here. Field pairs (H.264 PAFF, MPEG-2
field pictures) are the one trap that neither can write: interlaced frames stand in for them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from video_world import (
    EVERY,
    GROUP,
    HEIGHT,
    NUM_FRAMES,
    WIDTH,
    Trap,
    Unavailable,
    encode,
    ffmpeg,
    pictures,
)

from rsbench.errors import MediaError
from rsbench.media import exactness
from rsbench.media.barcode import barcode_frames
from rsbench.media.video import write_video

# ------------------------------------------------------------------- codecs, containers, clocks


def _written(**how: object) -> Callable[[Path], None]:
    """Make by our own writer."""
    given = dict(how)
    frames = given.pop("frames", None)

    def make(path: Path) -> None:
        write_video(path, pictures() if frames is None else frames, fps=25, **given)  # type: ignore[arg-type]

    return make


def _encoded(*words: str, pixels: np.ndarray | None = None) -> Callable[[Path], None]:
    return lambda path: encode(*words, path, pixels=pixels)


def _two_passes(*words: str) -> Callable[[Path], None]:
    """Make by libvpx in two passes: only so it makes alternate references, which nobody sees."""
    how = (*words, "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "200k", "-g", "32")

    def make(path: Path) -> None:
        log = ("-passlogfile", path.with_suffix(""))
        encode(*how, *log, "-pass", "1", "-f", "null", "-")
        encode(*how, *log, "-pass", "2", path)

    return make


def _trial(trial: exactness.Trial) -> Trap:
    def make(path: Path) -> None:
        try:
            exactness.write_trial(trial, path.parent).replace(path)
        except MediaError as error:
            raise Unavailable(str(error)) from error

    seconds = exactness.times_of(trial.timing)
    return Trap(
        name=f"doctor {trial.name}",
        suffix=trial.suffix,
        make=make,
        times=tuple(float(second - seconds[0]) for second in seconds),
        exact="full range" not in trial.name,
    )


_H264 = ("-c:v", "libx264", "-x264-params", f"keyint={GROUP}:min-keyint={GROUP}:b-adapt=0")
_HEVC = (
    *("-c:v", "libx265", "-x265-params"),
    f"log-level=none:keyint={GROUP}:min-keyint={GROUP}:scenecut=0:b-adapt=0:bframes=3:open-gop=1",
)
_MPEG4 = ("-c:v", "mpeg4", "-q:v", "3", "-g", str(GROUP), "-bf", "2")
_YUV420 = ("-pix_fmt", "yuv420p")
_709 = ("-vf", "scale=out_color_matrix=bt709:out_range=pc", "-colorspace", "bt709")


def _codecs() -> Iterator[Trap]:
    yield from (_trial(trial) for trial in exactness.TRIALS)
    yield Trap(
        name="xvid, packed B-frames",
        suffix=".avi",
        make=_encoded("-c:v", "libxvid", "-q:v", "3", "-bf", "2", "-g", str(GROUP)),
        # Counted in its bytes: 51 pictures (VOPs), of which 13 are the empty ones that packing
        # leaves behind; libxvid drops two that it holds back at the end.
        frames=(*EVERY[:37], 39),
    )
    yield Trap(name="vp8, hidden", suffix=".webm", make=_two_passes("-c:v", "libvpx"))
    yield Trap(name="vp9, hidden", suffix=".webm", make=_two_passes("-c:v", "libvpx-vp9"))
    yield Trap(name="vp9, hidden", suffix=".mp4", make=_two_passes("-c:v", "libvpx-vp9"))
    vp9 = ("-c:v", "libvpx-vp9", "-b:v", "300k", "-cpu-used", "5", "-g", str(GROUP))
    for pixel_format in ("yuv420p10le", "yuv422p", "yuv444p10le"):
        yield Trap(
            name=f"vp9, {pixel_format}",
            suffix=".webm",
            make=_encoded(*vp9, "-pix_fmt", pixel_format),
        )
    aom = ("-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "20", "-lag-in-frames", "19")
    for suffix in (".mp4", ".mkv", ".webm"):
        yield Trap(
            name="av1, hidden",
            suffix=suffix,
            make=_encoded(*aom, *_YUV420, "-g", "20", "-strict", "experimental"),
        )
    for pixel_format in ("yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuvj420p"):
        yield Trap(
            name=f"h264, {pixel_format}",
            suffix=".mp4",
            make=_encoded(*_H264, "-pix_fmt", pixel_format),
            exact="j" not in pixel_format,
        )
    for pixel_format in ("yuv420p10le", "yuv420p12le", "yuv444p", "yuv422p10le"):
        yield Trap(
            name=f"hevc, {pixel_format}",
            suffix=".mkv",
            make=_encoded(*_HEVC, "-pix_fmt", pixel_format),
        )
    yield Trap(
        name="h264, bt709, full range",
        suffix=".mp4",
        make=_encoded(*_709, "-color_range", "pc", *_H264, *_YUV420),
        exact=False,
    )
    yield Trap(
        name="h264, one group, pyramid",
        suffix=".mp4",
        make=_written(options={"g": "250", "bf": "7", "b-pyramid": "normal", "refs": "4"}),
    )
    interlaced = ("-flags", "+ildct+ilme", "-c:v", "mpeg2video", "-q:v", "2", "-bf", "2")
    yield Trap(name="mpeg2, interlaced", suffix=".ts", make=_encoded(*interlaced, *_YUV420))
    yield Trap(name="mpeg2, interlaced", suffix=".mpg", make=_encoded(*interlaced, *_YUV420))
    for name, codec, size in (
        ("vp9, odd size", "libvpx-vp9", (67, 93)),
        ("mpeg4, odd size", "mpeg4", (61, 71)),
    ):
        yield Trap(
            name=name,
            suffix=".mkv",
            make=_written(frames=pictures(NUM_FRAMES, *size), codec=codec, options={"g": "12"}),
            exact=codec != "mpeg4",  # the edges differ by version: one pixel in one frame here
        )
    for suffix in (".mp4", ".mkv", ".ts", ".avi"):
        long = Trap(
            name="h264, 300 frames",
            suffix=suffix,
            make=_written(frames=pictures(300), options={"g": "12", "bf": "3", "crf": "30"}),
            frames=tuple(range(300)),
        )
        yield long


def _copied(source: Trap, *words: str, before: Sequence[str] = ()) -> Callable[[Path], None]:
    """Make by copying the packets of another trap into another file."""

    def make(path: Path) -> None:
        origin = source.path_in(path.parent)
        ffmpeg(*before, "-i", origin, "-map", "0:v", "-c", "copy", *words, path)

    return make


def _base(name: str, suffix: str, *words: str) -> Trap:
    return Trap(name=f"base {name}", suffix=suffix, make=_encoded(*words, *_YUV420))


H264_MP4 = _base("h264", ".mp4", *_H264, "-bf", "2")
H264_LONG = _base("h264 one group", ".mp4", "-c:v", "libx264", "-g", "250", "-bf", "3")
H264_MKV = _base("h264", ".mkv", *_H264, "-bf", "2")
H264_TS = _base("h264", ".ts", *_H264, "-bf", "2")
H264_BARE = _base("h264", ".h264", *_H264, "-bf", "2")
HEVC_MP4 = _base("hevc", ".mp4", *_HEVC)
HEVC_MKV = _base("hevc", ".mkv", *_HEVC)
MPEG4_MP4 = _base("mpeg4", ".mp4", *_MPEG4)
MPEG4_AVI = _base("mpeg4", ".avi", *_MPEG4)
VP9_WEBM = _base("vp9", ".webm", "-c:v", "libvpx-vp9", "-b:v", "300k", "-cpu-used", "5")


AV1_MP4 = _base(
    "av1", ".mp4", "-c:v", "libaom-av1", "-cpu-used", "8", "-crf", "20", "-g", "20",
    *("-strict", "experimental"),
)  # fmt: skip


def _clocks() -> Iterator[Trap]:
    hundredths = [Fraction(4 * i, 100) for i in range(20)]
    hundredths += [Fraction(80 + 20 * i, 100) for i in range(20)]
    for suffix, codec in ((".mp4", "libx264"), (".webm", "libvpx-vp9"), (".mov", "libx265")):
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {"g": "12"}
        yield Trap(
            name="variable rate",
            suffix=suffix,
            make=_written(
                codec=codec, times=hundredths, time_base=Fraction(1, 100), options=options
            ),
            times=tuple(float(second) for second in hundredths),
        )
    # AVI has no time stamps: its writer fills gaps with empty chunks, which are no frames.
    gaps = [Fraction(i + i // 5, 25) for i in EVERY]
    yield Trap(
        name="avi with empty chunks",
        suffix=".avi",
        make=_written(codec="mpeg4", times=gaps, time_base=Fraction(1, 25)),
        times=tuple(float(second) for second in gaps),
    )
    even = tuple(i / 25 for i in EVERY)
    shift = ("-avoid_negative_ts", "disabled", "-output_ts_offset")
    for source, suffix in ((H264_MKV, ".mkv"), (H264_TS, ".ts"), (VP9_WEBM, ".webm")):
        yield Trap(
            name="negative start",
            suffix=suffix,
            make=_copied(source, *shift, "-0.6", "-muxdelay", "0"),
            times=even,
        )
    for source, suffix in ((H264_MP4, ".mp4"), (H264_MKV, ".mkv"), (HEVC_MP4, ".mov")):
        yield Trap(name="late start", suffix=suffix, make=_copied(source, *shift, "7"), times=even)
    # 33 bits of 90 kHz end after 95,443.718 s.
    yield Trap(
        name="clock runs over", suffix=".ts", make=_copied(H264_TS, *shift, "95443"), times=even
    )
    yield Trap(
        name="clock set back",
        suffix=".ts",
        make=_twice,
        frames=(*EVERY, *EVERY),
    )
    for source, codec in ((H264_MP4, "h264"), (HEVC_MP4, "hevc"), (MPEG4_MP4, "mpeg4")):
        yield Trap(
            name=f"edit list cuts a group, {codec}",
            suffix=".mp4",
            make=_copied(source, before=("-ss", "0.72")),
            frames=EVERY[18:],
        )
    yield Trap(
        name="edit list cuts the only group",
        suffix=".mov",
        make=_copied(H264_LONG, before=("-ss", "0.72")),
        frames=EVERY[18:],
    )
    yield Trap(name="edit list, two parts", suffix=".mp4", make=_two_edits, frames=None)
    yield Trap(name="edit list shows nothing", suffix=".mp4", make=_no_edit, frames=())
    yield Trap(
        name="edit list, starts with nothing",
        suffix=".mp4",
        make=_copied(H264_MP4, before=("-itsoffset", "1.5")),
        times=even,
    )
    yield Trap(
        name="duplicate stamps",
        suffix=".mkv",
        make=_restamped("if(eq(mod(N,7),3),PREV_OUTPTS,PTS)"),
    )
    for source, suffix in ((H264_MP4, ".h264"), (HEVC_MP4, ".hevc"), (MPEG4_MP4, ".m4v")):
        yield Trap(name="no stamps", suffix=suffix, make=_copied(source))
    yield Trap(name="some stamps are missing", suffix=".ts", make=_without_some_stamps)
    yield Trap(name="no stamps at all", suffix=".ts", make=_without_stamps)


def _twice(path: Path) -> None:
    path.write_bytes(H264_TS.path_in(path.parent).read_bytes() * 2)


def _restamped(expression: str) -> Callable[[Path], None]:
    plain = _base("vp9", ".mkv", "-c:v", "libvpx-vp9", "-b:v", "300k", "-cpu-used", "5")
    return _copied(plain, "-bsf:v", f"setts=ts='{expression}'")


def _without_some_stamps(path: Path) -> None:
    _clear_stamps(path, keep=lambda number: number % 4 == 0)


def _without_stamps(path: Path) -> None:
    _clear_stamps(path, keep=lambda number: False)


def _clear_stamps(path: Path, *, keep: Callable[[int], bool]) -> None:
    """Take the stamps out of the packet headers of a transport stream (ISO/IEC 13818-1, 2.4.3.7).

    Their bytes stay as stuffing, so that all lengths hold.
    """
    content = bytearray(H264_TS.path_in(path.parent).read_bytes())
    place, number = content.find(b"\0\0\1\xe0"), 0
    while place >= 0:
        if not keep(number):
            content[place + 7] &= 0x3F
            content[place + 9 : place + 9 + content[place + 8]] = b"\xff" * content[place + 8]
        place, number = content.find(b"\0\0\1\xe0", place + 4), number + 1
    assert number == NUM_FRAMES
    path.write_bytes(content)


def _no_edit(path: Path) -> None:
    """Let the shown part begin long after the media's end."""
    content = bytearray(MPEG4_MP4.path_in(path.parent).read_bytes())
    place = content.index(b"elst")
    content[place + 16 : place + 20] = struct.pack(">i", 1 << 30)
    path.write_bytes(content)


def _two_edits(path: Path) -> None:
    """Show 0.48 s to 0.88 s of the media, then 1.2 s to 1.6 s (ISO/IEC 14496-12, 8.6.6)."""
    content = bytearray(MPEG4_MP4.path_in(path.parent).read_bytes())
    place = content.index(b"elst")
    scale = struct.unpack(">I", content[content.index(b"mvhd") + 16 :][:4])[0]
    media = struct.unpack(">I", content[content.index(b"mdhd") + 16 :][:4])[0]
    first = struct.unpack(">i", content[place + 16 : place + 20])[0]
    entries = b"".join(
        struct.pack(">IiI", round(0.4 * scale), first + round(start * media), 1 << 16)
        for start in (0.48, 1.2)
    )
    length = struct.unpack(">I", content[place - 4 : place])[0]
    content[place + 8 : place - 4 + length] = struct.pack(">I", 2) + entries
    grown = 16 + len(entries) - length
    for name in (b"elst", b"edts", b"trak", b"moov"):
        # Their sizes grow; all stand after the media, whose offsets stay.
        at = content.index(name) - 4
        content[at : at + 4] = struct.pack(
            ">I", struct.unpack(">I", content[at : at + 4])[0] + grown
        )
    assert content.index(b"mdat") < content.index(b"moov")
    path.write_bytes(content)


# --------------------------------------------------------- what else is in the file, and its lies


def _tagged(source: Trap, *words: str) -> Callable[[Path], None]:
    """Make with tags in no encoding at all."""

    def make(path: Path) -> None:
        mark = "TITLETITLE"
        _copied(source, "-metadata", f"title={mark}", "-metadata:s:v", f"comment={mark}", *words)(
            path
        )
        content = path.read_bytes()
        assert mark.encode() in content
        path.write_bytes(content.replace(mark.encode(), b"\xff\xfe\x80\xc3(\xe2\x82\xf0\x9f\x81"))

    return make


_TONE = ("-f", "lavfi", "-i", "sine=frequency=440:duration=1.6")
_OTHER = ("-f", "lavfi", "-i", "testsrc=size=32x24:rate=10:duration=1.6")
_COVER = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=1:duration=1")


def _joined(source: Trap, other: Sequence[str], *words: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        ffmpeg("-i", source.path_in(path.parent), *other, *words, path)

    return make


def _company() -> Iterator[Trap]:
    for source, suffix in ((MPEG4_MP4, ".mp4"), (H264_MKV, ".mkv"), (MPEG4_AVI, ".avi")):
        yield Trap(name="tags that are not utf-8", suffix=suffix, make=_tagged(source))
    for suffix, codec in ((".mp4", "aac"), (".mkv", "libopus"), (".avi", "mp2"), (".ts", "mp2")):
        source = MPEG4_AVI if suffix == ".avi" else H264_MP4
        order = ("-map", "1:a", "-map", "0:v", "-c:v", "copy", "-c:a", codec)
        yield Trap(name="sound first", suffix=suffix, make=_joined(source, _TONE, *order))
    cover = ("-c:v:0", "copy", "-c:v:1", "mjpeg", "-pix_fmt:v:1", "yuvj420p")
    for suffix in (".mp4", ".mkv"):
        yield Trap(
            name="cover art",
            suffix=suffix,
            make=_joined(
                H264_MP4, _COVER, "-map", "0:v", "-map", "1:v", *cover,
                *("-disposition:v:1", "attached_pic"),
            ),
        )  # fmt: skip
    for suffix in (".mp4", ".mkv", ".ts"):
        small_first = ("-map", "1:v", "-map", "0:v", "-c:v:0", "mpeg4", "-c:v:1", "copy")
        yield Trap(
            name="two videos, smaller first",
            suffix=suffix,
            make=_joined(
                H264_MP4,
                _OTHER,
                *small_first,
                # Who marks one as the default means that one; else players take the larger.
                *("-disposition:v:0", "0", "-disposition:v:1", "default"),
            ),
        )
    yield Trap(
        name="fragments",
        suffix=".mp4",
        make=_copied(H264_MP4, "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    )
    yield Trap(
        name="table of contents first",
        suffix=".mp4",
        make=_copied(H264_MP4, "-movflags", "+faststart"),
    )
    yield Trap(name="mkv without cues", suffix=".mkv", make=_without_cues)
    yield Trap(name="turned", suffix=".mp4", make=_turned, exact=False)
    yield Trap(
        name="size changes", suffix=".ts", make=_resized, frames=(*EVERY, *EVERY), exact=False
    )
    yield Trap(
        name="size changes", suffix=".h264", make=_resized, frames=(*EVERY, *EVERY), exact=False
    )
    yield Trap(name="avi header claims more", suffix=".avi", make=_lying_avi)
    yield Trap(
        name="one frame",
        suffix=".mp4",
        make=_written(frames=pictures()[:1]),
        frames=(0,),
    )


def _without_cues(path: Path) -> None:
    """Rename the index of a Matroska file to void, as in a recording that was never closed."""
    content = bytearray(H264_MKV.path_in(path.parent).read_bytes())
    place = content.rindex(b"\x1c\x53\xbb\x6b")
    content[place : place + 4] = b"\x1c\x53\xbb\x6c"
    path.write_bytes(content)


def _turned(path: Path) -> None:
    """Store pictures turned a quarter, and say so in the track header (8.3.2)."""
    write_video(path, [np.rot90(picture) for picture in pictures()], fps=25, options={"g": "12"})
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd")
    one = 1 << 16
    content[header + 44 : header + 80] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _resized(path: Path) -> None:
    parts = []
    for height, width in ((HEIGHT, WIDTH), (96, 144)):
        part = path.with_name(f"part_{height}{path.suffix}")
        write_video(part, pictures(NUM_FRAMES, height, width), fps=25, options={"g": "12"})
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))


def _lying_avi(path: Path) -> None:
    content = bytearray(MPEG4_AVI.path_in(path.parent).read_bytes())
    for name, offset in ((b"avih", 24), (b"strh", 40)):
        place = content.index(name) + offset
        content[place : place + 4] = struct.pack("<I", 96)
    path.write_bytes(content)


# ------------------------------------------------------- streams whose headers mislead who skips


def _headers() -> Iterator[Trap]:
    """Make sound files in which what a packet needs stands elsewhere than one would think."""
    both = (*EVERY, *EVERY)
    for codec, quiet in _QUIET.items():
        yield Trap(
            name=f"parameter sets change once, {codec}",
            suffix=".mkv",
            make=_joined_streams(codec, quiet),
            frames=both,
        )
    yield Trap(name="flv, header changes", suffix=".flv", make=_joined_flv, frames=both)
    for name, source, suffix in (
        ("h264", H264_MP4, ".mp4"),
        ("vp9", VP9_WEBM, ".mp4"),
        ("av1", AV1_MP4, ".mp4"),
        ("mpeg4", MPEG4_MP4, ".mp4"),
    ):
        yield Trap(name=f"all called key frames, {name}", suffix=suffix, make=_all_keys(source))
    for suffix in (".mp4", ".mkv"):
        yield Trap(
            name="av1, key frames shown late",
            suffix=suffix,
            make=_encoded(
                *("-c:v", "libsvtav1", "-preset", "8", "-crf", "20", "-g", "16", *_YUV420),
                *("-svtav1-params", "irefresh-type=1"),
            ),
        )
    yield Trap(
        name="hevc, temporal layers",
        suffix=".mp4",
        make=_encoded(*_HEVC[:-1], f"{_HEVC[-1]}:temporal-layers=1:b-pyramid=1", *_YUV420),
    )
    yield Trap(
        name="hevc, decodable leading pictures",
        suffix=".mp4",
        make=_encoded(*_HEVC[:-1], f"{_HEVC[-1]}:open-gop=0:radl=2", *_YUV420),
    )
    yield Trap(
        name="h264, many slices, disposable P",
        suffix=".mp4",
        make=_encoded(
            *("-c:v", "libx264", "-x264-params"),
            "slices=4:keyint=12:nal-hrd=vbr:vbv-maxrate=900:vbv-bufsize=900:bframes=2",
            *_YUV420,
        ),
    )
    for words, name in ((("-flags", "+qpel+mv4"), "quarter pel"), (("-gmc", "1"), "warped")):
        codec = "libxvid" if "-gmc" in words else "mpeg4"
        yield Trap(
            name=f"mpeg4, {name}",
            suffix=".mkv",
            make=_encoded("-c:v", codec, *words, "-q:v", "3", "-g", str(GROUP), *_YUV420),
        )
    yield Trap(
        name="mjpeg, tables stand in the first frame",
        suffix=".avi",
        make=_jpeg_tables_once,
        exact=False,
    )
    yield Trap(
        name="vp9, transparent",
        suffix=".webm",
        make=_encoded("-c:v", "libvpx-vp9", "-b:v", "300k", "-g", "12", "-pix_fmt", "yuva420p"),
        exact=False,  # the ffmpeg program knows the alpha plane, by another decoder
    )
    yield Trap(name="mpeg4, still and tiny", suffix=".avi", make=_still("mpeg4"), frames=_STILL)
    yield Trap(name="mpeg4, still and tiny", suffix=".mp4", make=_still("mpeg4"), frames=_STILL)
    yield Trap(name="h264, still and tiny", suffix=".mp4", make=_still("libx264"), frames=_STILL)
    yield Trap(name="vp9, still and tiny", suffix=".webm", make=_still("libvpx-vp9"), frames=_STILL)
    yield Trap(
        name="mpeg1",
        suffix=".mpg",
        make=_encoded("-c:v", "mpeg1video", "-q:v", "2", "-bf", "2", "-g", str(GROUP)),
    )
    yield Trap(
        name="ffv1, groups",
        suffix=".mkv",
        make=_encoded("-c:v", "ffv1", "-level", "1", "-context", "1", "-g", str(GROUP), *_YUV420),
    )


def _jpeg_tables_once(path: Path) -> None:
    """Make comments of all quantisation tables but the first frame's (ITU-T T.81, B.5)."""
    write_video(
        path, pictures(), fps=25, codec="mjpeg", pixel_format="yuvj420p", options={"q": "3"}
    )
    content = path.read_bytes()
    start = content.index(b"\xff\xd8", content.index(b"movi"))
    second = content.index(b"\xff\xd8\xff", start + 2)
    end = content.rindex(b"idx1")
    frames = content[second:end].replace(b"\xff\xdb", b"\xff\xfe")
    path.write_bytes(content[:second] + frames + content[end:])


_QUIET = {
    "libx264": ("cqm=flat:chroma-qp-offset=-12", "cqm=jvt:chroma-qp-offset=12"),
    "libx265": ("cbqpoffs=-12:crqpoffs=-12", "cbqpoffs=12:crqpoffs=12"),
}
"""With the parameter sets of one, the other decodes without complaint, to other colours."""
_STILL = (*range(4), *[3] * 36)


def _still(codec: str) -> Callable[[Path], None]:
    """Make a picture that stands still, so that a frame takes a few bytes."""
    frames = barcode_frames(4, 32, 32)[list(_STILL)]
    return lambda path: write_video(path, frames, fps=25, codec=codec, options={"g": "12"})


def _joined_streams(codec: str, parameters: tuple[str, str]) -> Callable[[Path], None]:
    """Make one stream of two, each with its parameter sets before its first picture only."""
    kinds = {7, 8} if codec == "libx264" else {32, 33, 34}
    option = f"-{codec[3:]}-params"
    common = f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0:bframes=0:repeat-headers=1"
    common += "" if codec == "libx264" else ":open-gop=0:log-level=none"

    def make(path: Path) -> None:
        bare = path.with_suffix(".h264" if codec == "libx264" else ".hevc")
        content = b""
        for special in parameters:
            encode(*_YUV420, "-c:v", codec, option, f"{common}:{special}", bare)
            seen = 0
            for unit in bare.read_bytes().split(b"\0\0\1")[1:]:
                kind = unit[0] & 31 if codec == "libx264" else unit[0] >> 1 & 63
                seen += kind in kinds
                if kind not in kinds or seen <= len(kinds):
                    content += b"\0\0\0\1" + unit.rstrip(b"\0")
        bare.write_bytes(content)
        timed = ("-bsf:v", "setts=ts=N*3600:time_base=1/90000")
        ffmpeg("-r", "25", "-i", bare, "-c", "copy", *timed, path)
        bare.unlink()

    return make


def _joined_flv(path: Path) -> None:
    """Join two FLV files (Adobe FLV 10.1, annex E.4): each begins with headers of its own."""
    joined, late = b"", 0
    for special in _QUIET["libx264"]:
        encode(
            *("-c:v", "libx264", "-x264-params", f"keyint={GROUP}:bframes=0:{special}", *_YUV420),
            *("-flvflags", "no_sequence_end+no_metadata", path),
        )
        content = path.read_bytes()
        joined += b"" if joined else content[:13]
        place = 13
        while place < len(content):
            size = int.from_bytes(content[place + 1 : place + 4], "big")
            stamp = int.from_bytes(content[place + 4 : place + 7], "big") + late
            tag = bytearray(content[place : place + 15 + size])
            tag[4:7] = stamp.to_bytes(3, "big")
            joined, place = joined + tag, place + len(tag)
        late = NUM_FRAMES * 40
    path.write_bytes(joined)


def _all_keys(source: Trap) -> Callable[[Path], None]:
    """Make without the list of key frames, which means that all are (ISO/IEC 14496-12, 8.6.2)."""

    def make(path: Path) -> None:
        copy = path.with_name(f"copy of {path.name}")
        _copied(source)(copy)
        content = copy.read_bytes()
        copy.unlink()
        assert content.count(b"stss") == 1
        path.write_bytes(content.replace(b"stss", b"free"))

    return make


# ------------------------------------------------------------------------------------------ damage


def _cut(source: Trap, part: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        content = source.path_in(path.parent).read_bytes()
        path.write_bytes(content[: round(len(content) * part)])

    return make


def _headless(source: Trap, *, dropped: str = "lt(n,5)") -> Callable[[Path], None]:
    """Make without the packets for which an expression of their number n holds."""
    return _copied(source, "-bsf:v", f"noise=drop='{dropped}'")


def _damage() -> Iterator[Trap]:
    front = Trap(
        name="base front", suffix=".mp4", make=_copied(H264_MP4, "-movflags", "+faststart")
    )
    pieces = Trap(
        name="base fragments",
        suffix=".mp4",
        make=_copied(H264_MP4, "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    )
    for source in (MPEG4_AVI, H264_MKV, H264_TS, H264_BARE, VP9_WEBM, front, pieces):
        name = source.name.removeprefix("base ")
        yield Trap(
            name=f"cut short, {name}",
            suffix=source.suffix,
            make=_cut(source, 0.7),
            frames=None,
            ends_in_half=source is H264_BARE,
        )
    for source in (H264_MKV, H264_TS, HEVC_MKV, MPEG4_AVI, VP9_WEBM):
        name = source.name.removeprefix("base ")
        yield Trap(
            name=f"no first key frame, {name}",
            suffix=source.suffix,
            make=_headless(source),
            frames=() if source is VP9_WEBM else EVERY[GROUP:] if source is HEVC_MKV else None,
            # Until version 5 it showed HEVC pictures that refer to nothing, grey.
            agreed=source is not HEVC_MKV,
        )
    yield Trap(
        name="hevc starts at an open group",
        suffix=".mkv",
        make=_headless(HEVC_MKV, dropped="lt(n,9)"),
        # The pictures shown before the first key frame refer to what is not there (RASL).
        frames=EVERY[GROUP:],
    )
    yield Trap(
        name="a packet in the middle is missing",
        suffix=".mkv",
        make=_headless(H264_MKV, dropped="eq(n,20)"),
        frames=None,
    )


TRAPS: tuple[Trap, ...] = (*_codecs(), *_clocks(), *_company(), *_headers(), *_damage())

"""From a decoded frame to upright RGB pixels.

Which pixels, exactly:

- What nearly all video is, planar 8-bit 4:2:0 or 4:2:2 (`_PLAIN_FORMATS`) of even width and height,
  goes through swscale's plain converter: one chroma sample for the pixels it was taken of. So do
  ffmpeg's own `-pix_fmt rgb24`, PyAV, torchcodec and decord, and with them the pixels that
  published weights were trained on. It is the processor's own code, exact to about a grey level
  between processors.
- All else (an odd width or height, other chroma such as 4:4:4, other depths such as 10 bits, other
  layouts such as NV12, and frames scaled to the first one's size) gets interpolated chroma with
  exact rounding: ffmpeg's `-sws_flags accurate_rnd+full_chroma_int`, not its default. For 4:2:0 it
  lies 44 dB from the plain pixels and costs five to ten times as much.

swscale makes three planes instead of packed pixels wherever both give the same values: planes are
what networks read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import av.filter
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from rsbench.errors import MediaError
from rsbench.media.looking import Look
from rsbench.media.video.opening import check_size, name_of, reason_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

Pixels = npt.NDArray[np.uint8]
Kept = npt.NDArray[np.uint8 | np.float32]
"""What is kept of a frame: its pixels, or what a transform made of them."""
Transform = Callable[[Pixels], Kept]

PLAIN = Interpolation.BILINEAR | Interpolation.BITEXACT
"""swscale flags of the plain converter; a filter is only named for formats it does not know."""

ACCURATE = PLAIN | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""swscale flags of all else: full chroma and exact rounding, alike on all processors."""

CONVERSION_VERSION = 2
"""Raised whenever equal files would give other pixels or other frames; part of cache keys."""

_PLANAR = frozenset(
    f"{family}{sampling}p{depth}"
    for family in ("yuv", "yuvj")
    for sampling in ("420", "422", "444")
    for depth in ("", "10le")
)
"""Formats of which planes and packed pixels were compared (tests/test_video.py), value by value."""

_PLAIN_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"})
"""What swscale's plain converter knows (libswscale/yuv2rgb.c), where both sides are even."""

_PLAIN_STEP = 16
"""Columns that the plain converter to planes writes at a time on x86; of a last step that is not
whole it writes none at all."""

_UPRIGHT = (65536, 0, 0, 65536)
"""The display matrix of a picture that is shown as it is stored."""

_EVERYTHING = Look(0, 0, 1 << 30, 1 << 30)

_MARGIN = 4
"""Pixels converted around what is looked at: chroma is interpolated between two neighbours, which
lie up to two pixels apart."""


class Cuts:
    """Squares cut out of decoded planes, to be copied once, to where they belong."""

    def __init__(self, planes: Sequence[Pixels], squares: Sequence[tuple[int, int, int]]) -> None:
        """Hold red, green and blue, (H, W) each, and top, left and side of each square."""
        self._planes = planes
        self._squares = squares
        side = squares[0][2]
        self.shape = (len(squares), side, side, 3)

    def copy_to(self, target: Kept) -> None:
        """Write the squares to an array (V, S, S, 3)."""
        for cut, (top, left, side) in zip(target, self._squares, strict=True):
            for channel, plane in enumerate(self._planes):
                cut[:, :, channel] = plane[top : top + side, left : left + side]


class Converter:
    """Converts the frames of one file, as far as a transform looks at them, and transforms them."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        transform: Transform | None,
        *,
        reuse_memory: bool,
    ) -> None:
        """Prepare for the frames of a file.

        Args:
            path: Named in messages.
            size: Width and height that all frames are to have, before they are turned.
            transform: Applied to each frame; one that is `looking.Looking` costs less.
            reuse_memory: What is given may be overwritten by the next frame.
        """
        self._path = path
        self._size = size
        self._transform = transform
        self._reuse_memory = reuse_memory
        self._reformatter = VideoReformatter()
        self._room: Pixels | None = None
        self._cutter: _Cutter | None = None
        self._look: Look | None = None
        self._shown: tuple[int, ...] | None = None

    def kept(self, frame: av.VideoFrame) -> Kept:
        """Convert one frame to upright RGB, uint8 (H, W, 3), and transform it.

        Raises:
            MediaError: Too large, of a format that swscale can't read, shown at a slant, or turned
                from the frames before it so that it has another shape.
        """
        found = self(frame)
        if not isinstance(found, Cuts):
            return found
        kept = np.empty(found.shape, dtype=np.uint8)
        found.copy_to(kept)
        return kept

    def __call__(self, frame: av.VideoFrame) -> Kept | Cuts:
        """Do the same, but leave squares that are only cut where they are.

        Raises:
            MediaError: As `kept`.
        """
        check_size(self._path, frame.width, frame.height)
        matrix = _display_matrix(frame)
        try:
            pixels = self._pixels(frame, is_upright=matrix == _UPRIGHT)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{name_of(self._path)}: a frame of format {frame.format.name} must convert to RGB "
                f"({reason_of(error)})"
            ) from error
        if isinstance(pixels, Cuts):
            width, height = self._size
            self._keep_shape((height, width, 3))
            return pixels
        if matrix != _UPRIGHT:
            pixels = _upright(self._path, pixels, matrix)
        self._keep_shape(pixels.shape)
        return pixels if self._transform is None else self._transform(pixels)

    def _keep_shape(self, shape: tuple[int, ...]) -> None:
        """Refuse a frame that is shown lying where those before it were shown standing."""
        if self._shown is None:
            self._shown = shape
        if shape != self._shown:
            raise MediaError(
                f"{name_of(self._path)}: must be shown one way round, but its display matrix turns "
                f"on the way from {self._shown[1]} x {self._shown[0]} to {shape[1]} x {shape[0]}; "
                "cut it there into two files"
            )

    def _pixels(self, frame: av.VideoFrame, *, is_upright: bool) -> Pixels | Cuts:
        width, height = self._size
        # Of odd sizes planes and packed pixels differ by a grey level here and there.
        is_even = width % 2 == height % 2 == 0
        same_size = (frame.width, frame.height) == self._size
        if frame.format.name not in _PLANAR or not is_even or not same_size:
            return _packed(self._reformat(frame, "rgb24", ACCURATE, self._size)).copy()
        look = self._look_at(height, width) if is_upright else _EVERYTHING
        top, left, part = 0, 0, frame
        if look.bottom - look.top < height or look.right - look.left < width:
            # A stream may change its format on the way; a graph has the one it was made for.
            if self._cutter is None or self._cutter.form != frame.format.name:
                self._cutter = _Cutter(frame, look)
            top, left, part = self._cutter.top, self._cutter.left, self._cutter(frame)
        rows = slice(look.top - top, min(look.bottom, height) - top)
        columns = slice(look.left - left, min(look.right, width) - left)
        is_plain = frame.format.name in _PLAIN_FORMATS
        is_packed = is_plain and (look.squares is None or part.width % _PLAIN_STEP > 0)
        shown = self._reformat(
            part, "rgb24" if is_packed else "gbrp", PLAIN if is_plain else ACCURATE
        )
        if look.squares is not None:
            squares = [(row - top, column - left, side) for row, column, side in look.squares]
            return Cuts(_planes(shown), squares)
        # Where the frame was cut, its margin is not right: the neighbours beyond it were not seen.
        pixels = self._empty(height, width)
        seen = pixels[
            rows.start + top : rows.stop + top, columns.start + left : columns.stop + left
        ]
        if is_packed:
            seen[:] = _packed(shown)[rows, columns]
        else:
            for channel, plane in enumerate(_planes(shown)):
                seen[..., channel] = plane[rows, columns]
        return pixels

    def _look_at(self, height: int, width: int) -> Look:
        if self._look is None:
            look = getattr(self._transform, "look", None)
            if look is not None:
                look = cast("Look | None", look(height, width))
            self._look = look or _EVERYTHING
        return self._look

    def _reformat(
        self,
        frame: av.VideoFrame,
        form: str,
        flags: Interpolation,
        size: tuple[int, int] | None = None,
    ) -> av.VideoFrame:
        width, height = size or (frame.width, frame.height)
        return self._reformatter.reformat(
            frame, width=width, height=height, format=form, interpolation=flags, threads=1
        )

    def _empty(self, height: int, width: int) -> Pixels:
        if self._room is None or not self._reuse_memory:
            self._room = np.empty((height, width, 3), dtype=np.uint8)
        return self._room


def check_frame(path: Path, frame: av.VideoFrame) -> None:
    """Refuse a frame that can't be shown, in the words of whoever reads it.

    Raises:
        MediaError: It is too large, or shown at a slant.
    """
    check_size(path, frame.width, frame.height)
    _upright(path, np.empty((1, 1, 3), dtype=np.uint8), _display_matrix(frame))


def _packed(frame: av.VideoFrame) -> Pixels:
    """Give the pixels of a packed frame, (H, W, 3), as they lie in its memory."""
    (plane,) = frame.planes
    lines = np.frombuffer(memoryview(cast("Buffer", plane)), np.uint8).reshape(-1, plane.line_size)
    return lines[: frame.height, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def _planes(frame: av.VideoFrame) -> list[Pixels]:
    """Give red, green and blue, (H, W) each, of a frame of "rgb24" or "gbrp"."""
    if len(frame.planes) == 1:
        packed = _packed(frame)
        return [packed[..., channel] for channel in range(3)]
    green, blue, red = (
        np.frombuffer(memoryview(cast("Buffer", plane)), np.uint8).reshape(-1, plane.line_size)
        for plane in frame.planes
    )
    return [plane[:, : frame.width] for plane in (red, green, blue)]


class _Cutter:
    """Cuts a rectangle out of frames of one kind without copying it (libavfilter's crop)."""

    def __init__(self, frame: av.VideoFrame, look: Look) -> None:
        """Prepare for frames like this one; the rectangle grows by a margin to even places."""
        self.form = frame.format.name
        self.top = max(look.top - _MARGIN, 0) & ~1
        self.left = max(look.left - _MARGIN, 0) & ~1
        bottom = min((look.bottom + _MARGIN + 1) & ~1, frame.height)
        right = min((look.right + _MARGIN + 1) & ~1, frame.width)
        width = -(-(right - self.left) // _PLAIN_STEP) * _PLAIN_STEP
        if width <= frame.width:
            self.left = min(self.left, frame.width - width)
            right = self.left + width
        graph = av.filter.Graph()
        graph.threads = 1
        self._source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
        )
        crop = graph.add("crop", f"{right - self.left}:{bottom - self.top}:{self.left}:{self.top}")
        self._sink = graph.add("buffersink")
        graph.link_nodes(self._source, crop, self._sink).configure()
        self._graph = graph

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        self._source.push(frame)
        return cast(av.VideoFrame, self._sink.pull())


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Give (a, b, c, d): where the picture's right (a, b) and down (c, d) point on the display."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return _UPRIGHT
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
            f"{name_of(path)}: must be shown at a multiple of 90 degrees, its display matrix is "
            f"{a / 65536:.3f} {b / 65536:.3f} {c / 65536:.3f} {d / 65536:.3f}"
        )
    if straight > crossed:
        turned = pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    else:
        turned = pixels.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    # torch refuses negative strides, and a turned picture is rare enough to be copied.
    return turned if turned is pixels or min(turned.strides) > 0 else np.ascontiguousarray(turned)

"""What `video.py` asks of a reader, and the least that any reader must decode for it.

Workloads, of a video of n frames:

- W1, training: one clip of 32 frames, every second one, at a random place;
- W2, testing: ten clips of 8 frames, every eighth one, their starts spread evenly (mmaction2);
- W3, sparse: the middles of 16 equal segments (TSN).

The limit of a request: the packets that must be decoded, from the keyframe before each wanted frame
to the last wanted packet in decoding order, counted once for all clips, times what
``ffmpeg -threads 1 -f null`` takes a frame of that video (five passes less one, so without its
start). A reader may beat it by leaving out frames that no other refers to.
"""

from __future__ import annotations

import functools
import random
import resource
import statistics
import subprocess
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from rsbench.media.sampling import sample_clips
from rsbench.specs import ClipSpec, InputSpec

Pixels = npt.NDArray[np.uint8]
Wanted = npt.NDArray[np.int64]
"""Frames of each clip, by place in presentation order: (N, T)."""

INPUT = InputSpec(pixels=224, crop_ratio=0.875)
"""The picture that every reader gives: short side 256, centre crop of 224."""
SHORT_SIDE = 256
WORKLOADS = ("W1", "W2", "W3")
CLIPS = {
    "W1": (ClipSpec(frames=32, stride=2), 1),
    "W2": (ClipSpec(frames=8, stride=8), 10),
    "W3": (ClipSpec(frames=1, stride=1), 16),
}
"""Workload -> clip and number of clips; the 16 frames of W3 are clips of one, in tsn's words."""
SAMPLERS = {"W1": "mmaction2@1", "W2": "mmaction2@1", "W3": "tsn@1"}
"""What samples them: W1 the middle of a window that is just as long as the clip."""


class Packets(NamedTuple):
    """A video's packets, nothing decoded."""

    times: tuple[int, ...]
    """Time stamps in presentation order."""
    decoding_order: tuple[int, ...]
    """The same in the order of the file."""
    keyframes: tuple[int, ...]
    """Places of keyframes in presentation order."""
    time_base: Fraction
    rate: Fraction
    width: int
    height: int

    @property
    def num_frames(self) -> int:
        """Frames n."""
        return len(self.times)


@functools.cache
def packets_of(path: Path) -> Packets:
    """Read a file's packets. The peers are given these facts for nothing, outside their time."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [
            (packet.pts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
        assert stream.time_base is not None
        assert stream.average_rate is not None
        times = sorted(pts for pts, _ in found)
        places = {pts: place for place, pts in enumerate(times)}
        return Packets(
            times=tuple(times),
            decoding_order=tuple(pts for pts, _ in found),
            keyframes=tuple(sorted(places[pts] for pts, is_keyframe in found if is_keyframe)),
            time_base=Fraction(stream.time_base),
            rate=Fraction(stream.average_rate),
            width=stream.codec_context.width,
            height=stream.codec_context.height,
        )


def wanted_frames(workload: str, path: Path, repeat: int) -> Wanted:
    """Give the frames of a workload, W1 at a place drawn anew for each video and repeat: (N, T)."""
    num_frames = packets_of(path).num_frames
    if workload == "W1":
        start = random.Random(f"{path.name} {repeat}").randint(0, max(0, num_frames - 63))
        return np.minimum(start + 2 * np.arange(32)[None], num_frames - 1)
    clip, num_clips = CLIPS[workload]
    frames = sample_clips(
        SAMPLERS[workload], num_frames=num_frames, clip=clip, num_clips=num_clips, fps=30
    )
    return frames.reshape(1, 16) if workload == "W3" else frames


def packets_needed(packets: Packets, wanted: Wanted) -> int:
    """Count the packets that must be decoded for the wanted frames."""
    place = {pts: number for number, pts in enumerate(packets.decoding_order)}
    last_of: dict[int, int] = {}
    for frame in np.unique(wanted).tolist():
        keyframe = packets.keyframes[bisect_right(packets.keyframes, frame) - 1]
        last_of[keyframe] = max(last_of.get(keyframe, 0), place[packets.times[frame]])
    return sum(last - place[packets.times[keyframe]] + 1 for keyframe, last in last_of.items())


def decoding_milliseconds(path: Path, *, rounds: int = 3) -> float:
    """Measure ffmpeg's CPU milliseconds a frame on one thread, nothing written.

    Raises:
        FileNotFoundError: There is no ffmpeg.
    """
    passes = 5
    differences = [_ffmpeg_seconds(path, passes) - _ffmpeg_seconds(path, 1) for _ in range(rounds)]
    num_frames = (passes - 1) * packets_of(path).num_frames
    return 1000 * statistics.median(differences) / num_frames


def reference_frames(path: Path, *, ffmpeg: bool) -> Pixels:
    """Decode a whole video into what every reader should give of it: (n, 224, 225, 3).

    One column more than the crop: where the margin is odd, libraries put the crop on either side of
    the middle (torchvision's CenterCrop, and ours, rounds; others cut), which is no other frame.

    Args:
        path: The video.
        ffmpeg: Whether ffmpeg's own program decodes and scales, or PyAV, frame after frame.
    """
    width, height, left, top = geometry(path)
    if not ffmpeg:
        with av.open(str(path)) as container:
            return np.stack(
                [
                    frame.to_ndarray(
                        format="rgb24", width=width, height=height, interpolation="BILINEAR"
                    )[top : top + INPUT.pixels, left : left + INPUT.pixels + 1]
                    for frame in container.decode(video=0)
                ]
            )
    side = INPUT.pixels
    scaled = f"scale={width}:{height}:flags=bilinear,format=rgb24"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:v:0"]
    command += ["-vsync", "passthrough", "-vf", f"{scaled},crop={side + 1}:{side}:{left}:{top}"]
    command += ["-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, side, side + 1, 3)


def geometry(path: Path) -> tuple[int, int, int, int]:
    """Give width and height with a short side of 256, then left and top of the centre crop."""
    width, height = packets_of(path).width, packets_of(path).height
    if width < height:
        width, height = SHORT_SIDE, round(height * SHORT_SIDE / width)
    else:
        width, height = round(width * SHORT_SIDE / height), SHORT_SIDE
    return width, height, (width - INPUT.pixels) // 2, (height - INPUT.pixels) // 2


def signal_to_noise(one: Pixels, other: Pixels) -> float:
    """Give the PSNR of two pictures in decibels, every second pixel; 99 where these are equal."""
    difference = one[::2, ::2].astype(np.float32) - other[::2, ::2]
    error = float(np.mean(difference**2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def children_seconds() -> float:
    """Give the CPU seconds, user and system, of all processes that ended as children of this."""
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _ffmpeg_seconds(path: Path, passes: int) -> float:
    command: Sequence[str] = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
    command = [*command, "-stream_loop", str(passes - 1), "-i", str(path), "-map", "0:v:0"]
    before = children_seconds()
    subprocess.run([*command, "-f", "null", "-"], check=True)
    return children_seconds() - before

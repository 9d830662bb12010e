"""Named, versioned clip samplers: from the number of frames of a video to the frames of its clips.

A name stands for one definition for ever: `psf@1` gives today's frames in ten years. A bare name is
the newest version. All definitions are deterministic, use no global state, and are exact: what the
sources compute in float32 and truncate is computed here in whole numbers, since a float32
`linspace` that should hit a whole number lands below or above it depending on the processor's
vector width. Random clips for training are those of `rsbench.media.random_sampling`.

Sources (MG tensorflow/models official/vision, MMA2 open-mmlab/mmaction2, PSF
facebookresearch/SlowFast, PTV the main branch of facebookresearch/pytorchvideo, whose release 0.1.5
divides by N where main divides by N-1):

| name         | source                                                      | short video      |
| ------------ | ----------------------------------------------------------- | ---------------- |
| mmaction2    | MMA2 mmaction/datasets/transforms/loading.py `SampleFrames` | loops            |
| model_garden | MG ops/preprocess_ops_3d.py `sample_linspace_sequence`      | loops            |
| psf          | PSF slowfast/datasets/decoder.py `get_start_end_idx`        | repeats the last |
| psf_offset   | the same with `use_offset`                                  | repeats the last |
| ptv          | PTV data/clip_sampling.py `ConstantClipsPerVideoSampler`    | stretches        |
| ssv2         | PSF slowfast/datasets/ssv2.py `get_seq_frames`              | repeats frames   |
| tsn          | MMA2 `SampleFrames` with clip_len 1                         | repeats frames   |
| linspace     | first to last frame in equal steps, truncated               | repeats frames   |
| uniform      | MTEB: every (n // T)-th frame from 0, never the tail        | repeats the last |

What a video shorter than the clip's span gives, n = 5, T = 8, tau = 1: "loops" begins again with
frame 0 (0 1 2 3 4 0 1 2); "repeats the last" stands still (0 1 2 3 4 4 4 4); "stretches" spreads
what there is (0 0 1 1 2 2 3 4); "repeats frames" says that the definition knows no span and simply
names frames more than once. Frames of a clip never go backwards but where a clip loops, and there
they do so only from the end of the video to its beginning; and, by less than a frame, in clips of
psf whose whole span is shorter than one frame (T tau = 1 below 30 a second).

Letters: n frames in the video, T frames a clip, N clips, tau stride, s span of a clip in frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rsbench.errors import RsbenchError
from rsbench.media.naming import resolve_version
from rsbench.specs import ClipSpec

Indices = npt.NDArray[np.int64]
"""Frame indices (N, T) in presentation order, each in [0, n)."""

Choose = Callable[[int, float], Indices]
"""(number of frames n, frames per second) -> frame indices (N, T)."""

Sampler = Callable[[int, ClipSpec, int, float], Indices]
"""(number of frames, clip, number of clips, frames per second) -> indices (N, T)."""

TARGET_FPS = 30
"""Rate at which PSF and PTV count a clip's seconds (PSF defaults.py `TARGET_FPS`)."""


def sample_clips(
    sampler: str, *, num_frames: int, clip: ClipSpec, num_clips: int, fps: float
) -> Indices:
    """Give the frames of each clip of one video.

    Args:
        sampler: A name of `SAMPLERS`, or one without "@version" for its newest version.
        num_frames: Frames that really decode, at least 1.
        clip: Frames a clip and their stride.
        num_clips: Clips wanted, at least 1.
        fps: Frames per second of the video; only psf, psf_offset and ptv look at it.

    Returns:
        int64 (num_clips, clip.frames), every value in [0, num_frames).

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
        RsbenchError: A count below 1, a rate that is not positive, or a clip that this sampler
            can't cut (tsn takes single frames; ssv2, linspace and uniform cut one clip a video).
    """
    name = resolve_sampler(sampler)
    check_counts(name, num_frames=num_frames, clip=clip, num_clips=num_clips, fps=fps)
    return SAMPLERS[name](num_frames, clip, num_clips, fps)


def chooser(sampler: str, *, clip: ClipSpec, num_clips: int) -> Choose:
    """Give the rule by which a sampler cuts clips, from how many frames there are and their rate.

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
    """
    name = resolve_sampler(sampler)

    def choose(num_frames: int, fps: float) -> Indices:
        return sample_clips(name, num_frames=num_frames, clip=clip, num_clips=num_clips, fps=fps)

    return choose


def resolve_sampler(sampler: str) -> str:
    """Give the full name, with version, of a sampler named with or without it.

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
    """
    return resolve_version(sampler, SAMPLERS, kind="sampler")


def check_counts(
    sampler: str, *, num_frames: int, clip: ClipSpec, num_clips: int, fps: float
) -> None:
    """Hold what a sampler is asked to what every sampler can do.

    Raises:
        RsbenchError: A count below 1, or a rate that is not positive.
    """
    counts = {
        "num_frames": num_frames,
        "clip.frames": clip.frames,
        "clip.stride": clip.stride,
        "num_clips": num_clips,
    }
    for what, value in counts.items():
        if value < 1:
            raise RsbenchError(f"sampler {sampler}: {what} must be at least 1, was {value}")
    if not (math.isfinite(fps) and fps > 0):
        raise RsbenchError(f"sampler {sampler}: fps must be finite and above 0, was {fps}")


def _mmaction2(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut round(i (n-s)/(N-1)) + tau k, s = (T-1) tau + 1; out of bound loops.

    One clip starts at (n-s) // 2. The rounding is numpy's, half to even, as in the source. The
    rule is the same for T = 1, where the source itself goes over to what is called tsn here.
    """
    span = (clip.frames - 1) * clip.stride + 1
    room = max(num_frames - span, 0)
    if num_clips == 1:
        starts = np.array([room // 2], dtype=np.int64)
    else:
        starts = np.round(np.arange(num_clips) * (room / (num_clips - 1))).astype(np.int64)
    return looped(starts, clip, num_frames)


def _model_garden(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut floor(i (n - T tau)/(N-1)) + tau k; out of bound loops.

    One clip starts at (n - T tau) // 2: the source then leaves its linspace for `sample_sequence`
    (dataloaders/video_input.py `process_image`). The span T tau counts the stride after the last
    frame too, so that the last tau - 1 frames are never seen.
    """
    room = max(num_frames - clip.frames * clip.stride, 0)
    if num_clips == 1:
        starts = [room // 2]
    else:
        starts = [room * i // (num_clips - 1) for i in range(num_clips)]
    return looped(starts, clip, num_frames)


def _psf(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut linspace(start, start + s - 1, T) from start = (n-s) i/N, s = T tau fps/30; clamps.

    The last clip ends before the video does, whatever N.

    This is the branch of PSF's decoder that decodes the whole video (its `decode_all_video`). For a
    file whose header has a duration, its `pyav_decode` keeps frames from pts int(start timebase) on
    and cuts the clip from the first of them: where start is no whole number, all begins with the
    next frame (213 for 212.4), and rates that are not TARGET_FPS may differ by a frame elsewhere.
    """
    span = span_at_target_rate(clip, fps)
    room = max(num_frames - span, Fraction(0))
    starts = [room * i / num_clips for i in range(num_clips)]
    return _stack([linspace(s, s + span - 1, clip.frames, num_frames) for s in starts])


def _psf_offset(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut like psf from start = i floor((n-s)/(N-1)), one clip from floor((n-s)/2); clamps."""
    span = span_at_target_rate(clip, fps)
    room = max(num_frames - span, Fraction(0))
    if num_clips == 1:
        starts = [math.floor(room / 2)]
    else:
        starts = [i * math.floor(room / (num_clips - 1)) for i in range(num_clips)]
    return _stack([linspace(Fraction(s), s + span - 1, clip.frames, num_frames) for s in starts])


def _ptv(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Spread T frames over the m frames whose time lies in [start, start + clip) seconds.

    start = i (duration - clip)/max(N-1, 1), so a single clip starts at 0; clip = T tau/30 seconds;
    frame k is shown at k/fps. A clip longer than the video is spread over what there is. Where the
    window is too short to hold a frame, the frame that follows its start stands for it.
    """
    span = span_at_target_rate(clip, fps)
    step = max(num_frames - span, Fraction(0)) / max(num_clips - 1, 1)
    rows = []
    for i in range(num_clips):
        first = min(math.ceil(step * i), num_frames - 1)
        end = min(math.ceil(step * i + span), num_frames)
        num_inside = max(end - first, 1)
        rows.append(first + linspace(Fraction(0), Fraction(num_inside - 1), clip.frames, end))
    return _stack(rows)


def _ssv2(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take the middle of each of T segments of (n-1)/T frames; stride and rate play no part."""
    _require_one_clip("ssv2@1", num_clips)
    edges = ssv2_edges(num_frames, clip)
    return _stack([(edges[:-1] + edges[1:]) // 2])


def _tsn(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take frame floor(i n/N + n/(2N)) as clip i: the middles of N equal segments."""
    if clip.frames != 1:
        raise RsbenchError(
            f"sampler tsn@1: a clip must be 1 frame, was {clip.frames}; "
            "ask for clips instead of frames, or take uniform, linspace or ssv2"
        )
    middles = [(2 * i + 1) * num_frames // (2 * num_clips) for i in range(num_clips)]
    return np.array(middles, dtype=np.int64)[:, None]


def _linspace_clip(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take floor(k (n-1)/(T-1)): first and last frame included; T = 1 is frame 0."""
    _require_one_clip("linspace@1", num_clips)
    return _stack([linspace(Fraction(0), Fraction(num_frames - 1), clip.frames, num_frames)])


def _uniform(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take frame k max(n // T, 1): the tail of the video is left out; clamps."""
    _require_one_clip("uniform@1", num_clips)
    step = max(num_frames // clip.frames, 1)
    return _stack([np.minimum(np.arange(clip.frames, dtype=np.int64) * step, num_frames - 1)])


# ---------------------------------------------------------------------- what definitions share


def looped(starts: Sequence[int] | Indices, clip: ClipSpec, num_frames: int) -> Indices:
    """Take every tau-th frame from each start, going on with frame 0 after the last: (N, T)."""
    within = np.arange(clip.frames, dtype=np.int64) * clip.stride
    indices: Indices = (np.asarray(starts, dtype=np.int64)[:, None] + within[None, :]) % num_frames
    return indices


def linspace(start: Fraction, end: Fraction, num_points: int, num_frames: int) -> Indices:
    """Give T equally spaced points from start to end, truncated, then clamped to [0, n-1]: (T,)."""
    # Whole numbers over one denominator: a `Fraction` a point takes thirty times as long.
    gaps = max(num_points - 1, 1)
    under = start.denominator * end.denominator * gaps
    first = start.numerator * end.denominator
    step = end.numerator * start.denominator - first if num_points > 1 else 0
    points = ((first * gaps + step * k) // under for k in range(num_points))
    return np.fromiter(
        (min(max(point, 0), num_frames - 1) for point in points), dtype=np.int64, count=num_points
    )


def span_at_target_rate(clip: ClipSpec, fps: float) -> Fraction:
    """Give the span of T tau frames at 30 a second, in frames of this video."""
    return clip.frames * clip.stride * Fraction(fps) / TARGET_FPS


def ssv2_edges(num_frames: int, clip: ClipSpec) -> Indices:
    """Give where PSF's T segments begin and end: round(k (n-1)/T), half to even, (T + 1,)."""
    segment = float(num_frames - 1) / clip.frames
    return np.round(segment * np.arange(clip.frames + 1)).astype(np.int64)


def _stack(rows: list[Indices]) -> Indices:
    return np.stack(rows).astype(np.int64)


def _require_one_clip(name: str, num_clips: int) -> None:
    if num_clips != 1:
        raise RsbenchError(
            f"sampler {name}: spreads one clip over the whole video, so clips must be 1, "
            f"was {num_clips}; take mmaction2, psf or ptv for several clips"
        )


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "linspace@1": _linspace_clip,
        "mmaction2@1": _mmaction2,
        "model_garden@1": _model_garden,
        "psf@1": _psf,
        "psf_offset@1": _psf_offset,
        "ptv@1": _ptv,
        "ssv2@1": _ssv2,
        "tsn@1": _tsn,
        "uniform@1": _uniform,
    }
)
"""Every sampler by its name with version."""

"""Named, versioned clip samplers: from the number of frames of a video to the frames of its clips.

A name stands for one definition for ever: `psf@1` gives today's frames in ten years. A bare name is
the newest version. All definitions are deterministic, use no global state, and are exact: what the
sources compute in float32 and truncate is computed here in rationals, since a float32 `linspace`
that should hit a whole number lands below or above it depending on the processor's vector width.

Sources (MMA2 open-mmlab/mmaction2, PSF facebookresearch/SlowFast, PTV the main branch of
facebookresearch/pytorchvideo, whose release 0.1.5 divides by N where main divides by N-1):

| name       | source                                                       | short video      |
| ---------- | ------------------------------------------------------------ | ---------------- |
| mmaction2  | MMA2 mmaction/datasets/transforms/loading.py `SampleFrames`  | loops            |
| psf        | PSF slowfast/datasets/decoder.py `get_start_end_idx`         | repeats the last |
| psf_offset | the same with `use_offset`                                   | repeats the last |
| ptv        | PTV data/clip_sampling.py `ConstantClipsPerVideoSampler`     | stretches        |
| ssv2       | PSF slowfast/datasets/ssv2.py `get_seq_frames`               | repeats frames   |
| tsn        | MMA2 `SampleFrames` with clip_len 1                          | repeats frames   |
| linspace   | first to last frame in equal steps, truncated                | repeats frames   |
| uniform    | MTEB: every (n // T)-th frame from 0, never the tail         | repeats the last |

Letters: n frames in the video, T frames a clip, N clips, tau stride, s span of a clip in frames.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.specs import ClipSpec

Indices = npt.NDArray[np.int64]
"""Frame indices (N, T) in presentation order, each in [0, n)."""

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
    counts = {
        "num_frames": num_frames,
        "clip.frames": clip.frames,
        "clip.stride": clip.stride,
        "num_clips": num_clips,
    }
    for what, value in counts.items():
        if value < 1:
            raise RsbenchError(f"sampler {name}: {what} must be at least 1, was {value}")
    if not (math.isfinite(fps) and fps > 0):
        raise RsbenchError(f"sampler {name}: fps must be finite and above 0, was {fps}")
    return SAMPLERS[name](num_frames, clip, num_clips, fps)


def chooser(sampler: str, *, clip: ClipSpec, num_clips: int) -> Callable[[int, float], Indices]:
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
    if sampler in SAMPLERS:
        return sampler
    versions = [name for name in SAMPLERS if name.split("@")[0] == sampler]
    if versions:
        return max(versions, key=lambda name: int(name.split("@")[1]))
    near = difflib.get_close_matches(sampler, [*SAMPLERS, *(n.split("@")[0] for n in SAMPLERS)], 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"no sampler {sampler!r}. {hint}There are: {', '.join(SAMPLERS)}")


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
    within = np.arange(clip.frames, dtype=np.int64) * clip.stride
    indices: Indices = (starts[:, None] + within[None, :]) % num_frames
    return indices


def _psf(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut linspace(start, start + s - 1, T) from start = (n-s) i/N, s = T tau fps/30; clamps.

    The last clip ends before the video does, whatever N.
    """
    span = _span_at_target_rate(clip, fps)
    room = max(num_frames - span, Fraction(0))
    starts = [room * i / num_clips for i in range(num_clips)]
    return _stack([_linspace(s, s + span - 1, clip.frames, num_frames) for s in starts])


def _psf_offset(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Cut like psf from start = i floor((n-s)/(N-1)), one clip from floor((n-s)/2); clamps."""
    span = _span_at_target_rate(clip, fps)
    room = max(num_frames - span, Fraction(0))
    if num_clips == 1:
        starts = [math.floor(room / 2)]
    else:
        starts = [i * math.floor(room / (num_clips - 1)) for i in range(num_clips)]
    return _stack([_linspace(Fraction(s), s + span - 1, clip.frames, num_frames) for s in starts])


def _ptv(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Spread T frames over the m frames whose time lies in [start, start + clip) seconds.

    start = i (duration - clip)/max(N-1, 1), so a single clip starts at 0; clip = T tau/30 seconds;
    frame k is shown at k/fps. A clip longer than the video is spread over what there is. Where the
    window is too short to hold a frame, the frame that follows its start stands for it.
    """
    span = _span_at_target_rate(clip, fps)
    step = max(num_frames - span, Fraction(0)) / max(num_clips - 1, 1)
    rows = []
    for i in range(num_clips):
        first = min(math.ceil(step * i), num_frames - 1)
        end = min(math.ceil(step * i + span), num_frames)
        num_inside = max(end - first, 1)
        rows.append(first + _linspace(Fraction(0), Fraction(num_inside - 1), clip.frames, end))
    return _stack(rows)


def _ssv2(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take the middle of each of T segments of (n-1)/T frames; stride and rate play no part."""
    _require_one_clip("ssv2@1", num_clips)
    segment = float(num_frames - 1) / clip.frames
    edges = np.round(segment * np.arange(clip.frames + 1)).astype(np.int64)
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
    return _stack([_linspace(Fraction(0), Fraction(num_frames - 1), clip.frames, num_frames)])


def _uniform(num_frames: int, clip: ClipSpec, num_clips: int, fps: float) -> Indices:
    """Take frame k max(n // T, 1): the tail of the video is left out; clamps."""
    _require_one_clip("uniform@1", num_clips)
    step = max(num_frames // clip.frames, 1)
    return _stack([np.minimum(np.arange(clip.frames, dtype=np.int64) * step, num_frames - 1)])


def _span_at_target_rate(clip: ClipSpec, fps: float) -> Fraction:
    """Give the span of T tau frames at 30 a second, in frames of this video."""
    return clip.frames * clip.stride * Fraction(fps) / TARGET_FPS


def _linspace(start: Fraction, end: Fraction, num_points: int, num_frames: int) -> Indices:
    """Give T equally spaced points from start to end, clamped to [0, n-1], then truncated: (T,)."""
    step = (end - start) / (num_points - 1) if num_points > 1 else Fraction(0)
    points = (math.floor(start + step * k) for k in range(num_points))
    return np.clip(np.fromiter(points, dtype=np.int64, count=num_points), 0, num_frames - 1)


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
        "psf@1": _psf,
        "psf_offset@1": _psf_offset,
        "ptv@1": _ptv,
        "ssv2@1": _ssv2,
        "tsn@1": _tsn,
        "uniform@1": _uniform,
    }
)
"""Every sampler by its name with version."""

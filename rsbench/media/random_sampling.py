"""Named, versioned samplers of one random clip for training: a seed decides, and nothing else.

Each is the training side of a definition in `rsbench.media.sampling`, where the letters are
explained; a name stands for one definition for ever. The draws come from numpy's `SeedSequence`,
whose numbers are the same on every machine and in every version, so that a seed names the same
frames in ten years.

| name                | a start is equally likely to be                | short video  |
| ------------------- | ---------------------------------------------- | ------------ |
| dense_random        | whole, 0 to n - s, s = (T-1) tau + 1           | loops        |
| mmaction2_random    | whole, 0 to n - T tau                          | loops from 0 |
| model_garden_random | whole, 0 to n - (T-1) tau - 1                  | loops        |
| psf_random          | real, 0 to n - s, s = T tau fps/30             | clamps       |
| ssv2_random         | of each frame: anywhere in its segment         | repeats      |
| tsn_random          | of each frame: anywhere in its segment         | repeats      |

- dense_random is ours: every clip that fits (MMA2 leaves out the last tau - 1, MG does not); a
  video that is too short starts at 0.
- mmaction2_random: MMA2 `SampleFrames._get_train_clips` for one clip. Its span is T tau, and a
  video that is shorter starts at 0; frames out of bound loop.
- model_garden_random: MG `sample_sequence` with random. A video of at most (T-1) tau frames starts
  at any of its frames and loops; a longer one never does.
- psf_random: PSF `get_start_end_idx` with clip_idx -1, then its linspace, truncated and clamped to
  the last frame: a shorter video starts at 0 and ends standing still.
- ssv2_random: PSF ssv2.py `get_seq_frames` in training. Segment k runs from round(k (n-1)/T) to
  round((k+1) (n-1)/T), both ends included, so that a short video repeats frames, in order.
- tsn_random: MMA2 `SampleFrames._get_train_clips` for T clips of one frame. Segments hold n // T
  frames, and the n mod T last frames are never seen. Where n < T it is frame round(k n/T), half to
  even, not random; the last of these may be n, which loops to frame 0: the one place where its
  frames go backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from rsbench.media.naming import resolve_version
from rsbench.media.sampling import (
    Choose,
    Indices,
    check_counts,
    linspace,
    looped,
    span_at_target_rate,
    ssv2_edges,
)
from rsbench.specs import ClipSpec

RandomSampler = Callable[[int, ClipSpec, float, Sequence[int]], Indices]
"""(number of frames, clip, frames per second, a draw a frame) -> indices (T,). Draws are whole
numbers in [0, 2^32), all equally likely."""

_DRAWS = 2**32
"""How many values a draw has."""


def sample_random_clip(
    sampler: str, *, num_frames: int, clip: ClipSpec, fps: float, seed: int
) -> Indices:
    """Give the frames of one random clip of one video.

    Args:
        sampler: A name of `RANDOM_SAMPLERS`, or one without "@version" for its newest version.
        num_frames: Frames that really decode, at least 1.
        clip: Frames and their stride; ssv2_random and tsn_random do not look at the stride.
        fps: Frames per second of the video; only psf_random looks at it.
        seed: At least 0. The first of the words that follow from it is left to the crop, see
            `rsbench.data.loaders`.

    Returns:
        int64 (1, clip.frames), every value in [0, num_frames).

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
        RsbenchError: A count below 1, or a rate that is not positive.
    """
    name = resolve_random_sampler(sampler)
    check_counts(name, num_frames=num_frames, clip=clip, num_clips=1, fps=fps)
    draws = np.random.SeedSequence(seed).generate_state(1 + clip.frames)[1:].tolist()
    return RANDOM_SAMPLERS[name](num_frames, clip, fps, draws)[None]


def random_chooser(sampler: str, *, clip: ClipSpec, seed: int) -> Choose:
    """Give the rule by which a random clip is cut, from how many frames there are and their rate.

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
    """
    name = resolve_random_sampler(sampler)

    def choose(num_frames: int, fps: float) -> Indices:
        return sample_random_clip(name, num_frames=num_frames, clip=clip, fps=fps, seed=seed)

    return choose


def resolve_random_sampler(sampler: str) -> str:
    """Give the full name, with version, of a random sampler named with or without it.

    Raises:
        UnknownNameError: No such sampler; the nearest is named.
    """
    return resolve_version(sampler, RANDOM_SAMPLERS, kind="random sampler")


def _dense(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Cut a clip from any start at which it fits; out of bound loops."""
    span = (clip.frames - 1) * clip.stride + 1
    start = _below(max(num_frames - span, 0) + 1, draws[0])
    return looped([start], clip, num_frames).ravel()


def _mmaction2(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Cut from a whole start in [0, n - T tau], from 0 where there is none; out of bound loops."""
    start = _below(max(num_frames - clip.frames * clip.stride + 1, 1), draws[0])
    return looped([start], clip, num_frames).ravel()


def _model_garden(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Cut from a whole start in [0, n - (T-1) tau), from any where that is empty; loops."""
    num_starts = num_frames - (clip.frames - 1) * clip.stride
    start = _below(num_starts if num_starts > 0 else num_frames, draws[0])
    return looped([start], clip, num_frames).ravel()


def _psf(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Cut linspace(start, start + s - 1, T) from a real start in [0, n - s); clamps."""
    span = span_at_target_rate(clip, fps)
    start = max(num_frames - span, Fraction(0)) * Fraction(draws[0], _DRAWS)
    return linspace(start, start + span - 1, clip.frames, num_frames)


def _ssv2(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Take any frame of each of T segments of (n-1)/T frames, both ends included."""
    edges = ssv2_edges(num_frames, clip)
    sizes = (np.diff(edges) + 1).tolist()
    within = [_below(size, draw) for size, draw in zip(sizes, draws, strict=True)]
    return edges[:-1] + np.array(within, dtype=np.int64)


def _tsn(num_frames: int, clip: ClipSpec, fps: float, draws: Sequence[int]) -> Indices:
    """Take any frame of each of T segments of n // T frames."""
    size = num_frames // clip.frames
    if size == 0:
        shares = np.arange(clip.frames) * (num_frames / clip.frames)
        return np.around(shares).astype(np.int64) % num_frames
    within = np.array([_below(size, draw) for draw in draws], dtype=np.int64)
    return np.arange(clip.frames, dtype=np.int64) * size + within


def _below(count: int, draw: int) -> int:
    """Give a whole number in [0, count), all as likely as 2^32 values let them be."""
    return count * draw // _DRAWS


RANDOM_SAMPLERS: Mapping[str, RandomSampler] = MappingProxyType(
    {
        "dense_random@1": _dense,
        "mmaction2_random@1": _mmaction2,
        "model_garden_random@1": _model_garden,
        "psf_random@1": _psf,
        "ssv2_random@1": _ssv2,
        "tsn_random@1": _tsn,
    }
)
"""Every random sampler by its name with version."""

"""Random training clips: which starts a draw may give, by the sources' own formulas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import video_reading

from rsbench.data.loaders import read_training_item
from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.media.augment import Augmentation
from rsbench.media.random_sampling import (
    RANDOM_SAMPLERS,
    random_chooser,
    resolve_random_sampler,
    sample_random_clip,
)
from rsbench.specs import ClipSpec, Item

DRAWS = 2**32
LOOPING = ("dense_random@1", "mmaction2_random@1", "model_garden_random@1")
"""Samplers whose clips go round a video that is too short."""

Frames = npt.NDArray[np.int64]


def _drawn(
    sampler: str, draws: Sequence[int], *, n: int, frames: int, stride: int, fps: float = 30.0
) -> Frames:
    """Give the frames that a sampler makes of given draws, one a frame or one for all."""
    each = list(draws) if len(draws) == frames else [draws[0]] * frames
    return RANDOM_SAMPLERS[sampler](n, ClipSpec(frames=frames, stride=stride), fps, each)


def _starts(sampler: str, *, n: int, frames: int, stride: int) -> set[int]:
    """Give every first frame that some draw gives, from draws n times as fine as the frames are."""
    draws = range(0, DRAWS, DRAWS // (8 * n) + 1)
    return {
        int(_drawn(sampler, [draw], n=n, frames=frames, stride=stride)[0])
        for draw in [*draws, DRAWS - 1]
    }


# --- the sources


def test_a_dense_clip_starts_wherever_it_fits() -> None:
    # Span 5 in 7 frames: starts 0, 1, 2.
    assert _starts("dense_random@1", n=7, frames=3, stride=2) == {0, 1, 2}
    assert _starts("dense_random@1", n=4, frames=3, stride=2) == {0}
    assert _drawn("dense_random@1", [0], n=4, frames=3, stride=2).tolist() == [0, 2, 0]


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 11, 30])
@pytest.mark.parametrize(("frames", "stride"), [(3, 2), (4, 1), (1, 3)])
def test_mmaction2_starts_where_its_training_does(n: int, frames: int, stride: int) -> None:
    # SampleFrames._get_train_clips, num_clips 1: randint(avg_interval) where that is positive,
    # else 0, for randint(num_frames - T tau + 1) of its second branch can't be reached.
    average = n - frames * stride + 1
    wanted = set(range(average)) if average > 0 else {0}

    assert _starts("mmaction2_random@1", n=n, frames=frames, stride=stride) == wanted
    clip = _drawn("mmaction2_random@1", [DRAWS - 1], n=n, frames=frames, stride=stride)
    offsets = max(wanted) + np.arange(frames) * stride
    assert clip.tolist() == np.mod(offsets, n).tolist()


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 11, 30])
@pytest.mark.parametrize(("frames", "stride"), [(3, 2), (4, 1), (1, 3)])
def test_model_garden_starts_where_its_training_does(n: int, frames: int, stride: int) -> None:
    # preprocess_ops_3d.py sample_sequence: uniform in [0, L - (T-1) tau), or [0, L) where the
    # video is no longer than that; the frames are tiled until the clip fits.
    before_last = (frames - 1) * stride
    limit = n - before_last if n > before_last else n

    assert _starts("model_garden_random@1", n=n, frames=frames, stride=stride) == set(range(limit))
    start = limit - 1
    tiled = np.tile(np.arange(n), (frames * stride + start + n - 1) // n)
    wanted = tiled[start : start + frames * stride : stride]
    clip = _drawn("model_garden_random@1", [DRAWS - 1], n=n, frames=frames, stride=stride)
    assert clip.tolist() == wanted.tolist()


@given(
    n=st.integers(1, 400),
    frames=st.integers(2, 40),
    stride=st.integers(1, 9),
    fps=st.sampled_from([10.0, 15.0, 25.0, 29.97, 30.0, 60.0]),
    draw=st.integers(0, DRAWS - 1),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_psf_equals_its_source_wherever_rounding_can_not_decide(
    n: int, frames: int, stride: int, fps: float, draw: int
) -> None:
    # PySlowFast decoder.py: get_start_end_idx with clip_idx -1, then temporal_sampling;
    # random.uniform(0, delta) is delta times a number in [0, 1).
    size = stride * frames / 30 * fps
    start = max(n - size, 0) * (draw / DRAWS)
    points = torch.linspace(start, start + size - 1, frames, dtype=torch.float64)
    reference = torch.clamp(points, 0, n - 1).long().numpy()

    ours = _drawn("psf_random@1", [draw], n=n, frames=frames, stride=stride, fps=fps)

    decided = (points - points.round()).abs().numpy() > 1e-6
    assert (ours == reference)[decided].all()
    assert np.abs(ours - reference).max() <= (0 if decided.all() else 1)


@given(n=st.integers(1, 600), frames=st.integers(1, 40), share=st.integers(0, 4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_ssv2_takes_any_frame_from_edge_to_edge_both_included(
    n: int, frames: int, share: int
) -> None:
    # PySlowFast ssv2.py: get_seq_frames in training, random.randint(start, end) with both ends.
    segment = float(n - 1) / frames
    starts = [int(np.round(segment * i)) for i in range(frames)]
    ends = [int(np.round(segment * (i + 1))) for i in range(frames)]
    draw = min(share * DRAWS // 4, DRAWS - 1)

    ours = _drawn("ssv2_random@1", [draw], n=n, frames=frames, stride=1)

    sizes = [end - start + 1 for start, end in zip(starts, ends, strict=True)]
    wanted = [
        start + math.floor(size * Fraction(draw, DRAWS))
        for start, size in zip(starts, sizes, strict=True)
    ]
    assert ours.tolist() == wanted
    assert share < 4 or ours.tolist() == ends


@given(n=st.integers(1, 600), frames=st.integers(1, 40), share=st.integers(0, 4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_tsn_takes_any_frame_of_each_segment(n: int, frames: int, share: int) -> None:
    # SampleFrames._get_train_clips, clip_len 1, T clips; randint(avg_interval, size=T) replaced by
    # one number for all, and `loop` at the end.
    draw = min(share * DRAWS // 4, DRAWS - 1)
    average = n // frames
    if average > 0:
        reference = np.arange(frames) * average + average * draw // DRAWS
    else:
        reference = np.around(np.arange(frames) * (n / frames))
    reference = np.mod(reference, n).astype(np.int64)

    assert (
        _drawn("tsn_random@1", [draw], n=n, frames=frames, stride=1).tolist() == reference.tolist()
    )


def test_each_segment_has_a_draw_of_its_own() -> None:
    low, high = 0, DRAWS - 1
    draws = [low, high, low, high]

    # Segments of 5 frames; and edges 0 5 10 14 19 of PySlowFast, since 3 * 4.75 = 14.25.
    assert _drawn("tsn_random@1", draws, n=20, frames=4, stride=1).tolist() == [0, 9, 10, 19]
    assert _drawn("ssv2_random@1", draws, n=20, frames=4, stride=1).tolist() == [0, 10, 10, 19]


def test_few_frames_for_many_segments_are_spread_and_the_last_may_loop() -> None:
    # round(k 2/8), half to even: 0 0 0 1 1 1 2 2, of which 2 is no frame and loops to 0.
    assert _drawn("tsn_random@1", [9], n=2, frames=8, stride=1).tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


# --- what holds for all


@pytest.mark.parametrize("sampler", sorted(RANDOM_SAMPLERS))
def test_every_start_is_as_likely_as_any_other(sampler: str) -> None:
    # 4,000 equally spaced draws: each first frame comes equally often, give or take one.
    draws = [k * DRAWS // 4000 for k in range(4000)]
    first = [int(_drawn(sampler, [draw], n=40, frames=4, stride=2)[0]) for draw in draws]
    counts = Counter(first)

    assert set(counts) == set(range(max(first) + 1))
    if sampler == "psf_random@1":
        # Real starts in [0, 32) truncate to each whole number equally often.
        assert set(counts) == set(range(32))
    assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize("sampler", sorted(RANDOM_SAMPLERS))
@pytest.mark.parametrize(("frames", "stride"), [(8, 8), (32, 2), (5, 3)])
def test_every_length_from_1_to_2000_gives_frames_that_are_there_and_in_order(
    sampler: str, frames: int, stride: int
) -> None:
    clip = ClipSpec(frames=frames, stride=stride)
    for n in range(1, 2001):
        row = sample_random_clip(sampler, num_frames=n, clip=clip, fps=29.97, seed=n)
        assert row.shape == (1, frames)
        assert row.min() >= 0
        assert row.max() < n
        steps = np.diff(row[0])
        if sampler in LOOPING:
            assert (steps % n == stride % n).all(), (n, row)
            assert n <= frames * stride or (steps == stride).all(), (n, row)
        elif sampler == "tsn_random@1" and n < frames:
            # The only step back is from the last frame to the first, once.
            assert set(steps[steps < 0].tolist()) <= {1 - n}
            assert (steps < 0).sum() <= 1
        else:
            assert (steps >= 0).all(), (n, row)


@pytest.mark.parametrize("sampler", sorted(RANDOM_SAMPLERS))
@given(
    n=st.integers(1, 2000),
    frames=st.integers(1, 64),
    stride=st.integers(1, 16),
    fps=st.floats(1e-3, 1e3, allow_nan=False),
    seed=st.integers(0, 2**64),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_seed_decides_and_frames_are_there(
    sampler: str, n: int, frames: int, stride: int, fps: float, seed: int
) -> None:
    clip = ClipSpec(frames=frames, stride=stride)
    first = sample_random_clip(sampler, num_frames=n, clip=clip, fps=fps, seed=seed)
    np.random.seed(0)
    second = random_chooser(sampler, clip=clip, seed=seed)(n, fps)

    assert first.shape == (1, frames)
    assert first.dtype == np.int64
    assert first.min() >= 0
    assert first.max() < n
    assert np.array_equal(first, second)


def test_a_seed_names_these_frames_for_ever() -> None:
    # Recorded with numpy 2.4 on x86-64; numpy promises SeedSequence's numbers for all versions.
    clip = ClipSpec(frames=3, stride=8)
    found = {
        name: sample_random_clip(name, num_frames=300, clip=clip, fps=25.0, seed=7)[0].tolist()
        for name in sorted(RANDOM_SAMPLERS)
    }

    assert found == {
        "dense_random@1": [260, 268, 276],
        "mmaction2_random@1": [254, 262, 270],
        "model_garden_random@1": [260, 268, 276],
        "psf_random@1": [256, 266, 275],
        "ssv2_random@1": [92, 197, 202],
        "tsn_random@1": [91, 197, 203],
    }


def test_dense_clips_are_those_of_the_first_finetuning_runs() -> None:
    # The rule before samplers had names: the second word that follows from the seed, as a share.
    clip = ClipSpec(frames=8, stride=8)
    for seed in range(200):
        position = np.random.SeedSequence(seed).generate_state(2).tolist()[1] / 2**32
        start = int(position * (300 - 57 + 1))
        wanted = [start + 8 * k for k in range(8)]
        found = sample_random_clip("dense_random@1", num_frames=300, clip=clip, fps=30.0, seed=seed)
        assert found.tolist() == [wanted]


def test_a_bare_name_is_the_newest_version_and_a_near_miss_is_named() -> None:
    assert resolve_random_sampler("tsn_random") == "tsn_random@1"
    with pytest.raises(UnknownNameError, match=r"no random sampler 'dense_randm'\. Did you mean"):
        resolve_random_sampler("dense_randm")
    # A sampler of tests is none of training clips.
    with pytest.raises(UnknownNameError, match="There are: dense_random@1"):
        resolve_random_sampler("mmaction2")


@pytest.mark.parametrize(
    "wrong", [{"num_frames": 0}, {"fps": 0.0}, {"clip": ClipSpec(frames=0, stride=1)}]
)
def test_a_count_below_one_is_refused(wrong: dict[str, object]) -> None:
    asked = {"num_frames": 9, "fps": 30.0, "clip": ClipSpec(frames=2, stride=1), **wrong}
    with pytest.raises(RsbenchError, match="must be"):
        sample_random_clip("dense_random", seed=0, **asked)  # type: ignore[arg-type]


# --- what training is shown


@pytest.mark.parametrize("sampler", ["dense_random@1", "ssv2_random@1", "tsn_random"])
def test_a_training_view_shows_the_frames_of_its_sampler(sampler: str) -> None:
    frames = np.zeros((60, 12, 16, 3), dtype=np.uint8)
    frames += np.arange(0, 240, 4, dtype=np.uint8)[:, None, None, None]
    item = Item(id="a", source=frames)
    clip = ClipSpec(frames=6, stride=2)
    reading = replace(video_reading(), clip=clip)

    for seed in range(20):
        view_CTHW = read_training_item(
            item, reading, Augmentation(clip_sampler=sampler), seed=seed
        ).views
        wanted = sample_random_clip(sampler, num_frames=60, clip=clip, fps=30.0, seed=seed)
        assert (view_CTHW[0, :, 0, 0] // 4).tolist() == wanted[0].tolist()


def test_the_crop_of_a_training_view_does_not_depend_on_the_frames_that_are_drawn() -> None:
    # A still picture as a video: whatever clip is cut, the seed's crop is the same.
    picture = np.random.default_rng(0).integers(0, 256, (1, 12, 16, 3), dtype=np.uint8)
    item = Item(id="a", source=np.repeat(picture, 40, axis=0))

    views = [
        read_training_item(item, video_reading(), Augmentation(clip_sampler=name), seed=3).views
        for name in RANDOM_SAMPLERS
    ]

    assert all(torch.equal(view, views[0]) for view in views)

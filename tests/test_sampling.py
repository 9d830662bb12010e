"""Golden vectors as measured from the sources, and the sources' own formulas beside ours."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsbench.errors import RsbenchError, UnknownNameError
from rsbench.media.sampling import SAMPLERS, resolve_sampler, sample_clips
from rsbench.specs import ClipSpec

ONE_CLIP = ("ssv2@1", "linspace@1", "uniform@1")
"""Samplers that spread a single clip over the whole video."""


def _sample(sampler, *, n=300, frames=8, stride=8, clips=10, fps=30.0):
    clip = ClipSpec(frames=frames, stride=stride)
    return sample_clips(sampler, num_frames=n, clip=clip, num_clips=clips, fps=fps)


# --- golden vectors: n = 300, 30 frames per second, T = 8, tau = 8, N = 10; measured by running
# PySlowFast, PyTorchVideo and mmaction2 themselves.


def test_psf_gives_the_golden_frames():
    clips = _sample("psf@1")

    starts = [0, 23.6, 47.2, 70.8, 94.4, 118.0, 141.6, 165.2, 188.8, 212.4]
    assert clips[:, 0].tolist() == [int(start) for start in starts]
    assert clips[0].tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    assert clips[-1].tolist() == [212, 221, 230, 239, 248, 257, 266, 275]
    assert clips.max() == 275


def test_psf_offset_gives_the_golden_frames():
    clips = _sample("psf_offset@1")

    assert clips[:, 0].tolist() == [26 * i for i in range(10)]
    assert clips[-1].tolist() == [234, 243, 252, 261, 270, 279, 288, 297]


def test_mmaction2_gives_the_golden_frames():
    clips = _sample("mmaction2@1")

    assert clips[:, 0].tolist() == [27 * i for i in range(10)]
    assert clips[0].tolist() == [0, 8, 16, 24, 32, 40, 48, 56]
    assert clips[-1].tolist() == [243, 251, 259, 267, 275, 283, 291, 299]


def test_ptv_gives_the_golden_frames():
    clips = _sample("ptv@1")

    starts = [0, 26.22, 52.44, 78.67, 104.89, 131.11, 157.33, 183.56, 209.78, 236]
    # The frames whose time lies in [start, end) begin with the next whole frame.
    assert clips[:, 0].tolist() == [int(np.ceil(start)) for start in starts]
    for clip in clips:
        assert (clip - clip[0]).tolist() == [0, 9, 18, 27, 36, 45, 54, 63]


def test_ssv2_gives_the_golden_frames():
    assert _sample("ssv2@1", clips=1).tolist() == [[18, 56, 93, 131, 168, 205, 243, 280]]


def test_tsn_gives_the_golden_frames():
    clips = _sample("tsn@1", frames=1, stride=1, clips=25)

    assert clips.shape == (25, 1)
    assert clips[:, 0].tolist() == list(range(6, 295, 12))


def test_model_garden_gives_the_frames_of_its_source():
    # sample_linspace_sequence of tensorflow/models by hand: offsets linspace(0, 300 - 8 * 8, 10).
    clips = _sample("model_garden@1")

    offsets = [0, 26.2, 52.4, 78.7, 104.9, 131.1, 157.3, 183.6, 209.8, 236]
    assert clips[:, 0].tolist() == [int(offset) for offset in offsets]
    assert clips[0].tolist() == [0, 8, 16, 24, 32, 40, 48, 56]
    assert clips[-1].tolist() == [236, 244, 252, 260, 268, 276, 284, 292]


def test_linspace_gives_the_golden_frames():
    expected = [0, 19, 39, 59, 79, 99, 119, 139, 159, 179, 199, 219, 239, 259, 279, 299]
    assert _sample("linspace@1", frames=16, clips=1).tolist() == [expected]


def test_uniform_gives_the_golden_frames():
    assert _sample("uniform@1", frames=16, clips=1).tolist() == [list(range(0, 271, 18))]
    assert _sample("uniform@1", n=31, frames=16, clips=1).tolist() == [list(range(16))]


# --- hand calculations


def test_a_single_clip_starts_where_its_definition_says():
    # n = 300, s = 57 or 64: (300 - 57) // 2 = 121; psf 0; floor((300 - 64) / 2) = 118; ptv 0.
    starts = {name: _sample(name, clips=1)[0, 0] for name in ("mmaction2", "psf", "ptv")}
    starts["psf_offset"] = _sample("psf_offset", clips=1)[0, 0]
    # One clip of Model Garden is sample_sequence's: (300 - 64) // 2, and (303 - 64) // 2.
    starts["model_garden"] = _sample("model_garden", clips=1)[0, 0]

    assert starts == {
        **{"mmaction2": 121, "psf": 0, "ptv": 0, "psf_offset": 118},
        "model_garden": 118,
    }
    assert _sample("model_garden", n=303, clips=1)[0, 0] == 119


def test_one_frame_of_mmaction2_is_the_middle():
    assert _sample("mmaction2", n=300, frames=1, stride=1, clips=1).tolist() == [[149]]
    assert _sample("mmaction2", n=5, frames=1, stride=7, clips=1).tolist() == [[2]]


def test_short_videos_follow_each_definitions_own_rule():
    # n = 5, T = 8, tau = 1.
    def short(name):
        return _sample(name, n=5, frames=8, stride=1, clips=1)[0].tolist()

    assert short("mmaction2") == [0, 1, 2, 3, 4, 0, 1, 2]
    assert short("model_garden") == [0, 1, 2, 3, 4, 0, 1, 2]
    # Edges round(k / 2), half to even: 0 0 1 2 2 2 3 4 4.
    assert short("ssv2") == [0, 0, 1, 2, 2, 2, 3, 4]
    assert short("psf") == [0, 1, 2, 3, 4, 4, 4, 4]
    assert short("psf_offset") == [0, 1, 2, 3, 4, 4, 4, 4]
    assert short("ptv") == [0, 0, 1, 1, 2, 2, 3, 4]
    assert short("uniform") == [0, 1, 2, 3, 4, 4, 4, 4]
    assert short("linspace") == [0, 0, 1, 1, 2, 2, 3, 4]


def test_seconds_based_samplers_span_fewer_frames_of_a_slower_video():
    # 15 frames a second: s = 8 * 8 * 15 / 30 = 32 frames.
    assert _sample("psf", clips=1, fps=15.0)[0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert _sample("ptv", clips=1, fps=15.0)[0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    assert (
        _sample("mmaction2", clips=1, fps=15.0).tolist() == _sample("mmaction2", clips=1).tolist()
    )


# --- the sources' formulas


def _psf_reference(n, frames, stride, clips, fps, index, use_offset):
    """PySlowFast slowfast/datasets/decoder.py: get_start_end_idx, then temporal_sampling."""
    size = stride * frames / 30 * fps
    delta = max(n - size, 0)
    if not use_offset:
        start = delta * index / clips
    elif clips == 1:
        start = np.floor(delta / 2 + 1e-9)
    else:
        # The span is a rounding error off where it should be whole; the floor must not see it.
        start = index * np.floor(delta / (clips - 1) + 1e-9)
    points = torch.linspace(float(start), float(start + size - 1), frames, dtype=torch.float64)
    return points, torch.clamp(points, 0, n - 1).long()


@pytest.mark.parametrize("use_offset", [False, True])
@given(
    n=st.integers(1, 600),
    frames=st.integers(2, 40),
    stride=st.integers(1, 9),
    clips=st.integers(1, 12),
    fps=st.sampled_from([10.0, 15.0, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0]),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_psf_equals_its_source_wherever_rounding_can_not_decide(
    use_offset, n, frames, stride, clips, fps
):
    name = "psf_offset" if use_offset else "psf"
    ours = _sample(name, n=n, frames=frames, stride=stride, clips=clips, fps=fps)

    for index in range(clips):
        points, reference = _psf_reference(n, frames, stride, clips, fps, index, use_offset)
        # A point that should be whole comes out a rounding error above or below it.
        decided = (points - points.round()).abs().numpy() > 1e-6
        assert (ours[index] == reference.numpy())[decided].all()
        assert np.abs(ours[index] - reference.numpy()).max() <= (0 if decided.all() else 1)


@given(
    n=st.integers(1, 600),
    frames=st.integers(1, 40),
    stride=st.integers(1, 9),
    clips=st.integers(1, 12),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_mmaction2_equals_its_source(n, frames, stride, clips):
    # mmaction2 loading.py: SampleFrames._get_test_clips (3D branch), then `loop`.
    span = (frames - 1) * stride + 1
    max_offset = max(n - span, 0)
    if clips > 1:
        offset_between = max_offset / float(clips - 1)
        offsets = np.round(np.arange(clips) * offset_between)
    else:
        offsets = np.array([max_offset // 2])
    reference = np.mod(offsets[:, None] + np.arange(frames)[None, :] * stride, n).astype(np.int32)

    ours = _sample("mmaction2", n=n, frames=frames, stride=stride, clips=clips)

    assert ours.tolist() == reference.tolist()


@given(
    n=st.integers(1, 600),
    frames=st.integers(1, 40),
    stride=st.integers(1, 9),
    clips=st.integers(1, 12),
    fps=st.sampled_from([15, 24, 25, 30, 50, 60]),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_ptv_takes_the_frames_that_lie_in_the_clips_seconds(n, frames, stride, clips, fps):
    # PyTorchVideo main: ConstantClipsPerVideoSampler, EncodedVideo.get_clip (start <= time < end),
    # UniformTemporalSubsample; times in whole units of 1/(fps * 30 * (N-1)) s, so exact.
    unit = fps * 30 * max(clips - 1, 1)
    length = frames * stride * unit // 30
    duration = n * unit // fps
    last_start = max(duration - length, 0)
    ours = _sample("ptv", n=n, frames=frames, stride=stride, clips=clips, fps=float(fps))

    for index in range(clips):
        start = last_start * index // max(clips - 1, 1)
        inside = [k for k in range(n) if start <= k * unit // fps < start + length]
        if not inside:
            continue
        points = [(len(inside) - 1) * k // max(frames - 1, 1) for k in range(frames)]
        assert ours[index].tolist() == [inside[point] for point in points]


@given(n=st.integers(1, 600), frames=st.integers(1, 64))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_ssv2_equals_its_source(n, frames):
    # PySlowFast ssv2.py: get_seq_frames in test mode.
    segment = float(n - 1) / frames
    reference = [
        (int(np.round(segment * i)) + int(np.round(segment * (i + 1)))) // 2 for i in range(frames)
    ]

    assert _sample("ssv2", n=n, frames=frames, clips=1).tolist() == [reference]


def _model_garden_reference(n, frames, stride, clips):
    """Re-derive preprocess_ops_3d.py: offsets in real numbers, and the frames from given starts."""
    room = max(0, n - frames * stride)
    if clips > 1:
        offsets = np.linspace(0.0, room, clips)
    else:
        offsets = np.array([float(max(0, (n - frames * stride) // 2))])

    def gathered(start):
        # _sample_or_pad_sequence_indices: the frames tiled until the clip fits, then every tau-th.
        num_repeats = (frames * stride + start + n - 1) // n
        return np.tile(np.arange(n), num_repeats)[start : start + frames * stride : stride]

    return offsets, gathered


@given(
    n=st.integers(1, 600),
    frames=st.integers(1, 40),
    stride=st.integers(1, 9),
    clips=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_model_garden_equals_its_source_wherever_rounding_can_not_decide(n, frames, stride, clips):
    offsets, gathered = _model_garden_reference(n, frames, stride, clips)
    ours = _sample("model_garden", n=n, frames=frames, stride=stride, clips=clips)

    for offset, clip in zip(offsets, ours, strict=True):
        # An offset that should be whole may come out below it, in float32 by more than here.
        start = round(offset) if abs(offset - round(offset)) < 1e-9 else int(offset)
        assert clip.tolist() == gathered(start).tolist()


@given(n=st.integers(1, 2000), clips=st.integers(1, 40))
@settings(max_examples=120, deadline=None, derandomize=True)
def test_tsn_equals_its_source(n, clips):
    # mmaction2 loading.py: SampleFrames._get_test_clips (2D branch), truncated to whole frames.
    average = n / float(clips)
    reference = (np.arange(clips) * average + average / 2.0).astype(np.int64)
    ours = _sample("tsn", n=n, frames=1, stride=1, clips=clips)[:, 0]

    exact = (2 * np.arange(clips) + 1) * n % (2 * clips) == 0
    assert (ours == reference)[~exact].all()
    assert np.abs(ours - reference).max() <= (1 if exact.any() else 0)


# --- what holds for all

SPANS = (
    {"frames": 8, "stride": 8, "clips": 10, "fps": 30.0},
    {"frames": 32, "stride": 2, "clips": 3, "fps": 29.97},
    {"frames": 5, "stride": 3, "clips": 2, "fps": 59.94},
)
"""What is cut of a video of every length; two of the three are longer than the shortest videos."""


def _cut(sampler, *, n, frames, stride, clips, fps):
    frames = 1 if sampler == "tsn@1" else frames
    clips = 1 if sampler in ONE_CLIP else clips
    return _sample(sampler, n=n, frames=frames, stride=stride, clips=clips, fps=fps)


def _never_goes_back(indices, n, stride, *, loops):
    """Tell whether frames follow in time; those of a sampler that loops go round the video."""
    steps = np.diff(indices, axis=1)
    if loops:
        return bool((steps % n == stride % n).all())
    return bool((steps >= 0).all())


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("span", SPANS, ids=lambda span: f"{span['frames']}x{span['stride']}")
def test_every_length_from_1_to_2000_gives_frames_that_are_there_and_in_order(sampler, span):
    loops = sampler in ("mmaction2@1", "model_garden@1")
    for n in range(1, 2001):
        indices = _cut(sampler, n=n, **span)
        num_clips = 1 if sampler in ONE_CLIP else span["clips"]
        assert indices.shape == (num_clips, 1 if sampler == "tsn@1" else span["frames"])
        assert indices.min() >= 0
        assert indices.max() < n
        assert _never_goes_back(indices, n, span["stride"], loops=loops), (n, indices)
        assert (np.diff(indices[:, 0]) >= 0).all(), (n, indices)
        if loops and n > span["frames"] * span["stride"]:
            # What is long enough never loops.
            assert (np.diff(indices, axis=1) > 0).all(), (n, indices)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@given(
    n=st.integers(1, 2000),
    frames=st.integers(1, 64),
    stride=st.integers(1, 16),
    clips=st.integers(1, 25),
    fps=st.floats(1e-3, 1e3, allow_nan=False),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_indices_are_in_range_ordered_and_the_same_each_time(
    sampler, n, frames, stride, clips, fps
):
    frames = 1 if sampler == "tsn@1" else frames
    clips = 1 if sampler in ONE_CLIP else clips
    first = _sample(sampler, n=n, frames=frames, stride=stride, clips=clips, fps=fps)
    second = _sample(sampler, n=n, frames=frames, stride=stride, clips=clips, fps=fps)

    assert first.shape == (clips, frames)
    assert first.dtype == np.int64
    assert first.min() >= 0
    assert first.max() < n
    assert np.array_equal(first, second)
    loops = sampler in ("mmaction2@1", "model_garden@1")
    shrinks = sampler.startswith("psf") and frames * stride * fps / 30 < 1
    assert shrinks or _never_goes_back(first, n, stride, loops=loops)
    assert (np.diff(first[:, 0]) >= 0).all()


def test_a_bare_name_is_the_newest_version():
    assert resolve_sampler("psf") == "psf@1"
    assert resolve_sampler("psf_offset@1") == "psf_offset@1"
    assert np.array_equal(_sample("psf"), _sample("psf@1"))


@pytest.mark.parametrize(
    ("name", "near"), [("mmaction", "mmaction2"), ("pvt", "ptv"), ("psf@2", "psf@1"), ("zzzz", "")]
)
def test_a_near_miss_is_named(name, near):
    with pytest.raises(UnknownNameError) as caught:
        _sample(name)

    assert f"no sampler '{name}'" in str(caught.value)
    assert (f"Did you mean '{near}" in str(caught.value)) == bool(near)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"frames": 0}, {"stride": 0}, {"clips": 0}, {"fps": 0.0}, {"fps": float("nan")}],
)
def test_a_count_below_one_is_refused(wrong):
    with pytest.raises(RsbenchError, match="must be"):
        _sample("mmaction2", **wrong)


@pytest.mark.parametrize("sampler", ONE_CLIP)
def test_samplers_of_one_clip_refuse_several(sampler):
    with pytest.raises(RsbenchError, match="clips must be 1, was 3"):
        _sample(sampler, clips=3)


def test_tsn_refuses_clips_of_several_frames():
    with pytest.raises(RsbenchError, match="must be 1 frame, was 8"):
        _sample("tsn", frames=8)


@pytest.mark.parametrize("module", ["sampling", "random_sampling", "crops"])
def test_the_module_needs_numpy_only(module):
    code = (
        f"import sys, rsbench.media.{module};"
        "print([m for m in ('torch', 'torchvision', 'av', 'PIL', 'scipy') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"

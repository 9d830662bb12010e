"""Random clips and crops: where they may lie, and that a seed decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_world import INPUT, PIXELS

from rsbench.media.augment import Augmentation, random_clip, random_crop, read_random_clip
from rsbench.media.video import read_all_frames, write_video
from rsbench.specs import ClipSpec


def test_nothing_is_mirrored_where_a_mirror_image_has_another_label() -> None:
    # Red is the column number: a mirrored crop falls from left to right.
    picture = np.zeros((PIXELS, 3 * PIXELS, 3), dtype=np.uint8)
    picture[..., 0] = np.arange(3 * PIXELS)

    def mirrored(flip_probability: float) -> int:
        kind = Augmentation(flip_probability=flip_probability)
        crops = [random_crop(picture, INPUT, kind, seed=seed)[0, :, 0] for seed in range(40)]
        return sum(int(crop[0]) > int(crop[-1]) for crop in crops)

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 40
    assert 8 < mirrored(0.5) < 32


def test_random_clips_start_wherever_they_fit_and_short_videos_loop() -> None:
    clip = ClipSpec(frames=3, stride=2)
    # Span 5 in 7 frames: starts 0, 1, 2; the rule of mmaction2's SampleFrames.
    starts = {int(random_clip(7, clip, position=p)[0]) for p in np.linspace(0, 0.999, 50)}

    assert starts == {0, 1, 2}
    assert random_clip(4, clip, position=0.9).tolist() == [0, 2, 0]


def test_a_random_clip_of_a_file_is_that_of_its_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", frames, fps=10)
    decoded = read_all_frames(tmp_path / "a.mp4")
    clip = ClipSpec(frames=3, stride=2)

    for position in (0.0, 0.4, 0.99):
        read = read_random_clip(
            tmp_path / "a.mp4", clip, position=position, transform=lambda pixels: pixels
        )
        assert np.array_equal(read, decoded[random_clip(10, clip, position=position)])


def test_a_seed_decides_the_crop() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

    first, again, other = (
        random_crop(picture, INPUT, Augmentation(), seed=seed) for seed in (1, 1, 2)
    )

    assert first.shape == (PIXELS, PIXELS, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_whole_picture_is_the_crop_where_nothing_may_be_cut() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)
    still = Augmentation(smallest_crop=1.0, widest_aspect=1.0, flip_probability=0.0)

    assert np.array_equal(random_crop(picture, INPUT, still, seed=0), picture)

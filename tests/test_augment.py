"""Random views: where crops may lie, what distorts them, and that a seed decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from parity.pictures import draw_picture
from small_world import INPUT, PIXELS
from torchvision.transforms import RandomResizedCrop

from rsbench.errors import MediaError, RsbenchError
from rsbench.media.augment import (
    Augmentation,
    distorted,
    draw_crop,
    draw_scaled_crop,
    random_crop,
)
from rsbench.media.colour import jitter_colours
from rsbench.media.erasing import erase_box
from rsbench.media.randaugment import randaugment


# Ordinary sizes; a sliver on either side, for which no box fits and the middle is taken; one pixel.
@pytest.mark.parametrize(
    ("height", "width"), [(375, 500), (500, 333), (64, 64), (8, 300), (300, 8), (1, 1), (3, 2)]
)
@pytest.mark.parametrize(("smallest", "widest"), [(0.08, 4 / 3), (0.35, 4 / 3), (1.0, 1.0)])
def test_crops_are_those_that_torchvision_draws_from_the_same_seed(
    height: int, width: int, smallest: float, widest: float
) -> None:
    kind = Augmentation(smallest_crop=smallest, widest_aspect=widest)
    before = torch.default_generator.get_state()
    for seed in [*range(60), 2**32 - 1]:
        drawn = draw_crop(height, width, kind, seed=seed)

        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            box = RandomResizedCrop.get_params(
                torch.empty(3, height, width, device="meta"),
                scale=[smallest, 1.0],
                ratio=[1 / widest, widest],
            )
            mirrored = float(torch.rand(())) < 0.5
        assert drawn == (*box, mirrored)
    assert torch.equal(before, torch.default_generator.get_state()), "left as it was"


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


def _frame(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 41), (37, 37), (12, 300)])
def test_scale_jitter_resizes_the_shorter_side_and_cuts_a_square(height: int, width: int) -> None:
    kind = Augmentation(scale_jitter=(PIXELS + 2, PIXELS + 6))
    short_sides = set()
    for seed in range(80):
        crop = draw_scaled_crop(height, width, kind, side=PIXELS, seed=seed)

        # By SlowFast's rule: the shorter side is round(uniform(min, max)), the longer one floored.
        short, long = sorted((crop.height, crop.width))
        assert long == int(np.floor(max(height, width) / min(height, width) * short))
        assert (crop.height > crop.width) == (long > short and height > width)
        assert 0 <= crop.top <= crop.height - PIXELS
        assert 0 <= crop.left <= crop.width - PIXELS
        short_sides.add(short)
    assert short_sides == set(range(PIXELS + 2, PIXELS + 7))


def test_every_square_of_a_scaled_picture_may_be_shown() -> None:
    kind = Augmentation(scale_jitter=(PIXELS + 1, PIXELS + 1))

    places = {draw_scaled_crop(20, 25, kind, side=PIXELS, seed=seed)[2:4] for seed in range(300)}

    # 9 x 11 of 20 x 25, so 2 x 4 places; SlowFast leaves out the last of each.
    assert places == {(top, left) for top in range(2) for left in range(4)}


def test_scaled_crops_are_the_pixels_of_slowfast() -> None:
    # slowfast/datasets/transform.py: bilinear interpolation without antialias, then a cut.
    picture = _frame(30, 45)
    spec = replace(INPUT, antialias=False)
    kind = Augmentation(scale_jitter=(10, 14), flip_probability=0.5)
    for seed in range(20):
        crop = draw_scaled_crop(30, 45, kind, side=PIXELS, seed=seed)
        scaled = torch.nn.functional.interpolate(
            torch.from_numpy(picture).permute(2, 0, 1)[None].float(),
            size=(crop.height, crop.width),
            mode="bilinear",
            align_corners=False,
        )[0]
        wanted = scaled[:, crop.top : crop.top + PIXELS, crop.left : crop.left + PIXELS]
        wanted = wanted.flip(-1) if crop.mirrored else wanted

        given = torch.from_numpy(random_crop(picture, spec, kind, seed=seed)).permute(2, 0, 1)

        assert given.shape == (3, PIXELS, PIXELS)
        # Floats there, bytes here, rounded along each axis.
        assert (given - wanted).abs().max() <= 1


def test_scaled_crops_are_mirrored_only_where_that_keeps_the_label() -> None:
    def mirrored(flip_probability: float) -> int:
        kind = Augmentation(scale_jitter=(10, 14), flip_probability=flip_probability)
        return sum(
            draw_scaled_crop(30, 45, kind, side=PIXELS, seed=seed).mirrored for seed in range(40)
        )

    assert mirrored(0.0) == 0
    assert mirrored(1.0) == 40
    assert 8 < mirrored(0.5) < 32


@pytest.mark.parametrize("scale_jitter", [(PIXELS - 1, 20), (14, 10)])
def test_a_scale_below_the_side_is_refused(scale_jitter: tuple[int, int]) -> None:
    kind = Augmentation(scale_jitter=scale_jitter)
    with pytest.raises(RsbenchError, match=r"^scale_jitter must be two lengths of at least the 8"):
        random_crop(_frame(30, 45), INPUT, kind, seed=0)


def test_a_sliver_whose_length_would_fill_the_memory_is_refused() -> None:
    # One row of 65,000 pixels: brought to a short side of 320, it would take 20 GB.
    kind = Augmentation(scale_jitter=(256, 320))
    with pytest.raises(MediaError, match="at most 64 times as long as wide, was 65000 x 1"):
        random_crop(_frame(1, 65_000), INPUT, kind, seed=0)


@pytest.mark.parametrize(
    "kind", [Augmentation(pixels=5), Augmentation(pixels=5, scale_jitter=(6, 9))]
)
def test_another_side_may_be_trained_on_than_tested(kind: Augmentation) -> None:
    assert random_crop(_frame(30, 45), INPUT, kind, seed=0).shape == (5, 5, 3)


EVERYTHING = Augmentation(
    colour_jitter=0.4,
    randaugment_layers=2,
    randaugment_magnitude=15.0,
    random_erasing=1.0,
)


def _clip() -> torch.Tensor:
    frames = [torch.from_numpy(draw_picture(24, 30 + step)[:, step:]) for step in range(4)]
    return torch.stack(frames).permute(3, 0, 1, 2).contiguous()


def test_a_picture_is_distorted_as_a_clip_of_one_frame() -> None:
    picture = _clip()[:, 0]
    for seed in range(20):
        given = distorted(picture, INPUT, EVERYTHING, seed=seed)

        assert given.shape == picture.shape
        assert torch.equal(
            given[:, None], distorted(picture[:, None], INPUT, EVERYTHING, seed=seed)
        )


def test_distortions_are_the_same_in_all_frames() -> None:
    clip = _clip()[:, :1].expand(-1, 4, -1, -1)
    for seed in range(20):
        given = distorted(clip, INPUT, EVERYTHING, seed=seed)

        assert torch.equal(given, given[:, :1].expand(-1, 4, -1, -1))


def test_distortions_follow_one_another_each_by_draws_of_its_own() -> None:
    clip = _clip()
    for seed in range(5):
        # numpy's way to seeds that share nothing with their parent's words: its second child.
        child = np.random.SeedSequence(seed).spawn(2)[1]
        first, second, third = child.generate_state(3).tolist()
        wanted = jitter_colours(clip, strength=0.4, seed=first)
        wanted = randaugment(wanted, num_layers=2, magnitude=15.0, rule="model_garden", seed=second)
        wanted = erase_box(wanted, probability=1.0, mean=INPUT.mean, seed=third)

        assert torch.equal(distorted(clip, INPUT, EVERYTHING, seed=seed), wanted)


def test_the_rule_of_randaugment_is_the_one_that_is_named() -> None:
    clip = _clip()
    kind = Augmentation(randaugment_layers=2, randaugment_magnitude=10.0, randaugment_rule="tpu")
    for seed in range(5):
        word = int(np.random.SeedSequence(seed).spawn(2)[1].generate_state(2)[1])
        wanted = randaugment(clip, num_layers=2, magnitude=10.0, rule="tpu", seed=word)

        assert torch.equal(distorted(clip, INPUT, kind, seed=seed), wanted)


def test_a_view_is_given_back_as_it_is_where_nothing_is_wanted() -> None:
    clip = _clip()

    assert distorted(clip, INPUT, Augmentation(), seed=1) is clip


def test_distorting_leaves_the_view_and_the_global_generator_as_they_were() -> None:
    clip = _clip()
    before, state = clip.clone(), torch.default_generator.get_state()

    given = [distorted(clip, INPUT, EVERYTHING, seed=seed) for seed in range(10)]

    assert torch.equal(clip, before)
    assert torch.equal(torch.default_generator.get_state(), state)
    assert len({each.numpy().tobytes() for each in given}) == 10

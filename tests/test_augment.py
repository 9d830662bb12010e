"""Random crops: where they may lie, and that a seed decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_world import INPUT, PIXELS
from torchvision.transforms import RandomResizedCrop

from rsbench.media.augment import Augmentation, draw_crop, random_crop


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

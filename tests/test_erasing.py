"""Random erasing against torchvision's own, drawn from the same seed."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from rsbench.media.erasing import draw_erased, erase_box
from rsbench.media.transforms import normalise
from rsbench.specs import InputSpec

MEAN = (0.485, 0.456, 0.406)
COLOUR = [124.0, 116.0, 104.0]
"""The same in grey levels: 123.7, 116.3 and 103.5."""


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 45), (3, 40), (1, 1)])
@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_boxes_are_those_of_torchvision_from_the_same_seed(
    height: int, width: int, probability: float
) -> None:
    clip = torch.zeros(3, 2, height, width, dtype=torch.uint8)
    theirs = v2.RandomErasing(p=probability, value=COLOUR)
    num_erased = 0
    for seed in range(60):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            wanted_TCHW = theirs(tv_tensors.Video(clip.transpose(0, 1)))

        given = erase_box(clip, probability=probability, mean=MEAN, seed=seed)

        assert torch.equal(given.transpose(0, 1), wanted_TCHW.as_subclass(torch.Tensor))
        num_erased += bool(given.any())
    if min(height, width) > 3:  # Slivers have room for few boxes, one pixel for none.
        assert (num_erased == 60) == (probability == 1.0)
    assert not clip.any(), "left as it was"


def test_what_is_painted_over_is_nought_to_the_network() -> None:
    clip = torch.full((3, 1, 24, 24), 255, dtype=torch.uint8)
    spec = InputSpec(pixels=24, mean=MEAN)
    box = draw_erased(24, 24, probability=1.0, seed=2)
    assert box is not None

    seen = normalise(erase_box(clip, probability=1.0, mean=MEAN, seed=2)[None], spec)[0]

    part = seen[:, 0, box.top : box.top + box.height, box.left : box.left + box.width]
    # Half a grey level is 0.5 / 255, over a deviation of 0.224 and the like.
    assert part.abs().max() < 0.5 / 255 / min(spec.std) + 1e-6
    assert int((seen.abs() < 0.1).sum()) == 3 * box.height * box.width


def test_the_box_is_the_same_in_all_frames() -> None:
    clip = torch.full((3, 5, 24, 24), 255, dtype=torch.uint8)

    given = erase_box(clip, probability=1.0, mean=MEAN, seed=4)

    assert torch.equal(given, given[:, :1].expand(-1, 5, -1, -1))


def test_nothing_is_painted_over_with_a_probability_of_nought() -> None:
    assert all(draw_erased(24, 24, probability=0.0, seed=seed) is None for seed in range(50))

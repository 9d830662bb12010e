"""Colour jitter against torchvision's own, drawn from the same seed."""

from __future__ import annotations

import pytest
import torch
from parity.pictures import draw_picture
from torchvision import tv_tensors
from torchvision.transforms import v2

from rsbench.media.colour import jitter_colours

STRENGTHS = (0.2, 0.4, 1.5)


def _clip() -> torch.Tensor:
    frames = [torch.from_numpy(draw_picture(20, 31 + step)[:, step:]) for step in range(3)]
    return torch.stack(frames).permute(3, 0, 1, 2).contiguous()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_colours_are_those_of_torchvision_from_the_same_seed(strength: float) -> None:
    clip = _clip()
    before = clip.clone()
    theirs = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)
    for seed in range(30):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            wanted_TCHW = theirs(tv_tensors.Video(clip.transpose(0, 1)))

        given = jitter_colours(clip, strength=strength, seed=seed)

        assert given.dtype == torch.uint8
        assert torch.equal(given.transpose(0, 1), wanted_TCHW.as_subclass(torch.Tensor))
        assert torch.equal(clip, before), "left as it was"


def test_frames_that_are_alike_stay_alike() -> None:
    clip = _clip()[:, :1].expand(-1, 4, -1, -1)

    given = jitter_colours(clip, strength=0.4, seed=1)

    assert not torch.equal(given, clip)
    assert torch.equal(given, given[:, :1].expand(-1, 4, -1, -1))


def test_the_global_generator_is_left_as_it_was() -> None:
    before = torch.default_generator.get_state()

    jitter_colours(_clip(), strength=0.4, seed=3)

    assert torch.equal(torch.default_generator.get_state(), before)

"""The two networks of the tests keep the contract that every backbone keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from rsbench_backbones.tiny import BACKBONES

from rsbench.specs import Backbone

TINY_2D, TINY_3D = BACKBONES


def batch_for(backbone: Backbone, num: int = 2) -> torch.Tensor:
    side = backbone.input.pixels
    frames = (backbone.input.frames,) if backbone.modality == "video" else ()
    return torch.rand(num, 3, *frames, side, side)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_the_declared_parameters_are_the_built_ones(backbone):
    with torch.device("meta"):
        module = backbone.build(backbone.parameters_with_classes)
    assert sum(p.numel() for p in module.parameters()) == backbone.num_parameters


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_features_head_and_maps_have_the_promised_shapes(backbone):
    module = backbone.build(5).eval()
    batch = batch_for(backbone)
    with torch.inference_mode():
        features = module(batch)
        maps = module.stage_maps(batch)
        logits = module.head(features)
    assert features.shape == (2, backbone.feature_width)
    assert logits.shape == (2, 5)
    assert backbone.build(None).head is None
    assert list(maps) == ["s1", "s2", "s3"]
    torch.testing.assert_close(maps["s3"].flatten(2).mean(2), features)


def test_the_3d_one_sees_the_order_of_frames():
    torch.manual_seed(0)
    module = TINY_3D.build(None).eval()
    clips = batch_for(TINY_3D)
    with torch.inference_mode():
        forward, backward = module(clips), module(clips.flip(2))
    assert (forward - backward).norm() > 1e-3 * forward.norm()


def test_the_specs_are_made_without_torch():
    code = "import sys, rsbench_backbones.tiny; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

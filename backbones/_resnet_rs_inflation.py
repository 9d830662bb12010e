"""What an image ResNet-RS's weights meet in the 3D one that is otherwise in their own network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .resnet_rs import Architecture

STRIDED = ("conv1.0", "layer2.0.conv2", "layer3.0.conv2", "layer4.0.conv2")
"""Convolutions with kernel 3 and stride 2 that both networks have."""

ACTIVATED = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4")
"""All but the head."""


def inflation_notes(image: Architecture, video: Architecture) -> dict[str, str]:
    """Say where a video network does otherwise than the image network that it is inflated from.

    Returns:
        What is otherwise, by the beginning of the names it concerns; of several that fit a name the
        first holds.
    """
    notes: dict[str, str] = {}
    if video.shortcut == "strided" and image.shortcut != "strided":
        shortcuts = [f"layer{stage}.0.downsample" for stage in (2, 3, 4)]
        notes |= dict.fromkeys(shortcuts, "strides where the image network pools")
        if image.shortcut == "average_pool_throughout":
            notes["layer1.0.downsample"] = "sees what the image network pools first"
    # A plain stem ends with a max pool in both.
    if video.stem == "deep" and video.stem_end != image.stem_end:
        notes["maxpool"] = "a max pool is in its place"
    if video.self_gating:
        last = [f"layer{stage}.{blocks - 1}.gate" for stage, blocks in enumerate(video.blocks, 1)]
        notes |= dict.fromkeys(last, "not in the image network; halves its block at the start")
    if video.padding != image.padding:
        strided = ("conv1", *STRIDED[1:]) if video.stem == "plain" else STRIDED
        notes |= dict.fromkeys(strided, "pads behind (SAME), the image network on both sides")
    if image.mark:
        notes[image.mark] = "says whose the file is"
    if video.activation != image.activation:
        what = f"{video.activation} follows, in the image network {image.activation}"
        notes |= dict.fromkeys(ACTIVATED, what)
    return notes

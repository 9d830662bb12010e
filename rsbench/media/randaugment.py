"""RandAugment: a number of operations, drawn one after another, all of one magnitude.

Cubuk et al. 2019 (arXiv 1909.13719), in the two versions that ResNet-RS was trained with:

| rule         | translation | outside | one is drawn of | contrast               |
| ------------ | ----------- | ------- | --------------- | ---------------------- |
| model_garden | 10 pixels   | mirror  | 16 and nothing  | from the mean          |
| tpu          | 100 pixels  | grey    | 16              | from the picture's size |

- model_garden: tf-models-official, official/vision/ops/augment.py. Its configurations of ResNet-RS
  set the magnitude only, so the translation is the default of configs/common.py.
- tpu: tensorflow/tpu, models/official/efficientnet/autoaugment.py, which the paper's own code
  calls. See `distortions.contrast_by_size` for what it takes for a mean.

Translations are those of magnitude 10, in pixels whatever the picture's size.

A magnitude of 10 is the whole range of AutoAugment's table and not the most there is; the paper
trains with 10 and 15. At 10 and 20 `solarize` inverts the picture, at 15 its threshold is 128 (see
there). Above 20, `posterize` would keep more than the eight bits there are, and does nothing.

Nothing is mirrored as a whole, and nothing upright turned on its head before a magnitude of 30, a
quarter of a turn: labels that have a direction keep it. What `model_garden` shows outside of a
picture that was shifted is a mirror image all the same, unless it is given other edges.

One draw holds for all frames of a clip. It follows from numpy's `SeedSequence`, whose numbers are
the same on every machine and in every version.

Letters: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import torch

from rsbench.errors import RsbenchError
from rsbench.media import distortions
from rsbench.media.distortions import Edges

RuleName = Literal["model_garden", "tpu"]

STRONGEST = 30.0
"""Greatest magnitude."""
_FULL_RANGE = 10.0
"""Magnitude that the numbers of the table below belong to."""
_HALF_CUTOUT = 40
"""Half the side of the square that is painted over, in pixels; both codes."""
_WORDS_PER_LAYER = 4
_WORD_VALUES = 2**32


class Rule(NamedTuple):
    """In what one version differs from another."""

    translation: float
    """Greatest shift in pixels."""
    edges: Edges
    """What is seen outside of the picture."""
    may_rest: bool
    """Whether doing nothing is drawn as often as each operation."""
    contrast: Callable[[torch.Tensor, float], torch.Tensor]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "model_garden": Rule(10.0, "reflected", True, distortions.contrast),
        "tpu": Rule(100.0, "grey", False, distortions.contrast_by_size),
    }
)
"""Both rules by name."""


class Layer(NamedTuple):
    """One operation, drawn."""

    name: str
    """One of `OPERATIONS`, or "Identity"."""
    is_positive: bool
    """Whether it turns or shifts by a positive value."""
    row: float
    """Middle of a cutout, as a share of the height in [0, 1)."""
    column: float
    """Likewise of the width."""


Operation = Callable[[torch.Tensor, float, Layer, Rule], torch.Tensor]
"""(uint8 (3, T, H, W), magnitude over 10, what was drawn, rule) -> the same, distorted."""


def _signed(value: float, layer: Layer) -> float:
    return value if layer.is_positive else -value


def _enhancement(strength: float) -> float:
    return strength * 1.8 + 0.1


def _cut_out(clip: torch.Tensor, strength: float, layer: Layer, rule: Rule) -> torch.Tensor:
    height, width = clip.shape[2:]
    return distortions.cutout(
        clip,
        int(strength * _HALF_CUTOUT),
        row=int(layer.row * height),
        column=int(layer.column * width),
    )


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "AutoContrast": lambda clip, strength, layer, rule: distortions.autocontrast(clip),
        "Equalize": lambda clip, strength, layer, rule: distortions.equalize(clip),
        "Invert": lambda clip, strength, layer, rule: distortions.invert(clip),
        "Rotate": lambda clip, strength, layer, rule: distortions.rotate(
            clip, _signed(strength * 30.0, layer), rule.edges
        ),
        "Posterize": lambda clip, strength, layer, rule: distortions.posterize(
            clip, int(strength * 4)
        ),
        "Solarize": lambda clip, strength, layer, rule: distortions.solarize(
            clip, int(strength * 256)
        ),
        "Color": lambda clip, strength, layer, rule: distortions.color(
            clip, _enhancement(strength)
        ),
        "Contrast": lambda clip, strength, layer, rule: rule.contrast(clip, _enhancement(strength)),
        "Brightness": lambda clip, strength, layer, rule: distortions.brightness(
            clip, _enhancement(strength)
        ),
        "Sharpness": lambda clip, strength, layer, rule: distortions.sharpness(
            clip, _enhancement(strength)
        ),
        "ShearX": lambda clip, strength, layer, rule: distortions.shear_x(
            clip, _signed(strength * 0.3, layer), rule.edges
        ),
        "ShearY": lambda clip, strength, layer, rule: distortions.shear_y(
            clip, _signed(strength * 0.3, layer), rule.edges
        ),
        "TranslateX": lambda clip, strength, layer, rule: distortions.translate_x(
            clip, _signed(strength * rule.translation, layer), rule.edges
        ),
        "TranslateY": lambda clip, strength, layer, rule: distortions.translate_y(
            clip, _signed(strength * rule.translation, layer), rule.edges
        ),
        "Cutout": _cut_out,
        "SolarizeAdd": lambda clip, strength, layer, rule: distortions.solarize_add(
            clip, int(strength * 110)
        ),
    }
)
"""What may be drawn, in the order and by the names of the official code, with its table of
magnitudes."""


def randaugment(
    clip: torch.Tensor,
    *,
    num_layers: int,
    magnitude: float,
    rule: RuleName,
    seed: int,
    edges: Edges | None = None,
) -> torch.Tensor:
    """Distort a clip by operations that follow from a seed, alike in all its frames.

    Args:
        clip: uint8 (3, T, H, W) on any device, left as it is; T is 1 for a picture.
        num_layers: Operations one after another, at least 0.
        magnitude: In [0, 30].
        rule: Whose version.
        seed: At least 0.
        edges: What is seen outside of a picture that was shifted; None: what the rule says.

    Returns:
        uint8 (3, T, H, W).

    Raises:
        RsbenchError: Fewer layers than none, or a magnitude out of range.
    """
    for layer in draw_layers(num_layers, magnitude=magnitude, rule=rule, seed=seed):
        clip = apply_layer(clip, layer, magnitude=magnitude, rule=rule, edges=edges)
    return clip


def draw_layers(
    num_layers: int, *, magnitude: float, rule: RuleName, seed: int
) -> tuple[Layer, ...]:
    """Draw operations, each as likely as the others, in the order in which they are applied.

    Raises:
        RsbenchError: Fewer layers than none, or a magnitude out of range.
    """
    if num_layers < 0:
        raise RsbenchError(
            f"randaugment_layers must be at least 0, was {num_layers}; the paper's are 2."
        )
    if not 0 <= magnitude <= STRONGEST:
        raise RsbenchError(
            f"randaugment_magnitude must be between 0 and {STRONGEST:g}, was {magnitude:g}; the"
            " paper's are 10 and 15."
        )
    names = [*OPERATIONS, *(["Identity"] if RULES[rule].may_rest else [])]
    words = np.random.SeedSequence(seed).generate_state(_WORDS_PER_LAYER * num_layers)
    return tuple(
        Layer(
            name=names[len(names) * which // _WORD_VALUES],
            is_positive=sign >= _WORD_VALUES // 2,
            row=row / _WORD_VALUES,
            column=column / _WORD_VALUES,
        )
        for which, sign, row, column in words.reshape(-1, _WORDS_PER_LAYER).tolist()
    )


def apply_layer(
    clip: torch.Tensor,
    layer: Layer,
    *,
    magnitude: float,
    rule: RuleName,
    edges: Edges | None = None,
) -> torch.Tensor:
    """Apply one operation to uint8 (3, T, H, W), which is left as it is."""
    if layer.name == "Identity":
        return clip
    version = RULES[rule] if edges is None else RULES[rule]._replace(edges=edges)
    return OPERATIONS[layer.name](clip, magnitude / _FULL_RANGE, layer, version)

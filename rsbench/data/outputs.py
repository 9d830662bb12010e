"""What is kept of a view of a frozen network, and the forward pass that makes it.

Four outputs: the pooled features, the head's logits, the pooled maps of the last two stages, and
the coarsest map as a row of tokens.

Shape letters: n views, C channels, D width, S positions of a map, T' H' W' its extents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.errors import RsbenchError
from rsbench.media import transforms
from rsbench.specs import Model, Output, Reading, Settings

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

_SAME = 1e-5
"""A last map whose average differs by less than this share of the largest feature is what the
features were averaged from; the two sums differ in order only."""


class Outputs:
    """The forward pass of one extraction.

    It has a state because one thing of a network shows only when it runs: whether its features are
    the average of its last map.
    """

    def __init__(self, model: Model, reading: Reading, settings: Settings, output: Output) -> None:
        """Name the network, how its input was read, the machine, and what is to be kept."""
        self._model = model
        self._reading = reading
        self._settings = settings
        self._output = output
        self._last_map_is_features: bool | None = None

    def __call__(self, views: Tensor) -> Tensor:
        """Run the network over views, at most a batch at a time.

        Args:
            views: (n, C, H, W) or (n, C, T, H, W): uint8, or float32 of the same range; what a
                task reads itself is the network's input as it is.

        Returns:
            float32 (n, D), on the device; for "tokens" (n, S, D).

        Raises:
            RsbenchError: The network has no maps that the output could be made of.
        """
        chunks = []
        for chunk in torch.split(views, self._settings.batch_size):
            on_device = chunk.to(self._settings.device, non_blocking=True)
            inputs = (
                on_device.float()
                if self._reading.read is not None
                else transforms.normalise(on_device, self._reading.input)
            )
            with _autocast(self._settings):
                outputs = self._of(inputs)
            chunks.append(outputs.float())
        return torch.cat(chunks)

    def _of(self, inputs: Tensor) -> Tensor:
        if self._output == "stages":
            return self._stages(inputs)
        if self._output == "tokens":
            return _tokens(self._maps(inputs))
        features: Tensor = self._model.module(inputs)
        if self._output == "features":
            return features
        assert self._model.head is not None, "logits need a head"
        logits: Tensor = self._model.head(features)
        return logits

    def _stages(self, inputs: Tensor) -> Tensor:
        """Give the pooled last stage but one, then the features: the pooled last stage.

        Most networks' features are the average of their last map, which is then not computed twice.
        Where something comes between (a 1x1 convolution, a norm, a class token), the features are
        what the network says they are.
        """
        maps = self._maps(inputs)
        stages = _by_stage(maps)
        if len(stages) < 2:
            raise RsbenchError(
                "The output 'stages' needs a network with two stage maps or more, and this one has"
                f" {len(stages)} ({', '.join(maps)}); use a protocol that reads features alone,"
                " such as linear_probe."
            )
        former, last = (_pooled(stage) for stage in stages[-2:])
        if self._last_map_is_features:
            return torch.cat([former, last], dim=1)
        features: Tensor = self._model.module(inputs)
        if self._last_map_is_features is None:
            self._last_map_is_features = _alike(last, features)
        return torch.cat([former.to(features.dtype), features], dim=1)

    def _maps(self, inputs: Tensor) -> Mapping[str, Tensor]:
        # Any: `stage_maps` is of the backbone contract, which nn.Module's attributes do not show.
        module: Any = self._model.module
        maps: Mapping[str, Tensor] = module.stage_maps(inputs)
        flat = [name for name, each in maps.items() if each.ndim < 3 or len(each) != len(inputs)]
        if flat or not maps:
            name = flat[0] if flat else ""
            raise RsbenchError(
                f"The output {self._output!r} needs maps (N, C, H, W) or (N, C, T, H, W) of the"
                " network, and its stage_maps give"
                f" {f'{name!r} as {tuple(maps[name].shape)}' if name else 'none'}; use a protocol"
                " that reads features alone, such as linear_probe."
            )
        return maps


def lay_out(module: nn.Module) -> None:
    """Give 2D networks the layout that matrix units are made for.

    On a CPU with AVX-512, one thread, times the speed of the usual layout: 1.2 for EfficientNet-
    Lite0 at 224 pixels, 1.04 for ResNet-RS-50 at 160 and 0.9 at 64; outputs differ by less than
    1e-6 of the largest. Compiling gains 4% there and takes minutes to begin.
    """
    if all(parameter.dim() < 5 for parameter in module.parameters()):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def tell_if_emulated(settings: Settings) -> None:
    """Say so where a precision will be slower than float32 because the CPU has no such numbers."""
    on_cpu = torch.device(settings.device).type == "cpu"
    if settings.precision != "float32" and on_cpu and _is_emulated(settings.precision):
        settings.say(
            f"--precision {settings.precision} is emulated on this CPU, several times slower than"
            " float32"
        )


def _is_emulated(precision: str) -> bool:
    """Say whether the CPU is known to have no arithmetic of a precision."""
    # Builds without oneDNN have no such question.
    has_it = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)
    return has_it is not None and not has_it()


def _autocast(settings: Settings) -> AbstractContextManager[Any]:
    if settings.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(settings.device).type, _AUTOCAST[settings.precision])


def _tokens(maps: Mapping[str, Tensor]) -> Tensor:
    """Flatten the last map, (n, D, ...), to (n, S, D): positions row by row, frames in order."""
    return list(maps.values())[-1].flatten(2).transpose(1, 2)


def _by_stage(maps: Mapping[str, Tensor]) -> list[Sequence[Tensor]]:
    """Put the maps of a stage together, in order: SlowFast's "fast_c5" and "slow_c5" are one."""
    stages: dict[str, list[Tensor]] = {}
    for name, each in maps.items():
        stage = name.removeprefix("fast_").removeprefix("slow_")
        stages.setdefault(stage, []).append(each)
    return list(stages.values())


def _pooled(maps: Sequence[Tensor]) -> Tensor:
    """Average each map over space and time and put them side by side, (n, D)."""
    return torch.cat([each.flatten(2).mean(2) for each in maps], dim=1)


def _alike(pooled: Tensor, features: Tensor) -> bool:
    if pooled.shape != features.shape:
        return False
    scale = features.float().abs().max()
    return bool((pooled.float() - features.float()).abs().max() <= _SAME * scale)

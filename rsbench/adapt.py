"""Any nn.Module as a backbone: ``--backbone ./net.py:build --weights best.pth``.

The function takes no argument and gives the module. Whether it sees pictures or clips is read off
its first convolution (Conv3d: clips); the file may say ``INPUT = InputSpec(...)``. What the module
returns is the feature, pooled over space and time if it is a map. Because a trained classifier
returns its logits, the same output also serves as the head's for the protocol ``evaluate``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from rsbench.errors import PluginError
from rsbench.specs import Backbone, InputSpec, Modality

IMAGE_INPUT = InputSpec(pixels=224, crop_ratio=0.875)
VIDEO_INPUT = InputSpec(pixels=224, frames=16, stride=4)


class BareModule(nn.Module):
    """A module of any kind behind the backbone contract; its parameters keep their names."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head: nn.Module = nn.Identity()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) or (N, C, T, H, W) to (N, D), averaging maps over space and time."""
        output = self.body(batch)
        if not isinstance(output, torch.Tensor) or output.ndim < 2:
            raise PluginError(
                f"The module must return a tensor (N, D) or a map (N, D, ...); it returned"
                f" {_describe(output)}."
            )
        return output.flatten(2).mean(2) if output.ndim > 2 else output

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the module's own output under the name "output"; its insides are not known."""
        return {"output": self.body(batch)}

    def state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        """Give the body's own state dict, so that its checkpoints load by their own names."""
        return self.body.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):  # type: ignore[no-untyped-def]  # noqa: ANN002, ANN003, ANN201
        """Load into the body by its own names."""
        return self.body.load_state_dict(*args, **kwargs)


def adapt_bare_module(
    build: Callable[[], object], *, name: str, origin: str, declared: InputSpec | None
) -> Backbone:
    """Describe a function that gives an nn.Module as a `Backbone`, by building and trying it.

    Args:
        build: Takes nothing, gives the module; called once here and once a run.
        name: What the backbone is called in records.
        origin: The file, for messages.
        declared: The input the file declares, if it does.

    Raises:
        PluginError: It gives something else, or the module can't read its input.
    """
    with torch.random.fork_rng(devices=[]):
        module = _built(build, origin=origin)
    modality = _modality(module, declared)
    spec = declared or (VIDEO_INPUT if modality == "video" else IMAGE_INPUT)
    frames = (spec.frames,) if modality == "video" else ()
    shape = (1, len(spec.mean), *frames, spec.pixels, spec.pixels)
    width = _width(module, shape, modality=modality, origin=origin)

    def build_contract(num_classes: int | None) -> nn.Module:
        del num_classes  # its own output is all the head there is
        # Bare, so that counting on the meta device sees the errors it expects there.
        module = build()
        assert isinstance(module, nn.Module), "it gave one when it was described"
        return BareModule(module)

    return Backbone(
        name=name,
        version=1,
        modality=modality,
        input=spec,
        feature_width=width,
        num_parameters=sum(each.numel() for each in module.parameters()),
        parameters_with_classes=None,
        build=build_contract,
        title=f"{type(module).__name__} from a file",
        licence="the file's own",
        citation="",
    )


def _built(build: Callable[[], object], *, origin: str) -> nn.Module:
    if isinstance(build, nn.Module):
        raise PluginError(
            f"{origin}: must name a function that returns the module, and names a"
            f" {type(build).__name__} itself; write `def build(): return ...`."
        )
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise PluginError(
            f"{origin}: the function must take no argument: {_first_line(error)}"
        ) from error
    try:
        module = build()
    # A stranger's function may raise anything; the user needs the file's name and the cause.
    except Exception as error:
        raise PluginError(
            f"{origin}: the function must return a module, and raised {type(error).__name__}:"
            f" {_first_line(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise PluginError(
            f"{origin}: the function must return a torch.nn.Module;"
            f" it returned {_describe(module)}."
        )
    return module


def _width(module: nn.Module, shape: tuple[int, ...], *, modality: str, origin: str) -> int:
    """Give the number of features of a module, by trying it on zeros of a batch's shape."""
    try:
        with torch.inference_mode():
            return int(BareModule(module).eval()(torch.zeros(shape)).shape[1])
    except PluginError as error:
        raise PluginError(f"{origin}: {error}") from error
    # As above: timm's networks assert, others index or divide.
    except Exception as error:
        raise PluginError(
            f"{origin}: the module can't read {modality} batches {shape}: {_first_line(error)};"
            " say what it reads with INPUT = rsbench.specs.InputSpec(...) in the file."
        ) from error


def _modality(module: nn.Module, declared: InputSpec | None) -> Modality:
    if declared is not None:
        return "video" if declared.frames > 1 else "image"
    for part in module.modules():
        if isinstance(part, nn.Conv3d):
            return "video"
        if isinstance(part, nn.Conv2d):
            return "image"
    return "image"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)}"
    return f"a {type(value).__name__}"

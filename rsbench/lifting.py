"""How a network of one modality reads the items of another: frame means and still clips.

Shape letters: N batch, C channels, T frames, H height, W width, D features, K classes.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from .errors import RsbenchError
from .specs import Modality

Lifting = Literal["none", "frame_mean", "still_clip"]
"""The names a record uses, see `Model.lifting`."""


class _Lifted(nn.Module):
    """Another network inside, whose classifier is this one's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @property
    def head(self) -> nn.Module | None:
        """Classifier of the network inside, (N, D) -> (N, K)."""
        head: nn.Module | None = getattr(self.module, "head", None)
        return head

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as in nn.Module
        if name == "head":
            # The property above would hide a module registered here.
            setattr(self.module, name, value)
        else:
            super().__setattr__(name, value)

    def _maps_inside(self, batch: Tensor) -> dict[str, Tensor]:
        # Any: `module` is a `BackboneModule`, which nn.Module's attributes do not show.
        inside: Any = self.module
        maps: dict[str, Tensor] = inside.stage_maps(batch)
        return maps


class FrameMean(_Lifted):
    """An image network on clips: the mean of its features over the frames."""

    def forward(self, batch: Tensor) -> Tensor:
        """Map clips (N, C, T, H, W) to features (N, D); the order of frames does not matter."""
        features: Tensor = self.module(_frames(batch))
        return _by_clip(features, batch.shape[0]).mean(1)

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the maps of all frames, (N, C', T, H', W') each."""
        return {
            name: _by_clip(maps, batch.shape[0]).transpose(1, 2)
            for name, maps in self._maps_inside(_frames(batch)).items()
        }


class StillClip(_Lifted):
    """A video network on pictures: each is shown as a clip in which nothing moves."""

    def __init__(self, module: nn.Module, frames: int) -> None:
        super().__init__(module)
        self.frames = frames

    def forward(self, batch: Tensor) -> Tensor:
        """Map pictures (N, C, H, W) to features (N, D)."""
        features: Tensor = self.module(self._clips(batch))
        return features

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the maps averaged over time, (N, C', H', W') each."""
        return {name: maps.mean(2) for name, maps in self._maps_inside(self._clips(batch)).items()}

    def _clips(self, batch: Tensor) -> Tensor:
        return batch.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)


def lift(
    module: nn.Module,
    *,
    backbone_modality: Modality,
    task_modality: Modality,
    frames: int | None = None,
) -> tuple[nn.Module, Lifting]:
    """Let a network read a task's views, whatever it was made for.

    Args:
        module: A `BackboneModule` of `backbone_modality`.
        backbone_modality: What the network maps: "image" (N, C, H, W), "video" (N, C, T, H, W).
        task_modality: What the task gives.
        frames: Length of the still clip a video network is shown of a picture: the frames of its
            `InputSpec`. Needed for that pair only.

    Returns:
        A module on the task's views, and how it reads them: "none" (the module itself, unchanged),
        "frame_mean" (an image network's features averaged over the frames of a clip) or
        "still_clip" (a picture repeated in time).

    Raises:
        RsbenchError: There is no rule for the pair, or `frames` is missing.
    """
    if backbone_modality == task_modality:
        return module, "none"
    if (backbone_modality, task_modality) == ("image", "video"):
        return FrameMean(module), "frame_mean"
    if (backbone_modality, task_modality) == ("video", "image"):
        if frames is None or frames < 1:
            raise RsbenchError(
                "a video network on pictures needs the length of its still clip, at least 1 frame, "
                f"and got {frames}: give the frames of its InputSpec"
            )
        return StillClip(module, frames), "still_clip"
    raise RsbenchError(
        f"a backbone for {backbone_modality} items can't read {task_modality} items: choose a "
        f"backbone of modality {task_modality} (rsbench ls backbones shows it)"
    )


def _frames(clips: Tensor) -> Tensor:
    """Give (N, C, T, H, W) as (N * T, C, H, W), clip by clip."""
    return clips.transpose(1, 2).flatten(0, 1)


def _by_clip(values: Tensor, num_clips: int) -> Tensor:
    """Give (N * T, ...) as (N, T, ...)."""
    return values.reshape(num_clips, -1, *values.shape[1:])

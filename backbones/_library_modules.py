"""What networks of other libraries share: their own names and code, behind the backbone contract.

A network is built by its library and then *cast*, not wrapped: its object is given a subclass of
its own class (`adapt`). So parameters keep the library's names, published files load by them, and
copies, hooks and devices work as the library made them. A subclass adds what the contract asks
for: `forward` stops before the classifier, `head` is the classifier, `stage_maps` gives the maps.

Shape letters: N batch, C channels, T frames, H height, W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from rsbench.errors import RsbenchError

PLACEHOLDER_CLASSES = 1
"""Width of the classifier that a library insists on where none is asked for; it is taken out."""


class InputSizeError(RsbenchError, ValueError):
    """The input has another size than the network's position embeddings are for."""


class LibraryNetwork(nn.Module):
    """Gives the library's classifier as `head`; to be listed before the library's own class."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the libraries are not typed
            ...

    def _classifier_name(self) -> str:
        """Give the name of the classifier among the network's modules: "fc", "classifier.2"."""
        raise NotImplementedError

    @property
    def head(self) -> nn.Module | None:
        """Classifier (N, D) -> (N, K) logits, None where none was asked for."""
        parent, name = self._classifier_place()
        return parent._modules[name]

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as in nn.Module
        if name == "head":
            # The property above would hide a module registered as "head".
            parent, last = self._classifier_place()
            parent._modules[last] = value
        else:
            super().__setattr__(name, value)

    def _classifier_place(self) -> tuple[nn.Module, str]:
        """Give the module that holds the classifier, and its name there."""
        *parents, last = self._classifier_name().split(".")
        place: nn.Module = self
        for name in parents:
            # Not getattr: a library may call its classifier "head" too.
            inside = place._modules[name]
            assert inside is not None, "only the classifier is ever taken out"
            place = inside
        return place, last


class FittingAvgPool3d(nn.AvgPool3d):
    """An average pool whose kernel shrinks to maps smaller than itself, and else is as it was.

    Video networks average over a fixed extent, that of their training clip. On more they are fully
    convolutional; on less they would fail, and here take the average of what there is.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, T', H', W'), each at least 1."""
        assert isinstance(self.kernel_size, tuple)
        kernel = [
            min(extent, size)
            for extent, size in zip(self.kernel_size, input.shape[2:], strict=True)
        ]
        return F.avg_pool3d(input, kernel, self.stride, self.padding)


def adapt(network: Any, family: type[LibraryNetwork], num_classes: int | None) -> nn.Module:  # noqa: ANN401 - the libraries are not typed
    """Cast a library's network to the contract.

    Args:
        network: As its library built it, with a classifier of `num_classes`, or of
            `PLACEHOLDER_CLASSES` if that is None.
        family: A subclass of `LibraryNetwork` and of the network's own class.
        num_classes: None takes the classifier out.
    """
    network.__class__ = family
    for part in network.modules():
        if type(part) is nn.AvgPool3d:
            part.__class__ = FittingAvgPool3d
    network.head_dropout = _dropout_before_classifier(network)
    if num_classes is None:
        network.head = None
    adapted: nn.Module = network
    return adapted


def _dropout_before_classifier(network: Any) -> float:  # noqa: ANN401 - as above
    """Give the probability that the classifier does not see a feature while it is trained."""
    place, name = network._classifier_place()
    near = [*place._modules[name].children()]
    if place is not network:
        near += place.children()
    return next((part.p for part in near if isinstance(part, nn.Dropout)), 0.0)


def collect(
    children: Iterable[nn.Module], batch: Tensor, ends: Mapping[int, str]
) -> dict[str, Tensor]:
    """Run modules one after the other and keep the maps behind some of them.

    Args:
        children: The modules, in order.
        batch: What the first one reads.
        ends: Position of a module -> name of its map.
    """
    maps = {}
    for position, child in enumerate(children):
        batch = child(batch)
        if position in ends:
            maps[ends[position]] = batch
    return maps


def tokens_to_maps(tokens: Tensor, extent: tuple[int, ...]) -> Tensor:
    """Lay a class token and patch tokens (N, 1 + P, D) out as (N, D, [T], H, W), P = [T] H W."""
    patches = tokens[:, 1:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *extent)


def check_size(batch: Tensor, size: tuple[int, ...]) -> None:
    """Refuse another size than that of the position embeddings.

    Args:
        batch: (N, C, H, W) or (N, C, T, H, W).
        size: (H, W) or (T, H, W).

    Raises:
        InputSizeError: It differs; says what to type.
    """
    given = tuple(batch.shape[2:])
    if given != size:
        frames = f" --frames {size[0]}" if len(size) == 3 else ""
        raise InputSizeError(
            f"its position embeddings are for {_in_words(size)} and the input has"
            f" {_in_words(given)}: say{frames} --pixels {size[-1]}"
        )


def _in_words(size: tuple[int, ...]) -> str:
    *frames, height, width = size
    return f"{f'{frames[0]} frames of ' if frames else ''}{height} x {width} pixels"

"""A classification network of timm behind the backbone contract, its parameters by timm's names.

Features are what timm feeds its classifier (``pre_logits``), stage maps what its
``forward_intermediates`` gives. timm's own code calls its classifier by many names, "head" among
them, and needs it while it runs; so the network is wrapped here, and the wrapper is transparent to
names: `state_dict`, `load_state_dict` and `named_parameters` speak of "layer1.0.conv1.weight", not
of "network.layer1.0.conv1.weight".

Shape letters: N batch, C channels, H height, W width, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from rsbench.errors import PluginError

from ._library_modules import LibraryNetwork, check_size

_WRAPPED = "network."

_MOST_ALIKE = 4
"""Of blocks that all have one size, a transformer's, so many are stage maps: one a quarter."""


class TimmNetwork(LibraryNetwork):
    """Map pictures (N, 3, H, W) to what timm's classifier reads, (N, D)."""

    def __init__(self, network: Any, *, name: str) -> None:  # noqa: ANN401 - timm's own many classes
        """Wrap a network.

        Args:
            network: As `timm.create_model` gives it; with 0 classes, it has no classifier.
            name: What it is called in messages.

        Raises:
            PluginError: It has not one classifier that maps features to logits.
        """
        super().__init__()
        self.network = network
        self._classifier = _WRAPPED + _classifier_name(network, name)
        parent, last = self._classifier_place()
        if isinstance(parent._modules[last], nn.Conv2d):
            parent._modules[last].__class__ = PointwiseClassifier
        # torch leaves both methods without types.
        self.register_state_dict_post_hook(_unwrap_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_wrap_names)  # type: ignore[no-untyped-call]

    def _classifier_name(self) -> str:
        return self._classifier

    @property
    def head(self) -> nn.Module | None:
        """Classifier (N, D) -> (N, K) logits, None where none was asked for."""
        parent, last = self._classifier_place()
        classifier = parent._modules[last]
        return None if isinstance(classifier, nn.Identity) else classifier

    def forward(self, batch: Tensor) -> Tensor:
        """Map a normalised batch (N, 3, H, W) to features (N, D)."""
        self._check_size(batch)
        features: Tensor = self.network.forward_head(
            self.network.forward_features(batch), pre_logits=True
        )
        return features

    def stage_maps(self, batch: Tensor) -> dict[str, Tensor]:
        """Give the last map of each size, or of a transformer's equal blocks one a quarter.

        Names are timm's own of the modules ("layer4", "blocks.11"); each map is (N, C', H', W').
        """
        self._check_size(batch)
        infos = list(self.network.feature_info)
        chosen = _stages([info["reduction"] for info in infos])
        maps = self.network.forward_intermediates(batch, indices=chosen, intermediates_only=True)
        names = [infos[index]["module"] for index in chosen]
        return dict(zip(names, maps, strict=True))

    def _check_size(self, batch: Tensor) -> None:
        """Say what to type where position embeddings are for another size; timm would assert."""
        patches = getattr(self.network, "patch_embed", None)
        size = getattr(patches, "img_size", None)
        if size is not None and getattr(patches, "strict_img_size", False):
            check_size(batch, tuple(size))

    def named_modules(
        self,
        memo: set[nn.Module] | None = None,
        prefix: str = "",
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, nn.Module]]:
        """Give all modules by timm's own names; `named_parameters` and others follow them."""
        memo = set() if memo is None else memo
        if self not in memo:
            if remove_duplicate:
                memo.add(self)
            yield prefix, self
        yield from self.network.named_modules(memo, prefix, remove_duplicate)


class PointwiseClassifier(nn.Conv2d):
    """A 1x1 convolution that stands for a linear layer, on pooled features."""

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, D) to (N, K); maps (N, D, H, W) as before."""
        if input.ndim == 2:
            return super().forward(input[:, :, None, None]).flatten(1)
        return super().forward(input)


def _classifier_name(network: Any, name: str) -> str:  # noqa: ANN401 - timm's own many classes
    """Give the name of the one layer that makes logits of features."""
    classifier = network.get_classifier()
    is_one = isinstance(classifier, nn.Module) and not isinstance(classifier, nn.ModuleList)
    # VOLO names one of its two heads, and adds the other's logits to that one's.
    if not is_one or getattr(network, "aux_head", None) is not None:
        raise PluginError(
            f"{name} classifies with several heads at once, and a backbone has features and one"
            " head on them; name a network with one classifier."
        )
    found = next(path for path, part in network.named_modules() if part is classifier)
    # Some give the whole end of the network, pooling included.
    return f"{found}.fc" if hasattr(classifier, "fc") else found


def _stages(reductions: list[int]) -> list[int]:
    """Choose which of timm's maps are stages, by how much smaller than the picture each is."""
    if len(set(reductions)) == 1 and len(reductions) > _MOST_ALIKE:
        last = len(reductions)
        return [last * quarter // _MOST_ALIKE - 1 for quarter in range(1, _MOST_ALIKE + 1)]
    following = [*reductions[1:], None]
    pairs = enumerate(zip(reductions, following, strict=True))
    return [index for index, (own, after) in pairs if own != after]


def _unwrap_names(
    module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    """After timm's state was gathered, take the wrapper out of its names, in order."""
    del module, local_metadata
    _rename(state, prefix + _WRAPPED, prefix)


def _wrap_names(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """Before a state is loaded, put the wrapper into its names."""
    del module, rest
    _rename(state, prefix, prefix + _WRAPPED)


def _rename(state: dict[str, Any], start: str, instead: str) -> None:
    for name in [name for name in state if name.startswith(start)]:
        state[instead + name.removeprefix(start)] = state.pop(name)

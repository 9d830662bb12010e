"""Every classification network of timm by its name there: ``timm/convnext_tiny``.

timm (https://github.com/huggingface/pytorch-image-models) is an extra: ``pip install
"rsbench[timm]"``. Its networks are not copied into a list here; a name is looked up in the timm
that is installed, and `backbone_for` describes what it finds: parameters counted on the meta
device, input and published weights as timm's own configuration has them. Nothing is downloaded.

- Weights are named by timm's tag: ``--backbone timm/resnet50 --weights a1_in1k`` is timm's
  ``resnet50.a1_in1k``. Their preprocessing is timm's evaluation, at the test size and test crop
  where timm gives these (its published scores are measured so), else at the training size.
- Left out are weights whose picture no `InputSpec` can say (squashed or padded instead of cropped,
  not square), and files that are not under https or in timm's own hub repositories.
- Of timm 1.0.31's 1,371 networks 68 are refused: 61 classify with several heads at once (LeViT,
  CrossViT, VOLO, distilled DeiT, ...), 7 are encoders of language models, without any.

Files with older names or extra buffers are read as timm reads them: by its own filters.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from rsbench.errors import PluginError, UnknownNameError, WeightsError
from rsbench.specs import Backbone, InputSpec, Weights, WeightsFormat
from rsbench.synsets import IMAGENET1K

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

BACKBONES: tuple[Backbone, ...] = ()
"""None is listed: `backbone_for` gives each of the thousand by its name."""

FAMILY = "timm/"

INSTALL = 'pip install "rsbench[timm]"'

CITATION = (
    "Wightman, PyTorch Image Models, 2019, https://github.com/huggingface/pytorch-image-models"
)

# Words of timm's tags that name a data set -> the data set. Other words tell recipes, authors and
# sizes; a tag in which none of these stands says nothing of the data.
DATA_SETS = {
    "in1k": "imagenet1k",
    "in12k": "imagenet12k",
    "in21k": "imagenet21k",
    "in22k": "imagenet22k",
    "cc12m": "cc12m",
    "datacomp1b": "datacomp1b",
    "datacompxl": "datacomp_xl",
    "dfn2b": "dfn2b",
    "dfn5b": "dfn5b",
    "ig1b": "ig1b",
    "jft": "jft300m",
    "laion2b": "laion2b",
    "laion400m": "laion400m",
    "lvd142m": "lvd142m",
    "lvd1689m": "lvd1689m",
    "merged2b": "merged2b",
    "sa1b": "sa1b",
    "sat493m": "sat493m",
    "webli": "webli",
    "yfcc15m": "yfcc15m",
    "yfcc100m": "yfcc100m",
}

LICENCES = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
}
"""timm's words for licences -> their SPDX names; others are given as timm has them."""

_HASH_IN_URL = re.compile(r"-([0-9a-f]{8})[0-9a-f]*\.(?:pth|pt|bin)$")
"""The end of an address as torch.hub reads it: the first digits of the file's sha256."""


@lru_cache(maxsize=64)
def backbone_for(name: str) -> Backbone:
    """Describe a network of timm.

    Args:
        name: ``timm/NAME`` with a name of `timm.list_models`, without weights' tag.

    Raises:
        UnknownNameError: timm has no such network; says the nearest ones.
        PluginError: timm is not installed, or the network is no classifier with one head.
    """
    timm = _library()
    architecture = _checked_name(name)
    default = timm.models.get_pretrained_cfg(architecture)
    # Of the networks that timm declares without classifier (DINOv2, ...), none is counted.
    num_classes = (default.num_classes if default is not None else 1000) or None
    try:
        counted, with_head = _outline(architecture, num_classes), _outline(architecture, 1)
    except PluginError:
        raise
    # A thousand networks of many hands: some are encoders of other models, and say so by raising.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PluginError(f"{name} can't be built as a classifier by timm: {reason}") from error
    return Backbone(
        name=name,
        version=1,
        modality="image",
        input=_input_without_weights(default),
        feature_width=with_head.network.head_hidden_size,
        num_parameters=sum(each.numel() for each in counted.parameters()),
        parameters_with_classes=num_classes,
        build=partial(build_network, architecture),
        weights=tuple(_known_weights(architecture)),
        rename=partial(_as_timm_reads, architecture),
        requires="timm",
        title=f"{architecture} of timm {timm.__version__}",
        licence="Apache-2.0",
        citation=CITATION,
    )


def build_network(architecture: str, num_classes: int | None) -> nn.Module:
    """Build a network of timm behind the backbone contract, with random parameters.

    Args:
        architecture: A name of `timm.list_models`.
        num_classes: Of the classifier; None for none.

    Raises:
        PluginError: timm is not installed, or the network has not one head.
    """
    timm = _library()
    from ._timm_modules import TimmNetwork

    network = timm.create_model(architecture, pretrained=False, num_classes=num_classes or 0)
    return TimmNetwork(network, name=FAMILY + architecture)


def _library() -> Any:  # noqa: ANN401 - timm is not typed
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise PluginError(
            f"timm/NAME and efficientnet_lite_* need timm, which is not installed: run `{INSTALL}`."
        ) from error
    return timm


def _checked_name(name: str) -> str:
    """Give timm's name of ``timm/NAME``, which must be one of today's."""
    timm = _library()
    architecture, dot, tag = name.removeprefix(FAMILY).partition(".")
    known = timm.list_models()
    if dot and architecture in known:
        raise UnknownNameError(
            f"{name} names weights too; say --backbone {FAMILY}{architecture} --weights {tag}."
        )
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(FAMILY + each for each in near)}?" if near else ""
        raise UnknownNameError(
            f"timm {timm.__version__} has no network {architecture!r}.{hint}"
            f" timm.list_models() gives all {len(known)}."
        )
    return architecture


def _outline(architecture: str, num_classes: int | None) -> Any:  # noqa: ANN401 - a TimmNetwork
    import torch

    with torch.device("meta"):
        return build_network(architecture, num_classes)


# ------------------------------------------------------------------------------------- weights


def _known_weights(architecture: str) -> Iterator[Weights]:
    """Give timm's weights of a network that can be had and shown what they want to see."""
    for config in _library().models.get_arch_pretrained_cfgs(architecture).values():
        place = _place(config)
        if place is None or config.crop_mode != "center" or not _is_square(config):
            continue
        url, format, sha256 = place
        yield Weights(
            name=config.tag or "default",
            url=url,
            sha256=sha256,
            format=format,
            trained_on=_trained_on(config.tag or ""),
            num_classes=config.num_classes or None,
            classes=_classes(config),
            input=_input(config),
            licence=LICENCES.get(config.license, config.license) or "unknown",
            source=_source(architecture, config),
        )


def _place(config: Any) -> tuple[str, WeightsFormat, str | None] | None:  # noqa: ANN401 - PretrainedCfg
    """Give hub id or URL, format and declared sha256; None where a file can't be had so."""
    hub_id, url = config.hf_hub_id or "", config.url or ""
    if hub_id.startswith("timm/") and config.hf_hub_filename is None:
        return hub_id, "safetensors", None
    if not hub_id and url.startswith("https://") and not config.custom_load:
        found = _HASH_IN_URL.search(url)
        return url, "torch", found[1] if found else None
    return None


def _is_square(config: Any) -> bool:  # noqa: ANN401 - PretrainedCfg
    channels, height, width = config.test_input_size or config.input_size
    return (channels, height) == (3, width)


def _input(config: Any) -> InputSpec:  # noqa: ANN401 - PretrainedCfg
    """Give the picture of timm's evaluation (`timm.data.resolve_data_config`, test sizes)."""
    return InputSpec(
        pixels=(config.test_input_size or config.input_size)[1],
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        crop_ratio=config.test_crop_pct or config.crop_pct,
        resizer="timm",
    )


def _input_without_weights(config: Any) -> InputSpec:  # noqa: ANN401 - PretrainedCfg or None
    """Give the picture that a network is trained on in timm."""
    if config is None:
        return InputSpec(pixels=224, interpolation="bicubic", crop_ratio=0.875, resizer="timm")
    return InputSpec(
        pixels=config.input_size[1],
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=config.interpolation,
        crop_ratio=config.crop_pct,
        resizer="timm",
    )


def _trained_on(tag: str) -> tuple[str, ...]:
    """Read the data sets off a tag, in order: fb_in22k_ft_in1k has seen two."""
    found = (DATA_SETS[word] for word in tag.split("_") if word in DATA_SETS)
    return tuple(dict.fromkeys(found))


def _classes(config: Any) -> tuple[str, ...]:  # noqa: ANN401 - PretrainedCfg
    """Name the classes of a head of ImageNet-1k; timm orders the others itself."""
    in1k = _trained_on(config.tag or "")[-1:] == ("imagenet1k",)
    standard = in1k and config.num_classes == len(IMAGENET1K) and not config.label_offset
    return IMAGENET1K if standard else ()


def _source(architecture: str, config: Any) -> str:  # noqa: ANN401 - PretrainedCfg
    name = f"{architecture}.{config.tag}" if config.tag else architecture
    origin = f", from {config.origin_url}" if config.origin_url else ""
    return f"timm's {name}{origin}"


def _as_timm_reads(
    architecture: str, format: WeightsFormat, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray]:
    """Give tensors of an older or original file by today's names, with timm's own filters.

    Raises:
        WeightsError: timm does not take them for this network's.
    """
    import torch

    timm = _library()
    state = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    configs = timm.models.get_arch_pretrained_cfgs(architecture).values()
    reason = ""
    # How wide the classifier is can't be seen before its names are known; timm demands that all
    # tensors fit where network and configuration agree.
    for num_classes in dict.fromkeys(config.num_classes for config in configs):
        overlay = {"state_dict": dict(state), "num_classes": num_classes, "custom_load": False}
        try:
            with torch.random.fork_rng(devices=[]):
                network = timm.create_model(
                    architecture,
                    pretrained=True,
                    pretrained_cfg_overlay=overlay,
                    num_classes=num_classes,
                )
        # Filters look for what they know and may stumble over anything else.
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            continue
        return {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    raise WeightsError(
        f"timm does not take these {format} tensors for its {architecture} ({reason}): name the"
        " network that the file was saved from"
    )

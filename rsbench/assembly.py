"""A backbone, its weights and a task's modality, made into a `Model` that is ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn

from rsbench.digests import digest_json
from rsbench.errors import PluginError, RsbenchError, WeightsError
from rsbench.lifting import lift
from rsbench.profile import count_macs, count_parameters
from rsbench.records.schema import WeightsPart
from rsbench.specs import Backbone, ClipSpec, InputSpec, Modality, Model, Sample, Task
from rsbench.weights.choosing import OWN, ChosenWeights
from rsbench.weights.fitting import Candidates, nobody
from rsbench.weights.loading import load_network
from rsbench.weights.state import maps_digest, numeric_digest, state_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """A model with what its record says of it."""

    model: Model
    weights: WeightsPart
    numeric_digest: str
    num_parameters: int
    macs_per_view: int | None


def check_device(name: str) -> None:
    """Refuse a device that is not there.

    Raises:
        RsbenchError: It is neither "cpu" nor a GPU of this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    num_gpus = torch.cuda.device_count()
    known = device is not None and device.type in {"cpu", "cuda"}
    if device is None or not known or (device.type == "cuda" and (device.index or 0) >= num_gpus):
        here = ", ".join(["cpu", *(f"cuda:{index}" for index in range(num_gpus))])
        raise RsbenchError(f"--device must be one of this machine's: {here}; it was {name!r}.")


def resolve_input(
    weights_input: InputSpec,
    *,
    backbone_modality: Modality,
    task: Task,
    sample: Sample | None,
    pixels: int | None,
    frames: int | None,
    stride: int | None,
) -> tuple[InputSpec, ClipSpec]:
    """Say what the network sees of this task's items.

    The user's own words win, then the sample's small sizes on a sample run, then what the weights
    were trained on. An image network is given the task's clip of a video, so that 2D and 3D see the
    same frames.

    Returns:
        The input, and the frames that are read of each item.

    Raises:
        RsbenchError: The user's words would move nothing.
    """
    if task.modality == "image" and stride is not None:
        raise RsbenchError(f"--stride is for videos, and the items of {task.name} are images.")
    if task.modality == backbone_modality == "image" and frames is not None:
        raise RsbenchError(
            f"--frames is for videos and for video networks; {task.name} and the network are of"
            " images."
        )
    if task.modality == "video" and backbone_modality == "image":
        if task.clip is None:
            raise PluginError(
                f"Video task {task.name} must declare the clip that image networks are given; set"
                " its clip=ClipSpec(frames=..., stride=...)."
            )
        clip = task.clip
    else:
        clip = ClipSpec(frames=weights_input.frames, stride=weights_input.stride)
    if sample is not None and sample.clip is not None:
        clip = sample.clip
    clip = ClipSpec(frames=frames or clip.frames, stride=stride or clip.stride)
    sample_pixels = sample.pixels if sample is not None else None
    side = pixels or sample_pixels or weights_input.pixels
    seen = replace(
        weights_input.at(side),
        frames=clip.frames,
        stride=clip.stride,
    )
    return seen, clip if task.modality == "video" else ClipSpec(frames=1, stride=1)


def assemble(
    backbone: Backbone,
    chosen: ChosenWeights,
    *,
    input: InputSpec,
    task_modality: Modality,
    seed: int,
    device: str,
    built_in: bool,
    candidates: Candidates = nobody,
    say: Callable[[str], None] = lambda line: None,
) -> Assembled:
    """Build, load, lift and digest a network.

    Args:
        backbone: What to build.
        chosen: What to load into it.
        input: What it will see (`resolve_input`).
        task_modality: What the items are.
        seed: Of the random initialisation; weights that fill every tensor make it irrelevant.
        device: "cpu", "cuda", "cuda:1".
        built_in: Whether rsbench knows that the network begins at random; of anybody else's it is
            tried, for a function may load a checkpoint of its own.
        candidates: Where to look for the network of a file that does not fit this one.
        say: Called with lines for whoever is watching: what became of inflated tensors.

    Raises:
        WeightsError: The file is damaged, of another network, or not the declared one.
    """
    with torch.random.fork_rng(devices=[]):
        loaded = load_network(backbone, chosen, seed=seed, candidates=candidates, say=say)
        part = loaded.weights
        if chosen.path is None and not built_in:
            part = _own_weights(backbone, part, seed=seed)
    module = loaded.module.eval()
    outputs = _digest_at(numeric_digest, module, backbone.modality, input)
    num_parameters = count_parameters(module)
    head = module.head
    if isinstance(head, nn.Module):
        num_parameters -= count_parameters(head)
    lifted, lifting = lift(
        module,
        backbone_modality=backbone.modality,
        task_modality=task_modality,
        frames=input.frames,
    )
    digest = digest_json([backbone.name, backbone.version, part.digest, outputs, lifting])
    model = Model(
        module=lifted.eval().to(device),
        head=head.eval().to(device) if isinstance(head, nn.Module) else None,
        head_classes=loaded.head_classes,
        feature_width=backbone.feature_width,
        lifting=lifting,
        digest=digest,
        published_training=backbone.published_training or (lambda pixels: {}),
        maps_digest=cache(lambda: _digest_at(maps_digest, module, backbone.modality, input)),
    )
    return Assembled(
        model=model,
        weights=part,
        numeric_digest=outputs,
        num_parameters=num_parameters,
        macs_per_view=_macs_per_view(backbone, input, task_modality),
    )


def _own_weights(backbone: Backbone, part: WeightsPart, *, seed: int) -> WeightsPart:
    """Say so where a network sets its own weights: they do not depend on the seed."""
    torch.manual_seed(seed + 1)
    if state_digest(backbone.build(None)) != part.digest:
        return part
    note = "the network's own code sets its weights; what they have seen is not known"
    return replace(part, name=OWN, verified=False, init_seed=None, notes=(note,))


def _digest_at(
    digest: Callable[[nn.Module, tuple[int, ...]], str],
    module: nn.Module,
    modality: Modality,
    input: InputSpec,
) -> str:
    """Digest what comes of a small input, or of its own size for a network that takes no other.

    Position embeddings and flattened maps tie a network to one size.
    """
    own, small = _shape(modality, input), _shape(modality, _reduced(input))
    try:
        return digest(module, small)
    except WeightsError:
        if small == own:
            raise
    return digest(module, own)


def _reduced(input: InputSpec) -> InputSpec:
    """Give an input on which two networks that differ still give different outputs."""
    return replace(input, pixels=min(input.pixels, 64), frames=min(input.frames, 8))


def _shape(modality: Modality, input: InputSpec) -> tuple[int, ...]:
    """Give the shape of a batch of one."""
    side, channels = input.pixels, len(input.mean)
    depth = {"image": (), "video": (input.frames,), "volume": (side,)}[modality]
    return (1, channels, *depth, side, side)


def _macs_per_view(backbone: Backbone, input: InputSpec, task_modality: Modality) -> int | None:
    """Count one view: an image network reads every frame of a clip."""
    if backbone.modality == "volume":
        return None
    one_pass = count_macs(backbone.build, _shape(backbone.modality, input))
    reads_frames = backbone.modality == "image" and task_modality == "video"
    return one_pass * input.frames if one_pass is not None and reads_frames else one_pass

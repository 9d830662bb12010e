"""A backbone, its weights and a task's modality, made into a `Model` that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from rsbench.digests import digest_file, digest_json
from rsbench.errors import UnknownNameError, WeightsError
from rsbench.lifting import lift
from rsbench.profile import count_macs, count_parameters
from rsbench.records.schema import WeightsPart
from rsbench.specs import Backbone, ClipSpec, InputSpec, Modality, Model, Sample, Task, Weights
from rsbench.weights import load_into, load_state, numeric_digest, state_digest

RANDOM = "none"
"""The name of no weights: random initialisation, written so in every table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenWeights:
    """Which parameters a run starts from, found but not read."""

    name: str
    input: InputSpec
    path: Path | None = None
    """The local file; None for random initialisation."""
    known: Weights | None = None
    """The declared weights, where the file is one of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """A model with what its record says of it."""

    model: Model
    weights: WeightsPart
    numeric_digest: str
    num_parameters: int
    macs_per_view: int | None


def choose_weights(backbone: Backbone, name: str, *, cache_root: Path) -> ChosenWeights:
    """Find weights by name or path; nothing is downloaded.

    Args:
        backbone: The network they are for.
        name: "none", the name of one of the backbone's known weights, or a file.
        cache_root: Where known weights are looked for: ``weights/BACKBONE/NAME.suffix``.

    Raises:
        WeightsError: They are known and not here; says the URL and where to put the file.
        UnknownNameError: Neither a known name nor a file.
    """
    if name == RANDOM:
        return ChosenWeights(name=RANDOM, input=backbone.input)
    known = next((each for each in backbone.weights if each.name == name), None)
    if known is not None:
        path = known_weights_path(backbone, known, cache_root=cache_root)
        if not path.is_file():
            raise WeightsError(
                f"Weights {name} of {backbone.name} are not here: download"
                f" {known.url or known.source} and put the file at {path}."
            )
        return ChosenWeights(name=name, input=known.input, path=path, known=known)
    path = Path(name)
    if not path.is_file():
        names = ", ".join([RANDOM, *(each.name for each in backbone.weights)])
        raise UnknownNameError(
            f"No weights {name!r} for {backbone.name}: it is no file, and the names are {names}."
        )
    return ChosenWeights(name=path.name, input=backbone.input, path=path)


def known_weights_path(backbone: Backbone, weights: Weights, *, cache_root: Path) -> Path:
    """Say where the file of known weights must lie."""
    suffix = {"safetensors": ".safetensors", "torch": ".pth", "keras-h5": ".h5"}.get(
        weights.format, ""
    )
    family = backbone.name.partition("@")[0].replace("/", "--")
    return cache_root / "weights" / family / f"{weights.name}{suffix}"


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
    """
    if task.modality == "video" and backbone_modality == "image":
        assert task.clip is not None, f"video task {task.name} declares no clip for image networks"
        clip = task.clip
    else:
        clip = ClipSpec(frames=weights_input.frames, stride=weights_input.stride)
    if sample is not None and sample.clip is not None:
        clip = sample.clip
    clip = ClipSpec(frames=frames or clip.frames, stride=stride or clip.stride)
    sample_pixels = sample.pixels if sample is not None else None
    seen = replace(
        weights_input,
        pixels=pixels or sample_pixels or weights_input.pixels,
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
) -> Assembled:
    """Build, load, lift and digest a network.

    Args:
        backbone: What to build.
        chosen: What to load into it.
        input: What it will see (`resolve_input`).
        task_modality: What the items are.
        seed: Of the random initialisation; weights that fill every tensor make it irrelevant.
        device: "cpu", "cuda", "cuda:1".

    Raises:
        WeightsError: The file is damaged, of another network, or not the declared one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, part = _build_and_load(backbone, chosen, seed=seed)
    module = module.eval()
    outputs = numeric_digest(module, _probe_shape(backbone.modality, input))
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
        head_classes=chosen.known.classes if chosen.known is not None else (),
        feature_width=backbone.feature_width,
        lifting=lifting,
        digest=digest,
    )
    return Assembled(
        model=model,
        weights=part,
        numeric_digest=outputs,
        num_parameters=num_parameters,
        macs_per_view=_macs_per_view(backbone, input, task_modality),
    )


def _build_and_load(
    backbone: Backbone, chosen: ChosenWeights, *, seed: int
) -> tuple[nn.Module, WeightsPart]:
    if chosen.path is None:
        module = backbone.build(None)
        return module, WeightsPart(
            name=RANDOM,
            digest=state_digest(module),
            trained_on=(),
            verified=True,
            init_seed=seed,
            notes=(),
        )
    sha256 = digest_file(chosen.path)
    declared = chosen.known.sha256 if chosen.known is not None else None
    if declared is not None and sha256 != declared:
        raise WeightsError(
            f"{chosen.path} must have sha256 {declared} to be {chosen.name}; it has {sha256}."
            " Delete it and fetch it again."
        )
    state = load_state(chosen.path)
    module = backbone.build(_head_width(backbone, chosen, state))
    notes = load_into(module, state, name=f"{chosen.path.name} into {backbone.name}")
    return module, WeightsPart(
        name=chosen.name,
        digest=state_digest(module),
        trained_on=chosen.known.trained_on if chosen.known is not None else (),
        verified=declared is not None,
        init_seed=None,
        notes=tuple(notes),
    )


def _head_width(
    backbone: Backbone, chosen: ChosenWeights, state: dict[str, torch.Tensor]
) -> int | None:
    """Read the head's number of classes off the file: never assumed (1000 or 1001, 400 or 600)."""
    if chosen.known is not None:
        return chosen.known.num_classes
    with torch.device("meta"):
        with_head = backbone.build(2).state_dict()
        without = backbone.build(None).state_dict()
    head_names = [name for name in with_head if name not in without and name in state]
    widths = {state[name].shape[0] for name in head_names if state[name].ndim == 2}
    return widths.pop() if len(widths) == 1 else None


def _probe_shape(modality: Modality, input: InputSpec) -> tuple[int, ...]:
    """Give a small batch on which two networks that differ give different outputs."""
    side = min(input.pixels, 64)
    channels = len(input.mean)
    if modality == "image":
        return (1, channels, side, side)
    depth = min(input.frames, 8) if modality == "video" else side
    return (1, channels, depth, side, side)


def _macs_per_view(backbone: Backbone, input: InputSpec, task_modality: Modality) -> int | None:
    """Count one view: an image network reads every frame of a clip."""
    channels, side = len(input.mean), input.pixels
    if backbone.modality == "volume":
        return None
    if backbone.modality == "image":
        frame = count_macs(backbone.build, (1, channels, side, side))
        num_frames = input.frames if task_modality == "video" else 1
        return None if frame is None else frame * num_frames
    return count_macs(backbone.build, (1, channels, input.frames, side, side))

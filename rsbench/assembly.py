"""A backbone, its weights and a task's modality, made into a `Model` that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from rsbench.digests import digest_file, digest_json
from rsbench.errors import PluginError, RsbenchError, UnknownNameError, WeightsError
from rsbench.lifting import lift
from rsbench.profile import count_macs, count_parameters
from rsbench.records.schema import WeightsPart
from rsbench.specs import Backbone, ClipSpec, InputSpec, Modality, Model, Sample, Task, Weights
from rsbench.weights import load_into, load_state, numeric_digest, state_digest

RANDOM = "none"
"""The name of no weights: random initialisation, written so in every table."""
OWN = "own"
"""What a record says where the network's own code set its weights."""


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
    if name in {RANDOM, OWN}:
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
    built_in: bool,
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

    Raises:
        WeightsError: The file is damaged, of another network, or not the declared one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, part = _build_and_load(backbone, chosen, seed=seed)
        if chosen.path is None and not built_in:
            part = _own_weights(backbone, part, seed=seed)
    module = module.eval()
    outputs = _outputs_digest(module, backbone.modality, input)
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


def _own_weights(backbone: Backbone, part: WeightsPart, *, seed: int) -> WeightsPart:
    """Say so where a network sets its own weights: they do not depend on the seed."""
    torch.manual_seed(seed + 1)
    if state_digest(backbone.build(None)) != part.digest:
        return part
    note = "the network's own code sets its weights; what they have seen is not known"
    return replace(part, name=OWN, verified=False, init_seed=None, notes=(note,))


def _head_width(
    backbone: Backbone, chosen: ChosenWeights, state: dict[str, torch.Tensor]
) -> int | None:
    """Read the head's number of classes off the file: never assumed (1000 or 1001, 400 or 600)."""
    if chosen.known is not None:
        return chosen.known.num_classes
    with_head, without = _outline(backbone, 2), _outline(backbone, None)
    head_names = [name for name in with_head if name not in without and name in state]
    widths = {state[name].shape[0] for name in head_names if state[name].ndim == 2}
    return widths.pop() if len(widths) == 1 else None


def _outline(backbone: Backbone, num_classes: int | None) -> dict[str, torch.Tensor]:
    """Give a network's state for its names and shapes."""
    try:
        with torch.device("meta"):
            return backbone.build(num_classes).state_dict()
    except (RuntimeError, NotImplementedError):
        # It computes with values while it is built, which takes real ones.
        return backbone.build(num_classes).state_dict()


def _outputs_digest(module: nn.Module, modality: Modality, input: InputSpec) -> str:
    """Digest the outputs on a small input, or on its own size for a network that takes no other.

    Position embeddings and flattened maps tie a network to one size.
    """
    own, small = _shape(modality, input), _shape(modality, _reduced(input))
    try:
        return numeric_digest(module, small)
    except WeightsError:
        if small == own:
            raise
    return numeric_digest(module, own)


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

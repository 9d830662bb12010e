"""A backbone's contract: counted and shaped on the meta device, tried on small batches on the CPU.

What costs time at the declared size (shapes, parameters) runs without numbers on the meta device;
what needs numbers runs on an input of at most 64 pixels and 8 frames, and on the declared one only
where the network refuses a smaller.

Shape letters: N batch, C channels, T frames, H height, W width, D features, K classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.adapt import BareModule
from rsbench.errors import RsbenchError
from rsbench.findings import Check, Fault, attempt, some
from rsbench.media.resizers import check_resizer
from rsbench.profile import count_parameters
from rsbench.registry import Found, find_backbone
from rsbench.specs import Backbone, InputSpec, Weights
from rsbench.templates import still_to_write
from rsbench.weights.state import state_digest

NUM_CLASSES = 7
"""Width of the trial head."""
SMALL_PIXELS = 64
SMALL_FRAMES = 8
TOLERANCE = 1e-5
"""Largest difference between a batch and its single items, over the largest feature."""

_SHA256 = re.compile(r"[0-9a-f]{64}|[0-9a-f]{8}")
_PACKAGE = re.compile(r"[\w.-]+:(?!.*\.\.)[\w-][\w./-]*")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SCORE = re.compile(r"[\w.@-]+/[\w.@-]+")


def check_backbone(found: Found[Backbone]) -> list[Check]:
    """Try a backbone's whole contract; no weights are read and nothing is downloaded.

    Args:
        found: The backbone, as the registry gives it.

    Returns:
        One finding a question, in the order asked. Where the network can't be built, the questions
        that need it are left out.
    """
    spec = found.spec
    mend_fields = "Complete the backbone's fields (rsbench/specs.py says what each one is)."
    mend = "Mend the network or its Backbone."
    checks = [
        attempt("description", lambda: _look_at_description(found), next_step=mend_fields),
        attempt("input", lambda: _look_at_input(spec.input, spec), next_step=mend_fields),
        attempt("weights", lambda: _look_at_weights(spec), next_step=mend_fields),
        attempt("building", lambda: _look_at_building(spec), next_step=mend),
    ]
    if checks[-1].ok:
        questions: list[tuple[str, Callable[[Backbone], str]]] = [
            ("parameters", _look_at_parameters),
            ("random start", _look_at_seeds),
            ("features", _look_at_features),
            ("stage maps", _look_at_stage_maps),
            ("head", _look_at_head),
            ("evaluation mode", _look_at_evaluation),
            ("batch independence", _look_at_batches),
            ("devices", _look_at_devices),
        ]
        checks += [attempt(name, _bind(look, spec), next_step=mend) for name, look in questions]
    return checks


def _bind(look: Callable[[Backbone], str], spec: Backbone) -> Callable[[], str]:
    return lambda: look(spec)


# -------------------------------------------------------------------------------- as declared


def _look_at_description(found: Found[Backbone]) -> str:
    spec = found.spec
    names = ["name", "title", "licence", "citation"]
    if _is_bare(found):
        # Made from a function that gives a module: there is nobody to cite in it.
        names.remove("citation")
    texts = {name: getattr(spec, name) for name in names}
    empty = [name for name, text in texts.items() if not text.strip()]
    if empty:
        raise Fault(
            f"{', '.join(empty)} must be given, and is empty", next_step="Write it in the Backbone."
        )
    if spec.version < 1 or spec.feature_width < 1 or spec.num_parameters < 0:
        raise Fault(
            f"version and feature_width must be 1 or more, num_parameters 0 or more; they are"
            f" {spec.version}, {spec.feature_width} and {spec.num_parameters}",
            next_step="Correct the Backbone.",
        )
    return f"all fields are given{still_to_write(texts)}"


def _is_bare(found: Found[Backbone]) -> bool:
    """Tell whether the backbone is `./net.py:build`: the registry names it FILE:FUNCTION."""
    return found.source_sha256 is not None and ":" in found.spec.name


def _look_at_input(given: InputSpec, spec: Backbone) -> str:
    wrong = []
    if given.pixels < 1 or given.frames < 1 or given.stride < 1:
        wrong.append(
            f"pixels, frames and stride must be 1 or more, were {given.pixels}, {given.frames} and"
            f" {given.stride}"
        )
    if spec.modality == "image" and given.frames != 1:
        wrong.append(f"an image network must take 1 frame, frames was {given.frames}")
    if spec.modality == "video" and given.frames < 2:
        wrong.append(f"a video network must take 2 frames or more, frames was {given.frames}")
    if not 0 < given.crop_ratio <= 1:
        wrong.append(f"crop_ratio must be above 0 and at most 1, was {given.crop_ratio}")
    if not given.mean or len(given.mean) != len(given.std):
        wrong.append(f"mean and std must have one value a channel, were {given.mean}, {given.std}")
    if any(not -1 <= mean <= 1 for mean in given.mean) or any(not 0 < s <= 2 for s in given.std):
        wrong.append(
            f"mean and std must be those of pixels in [0, 1], were {given.mean} and {given.std}"
        )
    try:
        check_resizer(given)
    except RsbenchError as error:
        wrong.append(str(error))
    if wrong:
        raise Fault("; ".join(wrong), next_step="Correct the InputSpec; divide 0..255 by 255.")
    frames = f"{given.frames} x " if spec.modality == "video" else ""
    return f"{frames}{given.pixels} x {given.pixels} pixels"


def _look_at_weights(spec: Backbone) -> str:
    names = [weights.name for weights in spec.weights]
    if len(set(names)) < len(names) or {"none", "pretrained"} & set(names):
        raise Fault(
            "names of weights must differ and not be 'none' or 'pretrained'; they are"
            f" {some(names)}",
            next_step="Rename them.",
        )
    for weights in spec.weights:
        wrong = list(_faults_of(weights, spec))
        if wrong:
            raise Fault(f"{weights.name}: {'; '.join(wrong)}", next_step="Correct its Weights.")
    unverified = [weights.name for weights in spec.weights if weights.sha256 is None]
    note = f", without sha256 (unverified): {some(unverified)}" if unverified else ""
    return f"{len(names)} entries{note}"


def _faults_of(weights: Weights, spec: Backbone) -> Iterator[str]:
    if weights.sha256 is not None and not _SHA256.fullmatch(weights.sha256):
        yield (
            "sha256 must be 64 lower-case hexadecimal digits, or the first 8, or None, was"
            f" {weights.sha256!r}"
        )
    url = weights.url
    if url is not None and not url.startswith("https://") and not _HUB_ID.fullmatch(url):
        yield f"url must be https://... or a hub id OWNER/NAME, was {url!r}"
    if url is None and weights.package is None and not weights.source:
        yield "source must say where the file is from, as there is no url; it was empty"
    if weights.package is not None and not _PACKAGE.fullmatch(weights.package):
        yield f"package must be DISTRIBUTION:PATH/IN/IT, was {weights.package!r}"
    if weights.network is not None and not _is_listed(weights.name, weights.network):
        yield f"network must be a backbone that lists {weights.name!r} too, was {weights.network!r}"
    if weights.num_classes is not None and weights.num_classes < 1:
        yield f"num_classes must be 1 or more, or None without head, was {weights.num_classes}"
    if weights.classes and len(weights.classes) != weights.num_classes:
        yield (
            f"classes must be as many as num_classes ({weights.num_classes}), were"
            f" {len(weights.classes)}"
        )
    for score, percent in weights.published.items():
        if not _SCORE.fullmatch(score) or not 0 <= percent <= 100:
            yield f"published must map 'task/metric' to percent, had {score!r}: {percent}"
    if weights.published and not weights.published_conditions:
        yield "published_conditions must say how its scores were measured, were empty"
    if len(weights.input.mean) != len(spec.input.mean):
        yield (
            f"its input must have {len(spec.input.mean)} channels like the backbone's, had"
            f" {len(weights.input.mean)}"
        )
    try:
        _look_at_input(weights.input, spec)
    except Fault as fault:
        yield f"input: {fault.detail}"


def _is_listed(name: str, network: str) -> bool:
    try:
        return name in [weights.name for weights in find_backbone(network).spec.weights]
    except RsbenchError:
        return False


# ----------------------------------------------------------------------------------- as built


def _build(spec: Backbone, num_classes: int | None, *, device: str = "cpu", seed: int = 0) -> Any:  # noqa: ANN401 - a BackboneModule, which is an nn.Module besides
    """Build in eval mode, leaving torch's generator as it was."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        return spec.build(num_classes).eval()


def _look_at_building(spec: Backbone) -> str:
    module = _build(spec, None, device="meta")
    if not isinstance(module, nn.Module):
        raise Fault(
            f"build must give a torch.nn.Module; it gave a {type(module).__name__}",
            next_step="Return the module itself.",
        )
    missing = [name for name in ("head", "stage_maps") if not hasattr(module, name)]
    if missing:
        raise Fault(
            f"the module must have head and stage_maps; {type(module).__name__} lacks"
            f" {' and '.join(missing)}",
            next_step="See BackboneModule in rsbench/specs.py.",
        )
    return f"{type(module).__name__}, with and without head"


def _look_at_parameters(spec: Backbone) -> str:
    counted = count_parameters(_build(spec, spec.parameters_with_classes, device="meta"))
    head = (
        "without head"
        if spec.parameters_with_classes is None
        else f"with a head of {spec.parameters_with_classes} classes"
    )
    if counted != spec.num_parameters:
        raise Fault(
            f"num_parameters must be what the network has {head}, {counted:,}; it says"
            f" {spec.num_parameters:,}",
            next_step=f"Write num_parameters={counted:_}, or mend the network.",
        )
    return f"{counted:,} {head}"


def _look_at_seeds(spec: Backbone) -> str:
    first, again, other = (state_digest(_build(spec, None, seed=seed)) for seed in (0, 0, 1))
    if first != again:
        raise Fault(
            "equal seeds must give equal parameters, and gave different ones",
            next_step="Draw every parameter and buffer from torch's global generator.",
        )
    if first == other and spec.num_parameters > 0:
        raise Fault(
            "different seeds must give different parameters, and gave equal ones",
            next_step="Do not seed inside build, and load no weights there.",
        )
    return "the seed decides the parameters"


def _shape(spec: Backbone, num_items: int, *, small: bool) -> tuple[int, ...]:
    """Give the shape of a batch: declared, or at most `SMALL_PIXELS` and `SMALL_FRAMES`."""
    pixels = min(spec.input.pixels, SMALL_PIXELS) if small else spec.input.pixels
    frames = min(spec.input.frames, SMALL_FRAMES) if small else spec.input.frames
    depth = {"image": (), "video": (frames,), "volume": (pixels,)}[spec.modality]
    return (num_items, len(spec.input.mean), *depth, pixels, pixels)


def _at_declared_size(spec: Backbone, ask: Callable[[Any, Tensor], Any]) -> Any:  # noqa: ANN401 - what `ask` gives
    """Ask the network about a batch of 2 at its declared size, without numbers if that can be."""
    shape = _shape(spec, 2, small=False)
    try:
        with torch.device("meta"), torch.inference_mode():
            return ask(_build(spec, None, device="meta"), torch.empty(shape, device="meta"))
    except (RuntimeError, NotImplementedError):
        # Some networks look at values while they run, which the meta device has none of.
        with torch.inference_mode():
            return ask(_build(spec, None), torch.zeros(shape))


def _batch(spec: Backbone, num_items: int, *, small: bool = True) -> Tensor:
    """Give a normalised-looking batch, the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_shape(spec, num_items, small=small), generator=generator)


def _features(spec: Backbone, module: Any, num_items: int) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Run a small batch, or the declared size where the network takes no smaller."""
    with torch.inference_mode():
        batch = _batch(spec, num_items)
        try:
            return batch, module(batch)
        except (RuntimeError, ValueError, AssertionError):
            batch = _batch(spec, num_items, small=False)
            return batch, module(batch)


def _look_at_features(spec: Backbone) -> str:
    shaped = _at_declared_size(spec, lambda module, batch: module(batch))
    if not isinstance(shaped, Tensor):
        raise Fault(
            f"the network must give a tensor of features; it gave a {type(shaped).__name__}",
            next_step="Return the features alone.",
        )
    if tuple(shaped.shape) != (2, spec.feature_width) or shaped.dtype != torch.float32:
        raise Fault(
            f"features of a batch {_shape(spec, 2, small=False)} must be float32"
            f" {(2, spec.feature_width)}; they were {shaped.dtype} {tuple(shaped.shape)}",
            next_step="Pool them over space and time, and declare their feature_width.",
        )
    _, values = _features(spec, _build(spec, None), 2)
    if not bool(torch.isfinite(values).all()):
        raise Fault(
            "features of an ordinary input must be finite; some are NaN or infinite",
            next_step="Look at the initialisation and at divisions.",
        )
    if torch.equal(values[0], values[1]):
        raise Fault(
            "features must depend on the input; two different inputs gave equal ones",
            next_step="Look at the initialisation: are all features zero?",
        )
    return f"float32 (N, {spec.feature_width}), finite"


def _look_at_stage_maps(spec: Backbone) -> str:
    is_bare, maps = _at_declared_size(
        spec, lambda module, batch: (isinstance(module, BareModule), module.stage_maps(batch))
    )
    num_axes = 4 if spec.modality == "image" else 5
    if not isinstance(maps, dict) or not maps:
        raise Fault(
            f"stage_maps must give a dict of one map or more; it gave {type(maps).__name__}",
            next_step="Give the last map of each stage by name, coarsest last.",
        )
    sizes = []
    for name, value in maps.items():
        if not isinstance(value, Tensor):
            raise Fault(
                f"stage_maps must give tensors; {name!r} is a {type(value).__name__}",
                next_step="Give the map itself.",
            )
        if (value.ndim != num_axes and not is_bare) or len(value) != 2:
            raise Fault(
                f"a stage map must have {num_axes} axes, batch first; {name!r} of a batch of 2 is"
                f" {tuple(value.shape)}",
                next_step="Give the map before it is pooled.",
            )
        sizes.append(value.shape[-1])
    if sizes != sorted(sizes, reverse=True):
        raise Fault(
            f"stage maps must come coarsest last; their widths are {sizes}",
            next_step="Order them as the network computes them.",
        )
    return ", ".join(f"{name} {'x'.join(map(str, m.shape[1:]))}" for name, m in maps.items())


def _look_at_head(spec: Backbone) -> str:
    without, with_head = (_build(spec, number) for number in (None, NUM_CLASSES))
    if isinstance(without, BareModule):
        return "a bare module: its output serves as the head's"
    if without.head is not None:
        raise Fault(
            f"build(None) must give head=None; it is a {type(without.head).__name__}",
            next_step="Make a head only where a number of classes is asked for.",
        )
    if not isinstance(with_head.head, nn.Module):
        raise Fault(
            f"build({NUM_CLASSES}) must give a head that is an nn.Module; it is a"
            f" {type(with_head.head).__name__}",
            next_step="Make it nn.Linear(feature_width, num_classes), or what the weights have.",
        )
    _, features = _features(spec, with_head, 2)
    if tuple(features.shape) != (2, spec.feature_width):
        raise Fault(
            f"a network with head must still give features {(2, spec.feature_width)}; it gave"
            f" {tuple(features.shape)}",
            next_step="Leave the head out of forward; protocols apply it.",
        )
    with torch.inference_mode():
        logits = with_head.head(features)
    if tuple(logits.shape) != (2, NUM_CLASSES):
        raise Fault(
            f"a head of {NUM_CLASSES} classes must give {(2, NUM_CLASSES)}; it gave"
            f" {tuple(logits.shape)}",
            next_step="Let the head map (N, D) to (N, K).",
        )
    return "(N, D) to (N, K) where asked for, None where not"


def _look_at_evaluation(spec: Backbone) -> str:
    """See that reading leaves the network as it was, and gives the same twice."""
    module = _build(spec, None)
    before = state_digest(module)
    batch, first = _features(spec, module, 2)
    with torch.inference_mode():
        again = module(batch)
    if not torch.equal(first, again):
        raise Fault(
            "in eval mode one batch must give the same features twice; it did not",
            next_step="Switch dropout, drop path and other noise off when not self.training.",
        )
    if state_digest(module) != before:
        raise Fault(
            "in eval mode reading must leave all parameters and buffers alone; some changed",
            next_step="Update running statistics only when self.training.",
        )
    return "the same features twice, nothing changed by reading"


def _look_at_batches(spec: Backbone) -> str:
    module = _build(spec, None)
    batch, together = _features(spec, module, 3)
    with torch.inference_mode():
        single = torch.cat([module(batch[row : row + 1]) for row in range(3)])
    largest = float(together.abs().max())
    difference = float((together - single).abs().max()) / (largest or 1.0)
    if not difference <= TOLERANCE:
        raise Fault(
            f"a batch of 3 must give what its items give alone, to {TOLERANCE:g} of the largest"
            f" feature; they differ by {difference:.1e}",
            next_step="Normalise by running statistics in eval mode; mix nothing along the batch.",
        )
    return f"a batch of 3 differs from single items by {difference:.1e} of the largest feature"


def _look_at_devices(spec: Backbone) -> str:
    """See that everything moves with the network: the meta device refuses tensors left behind."""
    module = _build(spec, None)
    hidden = sorted(_plain_tensors(module))
    if hidden:
        raise Fault(
            "tensors of a network must be parameters or registered buffers, or they stay behind"
            f" when it moves to another device; these are neither: {some(hidden)}",
            next_step="Use self.register_buffer(name, tensor, persistent=...).",
        )
    batch, _ = _features(spec, module, 2)
    try:
        with torch.inference_mode():
            module.to("meta")(batch.to("meta"))
    except NotImplementedError:
        return "all state is registered; the network looks at values, so moving it was not tried"
    except RuntimeError as error:
        if "device" not in str(error):
            return "all state is registered; the network looks at values, so moving was not tried"
        raise Fault(
            "the network must run on the device it was moved to; it met a tensor of another:"
            f" {str(error).splitlines()[0]}",
            next_step="Make tensors in forward with device=batch.device.",
        ) from error
    return "all state moves with the network"


def _plain_tensors(module: nn.Module) -> Iterator[str]:
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            inside = value.values() if isinstance(value, dict) else value
            members = list(inside) if isinstance(value, list | tuple | dict) else [value]
            if any(isinstance(member, Tensor) for member in members):
                yield f"{path}.{name}".lstrip(".")

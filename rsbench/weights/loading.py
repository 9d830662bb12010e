"""A network with its parameters in it: drawn at random, read from a file, inflated, or fine-tuned.

Which file it is was chosen before (`rsbench.weights.choosing`). How many classes its classifier
has is read off the file, and a file that does not fit is told with the network that it would fit.

Shape letters: D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsbench.digests import digest_file, digest_json
from rsbench.errors import RecordError, WeightsError
from rsbench.records import heads
from rsbench.records.schema import WeightsPart
from rsbench.specs import Backbone
from rsbench.weights import shelf
from rsbench.weights.choosing import NOTES, ChosenWeights, Flat, hold_conversion
from rsbench.weights.fitting import Candidates, explained, nobody, read_tensors
from rsbench.weights.inflation import inflate
from rsbench.weights.shelf import HeldTo
from rsbench.weights.state import MisfitError, load_into, state_digest

_HELD_NOTES: Mapping[HeldTo, str] = {
    "given": "the weights' sha256 is the one given when they were fetched; none is declared",
    "hub": "the weights' sha256 is what the hub stated when they were fetched; none is declared",
}

_BODY = "backbone."
"""Where `finetune` puts the network in its arrays; its classifier is at "head."."""

_LIFTED, _BARE = "module.", "body."
"""What stands before a network's own names where it was lifted to other items, or came bare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A network with its parameters, and what the record says of them."""

    module: nn.Module
    weights: WeightsPart
    head_classes: tuple[str, ...]
    """Names of its classifier's classes, where known."""


def load_network(
    backbone: Backbone,
    chosen: ChosenWeights,
    *,
    seed: int,
    candidates: Candidates = nobody,
    say: Callable[[str], None] = lambda line: None,
) -> Loaded:
    """Build a network and put the chosen weights into it; torch's generator is seeded.

    Args:
        backbone: What to build.
        chosen: What to load into it.
        seed: Of the random initialisation; weights that fill every tensor make it irrelevant.
        candidates: Where to look for the network of a file that does not fit this one.
        say: Called with lines for whoever is watching: what became of inflated tensors.

    Raises:
        WeightsError: The file is damaged, of another network, or not the declared one.
    """
    if chosen.path is None:
        torch.manual_seed(seed)
        return _loaded(backbone.build(None), chosen, verified=True, init_seed=seed)
    if chosen.flat is not None:
        return _inflated(backbone, chosen.flat, chosen, seed=seed, candidates=candidates, say=say)
    if heads.FACTS in shelf.metadata_of(chosen.path):
        return _fine_tuned(backbone, chosen, chosen.path, candidates)
    verified, notes = _held(chosen, chosen.path)
    tensors = read_tensors(backbone, chosen.path, candidates=candidates)
    module = backbone.build(tensors.num_classes)
    notes += tensors.notes
    notes += _load(module, tensors.state, backbone, chosen.path, candidates)
    classes = chosen.known.classes if chosen.known is not None else ()
    declared = chosen.known.num_classes if chosen.known is not None else None
    if declared is not None and declared != tensors.num_classes:
        has = tensors.num_classes or "no"
        notes += (f"the weights' classifier has {has} classes and is declared with {declared}",)
        classes = ()
    return _loaded(module, chosen, verified=verified, notes=notes, head_classes=classes)


def _loaded(
    module: nn.Module,
    chosen: ChosenWeights,
    *,
    verified: bool,
    init_seed: int | None = None,
    notes: Sequence[str] = (),
    head_classes: tuple[str, ...] = (),
) -> Loaded:
    part = WeightsPart(
        name=chosen.name,
        digest=state_digest(module),
        trained_on=chosen.trained_on,
        verified=verified,
        init_seed=init_seed,
        notes=(*chosen.notes, *notes),
    )
    return Loaded(module=module, weights=part, head_classes=head_classes)


def _load(
    module: nn.Module,
    state: Mapping[str, Tensor],
    backbone: Backbone,
    path: Path,
    candidates: Candidates,
) -> tuple[str, ...]:
    try:
        return tuple(load_into(module, state, name=f"{path.name} into {backbone.name}"))
    except MisfitError as error:
        raise explained(error, backbone, state, candidates) from error


def _held(chosen: ChosenWeights, path: Path) -> tuple[bool, tuple[str, ...]]:
    """Hold a file to the sha256 it must have; whether there was one, and what to say of it."""
    metadata = shelf.metadata_of(path)
    notes = (metadata[NOTES],) if NOTES in metadata else ()
    if chosen.sha256 is not None:
        sha256 = digest_file(path)
        if sha256 != chosen.sha256:
            raise WeightsError(
                f"{path} must have sha256 {chosen.sha256}, as the record beside it says; it has"
                f" {sha256}: it was changed; run that record again."
            )
        return chosen.began_verified, notes
    if chosen.place is None or chosen.known is None:
        return False, notes
    if path == chosen.place.converted != chosen.place.raw:
        # A converted file is as good as the one it was made of.
        held_to = hold_conversion(chosen.place)
    else:
        pin = shelf.read_pin(chosen.place)
        step = f"Get it by {shelf.fetch_again(chosen.place)}."
        sha256 = digest_file(path)
        held_to = shelf.hold(sha256, chosen.known, pin, what=str(path), next_step=step)
    said = (_HELD_NOTES[held_to],) if held_to in _HELD_NOTES else ()
    return held_to != "nothing", (*notes, *said)


# ---------------------------------------------------------------------------------- fine-tuned


def _fine_tuned(
    backbone: Backbone, chosen: ChosenWeights, path: Path, candidates: Candidates
) -> Loaded:
    """Load what a finished `finetune` left beside its record: the network and its classifier."""
    verified, _ = _held(chosen, path)
    head = _fitted_head(path, chosen.fold)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in head.arrays.items()}
    module: Any = backbone.build(None)  # a `BackboneModule`, which is an nn.Module besides
    body = _own_names(module, arrays)
    if not body or not {"head.weight", "head.bias"} <= arrays.keys():
        raise WeightsError(
            f"{path} must hold a network and holds what a protocol fitted on a frozen one: apply"
            " it with `rsbench predict RECORD FILE...`, or name the weights it was fitted on."
        )
    notes = _load(module, body, backbone, path, candidates)
    weight_KD, bias_K = arrays["head.weight"], arrays["head.bias"]
    classifier = nn.Linear(weight_KD.shape[1], weight_KD.shape[0])
    classifier.load_state_dict({"weight": weight_KD, "bias": bias_K})
    module.head = classifier
    found = _loaded(module, chosen, verified=verified, notes=notes, head_classes=head.classes)
    # Of a bare module the state is that of its body, without a classifier put on top.
    digest = digest_json([found.weights.digest, state_digest(classifier)])
    return replace(found, weights=replace(found.weights, digest=digest))


def _fitted_head(path: Path, fold: str | None) -> heads.Head:
    try:
        return heads.from_bytes(path.read_bytes(), fold=fold, where=path.name)
    except RecordError as error:
        raise WeightsError(
            f"{path} must hold one fine-tuned network to be taken as weights: {error}"
        ) from error


def _own_names(module: nn.Module, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a fine-tuned network by the names of its state."""
    body = {name.removeprefix(_BODY): t for name, t in arrays.items() if name.startswith(_BODY)}
    expected = module.state_dict()
    for prefix in (_LIFTED, _BARE):
        if body and not body.keys() & expected.keys() and all(n.startswith(prefix) for n in body):
            body = {name.removeprefix(prefix): tensor for name, tensor in body.items()}
    # Training keeps all buffers, also those that the network's state leaves out.
    buffers = {name.removeprefix(_BARE) for name, _ in module.named_buffers()} - expected.keys()
    return {name: tensor for name, tensor in body.items() if name not in buffers}


# ------------------------------------------------------------------------------------ inflated


def _inflated(
    backbone: Backbone,
    flat: Flat,
    chosen: ChosenWeights,
    *,
    seed: int,
    candidates: Candidates,
    say: Callable[[str], None],
) -> Loaded:
    """Load what of an image network's weights has a place; the rest keeps its random start."""
    torch.manual_seed(seed)
    module = backbone.build(None)
    source = load_network(flat.backbone, flat.weights, seed=seed, candidates=candidates)
    found = inflate(
        source.module.state_dict(),
        module.state_dict(),
        notes=getattr(module, "inflation_notes", None),
    )
    for line in found.lines():
        say(line)
    module.load_state_dict(dict(found.state), strict=False)
    return _loaded(
        module,
        chosen,
        verified=source.weights.verified,
        init_seed=seed if found.new else None,
        # The choice of the inflated ones has brought its notes here already.
        notes=(*source.weights.notes[len(chosen.notes) :], found.note),
    )

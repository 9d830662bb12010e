"""Which parameters a run starts from: found by name or path, not read; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rsbench.errors import RsbenchError, UnknownNameError, WeightsError
from rsbench.records import heads, store
from rsbench.records.schema import BackbonePart
from rsbench.specs import Backbone, InputSpec, Weights
from rsbench.weights import shelf
from rsbench.weights.shelf import PRETRAINED, HeldTo, Place, base_name, known_weights
from rsbench.weights.state import foreign_kind

RANDOM = "none"
"""The name of no weights: random initialisation, written so in every table."""
OWN = "own"
"""What a record says where the network's own code set its weights."""
INFLATE = "inflate:"
"""Before the name or file of an image network's weights, to start a video network from them."""

MADE_FOR = "rsbench_backbone"
"""Metadata of a converted file: the network it was converted for."""
MADE_OF = "source_sha256"
"""Metadata of a converted file: sha256 of the file it was made of."""
SOURCE = "source_name"
"""Metadata of a converted file: name of the file it was made of."""
NOTES = "rsbench_notes"
"""Metadata of a converted file: what a reader of its numbers must know."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenWeights:
    """Which parameters a run starts from, found but not read."""

    name: str
    input: InputSpec
    path: Path | None = None
    """The local file; None for random initialisation."""
    known: Weights | None = None
    """The declared weights, where the file is one of them."""
    place: Place | None = None
    """Where declared weights lie, with their pin."""
    sha256: str | None = None
    """Of the file, as a record beside it says; `known` and its pin say their own."""
    trained_on: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader of the number must know of the choice."""
    flat: Flat | None = None
    """What is inflated into the network; `path` is that file then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flat:
    """An image network and the weights of it that a video network starts from."""

    backbone: Backbone
    weights: ChosenWeights


def choose_weights(backbone: Backbone, name: str, *, cache_root: Path) -> ChosenWeights:
    """Find weights by name or path; nothing is downloaded.

    Args:
        backbone: The network they are for.
        name: "none", the name of one of the backbone's known weights, "pretrained" for the first
            of them, a file, or the record of a fine-tuning; for a video network also "inflate:"
            before one of its image network's.
        cache_root: Where known weights are looked for (`rsbench.weights.shelf`).

    Raises:
        WeightsError: They are known and not here, or not converted, or made for another network;
            says the command that gets them.
        RecordError: The record that is named, or beside the file, is damaged.
        UnknownNameError: Neither a known name nor a file.
    """
    if name in {RANDOM, OWN}:
        return ChosenWeights(name=RANDOM, input=backbone.input)
    if name.startswith(INFLATE):
        return _to_inflate(backbone, name.removeprefix(INFLATE), cache_root=cache_root)
    known = known_weights(backbone, name)
    if known is not None:
        return _from_shelf(backbone, known, cache_root=cache_root)
    if name == PRETRAINED:
        raise WeightsError(
            f"{backbone.name} has no published weights that are known: name a file with --weights,"
            f" or {RANDOM}."
        )
    return _from_file(backbone, name)


def input_of(part: BackbonePart) -> InputSpec:
    """Give what a recorded run saw."""
    return InputSpec(
        pixels=part.pixels,
        frames=part.frames,
        stride=part.stride,
        mean=part.mean,
        std=part.std,
        interpolation=part.interpolation,  # type: ignore[arg-type]  # written from an InputSpec
        antialias=part.antialias,
        crop_ratio=part.crop_ratio,
        resizer=part.resizer,  # type: ignore[arg-type]  # written from an InputSpec
        resize_to=(part.resize_to[0], part.resize_to[1]) if part.resize_to else None,
    )


def _from_shelf(backbone: Backbone, known: Weights, *, cache_root: Path) -> ChosenWeights:
    place = shelf.place_of(backbone, known, cache_root=cache_root)
    if place.network != base_name(backbone.name):
        raise WeightsError(
            f"Weights {known.name} belong to {place.network}, not to {backbone.name}: name"
            f" --backbone {place.network}."
        )
    found = shelf.look(place)
    if found.standing == "absent":
        raise WeightsError(shelf.how_to_get(place))
    if found.standing == "to convert":
        raise WeightsError(
            f"Weights {known.name} of {place.network} are here as {known.format} and must be"
            f" converted once: run `rsbench weights convert {known.name} --backbone"
            f" {place.network}`."
        )
    if found.standing == "converted":
        hold_conversion(place)
    return ChosenWeights(
        name=known.name,
        input=known.input,
        path=found.path,
        known=known,
        place=place,
        trained_on=known.trained_on,
    )


def hold_conversion(place: Place) -> HeldTo:
    """See to it that a converted file was made of the declared one, for this network.

    Returns:
        What the sha256 of the file it was made of was compared with.

    Raises:
        WeightsError: It was made of another file, for another network, or not by rsbench.
    """
    metadata = shelf.metadata_of(place.converted)
    again = f"run `rsbench weights convert {place.weights.name} --backbone {place.network}` again"
    if metadata.get(MADE_FOR) != place.network or MADE_OF not in metadata:
        raise WeightsError(
            f"{place.converted} must be what rsbench made of {place.raw.name} for {place.network};"
            f" it says {metadata.get(MADE_FOR) or 'nothing'}: delete it and {again}."
        )
    return shelf.hold(
        metadata[MADE_OF],
        place.weights,
        shelf.read_pin(place),
        what=f"the file that {place.converted} was made of",
    )


def _from_file(backbone: Backbone, name: str) -> ChosenWeights:
    path = Path(name)
    base = base_name(backbone.name)
    if kind := foreign_kind(path):
        raise WeightsError(
            f"{path} is a {kind} and must be converted once: run `rsbench weights convert {path}"
            f" --backbone {base} --to FILE.safetensors`, then name that file."
        )
    if not path.is_file():
        names = ", ".join([RANDOM, *(each.name for each in backbone.weights)])
        raise UnknownNameError(
            f"No weights {name!r} for {backbone.name}: it is no file, and the names are {names}."
        )
    if path.suffix == ".json":
        path = _left_by(path)
    metadata = shelf.metadata_of(path)
    if heads.FACTS in metadata:
        return _fine_tuned(backbone, path)
    made_for = metadata.get(MADE_FOR, base)
    if made_for != base:
        raise WeightsError(
            f"{path} was converted for {made_for} and {backbone.name} is another network: name"
            f" --backbone {made_for}, or a file for this one."
        )
    return ChosenWeights(name=path.name, input=backbone.input, path=path)


def _left_by(record: Path) -> Path:
    """Give the file of what a recorded run fitted."""
    stored = store.Stored(record, store.read(record))
    name = f"{record.stem}.{store.HEAD_SUFFIX}"
    if name not in stored.record.files or not record.with_name(name).is_file():
        raise WeightsError(
            f"{record} must have {name} beside it to be taken as weights, and has not: name a"
            " record of finetune, or a file of weights."
        )
    return record.with_name(name)


def _fine_tuned(backbone: Backbone, path: Path) -> ChosenWeights:
    """Take what a finished run left, seen through the input that its record tells of."""
    stem = path.name.removesuffix(f".{store.HEAD_SUFFIX}")
    beside = path.with_name(f"{stem}.json")
    if stem == path.name or not beside.is_file():
        note = (
            f"{path.name} has no record beside it that tells its input; the backbone's own is taken"
        )
        return ChosenWeights(name=path.name, input=backbone.input, path=path, notes=(note,))
    record = store.read(beside)
    if base_name(record.backbone.name) != base_name(backbone.name):
        raise WeightsError(
            f"{path} was trained on {record.backbone.name} and {backbone.name} is another network:"
            f" name --backbone {record.backbone.name}, or a file for this one."
        )
    seen = input_of(record.backbone)
    if backbone.modality == "image":
        # A task of videos decides which frames an image network is given.
        seen = replace(seen, frames=1, stride=1)
    return ChosenWeights(
        name=path.name,
        input=seen,
        path=path,
        sha256=record.files.get(path.name),
        trained_on=(*record.weights.trained_on, record.task.name),
    )


def _to_inflate(backbone: Backbone, name: str, *, cache_root: Path) -> ChosenWeights:
    if backbone.flat is None:
        raise RsbenchError(
            f"{INFLATE} starts a video network from the weights of its image network, and"
            f" {backbone.name} has none; leave it out, or name a network such as resnet_rs_3d_50."
        )
    chosen = choose_weights(backbone.flat, name, cache_root=cache_root)
    if chosen.path is None or chosen.flat is not None:
        raise RsbenchError(
            f"{INFLATE} takes a name or file of {backbone.flat.name}; it was {name!r}."
        )
    # Preprocessing belongs to the weights: their mean and deviation, at the network's own size.
    seen = replace(backbone.input, mean=chosen.input.mean, std=chosen.input.std)
    return ChosenWeights(
        name=f"{INFLATE}{chosen.name}",
        input=seen,
        path=chosen.path,
        trained_on=chosen.trained_on,
        flat=Flat(backbone=backbone.flat, weights=chosen),
    )

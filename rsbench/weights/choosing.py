"""Which parameters a run starts from: found by name or path, not read; nothing is downloaded."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rsbench.digests import digest_file
from rsbench.errors import RsbenchError, UnknownNameError, WeightsError
from rsbench.records import heads, store
from rsbench.records.schema import BackbonePart
from rsbench.specs import Backbone, InputSpec, Weights
from rsbench.weights import shelf
from rsbench.weights.shelf import PRETRAINED, HeldTo, Place, base_name, known_weights
from rsbench.weights.state import foreign_kind, is_there

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

UNKNOWN_INPUT = "preprocessing is the network's own, not known to be the file's"
"""What is noted of a file that says nothing of what its network was shown."""
UNKNOWN_START = "started from weights of unknown training"
"""What is noted of a fine-tuning from a file: what that has seen stands in no list."""
NO_HISTORY = "too old to say which items the network learned on"
"""What is noted of a fine-tuned file that was written before such files said so."""
_TRAINING_OPTIONS = ("dropout", "stochastic_depth")
"""Options of backbones that act in training alone: with and without them it is one network."""


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
    began_verified: bool = True
    """Of a fine-tuned file: whether what it started from was verified, or was random."""
    fold: str | None = None
    """Of a fine-tuned file with one network for each of several folds: whose it is."""
    trained_on: tuple[str, ...] = ()
    """Tasks, "TASK:FOLD" where a network learned in one fold of several."""
    is_history_known: bool = True
    """Of a fine-tuned file: whether `trained_on` names every fold that its network learned in."""
    learned: frozenset[int] = frozenset()
    """Of a fine-tuned file: a key for each item that its network learned on, now or before
    (`rsbench.weights.history.item_key`); empty where the file is too old to say."""
    learned_ids: frozenset[str] = frozenset()
    """The same as ids, of the last of `trained_on`: for files too old to say more, where rsbench
    made the folds and the record beside them keeps these."""
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
            of them, a file, or the record of a fine-tuning, with ":FOLD" after either where it
            left one network a fold; for a video network also "inflate:" before one of its image
            network's.
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
    return _from_file(backbone, name, cache_root=cache_root)


def network_name(backbone: str) -> str:
    """Give a backbone's name with the options that change what it computes, without the others."""
    base, *options = backbone.split("@")[0].split("+")
    kept = [each for each in options if each.partition("=")[0] not in _TRAINING_OPTIONS]
    return "+".join([base, *sorted(kept)])


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
    return _known(known, found.path, place)


def hold_conversion(place: Place) -> HeldTo:
    """See to it that a converted file was made of the declared one, for this network.

    Returns:
        What the sha256 of the file it was made of was compared with.

    Raises:
        WeightsError: It was made of another file, for another network, or not by rsbench; or it was
            changed since.
    """
    metadata = shelf.metadata_of(place.converted)
    again = f"run `rsbench weights convert {place.weights.name} --backbone {place.network}` again"
    if metadata.get(MADE_FOR) != place.network or MADE_OF not in metadata:
        raise WeightsError(
            f"{place.converted} must be what rsbench made of {place.raw.name} for {place.network};"
            f" it says {metadata.get(MADE_FOR) or 'nothing'}: delete it and {again}."
        )
    pin = shelf.read_pin(place)
    held_to = shelf.hold(
        metadata[MADE_OF],
        place.weights,
        pin,
        what=f"the file that {place.converted} was made of",
        next_step=f"Get it by {shelf.fetch_again(place)}.",
    )
    if pin is None or pin.converted_sha256 is None:
        raise WeightsError(
            f"{place.converted} must have the sha256 that {place.pin.name} says, so that a change"
            f" is seen; none is noted there: {again}."
        )
    # Its header is anybody's to write: only the digest ties the tensors to the conversion.
    sha256 = digest_file(place.converted)
    if sha256 != pin.converted_sha256:
        raise WeightsError(
            f"{place.converted} must have sha256 {pin.converted_sha256}, as {place.pin.name} says;"
            f" it has {sha256}: it was changed; {again}."
        )
    return held_to


def _from_file(backbone: Backbone, name: str, *, cache_root: Path) -> ChosenWeights:
    path, fold = _path_and_fold(name)
    own = network_name(backbone.name)
    found = is_there(path)
    if found and (kind := foreign_kind(path)):
        raise WeightsError(
            f"{path} is a {kind} and must be converted once: run `rsbench weights convert {path}"
            f" --backbone {own} --to FILE.safetensors`, then name that file."
        )
    if not found or not path.is_file():
        names = ", ".join([RANDOM, *(each.name for each in backbone.weights)])
        varied = "" if own == base_name(backbone.name) else "; known ones fit it without options"
        raise UnknownNameError(
            f"No weights {name!r} for {backbone.name}: it is no file, and the names are"
            f" {names}{varied}."
        )
    if path.suffix == ".json":
        path = _left_by(path)
    metadata = shelf.metadata_of(path)
    if heads.FACTS in metadata:
        return _fine_tuned(backbone, path, metadata, _fold_of(path, metadata, fold))
    if fold is not None:
        raise WeightsError(
            f"{path} must be what a run left with one network a fold, to be asked for {fold!r}, and"
            " is not: leave the fold out."
        )
    made_for = metadata.get(MADE_FOR, own)
    if made_for != own:
        raise WeightsError(
            f"{path} was converted for {made_for} and {backbone.name} is another network: name"
            f" --backbone {made_for}, or a file for this one."
        )
    declared = _declared(backbone, path, cache_root=cache_root)
    if declared is not None:
        return declared
    return ChosenWeights(name=path.name, input=backbone.input, path=path, notes=(UNKNOWN_INPUT,))


def _path_and_fold(name: str) -> tuple[Path, str | None]:
    """Take ":FOLD" off the name of a file; a file whose own name ends so goes before."""
    before, colon, fold = name.rpartition(":")
    if colon and before and fold and not is_there(Path(name)) and Path(before).is_file():
        return Path(before), fold
    return Path(name), None


def _fold_of(path: Path, metadata: Mapping[str, str], asked: str | None) -> str:
    """Say which fold's network of a fine-tuned file is taken; empty where there were no folds.

    Raises:
        WeightsError: It has several and none was asked for, or not the one that was.
    """
    folds = heads.fold_names(metadata, where=path.name)
    if asked is not None and asked not in folds:
        names = ", ".join(filter(None, folds)) or "one network only, without a name"
        raise WeightsError(f"{path} has no network of the fold {asked!r}: it has {names}.")
    if asked is None and len(folds) > 1:
        raise WeightsError(
            f"{path} must hold one fine-tuned network to be taken as weights and has one for each"
            f" of {', '.join(folds)}: name one, as {path}:{folds[0]}."
        )
    return folds[0] if asked is None else asked


def _declared(backbone: Backbone, path: Path, *, cache_root: Path) -> ChosenWeights | None:
    """Take a file for the known weights that it is, by its sha256; None where it is none."""
    sha256 = ""
    for known in backbone.weights:
        place = shelf.place_of(backbone, known, cache_root=cache_root)
        pin = shelf.read_pin(place)
        if place.network != base_name(backbone.name) or (known.sha256 is None and pin is None):
            continue
        sha256 = sha256 or digest_file(path)
        if pin is not None and sha256 == pin.converted_sha256 and place.converted.is_file():
            return _from_shelf(backbone, known, cache_root=cache_root)
        is_pinned = pin is not None and sha256 == pin.sha256
        if is_pinned or (known.sha256 is not None and sha256.startswith(known.sha256)):
            return _known(known, path, place)
    return None


def _known(known: Weights, path: Path | None, place: Place) -> ChosenWeights:
    return ChosenWeights(
        name=known.name,
        input=known.input,
        path=path,
        known=known,
        place=place,
        trained_on=known.trained_on,
    )


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


def _fine_tuned(
    backbone: Backbone, path: Path, metadata: Mapping[str, str], fold: str
) -> ChosenWeights:
    """Take what a finished run left, seen through the input that its record tells of.

    What it learned on stands in the file itself: a copy without its record must not lose it.
    """
    # Two networks of one file must not stand under one name in a table.
    name = f"{path.name}:{fold}" if fold else path.name
    history = heads.read_history(path, metadata, fold=fold)
    age = (f"{path.name} is {NO_HISTORY}",) if history is None else ()
    stem = path.name.removesuffix(f".{store.HEAD_SUFFIX}")
    beside = path.with_name(f"{stem}.json")
    if stem == path.name or not beside.is_file():
        note = (
            f"{path.name} has no record beside it that tells its input; the backbone's own is taken"
        )
        return ChosenWeights(
            name=name,
            input=backbone.input,
            path=path,
            fold=fold or None,
            trained_on=() if history is None else _trained_on(history, fold),
            is_history_known=not fold if history is None else history.is_complete,
            learned=frozenset() if history is None else frozenset(history.learned[fold]),
            notes=(note, *age),
        )
    record = store.read(beside)
    if network_name(record.backbone.name) != network_name(backbone.name):
        raise WeightsError(
            f"{path} was trained on {record.backbone.name} and {backbone.name} is another network:"
            f" name --backbone {record.backbone.name}, or a file for this one."
        )
    seen = input_of(record.backbone)
    if backbone.modality == "image":
        # A task of videos decides which frames an image network is given.
        seen = replace(seen, frames=1, stride=1)
    began = record.weights
    is_unknown = not began.trained_on and began.name != RANDOM
    started = (UNKNOWN_START,) if is_unknown and UNKNOWN_START not in began.notes else ()
    if history is None:
        history = heads.History(
            task=record.task.name,
            version=record.task.version,
            before=began.trained_on,
            is_complete=True,
            learned={fold: frozenset()},
        )
    return ChosenWeights(
        name=name,
        input=seen,
        path=path,
        sha256=record.files.get(path.name),
        began_verified=began.verified,
        fold=fold or None,
        trained_on=_trained_on(history, fold),
        is_history_known=history.is_complete,
        learned=frozenset(history.learned[fold]),
        learned_ids=_learned_ids(store.Stored(beside, record), fold) if age else frozenset(),
        notes=(*began.notes, *started, *age),
    )


def _trained_on(history: heads.History, fold: str) -> tuple[str, ...]:
    return (*history.before, f"{history.task}:{fold}" if fold else history.task)


def _learned_ids(stored: store.Stored, fold: str) -> frozenset[str]:
    """Give the ids that a fold of a cross-validation learned: those that the others test."""
    name = f"{stored.path.stem}.{store.SPLIT_SUFFIX}"
    if name not in stored.record.files:
        return frozenset()
    rows = csv.DictReader(io.StringIO(store.read_file(stored, store.SPLIT_SUFFIX).decode()))
    return frozenset(row["id"] for row in rows if row["role"] == "test" and row["fold"] != fold)


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
        fold=chosen.fold,
        trained_on=chosen.trained_on,
        is_history_known=chosen.is_history_known,
        learned=chosen.learned,
        learned_ids=chosen.learned_ids,
        notes=chosen.notes,
        flat=Flat(backbone=backbone.flat, weights=chosen),
    )

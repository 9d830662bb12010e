"""Files of weights of other formats and names, written anew as safetensors that load as they are.

The converted file says in its header which network it was made for and what of (name and sha256),
so that it can't be taken for another's and is as good as the file it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from rsbench.atomic import write_atomically
from rsbench.digests import digest_file, digest_lines
from rsbench.errors import WeightsError
from rsbench.records import heads
from rsbench.specs import Backbone, WeightsFormat
from rsbench.weights import shelf
from rsbench.weights.choosing import MADE_FOR, MADE_OF, NOTES, SOURCE, network_name
from rsbench.weights.fetching import pin_of
from rsbench.weights.fitting import (
    Candidates,
    Tensors,
    hold_to_outline,
    name_tensors,
    nobody,
    read_tensors,
)
from rsbench.weights.foreign import read_foreign
from rsbench.weights.shelf import Place
from rsbench.weights.state import foreign_kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What a conversion gave."""

    path: Path
    format: WeightsFormat
    """Of the file it was made of, as far as it matters: "torch" stands for safetensors too."""
    num_tensors: int
    num_classes: int | None
    """Of its classifier; None where it has none."""
    source_sha256: str
    notes: tuple[str, ...]
    """What a reader of its numbers must know: that moving averages were taken."""


def convert(
    source: Path, backbone: Backbone, destination: Path, *, candidates: Candidates = nobody
) -> Converted:
    """Write a file of weights anew as safetensors under a network's own names.

    Args:
        source: safetensors, torch, Keras .h5; a TensorFlow checkpoint as archive, folder or prefix.
        backbone: The network they are for.
        destination: The file to write; one that is there is replaced, its folder made.
        candidates: Where to look for the network of a file that does not fit this one.

    Raises:
        WeightsError: The source is missing, damaged, would run code on loading, or is of another
            network; a library that reads it is not installed.
        DiskError: The destination can't be written.
    """
    if heads.FACTS in shelf.metadata_of(source):
        raise WeightsError(
            f"{source} is what a run of rsbench left and loads as it is: name it with --weights."
        )
    notes: list[str] = []
    format, tensors = _read(source, backbone, notes, candidates)
    notes += tensors.notes
    notes += hold_to_outline(backbone, tensors, name=source.name, candidates=candidates)
    sha256 = source_digest(source)
    metadata = {
        MADE_FOR: network_name(backbone.name),
        MADE_OF: sha256,
        SOURCE: source.name,
        NOTES: "; ".join(notes),
    }
    content = _to_bytes(tensors.state, {key: text for key, text in metadata.items() if text})
    write_atomically(destination, content)
    return Converted(
        path=destination,
        format=format,
        num_tensors=len(tensors.state),
        num_classes=tensors.num_classes,
        source_sha256=sha256,
        notes=tuple(notes),
    )


def convert_known(
    place: Place,
    backbone: Backbone,
    destination: Path | None = None,
    *,
    candidates: Candidates = nobody,
) -> Converted:
    """Convert the fetched file of known weights; where no other file is named, beside it.

    The pin then says what the converted file beside it must be; where there is none, it is written.

    Raises:
        WeightsError: It is not fetched, not the declared or pinned one, or needs no conversion; or
            as in `convert`.
        DiskError: The converted file can't be written.
    """
    destination = destination or place.converted
    if destination == place.raw:
        raise WeightsError(
            f"Weights {place.weights.name} of {place.network} are published as safetensors and load"
            f" as they are; to write a copy, name it with --to FILE."
        )
    if not place.raw.is_file():
        raise WeightsError(
            f"The file of {place.weights.name} must lie at {place.raw} to be converted, and does"
            f" not: run `rsbench weights fetch {place.network} {place.weights.name}` first."
        )
    pin, sha256 = shelf.read_pin(place), digest_file(place.raw)
    step = f"Get it by {shelf.fetch_again(place)}."
    held_to = shelf.hold(sha256, place.weights, pin, what=str(place.raw), next_step=step)
    # Published weights are of the network without options.
    network = replace(backbone, name=place.network)
    done = convert(place.raw, network, destination, candidates=candidates)
    if destination == place.converted:
        pin = pin or pin_of(place.raw, origin=str(place.raw), sha256=sha256, held_to=held_to)
        shelf.write_pin(place, replace(pin, converted_sha256=digest_file(destination)))
    return done


def source_digest(source: Path) -> str:
    """Give the sha256 of a file; of a folder or a checkpoint of several files, that of them all."""
    if source.is_file():
        return digest_file(source)
    files = (
        (path for path in source.rglob("*") if path.is_file())
        if source.is_dir()
        else source.parent.glob(f"{source.name}.*")
    )
    return digest_lines(
        f"{path.relative_to(source.parent).as_posix()} {digest_file(path)}"
        for path in sorted(files)
    )


def _read(
    source: Path, backbone: Backbone, notes: list[str], candidates: Candidates
) -> tuple[WeightsFormat, Tensors]:
    if not foreign_kind(source) and not source.is_dir():
        return "torch", read_tensors(backbone, source, candidates=candidates)
    format, arrays = read_foreign(source, note=notes.append)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return format, name_tensors(
        backbone, state, name=source.name, format=format, candidates=candidates
    )


def _to_bytes(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    from safetensors.torch import save

    # The library refuses tensors that share memory, which tied parameters do.
    own = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    return save(own, dict(metadata))

"""Whether the known weights that are here are the files they must be, whole, and fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rsbench.digests import digest_file
from rsbench.errors import WeightsError
from rsbench.specs import Backbone
from rsbench.weights import shelf
from rsbench.weights.choosing import hold_conversion
from rsbench.weights.containers import hold_whole
from rsbench.weights.fitting import Candidates, hold_to_outline, nobody, read_tensors
from rsbench.weights.shelf import HeldTo, Place

HELD_WORDS: Mapping[HeldTo, str] = {
    "declared": "sha256 as declared",
    "first digits": "sha256 begins as declared",
    "given": "sha256 as given at the fetch",
    "hub": "sha256 as the hub stated at the fetch",
    "nothing": "unverified, as no sha256 is declared",
}
"""What a file's sha256 was compared with, in words."""


def verify(backbone: Backbone, place: Place, *, candidates: Candidates = nobody) -> str:
    """Look at every file there is of some weights: sha256, whether it loads, and its classifier.

    Args:
        backbone: The network they belong to (`Place.network`).
        place: Where they lie.
        candidates: Where to look for the network of a file that does not fit this one.

    Returns:
        What was found, a line.

    Raises:
        WeightsError: There is none, or one is damaged, another than the declared or pinned one, or
            of another network.
    """
    found = shelf.look(place)
    if found.path is None:
        raise WeightsError(shelf.how_to_get(place))
    parts = []
    if place.raw.is_file():
        parts.append(_held(place, place.raw))
    elif found.standing == "in a package":
        parts.append(f"{_held(place, found.path)}, in {place.weights.package}")
    if found.standing == "converted":
        parts.append(f"converted from a file with {HELD_WORDS[hold_conversion(place)]}")
    if found.standing == "to convert":
        parts.append(
            f"whole, and not converted yet: `rsbench weights convert {place.weights.name}"
            f" --backbone {place.network}`"
        )
    else:
        parts.append(_fitted(backbone, place, found.path, candidates))
    return "; ".join(parts)


def _held(place: Place, path: Path) -> str:
    pin = shelf.read_pin(place)
    step = f"Get it by {shelf.fetch_again(place)}."
    held_to = shelf.hold(digest_file(path), place.weights, pin, what=str(path), next_step=step)
    since = f", the same since {pin.date}" if pin is not None and held_to == "nothing" else ""
    hold_whole(path, place.weights.format, what=str(path), next_step=step)
    return f"{path.name}: {HELD_WORDS[held_to]}{since}"


def _fitted(backbone: Backbone, place: Place, path: Path, candidates: Candidates) -> str:
    tensors = read_tensors(backbone, path, candidates=candidates)
    hold_to_outline(backbone, tensors, name=path.name, candidates=candidates)
    has = f"a head of {tensors.num_classes} classes" if tensors.num_classes else "no head"
    declared = place.weights.num_classes
    unlike = f" (declared: {declared})" if declared not in (None, tensors.num_classes) else ""
    return f"{len(tensors.state)} tensors that fit, {has}{unlike}"

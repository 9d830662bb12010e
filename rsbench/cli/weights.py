"""`rsbench weights`: which are known, getting them, converting them, and whether they are sound."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import FILE, examples
from rsbench.cli.printing import bytes_in_words, print_checks, print_columns
from rsbench.cli.progress import reporter
from rsbench.errors import RsbenchError, UnknownNameError

if TYPE_CHECKING:
    from rsbench.specs import Backbone, Weights


@click.group(epilog=examples("rsbench weights list resnet_rs_50"))
def weights() -> None:
    """List known weights, fetch, convert and verify them."""


# ------------------------------------------------------------------------------------------- list


@weights.command("list", epilog=examples("rsbench weights list resnet_rs_50"))
@click.argument("backbone", required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def weights_list(backbone: str | None, as_json: bool) -> None:
    """List the known weights of BACKBONE, or of all, and what of them is here."""
    rows = [weights_row(spec, entry) for spec in _backbones(backbone) for entry in spec.weights]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif not rows:
        click.echo(f"No weights of {backbone} are known; --weights takes a file too.")
    else:
        print_columns([_line(row) for row in rows])


def _backbones(name: str | None) -> list[Backbone]:
    """Give the named backbone, or all; one that can't be imported is named and left out."""
    from rsbench.registry import everything, find_backbone
    from rsbench.specs import Backbone

    if name is not None:
        return [find_backbone(name).spec]
    found, broken = everything("backbone")
    for each in broken:
        click.echo(f"rsbench: left out {each.kind} {each.origin}: {each.reason}", err=True)
    return [each.spec for each in found if isinstance(each.spec, Backbone)]


def weights_row(spec: Backbone, entry: Weights) -> dict[str, Any]:
    """Give the object that ``--json`` prints for one of a backbone's known weights."""
    from rsbench.data.roots import cache_root
    from rsbench.weights.shelf import address, look, place_of

    place = place_of(spec, entry, cache_root=cache_root())
    found = look(place)
    return {
        "backbone": spec.name,
        "name": entry.name,
        "network": place.network,
        "here": found.standing,
        "file": None if found.path is None else str(found.path),
        "url": address(entry),
        "package": entry.package,
        "format": entry.format,
        "sha256": entry.sha256,
        "size_bytes": entry.size_bytes,
        "num_classes": entry.num_classes,
        "trained_on": list(entry.trained_on),
        "input": dataclasses.asdict(entry.input),
        "published": [
            {"metric": name, "percent": percent} for name, percent in entry.published.items()
        ],
        "published_conditions": entry.published_conditions,
        "views": None if entry.views is None else [entry.views.clips, entry.views.crops],
        "licence": entry.licence,
        "source": entry.source,
    }


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    published = ", ".join(f"{each['metric']} {each['percent']:g}" for each in row["published"])
    size = "" if row["size_bytes"] is None else bytes_in_words(row["size_bytes"])
    other = "" if row["network"] == row["backbone"] else f"of {row['network']}"
    return (
        row["backbone"],
        row["name"],
        row["here"],
        row["format"],
        size,
        published,
        row["licence"],
        other,
    )


# ------------------------------------------------------------------------------------------ fetch


@weights.command(
    "fetch",
    epilog=examples(
        "rsbench weights fetch resnet_rs_50 resnetrs50.tf_in1k",
        "rsbench weights fetch resnet_rs_50 tpu.i160 --from ~/Downloads/resnet-rs-50-i160.tar.gz",
    ),
)
@click.argument("backbone")
@click.argument("name", required=False)
@click.option("--from", "source", type=FILE, help="The file, or its folder, instead of a download.")
@click.option("--mirror", help="Address that takes the place of the publisher's host.")
@click.option("--sha256", help="What the file must have, where none is declared.")
@click.option("--again", is_flag=True, help="Drop file, pin and conversion that are here.")
def weights_fetch(
    backbone: str,
    name: str | None,
    source: Path | None,
    mirror: str | None,
    sha256: str | None,
    again: bool,
) -> None:
    """Bring the known weights NAME of BACKBONE to the cache.

    NAME may be left out where there is only one. A download that was cut off goes on where it
    stopped. The file is held to the declared sha256, or to that of its first fetch.
    """
    from rsbench.data.roots import cache_root
    from rsbench.weights.fetching import fetch
    from rsbench.weights.shelf import READY, how_to_get, look, place_of

    spec, entry = _entry(backbone, name)
    place = place_of(spec, entry, cache_root=cache_root())
    found = look(place)
    if found.standing == "in a package" and source is None:
        click.echo(f"{entry.name} comes in a package that is installed: {found.path}")
        return
    if entry.url is None and entry.package is not None and source is None:
        raise RsbenchError(how_to_get(place))
    with reporter() as report:
        fetched = fetch(
            place,
            source=source,
            mirror=mirror,
            sha256=sha256,
            again=again,
            progress=lambda done, total: report(f"{entry.name}, MiB", done >> 20, total >> 20),
        )
    click.echo(
        f"{entry.name} of {place.network} {'was here' if fetched.was_here else 'is here'}:"
        f" {fetched.path} ({bytes_in_words(fetched.size_bytes)})"
    )
    click.echo(f"  sha256 {fetched.sha256}: {_held_in_words(fetched.held_to)}")
    if entry.format not in READY:
        click.echo(
            f"  It loads once it is converted: rsbench weights convert {entry.name} --backbone"
            f" {place.network}"
        )


def _held_in_words(held_to: str) -> str:
    return {
        "declared": "as declared",
        "first digits": "begins with the digits that are declared or were given",
        "given": "as --sha256 says",
        "hub": "as the hub states",
    }.get(held_to, "unverified, as none is declared; from now on it must be this one")


def _entry(backbone: str, name: str | None) -> tuple[Backbone, Weights]:
    """Find known weights by name, or the only ones a backbone has."""
    from rsbench.registry import find_backbone, suggest
    from rsbench.weights.shelf import known_weights

    spec = find_backbone(backbone).spec
    names = [each.name for each in spec.weights]
    if not names:
        raise UnknownNameError(f"No weights of {backbone} are known; --weights takes a file too.")
    if name is None and len(names) > 1:
        raise RsbenchError(f"{backbone} has several weights, {', '.join(names)}: name one.")
    known = known_weights(spec, name or names[0])
    if known is None:
        raise UnknownNameError(
            f"No weights of {backbone} are called {name!r}.{suggest(str(name), names)} It has"
            f" {', '.join(names)}."
        )
    return spec, known


# ---------------------------------------------------------------------------------------- convert


@weights.command(
    "convert",
    epilog=examples(
        "rsbench weights convert tpu.i160 --backbone resnet_rs_50",
        "rsbench weights convert best.pth --backbone resnet_rs_3d_50 --to best.safetensors",
    ),
)
@click.argument("source", metavar="FILE|NAME")
@click.option("--backbone", required=True, help="The network the weights are for.")
@click.option("--to", type=FILE, help="The safetensors file to write.  [default: beside FILE]")
def weights_convert(source: str, backbone: str, to: Path | None) -> None:
    """Write a file of weights, or the fetched file of known ones, anew as safetensors.

    Read are safetensors, torch, Keras .h5 and TensorFlow checkpoints (archive, folder or prefix).
    """
    from rsbench.cells import backbones, network_of
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone
    from rsbench.weights.conversion import convert, convert_known
    from rsbench.weights.shelf import known_weights, place_of
    from rsbench.weights.state import is_there

    found, notes = network_of(find_backbone(backbone), source)
    entry = known_weights(found.spec, source)
    if entry is not None:
        place = place_of(found.spec, entry, cache_root=cache_root())
        done = convert_known(place, found.spec, to and _new(to), candidates=backbones)
    else:
        path = Path(source)
        if not is_there(path):
            names = ", ".join(each.name for each in found.spec.weights) or "none"
            raise UnknownNameError(
                f"No file {source!r} to convert, and no weights of {backbone} of that name (known:"
                f" {names}); give the path of a file."
            )
        done = convert(path, found.spec, _new(to or _beside(path)), candidates=backbones)
    head = f"a head of {done.num_classes} classes" if done.num_classes else "no head"
    click.echo(f"{done.path}: {done.num_tensors} tensors for {found.spec.name}, {head}")
    for note in (*notes, *done.notes):
        click.echo(f"  note: {note}")


def _beside(path: Path) -> Path:
    """Give the name of a converted file beside what it is made of: x.tar.gz, x.pth -> x."""
    path = path.resolve() if path.is_dir() else path
    stem = path.name.removesuffix(".gz")
    suffix = Path(stem).suffix
    return path.with_name(f"{stem.removesuffix(suffix)}.safetensors")


def _new(path: Path) -> Path:
    """Give the file to write; one that is there is somebody's."""
    if path.suffix != ".safetensors" or path.exists():
        raise RsbenchError(
            f"The file to write must be new and end in .safetensors; it was {path}"
            f"{', which exists' if path.exists() else ''}: name another with --to."
        )
    return path


# ----------------------------------------------------------------------------------------- verify


@weights.command("verify", epilog=examples("rsbench weights verify resnet_rs_50"))
@click.argument("backbone", required=False)
@click.argument("name", required=False)
def weights_verify(backbone: str | None, name: str | None) -> int:
    """Look at the weights that are here: sha256, whether they load and fit, and their classifier.

    Those of all backbones, of BACKBONE, or NAME alone.
    """
    from rsbench.cells import backbones
    from rsbench.data.roots import cache_root
    from rsbench.findings import attempt
    from rsbench.registry import find_backbone
    from rsbench.weights.shelf import base_name, look, place_of
    from rsbench.weights.verification import verify

    specs = [_entry(backbone, name)[0]] if backbone and name else _backbones(backbone)
    checks = []
    for spec in specs:
        for entry in spec.weights:
            place = place_of(spec, entry, cache_root=cache_root())
            is_other = place.network != base_name(spec.name)
            # Of all backbones, the sibling they belong to has them in its own list.
            if (is_other and backbone is None) or name not in (None, entry.name):
                continue
            if name is None and look(place).standing == "absent":
                continue
            network = find_backbone(place.network).spec if is_other else spec
            checks.append(
                attempt(
                    f"{entry.name} of {place.network}",
                    partial(verify, network, place, candidates=backbones),
                    next_step="",
                )
            )
    if not checks:
        click.echo("No known weights are here; `rsbench weights fetch` gets them.")
    return print_checks(checks, as_json=False)

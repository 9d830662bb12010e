"""`rsbench ls` and `rsbench show`: what there is, by kind, and one thing by its name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import RECORDS, RESULTS, examples
from rsbench.cli.printing import print_columns, record_in_words, record_json

if TYPE_CHECKING:
    from rsbench.registry import Found, Kind

KINDS: tuple[Kind, ...] = ("task", "backbone", "protocol")


@click.command(epilog=examples("rsbench ls backbones --json"))
@click.argument("what", type=click.Choice(["tasks", "backbones", "protocols", "results"]))
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--video", "modality", flag_value="video", help="Of this modality only.")
@click.option("--image", "modality", flag_value="image", help="Of this modality only.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def ls(what: str, results: Path, modality: str | None, as_json: bool) -> None:
    """List tasks, backbones, protocols or results.

    A plug-in that can't be imported is named at the end and breaks nothing else.
    """
    if what == "results":
        _list_results(results, as_json=as_json)
        return
    from rsbench.registry import everything

    kind: Kind = what[:-1]  # type: ignore[assignment]  # "tasks" lists the kind "task"
    found, broken = everything(kind)
    rows = [
        row
        for row in map(_spec_json, found)
        if modality is None or row.get("modality", modality) == modality
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        print_columns([_spec_line(row) for row in rows])
    for each in broken:
        click.echo(f"rsbench: left out {each.kind} {each.origin}: {each.reason}", err=True)


def _spec_json(found: Found[Any]) -> dict[str, Any]:
    from rsbench.data.layouts import untested_layouts
    from rsbench.specs import Backbone, Task

    spec = found.spec
    row: dict[str, Any] = {"name": spec.name, "version": spec.version, "title": spec.title}
    row["origin"] = found.origin
    if isinstance(spec, Backbone):
        row |= {
            "modality": spec.modality,
            "parameters": spec.num_parameters,
            "parameters_with_classes": spec.parameters_with_classes,
            "feature_width": spec.feature_width,
            "input": dataclasses.asdict(spec.input),
            "weights": ["none", *(weights.name for weights in spec.weights)],
            "licence": spec.licence,
        }
    elif isinstance(spec, Task):
        row |= {
            "modality": spec.modality,
            "target": spec.target,
            "metrics": [metric.name for metric in spec.metrics],
            "views": [spec.views.clips, spec.views.crops],
            "layouts": list(spec.layouts),
            "layouts_untested_on_disk": list(untested_layouts(spec.layouts)),
            "licence": spec.licence,
        }
    else:
        row |= {
            "targets": sorted(spec.targets),
            "trains": spec.trains,
            "selects_on": spec.selects_on,
            "sampler": spec.sampler,
            "recipe": dict(spec.recipe),
        }
    return row


def _spec_line(row: dict[str, Any]) -> tuple[str, ...]:
    if "parameters" in row:
        middle = f"{row['parameters']:,} parameters"
    elif "target" in row:
        middle = f"{row['target']}, {'/'.join(row['metrics'])}"
    else:
        middle = (
            f"{'trains' if row['trains'] else 'trains nothing'}, selects on {row['selects_on']}"
        )
    return (row["name"], row.get("modality", ""), middle, row["title"])


def _list_results(results: Path, *, as_json: bool) -> None:
    from rsbench.records import store

    contents = store.read_all(results)
    if as_json:
        rows = [record_json(each.record, each.path) for each in contents.records]
        click.echo(json.dumps(rows, indent=1))
    else:
        print_columns([(each.name, record_in_words(each.record)) for each in contents.records])
        if not contents.records:
            click.echo(f"{results} holds no records.")
    for problem in contents.problems:
        click.echo(f"rsbench: left out: {problem}", err=True)


@click.command(epilog=examples("rsbench show resnet_rs_3d_50"))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a task, backbone or protocol by name, or a record by its path."""
    if name.endswith(".json"):
        from rsbench.records import store
        from rsbench.records.schema import to_json

        click.echo(to_json(store.read(Path(name))), nl=False)
        return
    rows = [_spec_json(found) | _more(found.spec) for found in _named(name)]
    if as_json:
        click.echo(json.dumps(rows[0] if len(rows) == 1 else rows, indent=1, default=str))
        return
    for row in rows:
        print_columns(
            [(f"{key}:", str(value)) for key, value in row.items() if value not in ("", [])]
        )


def _named(name: str) -> list[Found[Any]]:
    """Find every kind of plug-in of this name; none is an error with near misses of all kinds."""
    from rsbench.errors import PluginError, UnknownNameError
    from rsbench.registry import (
        everything,
        find_backbone,
        find_protocol,
        find_task,
        split_sample,
        suggest,
    )

    found: list[Found[Any]] = []
    faults = []
    for find in (lambda name: find_task(split_sample(name)[0]), find_backbone, find_protocol):
        try:
            found.append(find(name))
        except UnknownNameError:
            continue
        except PluginError as error:
            # A file holds one kind of plug-in, and is none of the others.
            faults.append(error)
    if found:
        return found
    if faults:
        raise faults[0]
    known = [each.spec.name for kind in KINDS for each in everything(kind)[0]]
    raise UnknownNameError(
        f"No task, backbone, protocol or record is called {name!r}.{suggest(name, known)}"
        " `rsbench ls tasks|backbones|protocols|results` lists them."
    )


def _more(spec: Any) -> dict[str, Any]:  # noqa: ANN401 - any of the three nouns
    """Give what a page about one plug-in says beyond its line in a list."""
    more = {}
    if hasattr(spec, "weights"):
        more["known_weights"] = [
            f"{each.name}: {each.url or each.source}, sha256 {each.sha256 or 'unverified'}"
            f", trained on {', '.join(each.trained_on)}, published {dict(each.published)}"
            f" {each.published_conditions}".rstrip()
            for each in spec.weights
        ]
    for name in ("how_to_get", "citation"):
        if hasattr(spec, name):
            more[name] = getattr(spec, name)
    return more

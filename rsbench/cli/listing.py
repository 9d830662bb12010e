"""`rsbench ls` and `rsbench show`: what there is, by kind, and one thing by its name."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import RECORDS, RESULTS, examples
from rsbench.cli.printing import bytes_in_words, print_columns
from rsbench.cli.published import OTHERS, list_others
from rsbench.cli.results import ORDERS, Filters, list_results
from rsbench.errors import UnknownNameError
from rsbench.plans import STUDIES, Study
from rsbench.suites import SAMPLE, SUITES, Suite, find_suite

if TYPE_CHECKING:
    from rsbench.registry import Found, Kind

KINDS: tuple[Kind, ...] = ("task", "backbone", "protocol")

WHAT = (
    *("tasks", "backbones", "protocols", "suites", "studies", "samplers", "croppers"),
    *("results", "others"),
)
"""What can be listed."""

WIDTH = 100
"""Characters a line of a table of weights may have."""

PLACES = {
    "ready": "here",
    "converted": "here",
    "in a package": "package",
    "to convert": "convert",
    "absent": "fetch",
}
"""What `rsbench.weights.shelf` says of weights -> where they are, or what has to be done."""

LEGEND = (
    "Scores are top-1 / top-5 in percent, views clips x crops; ~: no size is published, and float32"
    " parameters take this much. fetch, convert: to be done with"
    " `rsbench weights`; package: in a Python package, install: in one that is not installed; ?: no"
    " sha256 is published, the first fetch pins it."
)


@click.command(
    epilog=examples(
        "rsbench ls backbones --json",
        "rsbench ls backbones --video --pretrained",
        "rsbench ls results --task digits --sort score",
    )
)
@click.argument("what", type=click.Choice(WHAT))
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--video", "modality", flag_value="video", help="Of this modality only.")
@click.option("--image", "modality", flag_value="image", help="Of this modality only.")
@click.option("--pretrained", is_flag=True, help="Of backbones: their weights, a line each.")
@click.option("--task", help="Of results: of these tasks only; * stands for any letters.")
@click.option("--protocol", help="Of results: likewise.")
@click.option("--backbone", help="Of results: likewise.")
@click.option("--weights", help="Of results: likewise.")
@click.option("--seed", help="Of results: likewise.")
@click.option("--since", help="Of results: made since a day (2026-01-31) or an age ago (7d, 12h).")
@click.option(
    "--sort",
    type=click.Choice(ORDERS),
    help="Of results: by name, or the latest, best or longest first. Scores under different rulers"
    " do not compare: --task and --protocol.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def ls(
    what: str,
    results: Path,
    modality: str | None,
    pretrained: bool,
    since: str | None,
    sort: str | None,
    as_json: bool,
    **names: str | None,
) -> None:
    """List tasks, backbones, protocols, suites, studies, samplers, croppers, results or others.

    Others are what somebody else measured, published or imported; they are ranked in no table. A
    plug-in that can't be imported is named at the end and breaks nothing else.
    """
    wanted = {noun: words for noun, words in names.items() if words is not None}
    if pretrained and what != "backbones":
        raise click.UsageError(f"--pretrained is for `rsbench ls backbones`, not for ls {what}.")
    if what == "results":
        filters = Filters(names=wanted, since=since)
        list_results(results, filters, order=sort or "name", as_json=as_json)
        return
    if what == "others" and not (wanted.keys() - OTHERS or since or sort):
        list_others(results, wanted, as_json=as_json)
        return
    alien = [*wanted, *(["since"] if since else []), *(["sort"] if sort else [])]
    if alien:
        raise click.UsageError(f"--{alien[0]} is for `rsbench ls results`, not for ls {what}.")
    if what == "suites":
        _list_suites(as_json=as_json)
        return
    if what == "studies":
        _list_studies(as_json=as_json)
        return
    if what in ("samplers", "croppers"):
        rows = _samplers_json() if what == "samplers" else _croppers_json()
        if as_json:
            click.echo(json.dumps(rows, indent=1))
        else:
            print_columns([(row["name"], row["of"], row["title"]) for row in rows])
            if what == "samplers":
                click.echo("n: frames of the video, T: of a clip; N clips, i = 0..N-1; tau: stride")
        return
    from rsbench.registry import everything

    kind: Kind = what[:-1]  # type: ignore[assignment]  # "tasks" lists the kind "task"
    found, broken = everything(kind)
    chosen = [
        each
        for each in sorted(found, key=lambda each: _in_order(each.spec.name))
        if modality is None or getattr(each.spec, "modality", modality) == modality
    ]
    if pretrained:
        rows = [row for each in chosen for row in _weights_json(each.spec)]
    else:
        rows = [_spec_json(each) for each in chosen]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif pretrained:
        _print_weights(rows, chosen)
    elif kind == "backbone":
        _print_backbones(rows)
    else:
        print_columns([_spec_line(row) for row in rows])
    if kind == "backbone" and modality != "video" and not as_json:
        click.echo(_timm_in_words())
    for each in broken:
        click.echo(f"rsbench: left out {each.kind} {each.origin}: {each.reason}", err=True)


def _list_suites(*, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_suite_json(suite) for suite in SUITES], indent=1))
        return
    lines = [
        (suite.name, f"{len(suite.tasks)} tasks", ", ".join(suite.protocols), suite.title)
        for suite in SUITES
    ]
    print_columns(lines)
    click.echo("NAME@sample: the same on the embedded samples of its tasks")


def _suite_json(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "title": suite.title,
        "tasks": list(suite.tasks),
        "protocols": list(suite.protocols),
        "groups": {group: list(names) for group, names in suite.groups.items()},
        "citation": suite.citation,
    }


def _list_studies(*, as_json: bool) -> None:
    """List what `rsbench ablate` can vary; in words each study with its rows."""
    if as_json:
        click.echo(json.dumps([_study_json(study) for study in STUDIES], indent=1))
        return
    for study in STUDIES:
        click.echo(f"{study.name}: {study.title} ({study.protocol})")
        if study.first:
            click.echo(f"  {study.first}")
        for step in study.steps:
            words = [f"{key}={value}" for key, value in step.overrides.items()]
            words += [f"no longer {key}={study.without[key]}" for key in step.restores]
            click.echo(f"  {step.name}: {', '.join(words)}")


def _study_json(study: Study) -> dict[str, Any]:
    return {
        "name": study.name,
        "title": study.title,
        "protocol": study.protocol,
        "start": dict(study.start),
        "without": dict(study.without),
        "first": study.first,
        "first_published": study.first_published,
        "steps": [
            {
                "name": step.name,
                "overrides": dict(step.overrides),
                "restores": list(step.restores),
                "published": step.published,
            }
            for step in study.steps
        ],
        "adds_up": study.adds_up,
        "published_on": study.published_on,
        "citation": study.citation,
    }


def _samplers_json() -> list[dict[str, Any]]:
    from rsbench.media.random_sampling import RANDOM_SAMPLERS
    from rsbench.media.sampling import SAMPLERS

    return [
        {"name": name, "of": of, "title": (rule.__doc__ or "").partition("\n")[0]}
        for of, rules in (("test", SAMPLERS), ("training", RANDOM_SAMPLERS))
        for name, rule in rules.items()
    ]


def _croppers_json() -> list[dict[str, Any]]:
    from rsbench.media.crops import CROPPERS, crop_counts

    return [
        {
            "name": name,
            "of": f"{'/'.join(map(str, crop_counts(name)))} crops",
            "title": rule.title,
        }
        for name, rule in CROPPERS.items()
    ]


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
            "sampler": spec.sampler,
            "train_sampler": spec.train_sampler,
            "layouts": list(spec.layouts),
            "layouts_untested_on_disk": list(untested_layouts(spec.layouts)),
            "licence": spec.licence,
        }
    else:
        row |= {
            "targets": sorted(spec.targets),
            "trains": spec.trains,
            "selects_on": spec.selects(spec.recipe),
            "sampler": spec.sampler,
            "cropper": spec.cropper,
            "recipe": dict(spec.recipe),
        }
    return row


def _print_backbones(rows: Sequence[dict[str, Any]]) -> None:
    header = ("name", "reads", "parameters", "weights", "title")
    lines = [header]
    for row in rows:
        # The first of the names is "none".
        num_weights = len(row["weights"]) - 1
        counts = (f"{row['parameters']:,}", str(num_weights or "-"))
        lines.append((row["name"], row["modality"], *counts, row["title"]))
    widths = _widths(lines)
    for name, modality, parameters, weights, title in lines:
        numbers = (parameters.rjust(widths[2]), weights.rjust(widths[3]))
        click.echo("\n".join(_in_columns((name, modality, *numbers, title), widths)))


def _spec_line(row: dict[str, Any]) -> tuple[str, ...]:
    if "target" in row:
        middle = f"{row['target']}, {'/'.join(row['metrics'])}"
    else:
        middle = (
            f"{'trains' if row['trains'] else 'trains nothing'}, selects on {row['selects_on']}"
        )
    return (row["name"], row.get("modality", ""), middle, row["title"])


def _weights_json(spec: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a Backbone
    """Give what `rsbench weights list --json` prints of a backbone; a sibling's are left to it."""
    from rsbench.cli.weights import weights_row

    return [
        weights_row(spec, entry) for entry in spec.weights if entry.network in (None, spec.name)
    ]


def _print_weights(rows: Sequence[dict[str, Any]], backbones: Sequence[Found[Any]]) -> None:
    """Print weights below their backbones, in columns that fit a page."""
    parameters = {each.spec.name: each.spec.num_parameters for each in backbones}
    header = ("weights", "published", "views", "size", "licence", "where", "trained on")
    lines = [header, *(_weights_line(row, parameters[row["backbone"]]) for row in rows)]
    widths = _widths(lines)
    above = None
    for row, line in zip([None, *rows], lines, strict=True):
        if row is not None and row["backbone"] != above:
            above = row["backbone"]
            click.echo(above)
        click.echo("\n".join(_in_columns(line, widths, indent="  ")))
    click.echo(click.wrap_text(LEGEND, WIDTH))


def _weights_line(row: dict[str, Any], num_parameters: int) -> tuple[str, ...]:
    scores = {each["metric"].rpartition("/")[2]: each["percent"] for each in row["published"]}
    published = "/".join(f"{scores[name]:.1f}" for name in ("top1", "top5") if name in scores)
    where = PLACES[row["here"]]
    if row["here"] == "absent" and row["url"] is None:
        where = "install" if row["package"] else "ask"
    return (
        row["name"],
        published,
        "" if row["views"] is None else "x".join(map(str, row["views"])),
        bytes_in_words(row["size_bytes"])
        if row["size_bytes"] is not None
        else f"~{4 * num_parameters / 2**20:.0f} MiB",
        row["licence"] or "not stated",
        where if row["sha256"] else f"{where}?",
        ", ".join(row["trained_on"]),
    )


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _in_columns(line: Sequence[str], widths: Sequence[int], *, indent: str = "") -> Iterator[str]:
    """Give a line in columns; what of its last cell does not fit the page goes below."""
    *cells, last = line
    columns = (f"{cell:<{width}}  " for cell, width in zip(cells, widths, strict=False))
    start = indent + "".join(columns)
    inside = textwrap.wrap(last, max(WIDTH - len(start), 20)) or [""]
    yield (start + inside[0]).rstrip()
    for rest in inside[1:]:
        yield " " * len(start) + rest


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sort resnet_rs_50 before resnet_rs_101."""
    words = re.split(r"(\d+)", name)
    return [(int(word), "") if word.isdecimal() else (0, word) for word in words]


def _timm_in_words() -> str:
    """Say what stands for a thousand networks that are not listed one by one."""
    try:
        version = importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        return 'timm/NAME: any classification network of timm; pip install "rsbench[timm]"'
    return f"timm/NAME: any classification network of timm {version}, such as timm/convnext_tiny"


@click.command(epilog=examples("rsbench show resnet_rs_3d_50"))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a task, backbone, protocol or suite by name, or a record by its path."""
    if name.endswith(".json"):
        from rsbench.records import store
        from rsbench.records.schema import to_json

        click.echo(to_json(store.read(Path(name))), nl=False)
        return
    suites = _suites_called(name)
    try:
        rows = suites + [_spec_json(found) | _more(found.spec) for found in _named(name)]
    except UnknownNameError:
        if not suites:
            raise
        rows = list(suites)
    if as_json:
        click.echo(json.dumps(rows[0] if len(rows) == 1 else rows, indent=1, default=str))
        return
    for row in suites:
        row["groups"] = [f"{group}: {', '.join(names)}" for group, names in row["groups"].items()]
    for number, row in enumerate(rows):
        if number:
            click.echo()
        print_columns(
            [
                line
                for key, value in row.items()
                if value not in ("", [], None)
                for line in _page(key, value)
            ]
        )


def _page(key: str, value: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any JSON
    """Give the lines of one field: texts of a list, or entries, one below the other."""
    if isinstance(value, Mapping):
        value = [f"{name}={_as_typed(each)}" for name, each in value.items()]
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [("" if number else f"{key}:", each) for number, each in enumerate(value)]
    return [(f"{key}:", str(value))]


def _as_typed(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Give a value as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _suites_called(name: str) -> list[dict[str, Any]]:
    """Give the suite of a name, or of ``NAME@sample``; protocols may have the same name."""
    if name.removesuffix(SAMPLE) not in {suite.name for suite in SUITES}:
        return []
    return [_suite_json(find_suite(name))]


def _named(name: str) -> list[Found[Any]]:
    """Find every kind of plug-in of this name; none is an error with near misses of all kinds."""
    from rsbench.errors import PluginError
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
            # LIBRARY/NAME is a backbone's name; its family knows the nearest ones.
            if "/" in name and find is find_backbone:
                raise
            continue
        except PluginError as error:
            # A file holds one kind of plug-in, and is none of the others.
            faults.append(error)
    if found:
        return found
    if faults:
        raise faults[0]
    known = [each.spec.name for kind in KINDS for each in everything(kind)[0]]
    known += [suite.name for suite in SUITES]
    raise UnknownNameError(
        f"No task, backbone, protocol, suite or record is called {name!r}.{suggest(name, known)}"
        " `rsbench ls tasks|backbones|protocols|suites|results` lists them."
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

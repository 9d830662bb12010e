"""`rsbench check-reference`: known weights measured again, beside what is published of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.grid import requests_of
from rsbench.cli.options import FILE, RECORDS, RESULTS, examples
from rsbench.cli.printing import print_columns
from rsbench.cli.progress import reporter
from rsbench.cli.run import run
from rsbench.errors import RsbenchError, UnknownNameError

if TYPE_CHECKING:
    from rsbench.cells import RunRequest
    from rsbench.reference_check import Comparison, Judgement, KnownPair, ReferenceCell, Verdict
    from rsbench.runner import Finished
    from rsbench.specs import Backbone


@click.command(
    "check-reference",
    epilog=examples(
        "rsbench check-reference",
        "rsbench check-reference efficientnet_lite_0 --data /data/imagenet",
        "rsbench check-reference --task kinetics400 --data /data/k400 --limit 2000",
        "rsbench check-reference efficientnet_lite_0 --data MINE --expect top1=89.9,top5=98.48",
    ),
)
@click.argument("backbones", metavar="[BACKBONE]", required=False)
@click.argument("weights", required=False)
@click.option("--data", type=FILE, help="Folder of the data set.")
@click.option("--task", help="The task, where scores on several are published.")
@click.option("--expect", help="Scores of the items here, instead of published: top1=89.9,...")
@click.option("--limit", type=click.IntRange(min=1), help="Items: seeded, stratified.")
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="Views a forward pass; no score depends on it.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Loader processes.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
def check_reference(backbones: str | None, weights: str | None, **words: Any) -> int:  # noqa: ANN401 - click's own keyword arguments, taken apart below
    """Measure known weights again and say how far they are from their published scores.

    BACKBONE and WEIGHTS may be several by commas; all of a backbone's where WEIGHTS is left out.
    Without BACKBONE, the weights that have published scores are listed; with --task and --data,
    those that are on this machine are checked. Videos are seen by the published views and sampler.
    All pictures must be within 0.1 points; what --limit draws, data that lacks some items, and
    videos are judged by the 95% interval, and what it could not have seen is printed.
    Exit codes: 0 all ok, 1 something is off, 2 nothing was judged, because less than 90% of the
    official set is here.
    """
    from rsbench.reference_check import exit_code

    if backbones is None and words["data"] is None:
        _list_pairs(words["task"], as_json=words["as_json"])
        return 0
    if backbones is None:
        pairs = _pairs_here(words["task"], words["expect"])
    else:
        pairs = _pairs(backbones, weights, words["task"], words["expect"])
    done: list[dict[str, Any]] = []
    verdicts: list[Verdict] = []
    code = 0
    for pair in pairs:
        try:
            described, verdict = _check(pair, words)
        # Weights that are not here must not cost the check of those that are.
        except RsbenchError as error:
            if len(pairs) == 1:
                raise
            click.echo(f"rsbench: {pair.backbone}, {pair.weights.name}: {error}", err=True)
            code = max(code, error.exit_code)
            continue
        done.append(described)
        verdicts.append(verdict)
    if words["as_json"]:
        click.echo(json.dumps(done, indent=1))
    judged = exit_code(verdicts)
    return judged if judged == 1 else max(judged, code)


# ------------------------------------------------------------------------------------ which pairs


def _pairs(
    backbones: str, weights: str | None, task: str | None, expect: str | None
) -> list[KnownPair]:
    """Find what is to be checked: each backbone with each of the named weights, or with all."""
    from rsbench.reference_check import expectations
    from rsbench.registry import find_backbone

    names = None if weights is None else [name.strip() for name in weights.split(",")]
    pairs = []
    for name in dict.fromkeys(part.strip() for part in backbones.split(",")):
        found = find_backbone(name)
        if found.pixels is not None:
            raise RsbenchError(
                f"Published scores are of the weights' own pixels: leave @{found.pixels} out of"
                f" {name}."
            )
        pairs += _pairs_of(found.spec, name, names, task, expected=expect is not None)
    if expect is not None:
        expectations(expect)
        if len(pairs) > 1:
            several = ", ".join(f"{pair.backbone} {pair.weights.name}" for pair in pairs)
            raise RsbenchError(
                f"--expect is for one pair of backbone and weights; these are {several}: name one."
            )
    return pairs


def _pairs_of(
    backbone: Backbone,
    typed: str,
    names: Sequence[str] | None,
    task: str | None,
    *,
    expected: bool,
) -> list[KnownPair]:
    """Find the pairs of one backbone, by the names of its weights or all that are published."""
    from rsbench.reference_check import KnownPair, known_pairs
    from rsbench.registry import suggest

    known = [pair for pair in known_pairs(backbone, name=typed) if task in (None, pair.task)]
    if names is None:
        own = [pair for pair in known if pair.is_own]
        if not own:
            raise RsbenchError(
                f"No scores of {backbone.name}{'' if task is None else f' on {task}'} are"
                " published; `rsbench check-reference` lists those that are."
            )
        return own
    pairs = []
    declared = {each.name: each for each in backbone.weights}
    for name in names:
        if name not in declared:
            raise UnknownNameError(
                f"{backbone.name} has no weights {name!r}.{suggest(name, declared)} It has"
                f" {', '.join(declared) or 'none'}."
            )
        found = [pair for pair in known if pair.weights.name == name]
        if not found and expected and task is not None:
            found = [
                KnownPair(
                    backbone=typed, weights=declared[name], task=task, published={}, is_own=True
                )
            ]
        if not found:
            raise RsbenchError(
                f"No scores of {backbone.name} {name}{'' if task is None else f' on {task}'} are"
                " published; give --task NAME --expect METRIC=PERCENT to hold it to your own."
            )
        pairs += found
    return pairs


def _pairs_here(task: str | None, expect: str | None) -> list[KnownPair]:
    """Find the pairs of a task whose weights lie on this machine; how many do not is said."""
    from rsbench.data.roots import cache_root
    from rsbench.registry import find_backbone
    from rsbench.weights.shelf import how_to_get, look, place_of

    if task is None:
        raise RsbenchError(
            "--data without a BACKBONE checks all weights of one task that are here: name it by"
            " --task, such as --task kinetics400."
        )
    if expect is not None:
        raise RsbenchError("--expect is for one pair of backbone and weights: name them.")
    pairs = _published_pairs(task)
    if not pairs:
        raise RsbenchError(
            f"No scores on {task!r} are published; `rsbench check-reference` lists those that are."
        )
    places = [
        place_of(find_backbone(pair.backbone).spec, pair.weights, cache_root=cache_root())
        for pair in pairs
    ]
    here = [
        pair for pair, place in zip(pairs, places, strict=True) if look(place).standing != "absent"
    ]
    if not here:
        raise RsbenchError(
            f"None of the {len(pairs)} weights with published scores on {task} are here, for"
            f" example: {how_to_get(places[0])}"
        )
    num_absent = len(pairs) - len(here)
    if num_absent:
        click.echo(
            f"rsbench: {num_absent} of {len(pairs)} weights with published scores on {task} are"
            " not here and left out",
            err=True,
        )
    return here


def _published_pairs(task: str | None) -> list[KnownPair]:
    """Find all weights with published scores, each under its own network."""
    from rsbench.reference_check import known_pairs
    from rsbench.registry import everything
    from rsbench.specs import Backbone

    found, broken = everything("backbone")
    for each in broken:
        click.echo(f"rsbench: left out {each.kind} {each.origin}: {each.reason}", err=True)
    return [
        pair
        for found_one in found
        if isinstance(found_one.spec, Backbone)
        for pair in known_pairs(found_one.spec)
        if pair.is_own and task in (None, pair.task)
    ]


def _list_pairs(task: str | None, *, as_json: bool) -> None:
    pairs = _published_pairs(task)
    if as_json:
        click.echo(json.dumps([_pair_json(pair) for pair in pairs], indent=1))
    else:
        print_columns([_pair_line(pair) for pair in pairs])


def _pair_json(pair: KnownPair) -> dict[str, Any]:
    views = pair.weights.views
    return {
        "backbone": pair.backbone,
        "weights": pair.weights.name,
        "task": pair.task,
        "published_percent": dict(pair.published),
        "conditions": pair.weights.published_conditions,
        "views": None if views is None else [views.clips, views.crops],
        "sampler": pair.weights.sampler,
        "clip": [pair.weights.input.frames, pair.weights.input.stride],
        "pixels": pair.weights.input.pixels,
    }


def _pair_line(pair: KnownPair) -> tuple[str, ...]:
    scores = ", ".join(f"{metric} {percent:g}" for metric, percent in pair.published.items())
    views, given = pair.weights.views, pair.weights.input
    seen = ""
    if views is not None:
        seen = f"{views.clips}x{views.crops} of {given.frames}x{given.stride}, {given.pixels} px"
    return (pair.backbone, pair.weights.name, pair.task, scores, seen, pair.weights.sampler or "")


# -------------------------------------------------------------------------------------- one check


def _check(pair: KnownPair, words: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    from rsbench.records import store
    from rsbench.reference_check import expectations, judge, prepare_check
    from rsbench.runner import run_cell

    as_json = words["as_json"]
    expected = None if words["expect"] is None else expectations(words["expect"])
    with reporter() as report:
        request = dataclasses.replace(
            _request(pair, words), progress=report, say=partial(click.echo, err=as_json)
        )
        check = prepare_check(request, published=pair.published, expected=expected)
        store.check_writable(request.results)
        finished = run_cell(check.cell)
    judgement = judge(check, finished.record)
    if not as_json:
        _print(pair, check, finished, judgement)
    return _json(pair, check, finished, judgement), judgement.verdict


def _request(pair: KnownPair, words: dict[str, Any]) -> RunRequest:
    """Give the request of `rsbench run` that measures a pair."""
    from rsbench.reference_check import PROTOCOL

    # Nothing of the user's may change the picture: it is the one of the published score.
    untouched = run.make_context("run", []).params
    given = {
        "tasks": pair.task,
        "backbones": pair.backbone,
        "protocols": PROTOCOL,
        "weights": pair.weights.name,
    }
    return requests_of({**untouched, **words, **given})[0]


def _print(pair: KnownPair, check: ReferenceCell, finished: Finished, judgement: Judgement) -> None:
    record, reading = finished.record, check.cell.predict_reading
    views = reading.views
    num_views = f"{views.clips} x {views.crops} views" if views.num_views > 1 else "1 view"
    seen = f"{num_views} of {check.cell.input.pixels} pixels"
    if reading.modality == "video":
        seen += f" and {reading.clip.frames} x {reading.clip.stride} frames, {reading.sampler}"
    drawn = f" drawn of {check.num_present:,}" if judgement.items == "drawn" else ""
    click.echo(
        f"{record.backbone.name} · {record.weights.name} · {record.task.name}:"
        f" {record.data.num_expected:,} items{drawn}, {seen}"
    )
    if record.data.num_failed:
        click.echo(f"  {record.data.num_failed} unreadable items are scored wrong")
    if check.expected:
        _say("expected: by --expect, of the items that are here")
    else:
        _say(f"published: {pair.weights.published_conditions}")
    what = "expected" if check.expected else "published"
    header = ("", what, "measured", "difference", "95% interval", "")
    lines = [header, *(_comparison_line(each) for each in judgement.comparisons)]
    print_columns([(f"  {first}", *rest) for first, *rest in lines])
    if judgement.reason:
        _say(f"not judged: {judgement.reason}")
    if seen := _visible_in_words(judgement):
        _say(seen)
    if judgement.caveat:
        _say(judgement.caveat)
    click.echo(f"  record: {finished.path}")


def _say(text: str) -> None:
    click.echo(click.wrap_text(text, 100, initial_indent="  ", subsequent_indent="    "))


def _visible_in_words(judgement: Judgement) -> str:
    """Say what intervals could not have seen, where something is judged by them."""
    from rsbench.reference_check import SEEN_AT

    points = [
        f"{each.visible:.2f} points of {each.metric}"
        for each in judgement.comparisons
        if each.visible is not None
    ]
    if not points:
        return ""
    return (
        f"judged by interval: a true difference below about {', '.join(points)} would not show in"
        f" more than 1 check of 5 ({SEEN_AT:g} standard errors)"
    )


def _comparison_line(each: Comparison) -> tuple[str, ...]:
    interval = "" if each.low is None else f"[{each.low:.2f}, {each.high:.2f}]"
    said = {
        "ok": "ok",
        "off": f"off by {each.difference:+.2f} points",
        "not judged": "not judged",
    }
    return (
        each.metric,
        f"{each.reference:.2f}",
        f"{each.measured:.2f}",
        # Without the sign of what rounds to zero.
        f"{round(each.difference, 2) + 0.0:+.2f}",
        interval,
        said[each.verdict],
    )


def _json(
    pair: KnownPair, check: ReferenceCell, finished: Finished, judgement: Judgement
) -> dict[str, Any]:
    record, reading = finished.record, check.cell.predict_reading
    return {
        "backbone": record.backbone.name,
        "weights": record.weights.name,
        "task": record.task.name,
        "record": str(finished.path),
        "reused": finished.reused,
        "views": [reading.views.clips, reading.views.crops],
        "sampler": reading.sampler if reading.modality == "video" else None,
        "clip": [reading.clip.frames, reading.clip.stride],
        "pixels": record.backbone.pixels,
        "limit": record.task.limit,
        "n_official": record.data.num_official,
        "n_present": check.num_present,
        "n_expected": record.data.num_expected,
        "n_failed": record.data.num_failed,
        "reference": "expected" if check.expected else "published",
        "conditions": "" if check.expected else pair.weights.published_conditions,
        "items": judgement.items,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "caveat": judgement.caveat,
        "metrics": [
            {
                "metric": each.metric,
                "reference_percent": each.reference,
                "measured_percent": each.measured,
                "difference_points": each.difference,
                "low_percent": each.low,
                "high_percent": each.high,
                "visible_points": each.visible,
                "verdict": each.verdict,
            }
            for each in judgement.comparisons
        ],
    }

"""`rsbench import`: results of other tools, kept beside those measured here and marked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.cli.options import FILE, RESULTS, examples, views_of
from rsbench.errors import RsbenchError, UnknownNameError, suggest

if TYPE_CHECKING:
    from rsbench.importing import Claims
    from rsbench.records.foreign import ForeignStored
    from rsbench.specs import Backbone, Task

_SHOWN = 10
"""Rows that are printed; --json has all."""

_INPUT = re.compile(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)")


@click.command(
    "import",
    epilog=examples(
        "rsbench import results-imagenet.csv --from timm --task imagenet1k",
        "rsbench import out.pkl --from mmaction2 --task kinetics400"
        " --list kinetics400_val_list_videos.txt --backbone pytorchvideo/slow_r50"
        " --input 8x8x256 --views 10x3 --reported top1=75.0,top5=92.1",
    ),
)
@click.argument("file", type=FILE)
@click.option(
    "--from",
    "tool",
    required=True,
    type=click.Choice(["timm", "mmaction2"]),
    help="Whose: a CSV of timm's results folder, or a pickle of mmaction2's test.py --dump.",
)
@click.option("--task", required=True, help="What the scores are of, as rsbench names it.")
@click.option("--split", default="validation", show_default=True, help="Likewise, its split.")
@click.option("--results", type=RESULTS, default="results", show_default=True, help="Where to.")
@click.option("--list", "annotations", type=FILE, help="mmaction2: the list that ann_file named.")
@click.option(
    "--ids",
    type=click.Choice(["name", "path"]),
    help="mmaction2: videos are named by file name or by path in the list, without ending."
    "  [default: name]",
)
@click.option("--model", help="mmaction2: what it calls the network.  [default: FILE's name]")
@click.option("--backbone", help="mmaction2: the same network as rsbench names it.")
@click.option("--weights", help="mmaction2: its weights as rsbench names them; needs --backbone.")
@click.option("--protocol", help="mmaction2: what was done.  [default: evaluate]")
@click.option("--input", "seen", help="mmaction2: FRAMESxSTRIDExPIXELS of a clip.")
@click.option("--views", help="mmaction2: CLIPSxCROPS of a video.")
@click.option("--sampler", help="mmaction2: how clips were sampled, as in ls protocols.")
@click.option(
    "--reported",
    metavar="METRIC=PERCENT,...",
    help="mmaction2: what it reported; refused if the dump does not give it.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def import_results(
    file: Path,
    tool: str,
    task: str,
    split: str,
    results: Path,
    annotations: Path | None,
    ids: str | None,
    model: str | None,
    backbone: str | None,
    weights: str | None,
    protocol: str | None,
    seen: str | None,
    views: str | None,
    sampler: str | None,
    reported: str | None,
    as_json: bool,
) -> int:
    """Keep another tool's results as foreign rows, marked as not measured here.

    They are ranked in no table; `rsbench compare --published` puts them beside what was measured
    here of the same network. FILE is read as data: nothing in it is run. Of mmaction2's dumps the
    metrics are computed again from the scores, and kept item by item. Importing a file twice keeps
    it once.
    """
    of_mmaction = {
        "--list": annotations,
        "--ids": ids,
        "--protocol": protocol,
        "--model": model,
        "--backbone": backbone,
        "--weights": weights,
        "--input": seen,
        "--views": views,
        "--sampler": sampler,
        "--reported": reported,
    }
    given = [name for name, value in of_mmaction.items() if value is not None]
    if tool == "timm" and given:
        raise RsbenchError(f"{given[0]} is for --from mmaction2: timm's tables say it; drop it.")
    if tool == "mmaction2" and annotations is None:
        raise RsbenchError(
            "--from mmaction2 needs --list, the file that ann_file named: a dump names no video."
        )
    from rsbench.importing import import_mmaction, import_timm
    from rsbench.records import foreign
    from rsbench.registry import find_task

    spec = find_task(task).spec
    _check_split(spec, split)
    before = set((results / foreign.FOLDER).glob("*.json"))
    if annotations is None:
        stored = import_timm(file, results, task=spec.name, split=split, backbones=_networks())
    else:
        claims = _claims(
            model or file.stem, backbone, weights, seen=seen, views=views, sampler=sampler
        )
        stored = import_mmaction(
            file,
            annotations,
            results,
            task=spec,
            split=split,
            protocol=protocol or "evaluate",
            claims=claims,
            ids="path" if ids == "path" else "name",
            reported={} if reported is None else _percentages(reported),
        )
    _say(stored, is_repeat=stored.path in before, as_json=as_json)
    return 0


def _check_split(task: Task, split: str) -> None:
    """Hold the split to what the task reports: under another name it would stand beside nothing."""
    if callable(task.folds):  # Worked out from data, which need not be here.
        return
    reported = [fold.test for fold in task.folds]
    if split not in reported:
        raise UnknownNameError(
            f"{task.name} reports {' or '.join(reported)}, not {split!r}; give --split."
        )


def _networks() -> list[Backbone]:
    """Give all networks that are installed; one that can't be imported has no timm weights."""
    from rsbench.registry import everything
    from rsbench.specs import Backbone

    found, _ = everything("backbone")
    return [each.spec for each in found if isinstance(each.spec, Backbone)]


def _claims(
    model: str,
    backbone: str | None,
    weights: str | None,
    *,
    seen: str | None,
    views: str | None,
    sampler: str | None,
) -> Claims:
    """Put together what the user says of a dump, which says nothing of itself.

    Raises:
        RsbenchError: A name is unknown, or --input or --views is not of its form.
    """
    from rsbench.importing import Claims
    from rsbench.media.sampling import resolve_sampler

    match = None if seen is None else _INPUT.fullmatch(seen)
    if seen is not None and match is None:
        raise RsbenchError(
            f"--input must be FRAMESxSTRIDExPIXELS, such as 8x8x256; it was {seen!r}."
        )
    frames, stride, pixels = (None,) * 3 if match is None else map(int, match.groups())
    asked = None if views is None else views_of(views)
    return Claims(
        model=model,
        backbone=backbone,
        weights=_checked_weights(backbone, weights),
        frames=frames,
        stride=stride,
        pixels=pixels,
        clips=None if asked is None else asked.clips,
        crops=None if asked is None else asked.crops,
        sampler=None if sampler is None else resolve_sampler(sampler),
    )


def _checked_weights(backbone: str | None, weights: str | None) -> str | None:
    """Hold the names to what is known: a name nobody knows would stand beside nothing."""
    if backbone is None:
        if weights is not None:
            raise RsbenchError("--weights needs --backbone, the network that they belong to.")
        return None
    from rsbench.registry import find_backbone

    known = [each.name for each in find_backbone(backbone).spec.weights]
    if weights is not None and weights not in (*known, "none"):
        raise UnknownNameError(
            f"No weights of {backbone} are called {weights!r}.{suggest(weights, known)}"
            f" `rsbench weights list {backbone}` lists them."
        )
    return weights


def _percentages(text: str) -> dict[str, float]:
    from rsbench.reference_check import expectations

    try:
        return expectations(text)
    except RsbenchError as fault:
        raise RsbenchError(str(fault).replace("--expect", "--reported", 1)) from None


def _say(stored: ForeignStored, *, is_repeat: bool, as_json: bool) -> None:
    from rsbench.records.foreign import plain_row
    from rsbench.tables.layout import clean

    rows = stored.file.rows
    if as_json:
        content = {
            "file": str(stored.path),
            "repeated": is_repeat,
            "rows": [plain_row(row) for row in rows],
        }
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for row in rows[:_SHOWN]:
        count = "" if row.n is None else f" of {row.n:,} items"
        known = "" if row.backbone is None else f", {row.backbone} {row.weights or ''}".rstrip()
        click.echo(clean(f"{row.model}{known}: {row.metric} {100 * row.value:.2f} %{count}"))
    if len(rows) > _SHOWN:
        click.echo(f"... and {len(rows) - _SHOWN:,} more")
    for note in dict.fromkeys(note for row in rows for note in row.notes):
        click.echo(clean(f"Note: {note}"))
    done = "was imported already" if is_repeat else "is kept"
    click.echo(
        f"{stored.path} {done}: measured by {stored.file.tool}, not here."
        " `rsbench compare --published` puts it beside what was."
    )

"""`rsbench views`: what other views of a finished run would have given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from rsbench.cli.options import FILE, examples, views_of
from rsbench.cli.printing import metric_in_words, print_columns

if TYPE_CHECKING:
    from rsbench.deriving import Derived, Level, Source
    from rsbench.specs import Views
    from rsbench.view_scores import Average


@click.command(
    epilog=examples(
        "rsbench views results/runs/.../x3d_m-k400-s0-1a2b3c4d.json",
        "rsbench views RECORD.json --views 5x3 --average score --level clip",
    )
)
@click.argument("record", type=FILE)
@click.option("--views", metavar="CLIPSxCROPS", help="These alone, such as 5x3; else all.")
@click.option(
    "--average",
    type=click.Choice(["probability", "score"]),
    default="probability",
    show_default=True,
    help="What is averaged: probabilities, or their logarithms, which rank as logits do.",
)
@click.option(
    "--level",
    type=click.Choice(["video", "clip"]),
    default="video",
    show_default=True,
    help="What is an example: a video, or each clip of it.",
)
@click.option("--task", help="The task's file, where its metrics are its own: ./mine.py.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def views(
    record: Path, views: str | None, average: str, level: str, task: str | None, as_json: bool
) -> int:
    """Derive other views of a finished run from the scores of its views, without running it.

    Views can be had where their frames and crops are among the stored ones for every item. Numbers
    derived so are labelled, such as "15 of 10x3 views", and stand in no table of results.
    """
    from rsbench.deriving import candidates, derive, open_source
    from rsbench.errors import RecordError

    wanted = None if views is None else views_of(views)
    source = open_source(record, task=task)
    how = {"average": cast("Average", average), "level": cast("Level", level)}
    rows: list[Derived] = []
    refused: list[tuple[Views, str]] = []
    for each in candidates(source) if wanted is None else [wanted]:
        try:
            rows.append(derive(source, each, **how))  # type: ignore[arg-type]  # cast just above
        except RecordError as error:
            if wanted is not None:
                raise
            refused.append((each, str(error)))
    if as_json:
        click.echo(json.dumps(_json(source, rows, refused), indent=1))
    else:
        _print(source, rows, refused)
    return 0


def _print(source: Source, rows: list[Derived], refused: list[tuple[Views, str]]) -> None:
    record, run = source.stored.record, source.views_run
    header = source.views.header
    cut = (
        f"{header.sampler}, {header.cropper}" if record.task.modality == "video" else header.cropper
    )
    click.echo(
        f"{record.task.name} · {record.backbone.name} · {record.weights.name} ·"
        f" {record.protocol.name} · seed {record.seed}: {run.clips}x{run.crops} views ({cut}) of"
        f" {record.data.num_expected} items"
    )
    names = [part.name for part in record.metrics]
    lines = [("views", "derived from", "average", "examples", *names)]
    for row in rows:
        unit = "clips" if row.level == "clip" else f"{record.task.modality}s"
        lines.append(
            (
                f"{row.views.clips}x{row.views.crops}",
                row.label,
                row.average,
                f"{row.num_examples} {unit}",
                *(
                    metric_in_words(score.value, score.low, score.high, metric.higher_is_better)
                    for metric, score in row.scores
                ),
            )
        )
    print_columns(lines)
    if refused:
        shown = ", ".join(f"{each.clips}x{each.crops}" for each, _ in refused)
        click.echo(f"not to be had: {shown}. {refused[0][1]}")


def _json(source: Source, rows: list[Derived], refused: list[tuple[Views, str]]) -> dict[str, Any]:
    run, header = source.views_run, source.views.header
    return {
        "record": str(source.stored.path),
        "stored_views": [run.clips, run.crops],
        "kept": header.kept,
        "sampler": header.sampler,
        "cropper": header.cropper,
        "derived": [
            {
                "views": [row.views.clips, row.views.crops],
                "label": row.label,
                "average": row.average,
                "level": row.level,
                "num_examples": row.num_examples,
                "metrics": {
                    metric.name: {
                        "value": score.value,
                        "low": score.low,
                        "high": score.high,
                        "interval": score.interval,
                    }
                    for metric, score in row.scores
                },
            }
            for row in rows
        ],
        "refused": [
            {"views": [each.clips, each.crops], "reason": reason} for each, reason in refused
        ],
    }

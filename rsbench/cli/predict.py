"""`rsbench predict`: the head of a finished run, applied to new files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rsbench.cli.options import FILE, default_device, examples


@click.command(
    epilog=examples("rsbench predict results/runs/.../resnet_rs_50-none-s0-1a2b3c4d.json clip.mp4")
)
@click.argument("record", type=FILE)
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--weights", help="The weights' file, where the record's came from one.")
@click.option("--backbone", help="The backbone's file, where the record's came from one.")
@click.option("--protocol", help="The protocol's file, where the record's came from one.")
@click.option("--fold", help="Whose head, where the run fitted one a fold.")
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Classes shown a file."
)
@click.option("--device", help="cpu, cuda, cuda:1; the GPU where there is one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a file, a line each.")
def predict(
    record: Path,
    files: tuple[Path, ...],
    weights: str | None,
    backbone: str | None,
    protocol: str | None,
    fold: str | None,
    top: int,
    device: str | None,
    as_json: bool,
) -> int:
    """Apply a finished run's head to new images or videos.

    On the run's own items it gives the recorded scores.
    """
    from rsbench.data.roots import cache_root
    from rsbench.predicting import predict_files

    answer = predict_files(
        record,
        files,
        cache_root=cache_root(),
        backbone=backbone,
        protocol=protocol,
        weights=weights,
        fold=fold,
        device=device or default_device(),
    )
    reasons = {failure.id: failure.reason for failure in answer.failures}
    for number, (path, value) in enumerate(zip(files, answer.values, strict=True)):
        if value is None:
            reason = reasons[f"{number}:{path.name}"]
            click.echo(f"rsbench: {path} can't be read: {reason}", err=True)
        elif as_json:
            scores = dict(zip(answer.classes, map(float, value), strict=True))
            click.echo(json.dumps({"file": str(path), "scores": scores}))
        else:
            ranked = sorted(range(len(value)), key=lambda k: -value[k])[:top]
            said = ", ".join(f"{answer.classes[k]} {100 * value[k]:.1f}%" for k in ranked)
            click.echo(f"{path}: {said}")
    return 1 if reasons else 0

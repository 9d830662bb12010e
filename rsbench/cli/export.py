"""`rsbench export`: a finished run, network and fitted head, as one ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.cli.options import AMOUNT, FILE, examples
from rsbench.cli.printing import bytes_in_words

if TYPE_CHECKING:
    from rsbench.exporting.export import Exported


@click.command(
    epilog=examples("rsbench export results/runs/.../resnet_rs_50-1a2b3c4d.json --onnx net.onnx")
)
@click.argument("record", type=FILE)
@click.option("--onnx", "target", type=FILE, required=True, help="The file to write, a new one.")
@click.option("--data", type=FILE, help="Data of the run, to compare with the record.")
@click.option(
    "--items",
    "num_items",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="Items of the record that are read again and compared; 0 for none.",
)
@click.option(
    "--tolerance",
    type=AMOUNT,
    default=1e-5,
    show_default=True,
    help="How far a probability may be off; else nothing is written.",
)
@click.option("--weights", help="The weights' file, where the record's came from one.")
@click.option("--backbone", help="The backbone's file, where the record's came from one.")
@click.option("--fold", help="Whose head, where the run fitted one a fold.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def export(
    record: Path,
    target: Path,
    data: Path | None,
    num_items: int,
    tolerance: float,
    weights: str | None,
    backbone: str | None,
    fold: str | None,
    as_json: bool,
) -> None:
    """Write a finished run as one ONNX file: network and classifier, mean and deviation inside.

    It takes views in grey levels of 0 to 255 and gives a probability a class; its metadata say the
    layout, the classes and the record. Where the data of the run is here, it is held to the record.
    """
    from rsbench.data.roots import cache_root
    from rsbench.exporting.export import export_onnx

    done = export_onnx(
        record,
        target,
        cache_root=cache_root(),
        data=data,
        backbone=backbone,
        weights=weights,
        fold=fold,
        num_items=num_items,
        tolerance=tolerance,
    )
    if as_json:
        click.echo(json.dumps(_exported_json(done)))
        return
    shape = ", ".join("N" if side is None else str(side) for side in done.input["shape"])
    click.echo(
        f"{done.path}: {bytes_in_words(done.num_bytes)}, views ({shape}) {done.input['dtype']} RGB"
        f" 0-255 -> probabilities (N, {len(done.classes)})"
    )
    click.echo(f"  the network's own probabilities to {done.difference:.1e}, on random views")
    if done.compared is None:
        click.echo(f"  not compared with the record: {done.why_not}")
    else:
        num = done.compared.num_items
        click.echo(
            f"  the record's scores of {num} item{'s' * (num != 1)} to"
            f" {done.compared.difference:.1e}, beyond what records round"
        )


def _exported_json(done: Exported) -> dict[str, object]:
    return {
        "file": str(done.path),
        "num_bytes": done.num_bytes,
        "input": dict(done.input),
        "classes": list(done.classes),
        "difference_on_random_views": done.difference,
        "compared_items": 0 if done.compared is None else done.compared.num_items,
        "difference_from_record": None if done.compared is None else done.compared.difference,
        "not_compared": done.why_not,
    }

"""`rsbench report`: the records of a folder as one HTML file, and its figures for papers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rsbench.cli.options import FILE, RESULTS, examples
from rsbench.cli.printing import bytes_in_words
from rsbench.errors import RsbenchError
from rsbench.suites import find_suite


@click.command(
    epilog=examples(
        "rsbench report results --out report.html",
        "rsbench report results --data DATA --suite offline --figures figures",
    )
)
@click.argument("results", type=RESULTS, default="results")
@click.option(
    "--out",
    type=FILE,
    default="report.html",
    show_default=True,
    help="The file; one that is there is replaced.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the data sets, for pictures of wrong items; samples need none.",
)
@click.option("--suite", help="Rank networks on a suite's tasks (ls suites).")
@click.option("--title", default="rsbench results", show_default=True, help="Of the page.")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write each figure as PNG and SVG into this folder as well.",
)
@click.option(
    "--no-figures",
    "without_figures",
    is_flag=True,
    help="Tables alone, which need no extra.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def report(
    results: Path,
    out: Path,
    data: Path | None,
    suite: str | None,
    title: str,
    figures: Path | None,
    without_figures: bool,
    as_json: bool,
) -> int:
    """Draw a results folder as one HTML file that opens anywhere and asks for nothing.

    Tables, comparisons, figures, classes and wrong items; each number leads to the run it comes
    from.
    """
    from rsbench.atomic import write_atomically
    from rsbench.report import draw_report
    from rsbench.report.drawing import write_figures

    if without_figures and figures is not None:
        raise RsbenchError("--figures writes what --no-figures leaves out; give one of them.")
    if out.is_dir():
        raise RsbenchError(f"--out must be a file, but {out} is a folder; name {out}/report.html.")
    if data is not None and not data.is_dir():
        raise RsbenchError(f"--data must be a folder of data sets, but there is none at {data}.")
    chosen = None if suite is None else find_suite(suite)
    drawn = draw_report(
        results, data=data, suite=chosen, title=title, with_figures=not without_figures
    )
    content = drawn.html.encode()
    write_atomically(out, content)
    pictures = () if figures is None else write_figures(drawn.figures, figures)
    if as_json:
        said = {
            "report": str(out),
            "num_bytes": len(content),
            "num_records": drawn.num_records,
            "num_tables": drawn.num_tables,
            "figures": [str(path) for path in pictures],
            "problems": list(drawn.problems),
            "omissions": list(drawn.omissions),
        }
        click.echo(json.dumps(said, indent=1))
        return 0
    click.echo(
        f"{out}: {drawn.num_records} records in {drawn.num_tables} tables, "
        f"{len(drawn.figures)} figures, {bytes_in_words(len(content))}."
    )
    if pictures:
        click.echo(f"{figures}: {len(pictures)} files.")
    for problem in drawn.problems:
        click.echo(f"rsbench: left out: {problem}", err=True)
    for omission in drawn.omissions:
        click.echo(f"rsbench: not on the page: {omission}", err=True)
    return 0

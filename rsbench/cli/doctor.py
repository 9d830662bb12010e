"""`rsbench doctor`: what is broken on this machine, before a long run finds it."""

from __future__ import annotations

from pathlib import Path

import click

from rsbench.cli.options import RECORDS, RESULTS, examples
from rsbench.cli.printing import print_checks


@click.command(epilog=examples("rsbench doctor", "rsbench doctor --decoder"))
@click.option("--results", type=RESULTS, default="results", show_default=True, help=RECORDS)
@click.option(
    "--decoder",
    "decoder_only",
    is_flag=True,
    help="Only the decoder, in full: every kind of video that can be written here.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(results: Path, decoder_only: bool, as_json: bool) -> int:
    """Examine data, weights, decoder, disk, versions and plug-ins on this machine."""
    from rsbench.data.roots import cache_root
    from rsbench.doctor import examine, look_at_decoder

    if decoder_only:
        return print_checks(list(look_at_decoder(short=False)), as_json=as_json)
    return print_checks(examine(results=results, cache_root=cache_root()), as_json=as_json)

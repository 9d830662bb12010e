"""`rsbench cache`: what the feature cache holds and of whom, and how to make room in it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rsbench.cli.options import examples
from rsbench.cli.printing import bytes_in_words, print_columns
from rsbench.errors import UnknownNameError, suggest

if TYPE_CHECKING:
    from rsbench.data.extractions import Kept, Removed

_KEY_LETTERS = 8
"""Of an extraction's key: enough to tell those of a folder apart."""


@click.group(epilog=examples("rsbench cache ls", "rsbench cache gc --to 20"))
def cache() -> None:
    """Say what networks' outputs are kept, of which task and backbone, and make room."""


@cache.command("ls", epilog=examples("rsbench cache ls", "rsbench cache ls --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object an extraction, a line each.")
def cache_ls(as_json: bool) -> None:
    """List the feature cache: one line an extraction, the last used first.

    Train, validation and test items of a task are extractions apart; the key tells them apart.
    """
    from rsbench.data.extractions import contents
    from rsbench.data.roots import cache_root

    root = cache_root()
    found = contents(root)
    if as_json:
        for each in found.kept:
            click.echo(json.dumps(_plain(each)))
        return
    if found.kept:
        names = ("key", "task", "backbone", "weights", "output", "input", "items", "size", "unused")
        print_columns([(*names, ""), *(_cells(each) for each in found.kept)])
    click.echo(f"{root}: {bytes_in_words(found.num_bytes)} in {len(found.kept)} extractions")
    if found.num_orphans:
        what = "1 shard" if found.num_orphans == 1 else f"{found.num_orphans} shards"
        click.echo(
            f"{bytes_in_words(found.orphan_bytes)} of it in {what} that no extraction speaks of any"
            " more: rsbench cache gc removes them"
        )


@cache.command("gc", epilog=examples("rsbench cache gc", "rsbench cache gc --to 20 --dry-run"))
@click.option(
    "--to",
    "most_gib",
    type=click.FloatRange(min=0),
    metavar="GIB",
    help="Remove the longest unused until no more than this is left.",
)
@click.option(
    "--unused",
    "unused_days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Remove what was not used for so long.",
)
@click.option("--task", help="Of these, only what is of this task; alone, all of it.")
@click.option("--backbone", help="Likewise of a backbone.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def cache_gc(
    most_gib: float | None,
    unused_days: float | None,
    task: str | None,
    backbone: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make room in the feature cache; without words, remove only what no run can use."""
    from rsbench.data.extractions import collect_garbage
    from rsbench.data.roots import cache_root

    root = cache_root()
    _check_held(root, {"task": task, "backbone": backbone})
    removed = collect_garbage(
        root,
        most_bytes=None if most_gib is None else int(most_gib * 2**30),
        unused_days=unused_days,
        task=task,
        backbone=backbone,
        dry_run=dry_run,
    )
    if as_json:
        click.echo(json.dumps(_removed_plain(removed, dry_run=dry_run)))
        return
    if removed.extractions:
        print_columns([_cells(each) for each in removed.extractions])
    what = "1 shard" if removed.num_shards == 1 else f"{removed.num_shards} shards"
    click.echo(
        f"{'would remove' if dry_run else 'removed'} {bytes_in_words(removed.num_bytes)} in {what};"
        f" {bytes_in_words(removed.left_bytes)} {'would stay' if dry_run else 'stay'}"
    )


def _check_held(root: Path, asked: Mapping[str, str | None]) -> None:
    """Hold names to being of something that the cache has, for a slip would remove nothing.

    Raises:
        UnknownNameError: The cache has nothing of that name.
    """
    from rsbench.data.extractions import contents

    kept = contents(root).kept
    for noun, name in asked.items():
        held = {each.entry.made_for[noun] for each in kept if noun in each.entry.made_for}
        if name is not None and name not in held:
            raise UnknownNameError(
                f"The feature cache holds nothing of {noun} {name!r}.{suggest(name, held)}"
                " `rsbench cache ls` lists what it holds."
            )


def _cells(kept: Kept) -> tuple[str, ...]:
    entry = kept.entry
    reading = entry.reading
    frames, views = reading.get("frames", 1), reading.get("views", 1)
    size = f"{frames} x {reading.get('pixels')}" if frames != 1 else f"{reading.get('pixels')}"
    return (
        kept.path.stem[:_KEY_LETTERS],
        entry.made_for.get("task", "-"),
        entry.made_for.get("backbone", "-"),
        entry.made_for.get("weights", "-"),
        entry.output,
        size if views == 1 else f"{size}, {views} views",
        str(entry.num_items),
        bytes_in_words(kept.num_bytes),
        _age_in_words(time.time() - kept.used),
        "" if kept.is_whole else f"{kept.num_shards} of {len(entry.shards)} shards",
    )


def _age_in_words(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _plain(kept: Kept) -> dict[str, Any]:
    entry = kept.entry
    return {
        "key": kept.path.stem,
        "task": entry.made_for.get("task"),
        "backbone": entry.made_for.get("backbone"),
        "weights": entry.made_for.get("weights"),
        "output": entry.output,
        "precision": entry.precision,
        **{name: entry.reading.get(name) for name in ("modality", "frames", "pixels", "views")},
        "num_items": entry.num_items,
        "num_shards": kept.num_shards,
        "whole": kept.is_whole,
        "num_bytes": kept.num_bytes,
        "unused_seconds": round(max(0.0, time.time() - kept.used)),
    }


def _removed_plain(removed: Removed, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "num_extractions": len(removed.extractions),
        "num_shards": removed.num_shards,
        "num_bytes": removed.num_bytes,
        "left_bytes": removed.left_bytes,
    }

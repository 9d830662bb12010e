"""How far a run is, on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from rsbench.cli.printing import duration_in_words

SECONDS_BETWEEN_LINES = 30.0
"""How often a run whose progress goes to a file says where it is."""

SECONDS_BEFORE_THE_FIRST = 10.0
"""How soon it says so for the first time."""


@contextmanager
def reporter() -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (stage, done, total) that shows on standard error how long it still takes.

    On a terminal these are bars, from the first call on; elsewhere a line now and then.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_reporter()
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Standard output stays where it was sent, and is not drawn into by the bars.
    bars = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    stages: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        bars.start()
        if stage not in stages:
            stages[stage] = bars.add_task(stage, total=total)
        bars.update(stages[stage], completed=done, total=total)

    try:
        yield report
    finally:
        bars.stop()


def _line_reporter() -> Callable[[str, int, int], None]:
    """Give a callback that prints where a stage is, at most every half minute."""
    began: dict[str, tuple[float, int]] = {}
    # The first line comes sooner, for it says that something moves.
    spoke = time.monotonic() - SECONDS_BETWEEN_LINES + SECONDS_BEFORE_THE_FIRST

    def report(stage: str, done: int, total: int) -> None:
        nonlocal spoke
        now = time.monotonic()
        start, done_before = began.get(stage, (now, done))
        if done <= done_before:
            # The stage begins, or begins again on other items.
            start, done_before = began[stage] = (now, done)
        if done in (done_before, total) or now - spoke < SECONDS_BETWEEN_LINES:
            return
        spoke = now
        left = (now - start) / (done - done_before) * (total - done)
        click.echo(f"  {stage}: {done} of {total}, about {duration_in_words(left)} left", err=True)

    return report

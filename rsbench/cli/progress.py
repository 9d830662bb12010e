"""How far a run is, on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from rsbench.cli.printing import duration_in_words

SECONDS_BETWEEN_LINES = 30.0
"""How often a run whose progress goes to a file says where it is."""

SECONDS_BEFORE_THE_FIRST = 10.0
"""How soon it says so for the first time."""


class Reporter:
    """Show how far the stages of a run are, and beside the present one what it is at.

    It is the callback (stage, done, total) that long work asks for.
    """

    def __init__(self, show: Callable[[str, int, int, str], None]) -> None:
        """Show by a function of (stage, done, total, values in words)."""
        self._show = show
        self._stage = ""
        self._at = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say that a stage has done so many of so many."""
        if stage != self._stage:
            self._stage, self._at = stage, ""
        self._show(stage, done, total, self._at)

    def measured(self, values: Mapping[str, float]) -> None:
        """Take what the present stage is at; see `rsbench.specs.Settings.measured`."""
        self._at = values_in_words(values)


def values_in_words(values: Mapping[str, float]) -> str:
    """Say what a training is at: "loss 2.310, top-1 41.2%, rate 0.0125, 85 examples/s"."""
    return ", ".join(_value_in_words(name, value) for name, value in values.items())


def _value_in_words(name: str, value: float) -> str:
    if name == "loss":
        return f"loss {value:.3f}"
    if name.endswith("top1"):
        return f"{name.removesuffix('top1').replace('_', ' ')}top-1 {100 * value:.1f}%"
    if name == "learning_rate":
        return f"rate {value:.3g}"
    if name.endswith("_per_second"):
        return f"{value:.3g} {name.removesuffix('_per_second').replace('_', ' ')}/s"
    return f"{name.replace('_', ' ')} {value:.3g}"


@contextmanager
def reporter() -> Iterator[Reporter]:
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
        yield Reporter(_line_printer())
        return
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[at]}"),
    )
    # Standard output stays where it was sent, and is not drawn into by the bars.
    bars = Progress(*columns, console=console, transient=True, redirect_stdout=False)
    stages: dict[str, Any] = {}

    def show(stage: str, done: int, total: int, at: str) -> None:
        bars.start()
        if stage not in stages:
            stages[stage] = bars.add_task(stage, total=total, at=at)
        bars.update(stages[stage], completed=done, total=total, at=at)

    try:
        yield Reporter(show)
    finally:
        bars.stop()


def _line_printer() -> Callable[[str, int, int, str], None]:
    """Give a function that prints where a stage is, at most every half minute."""
    began: dict[str, tuple[float, int]] = {}
    # The first line comes sooner, for it says that something moves.
    spoke = time.monotonic() - SECONDS_BETWEEN_LINES + SECONDS_BEFORE_THE_FIRST

    def show(stage: str, done: int, total: int, at: str) -> None:
        nonlocal spoke
        now = time.monotonic()
        start, done_before = began.get(stage, (now, done))
        if done <= done_before:
            # The stage begins, or begins again on other items.
            start, done_before = began[stage] = (now, done)
        if done in (done_before, total) or now - spoke < SECONDS_BETWEEN_LINES:
            return
        spoke = now
        left = duration_in_words((now - start) / (done - done_before) * (total - done))
        said = f"; {at}" if at else ""
        click.echo(f"  {stage}: {done} of {total}, about {left} left{said}", err=True)

    return show

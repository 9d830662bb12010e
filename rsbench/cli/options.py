"""What the options and help pages of several verbs have in common."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rsbench.errors import RsbenchError

if TYPE_CHECKING:
    from rsbench.specs import Views

RESULTS = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RECORDS = "Folder of records."


class _Amount(click.FloatRange):
    """A number of a range, and a number: to click "nan" and "inf" are in any range."""

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


AMOUNT = _Amount(min=0, min_open=True)
TOLERANCE = _Amount(min=0)
_VIEWS = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def examples(*lines: str) -> str:
    """Give the end of a help page; the mark keeps click from filling the lines up."""
    return "\n".join(
        ["\b", "Example:" if len(lines) == 1 else "Examples:", *map("  {}".format, lines)]
    )


def views_of(text: str) -> Views:
    """Read the word after --views: "10x3" is ten clips of three crops.

    Raises:
        RsbenchError: It is something else.
    """
    from rsbench.specs import Views

    match = _VIEWS.fullmatch(text)
    if match is None:
        raise RsbenchError(
            f"--views must be CLIPSxCROPS, such as 10x3 for 30 views; it was {text!r}."
        )
    return Views(clips=int(match[1]), crops=int(match[2]))


def default_device() -> str:
    """Give the GPU where there is one, else the CPU: what --device is when it is left out."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def own_device(name: str) -> str:
    """Give "cuda" the number of this process's GPU where it is one of several processes."""
    from rsbench.data.launching import launch_of

    launch = launch_of()
    if name != "cuda" or launch is None:
        return name
    if launch.by == "srun":
        import torch

        # A cluster may show each task its own GPU alone, which is then its first.
        if torch.cuda.device_count() == 1:
            return "cuda:0"
    return f"cuda:{launch.local_rank}"

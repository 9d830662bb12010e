"""What the options and help pages of several verbs have in common."""

from __future__ import annotations

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
    """Give "cuda" the number of this process's GPU where torchrun has started several processes."""
    from rsbench.data.team import local_rank

    rank = local_rank()
    return name if name != "cuda" or rank is None else f"cuda:{rank}"

"""What the options and help pages of several verbs have in common."""

from __future__ import annotations

from pathlib import Path

import click

RESULTS = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)
RECORDS = "Folder of records."


def examples(*lines: str) -> str:
    """Give the end of a help page; the mark keeps click from filling the lines up."""
    return "\n".join(
        ["\b", "Example:" if len(lines) == 1 else "Examples:", *map("  {}".format, lines)]
    )


def default_device() -> str:
    """Give the GPU where there is one, else the CPU: what --device is when it is left out."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

"""The command line called in this process, and the small data that its tests run on."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from rsbench.cli import main

CLASSES = ("bright", "dark")
NUM_TRAIN, NUM_TEST = 12, 8
TINY = ("--task", "folder", "--backbone", "tiny_2d", "--pixels", "16")
QUICK = (*TINY, "--set", "strengths=3")
"""A run of about a second on what `write_pictures` writes; `--data` is left to say."""


class Answer(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def rsbench(*words: str | os.PathLike[str]) -> Answer:
    """Run one command and give its exit code and what it printed; an exception is a failure."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([os.fspath(word) for word in words])
        except SystemExit as stopped:
            assert isinstance(stopped.code, int)
            return Answer(stopped.code, out.getvalue(), err.getvalue())
    raise AssertionError("main must end by SystemExit")


def write_pictures(root: Path) -> Path:
    """Write train/ and test/ with two classes that the mean brightness tells apart."""
    generator = np.random.default_rng(0)
    for split, num_items in (("train", NUM_TRAIN), ("test", NUM_TEST)):
        for index, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(num_items // 2):
                pixels = generator.normal(180 - 120 * index, 20, (16, 16, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}{number}.png")
    return root


def write_broken_network(path: Path) -> str:
    """Write a network that fails on the first real batch; give the name it goes by."""
    path.write_text(
        "import torch\n"
        "class Broken(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Conv2d(3, 4, 3)\n"
        "    def forward(self, batch):\n"
        "        if len(batch) > 1:\n"
        "            raise ZeroDivisionError('planted')\n"
        "        return self.layer(batch)\n"
        "def build():\n"
        "    return Broken()\n"
    )
    return f"{path}:build"


def contents_of(folder: Path) -> dict[str, bytes | None]:
    """Give every path below a folder with its bytes, hidden ones too; None for folders."""

    def entries() -> Iterator[tuple[str, bytes | None]]:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            yield name, None if path.is_dir() else path.read_bytes()

    return dict(entries())

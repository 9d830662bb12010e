"""Empty files and lists for the loaders of annotated data sets, which decode nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def write(root: Path, name: str, *lines: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_json(root: Path, name: str, content: Any) -> None:
    write(root, name, json.dumps(content))


def labels(split: Any) -> dict[str, Any]:
    """Class names by id; a tuple of them where there may be several."""
    return {
        item.id: split.classes[item.target]
        if isinstance(item.target, int)
        else tuple(split.classes[index] for index in item.target)
        for item in split.items
    }

"""Writer of the folder that VTAB-1k's data sets are released in; `rsbench_tasks._vtab` reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rsbench.data.examples import Example, Writer

_SPLITS = {"train": "train800", "validation": "val200", "test": "test"}


def write_vtab_1k(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``{train800,val200,test}.txt`` of `path label` lines and ``images/<split>/NNNNNN.jpg``.

    ``train800val200.txt`` joins the first two, as in the release. ``classes.txt`` says that the
    folder has classes of its own.
    """
    from rsbench.media.image import write_image

    lines: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        split = _SPLITS[example.split]
        path = f"images/{split}/{len(lines[split]):06d}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / path, example.pixels)
        lines[split].append(f"{path} {list(classes).index(example.label)}\n")
    lines["train800val200"] = lines["train800"] + lines["val200"]
    for split, content in lines.items():
        (root / f"{split}.txt").write_text("".join(content), encoding="utf-8")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


VTAB_LAYOUTS: Mapping[str, Writer] = MappingProxyType({"vtab-1k": write_vtab_1k})
"""Writers by the layout's name."""

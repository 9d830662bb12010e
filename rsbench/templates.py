"""Plug-ins to start from: `rsbench new task NAME` and `rsbench new backbone NAME`.

Both texts are complete and pass `rsbench check` as they are; whoever edits one keeps what fits.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from rsbench.errors import RsbenchError

LONGEST_NAME = 40
"""Characters; keeps the lines of a written plug-in below 100."""

_NAME = "NAME_OF_PLUGIN"
_PLACEHOLDER = "Say "

_TASK = '''"""NAME_OF_PLUGIN: say what is to be told apart, and on which data.

Looks for ROOT/train/CLASS/*.png and ROOT/test/CLASS/*.png. Try it, with --data ROOT on real data:

    rsbench check task ./NAME_OF_PLUGIN.py
    rsbench run --task ./NAME_OF_PLUGIN.py --backbone resnet_rs_50
"""

from pathlib import Path

import numpy as np

from rsbench.errors import DataError
from rsbench.media.image import write_image
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

CLASSES = ("horizontal", "vertical")  # names of the folders, in the order of the class index


def load(root: Path, split: str) -> Split:
    """List one split in a stable order; nothing is decoded here."""
    paths = sorted((root / split).glob("*/*.png"))  # videos: "*/*.mp4"
    for path in paths:
        if path.parent.name not in CLASSES:
            raise DataError(f"{path} must lie in a folder named like one of {CLASSES}.")
    # An id is what tables know an item by: unique, and relative to the root on every machine.
    ids = [path.relative_to(root).as_posix() for path in paths]
    targets = [CLASSES.index(path.parent.name) for path in paths]
    rows = zip(ids, paths, targets, strict=True)
    items = tuple(Item(id=name, source=path, target=target) for name, path, target in rows)
    return Split(items=items, classes=CLASSES)  # and num_official=..., where it was published


def write_sample(root: Path) -> None:
    """Write a tiny made-up data set in the same layout, the same every time."""
    random = np.random.default_rng(0)
    for split, name in [(split, name) for split in ("train", "test") for name in CLASSES]:
        (root / split / name).mkdir(parents=True)
        for number in range(12 if split == "train" else 6):
            stripes = (np.arange(32) // 4 + number) % 2 * 160
            picture = random.integers(0, 80, (32, 32, 1)) + stripes[:, None, None]
            picture = picture if name == "horizontal" else picture.swapaxes(0, 1)
            pixels = picture.repeat(3, axis=2).astype(np.uint8)
            write_image(root / split / name / f"{number:02}.png", pixels)


TASK = Task(
    name="NAME_OF_PLUGIN",
    version=1,  # raise it whenever a number of this task would change
    modality="image",  # videos: "video", and clip=ClipSpec(frames=16, stride=4)
    target="class",
    metrics=(TOP1,),  # the first one is the headline
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(write=write_sample, pixels=32),
    flip=True,  # False where a mirrored picture has another label
    how_to_get="Say where the data is to be had, and which layout is looked for.",
    title="NAME_OF_PLUGIN",
    licence="Say under which licence the data is given.",
    citation="Say whom to cite.",
)
'''

_BACKBONE = '''"""NAME_OF_PLUGIN: say what this network is, with a link to its paper.

Try it, with --weights FILE once there are any:

    rsbench check backbone ./NAME_OF_PLUGIN.py
    rsbench run --task kinetics400 --backbone ./NAME_OF_PLUGIN.py
"""

import torch
from torch import nn

from rsbench.specs import Backbone, InputSpec


class Network(nn.Module):
    """Strided convolutions: (N, 3, H, W) -> features (N, 64). On clips (N, 3, T, H, W): Conv3d."""

    def __init__(self, num_classes: int | None) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for width_in, width in ((3, 16), (16, 32), (32, 64)):
            convolution = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
            self.stages.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
        # Features -> logits, applied by the protocol, not by forward; None where none is asked for.
        self.head = None if num_classes is None else nn.Linear(64, num_classes)

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the last map of each stage, coarsest last."""
        maps = {}
        for number, stage in enumerate(self.stages, start=1):
            maps[f"stage{number}"] = batch = stage(batch)
        return maps

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Map a normalised float batch to features."""
        return self.stage_maps(batch)["stage3"].mean((2, 3))


BACKBONE = Backbone(
    name="NAME_OF_PLUGIN",
    version=1,  # raise it whenever outputs under equal weights would change
    modality="image",  # on clips: "video", with frames and stride in the input
    input=InputSpec(pixels=64),  # what it sees without weights; mean and std are ImageNet's
    feature_width=64,
    # Convolutions 9 * (3*16 + 16*32 + 32*64), BatchNorm 2 * (16 + 32 + 64).
    num_parameters=23_696,
    parameters_with_classes=None,  # counted without a head
    build=Network,
    title="NAME_OF_PLUGIN",
    licence="Say under which licence the code is given.",
    citation="Say whom to cite.",
)
'''

_TEXTS = {"task": _TASK, "backbone": _BACKBONE}


def plugin_text(kind: Literal["task", "backbone"], name: str) -> str:
    """Give the source of a plug-in that works unedited.

    Raises:
        RsbenchError: `name` is not an identifier a file and a plug-in can be called by.
    """
    _check_name(kind, name)
    return _TEXTS[kind].replace(_NAME, name)


def write_plugin(
    kind: Literal["task", "backbone"], name: str, into: Path, *, taken: Iterable[str] = ()
) -> Path:
    """Write a plug-in to start from as ``NAME.py``; what exists is never overwritten.

    Args:
        kind: What it is to be.
        name: Its name, lower-case words joined by underscores.
        into: An existing folder.
        taken: Names of the registered plug-ins of this kind.

    Returns:
        The path of the file.

    Raises:
        RsbenchError: The name can't be used or is taken, the file exists, or can't be written.
    """
    text = plugin_text(kind, name)
    if name in set(taken):
        raise RsbenchError(
            f"The name of a new {kind} must be free, and {name!r} is registered already"
            f" (`rsbench show {name}`); choose another one."
        )
    path = into / f"{name}.py"
    if os.path.lexists(path):
        raise RsbenchError(
            f"{path} must not exist yet, and it does; it was left as it is: choose another name,"
            " another --into, or move it away."
        )
    try:
        # "x": a file that appears in this moment is not overwritten either.
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise RsbenchError(
            f"{path} can't be written: {error.strerror or error}; give --into a folder that exists"
            " and is yours to write."
        ) from error
    return path


def still_to_write(texts: Mapping[str, str]) -> str:
    """Name the fields whose text is still the template's ("Say ..."), or give an empty string."""
    waiting = [name for name, text in texts.items() if text.startswith(_PLACEHOLDER)]
    return f"; still to be written: {', '.join(waiting)}" if waiting else ""


def _check_name(kind: str, name: str) -> None:
    lowered = name.lower().replace("-", "_").replace(" ", "_")
    if not (name.isascii() and name.isidentifier() and name == lowered and name[0] != "_"):
        hint = f", for example {lowered}" if lowered.isidentifier() and lowered[0] != "_" else ""
        raise RsbenchError(
            f"The name of a {kind} must be lower-case letters, digits and underscores, beginning"
            f" with a letter{hint}; it was {name!r}."
        )
    if len(name) > LONGEST_NAME:
        raise RsbenchError(
            f"The name of a {kind} must have at most {LONGEST_NAME} characters; {name!r} has"
            f" {len(name)}. Choose a shorter one."
        )
    if keyword.iskeyword(name) or _is_module(name):
        what = "a word of Python" if keyword.iskeyword(name) else "the name of a Python module"
        raise RsbenchError(
            f"The name of a {kind} must not be {what}, because {name}.py would stand in its way; it"
            f" was {name!r}. Choose another one, for example {name}_{kind}."
        )


def _is_module(name: str) -> bool:
    """Tell whether `import NAME` means something installed, not a file of this folder."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        # Without origin: a plain folder of this name.
        return False
    return Path(found.origin).resolve().parent != Path.cwd().resolve()

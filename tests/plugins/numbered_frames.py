"""Videos whose pixels say which frame and which part of it they are, and networks that read them.

A frame is three bar codes side by side: frame t carries 3 t, 3 t + 1 and 3 t + 2, so that each of
three crops holds one whole code. The features of `FRAME_READER` are then the very frames that it
was given, and what a run must come to can be worked out with pencil and paper.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rsbench import specs
from rsbench.errors import MediaError
from rsbench.media.barcode import barcode_frames, read_barcode
from rsbench.media.video import write_video
from rsbench.metrics import TOP1

CLASSES = ("short", "middling", "long")
SIDE = 48
UNREAD = -1.0
"""The number of a frame that holds no whole, upright bar code."""
UNIT = 16.0
"""Features are frame numbers divided by this."""

VIDEOS = {
    "train": (7, 8, 7, 8, 10, 11, 13, 12, 20, 24, 21, 26),
    "test": (13, 8, 20, 5, 10, 7, 24, 11),
}
"""Frames of each video, in the order of the list; one more of each split can't be read."""


def class_of(num_frames: int) -> int:
    """Give the class of a video: it is its length."""
    return 0 if num_frames < 9 else 1 if num_frames < 18 else 2


def load(root: Path, split: str) -> specs.Split:
    """List the videos of ROOT/labels.csv (``path,split,label``)."""
    with (root / "labels.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    items = [
        specs.Item(id=row["path"], source=root / row["path"], target=CLASSES.index(row["label"]))
        for row in rows
    ]
    return specs.Split(items=tuple(items), classes=CLASSES, num_official=len(items))


def write_sample(root: Path) -> None:
    """Write the videos, named so that the order of the list is not that of the names."""
    lines = ["path,split,label"]
    for split, lengths in VIDEOS.items():
        (root / split).mkdir()
        for number, num_frames in enumerate(lengths):
            name = f"{split}/{'hcfaebgdlikj'[number]}_{num_frames:02d}.mp4"
            codes = barcode_frames(3 * num_frames, SIDE, SIDE)
            triples = codes.reshape(num_frames, 3, SIDE, SIDE, 3)
            frames = np.concatenate([triples[:, part] for part in range(3)], axis=2)
            write_video(root / name, frames, fps=30)
            lines.append(f"{name},{split},{CLASSES[class_of(num_frames)]}")
        (root / split / "damaged.mp4").write_bytes(b"no video")
        lines.append(f"{split}/damaged.mp4,{split},short")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")


TASK = specs.Task(
    name="numbered_frames",
    version=1,
    modality="video",
    target="class",
    metrics=(TOP1,),
    load=load,
    folds=(specs.Fold(train="train", test="test"),),
    sample=specs.Sample(write=write_sample, pixels=SIDE, views=specs.Views(clips=3, crops=3)),
    clip=specs.ClipSpec(frames=4, stride=2),
    views=specs.Views(clips=3, crops=3),
    flip=False,
    how_to_get="This file writes it.",
    title="Videos of numbered frames",
    licence="Apache-2.0",
    citation="none: made by rsbench's own tests",
)


class Reader(nn.Module):
    """Give the number of each frame, behind a batch norm: (N, 4) of a clip, (N, 1) of a picture."""

    def __init__(self, width: int, num_classes: int | None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.head = None if num_classes is None else nn.Linear(width, num_classes)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, T, H, W) or (N, 3, H, W) to the numbers read, divided by `UNIT`."""
        frames = batch if batch.ndim == 5 else batch[:, :, None]
        mean, std = (torch.tensor(value)[:, None, None, None] for value in (INPUT.mean, INPUT.std))
        pixels = (frames * std + mean).mul(255).round().clamp(0, 255).byte()
        numbers = [[number_of(frame) for frame in clip.permute(1, 2, 3, 0)] for clip in pixels]
        return self.norm(torch.tensor(numbers) / UNIT)

    def stage_maps(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the picture itself."""
        return {"picture": batch}


def number_of(frame: torch.Tensor) -> float:
    """Read one frame (H, W, 3)."""
    try:
        return float(read_barcode(frame.cpu().numpy()))
    except MediaError:
        return UNREAD


INPUT = specs.InputSpec(pixels=SIDE, frames=4, stride=2)


def _reader(name: str, modality: specs.Modality, width: int, input: specs.InputSpec):
    return specs.Backbone(
        name=name,
        version=1,
        modality=modality,
        input=input,
        feature_width=width,
        # Scale and shift of the batch norm.
        num_parameters=2 * width,
        parameters_with_classes=None,
        build=partial(Reader, width),
        title="Reads the numbers of frames",
        licence="Apache-2.0",
        citation="none: a network of rsbench's own tests",
    )


FRAME_READER = _reader("frame_reader", "video", 4, INPUT)
PICTURE_READER = _reader("picture_reader", "image", 1, specs.InputSpec(pixels=SIDE))

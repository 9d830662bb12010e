"""Distort pictures and clips for training: rsbench beside torchvision and timm.

    python benchmarks/augmentation.py [--frames 16] [--draws 48] [--repeats 5] [--device cuda]

Views are uint8 of 224 x 224, as a reader has cropped them, alone and as a clip. Timed is a draw
with what it does to the view:

- RandAugment: two layers at magnitude 10. torchvision (v2, nearest) has 14 operations and another
  table, timm (``rand-m10-n2``, its pictures are Pillow's, so it has no clips) 15 and a third: like
  work, not like pixels. All draw from many seeds, so that each operation has its share;
- colour jitter of 0.4 and random erasing, always: torchvision's own, whose pixels ours are;
- scale jitter: short side of 375 x 500 to between 256 and 320, and a square of it; torchvision by
  RandomShortestSize and RandomCrop, a frame at a time as a reader does it;
- each operation of RandAugment alone, rsbench's only.

Everybody takes turns. Figures are milliseconds a view, medians over repeats with the least and the
most: CPU time of one thread, or wall clock to the end of the work on a GPU, where ours can run as
well. What follows from that is where a run distorts: in the processes that read, which lose nothing
by it as long as the network does not wait for them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from rsbench.media.augment import Augmentation, distorted, random_crop
from rsbench.media.randaugment import OPERATIONS, Layer, apply_layer
from rsbench.specs import InputSpec

PIXELS = 224
MAGNITUDE = 10.0
LAYERS = 2
STRENGTH = 0.4
SCALES = (256, 320)
HEIGHT, WIDTH = 375, 500
SPEC = InputSpec(pixels=PIXELS)
OURS = "rsbench"
RANDAUGMENT = Augmentation(randaugment_layers=LAYERS, randaugment_magnitude=MAGNITUDE)
JITTER = Augmentation(colour_jitter=STRENGTH)
ERASING = Augmentation(random_erasing=1.0)
SCALING = Augmentation(scale_jitter=SCALES)

Work = Callable[[int], object]
"""Does one draw by its number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One kind of work by one library."""

    view: str
    """"picture" or "clip"."""
    kind: str
    library: str
    milliseconds: tuple[float, ...]
    """A view, one value a repeat."""


def make_frames(num_frames: int, height: int, width: int) -> torch.Tensor:
    """Make uint8 (3, T, H, W) that drifts: waves and some noise, so that no level is missing."""
    generator = np.random.default_rng(0)
    row, column = np.mgrid[:height, :width]
    frames = [
        np.stack(
            [
                127 + 90 * np.sin((row + 3 * step) / 31 + channel) * np.cos(column / 47)
                for channel in range(3)
            ]
        )
        + generator.normal(0, 12, (3, height, width))
        for step in range(num_frames)
    ]
    return torch.from_numpy(np.stack(frames, axis=1).clip(0, 255).astype(np.uint8))


def works_of(num_frames: int, device: str) -> dict[tuple[str, str, str], Work]:
    """Give what is timed by view, kind and library; everybody who can do it."""
    works: dict[tuple[str, str, str], Work] = {}
    for view, length in (("picture", 1), ("clip", num_frames)):
        clip = make_frames(length, PIXELS, PIXELS).to(device)
        video = tv_tensors.Video(clip.transpose(0, 1).contiguous())
        frames = make_frames(length, HEIGHT, WIDTH)
        entries = [
            ("RandAugment", OURS, _ours(clip, RANDAUGMENT)),
            ("RandAugment", "torchvision", _theirs(video, v2.RandAugment(LAYERS, int(MAGNITUDE)))),
            ("colour jitter", OURS, _ours(clip, JITTER)),
            (
                "colour jitter",
                "torchvision",
                _theirs(video, v2.ColorJitter(STRENGTH, STRENGTH, STRENGTH)),
            ),
            ("random erasing", OURS, _ours(clip, ERASING)),
            ("random erasing", "torchvision", _theirs(video, v2.RandomErasing(p=1.0))),
        ]
        if device == "cpu":
            entries.append(("scale jitter", OURS, _our_scaling(frames)))
            entries.append(("scale jitter", "torchvision", _their_scaling(frames)))
            if view == "picture" and importlib.util.find_spec("timm") is not None:
                entries.append(("RandAugment", "timm", _timm(clip)))
        entries += [(f"  {name}", OURS, _operation(clip, name)) for name in OPERATIONS]
        works |= {(view, kind, library): work for kind, library, work in entries}
    return works


def _ours(clip: torch.Tensor, augmentation: Augmentation) -> Work:
    return lambda number: distorted(clip, SPEC, augmentation, seed=number)


def _theirs(video: torch.Tensor, transform: Callable[[torch.Tensor], object]) -> Work:
    return lambda number: transform(video)


def _operation(clip: torch.Tensor, name: str) -> Work:
    def work(number: int) -> object:
        layer = Layer(name, bool(number % 2), row=0.3, column=0.6)
        return apply_layer(clip, layer, magnitude=MAGNITUDE, rule="model_garden")

    return work


def _our_scaling(frames: torch.Tensor) -> Work:
    pictures = [frame.permute(1, 2, 0).contiguous().numpy() for frame in frames.unbind(1)]
    return lambda number: [random_crop(each, SPEC, SCALING, seed=number) for each in pictures]


def _their_scaling(frames: torch.Tensor) -> Work:
    resize, crop = (
        v2.RandomShortestSize(list(range(SCALES[0], SCALES[1] + 1))),
        v2.RandomCrop(PIXELS),
    )
    pictures = [frame.contiguous() for frame in frames.unbind(1)]
    return lambda number: [crop(resize(each)) for each in pictures]


def _timm(clip: torch.Tensor) -> Work:
    from timm.data.auto_augment import rand_augment_transform

    transform = rand_augment_transform(f"rand-m{MAGNITUDE:g}-n{LAYERS}", {"img_mean": (128,) * 3})
    picture = Image.fromarray(clip[:, 0].permute(1, 2, 0).contiguous().numpy())
    return lambda number: np.asarray(transform(picture))


def measure(
    works: Mapping[tuple[str, str, str], Work], *, num_draws: int, repeats: int, device: str
) -> list[Row]:
    """Time everybody in turns, each repeat beginning with another."""
    entries = list(works)
    spent: dict[tuple[str, str, str], list[float]] = {entry: [] for entry in entries}
    for work in works.values():
        work(0)
    for repeat in range(repeats):
        shift = repeat * 7 % len(entries)
        for entry in entries[shift:] + entries[:shift]:
            seconds = _seconds(works[entry], repeat * num_draws, num_draws, device)
            spent[entry].append(1e3 * seconds / num_draws)
    return [
        Row(view=view, kind=kind, library=library, milliseconds=tuple(spent[view, kind, library]))
        for view, kind, library in entries
    ]


def _seconds(work: Work, first: int, num_draws: int, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    for number in range(first, first + num_draws):
        work(number)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def lines_of(rows: Sequence[Row]) -> Iterator[str]:
    """Draw the table; a ratio is the median over repeats of another's time over ours."""
    ours = {(row.view, row.kind): row for row in rows if row.library == OURS}
    yield "| view | work | library | ms (least, most) | times our time |"
    yield "| --- | --- | --- | ---: | ---: |"
    for row in rows:
        times = row.milliseconds
        ratio = ""
        if row.library != OURS:
            pairs = zip(times, ours[row.view, row.kind].milliseconds, strict=True)
            ratio = f"{statistics.median(theirs / own for theirs, own in pairs):.2f}"
        yield (
            f"| {row.view} | {row.kind} | {row.library} | {statistics.median(times):.2f}"
            f" ({min(times):.2f}, {max(times):.2f}) | {ratio} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=16, help="of a clip")
    parser.add_argument("--draws", type=int, default=48, help="views that are timed a repeat")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that are timed")
    parser.add_argument("--device", default="cpu", help="where views lie: cpu or cuda")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    words = parser.parse_args()
    torch.set_num_threads(1)
    works = works_of(words.frames, words.device)
    rows = measure(works, num_draws=words.draws, repeats=words.repeats, device=words.device)
    named = [f"{name} {version(name)}" for name in ("torch", "torchvision")]
    where = platform.processor() or platform.machine()
    if words.device != "cpu":
        where = torch.cuda.get_device_name()
    lines = [f"{', '.join(named)}; {where}; clips of {words.frames} frames", "", *lines_of(rows)]
    print("\n".join(lines))
    if words.markdown is not None:
        words.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

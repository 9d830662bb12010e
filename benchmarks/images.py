"""Read JPEGs for a network: rsbench beside Pillow, torchvision, simplejpeg and OpenCV.

    pip install simplejpeg
    python benchmarks/images.py [--folder DIR] [--images 64] [--repeats 7] [--markdown FILE]

Three kinds of work, on files that lie in the machine's cache, on one thread:

- train: decode, a random crop of 8% to 100% of the picture, to 224 x 224, perhaps mirrored;
- test: decode, short side to 256, the centre 224 x 224;
- decode: the whole picture.

Views end as planes, uint8 (3, 224, 224), the whole picture as it comes. Everybody draws a box by
the same rule (torchvision's RandomResizedCrop) from the same seed, so that all make the same views;
what rsbench is timed at is the call of its loader that a run makes. Readers take turns of 16
pictures, each repeat in another order: a worker of a run goes on with the same code too. Figures
are CPU microseconds a picture (user and system), medians of the repeats with the least and the
most; a ratio is the median over repeats of Pillow's time over the reader's. How near the views are
to Pillow's is given in decibels, and of how many pictures the decoded pixels are Pillow's own, all
of them.

Without --folder the pictures are cut out of scikit-learn's two photographs, 500 x 375, quality 90
to 95. A library that is not installed is left out, which is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from rsbench.data.loaders import read_item, read_training_item
from rsbench.media.augment import Augmentation
from rsbench.media.image import read_image
from rsbench.specs import ClipSpec, InputSpec, Item, Reading, Views

PICTURES_PER_TURN = 16
PIXELS = 224
RESIZED = 256
AUGMENTATION = Augmentation(smallest_crop=0.08)
READING = Reading(
    modality="image",
    input=InputSpec(pixels=PIXELS, crop_ratio=PIXELS / RESIZED, frames=1, stride=1),
    clip=ClipSpec(frames=1, stride=1),
    sampler="mmaction2@1",
    views=Views(),
)
OURS = "rsbench"
WORK = ("train", "test", "decode")
GOALS = (("train", "Pillow", 1.4), ("test", "Pillow", 1.4), ("train", "simplejpeg, decode", 0.5))
"""Work, peer, and how many pictures rsbench should read in the time of one of the peer's. The last
is the limit: what a plain decode takes, whatever comes after it."""


class Wanted(NamedTuple):
    """Which picture, and which of its random views."""

    path: Path
    seed: int


Read = Callable[[Wanted], torch.Tensor]
"""Gives uint8 (3, 224, 224), contiguous; for "decode" (3, H, W), as it lies."""


class Box(NamedTuple):
    """What a random view shows."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


# ---------------------------------------------------------------------------------------- readers


def rsbench_train(wanted: Wanted) -> torch.Tensor:
    """Read as a fine-tuning run does."""
    item = Item(id="", source=wanted.path)
    return read_training_item(item, READING, AUGMENTATION, seed=wanted.seed).views


def rsbench_test(wanted: Wanted) -> torch.Tensor:
    """Read as an extraction does."""
    return read_item(Item(id="", source=wanted.path), READING).views[0]


def rsbench_decode(wanted: Wanted) -> torch.Tensor:
    """Read the whole picture."""
    return _planes(read_image(wanted.path))


def pillow_decode(wanted: Wanted) -> torch.Tensor:
    """Do what torchvision's `default_loader` does."""
    return _planes(np.array(_by_pillow(wanted.path)))


def pillow_train(wanted: Wanted) -> torch.Tensor:
    """Do what torchvision's transforms do to Pillow's pictures."""
    image = _by_pillow(wanted.path)
    box = _drawn(image.height, image.width, wanted.seed)
    view = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    view = view.resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
    if box.mirrored:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _planes(np.array(view)).contiguous()


def pillow_test(wanted: Wanted) -> torch.Tensor:
    """Resize and cut by Pillow."""
    image = _by_pillow(wanted.path)
    height, width = _resized(image.height, image.width)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = _centre(height, width)
    view = resized.crop((left, top, left + PIXELS, top + PIXELS))
    return _planes(np.array(view)).contiguous()


def torchvision_decode(wanted: Wanted) -> torch.Tensor:
    """Decode by torchvision's codec."""
    encoded = torch.frombuffer(bytearray(wanted.path.read_bytes()), dtype=torch.uint8)
    return decode_jpeg(encoded, mode=ImageReadMode.RGB)


def torchvision_train(wanted: Wanted) -> torch.Tensor:
    """Decode, crop and resize by torchvision, on tensors."""
    return _train_by_torchvision(torchvision_decode(wanted), wanted)


def torchvision_test(wanted: Wanted) -> torch.Tensor:
    """The same for the test."""
    return _test_by_torchvision(torchvision_decode(wanted))


def simplejpeg_decode(wanted: Wanted) -> torch.Tensor:
    """Decode by libjpeg-turbo's own interface."""
    import simplejpeg

    return _planes(simplejpeg.decode_jpeg(wanted.path.read_bytes(), colorspace="RGB"))


def simplejpeg_train(wanted: Wanted) -> torch.Tensor:
    """Decode by simplejpeg, resize by torchvision."""
    return _train_by_torchvision(simplejpeg_decode(wanted), wanted)


def simplejpeg_test(wanted: Wanted) -> torch.Tensor:
    """The same for the test."""
    return _test_by_torchvision(simplejpeg_decode(wanted))


def opencv_decode(wanted: Wanted) -> torch.Tensor:
    """Decode by OpenCV."""
    return _planes(_by_opencv(wanted.path))


def opencv_train(wanted: Wanted) -> torch.Tensor:
    """Crop and resize by OpenCV, which does not widen its filter as it shrinks: it aliases."""
    import cv2

    pixels = _by_opencv(wanted.path)
    box = _drawn(*pixels.shape[:2], wanted.seed)
    cut = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    view = cv2.resize(cut, (PIXELS, PIXELS), interpolation=cv2.INTER_LINEAR)
    if box.mirrored:
        view = cv2.flip(view, 1)
    return _planes(view).contiguous()


def opencv_test(wanted: Wanted) -> torch.Tensor:
    """The same for the test."""
    import cv2

    pixels = _by_opencv(wanted.path)
    height, width = _resized(*pixels.shape[:2])
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = _centre(height, width)
    return _planes(resized[top : top + PIXELS, left : left + PIXELS]).contiguous()


READERS: Mapping[str, tuple[str, Mapping[str, Read]]] = {
    OURS: ("", {"train": rsbench_train, "test": rsbench_test, "decode": rsbench_decode}),
    "Pillow": ("", {"train": pillow_train, "test": pillow_test, "decode": pillow_decode}),
    "torchvision": (
        "",
        {"train": torchvision_train, "test": torchvision_test, "decode": torchvision_decode},
    ),
    "simplejpeg": (
        "simplejpeg",
        {"train": simplejpeg_train, "test": simplejpeg_test, "decode": simplejpeg_decode},
    ),
    "OpenCV": ("cv2", {"train": opencv_train, "test": opencv_test, "decode": opencv_decode}),
}
"""Reader -> the module that it needs besides, and what it does for each kind of work."""


def _by_pillow(path: Path) -> Image.Image:
    with path.open("rb") as file, Image.open(file) as image:
        return image.convert("RGB")


def _by_opencv(path: Path) -> np.ndarray:
    import cv2

    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _planes(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _train_by_torchvision(picture: torch.Tensor, wanted: Wanted) -> torch.Tensor:
    box = _drawn(*picture.shape[1:], wanted.seed)
    view = functional.resized_crop(picture, *box[:4], [PIXELS, PIXELS])
    return (functional.horizontal_flip(view) if box.mirrored else view).contiguous()


def _test_by_torchvision(picture: torch.Tensor) -> torch.Tensor:
    resized = functional.resize(picture, list(_resized(*picture.shape[1:])))
    return functional.center_crop(resized, [PIXELS, PIXELS]).contiguous()


def _drawn(height: int, width: int, seed: int) -> Box:
    """Draw the box that rsbench draws by this seed (`rsbench.media.augment.random_crop`)."""
    # The first word that follows from the seed (rsbench.data.loaders.read_training_item).
    word = int(np.random.SeedSequence(seed).generate_state(1)[0])
    torch.default_generator.manual_seed(word)
    widest = AUGMENTATION.widest_aspect
    box = RandomResizedCrop.get_params(
        torch.empty(3, height, width, device="meta"),
        scale=[AUGMENTATION.smallest_crop, 1.0],
        ratio=[1 / widest, widest],
    )
    return Box(*box, float(torch.rand(())) < AUGMENTATION.flip_probability)


def _resized(height: int, width: int) -> tuple[int, int]:
    short = min(height, width)
    return RESIZED * height // short, RESIZED * width // short


def _centre(height: int, width: int) -> tuple[int, int]:
    return round((height - PIXELS) / 2), round((width - PIXELS) / 2)


# -------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A reader at one kind of work."""

    work: str
    reader: str
    microseconds: tuple[float, ...]
    """CPU time a picture, one value a repeat."""
    decibels: float | None
    """PSNR of its views to Pillow's, all pictures together; None for decoding, and for Pillow."""
    num_exact: int | None
    """Pictures whose pixels are Pillow's, for decoding."""


def measure(
    paths: Sequence[Path], readers: Mapping[str, Mapping[str, Read]], repeats: int
) -> list[Row]:
    """Look at what everybody makes of each picture, then time everybody, in turns."""
    entries = [(work, name) for work in WORK for name in readers]
    errors = dict.fromkeys(entries, 0.0)
    exact = dict.fromkeys(entries, 0)
    for number, path in enumerate(paths):
        wanted = Wanted(path, number)
        for work in WORK:
            pillow = readers["Pillow"][work](wanted).double()
            for name in readers:
                found = readers[name][work](wanted)
                errors[work, name] += float(((found - pillow) ** 2).mean())
                exact[work, name] += torch.equal(found, pillow.byte())
    spent: dict[tuple[str, str], list[float]] = {entry: [] for entry in entries}
    for repeat in range(repeats):
        all_wanted = [
            Wanted(path, len(paths) * (repeat + 1) + number) for number, path in enumerate(paths)
        ]
        total = dict.fromkeys(entries, 0.0)
        for turn, start in enumerate(range(0, len(paths), PICTURES_PER_TURN)):
            shift = (turn + repeat) % len(entries)
            for work, name in entries[shift:] + entries[:shift]:
                read = readers[name][work]
                started = time.process_time()
                for wanted in all_wanted[start : start + PICTURES_PER_TURN]:
                    read(wanted)
                total[work, name] += time.process_time() - started
        for entry in entries:
            spent[entry].append(1e6 * total[entry] / len(paths))
    return [
        Row(
            work=work,
            reader=name,
            microseconds=tuple(spent[work, name]),
            decibels=_decibels(errors[work, name] / len(paths))
            if work != "decode" and name != "Pillow"
            else None,
            num_exact=exact[work, name] if work == "decode" else None,
        )
        for work, name in entries
    ]


def speed_ratio(reader: Row, peer: Row) -> float:
    """Give how many pictures the reader reads in the time of one of the peer's."""
    pairs = zip(reader.microseconds, peer.microseconds, strict=True)
    return statistics.median(theirs / ours for ours, theirs in pairs)


def lines_of(rows: Sequence[Row], num_images: int) -> Iterator[str]:
    """Draw the table and the verdicts."""
    row_of = {(row.work, row.reader): row for row in rows}
    yield "| work | reader | CPU microseconds (least, most) | times Pillow's speed | pixels |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        times = row.microseconds
        nearness = "" if row.decibels is None else f"{row.decibels:.0f} dB"
        if row.num_exact is not None:
            nearness = f"{row.num_exact} of {num_images} equal"
        yield (
            f"| {row.work} | {row.reader} | {statistics.median(times):.0f}"
            f" ({min(times):.0f}, {max(times):.0f})"
            f" | {speed_ratio(row, row_of[row.work, 'Pillow']):.2f}x | {nearness} |"
        )
    yield ""
    for work, peer, goal in GOALS:
        name, _, other_work = peer.partition(", ")
        against = row_of.get((other_work or work, name))
        if against is None:
            yield f"{work}: {peer} is not installed, so the goal of {goal:g}x is open."
            continue
        ratio = speed_ratio(row_of[work, OURS], against)
        verdict = "met" if ratio >= goal else "missed"
        yield f"{work}: {ratio:.2f} times the speed of {peer}; the goal of {goal:g} is {verdict}."


def _decibels(error: float) -> float:
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


# --------------------------------------------------------------------------------------- pictures


def make_pictures(folder: Path, number: int) -> list[Path]:
    """Cut 500 x 375 pictures out of scikit-learn's photographs, at scales of 0.8 to 1.5."""
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(each) for each in load_sample_images().images]
    generator = random.Random(0)
    paths = []
    for place in range(number):
        photograph = photographs[place % len(photographs)]
        side = generator.uniform(0.66, 1.0)
        width, height = round(500 * side), round(375 * side)
        left = generator.randint(0, photograph.width - width)
        top = generator.randint(0, photograph.height - height)
        cut = photograph.resize((500, 375), box=(left, top, left + width, top + height))
        encoded = io.BytesIO()
        cut.save(encoded, "JPEG", quality=generator.randint(90, 95))
        paths.append(folder / f"{place:03d}.jpg")
        paths[-1].write_bytes(encoded.getvalue())
    return paths


def available() -> tuple[dict[str, Mapping[str, Read]], list[str]]:
    """Give the readers that are installed, and the names of those that are not."""
    there = {
        name: by_work
        for name, (module, by_work) in READERS.items()
        if not module or importlib.util.find_spec(module) is not None
    }
    return there, [name for name in READERS if name not in there]


def _versions() -> str:
    named: dict[str, Any] = {}
    for name in ("pillow", "torch", "torchvision", "simplejpeg", "opencv-python"):
        if importlib.util.find_spec({"pillow": "PIL", "opencv-python": "cv2"}.get(name, name)):
            named[name] = version(name)
    return ", ".join(f"{name} {number}" for name, number in named.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="JPEGs in colour; else pictures are made")
    parser.add_argument("--images", type=int, default=64, help="how many of them")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are timed")
    parser.add_argument("--markdown", type=Path, help="write the table here too")
    words = parser.parse_args()
    torch.set_num_threads(1)
    readers, missing = available()
    if "OpenCV" in readers:
        import cv2

        cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as made:
        if words.folder is None:
            paths = make_pictures(Path(made), words.images)
        else:
            found = (
                each for each in words.folder.rglob("*") if each.suffix.lower() in (".jpg", ".jpeg")
            )
            paths = sorted(found)[: words.images]
        if not paths:
            raise SystemExit(f"{words.folder}: must hold JPEGs (.jpg, .jpeg), there are none.")
        kibibytes = statistics.mean(path.stat().st_size for path in paths) / 1024
        lines = list(lines_of(measure(paths, readers, words.repeats), len(paths)))
    if missing:
        lines.append(f"Not installed, so left out: {', '.join(missing)}.")
    head = f"{len(paths)} JPEGs of {kibibytes:.0f} KiB, {words.repeats} repeats; {_versions()}; "
    lines = [head + platform.processor(), "", *lines]
    print("\n".join(lines))
    if words.markdown is not None:
        words.markdown.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

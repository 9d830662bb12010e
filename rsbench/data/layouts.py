"""Writers of the on-disk layouts that loaders read: one function a layout, used by all samples.

A task's sample is written by one line that names its layout, so the real loader is run everywhere.
A layout that some loader reads and that nobody can write here is named by `untested_layouts`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from rsbench.data.lists import clip_id

if TYPE_CHECKING:
    import numpy as np

FRAMES_PER_SECOND = 15
"""Of every video written here."""

_ENCODER_OPTIONS = {"crf": "10", "preset": "veryfast", "threads": "1"}
"""Near lossless: what coding adds to a frame must not tell in which direction time runs. One
thread:
the bytes do not depend on the machine's cores."""


SplitWord = Literal["train", "validation", "test", ""]
"""Empty for data without splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One labelled picture or video, not yet on disk."""

    split: SplitWord
    label: str
    """Class name."""
    source: str
    """What it was cut from: the YouTube id of a Kinetics clip, the group of own data."""
    start_seconds: int
    """Of the segment of its source; (source, start) is unique."""
    end_seconds: int
    pixels: np.ndarray
    """uint8 (H, W, 3) for a picture, (T, H, W, 3) for a video."""

    @property
    def id(self) -> str:
        """Its name in the official layout of Kinetics."""
        return clip_id(self.source, self.start_seconds, self.end_seconds)


Writer = Callable[[Path, Iterable[Example], Sequence[str]], None]
"""(root, examples, class names in index order): writes below an existing empty folder."""


def write_kinetics_csv_flat(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``annotations/{train,val}.csv`` and ``{train,val}/ID_ssssss_eeeeee.mp4``."""
    _write_clip_csvs(root, examples, classes, place=lambda folder, e: folder / e.id)


def write_kinetics_csv_class_folders(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``annotations/{train,val}.csv`` and ``{train,val}/<class>/ID_ssssss_eeeeee.mp4``."""
    _write_clip_csvs(root, examples, classes, place=lambda folder, e: folder / e.label / e.id)


def write_kinetics_csv_trimmed(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``{train,val}.csv`` and trimmed ``{train,val}/ID.mp4``; one example a source."""
    _write_clip_csvs(root, examples, classes, place=lambda folder, e: folder / e.source, lists=".")


def write_kinetics_class_folders(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``{train,val}/<class_name>/ID_ssssss_eeeeee.mp4`` alone, blanks as underscores."""
    _write_class_names(root, classes)
    for example in examples:
        folder = root / _folder(example) / example.label.replace(" ", "_")
        _write_media(folder / example.id, example.pixels)


def write_path_label_list(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``kinetics400_{train,val}_list_videos.txt`` of `path index` lines, and the videos.

    The paths start below ``videos_{train,val}/``, as the lists of mmaction2 do.
    """
    _write_class_names(root, classes)
    lines: dict[str, list[str]] = {}
    for example in examples:
        folder = _folder(example)
        relative = f"{example.label}/{example.id}"
        written = _write_media(root / f"videos_{folder}" / relative, example.pixels)
        index = list(classes).index(example.label)
        lines.setdefault(folder, []).append(f"{relative}{written.suffix} {index}\n")
    for folder, content in lines.items():
        path = root / f"kinetics400_{folder}_list_videos.txt"
        path.write_text("".join(content), encoding="utf-8")


def write_class_folders(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``[split/]<class>/<name>`` with .png pictures or .mp4 videos."""
    for example in examples:
        folder = root / example.split if example.split else root
        _write_media(folder / example.label / example.id, example.pixels)


def write_imagenet_folders(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``train/<wnid>/<wnid>_<n>.JPEG`` and ``val/<wnid>/ILSVRC2012_val_<n>.JPEG``.

    Pictures without colour have one channel, as some of the real ones have. ``classes.txt`` says
    that the data set has no other classes.
    """
    from rsbench.media.image import write_image

    _write_class_names(root, classes)
    for number, example in enumerate(examples, start=1):
        folder = root / _folder(example) / example.label
        is_train = example.split == "train"
        name = f"{example.label}_{number}" if is_train else f"ILSVRC2012_val_{number:08d}"
        is_grey = bool((example.pixels == example.pixels[..., :1]).all())
        folder.mkdir(parents=True, exist_ok=True)
        pixels = example.pixels[..., 0] if is_grey else example.pixels
        write_image(folder / f"{name}.JPEG", pixels)


def write_csv_file(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``items.csv`` of path,label,start,end,group beside ``media/<source>.mp4``.

    Examples of one source follow each other in its file, and the list says from when to when; the
    bounds lie half a frame before the first frame, so that rounding moves none across.
    """
    by_source: dict[str, list[Example]] = {}
    for example in examples:
        by_source.setdefault(example.source, []).append(example)
    rows: list[tuple[str, ...]] = [("path", "label", "start", "end", "group")]
    for source, segments in by_source.items():
        written = _write_media(
            root / "media" / source, _joined([segment.pixels for segment in segments])
        )
        frame = 0
        for segment in segments:
            first, frame = frame, frame + len(segment.pixels)
            bounds = [f"{max(n - 0.5, 0) / FRAMES_PER_SECOND:.4f}" for n in (first, frame)]
            path = written.relative_to(root).as_posix()
            rows.append((path, segment.label, *bounds, source))
    with (root / "items.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


LAYOUTS: Mapping[str, Writer] = MappingProxyType(
    {
        "kinetics csv, flat": write_kinetics_csv_flat,
        "kinetics csv, class folders": write_kinetics_csv_class_folders,
        "kinetics csv, trimmed": write_kinetics_csv_trimmed,
        "kinetics class folders": write_kinetics_class_folders,
        "path label list": write_path_label_list,
        "class folders": write_class_folders,
        "imagenet folders": write_imagenet_folders,
        "csv file": write_csv_file,
    }
)
"""Writers by the layout's name."""


def untested_layouts(read: Iterable[str]) -> tuple[str, ...]:
    """Name those of the layouts a loader reads that have no writer: untested on disk."""
    return tuple(name for name in read if name not in LAYOUTS)


def _write_clip_csvs(
    root: Path,
    examples: Iterable[Example],
    classes: Sequence[str],
    *,
    place: Callable[[Path, Example], Path],
    lists: str = "annotations",
) -> None:
    _write_class_names(root, classes)
    rows: dict[str, list[tuple[str | int, ...]]] = {}
    for example in examples:
        folder = _folder(example)
        _write_media(place(root / folder, example), example.pixels)
        bounds = (example.start_seconds, example.end_seconds)
        rows.setdefault(folder, []).append((example.label, example.source, *bounds, folder))
    (root / lists).mkdir(exist_ok=True)
    for folder, content in rows.items():
        with (root / lists / f"{folder}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            writer.writerows(content)


def _folder(example: Example) -> str:
    """Give the folder of a Kinetics split: its validation set lies in ``val``."""
    return "val" if example.split == "validation" else example.split


def _write_class_names(root: Path, classes: Sequence[str]) -> None:
    """Write ``classes.txt``, by which a root says that its classes are its own."""
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _write_media(stem: Path, pixels: np.ndarray) -> Path:
    from rsbench.media.image import write_image
    from rsbench.media.video import write_video

    stem.parent.mkdir(parents=True, exist_ok=True)
    if pixels.ndim == 3:
        path = stem.with_name(stem.name + ".png")
        write_image(path, pixels)
    else:
        path = stem.with_name(stem.name + ".mp4")
        write_video(path, pixels, fps=FRAMES_PER_SECOND, options=_ENCODER_OPTIONS)
    return path


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    import numpy as np

    return np.concatenate(parts)

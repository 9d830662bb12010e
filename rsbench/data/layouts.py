"""Writers of the on-disk layouts that loaders read: one function a layout, used by all samples.

A task's sample is written by one line that names its layout, so the real loader is run everywhere.
A layout that some loader reads and that nobody can write here is named by `untested_layouts`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rsbench.data.annotated_layouts import ANNOTATED_LAYOUTS
from rsbench.data.examples import FRAMES_PER_SECOND, Example, Writer, write_frames, write_media
from rsbench.data.official_layouts import OFFICIAL_LAYOUTS
from rsbench.data.picture_layouts import PICTURE_LAYOUTS
from rsbench.data.vtab_layouts import VTAB_LAYOUTS

if TYPE_CHECKING:
    import numpy as np


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
        write_media(folder / example.id, example.pixels)


def write_path_label_list(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``kinetics400_{train,val}_list_videos.txt`` of `path index` lines, and the videos.

    The paths start below ``videos_{train,val}/``, as the lists of mmaction2 do.
    """
    _write_class_names(root, classes)
    lines: dict[str, list[str]] = {}
    for example in examples:
        folder = _folder(example)
        relative = f"{example.label}/{example.id}"
        written = write_media(root / f"videos_{folder}" / relative, example.pixels)
        index = list(classes).index(example.label)
        lines.setdefault(folder, []).append(f"{relative}{written.suffix} {index}\n")
    for folder, content in lines.items():
        path = root / f"kinetics400_{folder}_list_videos.txt"
        path.write_text("".join(content), encoding="utf-8")


def write_kinetics_rawframes(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``kinetics400_{train,val}_list_rawframes.txt`` and ``rawframes_{train,val}/``.

    A line is `folder frames index`; a folder holds ``img_00001.jpg`` and so on.
    """
    _write_class_names(root, classes)
    lines: dict[str, list[str]] = {}
    for example in examples:
        folder = _folder(example)
        relative = f"{example.label}/{example.id}"
        place = root / f"rawframes_{folder}" / relative
        write_frames(place, example.pixels, form="img_{:05}.jpg")
        index = list(classes).index(example.label)
        lines.setdefault(folder, []).append(f"{relative} {len(example.pixels)} {index}\n")
    for folder, content in lines.items():
        path = root / f"kinetics400_{folder}_list_rawframes.txt"
        path.write_text("".join(content), encoding="utf-8")


def write_class_folders(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``[split/]<class>/<name>`` with .png pictures or .mp4 videos."""
    for example in examples:
        folder = root / example.split if example.split else root
        write_media(folder / example.label / example.id, example.pixels)


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
        written = write_media(
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
        "kinetics mmaction2 rawframes": write_kinetics_rawframes,
        "class folders": write_class_folders,
        "imagenet folders": write_imagenet_folders,
        "csv file": write_csv_file,
        **OFFICIAL_LAYOUTS,
        **ANNOTATED_LAYOUTS,
        **PICTURE_LAYOUTS,
        **VTAB_LAYOUTS,
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
        write_media(place(root / folder, example), example.pixels)
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


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    import numpy as np

    return np.concatenate(parts)

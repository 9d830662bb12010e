"""Original files of CLEVR and KITTI, whose labels are worked out of what stands in a scene.

See `_vtab_labels` for the rules, and `_vtab_pictures` for the other data sets of picture files.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.data.files import RootGuard
from rsbench.data.lists import read_text
from rsbench.errors import DataError

from ._pictures import list_below, read_lines
from ._vtab import Found, Originals
from ._vtab_labels import kitti_distance
from ._vtab_order import Pool
from ._vtab_pictures import Place, located

# ---------------------------------------------------------------------------- CLEVR

_CLEVR_COUNTS: Mapping[Pool, int] = {"train": 70_000, "validation": 15_000}
_CLEVR_WORDS: Mapping[Pool, str] = {"train": "train", "validation": "val"}


def _clevr_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    word = _CLEVR_WORDS[pool]
    return [f"CLEVR_{word}_{number:06d}.png" for number in range(_CLEVR_COUNTS[pool])]


def _find_clevr(
    label_of: Callable[[Sequence[Mapping[str, Any]]], int],
    guard: RootGuard,
    folder: Path,
    pool: Pool,
    keys: Sequence[str],
) -> Found:
    word = _CLEVR_WORDS[pool]
    path = folder / "scenes" / f"CLEVR_{word}_scenes.json"
    wanted = set(keys)
    try:
        scenes = json.loads(read_text(list_below(guard, path)))["scenes"]
        objects = {
            scene["image_filename"]: scene["objects"]
            for scene in scenes
            if scene["image_filename"] in wanted
        }
        if not all(isinstance(each, list) for each in objects.values()):
            raise TypeError("objects must be a list")
        targets = {key: label_of(objects[key]) for key in keys}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path} must say the objects of each of {len(wanted)} pictures, and does not "
            f"({type(error).__name__}: {str(error)[:80]}); unpack CLEVR_v1.0.zip again"
        ) from error
    places = {key: Place(f"images/{word}/{key}", targets[key]) for key in keys}
    return located(guard, folder, places)


def clevr(label_of: Callable[[Sequence[Mapping[str, Any]]], int]) -> Originals:
    """Read ``CLEVR_v1.0/images/{train,val}/`` and the scenes; the test is CLEVR's validation.

    Args:
        label_of: Objects of a scene -> class.
    """
    return Originals(
        folders=("", "CLEVR_v1.0", "clevr/CLEVR_v1.0"),
        markers=("scenes/CLEVR_train_scenes.json", "scenes/CLEVR_val_scenes.json", "images/train/"),
        num_keys=_CLEVR_COUNTS,
        keys=_clevr_keys,
        find=functools.partial(_find_clevr, label_of),
    )


# ---------------------------------------------------------------------------- KITTI

_KITTI_MAPPINGS = ("mapping/train_rand.txt", "mapping/train_mapping.txt")
_KITTI_COUNTS: Mapping[Pool, int] = {"train": 6347, "validation": 423, "test": 711}
"""Of TFDS's catalogue (kitti 3.2.0)."""
_KITTI_SEED = 123
_KITTI_PERCENT = 10
"""Of the videos that are in validation, and in test."""


def kitti_pools(rand: str, mapping: str) -> dict[str, Pool]:
    """Deal KITTI's videos to train, validation and test as TFDS does.

    Args:
        rand: Content of ``train_rand.txt``: for each picture in turn, the line of its video.
        mapping: Content of ``train_mapping.txt``: lines of date, video, frame.

    Returns:
        The pool of each video, in the order of their first pictures.

    Raises:
        DataError: A number is that of no line, or there are fewer than three videos.
    """
    videos = list(dict.fromkeys(_kitti_videos(rand, mapping)))
    if len(videos) < 3:
        raise DataError(
            f"KITTI must have three videos or more to be dealt to three parts, has {len(videos)}; "
            "unpack devkit_object.zip again"
        )
    num_held = max(1, _KITTI_PERCENT * len(videos) // 100)
    # The legacy generator gives the same numbers in every version of numpy (NEP 19).
    random = np.random.RandomState(_KITTI_SEED)
    test = set(random.choice(sorted(videos), num_held, replace=False))
    rest = sorted(set(videos) - test)
    validation = set(random.choice(rest, num_held, replace=False))
    return {
        video: "test" if video in test else "validation" if video in validation else "train"
        for video in videos
    }


def _kitti_videos(rand: str, mapping: str) -> list[str]:
    """Give the video of each picture, in the order of the pictures' numbers."""
    lines = ["", *mapping.splitlines()]
    try:
        numbers = [int(number) for number in rand.split(",") if number.strip()]
        if min(numbers) < 1:
            raise IndexError(f"line {min(numbers)}")
        return [lines[number].split()[1] for number in numbers]
    except (ValueError, IndexError) as error:
        raise DataError(
            "KITTI's mapping/train_rand.txt must hold numbers of lines of train_mapping.txt, each "
            f"'date video frame', and does not ({error}); unpack devkit_object.zip again"
        ) from error


def _kitti_mapping(guard: RootGuard, folder: Path) -> tuple[list[str], dict[str, Pool]]:
    rand, mapping = (read_text(list_below(guard, folder / name)) for name in _KITTI_MAPPINGS)
    return _kitti_videos(rand, mapping), kitti_pools(rand, mapping)


def _kitti_keys(guard: RootGuard, folder: Path, pool: Pool) -> list[str]:
    videos, pools = _kitti_mapping(guard, folder)
    return [f"{number:06d}.png" for number, video in enumerate(videos) if pools[video] == pool]


def _find_kitti(guard: RootGuard, folder: Path, pool: Pool, keys: Sequence[str]) -> Found:
    videos, _ = _kitti_mapping(guard, folder)
    places = {}
    unlabelled = []
    for key in keys:
        stem = key.removesuffix(".png")
        entry = f"training/label_2/{stem}.txt"
        label = guard.locate(entry, bases=[folder], where=f"{folder.name}: {key}")
        if label is None:
            unlabelled.append(key)
            continue
        try:
            target = kitti_distance([line.text for line in read_lines(guard, label)])
        except (ValueError, IndexError) as error:
            raise DataError(
                f"{label} must hold lines of 15 words, of which 14 are numbers: {error}; unpack "
                "data_object_label_2.zip again"
            ) from error
        places[key] = Place(f"training/image_2/{key}", target, videos[int(stem)])
    items, absent = located(guard, folder, places)
    return Found(items, [*unlabelled, *absent])


KITTI = Originals(
    folders=("", "kitti", "object"),
    markers=(*_KITTI_MAPPINGS, "training/image_2/", "training/label_2/"),
    num_keys=_KITTI_COUNTS,
    keys=_kitti_keys,
    find=_find_kitti,
    notes=("split by today's devkit: TFDS updated it (3.2.0) after VTAB, which names 3.1.0",),
)
"""KITTI's object detection: ``training/{image_2,label_2}/`` beside the devkit's ``mapping/``."""

"""Samples of data sets of pictures: small crops of two photographs, told apart by subject and hue.

The classes carry names of the data set whose layout is written; the pictures are of none of these.
Train pictures come from the left of a photograph, validation pictures from its middle, test
pictures from its right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rsbench.data.examples import Action, Example

if TYPE_CHECKING:
    from rsbench.data.examples import SplitWord


class _Part(NamedTuple):
    """Columns of the photographs that a split's pictures are cut from."""

    split: SplitWord
    first: int
    last: int
    """Excluded."""


_PARTS = (_Part("train", 0, 260), _Part("validation", 260, 400), _Part("test", 400, 640))

MAX_CLASSES = 4
"""Two photographs, in colour and in grey."""


def write_picture_sample(
    root: Path,
    *,
    layout: str,
    classes: Sequence[str],
    num_train: int = 6,
    num_validation: int = 0,
    num_test: int = 4,
    sides: tuple[int, int] = (40, 64),
) -> None:
    """Write a sample in which each picture has one class.

    Args:
        root: An existing empty folder.
        layout: One of `rsbench.data.layouts.LAYOUTS`.
        classes: Names of two to four classes, in index order.
        num_train: Pictures of each class.
        num_validation: Pictures of each class; 0 for a data set without that split.
        num_test: Pictures of each class.
        sides: Least and largest side of a picture in pixels, both included.
    """
    from rsbench.data.layouts import LAYOUTS

    assert 2 <= len(classes) <= MAX_CLASSES
    counts = (num_train, num_validation, num_test)

    def examples() -> Iterator[Example]:
        for index, name in enumerate(classes):
            for example in _crops(index, counts, sides):
                yield _labelled(example, label=name)

    LAYOUTS[layout](root, examples(), classes)


def write_several_labels_sample(
    root: Path, *, layout: str, classes: Sequence[str], num_each: int = 4
) -> None:
    """Write a sample in which a picture may have several of three classes.

    The classes are: china.jpg, flower.jpg, and a picture without colour.

    Args:
        root: An existing empty folder.
        layout: One of `rsbench.data.layouts.LAYOUTS` that holds several labels a picture.
        classes: Names of the three classes, in index order.
        num_each: Pictures of each kind in each of the three splits.
    """
    from rsbench.data.layouts import LAYOUTS

    first, second, grey = classes

    def examples() -> Iterator[Example]:
        for index in range(MAX_CLASSES):
            names = [first if index < 2 else second, *([grey] if index % 2 else [])]
            for example in _crops(index, (num_each,) * 3, (40, 64)):
                yield _labelled(example, actions=[Action(name, 0.0, 1.0) for name in names])

    LAYOUTS[layout](root, examples(), classes)


def _crops(
    index: int, counts: tuple[int, int, int], sides: tuple[int, int]
) -> Iterator[tuple[SplitWord, int, np.ndarray]]:
    """Give (split, number, uint8 (H, W, 3)) of one kind: 0 and 1 are china.jpg, odd ones grey."""
    from rsbench.data.sample import photographs

    random = np.random.default_rng([0, index])
    photograph = photographs()[index // 2]
    number = 0
    for part, count in zip(_PARTS, counts, strict=True):
        for _ in range(count):
            height, width = (int(side) for side in random.integers(sides[0], sides[1] + 1, 2))
            top = int(random.integers(0, len(photograph) - height))
            left = int(random.integers(part.first, part.last - width))
            crop = photograph[top : top + height, left : left + width]
            if index % 2:
                crop = np.repeat(np.rint(crop.mean(axis=2, keepdims=True)).astype(np.uint8), 3, 2)
            yield part.split, number, np.ascontiguousarray(crop)
            number += 1


def _labelled(
    crop: tuple[SplitWord, int, np.ndarray], *, label: str = "", actions: Sequence[Action] = ()
) -> Example:
    split, number, pixels = crop
    return Example(
        split=split,
        label=label,
        source="photograph",
        start_seconds=number,
        end_seconds=number + 1,
        pixels=pixels,
        actions=tuple(actions),
    )

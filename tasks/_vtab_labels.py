"""How VTAB makes classes of what data sets say of a picture: counts, distances, places, angles.

The rules and their thresholds are those of google-research/task_adaptation (data/clevr.py,
data/kitti.py, data/dsprites.py). Distances are compared as 32-bit floats, as there, and a distance
that equals a threshold belongs to the class below it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""Bounds of the six classes, in the units of CLEVR's pixel_coords (depth from the camera)."""

CLEVR_FEWEST_OBJECTS, CLEVR_MOST_OBJECTS = 3, 10
"""In any scene of CLEVR."""

KITTI_DISTANCES = (-100.0, 8.0, 20.0, 999.0)
"""Bounds in metres along the camera's axis; what lies beyond the last is the fourth class."""

KITTI_NO_VEHICLE = 1000.0
"""Distance that a picture without vehicles is given."""

KITTI_VEHICLES = frozenset({"Car", "Van", "Truck"})


def interval_of(value: float, bounds: Sequence[float]) -> int:
    """Give the last of several ascending bounds that lies below a value, from 0 on.

    Raises:
        ValueError: No bound lies below it.
    """
    below = int(np.searchsorted(np.asarray(bounds, np.float32), np.float32(value), side="left"))
    if below == 0:
        raise ValueError(f"a distance must be more than {bounds[0]:g}, got {value:g}")
    return below - 1


def clevr_count(objects: Sequence[Mapping[str, Any]]) -> int:
    """Give the class of a scene's number of objects: 0 for three, 7 for ten.

    Raises:
        ValueError: They are fewer or more than any scene of CLEVR has.
    """
    if not CLEVR_FEWEST_OBJECTS <= len(objects) <= CLEVR_MOST_OBJECTS:
        raise ValueError(
            f"a scene must have {CLEVR_FEWEST_OBJECTS} to {CLEVR_MOST_OBJECTS} objects, one has "
            f"{len(objects)}"
        )
    return len(objects) - CLEVR_FEWEST_OBJECTS


def clevr_distance(objects: Sequence[Mapping[str, Any]]) -> int:
    """Give the class of the distance of a scene's nearest object.

    Args:
        objects: Of CLEVR's scene file; the third of "pixel_coords" is the distance.

    Raises:
        ValueError: There are none, or one does not lie between the first bound and the last.
        TypeError: A distance is no number.
    """
    distances = [each["pixel_coords"][2] for each in objects]
    nearest, farthest = CLEVR_DISTANCES[0], CLEVR_DISTANCES[-1]
    # NaN and whole numbers beyond any float are refused by this, too.
    wrong = next((each for each in distances if not nearest < each <= farthest), None)
    if wrong is not None:
        raise ValueError(
            f"a distance must be more than {nearest:g} and at most {farthest:g}, got "
            f"{str(wrong)[:20]}"
        )
    return interval_of(min(distances), CLEVR_DISTANCES)


def kitti_distance(lines: Sequence[str]) -> int:
    """Give the class of the distance of a picture's nearest vehicle.

    Args:
        lines: Of KITTI's label file: type, 13 numbers, rotation; z in metres is the 14th word.

    Returns:
        0 up to 8 m, 1 up to 20 m, 2 beyond, 3 where there is no car, van or truck.

    Raises:
        ValueError: A distance is no finite number, or lies before the first bound.
        IndexError: A line is too short.
    """
    objects = [line.split() for line in lines]
    distances = [float(words[13]) for words in objects if words[0] in KITTI_VEHICLES]
    if not all(map(math.isfinite, distances)):
        raise ValueError("a distance must be a finite number, one is not")
    return interval_of(min(distances, default=KITTI_NO_VEHICLE), KITTI_DISTANCES)


def binned(label: int, *, num_values: int, num_bins: int) -> int:
    """Put neighbouring values into as many classes as are wanted: floor(label / (values / bins)).

    Args:
        label: From 0 to `num_values` - 1.
        num_values: How many there are: 32 places or 40 angles of dSprites.
        num_bins: Classes; where they don't divide the values, some have one more.
    """
    return label * num_bins // num_values

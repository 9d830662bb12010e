"""VTAB-1k, structured: how far the nearest car, van or truck of a picture of KITTI is."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_order import OWN_VALIDATION
from ._vtab_scenes import KITTI

TASK = vtab_task(
    VtabSet(
        name="vtab_kitti_closest_vehicle_distance",
        data_set="kitti",
        folders=("kitti", "kitti_closest_vehicle_distance"),
        classes=("up to 8 m", "8 to 20 m", "beyond 20 m", "no vehicle"),
        num_test=711,
        cuts=OWN_VALIDATION,
        originals=(KITTI,),
    ),
    title="VTAB-1k KITTI, distance of the nearest vehicle",
    originals=(
        "https://www.cvlibs.net/datasets/kitti has the original: data_object_image_2.zip, "
        "data_object_label_2.zip and devkit_object.zip; looked for are "
        "training/{image_2,label_2}/ and mapping/."
    ),
    licence="CC BY-NC-SA 3.0",
    citation="Geiger et al., Vision meets Robotics: The KITTI Dataset, 2013",
)

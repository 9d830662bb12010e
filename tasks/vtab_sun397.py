"""VTAB-1k, natural: SUN397, in the partition that TFDS drew for itself.

That partition stands in three lists of the TFDS package (Apache-2.0), which are laid beside the
pictures: ``sun397_tfds_{tr,va,te}.txt`` of its folder ``image_classification``.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import SUN397
from ._vtab_order import OWN_VALIDATION
from ._vtab_pictures import sun397

TASK = vtab_task(
    VtabSet(
        name="vtab_sun397",
        data_set="sun397",
        folders=("sun397",),
        classes=SUN397,
        num_test=21_750,
        cuts=OWN_VALIDATION,
        originals=(sun397(SUN397),),
    ),
    title="VTAB-1k SUN397, 397 kinds of scenes",
    originals=(
        "https://vision.princeton.edu/projects/2010/SUN has the original; looked for are "
        "SUN397/ and, beside it, sun397_tfds_{tr,va,te}.txt from tensorflow-datasets' folder "
        "image_classification."
    ),
    licence="for research (vision.princeton.edu/projects/2010/SUN)",
    citation=(
        "Xiao et al., SUN Database: Large-scale Scene Recognition from Abbey to Zoo, CVPR 2010"
    ),
    shares_data_with={
        "sun397": (
            "TFDS drew its own partition: test pictures are in the train lists of the official ones"
        )
    },
)

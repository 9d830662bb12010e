"""VTAB-1k, specialised: Diabetic Retinopathy Detection, photographs of the retina.

VTAB sees them as the winner of the Kaggle competition prepared them (TFDS's "btgraham-300"): scaled
to a radius of 300 pixels, the local average taken away, cropped, and coded as JPEG by OpenCV. That
is not repeated here, so that only the released folder is read.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_order import OWN_VALIDATION

TASK = vtab_task(
    VtabSet(
        name="vtab_diabetic_retinopathy",
        data_set="diabetic_retinopathy",
        folders=("diabetic_retinopathy", "retinopathy"),
        classes=("no", "mild", "moderate", "severe", "proliferative"),
        num_test=42_670,
        cuts=OWN_VALIDATION,
    ),
    title="VTAB-1k Diabetic Retinopathy, 5 grades",
    originals=(
        "Original files are not read: VTAB's are prepared by OpenCV in a way that other "
        "decoders do not repeat."
    ),
    licence="Kaggle's terms of the competition",
    citation="Kaggle and EyePACS, Diabetic Retinopathy Detection, 2015",
)

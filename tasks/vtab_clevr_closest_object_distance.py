"""VTAB-1k, structured: how far the nearest object of a scene of CLEVR is.

The test is CLEVR's validation split.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_labels import clevr_distance
from ._vtab_order import Cut, Cuts
from ._vtab_scenes import clevr

TASK = vtab_task(
    VtabSet(
        name="vtab_clevr_closest_object_distance",
        data_set="clevr",
        folders=("clevr_dist", "clevr_closest_object_distance"),
        classes=("up to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "beyond 10"),
        num_test=15_000,
        cuts=Cuts(Cut("train"), Cut("train", 90), Cut("validation")),
        originals=(clevr(clevr_distance),),
    ),
    title="VTAB-1k CLEVR, distance of the nearest object",
    originals=(
        "https://cs.stanford.edu/people/jcjohns/clevr has the original, CLEVR_v1.0.zip; "
        "looked for are scenes/ and images/{train,val}/."
    ),
    licence="CC BY 4.0",
    citation="Johnson et al., CLEVR, CVPR 2017, arXiv:1612.06890",
)

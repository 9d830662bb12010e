"""VTAB-1k, specialised: NWPU-RESISC45, scenes from above."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import RESISC45
from ._vtab_order import Cut, Cuts
from ._vtab_pictures import NWPU_RESISC45

TASK = vtab_task(
    VtabSet(
        name="vtab_resisc45",
        data_set="resisc45",
        folders=("resisc45",),
        classes=RESISC45,
        num_test=6_300,
        cuts=Cuts(Cut("train"), Cut("train", 60), Cut("train", 80)),
        originals=(NWPU_RESISC45,),
    ),
    title="VTAB-1k RESISC45, 45 kinds of scenes from above",
    originals=(
        "The authors release NWPU-RESISC45.rar (https://doi.org/10.1109/JPROC.2017.2675998); "
        "looked for is NWPU-RESISC45/<class>/."
    ),
    licence="for research",
    citation="Cheng et al., Remote Sensing Image Scene Classification, 2017, arXiv:1703.00121",
)

"""VTAB-1k, specialised: EuroSAT, satellite pictures in colour."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import EUROSAT
from ._vtab_order import Cut, Cuts
from ._vtab_pictures import EUROSAT_RGB

TASK = vtab_task(
    VtabSet(
        name="vtab_eurosat",
        data_set="eurosat",
        folders=("eurosat",),
        classes=EUROSAT,
        num_test=5_400,
        cuts=Cuts(Cut("train"), Cut("train", 60), Cut("train", 80)),
        originals=(EUROSAT_RGB,),
    ),
    title="VTAB-1k EuroSAT, 10 kinds of land use",
    originals=(
        "https://github.com/phelber/EuroSAT has the original, EuroSAT.zip (RGB); looked for "
        "is 2750/<Class>/."
    ),
    licence="MIT",
    citation=(
        "Helber et al., EuroSAT: A Novel Dataset and Deep Learning Benchmark, 2019, "
        "arXiv:1709.00029"
    ),
)

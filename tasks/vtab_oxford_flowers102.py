"""VTAB-1k, natural: Oxford Flowers-102."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import OXFORD_FLOWERS102
from ._vtab_order import OWN_VALIDATION
from ._vtab_pictures import FLOWERS

TASK = vtab_task(
    VtabSet(
        name="vtab_oxford_flowers102",
        data_set="oxford_flowers102",
        folders=("oxford_flowers102", "flowers"),
        classes=OXFORD_FLOWERS102,
        num_test=6_149,
        cuts=OWN_VALIDATION,
        originals=(FLOWERS,),
    ),
    title="VTAB-1k Oxford Flowers, 102 kinds",
    originals=(
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102 has the original; looked for are "
        "setid.mat, imagelabels.mat and jpg/."
    ),
    licence="not stated by the authors",
    citation=(
        "Nilsback and Zisserman, Automated Flower Classification over a Large Number of "
        "Classes, 2008"
    ),
)

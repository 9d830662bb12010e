"""VTAB-1k, natural: Oxford-IIIT Pet, breeds of cats and dogs."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import OXFORD_IIIT_PET
from ._vtab_order import held_out
from ._vtab_pictures import PETS

TASK = vtab_task(
    VtabSet(
        name="vtab_oxford_iiit_pet",
        data_set="oxford_iiit_pet",
        folders=("oxford_iiit_pet", "oxford_pet", "pets"),
        classes=OXFORD_IIIT_PET,
        num_test=3_669,
        cuts=held_out(80),
        originals=(PETS,),
    ),
    title="VTAB-1k Oxford-IIIT Pet, 37 breeds",
    originals=(
        "https://www.robots.ox.ac.uk/~vgg/data/pets has the original; looked for are "
        "annotations/{trainval,test}.txt and images/."
    ),
    licence="CC BY-SA 4.0",
    citation="Parkhi et al., Cats and Dogs, CVPR 2012",
)

"""VTAB-1k, natural: Describable Textures, the first official partition."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import DTD
from ._vtab_order import OWN_VALIDATION
from ._vtab_pictures import dtd

TASK = vtab_task(
    VtabSet(
        name="vtab_dtd",
        data_set="dtd",
        folders=("dtd",),
        classes=DTD,
        num_test=1_880,
        cuts=OWN_VALIDATION,
        originals=(dtd(DTD),),
    ),
    title="VTAB-1k Describable Textures, 47 kinds",
    originals=(
        "https://www.robots.ox.ac.uk/~vgg/data/dtd has the original, dtd-r1.0.1.tar.gz; "
        "looked for are labels/{train1,val1,test1}.txt and images/."
    ),
    licence="for research (robots.ox.ac.uk/~vgg/data/dtd)",
    citation="Cimpoi et al., Describing Textures in the Wild, CVPR 2014, arXiv:1311.3618",
)

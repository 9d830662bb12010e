"""VTAB-1k, structured: how many objects a scene of CLEVR holds; the test is its validation."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_labels import clevr_count
from ._vtab_order import Cut, Cuts
from ._vtab_scenes import clevr

TASK = vtab_task(
    VtabSet(
        name="vtab_clevr_count_all",
        data_set="clevr",
        folders=("clevr_count", "clevr_count_all"),
        classes=tuple(f"{count} objects" for count in range(3, 11)),
        num_test=15_000,
        cuts=Cuts(Cut("train"), Cut("train", 90), Cut("validation")),
        originals=(clevr(clevr_count),),
    ),
    title="VTAB-1k CLEVR, how many objects",
    originals=(
        "https://cs.stanford.edu/people/jcjohns/clevr has the original, CLEVR_v1.0.zip; "
        "looked for are scenes/ and images/{train,val}/."
    ),
    licence="CC BY 4.0",
    citation="Johnson et al., CLEVR, CVPR 2017, arXiv:1612.06890",
)

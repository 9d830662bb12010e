"""VTAB-1k, structured: from how high a toy is seen, one of 9.

Validation is the first half of smallNORB's test split, and the test is the second.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_arrays import smallnorb
from ._vtab_order import Cut, Cuts

TASK = vtab_task(
    VtabSet(
        name="vtab_smallnorb_label_elevation",
        data_set="smallnorb",
        folders=("smallnorb_ele", "smallnorb_label_elevation"),
        classes=tuple(f"{30 + 5 * step} degrees" for step in range(9)),
        num_test=12_150,
        cuts=Cuts(Cut("train"), Cut("test"), Cut("test", 50)),
        originals=(smallnorb("elevation"),),
    ),
    title="VTAB-1k smallNORB, elevation of the camera",
    originals=(
        "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small has the original; looked for are "
        "smallnorb-5x46789x9x18x6x2x96x96-training-{dat,info}.mat and their like for testing, "
        "unpacked."
    ),
    licence="for research (cs.nyu.edu/~ylclab/data/norb-v1.0-small)",
    citation="LeCun et al., Learning Methods for Generic Object Recognition, CVPR 2004",
)

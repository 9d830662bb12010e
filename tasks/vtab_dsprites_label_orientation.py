"""VTAB-1k, structured: how a sprite is turned, one of 16 angles."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_arrays import dsprites
from ._vtab_order import Cut, Cuts

TASK = vtab_task(
    VtabSet(
        name="vtab_dsprites_label_orientation",
        data_set="dsprites",
        folders=("dsprites_ori", "dsprites_label_orientation"),
        classes=tuple(f"angle {bin}" for bin in range(16)),
        num_test=73_728,
        cuts=Cuts(Cut("train"), Cut("train", 80), Cut("train", 90)),
        originals=(dsprites("orientation"),),
    ),
    title="VTAB-1k dSprites, angle of the sprite",
    originals=(
        "https://github.com/google-deepmind/dsprites-dataset has the original; looked for is "
        "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz."
    ),
    licence="Apache-2.0",
    citation="Matthey et al., dSprites, 2017",
    flip=False,
)

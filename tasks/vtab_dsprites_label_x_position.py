"""VTAB-1k, structured: the column that a sprite is in, one of 16."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_arrays import dsprites
from ._vtab_order import Cut, Cuts

TASK = vtab_task(
    VtabSet(
        name="vtab_dsprites_label_x_position",
        data_set="dsprites",
        folders=("dsprites_loc", "dsprites_label_x_position"),
        classes=tuple(f"columns {2 * bin} and {2 * bin + 1}" for bin in range(16)),
        num_test=73_728,
        cuts=Cuts(Cut("train"), Cut("train", 80), Cut("train", 90)),
        originals=(dsprites("x"),),
    ),
    title="VTAB-1k dSprites, place of the sprite",
    originals=(
        "https://github.com/google-deepmind/dsprites-dataset has the original; looked for is "
        "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz."
    ),
    licence="Apache-2.0",
    citation="Matthey et al., dSprites, 2017",
    flip=False,
)

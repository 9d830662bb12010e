"""VTAB-1k, natural: Street View House Numbers, cropped digits."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_arrays import SVHN
from ._vtab_order import held_out

TASK = vtab_task(
    VtabSet(
        name="vtab_svhn",
        data_set="svhn",
        folders=("svhn",),
        classes=tuple("0123456789"),
        num_test=26_032,
        cuts=held_out(90),
        originals=(SVHN,),
    ),
    title="VTAB-1k SVHN, 10 digits",
    originals=(
        "http://ufldl.stanford.edu/housenumbers has the original; looked for are "
        "train_32x32.mat and test_32x32.mat."
    ),
    licence="non-commercial (ufldl.stanford.edu/housenumbers)",
    citation=(
        "Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011"
    ),
    # A mirrored 2 is no digit.
    flip=False,
)

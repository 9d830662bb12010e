"""VTAB-1k, natural: CIFAR-100; see `_vtab` for the forms that are read."""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_arrays import CIFAR100 as FILES
from ._vtab_names import CIFAR100
from ._vtab_order import held_out

TASK = vtab_task(
    VtabSet(
        name="vtab_cifar100",
        data_set="cifar100",
        folders=("cifar", "cifar100"),
        classes=CIFAR100,
        num_test=10_000,
        cuts=held_out(90),
        originals=FILES,
    ),
    title="VTAB-1k CIFAR-100, 100 kinds of things",
    originals=(
        "https://www.cs.toronto.edu/~kriz/cifar.html has the original, "
        "cifar-100-binary.tar.gz; looked for is cifar-100-binary/ (or cifar-100-python/)."
    ),
    licence="not stated by the authors",
    citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
)

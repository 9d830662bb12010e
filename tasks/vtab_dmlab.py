"""VTAB-1k, structured: frames of DeepMind Lab, by the reward ahead and how far it is.

The original files are records of TensorFlow, which are not read here.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_order import OWN_VALIDATION

TASK = vtab_task(
    VtabSet(
        name="vtab_dmlab",
        data_set="dmlab",
        folders=("dmlab",),
        classes=tuple(f"kind {number}" for number in range(6)),
        num_test=22_735,
        cuts=OWN_VALIDATION,
    ),
    title="VTAB-1k DMLab, near or far and good or bad",
    originals=(
        "Original files are not read: they are records of TensorFlow, and only these say "
        "which frames there are."
    ),
    licence="not stated by the authors",
    citation="Beattie et al., DeepMind Lab, 2016, arXiv:1612.03801",
)

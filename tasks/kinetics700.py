"""Kinetics-700: the same question as Kinetics-400 with 700 classes; see `_kinetics` for layouts.

No canonical class list ships with rsbench: the classes are those of the lists found, sorted.
"""

from __future__ import annotations

from ._kinetics import kinetics_task
from ._kinetics_places import KineticsSet

TASK = kinetics_task(
    KineticsSet(name="kinetics700", num_classes=700),
    title="Kinetics-700, human actions",
    how_to_get=(
        "https://github.com/cvdfoundation/kinetics-dataset has the clips and CSVs; looked for are "
        "val.csv with ID_ssssss_eeeeee.mp4 files in val/, a 'path label' list, or val/<class>/"
    ),
    citation=(
        "Carreira et al., A Short Note on the Kinetics-700 Human Action Dataset, 2019, "
        "https://arxiv.org/abs/1907.06987"
    ),
)

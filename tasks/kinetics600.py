"""Kinetics-600: the same question as Kinetics-400 with 600 classes; see `_kinetics` for layouts.

No canonical class list ships with rsbench: the classes are those of the lists found, sorted.
"""

from __future__ import annotations

from ._kinetics import kinetics_task
from ._kinetics_places import KineticsSet

TASK = kinetics_task(
    KineticsSet(name="kinetics600", num_classes=600),
    title="Kinetics-600, human actions",
    how_to_get=(
        "https://github.com/cvdfoundation/kinetics-dataset has the clips and CSVs; looked for are "
        "val.csv with ID_ssssss_eeeeee.mp4 files in val/, a 'path label' list, or val/<class>/"
    ),
    citation=(
        "Carreira et al., A Short Note about Kinetics-600, 2018, https://arxiv.org/abs/1808.01340"
    ),
    shares_data_with={
        "kinetics700": (
            "many of the validation clips are in the train split of Kinetics-700 "
            "(Carreira et al. 2019, https://arxiv.org/abs/1907.06987)"
        )
    },
)

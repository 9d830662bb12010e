"""Kinetics-400: human actions in 10-second clips (Kay et al. 2017, arXiv:1705.06950).

Scores are reported on the validation split: 19,907 clips on the official list, of which everybody
has fewer (19,881 to 18,689 have been published on), so a score goes with its count and the missing
ids. The layouts that are read stand in `_kinetics`; without data, `kinetics400@sample` runs.
"""

from __future__ import annotations

from ._kinetics import kinetics_task
from ._kinetics_places import KineticsSet


def class_names() -> tuple[str, ...]:
    """Give the 400 canonical class names in index order, as torchvision's weights carry them."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])


TASK = kinetics_task(
    KineticsSet(
        name="kinetics400",
        num_classes=400,
        class_names=class_names,
        num_official={"validation": 19907},
    ),
    title="Kinetics-400, human actions",
    how_to_get=(
        "https://github.com/cvdfoundation/kinetics-dataset has the clips and CSVs; looked for are "
        "val.csv with ID_ssssss_eeeeee.mp4 files in val/, a 'path label' list, or val/<class>/"
    ),
    citation=(
        "Kay et al., The Kinetics Human Action Video Dataset, 2017, https://arxiv.org/abs/1705.06950"
    ),
    shares_data_with={
        "kinetics700": (
            "most of the validation clips are in the train split of Kinetics-700 "
            "(https://github.com/cvdfoundation/kinetics-dataset/issues/48)"
        )
    },
)

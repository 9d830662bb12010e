"""VTAB-1k, natural: Caltech-101, objects and one class of background.

TFDS deals the pictures to train and test as the file system happens to list them, so that only the
released folder has the published splits.
"""

from __future__ import annotations

from ._vtab import VtabSet, vtab_task
from ._vtab_names import CALTECH101
from ._vtab_order import held_out

TASK = vtab_task(
    VtabSet(
        name="vtab_caltech101",
        data_set="caltech101",
        folders=("caltech101",),
        classes=CALTECH101,
        num_test=6_085,
        cuts=held_out(90),
    ),
    title="VTAB-1k Caltech-101, 102 kinds of objects",
    originals=(
        "Original files are not read: TFDS draws 30 pictures a class in whatever order the "
        "file system lists them, which no list records."
    ),
    licence="CC BY 4.0",
    citation="Fei-Fei et al., Learning Generative Visual Models from Few Training Examples, 2004",
    shares_data_with={
        "caltech101": "both draw 30 train pictures a class at random, each in its own way"
    },
)

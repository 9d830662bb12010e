"""CIFAR-100: 60,000 tiny pictures of a hundred things (Krizhevsky 2009); 50,000 train, 10,000 test.

The classes are the hundred fine ones, not the twenty coarse ones. Read is ``cifar-100-binary/``
(``fine_label_names.txt``, ``train.bin``, ``test.bin``) or ``cifar-100-python/``, below the root or
as the root. There is no official validation data.
"""

from __future__ import annotations

import functools

from rsbench.data.picture_sample import write_picture_sample
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import Fold, Sample, Task

from ._cifar import SIDE, CifarFiles, load_cifar
from ._pictures import PictureSet

_SET = PictureSet(
    name="cifar100",
    num_classes=100,
    # Krizhevsky 2009, and the data set's page.
    num_official={"train": 50_000, "test": 10_000},
    folders=("",),
    marker="fine_label_names.txt",
)

_FILES = CifarFiles(
    binary_folder="cifar-100-binary",
    binary_classes="fine_label_names.txt",
    label_bytes=2,
    pickled_folder="cifar-100-python",
    pickled_classes=("meta", "fine_label_names"),
    pickled_labels="fine_labels",
    parts={"train": ("train",), "test": ("test",)},
)

TASK = Task(
    name="cifar100",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1, TOP5),
    load=functools.partial(load_cifar, _SET, _FILES),
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="cifar-100 binary",
            classes=("apple", "aquarium_fish", "baby", "bear"),
            sides=(SIDE, SIDE),
        ),
        pixels=SIDE,
    ),
    layouts=("cifar-100 binary", "cifar-100 python"),
    how_to_get=(
        "https://www.cs.toronto.edu/~kriz/cifar.html has cifar-100-binary.tar.gz; looked for is "
        "cifar-100-binary/ (or cifar-100-python/ of the python version)."
    ),
    title="CIFAR-100, tiny pictures of a hundred things",
    licence="none stated; to be cited (Krizhevsky 2009)",
    citation=(
        "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
        "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf"
    ),
)

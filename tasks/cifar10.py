"""CIFAR-10: 60,000 tiny pictures of ten things (Krizhevsky 2009); 50,000 train, 10,000 test.

Read is ``cifar-10-batches-bin/`` (the binary version: ``batches.meta.txt``,
``data_batch_1.bin`` to ``5``, ``test_batch.bin``) or ``cifar-10-batches-py/`` (the python version),
below the root or as the root. There is no official validation data.
"""

from __future__ import annotations

import functools

from rsbench.data.picture_sample import write_picture_sample
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Sample, Task

from ._cifar import SIDE, CifarFiles, load_cifar
from ._pictures import PictureSet

_SET = PictureSet(
    name="cifar10",
    num_classes=10,
    # Krizhevsky 2009, and the data set's page.
    num_official={"train": 50_000, "test": 10_000},
    folders=("",),
    marker="batches.meta.txt",
)

_FILES = CifarFiles(
    binary_folder="cifar-10-batches-bin",
    binary_classes="batches.meta.txt",
    label_bytes=1,
    pickled_folder="cifar-10-batches-py",
    pickled_classes=("batches.meta", "label_names"),
    pickled_labels="labels",
    parts={
        "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test": ("test_batch",),
    },
)

TASK = Task(
    name="cifar10",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1,),
    load=functools.partial(load_cifar, _SET, _FILES),
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="cifar-10 binary",
            classes=("airplane", "automobile", "bird", "cat"),
            sides=(SIDE, SIDE),
        ),
        pixels=SIDE,
    ),
    layouts=("cifar-10 binary", "cifar-10 python"),
    how_to_get=(
        "https://www.cs.toronto.edu/~kriz/cifar.html has cifar-10-binary.tar.gz; looked for is "
        "cifar-10-batches-bin/ (or cifar-10-batches-py/ of the python version)."
    ),
    title="CIFAR-10, tiny pictures of ten things",
    licence="none stated; to be cited (Krizhevsky 2009)",
    citation=(
        "Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, "
        "https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf"
    ),
)

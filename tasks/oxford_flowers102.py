"""Oxford Flowers-102: photographs of 102 kinds of flowers (Nilsback and Zisserman 2008).

Read is what the three files of its page unpack to: ``setid.mat`` (numbers of the pictures of each
part: trnid, valid, tstid), ``imagelabels.mat`` (class of each picture, from 1 on) and
``jpg/image_00001.jpg``; at the root or in ``flowers-102/``. The score is the mean of the classes'
recalls. Train and validation have ten pictures of each class, 2,040 together, and test has the
6,149 others; people who swap them report other numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from rsbench.data.files import RootGuard
from rsbench.data.picture_sample import write_picture_sample
from rsbench.errors import DataError
from rsbench.metrics import MEAN_PER_CLASS, TOP1
from rsbench.specs import Fold, Sample, Split, Task

from ._mat import as_list, read_mat
from ._pictures import Listed, PictureSet, check_split, find_base, list_below, listed_split

_NAMES = (
    "pink primrose|hard-leaved pocket orchid|canterbury bells|sweet pea|english marigold|"
    "tiger lily|moon orchid|bird of paradise|monkshood|globe thistle|snapdragon|colt's foot|"
    "king protea|spear thistle|yellow iris|globe-flower|purple coneflower|peruvian lily|"
    "balloon flower|giant white arum lily|fire lily|pincushion flower|fritillary|red ginger|"
    "grape hyacinth|corn poppy|prince of wales feathers|stemless gentian|artichoke|"
    "sweet william|carnation|garden phlox|love in the mist|mexican aster|alpine sea holly|"
    "ruby-lipped cattleya|cape flower|great masterwort|siam tulip|lenten rose|barbeton daisy|"
    "daffodil|sword lily|poinsettia|bolero deep blue|wallflower|marigold|buttercup|"
    "oxeye daisy|common dandelion|petunia|wild pansy|primula|sunflower|pelargonium|"
    "bishop of llandaff|gaura|geranium|orange dahlia|pink-yellow dahlia?|cautleya spicata|"
    "japanese anemone|black-eyed susan|silverbush|californian poppy|osteospermum|"
    "spring crocus|bearded iris|windflower|tree poppy|gazania|azalea|water lily|rose|"
    "thorn apple|morning glory|passion flower|lotus|toad lily|anthurium|frangipani|clematis|"
    "hibiscus|columbine|desert-rose|tree mallow|magnolia|cyclamen|watercress|canna lily|"
    "hippeastrum|bee balm|ball moss|foxglove|bougainvillea|camellia|mallow|mexican petunia|"
    "bromelia|blanket flower|trumpet creeper|blackberry lily"
)
CLASSES = tuple(_NAMES.split("|"))
"""By number; the archive has no names. These are torchvision's and TensorFlow Datasets', question
mark and all."""

_SET = PictureSet(
    name="oxford_flowers102",
    num_classes=102,
    # setid.mat: ten, ten and at least twenty pictures a class.
    num_official={"train": 1_020, "validation": 1_020, "test": 6_149},
    folders=("", "flowers-102", "oxford_flowers102"),
    marker="setid.mat",
)

_PARTS = {"train": "trnid", "validation": "valid", "test": "tstid"}


def load(root: Path, split: str) -> Split:
    """List the pictures of one split; decodes nothing.

    Raises:
        DataError: No such split, no such folder, a table that can't be understood, or as
            `listed_split` says.
    """
    check_split(_SET, split)
    guard = RootGuard(root)
    base = find_base(_SET, guard)
    labels = read_labels(guard, base)
    numbers = read_numbers(guard, base, split, largest=len(labels))
    listed = _listed(numbers, labels)
    classes = CLASSES[: max(labels)]
    return listed_split(_SET, guard, split, listed, folders=[base], classes=classes)


def read_labels(guard: RootGuard, base: Path) -> list[int]:
    """Read the class of each picture, from 1 on, of ``imagelabels.mat``.

    Raises:
        DataError: The file is missing, leaves the root, or holds something else.
    """
    return _numbers(guard, base / "imagelabels.mat", "labels", largest=len(CLASSES))


def read_numbers(guard: RootGuard, base: Path, split: str, *, largest: int) -> list[int]:
    """Read the numbers of a split's pictures, from 1 to the largest, of ``setid.mat``.

    Raises:
        DataError: The file is missing, leaves the root, or holds something else.
    """
    return _numbers(guard, base / "setid.mat", _PARTS[split], largest=largest)


def _numbers(guard: RootGuard, path: Path, variable: str, *, largest: int) -> list[int]:
    """Read a vector of whole numbers from 1 on."""
    values = as_list(read_mat(list_below(guard, path), required=variable)[variable])
    wrong = [value for value in values if type(value) is not int or not 1 <= value <= largest]
    if wrong or not values:
        was = f"{str(wrong[0])[:40]} is one" if wrong else "it is empty"
        raise DataError(
            f"{path.name}: {variable} must be whole numbers from 1 to {largest}, {was}; get the "
            "official file"
        )
    return values


def _listed(numbers: list[int], labels: list[int]) -> Iterator[Listed]:
    for row, number in enumerate(numbers, start=1):
        path = f"jpg/image_{number:05d}.jpg"
        yield Listed(f"setid.mat, row {row}", path, labels[number - 1] - 1)


TASK = Task(
    name="oxford_flowers102",
    version=1,
    modality="image",
    target="class",
    metrics=(MEAN_PER_CLASS, TOP1),
    load=load,
    folds=(Fold(train="train", validation="validation", test="test"),),
    sample=Sample(
        write=functools.partial(
            write_picture_sample,
            layout="oxford flowers",
            classes=CLASSES[:4],
            num_train=4,
            num_validation=4,
        ),
        pixels=48,
    ),
    layouts=("oxford flowers",),
    how_to_get=(
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102 has 102flowers.tgz, imagelabels.mat and "
        "setid.mat; looked for are jpg/, and the two files beside it."
    ),
    title="Oxford Flowers-102, kinds of flowers",
    licence="none stated; pictures are their owners'",
    citation=(
        "Nilsback, Zisserman, Automated Flower Classification over a Large Number of Classes, "
        "ICVGIP 2008"
    ),
)

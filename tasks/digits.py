"""Digits: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn, always at hand.

They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak 1998), by 13 people whose names are not told. The set has no split of its own in
scikit-learn; its own example "Recognizing hand-written digits" learns on the first half and tests
on the second, without shuffling (``test_size=0.5, shuffle=False``: 898 and 899), and so does this
task. Who wrote which digit is not told, so the two halves may share writers.

Read is ``digits.csv.gz`` as scikit-learn ships it, a line a picture: 64 grey values from 0 to 16,
row by row, then the digit. Grey becomes ``rint(value * 255 / 16)``, the same in all three channels.
Networks see it enlarged to their own input, so the numbers speak of transfer to something small and
plain; they are real all the same. The sample has digits of its own in ``seven_segments.csv.gz``,
which is the only other file that is read, and the only one of another length.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rsbench.errors import DataError
from rsbench.metrics import TOP1
from rsbench.specs import Fold, Item, Sample, Split, Task

FILE = "digits.csv.gz"
SAMPLE_FILE = "seven_segments.csv.gz"
SIDE = 8
"""Pixels of a side."""
MOST_GREY = 16
"""Grey values go from 0 to this."""
CLASSES = tuple("0123456789")
NUM_OFFICIAL: Mapping[str, int] = {"train": 898, "test": 899}
"""Of the 1,797: floor and ceiling of the half, as scikit-learn's train_test_split has it."""

_MOST_BYTES = 2**20
"""Of the unpacked file, which has 264,712: more are not unpacked."""

_SEGMENTS = (
    "abcdef",
    "bc",
    "abdeg",
    "abcdg",
    "bcfg",
    "acdfg",
    "acdefg",
    "abc",
    "abcdefg",
    "abcdfg",
)
"""Which of seven segments show each digit, a on top and then clockwise, g in the middle."""
_BOXES = {
    "a": (slice(0, 1), slice(2, 6)),
    "b": (slice(0, 4), slice(5, 6)),
    "c": (slice(4, 8), slice(5, 6)),
    "d": (slice(7, 8), slice(2, 6)),
    "e": (slice(4, 8), slice(2, 3)),
    "f": (slice(0, 4), slice(2, 3)),
    "g": (slice(3, 4), slice(2, 6)),
}
"""(rows, columns) of each segment."""


def load(root: Path, split: str) -> Split:
    """List one half of the pictures below a root, which may be the file itself.

    Raises:
        DataError: No such split, no file, a line that is no picture (names the line), or another
            number of pictures than scikit-learn's.
    """
    if split not in NUM_OFFICIAL:
        raise DataError(f"digits has the splits train and test, not {split!r}; name one")
    path = _file(root)
    values_NV = _read(path)
    is_sample, num_all = path.name == SAMPLE_FILE, sum(NUM_OFFICIAL.values())
    if not is_sample and len(values_NV) != num_all:
        raise DataError(
            f"{path.name} must hold scikit-learn's {num_all:,} digits, it holds {len(values_NV):,};"
            " leave --data out, or install scikit-learn again"
        )
    num_train = len(values_NV) // 2
    rows = range(num_train) if split == "train" else range(num_train, len(values_NV))
    grey_NHW = np.rint(values_NV[:, :-1].reshape(-1, SIDE, SIDE) * (255 / MOST_GREY))
    pixels_NHWC = np.repeat(grey_NHW.astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    note = f"{SAMPLE_FILE} holds {len(values_NV)} pictures, not scikit-learn's {num_all:,}"
    return Split(
        items=tuple(
            Item(id=f"digit_{row:04d}", source=pixels_NHWC[row], target=int(values_NV[row, -1]))
            for row in rows
        ),
        classes=CLASSES,
        num_official=len(rows) if is_sample else NUM_OFFICIAL[split],
        notes=(note,) if is_sample else (),
    )


def _file(root: Path) -> Path:
    """Give the file below a root, or the root where it is one."""
    if not root.is_dir():
        return root
    sample = root / SAMPLE_FILE
    return sample if sample.is_file() and not (root / FILE).exists() else root / FILE


def _read(path: Path) -> np.ndarray:
    """Give the lines of the file: int64 (N, 65), grey values and the digit."""
    try:
        with gzip.open(path) as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(
                f"{path.name} must be scikit-learn's file of digits, and holds more than"
                f" {_MOST_BYTES:,} bytes; install scikit-learn again"
            )
        text = content.decode("ascii")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"digits must lie in {path} as scikit-learn ships it, which can't be read"
            f" ({type(error).__name__}); leave --data out, or install scikit-learn again"
        ) from error
    try:
        values_NV = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path.name} must hold whole numbers by commas: {error}") from error
    if len(values_NV) < 2 or values_NV.shape[1] != SIDE * SIDE + 1:
        raise DataError(
            f"{path.name} must hold two or more lines of {SIDE * SIDE + 1} numbers; it holds"
            f" {values_NV.shape[0]} of {values_NV.shape[1]}"
        )
    most_V = np.array([*[MOST_GREY] * (SIDE * SIDE), len(CLASSES) - 1])
    wrong_N = ((values_NV < 0) | (values_NV > most_V)).any(axis=1)
    if wrong_N.any():
        raise DataError(
            f"{path.name}: line {int(wrong_N.argmax()) + 1} must hold grey values from 0 to"
            f" {MOST_GREY} and then a digit, and does not; install scikit-learn again"
        )
    return values_NV


def write_sample(root: Path) -> None:
    """Write sixty digits of seven segments, a little noisy, as the real file has them."""
    random = np.random.default_rng(0)
    lines = []
    for number in range(60):
        digit = number % len(CLASSES)
        grey_HW = random.integers(0, 4, (SIDE, SIDE))
        for segment in _SEGMENTS[digit]:
            rows, columns = _BOXES[segment]
            grey_HW[rows, columns] = random.integers(11, MOST_GREY + 1)
        lines.append(",".join(map(str, [*grey_HW.ravel().tolist(), digit])) + "\n")
    # Without the time of writing: a sample has the same bytes every time.
    (root / SAMPLE_FILE).write_bytes(gzip.compress("".join(lines).encode("ascii"), mtime=0))


TASK = Task(
    name="digits",
    version=1,
    modality="image",
    target="class",
    metrics=(TOP1,),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(write=write_sample, pixels=32, flip=False),
    flip=False,
    package="scikit-learn:sklearn/datasets/data/digits.csv.gz",
    how_to_get="It comes with scikit-learn, which rsbench needs anyway; no --data is to be given.",
    title="Handwritten digits of 8 x 8 pixels, scikit-learn's own",
    licence="CC BY 4.0 (UCI Machine Learning Repository)",
    citation=(
        "Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning"
        " Repository 1998, https://doi.org/10.24432/C50P49"
    ),
)

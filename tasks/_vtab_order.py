"""Which examples VTAB's tasks train, select and test on: cuts of TFDS's order of a data set.

TFDS orders the examples of a split by md5 of the split's name followed by the example's key
(tensorflow_datasets/core/hashing.py and shuffle.py, 4.9.10; the same in 2.1.0, of VTAB's time, but
for the keys of EuroSAT and RESISC45), and writes its shards in that order; ``train[:800]`` is the
first 800 of it. With the keys, which are file names or running numbers, the order follows here
without TFDS. The cuts are those of google-research/task_adaptation (task_adaptation/data/*.py at
ed9b417, "train800" and "val200"): percents are of the number of examples, rounded down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from rsbench.digests import digest_lines
from rsbench.errors import DataError

Pool = Literal["train", "validation", "test"]
"""A split of TFDS, which VTAB's are cut from; its name salts the order."""

TRAIN, VALIDATION, TEST = "train800", "validation200", "test"

NUM_SHOWN: Mapping[str, int] = MappingProxyType({TRAIN: 800, VALIDATION: 200})
"""Examples that are learned and selected from; the test is all there is."""

Key = TypeVar("Key", str, int)
"""What TFDS names an example by: a number counts as the text of its digits."""


class Cut(NamedTuple):
    """Where a split begins."""

    pool: Pool
    percent: int = 0
    """Of the pool's examples that come before it."""


class Cuts(NamedTuple):
    """The three splits; each ends where the next one in its pool begins."""

    train: Cut
    validation: Cut
    test: Cut

    def of(self, split: str) -> Cut:
        """Give the cut of "train800", "validation200" or "test"."""
        return {TRAIN: self.train, VALIDATION: self.validation, TEST: self.test}[split]


OWN_VALIDATION = Cuts(Cut("train"), Cut("validation"), Cut("test"))
"""Of data sets with three splits (dtd.py, dmlab.py, kitti.py, sun397.py, ...)."""


def held_out(percent: int) -> Cuts:
    """Give the cuts of data sets whose validation is the end of train, from a percent on."""
    return Cuts(Cut("train"), Cut("train", percent), Cut("test"))


def in_tfds_order(keys: Iterable[Key], *, salt: str) -> list[Key]:
    """Order examples as TFDS does.

    Args:
        keys: What names each of them; all different.
        salt: Name of the TFDS split.

    Returns:
        The same keys.
    """
    salted = hashlib.md5(salt.encode(), usedforsecurity=False)

    def hashed(key: Key) -> bytes:
        state = salted.copy()
        state.update(str(key).encode())
        return state.digest()

    return sorted(keys, key=hashed)


def cut(order: Sequence[Key], cuts: Cuts, split: str) -> Sequence[Key]:
    """Take one of VTAB's splits out of an ordered pool.

    Args:
        order: All keys of the pool that `cuts.of(split)` names, as `in_tfds_order` gives them.
        cuts: Of the data set.
        split: "train800", "validation200" or "test".

    Returns:
        The first 800 or 200 examples of the split's share, or the whole share for the test.
    """
    pool, percent = cuts.of(split)
    starts = sorted(percent * len(order) // 100 for name, percent in cuts if name == pool)
    start = percent * len(order) // 100
    end = next((later for later in starts if later > start), len(order))
    return order[start : min(end, start + NUM_SHOWN.get(split, end))]


# ---------------------------------------------------------------------------- published orders

ORDER_DIGESTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "cifar100": {
            TRAIN: "052a69e094c953434ddd928aa0c296c74641e838993610f09458857c363c1a7a",
            VALIDATION: "82bc8dbff142016939516bda1de1bac2db6c7b94eb227fe70b97e6541faedf8c",
            TEST: "0a2b8b80e28e6c906f502099fb642335f82fdbd712601b68a843cf11fa3414f3",
        },
        "svhn": {
            TRAIN: "a7f4f4b60a95a2e3218d78bee3d3ca410c7935bea33a1486e8cd92264aa13155",
            VALIDATION: "4ba431820b15c6e8b3dde966ce8b46fbaf771996b1278f05ec9554a15b2d310e",
            TEST: "f7b855a71b42fd515e0fab2c70537eea1fbd37ac616d2545cd1ff545f3478382",
        },
        "dsprites": {
            TRAIN: "607f58ef5c109017580e0bc8f0b215b4b0c713fbbcfabce51a6dedc8ca0aac3f",
            VALIDATION: "80cc52dc2fd0f7428ec22beadf5db1a78d555108ac76adc850df37193454f0c5",
            TEST: "71cd1dc8e0eb7006d15bccca81e22431bf13f9a4cf825fbbeeef435a190bda46",
        },
        "smallnorb": {
            TRAIN: "c9c3e52ab578b6d0dbb3daca03b5075d436ab37109378cbf1d8a9cf336ffff9f",
            VALIDATION: "803c05ce35eca416d66facec2367b7e2a90a5096f62561a8a16d8c08ac733a6d",
            TEST: "b2ae707624c18ad3da9818f0ed50907ebb2ee12e0f656016b0f98d4bdd9420e8",
        },
        "patch_camelyon": {
            TRAIN: "459d6dc9bf350470ff3c9247824021c17f97889f2ad391c8be942172427c2386",
            VALIDATION: "58cf8f166d1b60dbf9c62f6b03136e238e2d613c5351396a42eceb7842995ee5",
            TEST: "2ef843233e42cb460b0e4877e03baa7191a4c5a7a52d4898af50a10cb8376f89",
        },
        "eurosat": {
            TRAIN: "20412783ef7c4d7215e45c21dbe00009eeb4fe7d76d14c8f71821ef583e4b545",
            VALIDATION: "0d09ce082ac124bf973f630781b99274ed93833af4b621ebb2bd5d7074f35398",
            TEST: "acf59d0aef840e86be595c2f01088a2cbb6fcf73f16d099a93e13f17e0f3b5c9",
        },
        "resisc45": {
            TRAIN: "f0ffc88e8d7b12aa9e9e645a0e3f102c14008ea89949439dbecc42ae9ae64041",
            VALIDATION: "d29e87c429518933f72055629d0e4dfe9dd7c873420b7425ae022af332d8f891",
            TEST: "315214b4a894430c45ef0104dd951bb90804d234ce2473ac17a6583fa064d451",
        },
        "clevr": {
            TRAIN: "2aa799cb1d81fbc97ce2339662ac13ed1494128e3c2f31025568aff75a48d0f4",
            VALIDATION: "fd7e5b08fedd62b6aecd7d8f9a24b9de65a90856760af89c3a2233b214b02e69",
            TEST: "af1e00f13186b149a3f2c29336fa03b75e7415c8386d72a177fb2be9bc086caa",
        },
        "sun397": {
            TRAIN: "7026ed310668285349d3ab604bc3e5cf4d6cf34f0c262fdc5fb5f00399b75427",
            VALIDATION: "0fecc917806a92c938dfa9517521cad75a970be5b52c743c64d01c1be18a1b05",
            TEST: "dd5130935e2f88dab57ca4639095215c3f8717e391a2e1fb0e71303ee10fa726",
        },
    }
)
"""sha256 of the ordered keys, one a line, of the data sets whose keys are known without their
data; ordered by TFDS 4.9.10's own Hasher."""

LABEL_DIGESTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "vtab_dsprites_label_x_position": {
            TRAIN: "f6187ddfa218456f06808a4bb96913d5e85eeff0923d08c00a0f62f500214040",
            VALIDATION: "61a8cc9f1957b8db6e1827235d9212f080f331676678a070c13d64e16759c430",
            TEST: "9ea942d90fd1b3b872e4da7604ca014170bd83191043c2bed2f8ba0455b4e774",
        },
        "vtab_dsprites_label_orientation": {
            TRAIN: "39a6ae8964b60fd4222c6b9e28efd6984631a4dfa7da616c6378d5779776a476",
            VALIDATION: "a0c69a680c5f1d2307fd912cd47ca22e6487613a7e94082642c6fa8382cc037e",
            TEST: "5d63bdac69321d8fd6168cd7b79c98768745a488028e24da52348a1bbd46c93b",
        },
        "vtab_eurosat": {
            TRAIN: "e7b83435b52b148af8bebe6a5c1dfd40869ea5ec19b60acc2cfdd132d6632dd9",
            VALIDATION: "7c984e8999cdc2fc1f4fec725920a23d831f9f2f3f3c8605e890898e07219bfb",
            TEST: "a8ebcd8296b7715cad68b60d19ddf2cdc33d89d137f82471e4bb359408b7318c",
        },
        "vtab_resisc45": {
            TRAIN: "fc572dbe00172ac66aa9a4cdcdf14e1edcd8cec6597c541f5f4a1f93389f80a8",
            VALIDATION: "2feeca2458b232f247a7254cce834eb8952fc5bf62be7de9878f246116c38dfa",
            TEST: "783fc71ed6ef06065c4a686534a31bada4d6561cae308f2c729ed1e4de3e5de5",
        },
    }
)
"""sha256 of the sorted labels, one a line, of the tasks whose labels follow from the keys: what a
released list of the same examples holds in whatever order."""


def label_notes(name: str, split: str, labels: Iterable[int]) -> tuple[str, ...]:
    """Say where a released list can't be of TFDS's examples, or where that is not known.

    Before 4.2, TFDS ordered EuroSAT and RESISC45 by where they lay on the disk, so that a folder
    made with it has examples of its own.

    Args:
        name: Of the task.
        split: "train800", "validation200" or "test".
        labels: Of the whole list.
    """
    published = LABEL_DIGESTS.get(name, {}).get(split)
    if published is None:
        # The same words for all splits, so that a score has them once.
        return ("list not verified: no digest of its labels is known",)
    if published == digest_lines(map(str, sorted(labels))):
        return ()
    return (f"labels of {split} are not those of TFDS 4.9.10's examples: another selection",)


def hold_to_published(name: str, split: str, keys: Iterable[object]) -> None:
    """Refuse a split that is not the published one.

    Args:
        name: Of the data set; one without a digest passes.
        split: "train800", "validation200" or "test".
        keys: Of the split, in order.

    Raises:
        DataError: The digest is another one.
    """
    published = ORDER_DIGESTS.get(name, {}).get(split)
    found = digest_lines(map(str, keys))
    if published is not None and found != published:
        raise DataError(
            f"{name} {split} must hold the examples of VTAB, whose names have the sha256 "
            f"{published[:16]}..., and has {found[:16]}...: a list or a file is not the official "
            "one; fetch it again"
        )

"""VOC 2007: marks of difficult objects, lists that fit together, and what becomes of them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from rsbench_tasks import voc2007
from torchvision import datasets

from rsbench.errors import DataError
from rsbench.gathering import gather
from rsbench.metrics import MAP_11
from rsbench.records.predictions import from_parquet, to_parquet
from rsbench.specs import Labels

TASK = voc2007.TASK
LISTS = Path("VOCdevkit/VOC2007/ImageSets/Main")


def write_voc(
    root: Path, marks: dict[str, str], *, part: str = "test", pictures: bool = True
) -> None:
    """Write lists of pictures 000001, ... with "+", "-" or "0" a picture, by class."""
    (root / LISTS).mkdir(parents=True, exist_ok=True)
    (root / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(exist_ok=True)
    for name, signs in marks.items():
        numbers = {"+": 1, "-": -1, "0": 0}
        lines = [f"{row:06d} {numbers[sign]:2d}\n" for row, sign in enumerate(signs, start=1)]
        (root / LISTS / f"{name}_{part}.txt").write_text("".join(lines))
        for row in range(1, len(signs) + 1) if pictures else ():
            (root / "VOCdevkit/VOC2007/JPEGImages" / f"{row:06d}.jpg").touch()


def test_marks_become_labels(tmp_path: Path) -> None:
    write_voc(tmp_path, {"aeroplane": "+-0", "cat": "+--", "dog": "-00"})

    split = TASK.load(tmp_path, "test")

    assert split.classes == ("aeroplane", "cat", "dog")
    assert [(item.id, item.target, item.target.uncounted) for item in split.items] == [
        ("JPEGImages/000001.jpg", (0, 1), ()),
        ("JPEGImages/000002.jpg", (), (2,)),
        ("JPEGImages/000003.jpg", (), (0, 2)),
    ]


def test_the_classes_are_the_twenty_by_name() -> None:
    # The names of the lists in VOCdevkit/VOC2007/ImageSets/Main, as `ls` sorts them.
    assert len(voc2007.CLASSES) == 20
    assert list(voc2007.CLASSES) == sorted(voc2007.CLASSES)


def test_torchvision_lists_the_same_pictures(tmp_path: Path) -> None:
    TASK.sample.write(tmp_path)

    for split, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        data = datasets.VOCDetection(tmp_path, year="2007", image_set=theirs)
        assert [str(item.source) for item in TASK.load(tmp_path, split).items] == data.images


def test_the_whole_of_voc_has_the_published_counts(tmp_path: Path) -> None:
    write_voc(tmp_path, {name: "-" * 4952 for name in voc2007.CLASSES}, pictures=False)
    (tmp_path / "VOCdevkit/VOC2007/JPEGImages/000007.jpg").touch()

    split = TASK.load(tmp_path, "test")

    assert (split.num_official, len(split.items), len(split.missing)) == (4952, 1, 4951)
    assert split.notes == ()


@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_the_root_may_be_any_of_its_folders(root: str, tmp_path: Path) -> None:
    write_voc(tmp_path, {"cat": "+-", "dog": "-+"})

    assert [item.target for item in TASK.load(tmp_path / root, "test").items] == [(0,), (1,)]


def test_lists_of_other_pictures_are_refused(tmp_path: Path) -> None:
    write_voc(tmp_path, {"cat": "+-", "dog": "-"})

    with pytest.raises(DataError, match=r"same pictures, 000002 is not in dog_test\.txt"):
        TASK.load(tmp_path, "test")


@pytest.mark.parametrize("line", ["000001", "000001  2", "000001  x", "000002  1"])
def test_a_mark_that_is_none_and_a_picture_that_is_twice_are_refused(
    line: str, tmp_path: Path
) -> None:
    write_voc(tmp_path, {"cat": "+-", "dog": "-+"})
    path = tmp_path / LISTS / "dog_test.txt"
    path.write_text(f"000002 -1\n{line}\n")

    with pytest.raises(DataError, match=re.escape("dog_test.txt, line 2: a line must read")):
        TASK.load(tmp_path, "test")


def test_a_set_that_was_not_unpacked_is_named(tmp_path: Path) -> None:
    write_voc(tmp_path, {"cat": "+-", "dog": "-+"})

    with pytest.raises(DataError, match=r"voc2007 train must have lists such as aeroplane_train\."):
        TASK.load(tmp_path, "train")


# --------------------------------------------------------------------- labels that don't count


def test_what_is_not_counted_survives_records_processes_and_fingerprints(tmp_path: Path) -> None:
    targets = [Labels((0,), uncounted=(2, 1)), Labels((1, 2)), Labels((), uncounted=(0,))]
    scores = list(np.eye(3, dtype=np.float32))
    content = to_parquet(
        ids=["a", "b", "c"], targets=targets, predictions=scores, kind="multilabel"
    )

    kept = from_parquet(content, where="p").targets

    assert kept == ((0,), (1, 2), ())
    assert [getattr(each, "uncounted", ()) for each in kept] == [(2, 1), (), (0,)]
    assert MAP_11.compute(kept, scores) == MAP_11.compute(targets, scores)
    again = pickle.loads(pickle.dumps(targets[0]))
    assert (again, again.uncounted) == ((0,), (2, 1))


def test_marks_of_difficult_objects_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    prints = []
    for name, signs in (("plain", "--"), ("difficult", "0-"), ("other", "-0")):
        write_voc(tmp_path / name, {"cat": "+-", "dog": "-+", "horse": signs})
        gathered = gather(TASK, tmp_path / name, limit=None, trains=False)
        prints.append(gathered.fingerprint)

    assert len(set(prints)) == 3

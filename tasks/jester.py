"""Jester v1: hand gestures before a laptop, 27 classes (Materzynska et al., ICCV workshops 2019).

Reported is the validation split, 14,787 clips (118,562 train); the test split, 14,743, has no
labels. Published are frames, 12 a second: ``20bn-jester-v1/<id>/00001.jpg``.

Read below the root are 20BN's lists, ``jester-v1-{train,validation}.csv`` of `id;gesture` lines
and ``jester-v1-labels.csv`` with one gesture a line, at the root or in ``annotations/`` (the three
that mmaction2's parse_file_list.py reads), and ``jester_{train,val}_list_{videos,rawframes}.txt``
of mmaction2's tools/data/jester, see `_annotated`.

A horizontal flip turns "Swiping Left" into "Swiping Right".
"""

from __future__ import annotations

import functools
from pathlib import Path

from rsbench.data.lists import ClassList, read_class_names, read_text
from rsbench.data.sample import write_motion_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Sample, Split, Task, Views

from ._annotated import AnnotatedSet, Annotation, find_list, load_annotated


def read_gestures(root: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Read ``jester-v1-labels.csv``: its path, and the gestures in order; None where it is not."""
    path = find_list(root, ["jester-v1-labels.csv"])
    return None if path is None else (path, read_class_names(path))


def read_annotations(path: Path, classes: ClassList) -> list[Annotation]:
    """Read `id;gesture` lines.

    Raises:
        DataError: A line is not of this form (the test list names no gesture), or a gesture is
            outside the classes.
    """
    annotations = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        where = f"{path.name}, line {number}"
        if not text.strip():
            continue
        clip, _, gesture = (part.strip() for part in text.partition(";"))
        if not clip or not gesture or Path(clip).name != clip:
            raise DataError(
                f"{where}: a line must be 'id;gesture', got {text[:120]!r}; lists of the test set, "
                "which has no labels, are not read"
            )
        target = classes.index_of(gesture, where=where)
        annotations.append(Annotation(where=where, id=clip, target=target))
    return annotations


def load(root: Path, split: str) -> Split:
    """List one split; decodes nothing. Raises as `load_annotated` does."""
    return load_annotated(_SET, root, split)


def _find(root: Path, split: str) -> Path | None:
    return find_list(root, [f"jester-v1-{split}.csv"])


_SET = AnnotatedSet(
    name="jester",
    num_classes=27,
    num_official={"train": 118_562, "validation": 14_787},
    read_classes=read_gestures,
    find_annotations=_find,
    read_annotations=read_annotations,
    prefix="jester",
    media_folders=("20bn-jester-v1", "rawframes", "videos"),
    fps=12.0,
    looked_for=(
        "jester-v1-{labels,train,validation}.csv with 20bn-jester-v1/<id>/00001.jpg, or the jester "
        "lists of mmaction2"
    ),
)

TASK = Task(
    name="jester",
    version=1,
    modality="video",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="validation"),),
    sample=Sample(
        write=functools.partial(
            write_motion_sample, layout="jester v1", num_train_scenes=16, num_test_scenes=8
        ),
        clip=ClipSpec(frames=16, stride=1),
        pixels=64,
        views=Views(),
        flip=False,
    ),
    clip=ClipSpec(frames=16, stride=2),
    views=Views(clips=1, crops=3),
    sampler="ssv2@1",
    train_sampler="ssv2_random@1",
    flip=False,
    layouts=("jester v1", "jester v1, rawframe list"),
    how_to_get=(
        "https://developer.qualcomm.com/software/ai-datasets/jester has frames and lists; looked "
        "for are jester-v1-{labels,train,validation}.csv with 20bn-jester-v1/<id>/00001.jpg."
    ),
    title="Jester v1, hand gestures",
    licence="Qualcomm's data licence, for research only",
    citation=(
        "Materzynska, Berger, Bax, Memisevic, The Jester Dataset: A Large-Scale Video Dataset of "
        "Human Gestures, ICCV Workshops 2019"
    ),
)

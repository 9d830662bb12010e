"""Charades v1: what people do at home, 157 actions, several a video (Sigurdsson et al. 2016).

Video-level classification (arXiv:1604.01753): a video's target is the set of all actions seen in it
at any time, which may be empty; the score is the mean of the classes' average precision. Official
are 7,985 videos for training and 1,863 for testing (as the paper says).

Read below the root are ``Charades_v1_{train,test}.csv``, whose column `actions` holds "c092 11.90
21.20;c147 0.00 12.60" (class, first and last second), and ``Charades_v1_classes.txt`` ("c008
Opening a door"), at the root, in ``Charades/`` or ``annotations/``, with the videos in
``Charades_v1_480/<id>.mp4`` or ``Charades_v1/<id>.mp4``, or the published frames, 24 a second, in
``Charades_v1_rgb/<id>/<id>-000001.jpg`` (README of the data set); and SlowFast's list of frames,
``{train,val}.csv``, where the labels of a video's frames are joined, see `_annotated`.

Two customs of others give other numbers. The official script ranks videos without any action last
for every class (as its Python versions show), which here stay where the scores put them: the
definition is scikit-learn's. SlowFast takes the maximum over views; here it is their mean.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

from rsbench.data.lists import ClassList, read_class_names, read_table
from rsbench.data.multilabel_sample import write_multilabel_sample
from rsbench.errors import DataError
from rsbench.metrics import MEAN_AVERAGE_PRECISION
from rsbench.specs import ClipSpec, Fold, Sample, Split, Task, Views

from ._annotated import AnnotatedSet, Annotation, find_list, load_annotated

_FOLDERS = ("Charades",)
"""Where the archive of the lists puts them."""

_SMALLER = "Charades_v1_480"
"""Folder of the published copies in 480p: another form of media."""

_ACTION = re.compile(r"c(?P<index>[0-9]{3})\s+(?P<start>[0-9.]+)\s+(?P<end>[0-9.]+)")


def read_actions(root: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Read ``Charades_v1_classes.txt``: its path, and the actions in order; None where it is not.

    Raises:
        DataError: A line does not begin with its class, c000, c001, ...
    """
    path = find_list(root, ["Charades_v1_classes.txt"], folders=_FOLDERS)
    if path is None:
        return None
    names = []
    for index, line in enumerate(read_class_names(path)):
        code, _, name = line.partition(" ")
        if code != f"c{index:03d}" or not name.strip():
            raise DataError(
                f"{path.name}: class {index} must read 'c{index:03d} name', it is {line[:80]!r}; "
                "fetch the file again"
            )
        names.append(name.strip())
    return path, tuple(names)


def read_annotations(path: Path, classes: ClassList) -> list[Annotation]:
    """Read ``Charades_v1_{train,test}.csv``; a video's group is the person in it.

    Raises:
        DataError: A row without id, or an action that is no class with two times.
    """
    annotations = []
    for row in read_table(path, required=("id", "actions")):
        clip = row.values["id"]
        if not clip or Path(clip).name != clip:
            raise DataError(f"{row.where}: id must be the name of a file, got {clip!r}")
        actions = [each.strip() for each in row.values["actions"].split(";") if each.strip()]
        annotations.append(
            Annotation(
                where=row.where,
                id=clip,
                target=tuple(sorted({_index(each, classes, row.where) for each in actions})),
                group=row.values.get("subject") or None,
            )
        )
    return annotations


def load(root: Path, split: str) -> Split:
    """List one split; decodes nothing. Raises as `load_annotated` does."""
    found = load_annotated(_SET, root, split)
    num_empty = sum(not item.target for item in found.items)
    if num_empty:
        note = f"{num_empty} of {len(found.items)} videos of {split} show no action of any class"
        found = replace(found, notes=(*found.notes, note))
    sources = (item.source for item in found.items)
    is_smaller = any(isinstance(each, Path) and each.parent.name == _SMALLER for each in sources)
    return replace(found, media="480p") if is_smaller and found.media == "original" else found


def _index(action: str, classes: ClassList, where: str) -> int:
    match = _ACTION.fullmatch(action)
    if match is None:
        raise DataError(
            f"{where}: an action must read 'c092 11.90 21.20', got {action[:80]!r}; correct it"
        )
    index = int(match["index"])
    classes.name_at(index, where=where)
    return index


def _find(root: Path, split: str) -> Path | None:
    return find_list(root, [f"Charades_v1_{split}.csv"], folders=_FOLDERS)


_SET = AnnotatedSet(
    name="charades",
    num_classes=157,
    num_official={"train": 7_985, "test": 1_863},
    read_classes=read_actions,
    find_annotations=_find,
    read_annotations=read_annotations,
    prefix="charades",
    media_folders=(_SMALLER, "Charades_v1", "videos", "Charades_v1_rgb", "rawframes"),
    fps=24.0,
    is_multilabel=True,
    looked_for=(
        "Charades_v1_{train,test}.csv and Charades_v1_classes.txt with Charades_v1_480/<id>.mp4 or "
        "Charades_v1_rgb/<id>/, or SlowFast's {train,val}.csv"
    ),
)

TASK = Task(
    name="charades",
    version=1,
    modality="video",
    target="multilabel",
    metrics=(MEAN_AVERAGE_PRECISION,),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(write_multilabel_sample, layout="charades v1"),
        clip=ClipSpec(frames=16, stride=2),
        pixels=64,
        views=Views(),
        flip=False,
    ),
    clip=ClipSpec(frames=16, stride=8),
    views=Views(clips=10, crops=3),
    layouts=("charades v1", "charades v1, frames", "charades v1, frame lists"),
    how_to_get=(
        "https://prior.allenai.org/projects/charades has videos, frames and lists; looked for are "
        "Charades_v1_{train,test}.csv and Charades_v1_classes.txt with Charades_v1_480/<id>.mp4."
    ),
    title="Charades v1, what people do at home",
    licence="Allen Institute's own (license.txt beside the lists)",
    citation=(
        "Sigurdsson et al., Hollywood in Homes: Crowdsourcing Data Collection for Activity "
        "Understanding, ECCV 2016, https://arxiv.org/abs/1604.01753"
    ),
)

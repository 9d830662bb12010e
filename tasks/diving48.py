"""Diving48 V2: competitive dives, 48 classes by take-off, somersaults, twists and position.

By Li, Li and Vasconcelos (RESOUND, ECCV 2018).

The lists of V2 have 15,027 clips for training and 1,970 for testing, as those who use them report;
numbers on V1 do not compare, and its lists are not read.

Read below the root are ``Diving48_V2_{train,test}.json``, lists of {vid_name, label, start_frame,
end_frame}, and ``Diving48_vocab.json``, 48 lists of four words in label order, at the root or in
``annotations/``, with ``rgb/<vid_name>.mp4`` (as published) or ``videos/``; and mmaction2's
``diving48_{train,val}_list_{videos,rawframes}.txt`` (tools/data/diving48), see `_annotated`. A
clip is a whole file: `start_frame` and `end_frame` count its frames, and what decodes holds.

``<recording>_00012`` is one dive of a recording: for selection, the dives of a recording are held
out together. No class has a left or a right, and a flip keeps the label.
"""

from __future__ import annotations

import functools
from pathlib import Path

from rsbench.data.lists import ClassList
from rsbench.data.sample import write_motion_sample
from rsbench.errors import DataError
from rsbench.metrics import MEAN_PER_CLASS, TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Sample, Split, Task, Views

from ._annotated import (
    AnnotatedSet,
    Annotation,
    entries_of,
    find_list,
    index_of,
    load_annotated,
    read_json,
)


def read_vocabulary(root: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Read ``Diving48_vocab.json``: its path, and the dives in label order; None where it is not.

    A dive is its words joined by "+", "Back+15som+05Twis+FREE", as in mmaction2's label map.

    Raises:
        DataError: It is no list of lists of words.
    """
    path = find_list(root, ["Diving48_vocab.json"])
    if path is None:
        return None
    content = read_json(path)
    is_list = isinstance(content, list) and all(
        isinstance(words, list) and words and all(isinstance(word, str) for word in words)
        for words in content
    )
    if not is_list:
        raise DataError(f"{path.name} must be a JSON list of dives, each a list of words")
    return path, tuple("+".join(words) for words in content)


def read_annotations(path: Path, classes: ClassList) -> list[Annotation]:
    """Read ``Diving48_V2_*.json``.

    Raises:
        DataError: An entry has no vid_name, or a label outside the classes.
    """
    annotations = []
    for number, entry in enumerate(entries_of(path, of="dives"), start=1):
        where = f"{path.name}, dive {number}"
        clip = str(entry.get("vid_name", "")).strip()
        if not clip or Path(clip).name != clip:
            raise DataError(
                f"{where}: vid_name must be the name of a file, got {entry.get('vid_name')!r}"
            )
        annotations.append(
            Annotation(
                where=where,
                id=clip,
                target=index_of(entry.get("label"), classes, where=where),
                group=recording_of(clip),
            )
        )
    return annotations


def recording_of(clip: str) -> str:
    """Give the recording that a dive was cut from: ``_8Vy3dlHg2w`` of ``_8Vy3dlHg2w_00000``."""
    return clip.rpartition("_")[0] or clip


def load(root: Path, split: str) -> Split:
    """List one split; decodes nothing. Raises as `load_annotated` does."""
    return load_annotated(_SET, root, split)


def _find(root: Path, split: str) -> Path | None:
    return find_list(root, [f"Diving48_V2_{split}.json"])


_SET = AnnotatedSet(
    name="diving48",
    num_classes=48,
    num_official={"train": 15_027, "test": 1_970},
    read_classes=read_vocabulary,
    find_annotations=_find,
    read_annotations=read_annotations,
    prefix="diving48",
    media_folders=("rgb", "videos", "rawframes"),
    group_of=recording_of,
    looked_for=(
        "Diving48_V2_{train,test}.json and Diving48_vocab.json with rgb/<vid_name>.mp4, or "
        "mmaction2's diving48 lists"
    ),
)

TASK = Task(
    name="diving48",
    version=1,
    modality="video",
    target="class",
    metrics=(TOP1, TOP5, MEAN_PER_CLASS),
    load=load,
    folds=(Fold(train="train", test="test"),),
    sample=Sample(
        write=functools.partial(write_motion_sample, layout="diving48 v2"),
        clip=ClipSpec(frames=16, stride=1),
        pixels=64,
        views=Views(),
        flip=False,
    ),
    clip=ClipSpec(frames=16, stride=4),
    views=Views(clips=4, crops=3),
    layouts=("diving48 v2", "diving48 v2, rawframe list"),
    how_to_get=(
        "http://www.svcl.ucsd.edu/projects/resound/dataset.html has clips and lists; looked for "
        "are Diving48_V2_{train,test}.json and Diving48_vocab.json with rgb/<vid_name>.mp4."
    ),
    title="Diving48 V2, competitive dives",
    licence="see the data set's page",
    citation="Li, Li, Vasconcelos, RESOUND: Towards Action Recognition without Representation Bias,"
    " ECCV 2018",
)

"""Something-Something v2: what is done with things, in 174 templates.

By Goyal et al. 2017 (arXiv:1706.04261), of 20BN, now Qualcomm.

Scores are reported on the validation split, 24,777 clips (168,913 train; both counts as VideoMAE
v2's docs/DATASET.md has them). The test split, 27,157 clips, was published without labels and is
another set: a list of it is never read, whatever it is called.

Read below the root are ``labels/{labels,train,validation}.json`` with ``videos/<id>.webm`` (the
release of today), ``something-something-v2-{labels,train,validation}.json`` with
``20bn-something-something-v2/<id>.webm`` (20BN's), and the lists of mmaction2
(``sthv2_{train,val}_list_{videos,rawframes}.txt``) and SlowFast (``{train,val}.csv`` beside the
JSON), see `_annotated`. ``labels.json`` maps a template to its index, written as text; an entry
names its template with the things in brackets ("Holding [something]"), which are taken off, as
SlowFast's ssv2.py and mmaction2's parse_file_list.py do.

No horizontal flip keeps the labels ("from left to right"). One clip of frames spread over the whole
video is customary, SlowFast's `ssv2`, with three crops. A root whose ``labels.json`` names other
classes is read as one of classes of its own, and the notes say so.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from rsbench.data.lists import ClassList
from rsbench.data.sample import write_motion_sample
from rsbench.errors import DataError
from rsbench.metrics import TOP1, TOP5
from rsbench.specs import ClipSpec, Fold, Sample, Split, Task, Views

from ._annotated import (
    AnnotatedSet,
    Annotation,
    entries_of,
    find_list,
    load_annotated,
    read_json,
)

_OLD_NAMES = "something-something-v2-{}.json"

_PACKAGE_FOLDERS = ("20bn-something-something-download-package-labels/labels",)
"""Where the archive of today's release puts its lists."""


def read_labels(root: Path) -> tuple[Path, tuple[str, ...]] | None:
    """Read ``labels.json``: its path, and the templates in index order; None where it is not.

    Raises:
        DataError: It is no mapping from templates to the numbers 0, 1, 2, ...
    """
    path = _find(root, "labels")
    if path is None:
        return None
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path.name} must be a JSON object of template and index, it is none")
    by_index: dict[int, str] = {}
    for template, text in content.items():
        index = int(text) if isinstance(text, str) and text.isdecimal() else text
        if type(index) is not int or not 0 <= index < len(content) or index in by_index:
            raise DataError(
                f"{path.name}: the templates must be numbered 0 to {len(content) - 1}, each once, "
                f"{template!r} is {text!r}; fetch the file again"
            )
        by_index[index] = template
    return path, tuple(by_index[index] for index in sorted(by_index))


def read_annotations(path: Path, classes: ClassList) -> list[Annotation]:
    """Read ``train.json`` or ``validation.json``: a list of {id, template, ...}.

    Raises:
        DataError: An entry has no id or no template (the test list has none), or one outside the
            classes.
    """
    annotations = []
    for number, entry in enumerate(entries_of(path, of="clips"), start=1):
        where = f"{path.name}, clip {number}"
        clip = str(entry.get("id", "")).strip()
        template = entry.get("template")
        if not clip or Path(clip).name != clip:
            raise DataError(f"{where}: id must be the name of a file, got {entry.get('id')!r}")
        if not isinstance(template, str):
            raise DataError(
                f"{where}: a clip must name its template, {clip} names none; the list of the test "
                "set (27,157 clips without labels) is not read, reported is validation"
            )
        plain = template.replace("[", "").replace("]", "")
        annotations.append(
            Annotation(where=where, id=clip, target=classes.index_of(plain, where=where))
        )
    return annotations


def load(root: Path, split: str) -> Split:
    """List one split; decodes nothing.

    Raises:
        DataError: The test split is asked for, or whatever `load_annotated` refuses.
    """
    if split == "test":
        raise DataError(
            "something_something_v2 is reported on its validation split of 24,777 clips: the test "
            "split (27,157) has no labels; name train or validation"
        )
    unlabelled = _find(root, "test")
    if split != "validation" or unlabelled is None:
        return load_annotated(_SET, root, split)
    not_read = f"{unlabelled.name} lists the test set, which has no labels, and is not read"
    try:
        found = load_annotated(_SET, root, split)
    except DataError as error:
        if _find(root, "validation") is None:
            raise DataError(f"{error}; {not_read}") from error
        raise
    return replace(found, notes=(*found.notes, not_read))


def _find(root: Path, what: str) -> Path | None:
    names = (f"{what}.json", _OLD_NAMES.format(what))
    return find_list(root, names, folders=_PACKAGE_FOLDERS)


_SET = AnnotatedSet(
    name="something_something_v2",
    num_classes=174,
    num_official={"train": 168_913, "validation": 24_777},
    read_classes=read_labels,
    find_annotations=_find,
    read_annotations=read_annotations,
    prefix="sthv2",
    media_folders=(
        *("videos", "20bn-something-something-v2"),
        "20bn-something-something-v2/20bn-something-something-v2",
        *("rawframes", "frames"),
    ),
    looked_for=(
        "labels/{labels,train,validation}.json with videos/<id>.webm, the same as "
        "something-something-v2-*.json with 20bn-something-something-v2/, or mmaction2's sthv2 "
        "lists"
    ),
)

TASK = Task(
    name="something_something_v2",
    version=1,
    modality="video",
    target="class",
    metrics=(TOP1, TOP5),
    load=load,
    folds=(Fold(train="train", test="validation"),),
    sample=Sample(
        write=functools.partial(write_motion_sample, layout="something-something v2"),
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
    layouts=(
        "something-something v2",
        "something-something v2, old names",
        "something-something v2, rawframe list",
        "something-something v2, video list",
        "something-something v2, frame lists",
    ),
    how_to_get=(
        "https://developer.qualcomm.com/software/ai-datasets/something-something has clips and "
        "lists; looked for are labels/{labels,train,validation}.json with videos/<id>.webm, the "
        "same under 20BN's names, and the lists of mmaction2 and SlowFast."
    ),
    title="Something-Something v2, what is done with things",
    licence="Qualcomm's data licence, for research only",
    citation=(
        'Goyal et al., The "something something" video database for learning and evaluating visual '
        "common sense, ICCV 2017, https://arxiv.org/abs/1706.04261"
    ),
)

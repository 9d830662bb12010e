"""A task's contract, tried on its sample (or on real data) through the reader that runs use."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from rsbench.checks.loading import (
    Loaded,
    class_indices,
    load,
    load_from,
    split_names,
    target_of,
)
from rsbench.checks.reading import look_at_media, look_at_views, read_twice
from rsbench.checks.scoring import metric_look
from rsbench.data.sample import sample_root
from rsbench.digests import digest_file
from rsbench.findings import Check, Fault, attempt, some
from rsbench.registry import Found
from rsbench.specs import Item, Task
from rsbench.templates import still_to_write


def check_task(
    found: Found[Task], *, data: Path | None, cache_root: Path, folds: Sequence[str] = ()
) -> list[Check]:
    """Try a task's whole contract on its sample, or on real data.

    Args:
        found: The task, as the registry gives it.
        data: A root of the real data, of which some items are read; None takes the sample, of which
            all are.
        cache_root: Folder of the caches; the sample is kept there.
        folds: Names of the folds to look at; empty for all.

    Returns:
        One finding a question, in the order asked. Where the data can't be loaded, the questions
        that need it are left out.
    """
    checks = [
        attempt(
            "description",
            lambda: _look_at_description(found),
            next_step="Complete the task's fields (rsbench/specs.py says what each one is).",
        )
    ]
    loaded: list[Loaded] = []

    def look() -> str:
        loaded.append(load(found, data, cache_root, folds=folds))
        return _look_at_loading(loaded[0])

    with tempfile.TemporaryDirectory(prefix="rsbench-check-") as folder:
        second_root = None
        if data is None:
            sample = attempt(
                "sample",
                lambda: _look_at_sample(found.spec, cache_root, Path(folder)),
                next_step="Mend the task's sample.write; it is given an existing empty folder.",
            )
            checks.append(sample)
            second_root = Path(folder) if sample.ok else None
        mend = "Mend the task's load, or the data it looked at."
        checks.append(attempt("load", look, next_step=mend))
        if loaded and loaded[0].splits:
            checks += _check_loaded(found, loaded[0], second_root)
    return checks


def _check_loaded(found: Found[Task], loaded: Loaded, second_root: Path | None) -> list[Check]:
    mend = "Mend the task's load."
    checks = [
        attempt("counts", lambda: _look_at_counts(loaded), next_step=mend),
        attempt("ids", lambda: _look_at_ids(loaded), next_step=mend),
        attempt("labels", lambda: _look_at_labels(loaded), next_step=mend),
        attempt("separation", lambda: _look_at_separation(loaded), next_step=mend),
        attempt("stable order", lambda: _look_twice(found, loaded, second_root), next_step=mend),
        attempt("decoding", lambda: look_at_media(loaded), next_step="Mend or replace the files."),
    ]
    if checks[-1].ok:
        mend = "Mend the task's read, or the items' sources."
        checks += [
            attempt("preprocessing", lambda: look_at_views(loaded), next_step=mend),
            attempt("repeatable reading", lambda: read_twice(loaded), next_step=mend),
        ]
    mend = "Mend the metric's compute and per_item."
    checks += [
        attempt(f"metric {metric.name}", metric_look(loaded, metric), next_step=mend)
        for metric in loaded.task.metrics
    ]
    return checks


# ------------------------------------------------------------------------------ without data


def _look_at_description(found: Found[Task]) -> str:
    task = found.spec
    names = ["name", "how_to_get", "title", "licence", "citation"]
    if found.for_root is not None:
        # The user's own data: nobody else is to be cited.
        names.remove("citation")
    texts = {name: getattr(task, name) for name in names}
    empty = [name for name, text in texts.items() if not text.strip()]
    if empty:
        raise Fault(
            f"{', '.join(empty)} must be given, and is empty", next_step="Write it in the task."
        )
    if task.version < 1 or task.sample.version < 1:
        raise Fault(
            f"versions must be 1 or more; the task's is {task.version}, its sample's is"
            f" {task.sample.version}",
            next_step="Begin with 1, and raise it whenever a number would change.",
        )
    metrics = [metric.name for metric in task.metrics]
    if not metrics or len(set(metrics)) < len(metrics):
        raise Fault(
            f"metrics must be one or more of different names; they are {metrics}",
            next_step="Name at least one; the first is the headline.",
        )
    if task.modality == "video" and task.clip is None:
        raise Fault(
            "a video task must say which frames image networks are given; clip is None",
            next_step="Set clip=ClipSpec(frames=..., stride=...).",
        )
    if task.modality == "volume" and task.read is None:
        raise Fault(
            "a task on volumes must read its items itself; read is None",
            next_step="Set read to a function from Item to an array (C, D, H, W).",
        )
    return f"all fields are given{still_to_write(texts)}"


def _look_at_sample(task: Task, cache_root: Path, folder: Path) -> str:
    """Write the sample again and compare it with the kept one, file by file."""
    kept = _file_digests(sample_root(task, cache_root))
    task.sample.write(folder)
    written = _file_digests(folder)
    if not written:
        raise Fault("must write files; it wrote none", next_step="Mend the task's sample.write.")
    differing = sorted(
        name for name in kept.keys() | written.keys() if kept.get(name) != written.get(name)
    )
    if differing:
        raise Fault(
            f"must write the same bytes every time; {len(differing)} of {len(written)} files differ"
            f" from the first writing: {some(differing)}",
            next_step="Seed its randomness; if you changed what it writes, raise sample.version.",
        )
    return f"{len(written)} files, the same when written twice"


def _file_digests(root: Path) -> dict[str, str]:
    """Give the digest of every visible file by its relative path; hidden ones are the cache's."""
    paths = ((path.relative_to(root), path) for path in root.rglob("*") if path.is_file())
    return {
        name.as_posix(): digest_file(path)
        for name, path in paths
        if not any(part.startswith(".") for part in name.parts)
    }


# --------------------------------------------------------------------------------- as loaded


def _look_at_loading(loaded: Loaded) -> str:
    if not loaded.folds:
        raise Fault(
            "a task must have at least one fold, and has none",
            next_step="Set folds=(Fold(train=..., test=...),).",
        )
    if loaded.faults:
        faults = "; ".join(f"{name!r}: {reason}" for name, reason in loaded.faults.items())
        raise Fault(
            f"{len(loaded.faults)} of {len(loaded.faults) + len(loaded.splits)} splits do not load:"
            f" {faults}",
            next_step="Mend the task's load, or get the data that it looked for.",
        )
    return f"{len(loaded.folds)} fold(s) of {len(loaded.splits)} split(s)"


def _look_at_counts(loaded: Loaded) -> str:
    said = []
    for name, split in loaded.splits.items():
        present, missing, official = len(split.items), len(split.missing), split.num_official
        if present == 0:
            raise Fault(
                f"split {name!r} must hold items; it holds none, {missing} are listed and missing",
                next_step=f"Look below {loaded.root} for what load expects:"
                f" {loaded.task.how_to_get}",
            )
        if official is not None and (
            present + missing > official or (loaded.is_sample and present + missing != official)
        ):
            raise Fault(
                f"split {name!r} says num_official={official}, and {present} items are present and"
                f" {missing} missing; official must be their sum on the sample, and never less",
                next_step="Correct num_official, or what load counts as missing.",
            )
        of = "" if official is None else f" of {official} official"
        said.append(f"{name} {present}{of}" + (f" ({missing} missing)" if missing else ""))
    return some(said)


def _look_at_ids(loaded: Loaded) -> str:
    for name, split in loaded.splits.items():
        repeated = [each for each, n in Counter(item.id for item in split.items).items() if n > 1]
        if repeated:
            raise Fault(
                f"ids must be unique in a split; {name!r} holds {some(repeated)} more than once",
                next_step="Make the id of the relative path, and of the start where files repeat.",
            )
    crooked = [repr(item.id) for item in loaded.items() if not _is_portable(item.id, loaded.root)]
    if crooked:
        raise Fault(
            "ids must be relative, with forward slashes, without '..', control characters or the"
            f" data root in them; they were {some(crooked)}",
            next_step="Use path.relative_to(root).as_posix().",
        )
    real_root = loaded.root.resolve()
    outside = [
        str(item.source)
        for item in loaded.items()
        if isinstance(item.source, Path) and not item.source.resolve().is_relative_to(real_root)
    ]
    if outside and loaded.root.is_dir():
        raise Fault(
            f"files must lie below the data root {loaded.root}; these do not: {some(outside)}",
            next_step="Refuse list entries and links that leave the root.",
        )
    num_ids = len({item.id for item in loaded.items()})
    return f"{num_ids} ids, unique in their split, relative and portable"


def _is_portable(name: str, root: Path) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(name.strip())
        and name.isprintable()
        and "\\" not in name
        and ".." not in parts
        and not PurePosixPath(name).is_absolute()
        and not PureWindowsPath(name).drive
        and str(root) not in name
    )


def _look_at_labels(loaded: Loaded) -> str:
    lists = {split.classes for split in loaded.splits.values()}
    if len(lists) > 1:
        raise Fault(
            "all splits must share one ordered list of classes; they have"
            f" {len(lists)} different ones",
            next_step="Give the same classes whatever the split.",
        )
    classes = lists.pop()
    if len(set(classes)) < len(classes):
        twice = [name for name, n in Counter(classes).items() if n > 1]
        raise Fault(
            f"class names must differ; {some(twice)} stand twice", next_step="Rename one of them."
        )
    if loaded.task.target not in ("class", "multilabel"):
        return _look_at_other_targets(loaded)
    if len(classes) < 2:
        raise Fault(
            f"there must be two or more classes; there are {len(classes)}",
            next_step="Give Split.classes in the order of the class index.",
        )
    wrong = [
        f"{item.id}: {item.target!r}"
        for item in loaded.items()
        if not _is_label(item.target, loaded.task.target, len(classes))
    ]
    if wrong:
        form = "an int" if loaded.task.target == "class" else "a tuple of different ints"
        raise Fault(
            f"a target must be {form} from 0 to {len(classes) - 1}; it was not for {some(wrong)}",
            next_step="Give the index in Split.classes, as Python int.",
        )
    return _look_at_coverage(loaded, classes)


def _is_label(target: object, kind: str, num_classes: int) -> bool:
    def is_index(value: object) -> bool:
        return type(value) is int and 0 <= value < num_classes

    if kind == "class":
        return is_index(target)
    return (
        isinstance(target, tuple | list | frozenset)
        and all(map(is_index, target))
        and len(set(target)) == len(target)
    )


def _look_at_coverage(loaded: Loaded, classes: Sequence[str]) -> str:
    """See that every class can be learned; of real data, parts of which may be absent, say it."""
    notes = []
    for fold in loaded.folds:
        if fold.train is None or fold.train not in loaded.splits:
            continue
        targets = (item.target for item in loaded.splits[fold.train].items)
        seen = {index for target in targets for index in class_indices(target)}
        absent = [name for index, name in enumerate(classes) if index not in seen]
        if absent and loaded.is_sample:
            raise Fault(
                f"split {fold.train!r} must show every class; it lacks {some(absent)}",
                next_step="Write at least one training item of each class into the sample.",
            )
        if absent:
            notes.append(f"; {fold.train!r} lacks {len(absent)} classes: {some(absent)}")
    return f"all targets lie in {len(classes)} classes" + "".join(notes)


def _look_at_other_targets(loaded: Loaded) -> str:
    items = loaded.items_to_read()
    empty = [item.id for item in items if target_of(loaded.task, item) is None]
    if empty:
        raise Fault(
            f"every item must have a target; these have none: {some(empty)}",
            next_step="Set Item.target, and Task.read_target if it lies in a file.",
        )
    return f"{len(items)} targets of kind {loaded.task.target} were read"


def _look_at_separation(loaded: Loaded) -> str:
    for fold in loaded.folds:
        named = [name for name in split_names(fold) if name in loaded.splits]
        for place, first in enumerate(named):
            for second in named[place + 1 :]:
                _keep_apart(loaded, first, second)
    what = ", file or group" if loaded.is_sample else " or file"
    return f"no item{what} is in two splits of a fold"


def _keep_apart(loaded: Loaded, first: str, second: str) -> None:
    def keys(name: str, what: str) -> set[object]:
        items = loaded.splits[name].items
        if what == "item":
            return {item.id for item in items}
        if what == "group":
            return {item.group for item in items if item.group is not None}
        return {
            (str(item.source.resolve()), item.start_seconds, item.end_seconds)
            for item in items
            if isinstance(item.source, Path)
        }

    for what in ("item", "group", "file"):
        if what == "group" and not loaded.is_sample:
            # Somebody published that split: a run says how many groups are shared, and goes on.
            continue
        both = keys(first, what) & keys(second, what)
        if both:
            raise Fault(
                f"{first!r} and {second!r} must not share any {what}; they share {len(both)}:"
                f" {some(sorted(map(str, both)))}",
                next_step="Let each be in one split only; the score would be too good otherwise.",
            )


def _look_twice(found: Found[Task], loaded: Loaded, second_root: Path | None) -> str:
    """Load again, and where there is a second copy of the sample, from that other folder."""
    roots = [loaded.root, *([second_root] if second_root is not None else [])]
    for root in roots:
        names = [fold.name for fold in loaded.folds if fold.name]
        again = load_from(found, root, is_sample=loaded.is_sample, folds=names)
        if again.folds != loaded.folds or again.splits.keys() != loaded.splits.keys():
            raise Fault(
                "folds and splits must be the same at a second look, and differ",
                next_step="Make them of the data alone.",
            )
        for name, split in again.splits.items():
            pairs = zip(split.items, loaded.splits[name].items, strict=False)
            first = next(
                (pair for pair in pairs if not _alike(*pair, one_root=root == loaded.root)), None
            )
            if first is not None or len(split.items) != len(loaded.splits[name].items):
                which = f": {first[1].id!r} became {first[0].id!r}" if first is not None else ""
                where = "" if root == loaded.root else " from another folder"
                raise Fault(
                    f"split {name!r} must be the same, in the same order, when it is loaded"
                    f" again{where}; it was not{which}",
                    next_step="Sort what the file system lists; take nothing from the clock, the"
                    " root's own name or an unseeded generator.",
                )
    return f"the same items in the same order when loaded {len(roots) + 1} times"


def _alike(first: Item, second: Item, *, one_root: bool) -> bool:
    """Tell whether two items are one; files are compared by name within one root only."""
    for field in fields(Item):
        values = getattr(first, field.name), getattr(second, field.name)
        if any(isinstance(value, Path) for value in values) and not one_root:
            continue
        if any(isinstance(value, np.ndarray) for value in values):
            if not np.array_equal(*values):
                return False
        elif repr(values[0]) != repr(values[1]):
            return False
    return True

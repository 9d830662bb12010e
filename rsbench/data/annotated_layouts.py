"""Writers of the layouts of Something-Something v2, Jester, Diving48 and Charades.

The formats and their sources are described where they are read: in the tasks of these names.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rsbench.data.examples import (
    FRAMES_PER_SECOND,
    Example,
    Writer,
    write_frames,
    write_media,
    write_webm,
)

_CHARADES_COLUMNS = (
    *("id", "subject", "scene", "quality", "relevance", "verified", "script"),
    *("objects", "descriptions", "actions", "length"),
)
"""Header of the official files (the README of the data set, with `objects` as they have it)."""


def write_something_v2(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``labels/{labels,train,validation}.json`` and ``videos/<id>.webm``."""
    numbered = _numbered(examples)
    _write_something_json(root / "labels", "{}.json", numbered, classes)
    for example, number in numbered:
        write_webm(root / "videos" / f"{number}.webm", example.pixels)


def write_something_v2_old_names(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``something-something-v2-*.json``, the files in ``20bn-something-something-v2/``."""
    numbered = _numbered(examples)
    _write_something_json(root, "something-something-v2-{}.json", numbered, classes)
    for example, number in numbered:
        write_webm(root / "20bn-something-something-v2" / f"{number}.webm", example.pixels)


def write_something_v2_rawframes(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``sthv2_{train,val}_list_rawframes.txt`` and ``rawframes/<id>/img_00001.jpg``."""
    numbered = _numbered(examples)
    _write_rawframes(root, "sthv2", numbered, classes)


def write_something_v2_list_videos(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``sthv2_{train,val}_list_videos.txt`` and ``videos/<id>.mp4``."""
    numbered = _numbered(examples)
    _write_label_map(root, classes)
    lines: dict[str, list[str]] = defaultdict(list)
    for example, number in numbered:
        written = write_media(root / "videos" / number, example.pixels)
        label = classes.index(example.label)
        lines[_short(example)].append(f"{written.name} {label}\n")
    _write_lists(root, "sthv2_{}_list_videos.txt", lines)


def write_something_v2_frame_lists(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write SlowFast's form: the official JSON, ``{train,val}.csv`` and ``frames/<id>/``."""
    numbered = _numbered(examples)
    _write_something_json(root, "something-something-v2-{}.json", numbered, classes)
    _write_frame_lists(
        root, numbered, place="frames", form="{id}_{{:06}}.jpg", labels=lambda _: '""'
    )


def write_jester(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``jester-v1-{labels,train,validation}.csv``, ``20bn-jester-v1/<id>/00001.jpg``."""
    rows: dict[str, list[str]] = defaultdict(list)
    for example, number in _numbered(examples):
        rows[example.split].append(f"{number};{example.label}\n")
        write_frames(root / "20bn-jester-v1" / number, example.pixels, form="{:05}.jpg")
    (root / "jester-v1-labels.csv").write_text("".join(f"{name}\n" for name in classes))
    _write_lists(root, "jester-v1-{}.csv", rows)


def write_jester_rawframes(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``jester_{train,val}_list_rawframes.txt`` and ``rawframes/<id>/img_00001.jpg``."""
    _write_rawframes(root, "jester", _numbered(examples), classes)


def write_diving48(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``Diving48_{V2_train,V2_test,vocab}.json`` and ``rgb/<source>_00000.mp4``.

    A class's words, in the real vocabulary a dive's four parts, are those of its name.
    """
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    taken: dict[str, int] = defaultdict(int)
    for example in examples:
        name = f"{example.source}_{taken[example.source]:05d}"
        taken[example.source] += 1
        write_media(root / "rgb" / name, example.pixels)
        entries["train" if example.split == "train" else "test"].append(
            {
                "vid_name": name,
                "label": classes.index(example.label),
                "start_frame": 0,
                "end_frame": len(example.pixels),
            }
        )
    for split, listed in entries.items():
        _write_json(root / f"Diving48_V2_{split}.json", listed)
    _write_json(root / "Diving48_vocab.json", [name.split(" ") for name in classes])


def write_diving48_rawframes(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``diving48_{train,val}_list_rawframes.txt`` and ``rawframes/<id>/img_00001.jpg``."""
    _write_rawframes(root, "diving48", _numbered(examples), classes)


def write_charades(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``Charades_v1_{train,test}.csv``, ``Charades_v1_classes.txt``, the files in 480p."""
    numbered = _numbered(examples)
    _write_charades_csv(root, numbered, classes)
    for example, number in numbered:
        write_media(root / "Charades_v1_480" / number, example.pixels)


def write_charades_frames(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write the official lists and ``Charades_v1_rgb/<id>/<id>-000001.jpg``."""
    numbered = _numbered(examples)
    _write_charades_csv(root, numbered, classes)
    for example, number in numbered:
        form = f"{number}-{{:06}}.jpg"
        write_frames(root / "Charades_v1_rgb" / number, example.pixels, form=form)


def write_charades_frame_lists(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write SlowFast's ``{train,val}.csv``, the classes, and ``Charades_v1_rgb/<id>/``."""

    def labels(example: Example) -> str:
        return f'"{",".join(str(index) for index in _class_indices(example, classes))}"'

    _write_charades_classes(root, classes)
    _write_frame_lists(
        root,
        _numbered(examples),
        place="Charades_v1_rgb",
        form="{id}-{{:06}}.jpg",
        labels=labels,
    )


ANNOTATED_LAYOUTS: Mapping[str, Writer] = MappingProxyType(
    {
        "something-something v2": write_something_v2,
        "something-something v2, old names": write_something_v2_old_names,
        "something-something v2, rawframe list": write_something_v2_rawframes,
        "something-something v2, video list": write_something_v2_list_videos,
        "something-something v2, frame lists": write_something_v2_frame_lists,
        "jester v1": write_jester,
        "jester v1, rawframe list": write_jester_rawframes,
        "diving48 v2": write_diving48,
        "diving48 v2, rawframe list": write_diving48_rawframes,
        "charades v1": write_charades,
        "charades v1, frames": write_charades_frames,
        "charades v1, frame lists": write_charades_frame_lists,
    }
)
"""Writers by the layout's name."""

_Numbered = Sequence[tuple[Example, str]]
"""Examples with the names that their data set would give them."""


def _numbered(examples: Iterable[Example]) -> _Numbered:
    """Number the examples: their names say nothing of what they are."""
    return [(example, str(number)) for number, example in enumerate(examples, start=1)]


def _short(example: Example) -> str:
    return "train" if example.split == "train" else "val"


def _write_something_json(
    folder: Path, form: str, numbered: _Numbered, classes: Sequence[str]
) -> None:
    """Write the three JSON files; a template has its first word in brackets, as objects have."""
    listed: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example, number in numbered:
        first, _, rest = example.label.partition(" ")
        listed[example.split].append(
            {
                "id": number,
                "label": example.label,
                "template": f"[{first}] {rest}",
                "placeholders": [first],
            }
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = {name: str(index) for index, name in enumerate(classes)}
    _write_json(folder / form.format("labels"), names)
    for split, entries in listed.items():
        _write_json(folder / form.format(split), entries)


def _write_rawframes(root: Path, prefix: str, numbered: _Numbered, classes: Sequence[str]) -> None:
    _write_label_map(root, classes)
    lines: dict[str, list[str]] = defaultdict(list)
    for example, number in numbered:
        write_frames(root / "rawframes" / number, example.pixels, form="img_{:05}.jpg")
        label = classes.index(example.label)
        lines[_short(example)].append(f"{number} {len(example.pixels)} {label}\n")
    _write_lists(root, f"{prefix}_{{}}_list_rawframes.txt", lines)


def _write_frame_lists(
    root: Path,
    numbered: _Numbered,
    *,
    place: str,
    form: str,
    labels: Callable[[Example], str],
) -> None:
    lines: dict[str, list[str]] = defaultdict(
        lambda: ["original_vido_id video_id frame_id path labels\n"]
    )
    for row, (example, number) in enumerate(numbered):
        name = form.format(id=number)
        write_frames(root / place / number, example.pixels, form=name)
        for frame in range(len(example.pixels)):
            path = f"{number}/{name.format(frame + 1)}"
            lines[_short(example)].append(f"{number} {row} {frame} {path} {labels(example)}\n")
    _write_lists(root, "{}.csv", lines)


def _write_charades_csv(root: Path, numbered: _Numbered, classes: Sequence[str]) -> None:
    _write_charades_classes(root, classes)
    rows: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for example, number in numbered:
        actions = ";".join(
            f"c{classes.index(action.label):03d} {action.start_seconds:.2f}"
            f" {action.end_seconds:.2f}"
            for action in example.actions
        )
        length = f"{len(example.pixels) / FRAMES_PER_SECOND:.2f}"
        values = {"id": number, "subject": example.source, "actions": actions, "length": length}
        split = "train" if example.split == "train" else "test"
        rows[split].append(tuple(values.get(column, "") for column in _CHARADES_COLUMNS))
    for split, content in rows.items():
        path = root / f"Charades_v1_{split}.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([_CHARADES_COLUMNS, *content])


def _write_charades_classes(root: Path, classes: Sequence[str]) -> None:
    lines = (f"c{index:03d} {name}\n" for index, name in enumerate(classes))
    (root / "Charades_v1_classes.txt").write_text("".join(lines), encoding="utf-8")


def _class_indices(example: Example, classes: Sequence[str]) -> list[int]:
    return sorted({classes.index(action.label) for action in example.actions})


def _write_label_map(root: Path, classes: Sequence[str]) -> None:
    (root / "label_map.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _write_lists(root: Path, form: str, lines: Mapping[str, Sequence[str]]) -> None:
    for split, content in lines.items():
        (root / form.format(split)).write_text("".join(content), encoding="utf-8")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

"""Writers of the layouts of UCF101 and HMDB51, which deal one set of clips to three splits.

A group is what an example was cut from. As UCF101 tests groups 1 to 7, 8 to 14 and 15 to 21 of 25
in its three splits, each split here tests the next of every four groups, and none tests the fourth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from rsbench.data.examples import FRAMES_PER_SECOND, Example, Writer, write_frames

_SPLITS = (1, 2, 3)
_XVID_OPTIONS = {"qmin": "2", "qmax": "2", "threads": "1"}
"""Near lossless, and the same bytes on any machine."""

_ODD_SOURCE = "#02_It's_a_[new]_scene;_(HQ)!"
"""Real files of HMDB51 are named so."""


def write_ucf101(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``UCF-101/<Class>/v_<Class>_gXX_cYY.avi`` and the lists in ``ucfTrainTestlist/``."""
    _write_ucf101(root, examples, classes, place=lambda name, stem: root / "UCF-101" / name / stem)


def write_ucf101_flat(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``UCF-101/v_<Class>_gXX_cYY.avi`` and the lists in ``ucfTrainTestlist/``."""
    _write_ucf101(root, examples, classes, place=lambda name, stem: root / "UCF-101" / stem)


def write_ucf101_mmaction2_videos(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``ucf101_{train,val}_split_N_videos.txt``, ``videos/`` and ``annotations/``."""
    _write_ucf101_classes(root / "annotations", classes)
    _write_mmaction2(root, "ucf101", _ucf101_clips(examples), classes, frames=False)


def write_ucf101_mmaction2_rawframes(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``ucf101_{train,val}_split_N_rawframes.txt``, ``rawframes/`` and ``annotations/``."""
    _write_ucf101_classes(root / "annotations", classes)
    _write_mmaction2(root, "ucf101", _ucf101_clips(examples), classes, frames=True)


def write_hmdb51(root: Path, examples: Iterable[Example], classes: Sequence[str]) -> None:
    """Write ``hmdb51_org/<class>/*.avi``, ``testTrainMulti_7030_splits/<class>_test_splitN.txt``.

    Clips of the fourth groups are unused, as a third of the real ones are.
    """
    lines: dict[str, list[str]] = defaultdict(list)
    for name, stem, group, pixels in _hmdb51_clips(examples):
        _write_xvid(root / "hmdb51_org" / name / f"{stem}.avi", pixels)
        for split in _SPLITS:
            flag = 0 if group % 4 == 0 else 2 if _tests(split, group) else 1
            # The official lines end in a blank.
            lines[f"{name}_test_split{split}.txt"].append(f"{stem}.avi {flag} \n")
    _write_lists(root / "testTrainMulti_7030_splits", lines)


def write_hmdb51_mmaction2_videos(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``hmdb51_{train,val}_split_N_videos.txt`` and ``videos/``."""
    _write_mmaction2(root, "hmdb51", _hmdb51_clips(examples), _sorted_names(classes), frames=False)


def write_hmdb51_mmaction2_rawframes(
    root: Path, examples: Iterable[Example], classes: Sequence[str]
) -> None:
    """Write ``hmdb51_{train,val}_split_N_rawframes.txt`` and ``rawframes/``."""
    _write_mmaction2(root, "hmdb51", _hmdb51_clips(examples), _sorted_names(classes), frames=True)


OFFICIAL_LAYOUTS: Mapping[str, Writer] = MappingProxyType(
    {
        "ucf101": write_ucf101,
        "ucf101 flat": write_ucf101_flat,
        "ucf101 mmaction2 videos": write_ucf101_mmaction2_videos,
        "ucf101 mmaction2 rawframes": write_ucf101_mmaction2_rawframes,
        "hmdb51": write_hmdb51,
        "hmdb51 mmaction2 videos": write_hmdb51_mmaction2_videos,
        "hmdb51 mmaction2 rawframes": write_hmdb51_mmaction2_rawframes,
    }
)
"""Writers by the layout's name."""

_Clip = tuple[str, str, int, np.ndarray]
"""Class name on disk, file name without ending, number of the group from 1 on, frames."""


def _tests(split: int, group: int) -> bool:
    return (group - split) % 4 == 0


def _grouped(examples: Iterable[Example]) -> Iterator[tuple[Example, int]]:
    """Number what examples were cut from, in the order of appearance."""
    groups: dict[str, int] = {}
    for example in examples:
        yield example, groups.setdefault(example.source, len(groups) + 1)


def _ucf101_clips(examples: Iterable[Example]) -> Iterator[_Clip]:
    taken: dict[str, int] = defaultdict(int)
    for example, group in _grouped(examples):
        name = _camel(example.label)
        of_group = f"v_{name}_g{group:02d}"
        taken[of_group] += 1
        yield name, f"{of_group}_c{taken[of_group]:02d}", group, example.pixels


def _hmdb51_clips(examples: Iterable[Example]) -> Iterator[_Clip]:
    taken: dict[str, int] = defaultdict(int)
    for example, group in _grouped(examples):
        name = example.label.replace(" ", "_")
        source = _ODD_SOURCE if group == 2 else example.source
        of_source = f"{source}_{name}_f_cm_np1_fr_med"
        yield name, f"{of_source}_{taken[of_source]}", group, example.pixels
        taken[of_source] += 1


def _camel(label: str) -> str:
    return label.title().replace(" ", "")


def _sorted_names(classes: Sequence[str]) -> list[str]:
    return sorted(name.replace(" ", "_") for name in classes)


def _write_ucf101(
    root: Path,
    examples: Iterable[Example],
    classes: Sequence[str],
    *,
    place: Callable[[str, str], Path],
) -> None:
    lists = root / "ucfTrainTestlist"
    _write_ucf101_classes(lists, classes)
    names = [_camel(label) for label in classes]
    lines: dict[str, list[str]] = defaultdict(list)
    for name, stem, group, pixels in _ucf101_clips(examples):
        path = place(name, stem)
        _write_xvid(path.with_name(f"{path.name}.avi"), pixels)
        for split in _SPLITS:
            if _tests(split, group):
                lines[f"testlist0{split}.txt"].append(f"{name}/{stem}.avi\n")
            else:
                index = names.index(name) + 1
                lines[f"trainlist0{split}.txt"].append(f"{name}/{stem}.avi {index}\n")
    _write_lists(lists, lines)


def _write_ucf101_classes(folder: Path, classes: Sequence[str]) -> None:
    numbered = [f"{index} {_camel(label)}\n" for index, label in enumerate(classes, start=1)]
    _write_lists(folder, {"classInd.txt": numbered})


def _write_mmaction2(
    root: Path, task: str, clips: Iterable[_Clip], classes: Sequence[str], *, frames: bool
) -> None:
    """Write lists of `path index`, or of `folder frames index`, for three splits."""
    form = "rawframes" if frames else "videos"
    indices = {_key(name): index for index, name in enumerate(classes)}
    lines: dict[str, list[str]] = defaultdict(list)
    for name, stem, group, pixels in clips:
        path = root / form / name / stem
        if frames:
            write_frames(path, pixels, form="img_{:05}.jpg")
            line = f"{name}/{stem} {len(pixels)} {indices[_key(name)]}\n"
        else:
            _write_xvid(path.with_name(f"{stem}.avi"), pixels)
            line = f"{name}/{stem}.avi {indices[_key(name)]}\n"
        for split in _SPLITS:
            side = "val" if _tests(split, group) else "train"
            lines[f"{task}_{side}_split_{split}_{form}.txt"].append(line)
    _write_lists(root, lines)


def _key(name: str) -> str:
    """Give the form in which "pan left", "pan_left" and "PanLeft" are one."""
    return name.replace("_", "").replace(" ", "").lower()


def _write_lists(folder: Path, lines: Mapping[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in lines.items():
        (folder / name).write_text("".join(content), encoding="utf-8")


def _write_xvid(path: Path, pixels: np.ndarray) -> None:
    """Write an MPEG-4 part 2 video in AVI, as both data sets come: uint8 (T, H, W, 3)."""
    from rsbench.media.video import write_video

    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, pixels, fps=FRAMES_PER_SECOND, codec="mpeg4", options=_XVID_OPTIONS)

"""Lists of frame folders: mmaction2's and SlowFast's.

mmaction2 (``tools/data/build_file_list.py``, ``mmaction/datasets/rawframe_dataset.py``), also read
by VideoMAE, has one line a folder, with one label or several::

    some/folder 163 1
    other/folder 122 1 3 5

SlowFast (``slowfast/datasets/utils.py``, `load_image_lists`) has one line a frame, for Charades and
Something-Something::

    original_vido_id video_id frame_id path labels
    VZE8E 0 0 VZE8E/VZE8E-000001.jpg "59,97"

Parsing only: whether a folder exists is `files.RootGuard`'s business, and how many frames it has is
`media.frames`'s. All text is UTF-8; every error names the file and the line, counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rsbench.data.lists import read_text
from rsbench.errors import DataError

_FOLDER_LINE = re.compile(
    r"(?P<path>\S.*?)[\s,]+(?P<num_frames>[0-9]+)[\s,]+(?P<labels>[0-9]+(?:[\s,]+[0-9]+)*)"
)

_FRAME_HEADER = "original_vido_id"
"""First column of a SlowFast list, in its own spelling."""

_FRAME_LINE = re.compile(
    r"(?P<id>\S+)\s+(?P<video>\S+)\s+(?P<frame>[0-9]+)\s+(?P<path>\S+)\s+(?P<labels>\S+)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFolder:
    """One folder of frames, as a list names it."""

    where: str
    """File and line, for messages: "sthv2_val_list_rawframes.txt, line 2"."""
    path: str
    """As written, without the frame's own name."""
    num_frames: int
    """As the list claims."""
    labels: tuple[int, ...]
    """Class indices, rising; of a SlowFast list those of all its frames together."""
    id: str = ""
    """`original_vido_id` of a SlowFast list; empty where a list has no ids."""


def is_rawframe_list(path: Path) -> bool:
    """Tell whether a file's first line that says anything reads `folder frames label`.

    Raises:
        DataError: The file can't be read as text.
    """
    lines = (line for _, line in _lines(read_text(path)))
    return _FOLDER_LINE.fullmatch(next(lines, "")) is not None


def read_rawframe_list(path: Path) -> tuple[ListedFolder, ...]:
    """Read mmaction2's `folder frames label[ label ...]` lines, separated by blanks or commas.

    The path ends where nothing but whole numbers follows, so it may hold blanks. Blank lines and
    lines that start with "#" are left out.

    Raises:
        DataError: A line is not of this form, a label is there twice, or a folder has no frames.
    """
    listed = []
    for number, line in _lines(read_text(path)):
        where = f"{path.name}, line {number}"
        match = _FOLDER_LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{where}: a line must be 'folder frames label' (or several labels), got "
                f"{line[:120]!r}; correct it or drop the line"
            )
        labels = [int(label) for label in re.split(r"[\s,]+", match["labels"])]
        if len(set(labels)) < len(labels):
            raise DataError(f"{where}: labels must differ, got {match['labels']!r}; correct them")
        if int(match["num_frames"]) < 1:
            raise DataError(f"{where}: a folder must have at least 1 frame; drop the line")
        listed.append(
            ListedFolder(
                where=where,
                path=match["path"].rstrip("/"),
                num_frames=int(match["num_frames"]),
                labels=tuple(sorted(labels)),
            )
        )
    return tuple(listed)


def is_frame_list(path: Path) -> bool:
    """Tell whether a file begins as SlowFast's lists of frames do."""
    with path.open("rb") as stream:
        start = stream.read(len(_FRAME_HEADER) + 3)
    return start.removeprefix(b"\xef\xbb\xbf").startswith(_FRAME_HEADER.encode())


def read_frame_list(path: Path) -> tuple[ListedFolder, ...]:
    """Read SlowFast's list of frames: one entry a video, in the order of its first frame.

    A list of Something-Something has eight million lines: it is read line by line.

    Raises:
        DataError: The header or a line is not of this form, a label is no class index, the frames
            of one video lie in two folders, or two videos share one folder.
    """
    videos: dict[str, _Video] = {}
    owners: dict[str, _Video] = {}
    for number, line in _streamed(path):
        where = f"{path.name}, line {number}"
        match = _FRAME_LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{where}: a line must be 'original_vido_id video_id frame_id path labels', got "
                f"{line[:120]!r}; correct it or drop the line"
            )
        folder = str(PurePosixPath(match["path"]).parent)
        video = videos.setdefault(match["id"], _Video(id=match["id"], where=where, folder=folder))
        if folder != video.folder:
            raise DataError(
                f"{where}: the frames of {video.id} must lie in one folder, {video.folder} of "
                f"{video.where} and {folder} are two; mend the list"
            )
        owner = owners.setdefault(folder, video)
        if owner is not video:
            raise DataError(
                f"{where}: {video.id} must have a folder of its own, {folder} is that of "
                f"{owner.id} in {owner.where}; parts of folders are not read"
            )
        video.num_frames += 1
        video.labels |= _labels(match["labels"], where=where)
    return tuple(
        ListedFolder(
            where=video.where,
            path=video.folder,
            num_frames=video.num_frames,
            labels=tuple(sorted(video.labels)),
            id=video.id,
        )
        for video in videos.values()
    )


@dataclass(kw_only=True, slots=True)
class _Video:
    """What has been read of one video so far."""

    id: str
    where: str
    folder: str
    num_frames: int = 0
    labels: set[int] = field(default_factory=set)


def _labels(text: str, *, where: str) -> set[int]:
    """Read "59,97", with any quotes round it; a frame may have no label."""
    words = [word for word in text.replace('"', "").split(",") if word]
    if not all(re.fullmatch(r"[0-9]+", word) for word in words):
        raise DataError(f'{where}: labels must be class indices such as "59,97", got {text!r}')
    return {int(word) for word in words}


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _streamed(path: Path) -> Iterator[tuple[int, str]]:
    """Give the numbered lines below the header."""
    number = 1
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as stream:
            header = stream.readline().split()
            if header[:1] != [_FRAME_HEADER]:
                raise DataError(
                    f"{path.name}, line 1: the header must be 'original_vido_id video_id frame_id "
                    f"path labels', it is {' '.join(header)[:120]!r}"
                )
            for line in stream:
                number += 1
                if line.strip():
                    yield number, line.strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}, after line {number}: the text must be UTF-8; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"the list {path} can't be read: {error.strerror}") from error

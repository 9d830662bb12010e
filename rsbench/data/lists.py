"""Lists of labelled media: official clip CSVs, `path label` lines, tables, class names.

Parsing only: whether a listed file exists is `files.RootGuard`'s business. All text is UTF-8, with
or without a byte order mark; every error names the file and the line, counted from 1.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsbench.data.files import VIDEO_SUFFIXES
from rsbench.errors import DataError

_CLIP_COLUMNS = ("label", "youtube_id", "time_start", "time_end")

_SUFFIXES = "|".join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))
_PATH_LABEL = re.compile(rf"^(?P<path>.*\.(?:{_SUFFIXES}))(?:\s*[,\t]\s*|\s+)(?P<label>.+)$", re.I)
_BARE_PATH = re.compile(rf"^.*\.(?:{_SUFFIXES})[,\s]*$", re.I)

_CLIP_STEM = re.compile(r"^(?P<id>.+)_(?P<start>\d{6})_(?P<end>\d{6})$")


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedClip:
    """One row of an official Kinetics CSV."""

    where: str
    """File and line, for messages: "val.csv, line 2"."""
    label: str
    youtube_id: str
    start_seconds: int
    end_seconds: int
    split: str
    """As written; empty where the file has no such column."""

    @property
    def id(self) -> str:
        """The clip's name in the official layout: ``ID_ssssss_eeeeee``."""
        return clip_id(self.youtube_id, self.start_seconds, self.end_seconds)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedPath:
    """One line of a `path label` list."""

    where: str
    path: str
    label: str
    """A class name or the digits of a class index, as written; empty where a list has none."""
    num_frames: int | None = None
    """Of a folder of frames, as the list claims; None for a video."""

    @property
    def index(self) -> int | None:
        """The class index if the label is a whole number, else None."""
        return int(self.label) if re.fullmatch(r"[0-9]+", self.label) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of a table with a header."""

    where: str
    values: Mapping[str, str]
    """By column name in lower case; stripped of surrounding blanks."""


def clip_id(youtube_id: str, start_seconds: int, end_seconds: int) -> str:
    """Name a clip as the official layout does, e.g. "abcdefghijk_000010_000020"."""
    return f"{youtube_id}_{start_seconds:06d}_{end_seconds:06d}"


def source_of_clip(stem: str) -> str:
    """Give the video id of a clip's file name without ending: all before the times."""
    match = _CLIP_STEM.match(stem)
    return match["id"] if match else stem


# ---------------------------------------------------------------------------- class names


def normal_class_name(name: str) -> str:
    """Give the form in which two spellings of a class name are equal.

    Case, underscores against spaces, repeated blanks and Unicode composition make no difference.
    """
    text = unicodedata.normalize("NFC", name).replace("_", " ")
    return " ".join(text.split()).casefold()


class ClassList:
    """Class names in index order, found again under any usual spelling."""

    def __init__(self, names: Iterable[str], *, of: str) -> None:
        """Index the names.

        Args:
            names: In index order.
            of: What they are the classes of, for messages: "kinetics400".

        Raises:
            DataError: Two names are spellings of one class.
        """
        self.names = tuple(names)
        self._of = of
        self._indices: dict[str, int] = {}
        for index, name in enumerate(self.names):
            first = self._indices.setdefault(normal_class_name(name), index)
            if first != index:
                raise DataError(
                    f"class names of {of} must differ in more than case, blanks and underscores: "
                    f"{self.names[first]!r} and {name!r} do not; rename one"
                )

    def __len__(self) -> int:
        return len(self.names)

    def find(self, label: str) -> int | None:
        """Give a class's index, or None if there is no such class."""
        return self._indices.get(normal_class_name(label))

    def index_of(self, label: str, *, where: str) -> int:
        """Give a class's index.

        Raises:
            DataError: There is no such class; the nearest one is named.
        """
        index = self.find(label)
        if index is None:
            raise DataError(
                f"{where}: label {label!r} is none of the {len(self)} classes of {self._of}"
                f"{self.did_you_mean(label)}; correct it or drop the line"
            )
        return index

    def name_at(self, index: int, *, where: str) -> str:
        """Give the name of a class index.

        Raises:
            DataError: The index is out of range.
        """
        if not 0 <= index < len(self):
            raise DataError(
                f"{where}: label {index} must be a class index from 0 to {len(self) - 1} of "
                f"{self._of}; is the list of another data set?"
            )
        return self.names[index]

    def did_you_mean(self, label: str) -> str:
        """Give ' (did you mean ...?)' with the nearest class name, or nothing."""
        near = difflib.get_close_matches(normal_class_name(label), self._indices, n=1)
        return f" (did you mean {self.names[self._indices[near[0]]]!r}?)" if near else ""


# ---------------------------------------------------------------------------- files of lines


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, with or without byte order mark.

    Raises:
        DataError: It can't be read, is not UTF-8 (names the line), or holds NUL bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"the list {path} can't be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, line {line}: the text must be UTF-8; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise DataError(
            f"{path.name} must be a text file, it holds NUL bytes; is it the right one?"
        )
    return text


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a file of class names, one a line in index order; blank lines are left out.

    Raises:
        DataError: The file is unreadable or names no class.
    """
    lines = read_text(path).splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path} must hold one class name a line, it is empty")
    return names


def is_clip_csv(path: Path) -> bool:
    """Tell whether a file's first line is the header of an official Kinetics CSV."""
    first = read_text(path).lstrip().split("\n", 1)[0]
    columns = {column.strip(' "\r').lower() for column in first.split(",")}
    return columns.issuperset(_CLIP_COLUMNS)


def read_clip_csv(path: Path) -> tuple[ListedClip, ...]:
    """Read an official Kinetics CSV: label, youtube_id, time_start, time_end[, split, ...].

    Raises:
        DataError: A column is missing, a time is not a number, or a clip is listed twice.
    """
    clips: dict[str, ListedClip] = {}
    for row in read_table(path, required=_CLIP_COLUMNS):
        clip = ListedClip(
            where=row.where,
            label=_filled(row, "label"),
            youtube_id=_filled(row, "youtube_id"),
            start_seconds=_whole_seconds(row, "time_start"),
            end_seconds=_whole_seconds(row, "time_end"),
            split=row.values.get("split", ""),
        )
        first = clips.setdefault(clip.id, clip)
        if first is not clip:
            raise DataError(
                f"{clip.where}: clip {clip.id} must be listed once and was in {first.where} "
                "already; drop one of the two lines"
            )
    return tuple(clips.values())


def read_path_labels(path: Path) -> tuple[ListedPath, ...]:
    """Read a list of `path label` lines, separated by blanks, a comma or a tab.

    The path ends at the last video ending (".mp4", ...) that a separator follows, so that paths and
    class names may hold blanks and commas. Either may be quoted. Blank lines and comments, which
    start with "#" and name no video (some of HMDB51 start so too), are left out.

    Raises:
        DataError: A line has no path of a video, or no label.
    """
    return tuple(
        ListedPath(where=where, path=name, label=label)
        for line, where in _path_lines(path)
        for name, label in [_split_path_label(line, where=where)]
    )


def read_paths(path: Path) -> tuple[ListedPath, ...]:
    """Read a list of paths, one a line, that may have labels or not (UCF101's test lists).

    Read as `read_path_labels` does; a path without label gets an empty one.

    Raises:
        DataError: A line has no path of a video.
    """
    listed = []
    for line, where in _path_lines(path):
        is_bare = _BARE_PATH.match(line) is not None and not line.startswith('"')
        name, label = (line, "") if is_bare else _split_path_label(line, where=where)
        listed.append(ListedPath(where=where, path=name, label=label))
    return tuple(listed)


def read_flags(path: Path) -> tuple[ListedPath, ...]:
    """Read a list of `name flag` lines (HMDB51's); the flag is what stands after the last blank.

    Unlike in other lists a line that starts with "#" is a name.

    Raises:
        DataError: A line has no flag.
    """
    listed = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        if not text.strip():
            continue
        where = f"{path.name}, line {number}"
        name, _, flag = text.strip().rpartition(" ")
        if not name.strip():
            raise DataError(
                f"{where}: a line must be 'name flag', got {text[:120]!r}; correct it or drop it"
            )
        listed.append(ListedPath(where=where, path=name.strip(), label=flag))
    return tuple(listed)


def _path_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Give each line that names a file, and where it stands."""
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        line = text.strip()
        is_comment = line.startswith("#") and (line[1:2].isspace() or not _PATH_LABEL.match(line))
        if line and not is_comment:
            yield line, f"{path.name}, line {number}"


def _split_path_label(line: str, *, where: str) -> tuple[str, str]:
    quoted = re.match(r'^"(?P<path>[^"]+)"(?:\s*,\s*|\s+)(?P<label>.+)$', line)
    match = quoted or _PATH_LABEL.match(line)
    if match is None or (not quoted and _BARE_PATH.match(line)):
        raise DataError(
            f"{where}: a line must be 'path label' with a video file ({'.mp4, .mkv, .webm, ...'}) "
            f"and a class, got {line[:120]!r}; correct it or drop the line"
        )
    return match["path"].strip(), match["label"].strip().strip('"').strip()


# ---------------------------------------------------------------------------- tables


def read_table(path: Path, *, required: Sequence[str]) -> tuple[Row, ...]:
    """Read a table with a header, whose columns a comma, a semicolon or a tab separates.

    The separator is the one under which the header holds the required columns: it is never guessed
    from the rows.

    Args:
        path: The file.
        required: Columns it must have, in lower case.

    Returns:
        Its rows in order, blank lines left out.

    Raises:
        DataError: The header lacks a required column or names one twice, or a row has more or fewer
            fields than the header (names the line).
    """
    text = read_text(path)
    delimiter, columns = _header_of(text, path=path, required=required)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    seen_header = False
    line = 1
    try:
        for fields in reader:
            where, line = f"{path.name}, line {line}", reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not seen_header:
                seen_header = True
                continue
            if len(fields) != len(columns):
                raise DataError(
                    f"{where}: a row must have {len(columns)} fields like the header, it has "
                    f"{len(fields)}; put fields that hold {delimiter!r} in double quotes"
                )
            values = {c: field.strip() for c, field in zip(columns, fields, strict=True)}
            rows.append(Row(where=where, values=values))
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {line}: the row can't be read: {error}; check its quotes"
        ) from error
    return tuple(rows)


def _header_of(text: str, *, path: Path, required: Sequence[str]) -> tuple[str, list[str]]:
    first = next((line for line in text.splitlines() if line.strip()), "")
    for delimiter in ",;\t":
        fields = next(csv.reader([first], delimiter=delimiter), [])
        columns = [field.strip().lower() for field in fields]
        if set(columns).issuperset(required):
            twice = {column for column in columns if columns.count(column) > 1}
            if twice:
                raise DataError(
                    f"{path.name}: columns must be named once, {sorted(twice)[0]!r} is there twice"
                )
            return delimiter, columns
    raise DataError(
        f"{path.name}, line 1: the header must name the columns {', '.join(required)} (separated "
        f"by comma, semicolon or tab), it is {first[:120]!r}"
    )


def _filled(row: Row, column: str) -> str:
    value = row.values[column]
    if not value:
        raise DataError(f"{row.where}: {column} must not be empty; fill it in or drop the line")
    return value


def _whole_seconds(row: Row, column: str) -> int:
    value = row.values[column]
    if not re.fullmatch(r"[0-9]+(\.0*)?", value):
        raise DataError(f"{row.where}: {column} must be whole seconds from 0 on, got {value!r}")
    return int(value.split(".")[0])

"""Files that can't be read, remembered so that nobody decodes them twice.

One JSON line a file in ``quarantine.jsonl`` below the cache folder, only ever appended to. It may
be edited or deleted by hand at any time: a line that is missing costs one more attempt, a broken
one is ignored. An entry holds for the very same bytes under the same file name (which stands in the
reason) and the same decoder, so a mended file or another version of the decoder is tried again.

The reason is the one that reading would give: a file enters for every reading only if no frame of
it decodes, in the same words, else for the one reading that failed; and only if the very bytes that
the entry names fail once more, so that a file that was being written is not condemned. So a run
that finds its failures here leaves the same record as one that decodes.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rsbench.data.fingerprints import Fingerprints
from rsbench.digests import digest_file, digest_json
from rsbench.errors import DiskError, MediaError
from rsbench.media import image, video
from rsbench.media.video.conversion import check_frame
from rsbench.media.video.decoding import decode_whole
from rsbench.specs import Item, Reading

FILE = "quarantine.jsonl"
"""Its name below the cache folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file that can't be read."""

    content: str
    """sha256 of its bytes."""
    name: str
    """Of the file, without its folder."""
    decoder: str
    """What failed to read it, with its version."""
    reading: str
    """Digest of the one reading that fails; empty where every one does."""
    reason: str
    """One line, as records have it."""
    id: str
    """Of the item as which it was met first."""
    first_seen: str
    """Day, as 2026-01-31."""


class Known(NamedTuple):
    """Which of the items asked for need not be read."""

    reasons: dict[int, str]
    """By row."""
    since: str
    """Day on which the first of them was seen; empty where there is none."""


class Quarantine:
    """The file of remembered failures."""

    def __init__(self, cache_root: Path) -> None:
        """Name the cache folder; the file is made when the first failure is remembered."""
        self.path = cache_root / FILE
        self._parsed: dict[tuple[str, ...], Entry] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._fingerprints = Fingerprints(cache_root / "fingerprints")

    def entries(self) -> tuple[Entry, ...]:
        """List what is remembered, each failure once, oldest first; broken lines are left out."""
        return tuple(self._by_key().values())

    def _by_key(self) -> Mapping[tuple[str, ...], Entry]:
        """Give the entries by what tells them apart; the file is parsed only if it changed."""
        try:
            facts = self.path.stat()
            stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
            if stamp == self._stamp:
                return self._parsed
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            self._parsed, self._stamp = {}, None
            return self._parsed
        except OSError as error:
            raise DiskError(
                f"Can't read {self.path}: {error.strerror or error}; mend its rights, or delete it:"
                " what it names is then tried again."
            ) from error
        self._parsed, self._stamp = {}, stamp
        for line in text.splitlines():
            self._take(line)
        return self._parsed

    def _take(self, line: str) -> None:
        entry = _entry_of(line)
        if entry is not None:
            self._parsed.setdefault(_key(entry), entry)

    def known(
        self,
        items: Sequence[Item],
        rows: Iterable[int],
        reading: Reading,
        *,
        reading_key: str | None,
    ) -> Known:
        """Find the items that are known to fail; only files of a remembered name are hashed.

        Args:
            items: The examples.
            rows: Which of them will be read.
            reading: How.
            reading_key: Digest of all that decides what is read of an item's bytes; None for random
                views, of which only files are known that fail in every reading.
        """
        entries = self._by_key()
        reasons: dict[int, str] = {}
        days: list[str] = []
        names = {entry.name for entry in entries.values()}
        if names and reading.read is None:
            decoder = decoder_of(reading)
            for row in rows:
                item = items[row]
                if isinstance(item.source, np.ndarray) or item.source.name not in names:
                    continue
                content = self._fingerprints.digest(item.source)
                own = () if reading_key is None else (_windowed(reading_key, item),)
                for scope in ("", *own):
                    entry = entries.get((content, item.source.name, decoder, scope))
                    if entry is not None:
                        reasons[row] = entry.reason
                        days.append(entry.first_seen)
                        break
        return Known(reasons, min(days, default=""))

    def add(
        self,
        item: Item,
        reason: str,
        reading: Reading,
        *,
        reading_key: str | None,
        read: Callable[[Item], object],
    ) -> bool:
        """Remember a failure that lies in an item's content, and shows again.

        Args:
            item: The item, whose source is a file; others are not remembered.
            reason: One line, as reading gave it.
            reading: How it was read. What a task reads itself is not remembered.
            reading_key: As for `known`; None for a random view, whose own failures are not
                remembered, only those of the whole file.
            read: Reads the item in this way once more, and fails or not.

        Returns:
            Whether it was remembered.

        Raises:
            DiskError: The file can't be written.
        """
        source = item.source
        if reading.read is not None or isinstance(source, np.ndarray) or not source.is_file():
            return False
        content = self._fingerprints.digest(source)
        if content.startswith("unreadable"):
            return False
        always = _fails_whole(source, reading) == reason
        if not always and (reading_key is None or _reason(read, item) != reason):
            return False
        try:
            if digest_file(source) != content:
                return False
        except OSError:
            return False
        entry = Entry(
            content=content,
            name=source.name,
            decoder=decoder_of(reading),
            reading="" if always else _windowed(reading_key or "", item),
            reason=reason,
            id=item.id,
            first_seen=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )
        if _key(entry) in self._by_key():
            return False
        self._append(json.dumps(asdict(entry)))
        return True

    def clear(self) -> int:
        """Forget everything; give how many failures were remembered."""
        number = len(self.entries())
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise DiskError(f"Can't delete {self.path}: {error.strerror or error}.") from error
        return number

    def _append(self, line: str) -> None:
        try:
            content = f"\n{line}\n".encode()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write to a file opened for appending: lines of two processes do not mix, and the
            # line break before it ends whatever a killed one left.
            with self.path.open("ab", buffering=0) as stream:
                stream.write(content)
                facts = os.fstat(stream.fileno())
                was = None if self._stamp is None else (self._stamp[0], self._stamp[1])
                if was == (facts.st_ino, facts.st_size - len(content)):
                    self._stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns)
                    self._take(line)
        except OSError as error:
            raise DiskError(
                f"Can't write {self.path}: {error.strerror or error};"
                " free some space or name another cache folder, then run the same command again."
            ) from error


def decoder_of(reading: Reading) -> str:
    """Name what turns bytes into pixels for a reading, with its version."""
    if reading.modality == "video":
        return video.decoder_version()
    return f"pillow-{importlib.metadata.version('pillow')}"


def _fails_whole(path: Path, reading: Reading) -> str | None:
    """Give the reason for which no frame of a file can be read, in any reading; None if one can."""
    read = _decode_one_frame if reading.modality == "video" else image.read_image
    return _reason(read, path)


class _Enough(Exception):
    """One frame decoded, and no more is asked."""


def _decode_one_frame(path: Path) -> None:
    """Fail as a decoding of the whole file does, and end at the first frame if there is one."""

    def take(place: int, frame: Any) -> None:  # noqa: ANN401 - av's, which only the reader imports
        del place
        check_frame(path, frame)
        raise _Enough

    with contextlib.suppress(_Enough):
        decode_whole(path, take)


def _reason(read: Callable[[Any], object], what: object) -> str | None:
    """Give the reason for which something can't be read, in one line; None if it can."""
    try:
        read(what)
    except MediaError as error:
        return " ".join(str(error).split())
    # What is not the content's fault is not remembered.
    except Exception:
        return None
    return None


def _windowed(reading_key: str, item: Item) -> str:
    return digest_json([reading_key, item.start_seconds, item.end_seconds])


def _key(entry: Entry) -> tuple[str, str, str, str]:
    return entry.content, entry.name, entry.decoder, entry.reading


def _entry_of(line: str) -> Entry | None:
    try:
        facts = json.loads(line)
    except ValueError:
        return None
    names = [field.name for field in fields(Entry)]
    if not isinstance(facts, dict) or any(not isinstance(facts.get(name), str) for name in names):
        return None
    return Entry(**{name: facts[name] for name in names})

"""Digests of what items hold, remembered so that a file is hashed once.

The memory is keyed by path, size and both time stamps; it only saves time, and the digest it gives
is the content's.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from rsbench.digests import digest_bytes, digest_file, digest_lines
from rsbench.errors import DiskError

_SETTLING_NANOSECONDS = 2_000_000_000
"""A file changed this recently may change again without its time stamp showing it (two seconds is
the coarsest clock among common file systems, FAT's): its digest is not remembered yet."""


class Fingerprints:
    """A memory of digests on disk.

    It is one file of JSON lines a folder of media, only ever appended to: a line that was cut short
    is ignored, and of two lines for one file the later holds.
    """

    def __init__(self, root: Path) -> None:
        """Name the folder of remembered digests; it is made when the first one is remembered."""
        self._root = root
        self._known: dict[Path, dict[str, list[Any]]] = {}

    def digest(self, source: Path | np.ndarray) -> str:
        """Give the digest of a file's bytes, of a folder's files, or of an array's values.

        A file that can't be read has a digest too, made of the reason: it changes when the file
        becomes readable.
        """
        if isinstance(source, np.ndarray):
            header = f"{source.dtype.str}\n{source.shape}\n".encode()
            return digest_bytes(header + np.ascontiguousarray(source).tobytes())
        try:
            if source.is_dir():
                files = sorted(path for path in source.rglob("*") if path.is_file())
                return digest_lines(
                    f"{path.relative_to(source).as_posix()} {self._file_digest(path)}"
                    for path in files
                )
            return self._file_digest(source)
        except OSError as error:
            return f"unreadable: {type(error).__name__}"

    def _file_digest(self, path: Path) -> str:
        path = path.absolute()
        facts = path.stat()
        stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        known = self._folder(path.parent)
        entry = known.get(path.name)
        if entry is not None and entry[:3] == stamp:
            return str(entry[3])
        found = digest_file(path)
        newest = max(facts.st_mtime_ns, facts.st_ctime_ns)
        if time.time_ns() - newest > _SETTLING_NANOSECONDS:
            known[path.name] = [*stamp, found]
            self._remember(path, known[path.name])
        return found

    def _folder(self, folder: Path) -> dict[str, list[Any]]:
        if folder not in self._known:
            entries: dict[str, list[Any]] = {}
            memory = self._memory(folder)
            text = memory.read_text(errors="replace") if memory.is_file() else ""
            for line in text.splitlines():
                try:
                    name, size, modified, changed, digest = json.loads(line)
                except (ValueError, TypeError):
                    continue
                entries[name] = [size, modified, changed, digest]
            self._known[folder] = entries
        return self._known[folder]

    def _remember(self, path: Path, entry: list[Any]) -> None:
        memory = self._memory(path.parent)
        line = "\n" + json.dumps([path.name, *entry]) + "\n"
        try:
            memory.parent.mkdir(parents=True, exist_ok=True)
            with memory.open("ab", buffering=0) as stream:
                stream.write(line.encode())
        except OSError as error:
            raise DiskError(
                f"Can't write {memory}: {error.strerror or error};"
                " free some space or name another cache folder, then run the same command again."
            ) from error

    def _memory(self, folder: Path) -> Path:
        return self._root / f"{digest_bytes(str(folder).encode())[:32]}.jsonl"

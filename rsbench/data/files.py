"""Files below a data root: which are media, walking them, and never leaving the root.

Lists come from strangers and are not trusted: an entry with ``..``, an absolute path elsewhere, or
a link that points outside would let a list read any file of the machine, and would give a number
that nobody else can make again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from rsbench.errors import DataError

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv"),
        *(".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".ogv"),
    }
)
"""Lower-case file name endings that are read as video."""

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
"""Lower-case file name endings that are read as a picture. Not .gif: it may be either."""


class RootGuard:
    """Keeps every path below one data root; remembers the folders it has looked at."""

    def __init__(self, root: Path) -> None:
        """Guard a root, an existing folder."""
        self.root = root
        self._real_root = os.path.realpath(root)
        self._real_folders: dict[str, str] = {}

    def locate(self, entry: str, *, bases: Sequence[Path], where: str) -> Path | None:
        """Find the file that a list entry names.

        Args:
            entry: Path as written in the list, relative or absolute.
            bases: Folders that a relative entry is tried under, in order.
            where: Names the line in errors: "val_list.txt, line 3".

        Returns:
            The file, or None if it is under none of the bases.

        Raises:
            DataError: The entry has a ``..`` part or leaves the root, itself or through a link.
        """
        return self._locate(entry, bases=bases, where=where, is_wanted=Path.is_file)

    def locate_folder(self, entry: str, *, bases: Sequence[Path], where: str) -> Path | None:
        """Find the folder that a list entry names; else as `locate`."""
        return self._locate(entry, bases=bases, where=where, is_wanted=Path.is_dir)

    def _locate(
        self, entry: str, *, bases: Sequence[Path], where: str, is_wanted: Callable[[Path], bool]
    ) -> Path | None:
        if not entry.strip() or any(character in entry for character in "\0\r\n"):
            raise DataError(f"{where}: a path must be given, got {entry!r}; mend or drop the line")
        if ".." in PurePosixPath(entry).parts:
            raise DataError(
                f"{where}: the path {entry!r} must stay below the data root {self.root} and has a "
                "'..' part; write it relative to the root"
            )
        if Path(entry).is_absolute():
            bases = (Path("/"),)
        for base in bases:
            candidate = base / entry
            try:
                self._refuse_outside(candidate, entry=entry, where=where)
                if is_wanted(candidate):
                    return candidate
            except OSError as error:
                raise DataError(
                    f"{where}: {entry[:120]!r} can't be looked up: {error.strerror}; correct it"
                ) from error
        return None

    def relative(self, path: Path) -> str:
        """Give a path below the root relative to it, with forward slashes."""
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return Path(self._real(path)).relative_to(self._real_root).as_posix()

    def walk(self, folder: Path) -> list[Path]:
        """List all files below a folder, sorted, without hidden ones.

        Links inside the root are followed, except to a folder that holds them.

        Raises:
            DataError: A link leaves the root, or a name is not UTF-8.
        """
        self._refuse_outside(folder, entry=folder.name, where=str(folder.parent))
        found: list[Path] = []
        self._walk_into(folder, (os.path.realpath(folder),), found)
        return found

    def subfolders(self, folder: Path) -> list[Path]:
        """List the visible folders directly in a folder, sorted by name.

        Raises:
            DataError: One of them is a link that leaves the root.
        """
        self._refuse_outside(folder, entry=folder.name, where=str(folder.parent))
        return [path for path, is_folder in self._entries(folder) if is_folder]

    def files(self, folder: Path) -> list[Path]:
        """List the visible files directly in a folder, sorted by name.

        Raises:
            DataError: One of them is a link that leaves the root.
        """
        self._refuse_outside(folder, entry=folder.name, where=str(folder.parent))
        return [path for path, is_folder in self._entries(folder) if not is_folder]

    def _walk_into(self, folder: Path, ancestors: tuple[str, ...], found: list[Path]) -> None:
        for path, is_folder in self._entries(folder):
            if not is_folder:
                found.append(path)
                continue
            real = os.path.realpath(path)
            if real not in ancestors:
                self._walk_into(path, (*ancestors, real), found)

    def _entries(self, folder: Path) -> list[tuple[Path, bool]]:
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
                visible = [entry for entry in listed if not entry.name.startswith(".")]
                kinds = [(entry.name, entry.is_symlink(), entry.is_dir()) for entry in visible]
        except OSError as error:
            raise DataError(
                f"{folder} must be a readable folder: {error.strerror}; check its name and rights"
            ) from error
        result = []
        for name, is_link, is_folder in kinds:
            path = folder / name
            if not name.isprintable() and _breaks_lines(name):
                raise DataError(
                    f"file names must be UTF-8 without line breaks, {str(path)!r} is not; rename it"
                )
            if is_link:
                self._refuse_outside(path, entry=name, where=str(folder))
            result.append((path, is_folder))
        return result

    def _refuse_outside(self, path: Path, *, entry: str, where: str) -> None:
        if not self._is_inside(self._real(path)):
            raise DataError(
                f"{where}: {entry!r} must lie below the data root {self.root} and leads to "
                f"{os.path.realpath(path)}; copy the file there, or point --data at a common root"
            )

    def _real(self, path: Path) -> str:
        parent = str(path.parent)
        if parent not in self._real_folders:
            self._real_folders[parent] = os.path.realpath(parent)
        if path.is_symlink():
            return os.path.realpath(path)
        return str(Path(self._real_folders[parent]) / path.name)

    def _is_inside(self, real: str) -> bool:
        return real == self._real_root or real.startswith(self._real_root.rstrip("/") + "/")


def _breaks_lines(name: str) -> bool:
    """Tell whether a name can't stand in a list of ids: undecodable bytes, or a line break."""
    return any(character in "\r\n" or "\udc80" <= character <= "\udcff" for character in name)

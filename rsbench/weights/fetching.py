"""Files of weights brought to the shelf: downloaded, or copied from where the user has them.

A file is given its name when it is whole and the one that it must be; before, it is called
``NAME.suffix.partial``. Of its content nothing is read but the container: no code in it runs.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from rsbench.digests import digest_file
from rsbench.errors import DiskError, WeightsError
from rsbench.weights import shelf
from rsbench.weights.containers import hold_whole
from rsbench.weights.downloading import (
    BLOCK_BYTES,
    DownloadError,
    Partial,
    Progress,
    check_room,
    download,
    opened,
    shown,
)
from rsbench.weights.shelf import HUB, HeldTo, Pin, Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A file on the shelf, and how it came there."""

    path: Path
    sha256: str
    size_bytes: int
    held_to: HeldTo
    was_here: bool
    """Nothing was brought: the file lay there already, and is the one it must be."""


def fetch(
    place: Place,
    *,
    source: Path | None = None,
    mirror: str | None = None,
    sha256: str | None = None,
    again: bool = False,
    progress: Progress = lambda done, total: None,
) -> Fetched:
    """Bring the file of known weights to its place, whole and checked, or leave nothing there.

    Args:
        place: Whose weights, and where they go.
        source: The file, or a folder that holds it under a name it is published by; None downloads.
        mirror: As in `rsbench.weights.shelf.address`.
        sha256: What the file must have, 8 to 64 hexadecimal digits, where nothing is declared.
        again: Take the file anew though one is here: that file, its pin and its conversion make way
            as soon as the new one is whole.
        progress: Called while bytes come in.

    Raises:
        WeightsError: It can't be reached (says what to download and where to put it), is another
            file than it must be, or another process is fetching it.
        DiskError: The disk has no room for it.
    """
    given = _digits(sha256)
    with _alone(place.raw.parent) as is_alone:
        if place.raw.is_file() and not again:
            return _already_here(place, given, source)
        # Where nobody can be kept out, the name is nobody else's.
        own = place.partial.with_suffix(f".{uuid.uuid4().hex}.partial")
        partial = Partial(place.partial if is_alone else own)
        try:
            if source is not None:
                found = _file_of(source, place)
                _copy(found, partial, progress)
                return _accept(
                    place, partial, given=given, origin=str(found.absolute()), again=again
                )
            url = _url_of(place, mirror)
            stated = _downloaded(url, place, partial, progress, is_given=bool(given))
            return _accept(place, partial, given=given, origin=url, again=again, stated=stated)
        finally:
            if not is_alone:
                partial.discard()


def _digits(sha256: str | None) -> str:
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{8,64}", sha256):
        raise WeightsError(
            f"--sha256 must be 8 to 64 hexadecimal digits, all or the first; it was {sha256!r}."
        )
    return (sha256 or "").lower()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Keep other fetches out of a folder; False where the file system knows no locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise DiskError(
            f"Can't make {folder}: {error.strerror or error}; name another cache with RSBENCH_CACHE"
            " and run the same command again."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            raise WeightsError(
                f"Another rsbench is fetching into {folder}: wait until it is done, then run the"
                " same command again."
            ) from None
        except OSError:
            is_alone = False
        yield is_alone
    finally:
        os.close(descriptor)


# --------------------------------------------------------------------------------- where it is from


def _url_of(place: Place, mirror: str | None) -> str:
    url = shelf.address(place.weights, mirror=mirror)
    if url is None:
        raise WeightsError(
            f"Weights {place.weights.name} of {place.network} have no address: get the file"
            f" ({place.weights.source or place.weights.package}) and give it with --from FILE."
        )
    if urlsplit(url).scheme not in {"http", "https"}:
        raise WeightsError(
            f"Weights are downloaded by http or https alone; the address is {shown(url)}."
        )
    if "@" in urlsplit(url).netloc:
        raise WeightsError(
            f"An address of weights must be without user and password; that of"
            f" {urlsplit(url).hostname} has them: download the file by other means and give it with"
            " --from FILE."
        )
    return url


def _published(place: Place) -> str:
    """Give the publisher's own address, whatever mirror there is."""
    url = place.weights.url or ""
    return url if "://" in url else shelf.address(place.weights, mirror=HUB) or ""


def _downloaded(
    url: str, place: Place, partial: Partial, progress: Progress, *, is_given: bool
) -> str:
    """Download, or say in one line how the file gets here all the same."""
    weights = place.weights
    try:
        return download(
            url,
            partial,
            size_bytes=weights.size_bytes,
            is_held=is_given or weights.sha256 is not None,
            progress=progress,
        )
    except DownloadError as error:
        if error.kind == "stopped":
            goes_on = "; it goes on from there" if partial.path == place.partial else ""
            raise WeightsError(
                f"The download of {url} stopped after {partial.num_bytes:,} bytes ({error}): run"
                f" the same command again{goes_on}."
            ) from error
        what = (
            f"{url} must be the file of {weights.name} and is none ({error})"
            if error.kind == "refused"
            else f"Can't reach {urlsplit(url).netloc} ({error})"
        )
        raise WeightsError(
            f"{what}: download {_published(place)} by other means and put the file at"
            f" {place.raw}, or give it with `rsbench weights fetch {place.network}"
            f" {weights.name} --from FILE`."
        ) from error


def _file_of(source: Path, place: Place) -> Path:
    """Find the file the user means: itself, or in a folder by one of its published names."""
    if source.is_file():
        return source
    published = PurePosixPath(urlsplit(shelf.address(place.weights) or "").path).name
    names = [*dict.fromkeys(filter(None, (place.raw.name, published)))]
    found = next((source / name for name in names if (source / name).is_file()), None)
    if found is None:
        must, was = (
            (f"must hold {' or '.join(names)}", "does not")
            if source.is_dir()
            else ("must be a file or a folder", "does not exist")
        )
        raise WeightsError(
            f"--from {source} {must} and {was}: name the file of {place.weights.name} itself."
        )
    return found


def _copy(source: Path, partial: Partial, progress: Progress) -> None:
    total, done = source.stat().st_size, 0
    partial.discard()
    check_room(partial.path.parent, total)
    with source.open("rb") as reader, opened(partial.path, "wb") as write:
        while block := reader.read(BLOCK_BYTES):
            write(block)
            done += len(block)
            progress(done, total)


# --------------------------------------------------------------------------- whether it is the one


def _already_here(place: Place, given: str, source: Path | None) -> Fetched:
    """Hold a file that lies there to what it must be; one that came by hand is pinned now."""
    pin, sha256 = shelf.read_pin(place), digest_file(place.raw)
    step = f"Get it by {shelf.fetch_again(place)}."
    held_to = shelf.hold(sha256, place.weights, pin, what=str(place.raw), next_step=step)
    if source is not None:
        found = _file_of(source, place)
        other = digest_file(found)
        if other != sha256:
            raise WeightsError(
                f"{found} must have sha256 {sha256} like {place.raw}, which is here; it has"
                f" {other}: to take it instead, add --again to the same command."
            )
    if not sha256.startswith(given):
        raise WeightsError(
            f"{place.raw} must have sha256 {given}, as --sha256 says; it has {sha256}. {step}"
        )
    if pin is None:
        _refuse_cut(place.raw, place, str(place.raw), step)
        held_to = _best(held_to, given=given)
        shelf.write_pin(
            place, pin_of(place.raw, sha256=sha256, origin=str(place.raw), held_to=held_to)
        )
    return _fetched(place, sha256, held_to, was_here=True)


def _accept(
    place: Place, partial: Partial, *, given: str, origin: str, again: bool, stated: str = ""
) -> Fetched:
    """Give a whole file its name if it is the one it must be; else keep nothing of it."""
    sha256 = digest_file(partial.path)
    kept = "Nothing was kept: get it from its publisher."
    try:
        for wanted, who in ((given, "--sha256"), (stated, "the server")):
            if not sha256.startswith(wanted):
                raise WeightsError(
                    f"{origin} must have sha256 {wanted}, as {who} says; it has {sha256}. {kept}"
                )
        pin = None if again else shelf.read_pin(place)
        held_to = shelf.hold(sha256, place.weights, pin, what=origin, next_step=kept)
        _refuse_cut(partial.path, place, origin, kept)
    except WeightsError:
        partial.discard()
        raise
    # A mirror's word on its own file proves that it came whole, not whose it is.
    held_to = _best(held_to, given=given, by_hub=bool(stated) and origin.startswith(f"{HUB}/"))
    if again and place.converted != place.raw:
        place.converted.unlink(missing_ok=True)
    if pin is None:
        # Before the file has its name: so no file of a fetch is ever without a pin.
        shelf.write_pin(place, pin_of(partial.path, sha256=sha256, origin=origin, held_to=held_to))
    partial.become(place.raw)
    return _fetched(place, sha256, held_to, was_here=False)


def _best(held_to: HeldTo, *, given: str, by_hub: bool = False) -> HeldTo:
    """Say the best that a file was held to."""
    if held_to in {"declared", "given", "hub"}:
        return held_to
    if len(given) == 64:
        return "given"
    if by_hub:
        return "hub"
    return "first digits" if given else held_to


def _refuse_cut(path: Path, place: Place, origin: str, next_step: str) -> None:
    """Refuse what is no file of the declared format, an error page for instance, or a part."""
    declared, size = place.weights.size_bytes, path.stat().st_size
    if declared is not None and size != declared:
        raise WeightsError(
            f"{origin} must have {declared:,} bytes to be {place.weights.name}; it has {size:,}."
            f" {next_step}"
        )
    hold_whole(path, place.weights.format, what=origin, next_step=next_step)


def pin_of(path: Path, *, sha256: str, origin: str, held_to: HeldTo) -> Pin:
    """Say of a file what its first fetch gives."""
    return Pin(
        sha256=sha256,
        origin=origin,
        size_bytes=path.stat().st_size,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        held_to=held_to,
    )


def _fetched(place: Place, sha256: str, held_to: HeldTo, *, was_here: bool) -> Fetched:
    return Fetched(
        path=place.raw,
        sha256=sha256,
        size_bytes=place.raw.stat().st_size,
        held_to=held_to,
        was_here=was_here,
    )

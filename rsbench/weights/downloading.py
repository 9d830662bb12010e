"""One file over http or https, gone on with where a connection broke.

What has come lies in the partial file, with a note of the URL and of the ETag or date under which
the server knows the file: only as long as that stays the same is a part gone on with (RFC 9110,
sections 13.1.5 and 14). Redirects to other schemes are refused; proxies are those of the
environment (``https_proxy``, ``no_proxy``), as urllib reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

import rsbench
from rsbench.atomic import write_atomically
from rsbench.errors import DiskError

Progress = Callable[[int, int], None]
"""Called as (bytes here, bytes in all)."""

PAUSES_SECONDS = (1.0, 4.0, 15.0)
"""How long is waited after each failure in a row that brought nothing, before giving up."""

TIMEOUT_SECONDS = 60.0
"""How long a silent server is waited for."""

BLOCK_BYTES = 1 << 20

_SHA256 = re.compile("[0-9a-f]{64}")


class DownloadError(Exception):
    """A download that came to nothing, or to a part."""

    def __init__(self, kind: Literal["unreachable", "stopped", "refused"], reason: str) -> None:
        """Say why.

        Args:
            kind: "unreachable": nothing ever came; "stopped": a part is kept, and another call goes
                on with it; "refused": the server has no such file, or leads elsewhere.
            reason: In a few words.
        """
        super().__init__(reason)
        self.kind = kind


class _CutError(Exception):
    """The connection ended or failed in a way that another try may mend."""


class Partial:
    """A file that is not whole yet, with a note of what it is a part of."""

    def __init__(self, path: Path) -> None:
        """Name the file; neither it nor its note has to exist."""
        self.path = path
        self._note = path.with_name(f"{path.name}.json")

    @property
    def num_bytes(self) -> int:
        """What is there."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def validator(self, url: str) -> str:
        """Give the ETag or date under which the part of this URL can be gone on with, or ""."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return str(note["validator"]) if note["url"] == url and self.num_bytes else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def begin(self, url: str, validator: str) -> None:
        """Forget what is there, and note what comes."""
        self.discard()
        write_atomically(self._note, json.dumps({"url": url, "validator": validator}).encode())

    def discard(self) -> None:
        """Remove the part and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def become(self, path: Path) -> None:
        """Give the whole file its name."""
        self.path.replace(path)
        self._note.unlink(missing_ok=True)


def shown(url: str) -> str:
    """Give an address as it may be printed: without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def download(
    url: str,
    partial: Partial,
    *,
    size_bytes: int | None,
    is_held: bool = False,
    progress: Progress,
) -> str:
    """Download until all of a file is there, however often the connection breaks.

    Args:
        url: http or https.
        partial: Where it goes; a part of the same file is gone on with.
        size_bytes: Of the file, if it is known: how long it is where the server does not say it.
        is_held: Whether the caller knows a sha256, by which a part is told from the whole. Else a
            file of unknown length is refused.
        progress: Called while bytes come in.

    Returns:
        The sha256 that huggingface.co states in the answer that redirects to a file; empty where
        the server states none.

    Raises:
        DownloadError: It came to nothing, or to a part.
        DiskError: The disk has no room for it.
    """
    return _Download(url, partial, size_bytes, is_held, progress).run()


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to http and https, never back from https; keeps what the hub states."""

    stated = ""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Any,  # noqa: ANN401 - as in urllib
        newurl: str,
    ) -> Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        is_secret = "@" in urlsplit(newurl).netloc
        if is_secret or after not in {"http", "https"} or (before, after) == ("https", "http"):
            fp.close()
            raise DownloadError("refused", f"it leads from {before} to {shown(newurl)}")
        linked = (headers.get("X-Linked-Etag") or "").strip('"')
        if _SHA256.fullmatch(linked):
            self.stated = linked
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Download:
    """One URL into one partial file."""

    def __init__(
        self,
        url: str,
        partial: Partial,
        size_bytes: int | None,
        is_held: bool,
        progress: Progress,
    ) -> None:
        self.url = url
        self.partial = partial
        self.size_bytes = size_bytes
        self.is_held = is_held
        self.num_begun = 0
        self.progress = progress
        self.received = False
        self._redirects = _Redirects()
        # Put together by hand: the usual opener also reads files, ftp and data addresses.
        self._opener = OpenerDirector()
        for handler in (
            ProxyHandler(),
            UnknownHandler(),
            HTTPHandler(),
            HTTPSHandler(),
            HTTPDefaultErrorHandler(),
            self._redirects,
            HTTPErrorProcessor(),
        ):
            self._opener.add_handler(handler)

    def run(self) -> str:
        num_failures = 0
        while True:
            before, num_begun = self.partial.num_bytes, self.num_begun
            try:
                self._try()
                return self._redirects.stated
            except _CutError as error:
                # What was begun again brings nothing nearer, however much of it comes each time.
                is_new = self.num_begun == num_begun or self.num_begun == 1
                is_nearer = is_new and self.partial.num_bytes > before
                num_failures = 0 if is_nearer else num_failures + 1
                is_offline = isinstance(error.__cause__, URLError) and not self.received
                if is_offline or num_failures >= len(PAUSES_SECONDS):
                    kind: Literal["stopped", "unreachable"] = (
                        "stopped" if self.partial.num_bytes else "unreachable"
                    )
                    raise DownloadError(kind, str(error)) from error
            time.sleep(PAUSES_SECONDS[num_failures])

    def _try(self) -> None:
        validator = self.partial.validator(self.url)
        offset = self.partial.num_bytes if validator else 0
        headers = {"User-Agent": f"rsbench/{rsbench.__version__}", "Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        try:
            request = Request(self.url, headers=headers)
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                self.received = True
                self._receive(response, offset, validator)
        except HTTPError as error:
            with error:
                self._answer_fault(error, offset)
        except (URLError, HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise _CutError(words) from error

    def _receive(self, response: HTTPResponse, offset: int, validator: str) -> None:
        """Write what comes behind what is there, or instead of it where the server sends all."""
        start, total = 0, _whole(response.headers.get("Content-Length"))
        if response.status == 206:
            start, total = _content_range(response.headers)
            if start != offset or not offset:
                self._begin_again(f"the server sent the part from {start}, asked for was {offset}")
            if _validator(response.headers) not in ("", validator):
                self._begin_again("the file on the server has changed")
        if total is None:
            total = self.size_bytes
        if total is None and not (self.is_held or self._redirects.stated):
            self.partial.discard()
            raise DownloadError(
                "refused", "the server does not say how long the file is; --sha256 would tell"
            )
        if response.status != 206:
            self.num_begun += 1
            self.partial.begin(self.url, _validator(response.headers))
        check_room(self.partial.path.parent, None if total is None else total - start)
        done = start
        with opened(self.partial.path, "ab") as write:
            while block := response.read(BLOCK_BYTES):
                write(block)
                done += len(block)
                if total is not None:
                    self.progress(done, max(done, total))
        if total is not None and done != total:
            raise _CutError(f"the connection ended after {done:,} of {total:,} bytes")

    def _answer_fault(self, error: HTTPError, offset: int) -> None:
        """Judge an answer that is no file; a part with nothing behind it is the whole file."""
        if error.code == 416 and offset:
            if _content_range(error.headers)[1] != offset:
                self._begin_again("the file on the server is not the one a part was loaded of")
            return
        if error.code == 429 or error.code >= 500:
            raise _CutError(f"the server answered {error.code} {error.reason}")
        if 300 <= error.code < 400:
            raise DownloadError(
                "refused", f"it leads to {shown(error.headers.get('Location', ''))}"
            )
        raise DownloadError("refused", f"the server answered {error.code} {error.reason}")

    def _begin_again(self, reason: str) -> None:
        self.partial.discard()
        self.num_begun += 1
        raise _CutError(reason)


def _validator(headers: Message) -> str:
    """Give what If-Range may name: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _content_range(headers: Message) -> tuple[int, int | None]:
    """Read "bytes 5-9/10" or "bytes */10": where the part begins, and bytes in all."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
    return (-1, None) if match is None else (int(match[1] or -1), _whole(match[2]))


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


# ---------------------------------------------------------------------------------------- the disk


def check_room(folder: Path, num_bytes: int | None) -> None:
    """Refuse what is larger than the disk's free space.

    Raises:
        DiskError: There is no room.
    """
    free = shutil.disk_usage(folder).free
    if num_bytes is not None and num_bytes > free:
        raise DiskError(
            f"{folder} must have room for {num_bytes:,} bytes and has {free:,}: free some space, or"
            " name another cache with RSBENCH_CACHE."
        )


@contextlib.contextmanager
def opened(path: Path, mode: Literal["ab", "wb"]) -> Iterator[Callable[[bytes], None]]:
    """Open a file to be written block by block, and flush it to the disk in the end.

    Raises:
        DiskError: The disk is full, or the folder can't be written.
    """

    def explained(error: OSError) -> DiskError:
        return DiskError(
            f"Can't write {path}: {error.strerror or error}; free some space, or name another cache"
            " with RSBENCH_CACHE, then run the same command again."
        )

    try:
        stream = path.open(mode)
    except OSError as error:
        raise explained(error) from error

    def write(block: bytes) -> None:
        try:
            stream.write(block)
        except OSError as error:
            raise explained(error) from error

    with stream:
        yield write
        try:
            stream.flush()
            os.fsync(stream.fileno())
        except OSError as error:
            raise explained(error) from error

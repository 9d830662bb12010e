"""One video after the other, in processes of their own: a file that kills one costs only itself."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import uuid
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rsbench.data.fingerprints import Fingerprints
from rsbench.digests import digest_file
from rsbench.errors import DiskError, MediaError
from rsbench.media.short_side import (
    Encoding,
    NotExactError,
    Shortened,
    container_suffix,
    remarks_on,
    shorten,
)
from rsbench.media.video import decoder_version

Status = Literal["resized", "small", "kept", "failed", "absent"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What became of one video."""

    path: str
    """Relative to both roots."""
    status: Status
    """"resized"; or copied as it is: "small" (not above the short side asked for), "kept" (no exact
    copy could be made) or "failed" (can't be read). "absent": it could not even be copied."""
    reason: str = ""
    """Of "kept", "failed" and "absent", one line."""
    remarks: tuple[str, ...] = ()
    """What is odd about an original that could be read, as runs on it remark: the copy of a video
    that lost its end is a healthy shorter one, and nobody else would say so."""
    source: str
    """sha256 of the original."""
    source_bytes: int
    output: str
    """sha256 of the copy."""
    output_bytes: int
    num_frames: int | None = None
    """Of a resized video, as height, width and psnr."""
    height: int | None = None
    width: int | None = None
    psnr: float | None = None
    """Decibels of luma of the worst compared frame; None where it is equal bit by bit."""
    encoder: str
    """What read and wrote it, with versions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be done for one video."""

    path: str
    source: Path
    target: Path
    partial: Path
    """Folder on the same disk for what is not whole yet."""
    encoding: Encoding
    cache_root: Path
    known: Entry | None
    """What became of it before, if anything."""


class Outcome(NamedTuple):
    """What became of a video, and whether that was so before."""

    entry: Entry
    was_done: bool


def encoder_version() -> str:
    """Name what reads and writes prepared videos, with versions."""
    return f"libx264 of {decoder_version()}"


def prepare_one(job: Job) -> Outcome:
    """Make the copy of one video, prove it, and move it to its place; or find it done.

    Raises:
        DiskError: The disk is full or can't be written.
    """
    fingerprints = Fingerprints(job.cache_root / "fingerprints")
    content = fingerprints.digest(job.source)
    if _is_done(job, content, fingerprints):
        assert job.known is not None
        return Outcome(job.known, was_done=True)
    try:
        before = job.source.stat()
        job.partial.mkdir(parents=True, exist_ok=True)
        partial = job.partial / f"{uuid.uuid4().hex}{container_suffix(job.path)}"
        status, reason, made = _shortened(job, partial)
        if made is None:
            shutil.copyfile(job.source, partial)
        remarks = () if status == "failed" else _remarks_on(job.source, made)
        after = job.source.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            partial.unlink()
            return Outcome(_absent(job, "it changed while it was read"), was_done=False)
        output = digest_file(partial)
        _move(partial, job.target)
    except OSError as error:
        return Outcome(_absent_or_full(job, error), was_done=False)
    entry = Entry(
        path=job.path,
        status=status,
        reason=reason,
        remarks=remarks,
        source=content,
        source_bytes=before.st_size,
        output=output,
        output_bytes=job.target.stat().st_size,
        num_frames=None if made is None else made.num_frames,
        height=None if made is None else made.height,
        width=None if made is None else made.width,
        psnr=None if made is None else made.psnr,
        encoder=encoder_version(),
    )
    return Outcome(entry, was_done=False)


def prepare_all(jobs: Sequence[Job], *, num_workers: int) -> Iterator[Outcome]:
    """Prepare videos in processes, each outcome as it comes.

    Args:
        jobs: One a video.
        num_workers: Processes; 0 works in this one, which a hostile file can then kill.

    Raises:
        DiskError: The disk is full or can't be written.
    """
    if num_workers == 0:
        yield from map(prepare_one, jobs)
        return
    waiting = deque(jobs)
    while waiting:
        suspects = yield from _until_one_dies(waiting, num_workers)
        for job in suspects:
            yield _alone(job)


def copy_whole(source: Path, target: Path, partial: Path) -> None:
    """Copy a file whole or not at all.

    Args:
        source: What to copy.
        target: Where to; its folder is made.
        partial: Folder on the same disk for what is not whole yet.

    Raises:
        DiskError: The source can't be read, or the disk can't take the copy.
    """
    try:
        partial.mkdir(parents=True, exist_ok=True)
        temporary = partial / uuid.uuid4().hex
        shutil.copyfile(source, temporary)
        _move(temporary, target)
    except OSError as error:
        raise DiskError(
            f"Can't copy {source} to {target}: {error.strerror or error}; mend that, then run the"
            " same command again."
        ) from error


def _shortened(job: Job, partial: Path) -> tuple[Status, str, Shortened | None]:
    try:
        made = shorten(job.source, partial, job.encoding)
    except NotExactError as error:
        return "kept", _one_line(error), None
    except MediaError as error:
        return "failed", _one_line(error), None
    return ("small" if made is None else "resized"), "", made


def _remarks_on(source: Path, made: Shortened | None) -> tuple[str, ...]:
    try:
        return remarks_on(source, made)
    except MediaError as error:
        return (_one_line(error),)


def _is_done(job: Job, content: str, fingerprints: Fingerprints) -> bool:
    return (
        job.known is not None
        and job.known.source == content
        and job.known.encoder == encoder_version()
        and job.target.is_file()
        and fingerprints.digest(job.target) == job.known.output
    )


def _move(partial: Path, target: Path) -> None:
    """Flush a whole file to the disk and put it in its place."""
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)


def _until_one_dies(waiting: deque[Job], num_workers: int) -> Generator[Outcome, None, list[Job]]:
    """Work in a pool until all is done, or a process of it dies; give the jobs it may have died of.

    Only as many are handed out as are worked on, so that few are under suspicion.
    """
    running: dict[Future[Outcome], Job] = {}
    # Not forked: the progress display of this process has threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < num_workers:
                    running[pool.submit(prepare_one, waiting[0])] = waiting[0]
                    waiting.popleft()
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            return [*running.values()]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return []


def _alone(job: Job) -> Outcome:
    """Prepare one video in a process of its own; one that kills it can't be read."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(prepare_one, job).result()
        except BrokenProcessPool:
            pass
    try:
        copy_whole(job.source, job.target, job.partial)
        entry = Entry(
            path=job.path,
            status="failed",
            reason="the process that read it died",
            source=digest_file(job.source),
            source_bytes=job.source.stat().st_size,
            output=digest_file(job.target),
            output_bytes=job.target.stat().st_size,
            encoder=encoder_version(),
        )
    except OSError as error:
        entry = _absent_or_full(job, error)
    return Outcome(entry, was_done=False)


def _absent_or_full(job: Job, error: OSError) -> Entry:
    """Give the entry of a video that can't be copied, if the fault is the source's.

    Raises:
        DiskError: It is the disk's.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) or job.target.parent == Path(
        error.filename or ""
    ):
        raise DiskError(
            f"Can't write {job.target}: {error.strerror}; free some space, then run the same"
            " command again: what is done stays."
        ) from error
    return _absent(job, error.strerror or type(error).__name__)


def _absent(job: Job, reason: str) -> Entry:
    return Entry(
        path=job.path,
        status="absent",
        reason=reason,
        source="",
        source_bytes=0,
        output="",
        output_bytes=0,
        encoder=encoder_version(),
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

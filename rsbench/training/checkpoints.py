"""What a training keeps on the disk, so that a kill at any moment costs minutes and no number.

A checkpoint lies beside its path, under a name that says whose it is and how far it came::

    finetune.3f2a9c01d4e7.000002-00000120.pt         2 whole epochs and 120 batches of the third
    finetune.3f2a9c01d4e7.000002-00000000.best.pt    the network that scored best, after 2 epochs

It is PyTorch's archive, read with `weights_only`: nothing in it is run. Each is written whole or
not at all, and the ones before it go only when it is on the disk. A file that was cut or altered
there is found by the checksums of the archive (PyTorch writes them and does not look at them) and
passed over for the one before it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

from rsbench.atomic import remove_stale, write_atomically
from rsbench.digests import digest_json
from rsbench.errors import RunError
from rsbench.training.memory import is_out_of_memory

_NAME = re.compile(r"(?P<epoch>\d{6,})-(?P<batch>\d{8,})(?P<best>\.best)?\.pt")
_FORMAT = 1
"""Of what the loop keeps; raised where it can't go on from what it kept before."""


class _DamagedError(Exception):
    """A file is not, or no longer, what was written under its name; says why."""


class Place(NamedTuple):
    """How far a training came; places compare as they follow each other."""

    epoch: int
    """Whole epochs behind it."""
    batch: int
    """Planned batches behind it of the epoch that it is in, the unreadable ones counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Where a training keeps its state, and how often."""

    path: Path
    """Its folder and the beginning of its name; one for each training of a run."""
    key: str
    """Digest of all that the run depends on: the state of another run is not gone on from."""
    write: Callable[[Path, bytes], None] = write_atomically
    """Writes a file whole or not at all."""
    keep: int = 1
    """Latest checkpoints that stay on the disk, at least 1."""
    seconds: float = 600.0
    """Longest time between two of them, at least 0; see `rsbench.training.pace`."""
    say: Callable[[str], None] = lambda line: None
    """Called with a line about each file that can't be gone on from."""

    @property
    def name(self) -> str:
        """Of this training and no other: how its files begin, and what its log is called."""
        return f"{self.path.stem}.{digest_json([_FORMAT, self.key])[:12]}"


def save(
    checkpoint: Checkpoint, state: Mapping[str, Any], place: Place, *, best: Place | None = None
) -> None:
    """Write the state of a training; then let go of what is no longer to be kept.

    What stays are the latest `checkpoint.keep` up to this place, each with its best network. Later
    ones go too: they are of a run that this one does not go on from.

    Args:
        checkpoint: Where it is kept.
        state: Tensors, numbers and text, in dicts, lists and tuples of any depth; the names
            "format", "key", "place" and "best" are taken.
        place: How far the training came.
        best: Where `save_best` was called last, if it was: at this place or before it.

    Raises:
        DiskError: The disk is full or the folder can't be written; what was there stays.
    """
    assert checkpoint.keep >= 1, checkpoint.keep
    assert state.keys().isdisjoint({"format", "key", "place", "best"}), state.keys()
    assert best is None or best <= place, (best, place)
    content = {**state, "place": tuple(place), "best": None if best is None else tuple(best)}
    _write(checkpoint, content, _path(checkpoint, place))
    _prune(checkpoint, place, best)


def load(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Read the latest state that is whole; None where there is none of this training.

    Args:
        checkpoint: Where it was kept.

    Returns:
        What `save` was given, with "place" and "best" (a `Place` or None), its tensors on the CPU:
        a device has room for what trains, and not always for as much again. The network of "best"
        can be read then.

    Raises:
        RunError: The disk does not give a file that is there. Nothing is known of its content
            then, and days of training are not thrown away for that.
    """
    for place, path in reversed(_files(checkpoint, is_best=False)):
        try:
            state = _read(checkpoint, path)
            best = None if state["best"] is None else Place(*state["best"])
            if best is not None:
                _read(checkpoint, _path(checkpoint, best, is_best=True))
        except _DamagedError as damage:
            checkpoint.say(
                f"the checkpoint {path} can't be gone on from ({damage}); the one before it is"
                " taken, or training begins anew"
            )
            continue
        return {**state, "place": place, "best": best}
    return None


def save_best(checkpoint: Checkpoint, tensors: Mapping[str, torch.Tensor], place: Place) -> None:
    """Write the network that scored best so far; it stays while a checkpoint speaks of it.

    Args:
        checkpoint: Beside which it is kept.
        tensors: The network's, by name.
        place: How far the training came; to be given to `save` as `best` from here on.

    Raises:
        DiskError: The disk is full or the folder can't be written; what was there stays.
    """
    _write(checkpoint, {"tensors": dict(tensors)}, _path(checkpoint, place, is_best=True))


def load_best(checkpoint: Checkpoint, place: Place) -> dict[str, torch.Tensor]:
    """Read what `save_best` wrote at a place; its tensors are on the CPU.

    Raises:
        RunError: It is no longer there, or no longer whole.
    """
    path = _path(checkpoint, place, is_best=True)
    try:
        tensors: dict[str, torch.Tensor] = _read(checkpoint, path)["tensors"]
    except _DamagedError as damage:
        raise RunError(
            f"The best network of a training must lie in {path} until it ends, whole, and does not"
            f" ({damage}); run the same command again."
        ) from damage
    return tensors


def _path(checkpoint: Checkpoint, place: Place, *, is_best: bool = False) -> Path:
    suffix = ".best.pt" if is_best else ".pt"
    return checkpoint.path.with_name(
        f"{checkpoint.name}.{place.epoch:06d}-{place.batch:08d}{suffix}"
    )


def _files(checkpoint: Checkpoint, *, is_best: bool) -> list[tuple[Place, Path]]:
    """Give this training's files by place, rising."""
    start, folder = f"{checkpoint.name}.", checkpoint.path.parent
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name.removeprefix(start))
        if path.name.startswith(start) and match and bool(match["best"]) == is_best:
            found.append((Place(int(match["epoch"]), int(match["batch"])), path))
    return sorted(found)


def _write(checkpoint: Checkpoint, content: dict[str, Any], path: Path) -> None:
    archive = io.BytesIO()
    torch.save({"format": _FORMAT, "key": checkpoint.key, **content}, archive)
    # Of a numpy number among floats, say, which could be written and never be read.
    archive.seek(0)
    unreadable = get_unsafe_globals_in_checkpoint(archive)
    assert not unreadable, f"read without running code, a checkpoint has none of {unreadable}"
    checkpoint.write(path, archive.getvalue())


def _read(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """Read a file of this training.

    Raises:
        _DamagedError: It is gone, or not that.
        RunError: The disk does not give it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise _DamagedError(f"there is no {path.name}") from error
    except OSError as error:
        raise RunError(
            f"The checkpoint {path} must be readable, and is not: {error.strerror or error}; mend"
            " that, or remove it to go on without it, then run the same command again."
        ) from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            altered = archive.testzip()
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    # Any bytes at all: what the two readers raise at them is not a closed set.
    except Exception as error:
        # That says nothing of the file, and days of training are not thrown away for it.
        if is_out_of_memory(error):
            raise
        raise _DamagedError(_in_words(error)) from error
    if altered is not None:
        raise _DamagedError(f"its part {altered} was altered")
    wanted = (_FORMAT, checkpoint.key)
    if not isinstance(found, dict) or (found.get("format"), found.get("key")) != wanted:
        raise _DamagedError("it is of another run")
    return {name: value for name, value in found.items() if name not in ("format", "key")}


def _prune(checkpoint: Checkpoint, place: Place, best: Place | None) -> None:
    """Remove what is not to be kept, once it is certain that the newest is on the disk."""
    _flush_names(checkpoint.path.parent)
    states = _files(checkpoint, is_best=False)
    kept = [each for each, _ in states if each <= place][-checkpoint.keep :]
    bests = _files(checkpoint, is_best=True)
    # A later one is of a run that was cut off before a checkpoint spoke of it.
    valid = [each for each, _ in bests if best is not None and each <= best]
    # Each checkpoint speaks of the last one up to its place.
    kept_bests = {max((each for each in valid if each <= last), default=None) for last in kept}
    for each, path in states:
        if each not in kept:
            path.unlink(missing_ok=True)
    for each, path in bests:
        if each not in kept_bests:
            path.unlink(missing_ok=True)
    remove_stale(checkpoint.path.parent)


def _flush_names(folder: Path) -> None:
    """Bring a folder's renames to the disk; some file systems can't, and order them anyway."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _in_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

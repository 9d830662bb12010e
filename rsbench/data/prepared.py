"""The mark of a root whose videos were made smaller: another form of media, said in the ruler.

`rsbench data prepare` writes it beside the copies; loaders of video tasks ask for it here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from rsbench.errors import DataError

MANIFEST = "rsbench-prepared.json"
"""Name of the file at a prepared root: a JSON object with "short_side" in pixels."""

UNKNOWN_RATE = (
    "the rate of the frames is not known: frames extracted at other rates do not compare, and "
    "samplers that count seconds (psf, psf_offset, ptv) assume 30 a second"
)
"""Note on folders of frames whose data set states no rate."""


_BEING_CHECKED: ContextVar[Path | None] = ContextVar("being_checked", default=None)


@contextlib.contextmanager
def taken_as_finished(root: Path) -> Iterator[None]:
    """Let the loaders of this thread read a root whose mark says unfinished, to check it."""
    token = _BEING_CHECKED.set(root.resolve())
    try:
        yield
    finally:
        _BEING_CHECKED.reset(token)


def prepared_form(root: Path) -> str | None:
    """Give the form of media of a prepared root, "short-256" for a short side of 256 pixels.

    Args:
        root: A data root.

    Returns:
        None for a root that nobody prepared.

    Raises:
        DataError: The mark is there and can't be understood, or says that it is not finished.
    """
    path = root / MANIFEST
    try:
        marked = json.loads(path.read_text(encoding="utf-8"))
        short_side, is_finished = marked["short_side"], marked.get("finished", True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _not_understood(path) from error
    if type(short_side) is not int or short_side < 1:
        raise _not_understood(path)
    if is_finished is not True and root.resolve() != _BEING_CHECKED.get():
        raise DataError(
            f"{root} is being prepared and not finished: some of its videos are not there yet; run "
            "rsbench data prepare again"
        )
    return f"short-{short_side}"


def video_form(root: Path, *, folders: bool = False, fps: float | None = None) -> str:
    """Give `Split.media` of a root: frames, prepared copies, or videos as they were published.

    Args:
        root: A data root.
        folders: Whether the items are folders of frames.
        fps: Frames per second of these, as the data set states them; None where nobody does.

    Returns:
        "original" or "short-256"; of folders "frames", "frames@12", "frames-short-256@12".

    Raises:
        DataError: The mark of a prepared root can't be understood.
    """
    prepared = prepared_form(root)
    if not folders:
        return prepared or "original"
    return "-".join(filter(None, ("frames", prepared))) + ("" if fps is None else f"@{fps:g}")


def _not_understood(path: Path) -> DataError:
    return DataError(
        f'{path} must be a JSON object with a whole "short_side" in pixels, and is not: without it '
        "the form of the videos is not known; run rsbench data prepare again"
    )

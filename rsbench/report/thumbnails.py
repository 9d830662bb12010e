"""Small pictures of items, to look at what a network told wrong; found and read as a run does.

A picture is of what lies under an item's id now; that it is what the run saw is for its record's
digests to say. Videos give three frames side by side, since one says nothing of motion.

Shape letters: T frames, H height, W width, C channels.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsbench.data.roots import find_root
from rsbench.data.sample import sample_root
from rsbench.errors import DataError, MediaError, RsbenchError
from rsbench.gathering import folds_of
from rsbench.media import image, video
from rsbench.media.frames import read_frame_clips
from rsbench.places import cache_root
from rsbench.registry import find_task, is_plain_name, split_sample
from rsbench.specs import Item, Modality, Task

HEIGHT = 96
"""Of a picture, in pixels."""
MAX_WIDTH = 320
"""Of a picture, its frames side by side."""
MAX_BYTES = 8_000
"""Of a picture as JPEG; one that would be larger is kept at lower quality."""
NUM_FRAMES = 3
"""Of a video."""

_QUALITIES = (80, 60, 40, 20)
_FRAMES_PER_SECOND = 30.0
"""Of arrays and folders of frames, which have no clock: it plays no part in which are chosen."""


class NoPicturesError(RsbenchError):
    """A task's items can't be shown; its text names no folder of the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumbnails:
    """Pictures of some items."""

    images: Mapping[str, str]
    """Id -> "data:image/jpeg;base64,..."; items without a picture are missing."""
    note: str
    """Why there are none, or not all; empty where each item has one."""


def thumbnails_of(
    task_name: str, split: str, items: Sequence[str], *, data: Path | None, limit: int
) -> Thumbnails:
    """Make small pictures of items, as far as their data is here.

    Args:
        task_name: Of a record, "@sample" included: the sample is then written if need be.
        split: Of a record; several splits are joined by "+".
        items: Ids. An id that several folds test is one item.
        data: The root that the user gave; None takes what is configured for the task.
        limit: Pictures at most; the first items come first.
    """
    wanted = list(dict.fromkeys(items))
    try:
        modality, found = _items_of(task_name, split, data)
    except NoPicturesError as error:
        return Thumbnails(images={}, note=f"No pictures: {error}")
    except (RsbenchError, OSError):
        # What it says may name folders of this machine, and a report is there to be shown around.
        note = (
            f"No pictures: the data of {task_name} can't be read here; `rsbench doctor` says why."
        )
        return Thumbnails(images={}, note=note)
    images: dict[str, str] = {}
    troubles: list[str] = []
    for name in wanted[:limit]:
        item = found.get(name)
        if item is None:
            troubles.append(f"{name} is not in the data")
            continue
        try:
            images[name] = _data_uri(_picture(item, modality))
        except RsbenchError as error:
            troubles.append(f"{name}: {' '.join(str(error).split())}")
        except OSError as error:
            troubles.append(f"{name}: {error.strerror}")
    if len(wanted) > limit:
        troubles.append(f"{len(wanted) - limit} more are not shown")
    return Thumbnails(images=images, note=_note(troubles))


def _note(troubles: Sequence[str]) -> str:
    if not troubles:
        return ""
    more = f" and {len(troubles) - 3} more" if len(troubles) > 3 else ""
    return f"Without picture: {'; '.join(troubles[:3])}{more}."


@functools.lru_cache(maxsize=4)
def _items_of(task_name: str, split: str, data: Path | None) -> tuple[Modality, Mapping[str, Item]]:
    """Find what the items of a record's split are, and these by id.

    Raises:
        RsbenchError: The task or its data can't be found or read, or it holds no pictures.
    """
    base, is_sample = split_sample(task_name)
    if not is_plain_name(base):
        raise NoPicturesError(f"{base} is a task of a file, and records name no files to be run.")
    known = find_task(base)
    task: Task = known.spec
    if task.modality == "volume" or task.read is not None:
        raise NoPicturesError(f"the items of {base} are no pictures or videos.")
    root = sample_root(task, cache_root()) if is_sample else _root(task, data)
    if known.for_root is not None:
        task = known.for_root(root)
    return task.modality, {item.id: item for item in _loaded(task, root, split.split("+"))}


def _loaded(task: Task, root: Path, splits: Sequence[str]) -> list[Item]:
    """Load the items of splits; of all the task has, where a run made its own of these."""
    try:
        return [item for name in splits for item in task.load(root, name).items]
    except DataError:
        folds = folds_of(task, root)
        names = dict.fromkeys(
            name for fold in folds for name in (fold.test, fold.train, fold.validation) if name
        )
        return [item for name in names for item in task.load(root, name).items]


def _root(task: Task, data: Path | None) -> Path:
    found = find_root(task, data)
    if found is None:
        raise NoPicturesError(f"no data of {task.name} is configured; name its folder with --data.")
    return found.path


def _picture(item: Item, modality: Modality) -> Image.Image:
    """Read an item as one small picture: an image, or frames of a video side by side.

    Raises:
        MediaError: It can't be read.
    """
    if modality == "image":
        return _shrunk(_pixels(item), MAX_WIDTH)
    frames = [_shrunk(frame_HWC, MAX_WIDTH // NUM_FRAMES) for frame_HWC in _frames(item)]
    strip = Image.new("RGB", (sum(each.width for each in frames), frames[0].height))
    left = 0
    for frame in frames:
        strip.paste(frame, (left, 0))
        left += frame.width
    return strip


def _pixels(item: Item) -> NDArray[np.uint8]:
    """Give an image as uint8 (H, W, 3)."""
    if isinstance(item.source, np.ndarray):
        return _checked(item.source, num_axes=3)
    return image.read_image(item.source)


def _frames(item: Item) -> NDArray[np.uint8]:
    """Give frames of a video as uint8 (T, H, W, 3), from the middles of as many equal parts."""
    if isinstance(item.source, np.ndarray):
        frames_THWC = _checked(item.source, num_axes=4)
        chosen_THWC: NDArray[np.uint8] = frames_THWC[_middles(len(frames_THWC), 0.0)[0]]
        return chosen_THWC
    if item.source.is_dir():
        clips = read_frame_clips(
            item.source, _middles, fps=item.fps or _FRAMES_PER_SECOND, num_listed=None
        )
    else:
        clips = video.read_clips(
            item.source,
            _middles,
            start_seconds=item.start_seconds,
            end_seconds=item.end_seconds,
        )
    return np.asarray(clips.frames[0])


def _middles(num_frames: int, frames_per_second: float) -> NDArray[np.int64]:
    """Choose one clip, (1, T): the middle frame of each of T equal parts of a video."""
    middles_T = (np.arange(NUM_FRAMES) + 0.5) * num_frames / NUM_FRAMES
    return middles_T.astype(np.int64)[None]


def _checked(source: NDArray[np.uint8], *, num_axes: int) -> NDArray[np.uint8]:
    if source.dtype != np.uint8 or source.ndim != num_axes or source.shape[-1] != 3:
        raise MediaError(f"its array is {source.dtype} {source.shape}, no picture")
    return source


def _shrunk(pixels_HWC: NDArray[np.uint8], max_width: int) -> Image.Image:
    """Bring a picture to `HEIGHT`, or to less where it would be wider than it may be."""
    picture = Image.fromarray(np.ascontiguousarray(pixels_HWC))
    factor = min(HEIGHT / picture.height, max_width / picture.width)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _data_uri(picture: Image.Image) -> str:
    """Write a picture as JPEG into a data URI."""
    content = b""
    for quality in _QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        content = stream.getvalue()
        if len(content) <= MAX_BYTES:
            break
    # The largest picture of nothing but noise takes 5.7 kB at the lowest quality.
    assert len(content) <= MAX_BYTES, "a picture is bounded by its height and width"
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"

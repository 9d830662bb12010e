"""From items to views, in this process or in workers, the same either way.

A bad file never stops the reading: it becomes a `Failure`'s reason beside the views of its
neighbours. What is wrong with the words of the run (an unknown sampler) does stop it.

Shape letters: B items of a batch, V views of an item (clips x crops), C channels, T frames,
H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rsbench.errors import DataError, MediaError, RsbenchError, RunError
from rsbench.media import augment, image, sampling, transforms, video
from rsbench.media.augment import Augmentation
from rsbench.specs import Item, Reading, Settings

_ARRAY_FRAMES_PER_SECOND = 30.0
"""An array has no clock. Samplers that count in seconds take it for video of this rate, the most
common one; those that count in frames do not look at it."""


class ReadFailure(NamedTuple):
    """An item that is present and can't be read."""

    row: int
    reason: str
    """One line."""
    lasting: bool
    """Whether the content is at fault, so that the same bytes would fail again; False for a
    machine out of memory or a disk that did not answer."""


class Batch(NamedTuple):
    """Consecutive items, read."""

    rows: tuple[int, ...]
    """Which items could be read, in order."""
    views: torch.Tensor | list[torch.Tensor]
    """uint8 or float32, as the resizer gives it: (B, V, C, T, H, W) or (B, V, C, H, W), one entry a
    row; a list of tensors where their shapes differ (what a task's own reader gives)."""
    failures: tuple[ReadFailure, ...]
    """The items among them that could not."""


class _Reading(NamedTuple):
    """What came of one item: its views, a failure, or a fault of the run itself."""

    row: int
    views: torch.Tensor | None = None
    failure: ReadFailure | None = None
    fault: RsbenchError | None = None


def read_views(item: Item, reading: Reading) -> torch.Tensor:
    """Read all views of one item. Nothing in it is random.

    Args:
        item: The example; its target is not looked at.
        reading: Which clips and crops, at which size. With `reading.read` set, the task reads.

    Returns:
        (V, C, T, H, W) for video, (V, C, H, W) for images, clips before crops: uint8, or float32
        for resizers that do not round. What `reading.read` gives, as it is, with one leading axis:
        (1, ...).

    Raises:
        MediaError: The file or array is not the image or video it must be.
        DataError: Items of this modality need a reader of the task's own, and there is none.
    """
    if reading.read is not None:
        return torch.from_numpy(np.ascontiguousarray(reading.read(item)))[None]
    if reading.modality == "image":
        frames_THWC = _image_pixels(item)[None]
        views_VCTHW = transforms.view_frames(frames_THWC, reading.input, reading.views.crops)
        return torch.from_numpy(views_VCTHW)[:, :, 0]
    if reading.modality == "video":
        return torch.from_numpy(transforms.stack_views(_clips(item, reading)))
    raise DataError(
        f"Items of modality {reading.modality!r} are read by their task, which must set"
        f" `Task.read`; item {item.id!r} came without it."
    )


def read_training_view(
    item: Item, reading: Reading, augmentation: Augmentation, *, seed: int
) -> torch.Tensor:
    """Read one random view of one item: a random dense clip and a random crop, alike in its frames.

    Args:
        item: The example; its target is not looked at.
        reading: Frames a clip and size of the input; its sampler and views are those of the test.
        augmentation: How far the view may differ from the item.
        seed: Equal seeds give equal views.

    Returns:
        uint8 (C, T, H, W) for video, (C, H, W) for images, whatever the resizer of the test; what
        `reading.read` gives, as it is.

    Raises:
        MediaError: The file or array is not the image or video it must be.
        DataError: Items of this modality need a reader of the task's own, and there is none.
    """
    if reading.read is not None or reading.modality == "volume":
        return read_views(item, reading)[0]
    crop_seed, clip_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    crop = partial(
        augment.random_crop, spec=reading.input, augmentation=augmentation, seed=crop_seed
    )
    if reading.modality == "image":
        return torch.from_numpy(crop(_image_pixels(item))).permute(2, 0, 1).contiguous()
    position = clip_seed / 2**32
    if isinstance(item.source, np.ndarray):
        frames_THWC = _clip_array(item, item.source)
        rows = augment.random_clip(len(frames_THWC), reading.clip, position=position)
        clip_THWC = np.stack([crop(frames_THWC[row]) for row in rows])
    else:
        clip_THWC = augment.read_random_clip(
            item.source,
            reading.clip,
            position=position,
            start_seconds=item.start_seconds,
            end_seconds=item.end_seconds,
            transform=crop,
        )
    return torch.from_numpy(clip_THWC).permute(3, 0, 1, 2).contiguous()


def items_per_batch(reading: Reading, settings: Settings) -> int:
    """Give how many items share a batch: as many as fit `settings.batch_size` views, at least 1."""
    return max(1, settings.batch_size // views_per_item(reading))


def views_per_item(reading: Reading) -> int:
    """Give V: clips times crops; one clip for images; 1 for what a task reads itself."""
    if reading.read is not None:
        return 1
    if reading.modality == "image":
        return reading.views.crops
    return reading.views.num_views


def batches(
    items: Sequence[Item],
    reading: Reading,
    settings: Settings,
    *,
    rows: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Read items for testing, in order, every one exactly once, the last batch however small.

    Args:
        items: The examples.
        reading: Which views of them.
        settings: Batch size in views, workers, device. They do not change what is read.
        rows: Which of the items, in order; None is all.

    Yields:
        `items_per_batch` items at a time, those that can't be read among `Batch.failures`.

    Raises:
        RunError: A worker process died.
        RsbenchError: The reading itself is at fault, whatever the item.
    """
    size = items_per_batch(reading, settings)
    wanted = range(len(items)) if rows is None else rows
    plan = [list(wanted[start : start + size]) for start in range(0, len(wanted), size)]
    yield from _read(partial(_test_views, items=items, reading=reading), plan, settings)


def training_batches(
    items: Sequence[Item],
    reading: Reading,
    settings: Settings,
    *,
    plan: Sequence[Sequence[int]],
    augmentation: Augmentation,
    seed: int,
    epoch: int,
) -> Iterator[Batch]:
    """Read one epoch of random views, each following from (seed, epoch, row) alone.

    Args:
        items: The examples.
        reading: Frames a clip and size of the input.
        settings: Workers and device; its batch size is not looked at.
        plan: Rows of each batch.
        augmentation: How far views may differ from the items.
        seed: Of the run, at least 0.
        epoch: At least 0.

    Yields:
        One batch an entry of `plan`; its views have no axis V: (B, C, T, H, W) or (B, C, H, W).

    Raises:
        RunError: A worker process died.
        RsbenchError: The reading itself is at fault, whatever the item.
    """
    read = partial(
        _training_view,
        items=items,
        reading=reading,
        augmentation=augmentation,
        seed_and_epoch=(seed, epoch),
    )
    yield from _read(read, plan, settings)


@contextmanager
def dead_workers_named() -> Iterator[None]:
    """Name the death of a worker, which PyTorch raises wherever the main process is.

    Raises:
        RunError: A worker process died while the block ran.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunError(
            f"A reading process died ({_one_line(error)}): it may have run out of memory or of"
            " shared memory (/dev/shm); run the same command again with fewer workers, 0 for none."
        ) from error


class _Rows(Dataset[_Reading]):
    """Items by row, each read when asked for; reading never raises."""

    def __init__(self, read: Callable[[int], torch.Tensor]) -> None:
        self._read = read

    def __getitem__(self, row: int) -> _Reading:
        try:
            return _Reading(row, views=self._read(row))
        except MediaError as error:
            return _Reading(row, failure=ReadFailure(row, _one_line(error), lasting=True))
        except RsbenchError as error:
            return _Reading(row, fault=error)
        # A task's own reader, or a codec library met with hostile bytes, may raise anything: one
        # item must not stop the others, and the reason keeps its type.
        except Exception as error:
            reason = f"{type(error).__name__}: {_one_line(error)}"
            return _Reading(row, failure=ReadFailure(row, reason, lasting=False))


def _test_views(row: int, *, items: Sequence[Item], reading: Reading) -> torch.Tensor:
    return read_views(items[row], reading)


def _training_view(
    row: int,
    *,
    items: Sequence[Item],
    reading: Reading,
    augmentation: Augmentation,
    seed_and_epoch: tuple[int, int],
) -> torch.Tensor:
    seed = int(np.random.SeedSequence([*seed_and_epoch, row]).generate_state(1)[0])
    return read_training_view(items[row], reading, augmentation, seed=seed)


def _read(
    read: Callable[[int], torch.Tensor], plan: Sequence[Sequence[int]], settings: Settings
) -> Iterator[Batch]:
    loader = DataLoader(
        _Rows(read),
        batch_sampler=cast("Sequence[list[int]]", plan),
        num_workers=min(settings.num_workers, len(plan)),
        collate_fn=_collate,
        pin_memory=torch.device(settings.device).type == "cuda",
        # Its own generator: otherwise a loader draws from the global one, and what follows in this
        # process would depend on how often data was read.
        generator=torch.Generator(),
    )
    with dead_workers_named():
        for rows, views, failures, fault in loader:
            if fault is not None:
                raise fault
            yield Batch(tuple(rows), views, tuple(failures))


def _collate(
    readings: Sequence[_Reading],
) -> tuple[
    list[int],
    torch.Tensor | list[torch.Tensor],
    list[ReadFailure],
    RsbenchError | None,
]:
    """Stack what was read, in the worker: one tensor a batch crosses to the main process."""
    views = [reading.views for reading in readings if reading.views is not None]
    alike = len({(each.shape, each.dtype) for each in views}) == 1
    return (
        [reading.row for reading in readings if reading.views is not None],
        torch.stack(views) if alike else views,
        [reading.failure for reading in readings if reading.failure is not None],
        next((reading.fault for reading in readings if reading.fault is not None), None),
    )


def _image_pixels(item: Item) -> np.ndarray:
    if not isinstance(item.source, np.ndarray):
        return image.read_image(item.source)
    return _checked(item, item.source, axes="(H, W, 3)")


def _clip_array(item: Item, source: np.ndarray) -> np.ndarray:
    if item.start_seconds is not None or item.end_seconds is not None:
        raise MediaError(
            f"Item {item.id!r} is an array, which has no clock: cut it to its frames instead of"
            " giving start and end in seconds."
        )
    return _checked(item, source, axes="(T, H, W, 3)")


def _checked(item: Item, source: np.ndarray, *, axes: str) -> np.ndarray:
    wanted = axes.count(",") + 1
    if (
        source.dtype != np.uint8
        or source.ndim != wanted
        or source.shape[-1] != 3
        or not source.size
    ):
        raise MediaError(
            f"Item {item.id!r} must be a uint8 array {axes}; it is {source.dtype} {source.shape}."
        )
    return source


def _clips(item: Item, reading: Reading) -> np.ndarray:
    """Give the clips of a video, each frame as its crops: (clips, T, crops, h, w, 3)."""
    view = partial(transforms.view_frame, input=reading.input, num_crops=reading.views.crops)
    choose = sampling.chooser(reading.sampler, clip=reading.clip, num_clips=reading.views.clips)
    if isinstance(item.source, np.ndarray):
        frames_THWC = _clip_array(item, item.source)
        chosen = choose(len(frames_THWC), _ARRAY_FRAMES_PER_SECOND)
        viewed = {row: view(frames_THWC[row]) for row in np.unique(chosen).tolist()}
        return np.stack([np.stack([viewed[row] for row in clip]) for clip in chosen.tolist()])
    return video.read_clips(
        item.source,
        choose,
        start_seconds=item.start_seconds,
        end_seconds=item.end_seconds,
        transform=view,
    ).frames


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

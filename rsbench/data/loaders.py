"""From items to views, in this process or in workers, the same either way.

A bad file never stops the reading: it becomes a `Failure`'s reason beside the views of its
neighbours. What is wrong with the words of the run (an unknown sampler) does stop it.

Shape letters: B items of a batch, V views of an item (clips x crops), C channels, T frames,
H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rsbench.data.clip_cache import CachedViews
from rsbench.data.quarantine import Quarantine
from rsbench.data.readings import reading_facts
from rsbench.data.remembered import Remembered, remember
from rsbench.data.workers import prepare_worker, signals_held
from rsbench.digests import digest_json
from rsbench.errors import DataError, MediaError, RsbenchError, RunError
from rsbench.media import augment, image, sampling, transforms, video
from rsbench.media.augment import Augmentation
from rsbench.media.frames import read_frame_clips
from rsbench.media.looking import Look
from rsbench.media.random_sampling import random_chooser
from rsbench.media.video import Choose, Clips, Transform
from rsbench.specs import Item, MediaFacts, Reading, Settings

_FRAMES_PER_SECOND = 30.0
"""Rate of what has no clock: an array, and a folder of frames whose item names none. Samplers that
count in seconds take it for video of this rate, the most common one; those that count in frames do
not look at it."""


class ItemViews(NamedTuple):
    """One item, read."""

    views: torch.Tensor
    """As `read_views` gives them; without the axis V where one random view was asked for."""
    facts: MediaFacts


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
    facts: tuple[MediaFacts, ...]
    """What was found of each item that could be read: one entry a row."""


class _Reading(NamedTuple):
    """What came of one item: its views with its facts, a failure, or a fault of the run itself."""

    row: int
    views: torch.Tensor | None = None
    facts: MediaFacts | None = None
    failure: ReadFailure | None = None
    fault: RsbenchError | None = None


def read_views(item: Item, reading: Reading) -> torch.Tensor:
    """Give the views of `read_item` alone."""
    return read_item(item, reading).views


def read_item(item: Item, reading: Reading, *, index_file: Path | None = None) -> ItemViews:
    """Read all views of one item, and what is to be known of it. Nothing in it is random.

    Args:
        item: The example; its target is not looked at.
        reading: Which clips and crops, at which size. With `reading.read` set, the task reads.
        index_file: Where the packet index of a video's content is kept, or is to be.

    Returns:
        Views (V, C, T, H, W) for video, (V, C, H, W) for images, clips before crops: uint8, or
        float32 for resizers that do not round. What `reading.read` gives, as it is, with one
        leading axis: (1, ...).

    Raises:
        MediaError: The file or array is not the image or video it must be.
        DataError: Items of this modality need a reader of the task's own, and there is none.
    """
    if reading.read is not None:
        own = torch.from_numpy(np.ascontiguousarray(reading.read(item)))[None]
        return ItemViews(own, _still_facts(0, 0))
    if reading.modality == "image":
        pixels_HWC = _image_pixels(item)
        views_VCTHW = transforms.view_frames(
            pixels_HWC[None], reading.input, reading.views.crops, reading.cropper
        )
        return ItemViews(
            torch.from_numpy(views_VCTHW)[:, :, 0], _still_facts(*pixels_HWC.shape[:2])
        )
    if reading.modality == "video":
        choose = sampling.chooser(reading.sampler, clip=reading.clip, num_clips=reading.views.clips)
        view = transforms.FrameViews(
            input=reading.input, num_crops=reading.views.crops, cropper=reading.cropper
        )
        frames, facts = _read_clips(item, choose, view, index_file)
        return ItemViews(torch.from_numpy(transforms.stack_views(frames)), facts)
    raise DataError(
        f"Items of modality {reading.modality!r} are read by their task, which must set"
        f" `Task.read`; item {item.id!r} came without it."
    )


def read_training_item(
    item: Item,
    reading: Reading,
    augmentation: Augmentation,
    *,
    seed: int,
    index_file: Path | None = None,
) -> ItemViews:
    """Read one random view of one item: a random clip, cropped and distorted alike in its frames.

    Args:
        item: The example; its target is not looked at.
        reading: Frames a clip and size of the input; its sampler and views are those of the test.
        augmentation: How far the view may differ from the item.
        seed: Equal seeds give equal views.
        index_file: Where the packet index of a video's content is kept, or is to be.

    Returns:
        uint8 (C, T, H, W) for video, (C, H, W) for images, whatever the resizer of the test; what
        `reading.read` gives, as it is.

    Raises:
        MediaError: The file or array is not the image or video it must be.
        DataError: Items of this modality need a reader of the task's own, and there is none.
        RsbenchError: The augmentation is out of range.
    """
    if reading.read is not None or reading.modality == "volume":
        found = read_item(item, reading)
        return ItemViews(found.views[0], found.facts)
    # The first word that follows from the seed; the sampler of random clips takes the later ones.
    crop_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    crop = partial(
        augment.random_crop, spec=reading.input, augmentation=augmentation, seed=crop_seed
    )
    if reading.modality == "image":
        pixels_HWC = _image_pixels(item)
        picture_CHW = torch.from_numpy(crop(pixels_HWC)).permute(2, 0, 1)
        view = augment.distorted(picture_CHW, reading.input, augmentation, seed=seed)
        return ItemViews(view.contiguous(), _still_facts(*pixels_HWC.shape[:2]))
    choose = random_chooser(augmentation.clip_sampler, clip=reading.clip, seed=seed)
    frames, facts = _read_clips(item, choose, crop, index_file)
    clip_CTHW = torch.from_numpy(frames[0]).permute(3, 0, 1, 2).contiguous()
    return ItemViews(augment.distorted(clip_CTHW, reading.input, augmentation, seed=seed), facts)


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
    lookup: Lookup | None = None,
) -> Iterator[Batch]:
    """Read items for testing, in order, every one exactly once, the last batch however small.

    Args:
        items: The examples.
        reading: Which views of them.
        settings: Batch size in views, workers, device. They do not change what is read.
        rows: Which of the items, in order; None is all.
        lookup: Made for these rows and perhaps others of the same items; None makes one.

    Yields:
        `items_per_batch` items at a time, those that can't be read among `Batch.failures`.

    Raises:
        RunError: A worker process died.
        RsbenchError: The reading itself is at fault, whatever the item.
    """
    size = items_per_batch(reading, settings)
    wanted = range(len(items)) if rows is None else rows
    plan = [list(wanted[start : start + size]) for start in range(0, len(wanted), size)]
    if lookup is None:
        lookup = Lookup(items, reading, settings, rows=wanted, is_random=False)
    yield from _read(partial(_test_views, lookup.found, reading), plan, settings, lookup)


def training_batches(
    items: Sequence[Item],
    reading: Reading,
    settings: Settings,
    *,
    plan: Sequence[Sequence[int]],
    augmentation: Augmentation,
    seed: int,
    epoch: int,
    lookup: Lookup | None = None,
) -> Iterator[Batch]:
    """Read one epoch of random views, each following from (seed, epoch, row) alone.

    Args:
        items: The examples.
        reading: Frames a clip and size of the input.
        settings: Workers and device; its batch size is not looked at.
        plan: Rows of each batch. Rows go on beyond the items: with N items, row N + n is item n
            again, in the epoch after, so that one call may read batches of several short epochs.
            What is given back names items by their own row.
        augmentation: How far views may differ from the items.
        seed: Of the run, at least 0.
        epoch: At least 0.
        lookup: Made once for all epochs of a run, of the same items; None makes one for this epoch.

    Yields:
        One batch an entry of `plan`; its views have no axis V: (B, C, T, H, W) or (B, C, H, W).

    Raises:
        RunError: A worker process died.
        RsbenchError: The reading itself is at fault, whatever the item.
    """
    if lookup is None:
        rows = sorted({row % len(items) for batch in plan for row in batch})
        lookup = Lookup(items, reading, settings, rows=rows, is_random=True)
    read = partial(
        _training_view,
        lookup.found,
        reading,
        augmentation=augmentation,
        seed_and_epoch=(seed, epoch),
    )
    yield from _read(read, plan, settings, lookup)


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

    def __init__(
        self, read: Callable[[int], ItemViews], known: Mapping[int, str], *, num_items: int
    ) -> None:
        self._read = read
        self._known = known
        self._num_items = num_items

    def __getitem__(self, planned: int) -> _Reading:
        # Rows beyond the items are these again, in later epochs.
        row = planned % self._num_items
        if row in self._known:
            return _Reading(row, failure=ReadFailure(row, self._known[row], lasting=True))
        try:
            views, facts = self._read(planned)
            return _Reading(row, views=views, facts=facts)
        except MediaError as error:
            return _Reading(row, failure=ReadFailure(row, _one_line(error), lasting=True))
        except RsbenchError as error:
            return _Reading(row, fault=error)
        # A task's own reader, or a codec library met with hostile bytes, may raise anything: one
        # item must not stop the others, and the reason keeps its type.
        except Exception as error:
            reason = f"{type(error).__name__}: {_one_line(error)}"
            return _Reading(row, failure=ReadFailure(row, reason, lasting=False))


class Lookup:
    """What is known of the items of a run, and where it is written down what is found out."""

    def __init__(
        self,
        items: Sequence[Item],
        reading: Reading,
        settings: Settings,
        *,
        rows: Sequence[int],
        is_random: bool,
    ) -> None:
        """Look the items up, and say how many are known to fail.

        Args:
            items: The examples.
            reading: How they are read.
            settings: Cache folder, and how to say something.
            rows: Which of them will be read.
            is_random: Whether random views are read of them.
        """
        self._reading = reading
        self._is_random = is_random
        self._key = digest_json(reading_facts(reading))
        self._quarantine = Quarantine(settings.cache_root)
        self.found = remember(
            items,
            reading,
            settings,
            rows=rows,
            quarantine=self._quarantine,
            reading_key=None if is_random else self._key,
            is_random=is_random,
        )
        known = self.found.known
        if known.reasons:
            number = len(known.reasons)
            what = "1 unreadable item" if number == 1 else f"{number} unreadable items"
            verb = "is" if number == 1 else "are"
            settings.say(
                f"{what} known since {known.since} {verb} not tried again, named in"
                f" {self._quarantine.path} (rsbench data quarantine)"
            )

    def note(self, failures: Sequence[ReadFailure]) -> None:
        """Remember what lies in the content of the items."""
        for failure in failures:
            if failure.lasting and failure.row not in self.found.known.reasons:
                is_new = self._quarantine.add(
                    self.found.items[failure.row],
                    failure.reason,
                    self._reading,
                    reading_key=None if self._is_random else self._key,
                    read=partial(read_item, reading=self._reading),
                )
                if is_new:
                    # The next epoch need not try it again.
                    self.found.known.reasons[failure.row] = failure.reason


def _test_views(found: Remembered, reading: Reading, row: int) -> ItemViews:
    kept = found.cached(row)
    if kept is not None:
        return ItemViews(*kept)
    read = _indexed(
        found, row, lambda index_file: read_item(found.items[row], reading, index_file=index_file)
    )
    found.keep(row, CachedViews(*read))
    return read


def _training_view(
    found: Remembered,
    reading: Reading,
    planned: int,
    *,
    augmentation: Augmentation,
    seed_and_epoch: tuple[int, int],
) -> ItemViews:
    epochs_later, row = divmod(planned, len(found.items))
    words = [seed_and_epoch[0], seed_and_epoch[1] + epochs_later, row]
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    return _indexed(
        found,
        row,
        lambda index_file: read_training_item(
            found.items[row], reading, augmentation, seed=seed, index_file=index_file
        ),
    )


def _indexed(found: Remembered, row: int, read: Callable[[Path | None], ItemViews]) -> ItemViews:
    """Read with the index of an item's content, unless the file is replaced meanwhile."""
    index_file = found.index_file(row)
    if index_file is None:
        return read(None)
    try:
        views = read(index_file)
    except Exception:
        if found.index_file(row) is not None:
            raise
    else:
        if found.index_file(row) is not None:
            return views
    # Its bytes are not those that were hashed: the index may have been made of the new ones, or
    # the new ones read by the index of the old.
    with suppress(OSError):
        index_file.unlink()
    return read(None)


def _read(
    read: Callable[[int], ItemViews],
    plan: Sequence[Sequence[int]],
    settings: Settings,
    lookup: Lookup,
) -> Iterator[Batch]:
    loader = DataLoader(
        _Rows(read, lookup.found.known.reasons, num_items=len(lookup.found.items)),
        batch_sampler=cast("Sequence[list[int]]", plan),
        num_workers=min(settings.num_workers, len(plan)),
        collate_fn=_collate,
        pin_memory=torch.device(settings.device).type == "cuda",
        worker_init_fn=prepare_worker,
        # Its own generator: otherwise a loader draws from the global one, and what follows in this
        # process would depend on how often data was read.
        generator=torch.Generator(),
    )
    with dead_workers_named():
        with signals_held():
            readings = iter(loader)
        for rows, views, failures, facts, fault in readings:
            if fault is not None:
                raise fault
            lookup.note(failures)
            yield Batch(tuple(rows), views, tuple(failures), tuple(facts))


def _collate(
    readings: Sequence[_Reading],
) -> tuple[
    list[int],
    torch.Tensor | list[torch.Tensor],
    list[ReadFailure],
    list[MediaFacts],
    RsbenchError | None,
]:
    """Stack what was read, in the worker: one tensor a batch crosses to the main process."""
    views = [reading.views for reading in readings if reading.views is not None]
    alike = len({(each.shape, each.dtype) for each in views}) == 1
    return (
        [reading.row for reading in readings if reading.views is not None],
        torch.stack(views) if alike else views,
        [reading.failure for reading in readings if reading.failure is not None],
        [reading.facts for reading in readings if reading.facts is not None],
        next((reading.fault for reading in readings if reading.fault is not None), None),
    )


def _image_pixels(item: Item) -> np.ndarray:
    if not isinstance(item.source, np.ndarray):
        return image.read_image(item.source)
    return _checked(item, item.source, axes="(H, W, 3)")


def _clip_array(item: Item, source: np.ndarray) -> np.ndarray:
    _refuse_seconds(item, "an array")
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
    # A task may give parts of a mapped file, or one grey plane seen as three: views may be written.
    return np.require(source, requirements="W")


class _NotingSize:
    """A transform that remembers how large the pictures were."""

    def __init__(self, transform: Transform) -> None:
        self._transform = transform
        self.size = (0, 0)

    def __call__(self, frame: video.Pixels) -> video.Kept:
        height, width = frame.shape[:2]
        self.size = (height, width)
        return self._transform(frame)

    def look(self, height: int, width: int) -> Look | None:
        """Say what the transform says that it looks at."""
        self.size = (height, width)
        look = getattr(self._transform, "look", None)
        return None if look is None else cast(Look, look(height, width))


def _read_clips(
    item: Item, choose: Choose, transform: Transform, index_file: Path | None
) -> tuple[video.Kept, MediaFacts]:
    """Read the chosen clips of an item, each frame transformed: (clips, T, ...), and its facts."""
    noting = _NotingSize(transform)
    clips = _clips_of(item, choose, noting, index_file)
    height, width = noting.size
    facts = MediaFacts(
        num_frames=clips.num_frames,
        fps=clips.fps,
        height=height,
        width=width,
        remarks=clips.remarks,
    )
    return clips.frames, facts


def _clips_of(item: Item, choose: Choose, transform: Transform, index_file: Path | None) -> Clips:
    """Read an array, a folder of frames, or a file."""
    if isinstance(item.source, np.ndarray):
        return _clips_of_array(_clip_array(item, item.source), choose, transform)
    if item.source.is_dir():
        _refuse_seconds(item, "a folder of frames")
        return read_frame_clips(
            item.source,
            choose,
            fps=_FRAMES_PER_SECOND if item.fps is None else item.fps,
            num_listed=item.num_frames_listed,
            transform=transform,
        )
    return video.read_clips(
        item.source,
        choose,
        start_seconds=item.start_seconds,
        end_seconds=item.end_seconds,
        transform=transform,
        index_file=index_file,
    )


def _clips_of_array(frames_THWC: np.ndarray, choose: Choose, transform: Transform) -> Clips:
    chosen = choose(len(frames_THWC), _FRAMES_PER_SECOND)
    kept = {row: transform(frames_THWC[row]) for row in np.unique(chosen).tolist()}
    frames = np.stack([np.stack([kept[row] for row in clip]) for clip in chosen.tolist()])
    return Clips(frames, num_frames=len(frames_THWC), fps=_FRAMES_PER_SECOND, remarks=())


def _still_facts(height: int, width: int) -> MediaFacts:
    return MediaFacts(num_frames=1, fps=0.0, height=height, width=width)


def _refuse_seconds(item: Item, what: str) -> None:
    if item.start_seconds is not None or item.end_seconds is not None:
        raise MediaError(
            f"Item {item.id!r} is {what}, which has no clock: cut it to its frames instead of"
            " giving start and end in seconds."
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

"""A task's items read as runs read them: decodable, of the size asked for, the same every time.

Shape letters: V views of an item, C channels, T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from rsbench.checks.loading import Loaded
from rsbench.data.loaders import read_item, read_views
from rsbench.errors import MediaError
from rsbench.findings import Fault, failure_in_words, kinds_in_words, some
from rsbench.specs import ClipSpec, InputSpec, Item, Reading, Views

SAMPLER = "mmaction2@1"
"""Clip sampler of the trial readings, where the task has none of its own."""
PIXELS = 64
"""Side of the trial input where the sample names none."""
VIDEO_CLIP = ClipSpec(frames=8, stride=2)
"""Clip of the trial video network."""


def _readings(loaded: Loaded) -> dict[str, Reading]:
    """Give how an image network and a video network would read this task's items."""
    task, sample = loaded.task, loaded.task.sample
    pixels = (sample.pixels if loaded.is_sample else None) or PIXELS
    own_clip = (sample.clip if loaded.is_sample else None) or task.clip
    still = ClipSpec(frames=1, stride=1)
    clips = {"image network": own_clip or still, "video network": VIDEO_CLIP}
    return {
        name: Reading(
            modality=task.modality,
            input=InputSpec(pixels=pixels, frames=clip.frames, stride=clip.stride),
            clip=clip if task.modality == "video" else still,
            sampler=task.sampler or SAMPLER,
            views=(sample.views if loaded.is_sample else task.views),
            read=task.read,
            read_key=f"{task.name}@{task.version}" if task.read is not None else "",
        )
        for name, clip in clips.items()
    }


def look_at_media(loaded: Loaded) -> str:
    """Read all items of a sample, some of real data; raise `Fault` where any can't be read."""
    reading = replace(_readings(loaded)["image network"], views=Views())
    items = loaded.items_to_read()
    failures, largest, varied = [], 0.0, False
    remarks: dict[str, tuple[str, ...]] = {}
    for item in items:
        try:
            views, facts = read_item(item, reading)
        except MediaError as error:
            failures.append(failure_in_words(item.id, str(error)))
            continue
        if facts.remarks:
            remarks[item.id] = facts.remarks
        largest = max(largest, float(views.max()))
        varied = varied or bool(views.max() > views.min())
    if failures:
        raise Fault(
            f"{len(failures)} of {len(items)} items can't be read: {some(failures)}",
            next_step="Mend or fetch these files again; a run would count them as wrong.",
        )
    if not varied:
        raise Fault(
            "pictures must differ from pixel to pixel; every one that was read is of one colour",
            next_step="Look at what the task gives as Item.source.",
        )
    if reading.read is None and largest <= 1:
        raise Fault(
            f"pixels must be 0 to 255; the largest of {len(items)} items is {largest:g}",
            next_step="Give pixels unscaled, as uint8 in 0 to 255.",
        )
    return f"{len(items)} items read{_with_remarks(remarks)}"


def _with_remarks(remarks: Mapping[str, Sequence[str]]) -> str:
    """Count what was odd about items that were read, and name one; empty where nothing was."""
    if not remarks:
        return ""
    kinds = kinds_in_words(remark for said in remarks.values() for remark in said)
    return f"; {len(remarks)} with remarks: {kinds}, e.g. {next(iter(remarks))}"


def look_at_views(loaded: Loaded) -> str:
    """Hold shape and type of views to what was asked for, at two sizes."""
    item = loaded.items_to_read()[0]
    if loaded.task.read is not None:
        return _look_at_own_reading(item, _readings(loaded)["image network"])
    said = []
    for name, reading in _readings(loaded).items():
        for pixels in (reading.input.pixels, reading.input.pixels + 16):
            asked = replace(reading, input=replace(reading.input, pixels=pixels))
            views = read_views(item, asked)
            frames = (asked.clip.frames,) if asked.modality == "video" else ()
            wanted = (asked.views.num_views, 3, *frames, pixels, pixels)
            if tuple(views.shape) != wanted or views.dtype != torch.uint8:
                raise Fault(
                    f"views for the {name} must be uint8 {wanted}; they were {views.dtype}"
                    f" {tuple(views.shape)}",
                    next_step="Mend the reader.",
                )
        said.append(f"{name} {'x'.join(map(str, wanted))}")
    return "uint8 views of the size asked for: " + ", ".join(said)


def _look_at_own_reading(item: Item, reading: Reading) -> str:
    views = read_views(item, reading)
    num_axes = {"image": 3, "video": 4, "volume": 4}[reading.modality]
    if views.ndim != num_axes + 1 or not bool(torch.isfinite(views.double()).all()):
        raise Fault(
            f"Task.read must give a finite array of {num_axes} axes, channels first; it gave"
            f" {views.dtype} {tuple(views.shape[1:])}",
            next_step="Mend Task.read.",
        )
    return f"Task.read gives {views.dtype} {tuple(views.shape[1:])}"


def read_twice(loaded: Loaded) -> str:
    """Hold two readings of one item to be equal, in each split."""
    reading = _readings(loaded)["image network"]
    items = [split.items[0] for split in loaded.splits.values()]
    for item in items:
        if not torch.equal(read_views(item, reading), read_views(item, reading)):
            raise Fault(
                f"an item must read the same every time; {item.id} did not",
                next_step="Take all randomness out of reading; augmentation is the protocol's.",
            )
    return f"{len(items)} items read the same twice"

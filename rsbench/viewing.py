"""By which clips and crops a cell is tested: the user's word, else the task's, else the protocol's.

Whoever names nothing gets the task's views, and a task that has a customary sampler (segments where
the order of frames decides, not dense clips) keeps it under every protocol. What is named here is
part of the ruler; what would move nothing is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from rsbench.errors import RsbenchError
from rsbench.media.crops import check_cropper
from rsbench.media.random_sampling import resolve_random_sampler
from rsbench.media.sampling import resolve_sampler, sample_clips
from rsbench.specs import ClipSpec, InputSpec, Protocol, Reading, Sample, Scalar, Task, Views

TRAIN_SAMPLER = "train_sampler"
"""Recipe entry of protocols that train on random clips: by which rule these are cut."""


def resolve_reading(
    task: Task,
    protocol: Protocol,
    *,
    sample: Sample | None,
    input: InputSpec,
    clip: ClipSpec,
    views: Views | None,
    sampler: str | None,
    cropper: str | None,
    read_key: str,
) -> Reading:
    """Say how the items of a test are read.

    Args:
        task: Its items, views and sampler.
        protocol: Its sampler and cropper, and views where it fixes them.
        sample: The task's sample, on a sample run.
        input: What the network sees.
        clip: Frames that are read of an item.
        views: As the user gave them; None leaves them to the task or the protocol.
        sampler: Likewise, with or without its version.
        cropper: Likewise.
        read_key: Name of the task's own reader, empty where it has none.

    Raises:
        UnknownNameError: No such sampler or cropper; the nearest is named.
        RsbenchError: The words would move nothing, or name clips or crops that can't be cut.
    """
    _refuse_idle_words(task, views=views, sampler=sampler, cropper=cropper)
    own_views = sample.views if sample is not None else task.views
    views = views or protocol.views or own_views
    sampler = resolve_sampler(sampler or task.sampler or protocol.sampler)
    if task.modality == "video" and task.read is None:
        # Clips that this sampler can't cut are refused now, and not at the first video.
        sample_clips(sampler, num_frames=1, clip=clip, num_clips=views.clips, fps=30.0)
    cropper = check_cropper(cropper or protocol.cropper, views.crops)
    keeps_label = sample.flip if sample is not None else task.flip
    if views.crops == 10 and not keeps_label:
        where = task.name if sample is None else f"the sample of {task.name}"
        raise RsbenchError(
            f"Five of ten crops are mirrored, and a mirror image has another label in {where}: ask"
            " for 1 or 3 crops."
        )
    return Reading(
        modality=task.modality,
        input=input,
        clip=clip,
        sampler=sampler,
        views=views,
        cropper=cropper,
        read=task.read,
        read_key=read_key,
    )


def resolve_recipe(
    protocol: Protocol, task: Task, overrides: Mapping[str, Scalar]
) -> dict[str, Scalar]:
    """Give the recipe with the task's customary training clips and the user's changes.

    Args:
        protocol: Its recipe.
        task: Its sampler of training clips, if it has one.
        overrides: What the user changed.

    Raises:
        UnknownNameError: No such random sampler; the nearest is named.
        RsbenchError: A sampler of clips for items that have none.
    """
    recipe = {**protocol.recipe, **overrides}
    if TRAIN_SAMPLER not in recipe:
        return recipe
    has_clips = task.modality == "video" and task.read is None
    if has_clips and TRAIN_SAMPLER not in overrides and task.train_sampler is not None:
        recipe[TRAIN_SAMPLER] = task.train_sampler
    if TRAIN_SAMPLER in overrides and not has_clips:
        raise RsbenchError(
            f"--set {TRAIN_SAMPLER} is for videos that rsbench reads, and {task.name} has none:"
            " leave it out."
        )
    recipe[TRAIN_SAMPLER] = resolve_random_sampler(str(recipe[TRAIN_SAMPLER]))
    return recipe


def _refuse_idle_words(
    task: Task, *, views: Views | None, sampler: str | None, cropper: str | None
) -> None:
    words = {"--views": views, "--sampler": sampler, "--cropper": cropper}
    said = [word for word, value in words.items() if value is not None]
    if said and (task.read is not None or task.modality == "volume"):
        raise RsbenchError(
            f"Task {task.name} reads its items itself: leave {' and '.join(said)} out."
        )
    if task.modality != "image":
        return
    if sampler is not None:
        raise RsbenchError(f"--sampler is for videos, and the items of {task.name} are images.")
    if views is not None and views.clips != 1:
        raise RsbenchError(
            f"--views of an image must be 1xCROPS, such as 1x3; it was {views.clips}x{views.crops}."
        )

"""What other views of a finished run would have given, derived from the scores of its views.

Views can be had where their frames and crops are a subset of the stored ones for every item: that
is worked out from each item's frames, rate and size, by the sampler and the cropper themselves. The
sparser sets of a sampler need not be: mmaction2's one clip lies in the middle of a video, where
none of its ten begins, while every other clip of psf's ten is one of psf's five.

The views of the run itself give the run's own predictions, to the last bit, and the metrics of the
record: both are checked before anything is derived.

Shape letters: N items, V stored views (clips before crops), M asked views, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rsbench import metrics as known_metrics
from rsbench.errors import RecordError, RsbenchError, UnknownNameError
from rsbench.media.sampling import chooser
from rsbench.metrics import Score, evaluate_metric
from rsbench.records import store
from rsbench.records import views as view_files
from rsbench.records.predictions import PredictionTable
from rsbench.records.schema import MetricPart
from rsbench.records.views import StoredViews
from rsbench.registry import find_task, is_plain_name, split_sample
from rsbench.specs import ClipSpec, Metric, Views
from rsbench.view_scores import Average, average_views

Level = Literal["video", "clip"]
"""What is an example: a video, by the average over its views, or each clip of it, by the average
over its crops."""

_TOLERANCE = 1e-6
"""How far derived predictions may be from the run's own: they are the same bits where exp is the
same to the last bit, which another processor's need not be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A finished run with the scores of its views."""

    stored: store.Stored
    table: PredictionTable
    views: StoredViews
    metrics: tuple[Metric, ...]

    @property
    def views_run(self) -> Views:
        """The views that were run."""
        return Views(clips=self.views.header.clips, crops=self.views.header.crops)


@dataclass(frozen=True, kw_only=True, slots=True)
class Derived:
    """The metrics of some views."""

    views: Views
    stored: Views
    average: Average
    level: Level
    num_examples: int
    """What the metrics count: videos, or clips."""
    scores: tuple[tuple[Metric, Score], ...]

    @property
    def label(self) -> str:
        """What must stand beside a derived number: "15 of 10x3 views"."""
        return f"{self.views.num_views} of {self.stored.clips}x{self.stored.crops} views"


def open_source(record: Path, *, task: str | None = None) -> Source:
    """Read a record with its predictions and the scores of its views, and hold them to each other.

    Args:
        record: The JSON file.
        task: The task's file, where its metrics are its own.

    Raises:
        RecordError: Something is missing or was changed, or the run has no class scores.
        RsbenchError: The task can't be found.
    """
    stored = store.Stored(record, store.read(record))
    if not stored.record.views:
        raise RecordError(
            f"{stored.name} must hold class scores of single views, and it holds none: it is older"
            " than these, or its protocol does not give them. Run it again."
        )
    table = store.read_predictions(record)
    views = view_files.from_file(store.views_file(stored), where=f"{stored.name} (views)")
    if views.header.ids != view_files.ids_digest(table.ids, table.folds):
        raise RecordError(
            f"{stored.name}: its view scores must be of the items of its predictions, and are of"
            " others; run it again."
        )
    source = Source(stored=stored, table=table, views=views, metrics=metrics_of(stored, task=task))
    _check_run(source)
    return source


def derive(
    source: Source, views: Views, *, average: Average = "probability", level: Level = "video"
) -> Derived:
    """Give the metrics that a run of these views would have given.

    Raises:
        RecordError: Some item was not looked at in one of these views.
    """
    scores_NCK = _averages(source, views, average, level)
    wanted = source.metrics
    if level == "clip":
        wanted = tuple(_by_clip(metric, scores_NCK.shape[1]) for metric in wanted)
    else:
        scores_NCK = scores_NCK[:, 0]
    predictions = [
        None if recorded is None else scores
        for recorded, scores in zip(source.table.predictions, scores_NCK, strict=True)
    ]
    return Derived(
        views=views,
        stored=source.views_run,
        average=average,
        level=level,
        num_examples=len(predictions) * (views.clips if level == "clip" else 1),
        scores=tuple((metric, _score(source, metric, predictions)) for metric in wanted),
    )


def candidates(source: Source) -> list[Views]:
    """List the views that may be had: every number of clips and crops up to the stored one."""
    run = source.views_run
    crops = sorted({count for count in (1, 3, run.crops) if count <= run.crops})
    return [Views(clips=clips, crops=count) for clips in range(1, run.clips + 1) for count in crops]


# ------------------------------------------------------------------------------------ which views


def _chosen_views(source: Source, views: Views) -> NDArray[np.int64]:
    """Say which stored views the asked ones are: (N, clips, crops)."""
    run = source.views_run
    num_items = len(source.table.ids)
    if views == run:
        rows = np.arange(run.num_views).reshape(run.clips, run.crops)
        return np.broadcast_to(rows, (num_items, run.clips, run.crops))
    if views.clips > run.clips or views.crops > run.crops:
        raise _refused(source, views, f"there are {run.clips}x{run.crops} views only")
    clips_of, crops_of = _clip_finder(source, views), _crop_finder(source, views)
    chosen = np.zeros((num_items, views.clips, views.crops), dtype=np.int64)
    facts = source.views
    for place, (item, value) in enumerate(
        zip(source.table.ids, source.table.predictions, strict=True)
    ):
        if value is None:
            continue
        try:
            clips = clips_of(int(facts.num_frames[place]), float(facts.fps[place]))
            crops = crops_of(int(facts.height[place]), int(facts.width[place]))
        except _NotThere as absent:
            raise _refused(source, views, f"{absent} of {item!r}") from None
        chosen[place] = np.add.outer(np.array(clips) * run.crops, crops)
    return chosen


class _NotThere(Exception):
    """A view that an item was not looked at in; its text begins a reason that names the item."""


def _clip_finder(source: Source, views: Views) -> Callable[[int, float], Sequence[int]]:
    """Give what finds the asked clips among the stored ones, from an item's frames and rate."""
    header = source.views.header
    if views.clips == header.clips:
        return lambda num_frames, fps: range(views.clips)
    clip = ClipSpec(frames=header.frames, stride=header.stride)
    try:
        stored = chooser(header.sampler, clip=clip, num_clips=header.clips)
        asked = chooser(header.sampler, clip=clip, num_clips=views.clips)
        asked(1, 30.0)
    except RsbenchError as error:
        raise _refused(source, views, str(error)) from None

    @cache
    def find(num_frames: int, fps: float) -> tuple[int, ...]:
        if num_frames < 1:
            raise _NotThere("nobody knows the number of frames")
        stored_ST, asked_CT = stored(num_frames, fps), asked(num_frames, fps)
        alike_CS = (asked_CT[:, None] == stored_ST[None]).all(axis=2)
        missing = np.flatnonzero(~alike_CS.any(axis=1))
        if len(missing):
            first = missing[0]
            frames = asked_CT[first].tolist()
            shown = ", ".join(map(str, frames[:4])) + (", ..." if len(frames) > 4 else "")
            raise _NotThere(
                f"no stored clip has the frames {shown} that clip {first + 1} of {views.clips}"
                f" takes of the {num_frames}"
            )
        return tuple(int(clip) for clip in alike_CS.argmax(axis=1))

    return find


def _crop_finder(source: Source, views: Views) -> Callable[[int, int], Sequence[int]]:
    """Give what finds the asked crops among the stored ones, from the size of an item's frames."""
    header = source.views.header
    if views.crops == header.crops:
        return lambda height, width: range(views.crops)
    # Imported here, for they bring torch, and not all views need them.
    from rsbench.media.resizers import crops_of
    from rsbench.weights.choosing import input_of

    seen = input_of(source.stored.record.backbone)

    @cache
    def find(height: int, width: int) -> tuple[int, ...]:
        if height < 1:
            raise _NotThere("nobody knows the size of the frames")
        stored = crops_of(height, width, seen, header.crops, header.cropper)
        asked = crops_of(height, width, seen, views.crops, header.cropper)
        for crop in asked:
            if crop not in stored:
                raise _NotThere(
                    f"no stored crop begins at row {crop.top}, column {crop.left}, as that of"
                    f" {views.crops} by {header.cropper} does in the {height}x{width} pixels"
                )
        return tuple(stored.index(crop) for crop in asked)

    return find


def _refused(source: Source, views: Views, reason: str) -> RecordError:
    run = source.views_run
    to_run, keep = views, ""
    if source.views.halves is None:
        # All views of the same run give these and more, unless there are fewer than asked for.
        if views.clips <= run.clips and views.crops <= run.crops:
            to_run = run
        keep = f" --keep-views-up-to {_gib_of_all(source, to_run):g}"
    return RecordError(
        f"{views.clips}x{views.crops} views can't be derived from the {run.clips}x{run.crops} of"
        f" {source.stored.name}: {reason}. Run them: --views {to_run.clips}x{to_run.crops}{keep}."
    )


def _gib_of_all(source: Source, views: Views) -> float:
    """Say what `--keep-views-up-to` must be, rounded up, to keep the scores of all these views."""
    means = source.views.mean_scores
    assert means is not None
    num_items, num_classes = means.shape
    size = view_files.num_bytes(
        num_items,
        views.num_views,
        num_classes,
        activation=source.views.header.activation,
        kept_all=True,
    )
    return math.ceil(100 * size / 2**30) / 100


# --------------------------------------------------------------------------------------- averages


def _averages(source: Source, views: Views, average: Average, level: Level) -> NDArray[np.float32]:
    """Average over the asked views of each example: (N, C, K), C being 1 for videos."""
    stored = source.views
    if stored.halves is None:
        return _kept_means(source, views, average, level)[:, None]
    chosen_NCM = _chosen_views(source, views)
    if level == "video":
        chosen_NCM = chosen_NCM.reshape(len(chosen_NCM), 1, -1)
    activation = stored.header.activation
    return np.stack(
        [
            average_views(stored.halves, activation, average=average, views_NM=chosen_NM)
            for chosen_NM in chosen_NCM.swapaxes(0, 1)
        ],
        axis=1,
    )


def _kept_means(
    source: Source, views: Views, average: Average, level: Level
) -> NDArray[np.float32]:
    """Give the kept means, (N, K): all there is where the scores of single views were not kept."""
    stored = source.views
    assert stored.mean_probabilities is not None
    assert stored.mean_scores is not None
    if views != source.views_run or level == "clip":
        raise _refused(source, views, "only the means over all views were kept")
    means: NDArray[np.float32] = (
        stored.mean_probabilities if average == "probability" else stored.mean_scores
    )
    return means


def _check_run(source: Source) -> None:
    """Hold what is derived of all views to what the run predicted and scored."""
    found_NK = _averages(source, source.views_run, "probability", "video")[:, 0]
    name = source.stored.name
    for item, value, found_K in zip(
        source.table.ids, source.table.predictions, found_NK, strict=True
    ):
        if value is not None and not np.allclose(value, found_K, rtol=0, atol=_TOLERANCE):
            raise RecordError(
                f"{name}: its view scores must average to its predictions, and do not for"
                f" {item!r}; run it again."
            )
    for metric, part in zip(source.metrics, source.stored.record.metrics, strict=True):
        value = _score(source, metric, source.table.predictions).value
        if abs(value - part.value) > _TOLERANCE:
            raise RecordError(
                f"{name}: its {part.name} is {part.value:.4g}, and the metric of that name gives"
                f" {value:.4g}: name the task's file with --task, if the metric is its own."
            )


# ---------------------------------------------------------------------------------------- metrics


def metrics_of(stored: store.Stored, *, task: str | None = None) -> tuple[Metric, ...]:
    """Find the metrics of a record by their names: the task's own, or those that everybody has.

    Args:
        stored: The record.
        task: The task's file, where its metrics are its own.

    Returns:
        One a metric of the record, in its order.

    Raises:
        RecordError: A metric is the task's own, and its file was not named.
        RsbenchError: The task's file can't be imported.
    """
    own: Iterable[Metric] = ()
    if task is not None:
        own = find_task(task).spec.metrics
    elif stored.record.task.source_sha256 is None:
        own = _metrics_of_task(stored.record.task.name)
    common = [each for each in vars(known_metrics).values() if isinstance(each, Metric)]
    by_name = {metric.name: metric for metric in [*common, *own]}
    parts: Sequence[MetricPart] = stored.record.metrics
    unknown = [part.name for part in parts if part.name not in by_name]
    if unknown:
        raise RecordError(
            f"{stored.name} has the metric {unknown[0]!r}, which is its task's own: name the task's"
            " file with --task ./FILE.py."
        )
    return tuple(by_name[part.name] for part in parts)


@cache  # A look-up asks every package that is installed, and records of a task come in thousands.
def _metrics_of_task(name: str) -> tuple[Metric, ...]:
    """Give the metrics of a task that a record names; none of one that is not installed here.

    What everybody has may be all that such a task needs.
    """
    if is_plain_name(name):
        with suppress(UnknownNameError):
            return tuple(find_task(split_sample(name)[0]).spec.metrics)
    return ()


def _score(source: Source, metric: Metric, predictions: Sequence[Any]) -> Score:
    averaging = source.stored.record.ruler["averaging"]
    assert averaging in {"pooled", "mean"}
    return evaluate_metric(
        metric,
        source.table.targets,
        predictions,
        folds=source.table.folds,
        averaging="mean" if averaging == "mean" else "pooled",
    )


def _by_clip(metric: Metric, num_clips: int) -> Metric:
    """Make of a metric over videos one over their clips, (C, K) a video.

    The interval resamples videos, not clips: the clips of a video are no independent examples.
    """

    def apart(targets: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        return (
            [target for target in targets for _ in range(num_clips)],
            [
                scores_K
                for scores_CK in predictions
                for scores_K in ([None] * num_clips if scores_CK is None else scores_CK)
            ],
        )

    def compute(targets: Sequence[Any], predictions: Sequence[Any]) -> float:
        return metric.compute(*apart(targets, predictions))

    per_clip = metric.per_item
    if per_clip is None:
        return replace(metric, compute=compute)

    def per_item(targets: Sequence[Any], predictions: Sequence[Any]) -> np.ndarray:
        scores: np.ndarray = per_clip(*apart(targets, predictions)).reshape(-1, num_clips)
        means: np.ndarray = scores.mean(axis=1)
        return means

    return replace(metric, compute=compute, per_item=per_item, proportion=False)

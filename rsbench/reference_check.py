"""Known weights against their published scores: the same runner as any run, and a verdict.

A published score is of all official items of a set. So it is judged on these, on some of them that
`--limit` drew at random, or on nearly all: nobody has every clip of Kinetics any more, those who
published had not all of them either, and what is gone went at random. Less than `NEARLY_ALL` of the
official list, or a set without a single item of some class, may be any part of it, even training
pictures, and is measured and not judged. A set of one's own is judged by expectations of one's own.

- All pictures, and all items of an expectation: the measured score must be within
  `TOLERANCE_POINTS` of the reference, which is what another decoder, library or rounding may move.
- All videos: within `TOLERANCE_POINTS`, or the published score lies in the 95% interval of the
  measured one. Published scores of videos were not measured on the complete list, and of some the
  sampler is only the nearest known: who has every clip must not be judged harder than who lacks a
  few.
- Nearly all items, and drawn ones: the published score must lie in the 95% interval of the measured
  one. The interval knows nothing of the items that are not here; what they could move is said
  beside it (`Judgement.caveat`).

An interval sees no small difference: one of `SEEN_AT` standard errors (2.7 points at 75% of 2,000
drawn items) is called off 4 times in 5, a smaller one less often, so "ok" says that nothing larger
is likely (`Comparison.visible`). And it raises a false alarm in 1 of 20 comparisons: the worst of
several metrics and networks is off by chance more often than that, of eight independent ones in 34
of 100 checks.

Weights are tested by the views and the sampler of their published score, whatever the task or the
protocol has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from rsbench.errors import RsbenchError
from rsbench.registry import suggest
from rsbench.specs import Backbone, Reading, Weights

if TYPE_CHECKING:
    from rsbench.cells import Cell, RunRequest
    from rsbench.records.schema import MetricPart, RunRecord

PROTOCOL = "evaluate"
"""The weights' own classifier, nothing trained: what published scores are of."""

TOLERANCE_POINTS = 0.1
"""How far a score over all items may be off, in points: published ones are rounded to 0.1 often."""

NEARLY_ALL = Fraction(9, 10)
"""Share of the official list that is judged like a random part of it. Of Kinetics-400's 19,907
validation clips people report 18,689 to 19,881 (94% and more)."""

UNLIKE_POINTS = 10
"""How much easier or harder, in points, missing items are supposed to be where it is said what they
could move."""

SEEN_AT = 2.8
"""Standard errors of a true difference that a 95% interval shows 4 times in 5: 1.96 + 0.84."""

_HALF_INTERVAL = 1.96
"""Standard errors in half a 95% interval."""

Items = Literal["all", "nearly all", "drawn", "some"]
"""Which items were measured: all there are to the reference, all but a few that are not here, a
random part of these, or whatever of the official set happens to be here."""

Verdict = Literal["ok", "off", "not judged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownPair:
    """Weights and a task on which somebody published their scores."""

    backbone: str
    """As it is typed: a name, or a file."""
    weights: Weights
    task: str
    published: Mapping[str, float]
    """Metric -> score in percent."""
    is_own: bool
    """Whether the weights belong to this network, not to a sibling that has them too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceCell:
    """What is to be run, and what its scores will be held to."""

    cell: Cell
    reference: Mapping[str, float]
    """Metric -> score in percent, published or expected."""
    expected: bool
    """Whether the reference is the user's own, for the items that are here."""
    num_present: int
    """Items of the reported split that are here, before any limit."""
    num_other_classes: int
    """Classes that the weights tell apart and the data here does not have."""
    num_empty_classes: int
    """Classes of the data of which no item is here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One metric beside its reference, in percent."""

    metric: str
    reference: float
    measured: float
    difference: float
    """Measured minus reference, in points."""
    low: float | None
    """95% interval of the measured score; None where the metric has none."""
    high: float | None
    visible: float | None
    """Points that a true difference must have to be called off 4 times in 5 (`SEEN_AT` standard
    errors, about); None where no interval is judged by."""
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a finished run says of a reference."""

    items: Items
    comparisons: tuple[Comparison, ...]
    reason: str
    """Why nothing is judged; empty where it is."""
    caveat: str = ""
    """What items that are not here could move; empty where all are here."""

    @property
    def verdict(self) -> Verdict:
        """The worst of all metrics."""
        found = {each.verdict for each in self.comparisons}
        return "off" if "off" in found else "not judged" if "not judged" in found else "ok"


def known_pairs(backbone: Backbone, *, name: str | None = None) -> tuple[KnownPair, ...]:
    """Give the weights of a backbone that have published scores, one pair a task.

    Args:
        backbone: The network.
        name: What the user typed for it, where that is not its name.
    """
    pairs = []
    for weights in backbone.weights:
        scores: dict[str, dict[str, float]] = {}
        for score, percent in weights.published.items():
            task, _, metric = score.rpartition("/")
            scores.setdefault(task, {})[metric] = percent
        pairs += [
            KnownPair(
                backbone=name or backbone.name,
                weights=weights,
                task=task,
                published=published,
                is_own=weights.network in (None, backbone.name),
            )
            for task, published in scores.items()
        ]
    return tuple(pairs)


def expectations(text: str) -> dict[str, float]:
    """Read ``top1=89.9,top5=98.48``.

    Returns:
        Metric -> score in percent.

    Raises:
        RsbenchError: It is something else, names a metric twice, or a score is no percentage.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        metric, equals, number = (word.strip() for word in part.partition("="))
        try:
            percent = float(number)
        except ValueError:
            percent = -1.0
        if not (metric and equals and 0 <= percent <= 100) or metric in found:
            raise RsbenchError(
                "--expect must give each metric once, in percent, such as top1=89.9,top5=98.48;"
                f" it was {text!r}."
            )
        found[metric] = percent
    return found


def prepare_check(
    request: RunRequest, *, published: Mapping[str, float], expected: Mapping[str, float] | None
) -> ReferenceCell:
    """Resolve a check; run nothing.

    Args:
        request: Of the protocol `PROTOCOL`, with the weights' own input left alone.
        published: Metric -> percent; may be empty where `expected` is given.
        expected: The user's own scores for the items that are here; they take the place of the
            published ones.

    Raises:
        RsbenchError: Whatever is wrong with the user's words or data, one line.
    """
    # Not above: who lists the known pairs needs no torch.
    from rsbench.cells import prepare

    cell = prepare(request)
    if cell.sample:
        raise RsbenchError(
            f"Scores of {cell.task.name} are published for the real data and none is configured:"
            f" give --data DIR. {cell.task.how_to_get}"
        )
    reference = published if expected is None else expected
    metrics = [metric.name for metric in cell.task.metrics]
    for name in reference:
        if name not in metrics:
            raise RsbenchError(
                f"Task {cell.task.name} has no metric {name!r}.{suggest(name, metrics)} It has"
                f" {', '.join(metrics)}."
            )
    known = cell.weights.known
    if known is not None and known.views is not None:
        cell = replace(cell, predict_reading=_as_published(cell.predict_reading, known))
    whole = cell if request.limit is None else prepare(replace(request, limit=None))
    num_classes = len(cell.gathered.classes)
    head_width = known.num_classes if known is not None else None
    return ReferenceCell(
        cell=cell,
        reference=reference,
        expected=expected is not None,
        num_present=whole.gathered.num_expected,
        # One more than the task has is a class for the background, which no item is of.
        num_other_classes=max(0, (head_width or 0) - num_classes - 1),
        num_empty_classes=_num_empty_classes(whole),
    )


def judge(check: ReferenceCell, record: RunRecord) -> Judgement:
    """Hold the scores of a finished run to their reference."""
    items = _items(check, record)
    parts = {metric.name: metric for metric in record.metrics}
    of_all_videos = record.task.modality == "video" and not check.expected
    by_interval = items in {"drawn", "nearly all"} or (items == "all" and of_all_videos)
    comparisons = tuple(
        _compare(parts[name], percent, items, by_interval=by_interval)
        for name, percent in check.reference.items()
    )
    unjudged = [each.metric for each in comparisons if each.verdict == "not judged"]
    reason = ""
    if items == "some":
        reason = _reason(check, record)
    elif unjudged:
        # Of items that are not drawn there is no more to be had.
        next_step = "; leave --limit out" if items == "drawn" else ""
        reason = f"{', '.join(unjudged)} of {items} items has no interval{next_step}"
    caveat = "" if reason or check.expected else _caveat(check, record)
    return Judgement(items=items, comparisons=comparisons, reason=reason, caveat=caveat)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Give 0 where all is judged and ok, 1 where something is off, 2 where nothing was judged."""
    if "off" in verdicts:
        return 1
    return 2 if "not judged" in verdicts else 0


def _as_published(reading: Reading, known: Weights) -> Reading:
    """Give the views and the sampler of a published score, whatever the task takes by itself."""
    from rsbench.media.sampling import resolve_sampler

    assert known.views is not None
    sampler = reading.sampler if known.sampler is None else resolve_sampler(known.sampler)
    return replace(reading, views=known.views, sampler=sampler)


def _num_empty_classes(cell: Cell) -> int:
    """Count the classes without an item, of a task that asks for one class an item."""
    if cell.task.target != "class":
        return 0
    seen = {target for fold in cell.gathered.folds for target in fold.test_targets}
    return len(cell.gathered.classes) - len(seen)


def _items(check: ReferenceCell, record: RunRecord) -> Items:
    num_expected, num_official = record.data.num_expected, record.data.num_official
    is_whole = check.expected or (
        check.num_present == num_official and check.num_other_classes == 0
    )
    if not is_whole and not _is_nearly_whole(check, num_official):
        return "some"
    if num_expected != check.num_present:
        return "drawn"
    return "all" if is_whole else "nearly all"


def _is_nearly_whole(check: ReferenceCell, num_official: int | None) -> bool:
    """Whether so few of the official items are missing that what is here stands for all."""
    if num_official is None or check.num_present > num_official:
        return False
    has_all_classes = check.num_other_classes == check.num_empty_classes == 0
    return has_all_classes and check.num_present >= NEARLY_ALL * num_official


def _caveat(check: ReferenceCell, record: RunRecord) -> str:
    """Say what the items that are not here could move, where some are not."""
    num_official = record.data.num_official
    if num_official is None or check.num_present == num_official:
        return ""
    num_missing = num_official - check.num_present
    share = num_missing / num_official
    return (
        f"{num_missing:,} of {num_official:,} official items are not here ({share:.1%}): were they"
        f" {UNLIKE_POINTS} points easier or harder than the others, the score of all would be"
        f" {UNLIKE_POINTS * share:.2f} points away, which the interval leaves out"
    )


def _compare(part: MetricPart, reference: float, items: Items, *, by_interval: bool) -> Comparison:
    measured = 100 * part.value
    low = None if part.low is None else 100 * part.low
    high = None if part.high is None else 100 * part.high
    visible = None
    # Differences of decimals miss the limit itself by a rounding.
    is_near = items == "all" and abs(measured - reference) <= TOLERANCE_POINTS + 1e-9
    verdict: Verdict
    if by_interval and low is not None and high is not None:
        visible = SEEN_AT / _HALF_INTERVAL * (high - low) / 2
        verdict = "ok" if is_near or low <= reference <= high else "off"
    elif items == "all":
        verdict = "ok" if is_near else "off"
    else:
        verdict = "not judged"
    return Comparison(
        metric=part.name,
        reference=reference,
        measured=measured,
        difference=measured - reference,
        low=low,
        high=high,
        visible=visible,
        verdict=verdict,
    )


def _reason(check: ReferenceCell, record: RunRecord) -> str:
    data = record.data
    if check.num_other_classes:
        there = f"{check.num_other_classes:,} of the weights' classes are not in the data here"
    elif data.num_official is None:
        there = f"the {check.num_present} items here are of no published list"
    elif check.num_present < NEARLY_ALL * data.num_official:
        there = (
            f"{check.num_present:,} of its {data.num_official:,} items are here, fewer than"
            f" {float(NEARLY_ALL):.0%}"
        )
    elif check.num_present > data.num_official:
        there = f"{check.num_present:,} items are here, more than its {data.num_official:,}"
    else:
        there = f"{check.num_empty_classes:,} of its classes have no item here"
    return (
        f"the published scores are of the whole official split of {record.task.name}, and {there};"
        " --expect METRIC=PERCENT holds these items to scores of their own"
    )

"""Known weights against their published scores: the same runner as any run, and a verdict.

A published score is of all official items of a set. So it is judged on these, or on some of them
that `--limit` drew at random; what is here of a set that is not whole may be any part of it, even
training pictures, and is measured and not judged. A set of one's own is judged by expectations of
one's own.

- All items: the measured score must be within `TOLERANCE_POINTS` of the published one, which is
  what another decoder, library or rounding may move.
- Drawn items: the published score must lie in the 95% interval of the measured one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from rsbench.errors import RsbenchError
from rsbench.registry import suggest
from rsbench.specs import Backbone, Weights

if TYPE_CHECKING:
    from rsbench.cells import Cell, RunRequest
    from rsbench.records.schema import MetricPart, RunRecord

PROTOCOL = "evaluate"
"""The weights' own classifier, nothing trained: what published scores are of."""

TOLERANCE_POINTS = 0.1
"""How far a score over all items may be off, in points: published ones are rounded to 0.1 often."""

Items = Literal["all", "drawn", "some"]
"""Which items were measured: all there are to the reference, a random part of these, or whatever of
the official set happens to be here."""

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
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What a finished run says of a reference."""

    items: Items
    comparisons: tuple[Comparison, ...]
    reason: str
    """Why nothing is judged; empty where it is."""

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
        # The views of the published score, whatever the task takes by itself.
        reading = replace(cell.predict_reading, views=known.views)
        cell = replace(cell, predict_reading=reading)
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
    )


def judge(check: ReferenceCell, record: RunRecord) -> Judgement:
    """Hold the scores of a finished run to their reference."""
    items = _items(check, record)
    parts = {metric.name: metric for metric in record.metrics}
    comparisons = tuple(
        _compare(parts[name], percent, items) for name, percent in check.reference.items()
    )
    unjudged = [each.metric for each in comparisons if each.verdict == "not judged"]
    reason = ""
    if items == "some":
        reason = _reason(check, record)
    elif unjudged:
        reason = f"{', '.join(unjudged)} of drawn items has no interval; leave --limit out"
    return Judgement(items=items, comparisons=comparisons, reason=reason)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """Give 0 where all is judged and ok, 1 where something is off, 2 where nothing was judged."""
    if "off" in verdicts:
        return 1
    return 2 if "not judged" in verdicts else 0


def _items(check: ReferenceCell, record: RunRecord) -> Items:
    data = record.data
    is_official = check.num_present == data.num_official and check.num_other_classes == 0
    if not check.expected and not is_official:
        return "some"
    return "all" if data.num_expected == check.num_present else "drawn"


def _compare(part: MetricPart, reference: float, items: Items) -> Comparison:
    measured = 100 * part.value
    low = None if part.low is None else 100 * part.low
    high = None if part.high is None else 100 * part.high
    verdict: Verdict
    if items == "some" or (items == "drawn" and (low is None or high is None)):
        verdict = "not judged"
    elif items == "drawn":
        assert low is not None and high is not None
        verdict = "ok" if low <= reference <= high else "off"
    else:
        # Differences of decimals miss the limit itself by a rounding.
        verdict = "ok" if abs(measured - reference) <= TOLERANCE_POINTS + 1e-9 else "off"
    return Comparison(
        metric=part.name,
        reference=reference,
        measured=measured,
        difference=measured - reference,
        low=low,
        high=high,
        verdict=verdict,
    )


def _reason(check: ReferenceCell, record: RunRecord) -> str:
    data = record.data
    if check.num_other_classes:
        there = f"{check.num_other_classes:,} of the weights' classes are not in the data here"
    elif data.num_official is None:
        there = f"the {check.num_present} items here are of no published list"
    else:
        there = f"{check.num_present:,} of its {data.num_official:,} items are here"
    return (
        f"the published scores are of the whole official split of {record.task.name}, and {there};"
        " --expect METRIC=PERCENT holds these items to scores of their own"
    )

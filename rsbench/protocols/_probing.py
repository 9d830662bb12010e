"""What probes share: training items as numbers, and the sets on which settings are selected.

A probe looks once at one view of each training item, selects its settings on examples that it did
not fit on, and fits again on all of them. What it selects on is the task's official validation
set; else a share of train, held out by class with groups kept whole. Where the run allows test
selection (`FitRequest.test_for_selection`), it is the test set, as in the published codes that do
so; the record then says so, and tables leave it out.

Shape letters: N examples, S tokens, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from typing import Protocol as Interface

from rsbench.errors import DataError
from rsbench.findings import failure_in_words
from rsbench.protocols._multilabel import truth_of
from rsbench.protocols._views import look, named, remarked
from rsbench.specs import Failure, FitRequest, ItemSet, Remark

if TYPE_CHECKING:
    import numpy as np

    from rsbench.data.features import Output
    from rsbench.data.rows import ShardRows

SelectedOn = Literal["validation", "held-out train", "test"]
"""Where settings are compared; `Fitted.chosen` keeps it as "selected_on"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Items that could be read, as numbers."""

    features_ND: np.ndarray
    """float32 (N, D), finite; (N, S, D) where tokens were asked for. In memory, all of it."""
    labels: np.ndarray
    """int64 (N,) class indices, or bool (N, K) where an item may have several."""
    ids: tuple[str, ...]
    """Of the items, (N,)."""
    groups: tuple[str | None, ...]
    """What must not be split between fitted and held-out, (N,)."""
    failures: tuple[Failure, ...] = ()
    """Items that could not be read, beside the N."""
    remarks: tuple[Remark, ...] = ()
    """What is odd about those that could."""

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Sequence[int]) -> Examples:
        """Give the examples at some places, in the order asked for; a copy, without failures."""
        import numpy as np

        wanted = np.asarray(places, dtype=np.int64)
        return Examples(
            features_ND=self.features_ND[wanted],
            labels=self.labels[wanted],
            ids=tuple(self.ids[place] for place in places),
            groups=tuple(self.groups[place] for place in places),
        )

    def joined(self, other: Examples | None) -> Examples:
        """Give these examples and then the other ones; these alone where there are no others."""
        import numpy as np

        if other is None:
            return self
        return Examples(
            features_ND=np.concatenate([self.features_ND, other.features_ND]),
            labels=np.concatenate([self.labels, other.labels]),
            ids=self.ids + other.ids,
            groups=self.groups + other.groups,
            failures=self.failures + other.failures,
            remarks=self.remarks + other.remarks,
        )


class FeatureRows:
    """float32 (N, D) or (N, S, D): outputs of items, read by row, their views averaged then."""

    def __init__(self, values: np.ndarray | ShardRows, places: np.ndarray) -> None:
        """Take outputs (M, V, ...) and the N places of the items that could be read, rising."""
        self._values = values
        self._places = places
        self.shape = (len(places), *values.shape[2:])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Give some rows, in the order asked for: a copy."""
        return self._one_view(self._values[self._places[rows]])

    def whole(self) -> np.ndarray:
        """Give all rows, in memory; not a copy where one view of every item is there."""
        import numpy as np

        values = self._values
        if isinstance(values, np.ndarray) and len(self._places) == len(values):
            return self._one_view(values)
        return self._one_view(values[self._places])

    def _one_view(self, values_NV: np.ndarray) -> np.ndarray:
        mean: np.ndarray = values_NV[:, 0] if values_NV.shape[1] == 1 else values_NV.mean(axis=1)
        return mean


@dataclass(frozen=True, kw_only=True, slots=True)
class ExamplesByRow:
    """Items that could be read, whose features may be more than memory should hold."""

    features_ND: FeatureRows
    """As `Examples` has them; index it by row."""
    labels: np.ndarray
    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    failures: tuple[Failure, ...]
    remarks: tuple[Remark, ...]

    def __len__(self) -> int:
        return len(self.labels)


class Held(Interface):
    """Examples that candidates are compared on."""

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Items that could not be read, beside the examples."""
        ...

    def __len__(self) -> int: ...


class SelectionSets(NamedTuple):
    """What candidates are fitted on, and what they are compared on."""

    kept: Examples
    """Of two classes at least, where an item has one."""
    held: Examples
    """At least one, none of them among `kept`."""
    where: SelectedOn


class TrainingExamples(NamedTuple):
    """All that a probe may learn from."""

    train: Examples
    validation: Examples | None
    """The task's official validation set, where it has one."""

    @property
    def everything(self) -> Examples:
        """What the final fit is made on: train, then validation."""
        return self.train.joined(self.validation)


def read_training(request: FitRequest, *, output: Output = "features") -> TrainingExamples:
    """Look at the train items, and at the official validation items where there are some.

    Raises:
        RunError: As `read_examples`.
    """
    assert request.train is not None, "a probe trains"
    return TrainingExamples(
        train=read_examples(request, request.train, output=output),
        validation=None
        if request.validation is None
        else read_examples(request, request.validation, output=output),
    )


def read_examples(
    request: FitRequest, item_set: ItemSet, *, output: Output = "features"
) -> Examples:
    """Look at one view of each item; items that can't be read are left out and named.

    Args:
        request: Its reading says which view, its target what the labels are.
        item_set: With targets.
        output: What the network gives of a view.

    Raises:
        LeakError: The set is one whose labels may not be known.
        RunError: A feature is not finite (the items are named), the cache can't be written, or
            memory can't hold all features.
    """
    found = read_by_row(request, item_set, output=output)
    return Examples(
        features_ND=found.features_ND.whole(),
        labels=found.labels,
        ids=found.ids,
        groups=found.groups,
        failures=found.failures,
        remarks=found.remarks,
    )


def read_by_row(request: FitRequest, item_set: ItemSet, *, output: Output) -> ExamplesByRow:
    """Look at one view of each item, as `read_examples` does, and leave large outputs on disk.

    Raises:
        LeakError: The set is one whose labels may not be known.
        RunError: A feature is not finite (the items are named), or the cache can't be written.
    """
    targets = item_set.targets
    assert targets is not None, "what is learned from has targets"
    extracted = look(request.model, item_set, request.reading, request.settings, output=output)
    places = extracted.readable
    items = item_set.items
    return ExamplesByRow(
        features_ND=FeatureRows(extracted.values, places),
        labels=_labels(request, [targets[place] for place in places.tolist()], item_set),
        ids=tuple(items[place].id for place in places),
        groups=tuple(items[place].group for place in places),
        failures=named(extracted.failures, item_set),
        remarks=remarked(extracted.facts, item_set),
    )


def selection_sets(
    request: FitRequest,
    train: Examples,
    validation: Examples | None = None,
    *,
    held_out: float,
    output: Output = "features",
) -> SelectionSets:
    """Say what candidates are fitted on, and what they are compared on.

    Args:
        request: Its seed chooses what is held out; it knows whether test selection is allowed.
        train: The train examples.
        validation: The official validation examples, where the task has some.
        held_out: Share of train to hold out where there is no official validation, in (0, 1).
        output: What the network gives of a view, for the case that the test set is looked at.

    Returns:
        The test set where the run allows test selection (`kept` is then all of train and
        validation); else the official validation; else the share of train.

    Raises:
        DataError: Fewer than two classes are left to fit on, no example of what is selected on
            could be read, or none can be held out.
        RunError: As `read_examples`.
    """
    if request.allows_test_selection:
        test = read_examples(request, request.test_for_selection(), output=output)
        sets = SelectionSets(kept=train.joined(validation), held=test, where="test")
    elif validation is not None:
        sets = SelectionSets(kept=train, held=validation, where="validation")
    else:
        kept, held = held_out_places(train, share=held_out, seed=request.seed)
        sets = SelectionSets(kept=train.at(kept), held=train.at(held), where="held-out train")
    check_held(sets.held, sets.where)
    check_classes(sets.kept.labels, train.failures)
    return sets


def check_held(held: Held, where: SelectedOn) -> None:
    """Hold the examples that candidates are compared on to there being some.

    Raises:
        DataError: None could be read.
    """
    if not len(held):
        raise DataError(
            f"Settings are selected on the {where} data, and no item of it could be read"
            f"{_unread(held.failures)}."
        )


def check_classes(labels: np.ndarray, failures: Sequence[Failure]) -> None:
    """Hold what is learned from to what there is to learn.

    Args:
        labels: Of the examples, (N,) class indices, which must be two at least; or bool (N, K), of
            which one example is enough.
        failures: Of the items that could not be read, for the message.

    Raises:
        DataError: There is less.
    """
    import numpy as np

    if labels.ndim == 2:
        if not len(labels):
            raise DataError(
                "A classifier needs examples to train on; there are none: add data"
                f"{_unread(failures)}."
            )
        return
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        raise DataError(
            "A classifier needs examples of at least two classes to train on; there are"
            f" {len(labels)} examples of {num_classes}: add data of other classes"
            f"{_unread(failures)}."
        )


def held_out_places(
    train: Examples, *, share: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Hold a share of train out, balanced over classes, groups whole: (kept, held) places, rising.

    Raises:
        DataError: None can be held out.
    """
    from rsbench.data.splits import hold_out

    kept, held = hold_out(train.labels.tolist(), train.groups, share=share, seed=seed)
    if not held:
        raise DataError(
            f"Settings are selected on held-out train, and none of {len(train)} examples can be"
            " held out: a class needs at least two items (of two groups, where there are groups);"
            " raise --limit, or add data"
            f"{_unread(train.failures)}."
        )
    return kept, held


def _unread(failures: Sequence[Failure]) -> str:
    """Say how many others there are that can't be read, and why the first one can't."""
    return "".join(
        f"; {len(failures)} other{'s' * (len(failures) > 1)} can't be read, the first is"
        f" {failure_in_words(first.id, first.reason).rstrip('.')}"
        for first in failures[:1]
    )


def _labels(request: FitRequest, targets: Sequence[Any], item_set: ItemSet) -> np.ndarray:
    import numpy as np

    if request.target == "multilabel":
        return truth_of(targets, num_classes=len(item_set.classes))
    return np.array(targets, dtype=np.int64)

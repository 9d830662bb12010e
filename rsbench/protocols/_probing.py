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

from rsbench.errors import DataError
from rsbench.findings import failure_in_words
from rsbench.protocols._multilabel import truth_of
from rsbench.protocols._views import look, named, remarked
from rsbench.specs import Failure, FitRequest, ItemSet, Remark

if TYPE_CHECKING:
    import numpy as np

    from rsbench.data.features import Output

SelectedOn = Literal["validation", "held-out train", "test"]
"""Where settings are compared; `Fitted.chosen` keeps it as "selected_on"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Items that could be read, as numbers."""

    features_ND: np.ndarray
    """float32 (N, D), finite; (N, S, D) where tokens were asked for. It may be a read-only memory
    map: index it before doing arithmetic on all of it."""
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


class SelectionSets(NamedTuple):
    """What candidates are fitted on, and what they are compared on."""

    kept: Examples
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
        RunError: A feature is not finite (the items are named), or the cache can't be written.
    """
    targets = item_set.targets
    assert targets is not None, "what is learned from has targets"
    extracted = look(request.model, item_set, request.reading, request.settings, output=output)
    places = extracted.readable
    values = extracted.values
    if len(places) < len(values):
        values = values[places]
    # One view is taken as it is, so that a memory map stays one.
    features_ND = values[:, 0] if values.shape[1] == 1 else values.mean(axis=1)
    items = item_set.items
    return Examples(
        features_ND=features_ND,
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
        DataError: No example of what is selected on could be read, or none can be held out.
        RunError: As `read_examples`.
    """
    if request.allows_test_selection:
        test = read_examples(request, request.test_for_selection(), output=output)
        sets = SelectionSets(kept=train.joined(validation), held=test, where="test")
    elif validation is not None:
        sets = SelectionSets(kept=train, held=validation, where="validation")
    else:
        kept, held = held_out_places(train, share=held_out, seed=request.seed)
        return SelectionSets(kept=train.at(kept), held=train.at(held), where="held-out train")
    if not len(sets.held):
        raise DataError(
            f"Settings are selected on the {sets.where} data, and no item of it could be read"
            f"{_unread(sets.held)}."
        )
    return sets


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
            " held out: a class needs at least two items (of two groups, where there are groups)"
            f"{_unread(train)}."
        )
    return kept, held


def _unread(examples: Examples) -> str:
    """Say how many others there are that can't be read, and why the first one can't."""
    return "".join(
        f"; {len(examples.failures)} others can't be read, the first is"
        f" {failure_in_words(first.id, first.reason)}"
        for first in examples.failures[:1]
    )


def _labels(request: FitRequest, targets: Sequence[Any], item_set: ItemSet) -> np.ndarray:
    import numpy as np

    if request.target == "multilabel":
        return truth_of(targets, num_classes=len(item_set.classes))
    return np.array(targets, dtype=np.int64)

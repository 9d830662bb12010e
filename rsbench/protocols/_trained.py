"""What protocols share that learn by gradient steps: their sets, their data, their checkpoints.

Settings are selected on items that nothing was fitted on. Unlike the probes that are solved, these
may never hold features of all training items at once, so what is held out is chosen by item before
anything is read.

Shape letters: N examples, S tokens, D features, K classes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from rsbench.digests import digest_json
from rsbench.errors import DataError
from rsbench.protocols._probing import ExamplesByRow, SelectedOn, read_by_row
from rsbench.specs import (
    Failure,
    FitRequest,
    Item,
    ItemSet,
    Protocol,
    Remark,
    Scalar,
    Settings,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from rsbench.data.features import Output
    from rsbench.training.checkpoints import Checkpoint
    from rsbench.training.loop import TrainingBatch
    from rsbench.training.order import Pass


class ItemSplit(NamedTuple):
    """Which items candidates are fitted on, and which they are compared on."""

    kept: tuple[ItemSet, ...]
    held: ItemSet
    """None of it is in `kept`."""
    where: SelectedOn

    def everything(self) -> tuple[ItemSet, ...]:
        """Give what the chosen candidate is fitted on: all but test items."""
        return self.kept if self.where == "test" else (*self.kept, self.held)


def split_items(request: FitRequest, *, held_out: float) -> ItemSplit:
    """Say what candidates are fitted on, and what they are compared on.

    Args:
        request: Its seed chooses what is held out; it knows whether test selection is allowed.
        held_out: Share of train to hold out where there is no official validation, in (0, 1).

    Returns:
        The test set to compare on, where the run allows that; else the official validation set;
        else a share of train, balanced over classes, groups whole.

    Raises:
        DataError: No item can be held out.
    """
    from rsbench.data.splits import hold_out

    train = request.train
    assert train is not None, "it trains"
    assert train.targets is not None, "what is learned from has targets"
    if request.allows_test_selection:
        sets = (train,) if request.validation is None else (train, request.validation)
        return ItemSplit(sets, request.test_for_selection(), "test")
    if request.validation is not None:
        return ItemSplit((train,), request.validation, "validation")
    groups = [item.group for item in train.items]
    kept, held = hold_out(list(train.targets), groups, share=held_out, seed=request.seed)
    if not held:
        raise DataError(
            f"Settings are selected on held-out train, and none of {len(train)} examples can be"
            " held out: a class needs at least two items (of two groups, where there are groups);"
            " raise --limit, or add data."
        )
    return ItemSplit((_subset(train, kept),), _subset(train, held), "held-out train")


def _subset(item_set: ItemSet, places: Sequence[int]) -> ItemSet:
    targets = item_set.targets
    assert targets is not None, "what is learned from has targets"
    return replace(
        item_set,
        rows=tuple(item_set.rows[place] for place in places),
        targets=tuple(targets[place] for place in places),
    )


def labelled_items(sets: Sequence[ItemSet]) -> tuple[tuple[Item, ...], tuple[int, ...]]:
    """Give the items of several sets with their class indices."""
    items = tuple(item for each in sets for item in each.items)
    return items, tuple(int(target) for each in sets for target in each.targets or ())


class Cached:
    """Features of the items of several sets as one, read by row and not copied before."""

    def __init__(self, parts: Sequence[ExamplesByRow]) -> None:
        """Put sets one after another, at least one."""
        import numpy as np

        self._parts = tuple(parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.labels: np.ndarray = np.concatenate([part.labels for part in parts])
        self.ids = tuple(name for part in parts for name in part.ids)
        self.failures = tuple(each for part in parts for each in part.failures)
        self.remarks = tuple(each for part in parts for each in part.remarks)

    @classmethod
    def of(cls, request: FitRequest, sets: Sequence[ItemSet], *, output: Output) -> Cached:
        """Look at one view of each item of the sets.

        Raises:
            RunError: A feature is not finite, or the cache can't be written.
        """
        return cls([read_by_row(request, each, output=output) for each in sets])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example: (D,), or (S, D)."""
        return self._parts[0].features_ND.shape[1:]

    def features(self, rows: Sequence[int]) -> np.ndarray:
        """Give the features of some rows, in their order: a copy, (n, D) or (n, S, D)."""
        import numpy as np

        wanted = np.asarray(rows, dtype=np.int64)
        part_of = np.searchsorted(self._starts, wanted, side="right") - 1
        found = np.empty((len(wanted), *self.shape), dtype=np.float32)
        for number in np.unique(part_of):
            places = np.flatnonzero(part_of == number)
            inside = wanted[places] - self._starts[number]
            found[places] = self._parts[number].features_ND[inside]
        return found

    def batch(self, rows: Sequence[int], *, device: str) -> TrainingBatch:
        """Give some examples as the training loop takes them."""
        import torch

        from rsbench.training.loop import TrainingBatch

        return TrainingBatch(
            torch.from_numpy(self.features(rows)).to(device),
            torch.from_numpy(self.labels[list(rows)]).to(device),
            tuple(self.ids[row] for row in rows),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """How many batches of which size are trained on, cut into stretches that a checkpoint ends."""

    num_steps: int
    batch_size: int
    steps_per_stretch: int

    @property
    def num_stretches(self) -> int:
        """Of which the last may be shorter."""
        return -(-self.num_steps // self.steps_per_stretch)

    def drawn(self, num_examples: int, *, seed: int) -> list[int]:
        """Give the rows of the examples that are trained on once or more, rising.

        Args:
            num_examples: Examples there are, at least 1.
            seed: Of their order.
        """
        from rsbench.training.order import passes

        # The first pass has them all, unless the batches end before it does.
        first = next(
            passes(
                num_examples,
                batch_size=self.batch_size,
                seed=seed,
                first_step=0,
                num_steps=self.num_steps,
            )
        )
        return sorted(row for piece in first.pieces for row in piece.rows)

    def stretch(
        self,
        number: int,
        first: int,
        *,
        num_examples: int,
        seed: int,
        read: Callable[[Pass], Iterable[TrainingBatch]],
    ) -> Iterator[TrainingBatch]:
        """Read the batches of one stretch, or what is left of them.

        Args:
            number: Of the stretch, from 0.
            first: Its first batch that is wanted, from 0.
            num_examples: Examples there are, at least 1.
            seed: Of their order.
            read: Pass -> one batch for each of its pieces, in order; one whose examples can't be
                read is empty.

        Yields:
            All batches from the first one wanted on; one whose examples can't be read is empty.
        """
        from rsbench.training.loop import TrainingBatch
        from rsbench.training.order import passes

        before = number * self.steps_per_stretch
        num_left = min(self.steps_per_stretch, self.num_steps - before) - first
        if num_left == 0:
            return
        waiting: list[TrainingBatch] = []
        for each in passes(
            num_examples,
            batch_size=self.batch_size,
            seed=seed,
            first_step=before + first,
            num_steps=num_left,
        ):
            for piece, batch in zip(each.pieces, read(each), strict=True):
                waiting.append(batch)
                if piece.ends_batch:
                    yield TrainingBatch.joined(waiting)
                    waiting = []


def checkpoint_of(
    request: FitRequest,
    protocol: Protocol,
    *,
    items: Sequence[Item],
    labels: Sequence[Any],
    name: str,
    about: object = None,
) -> Checkpoint:
    """Name a checkpoint by all that the training depends on.

    Args:
        request: Recipe, model, reading, seed, precision, and where checkpoints lie.
        protocol: Whose training it is.
        items: What is trained on, in order.
        labels: Their labels, as JSON can hold them.
        name: Of the file, without suffix; one for each training of a run.
        about: What else tells this training from others of the run, as JSON can hold it.
    """
    from rsbench.atomic import write_atomically
    from rsbench.data.fingerprints import Fingerprints
    from rsbench.data.naming import maps_part
    from rsbench.data.readings import reading_facts
    from rsbench.training.checkpoints import Checkpoint

    assert request.train is not None, "it trains"
    fingerprints = Fingerprints(request.settings.cache_root / "fingerprints")
    key = digest_json(
        {
            "protocol": [protocol.name, protocol.version, dict(request.recipe)],
            "about": about,
            "model": request.model.digest,
            **maps_part(request.model, protocol.output),
            "flip": request.flip,
            "seed": request.seed,
            "precision": request.settings.precision,
            "reading": reading_facts(request.reading),
            "num_classes": len(request.train.classes),
            "examples": [
                [
                    item.id,
                    fingerprints.digest(item.source),
                    item.start_seconds,
                    item.end_seconds,
                    item.fps,
                    item.num_frames_listed,
                    label,
                ]
                for item, label in zip(items, labels, strict=True)
            ],
        }
    )
    settings = request.settings
    return Checkpoint(
        path=settings.work_root / f"{name}.pt",
        key=key,
        write=write_atomically,
        keep=settings.keep_checkpoints,
        seconds=settings.checkpoint_seconds,
        say=settings.say,
    )


def log_of(settings: Settings, checkpoint: Checkpoint) -> Path | None:
    """Name the folder of one training's event files, as whoever watches several will know it.

    Args:
        settings: Where logs lie, if anywhere, and what is trained on what.
        checkpoint: Of the training.
    """
    if settings.log_root is None:
        return None
    whose = re.sub(r"[^\w.@-]+", "_", "-".join(settings.cached_for.values()))
    return settings.log_root / whose / checkpoint.name


def seeds_of(seed: int, count: int) -> list[int]:
    """Give each of several classifiers a seed of its own, below 2**32.

    The n-th one does not depend on how many there are.
    """
    import numpy as np

    return [int(np.random.SeedSequence([seed, n]).generate_state(1)[0]) for n in range(count)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A candidate with its score on what nothing was fitted on."""

    settings: dict[str, Scalar]
    """As the selection trace shows them."""
    preference: tuple[float, ...]
    """The smaller one wins a tie."""
    score: float | None
    """On the held examples, in [0, 1]; None where its training diverged."""
    metric: str = "held_out_top1"
    """What the score is called."""

    def row(self, *, chosen: bool) -> dict[str, Scalar]:
        """Give the row of the selection trace."""
        return {
            **self.settings,
            self.metric: self.score,
            "diverged": self.score is None,
            "chosen": chosen,
        }


def best_of(candidates: Sequence[Scored]) -> int:
    """Give the place of the candidate with the highest score; ties go by preference.

    Raises:
        RunError: All diverged.
    """
    from rsbench.errors import RunError

    alive = [place for place, each in enumerate(candidates) if each.score is not None]
    if not alive:
        raise RunError(
            f"Training diverged with each of {len(candidates)} settings: give smaller learning"
            " rates with --set learning_rates=LIST, or look at the features of these weights."
        )

    def rank(place: int) -> tuple[float, ...]:
        each = candidates[place]
        assert each.score is not None, "the others are left out"
        return (-each.score, *each.preference)

    return min(alive, key=rank)


class Stopwatch:
    """Adds up the seconds that the blocks took in which it was held."""

    def __init__(self) -> None:
        """Begin at nought."""
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        """Start a block."""
        self._started = time.perf_counter()

    def __exit__(self, *raised: object) -> None:
        """End it."""
        self.seconds += time.perf_counter() - self._started


class Tally:
    """How often each of several classifiers is right, counted block by block."""

    def __init__(self, num_classifiers: int) -> None:
        """Begin with nothing counted."""
        self._num_right = [0] * num_classifiers
        self._is_finite = [True] * num_classifiers
        self._num_examples = 0

    def add(self, logits_NMK: np.ndarray, labels_N: np.ndarray) -> None:
        """Count a block of examples."""
        import numpy as np

        self._num_examples += len(labels_N)
        for place in range(len(self._num_right)):
            logits_NK = logits_NMK[:, place]
            self._is_finite[place] &= bool(np.isfinite(logits_NK).all())
            self._num_right[place] += int((logits_NK.argmax(axis=1) == labels_N).sum())

    def top1(self, place: int) -> float | None:
        """Give the share of examples that a classifier is right about.

        None where one of its outputs was not finite.
        """
        assert self._num_examples, "no examples, no score"
        if not self._is_finite[place]:
            return None
        return self._num_right[place] / self._num_examples


def blocks(num_examples: int, size: int) -> Iterator[range]:
    """Give the rows of consecutive blocks."""
    for start in range(0, num_examples, size):
        yield range(start, min(start + size, num_examples))


def named_once(parts: Iterable[Iterable[Failure]]) -> tuple[Failure, ...]:
    """Give failures of several sets, each item once, by name."""
    found = {failure.id: failure for part in parts for failure in part}
    return tuple(found[name] for name in sorted(found))


def remarks_once(parts: Iterable[Iterable[Remark]]) -> tuple[Remark, ...]:
    """Give remarks of several sets, each once, in order."""
    return tuple(dict.fromkeys(remark for part in parts for remark in part))

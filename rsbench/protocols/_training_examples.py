"""What a training of a whole network reads: its examples, and the batches that a seed cuts of them.

Shape letters: B batch, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsbench.errors import DataError
from rsbench.protocols._multilabel import truth_of
from rsbench.protocols._networks import alike, network_inputs, note_remarks
from rsbench.protocols._training_recipe import Length, TrainingRecipe
from rsbench.specs import FitRequest, Item, ItemSet, Protocol, TargetKind

if TYPE_CHECKING:
    import torch

    from rsbench.data.loaders import Lookup
    from rsbench.media.augment import Augmentation
    from rsbench.training.batches import TrainingBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """What is trained on."""

    items: tuple[Item, ...]
    labels: tuple[Any, ...]
    """Class index of each, or tuple of them."""
    num_classes: int

    @classmethod
    def of(cls, request: FitRequest, sets: Sequence[ItemSet], *, protocol: Protocol) -> Examples:
        """Put the items of several sets one after another.

        Raises:
            DataError: They are fewer than two.
        """
        assert request.train is not None, "it trains"
        items = tuple(item for each in sets for item in each.items)
        if len(items) < 2:
            raise DataError(
                f"{protocol.name} needs at least two items to train on; there are {len(items)}:"
                " add data."
            )
        return cls(
            items=items,
            labels=tuple(
                tuple(sorted(target)) if request.target == "multilabel" else int(target)
                for each in sets
                for target in each.targets or ()
            ),
            num_classes=len(request.train.classes),
        )

    def labels_of(self, rows: Sequence[int], *, target: TargetKind) -> torch.Tensor:
        """Give what the loss compares with: int64 (B,), or float32 (B, K) of noughts and ones."""
        import torch

        labels = [self.labels[row] for row in rows]
        if target == "multilabel":
            return torch.from_numpy(truth_of(labels, num_classes=self.num_classes)).float()
        return torch.tensor(labels, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """Gives the training loop its batches."""

    request: FitRequest
    protocol: Protocol
    recipe: TrainingRecipe
    examples: Examples
    augmentation: Augmentation
    length: Length
    lookup: Lookup
    remarks: dict[str, list[str]]
    """Filled with what is odd about items that could be read."""

    def epoch(self, epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        """Read the batches of an epoch from `first` on, in an order that follows from the seed."""
        import numpy as np

        if self.recipe.full_batches:
            plan, number = self._stream(epoch, first)
            return self._batches(plan, number, failures)
        num_examples, size = len(self.examples.items), self.recipe.batch_size
        order = np.random.default_rng([self.request.seed, epoch]).permutation(num_examples).tolist()
        starts = range(first * size, min(self.length.steps_of(epoch) * size, num_examples), size)
        return self._batches([order[start : start + size] for start in starts], epoch, failures)

    def _stream(self, epoch: int, first: int) -> tuple[list[list[int]], int]:
        """Cut batches of the endless stream of shuffled passes.

        Returns:
            Rows of each batch, and the pass that they count from: rows go on beyond the examples
            with the passes that follow it.
        """
        from rsbench.training.order import passes

        num_steps = self.length.steps_of(epoch) - first
        num_examples = len(self.examples.items)
        plan: list[list[int]] = [[]]
        start = 0
        for place, each in enumerate(
            passes(
                num_examples,
                batch_size=self.recipe.batch_size,
                seed=self.request.seed,
                first_step=epoch * self.length.steps_per_epoch + first,
                num_steps=num_steps,
            )
        ):
            start = each.number if place == 0 else start
            for piece in each.pieces:
                plan[-1] += [row + place * num_examples for row in piece.rows]
                if piece.ends_batch:
                    plan.append([])
        return plan[:-1], start

    def _batches(
        self, plan: Sequence[Sequence[int]], number: int, failures: dict[str, str]
    ) -> Iterator[TrainingBatch]:
        """Read one batch for each entry of a plan, of this process's share of its rows."""
        from rsbench.data.loaders import training_batches
        from rsbench.training.batches import TrainingBatch
        from rsbench.training.distribution import share_of

        items, settings = self.examples.items, self.request.settings
        for batch in training_batches(
            items,
            self.request.reading,
            settings,
            plan=[share_of(rows, settings.ranks) for rows in plan],
            augmentation=self.augmentation,
            seed=self.request.seed,
            epoch=number,
            lookup=self.lookup,
        ):
            failures.update({items[each.row].id: each.reason for each in batch.failures})
            note_remarks(self.remarks, items, batch)
            if not batch.rows:
                yield _nothing()
                continue
            views = alike(batch.views, protocol=self.protocol.name)
            yield TrainingBatch(
                inputs=network_inputs(views, self.request.reading, device=settings.device),
                labels=self.examples.labels_of(batch.rows, target=self.request.target).to(
                    settings.device
                ),
                names=tuple(items[row].id for row in batch.rows),
            )


def _nothing() -> TrainingBatch:
    """Give a batch of which nothing can be read, or nothing is this process's."""
    import torch

    from rsbench.training.batches import TrainingBatch

    return TrainingBatch(torch.empty(0), torch.empty(0), ())

"""Features of a frozen network as a training takes them: from the cache, or of random views.

Shape letters: B batch, D features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rsbench.errors import RunError
from rsbench.protocols._networks import alike, note_remarks
from rsbench.protocols._trained import Cached, labelled_items
from rsbench.specs import Failure, FitRequest, ItemSet

if TYPE_CHECKING:
    import torch

    from rsbench.data.features import Output
    from rsbench.media.augment import Augmentation
    from rsbench.training.loop import TrainingBatch
    from rsbench.training.order import Pass


class CachedStream:
    """Examples whose features the cache keeps: one view of each item."""

    def __init__(self, request: FitRequest, sets: Sequence[ItemSet], *, output: Output) -> None:
        """Look at the items of the sets, which costs nothing where the cache has them.

        Raises:
            RunError: A feature is not finite, or the cache can't be written.
        """
        self._cached = Cached.of(request, sets, output=output)
        self._device = request.settings.device
        self.ids = self._cached.ids
        self.labels = self._cached.labels
        self.failures = self._cached.failures
        self.remarks: dict[str, list[str]] = {}
        for remark in self._cached.remarks:
            self.remarks.setdefault(remark.id, []).append(remark.reason)

    def __len__(self) -> int:
        return len(self._cached)

    def read(self, failures: dict[str, str], each: Pass) -> Iterator[TrainingBatch]:
        """Give one batch for each piece of a pass."""
        del failures  # What can't be read was left out before.
        for piece in each.pieces:
            yield self._cached.batch(piece.rows, device=self._device)


class RandomStream:
    """Examples of which the frozen network is shown another random view in each pass."""

    def __init__(
        self,
        request: FitRequest,
        sets: Sequence[ItemSet],
        *,
        output: Output,
        augmentation: Augmentation,
        protocol: str,
    ) -> None:
        """Look the items of the sets up.

        Args:
            request: Network, reading, seed and settings.
            sets: What is trained on.
            output: What the network gives of a view.
            augmentation: How far views may differ from the items.
            protocol: Its name, for messages.
        """
        import numpy as np

        from rsbench.data.loaders import Lookup
        from rsbench.data.outputs import Outputs, lay_out

        self._request = request
        self._augmentation = augmentation
        self._protocol = protocol
        self._items, labels = labelled_items(sets)
        self.ids = tuple(item.id for item in self._items)
        self.labels = np.array(labels, dtype=np.int64)
        every = range(len(self._items))
        settings = request.settings
        self._lookup = Lookup(self._items, request.reading, settings, rows=every, is_random=True)
        lay_out(request.model.module)
        self._outputs = Outputs(request.model, request.reading, settings, output)
        self.failures: tuple[Failure, ...] = ()
        self.remarks: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._items)

    def read(self, failures: dict[str, str], each: Pass) -> Iterator[TrainingBatch]:
        """Give one batch for each piece of a pass; what can't be read is named in `failures`.

        Raises:
            RunError: A feature is not finite, the views differ in shape, or a worker died.
        """
        import torch

        from rsbench.data.loaders import dead_workers_named, training_batches
        from rsbench.training.loop import TrainingBatch

        device = self._request.settings.device
        with dead_workers_named():
            for batch in training_batches(
                self._items,
                self._request.reading,
                self._request.settings,
                plan=[piece.rows for piece in each.pieces],
                augmentation=self._augmentation,
                seed=self._request.seed,
                epoch=each.number,
                lookup=self._lookup,
            ):
                failures.update({self._items[one.row].id: one.reason for one in batch.failures})
                note_remarks(self.remarks, self._items, batch)
                names = tuple(self._items[row].id for row in batch.rows)
                if not names:
                    yield TrainingBatch(torch.empty(0), torch.empty(0), ())
                    continue
                with torch.no_grad():
                    features_BD = self._outputs(alike(batch.views, protocol=self._protocol))
                _refuse_unless_finite(features_BD, names)
                yield TrainingBatch(
                    features_BD,
                    torch.from_numpy(self.labels[list(batch.rows)]).to(device),
                    names,
                )


def _refuse_unless_finite(features_BD: torch.Tensor, names: Sequence[str]) -> None:
    is_finite = features_BD.isfinite().all(dim=1).tolist()
    bad = [name for name, is_fine in zip(names, is_finite, strict=True) if not is_fine]
    if bad:
        raise RunError(
            f"The network's features must be finite; they are NaN or infinite for {len(bad)} views"
            f" of a training batch: {', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}. Try"
            " --precision float32, or look at the weights."
        )

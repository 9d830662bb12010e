"""How well a network does on what is held out of its training, while it trains or after.

It sees the centre view of each item, as a test with one view would show it, and nothing random.

Shape letters: N items, V views, B batch, C channels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rsbench.errors import DataError
from rsbench.protocols._multilabel import mean_average_precision, truth_of
from rsbench.protocols._networks import alike, machine_of, network_inputs, note_remarks
from rsbench.protocols._probing import SelectedOn
from rsbench.specs import FitRequest, ItemSet, Scalar

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from rsbench.data.loaders import Lookup

_TOP1 = "held_out_top1"
"""What the training loop calls whatever score it is given."""


class HeldOut:
    """Items that nothing is fitted on, with their labels."""

    def __init__(self, request: FitRequest, held: ItemSet, *, where: SelectedOn) -> None:
        """Hold a set; it is read whenever a network is scored.

        Args:
            request: Reading, target and machine.
            held: With its targets.
            where: What it is a part of, in words.
        """
        assert held.targets is not None, "what is scored has targets"
        self.where = where
        self._failures: dict[str, str] = {}
        self._remarks: dict[str, list[str]] = {}
        self._request = request
        self._items = held.items
        self._targets: list[Any] = list(held.targets)
        self._num_classes = len(held.classes)
        self._lookup: Lookup | None = None

    def all_failures(self) -> dict[str, str]:
        """Give the reason by id of items that could not be read by any process: not scored."""
        from rsbench.training.distribution import merged

        return merged(self._failures, self._request.settings.ranks)

    def all_remarks(self) -> dict[str, list[str]]:
        """Give what is odd about items that could be read, by id."""
        from rsbench.training.distribution import merged

        return merged(self._remarks, self._request.settings.ranks)

    @property
    def metric(self) -> str:
        """What a score is called in curves and traces."""
        return "held_out_map" if self._request.target == "multilabel" else _TOP1

    def named(self, curve: Sequence[Mapping[str, Scalar]]) -> tuple[Mapping[str, Scalar], ...]:
        """Give the rows of a training's curve with the score under its own name."""
        return tuple(
            {self.metric if key == _TOP1 else key: value for key, value in row.items()}
            for row in curve
        )

    def __len__(self) -> int:
        return len(self._items)

    def score(self, network: nn.Module) -> float:
        """Give top-1 accuracy, or mean average precision where items have several labels.

        Under `Settings.ranks` every process calls it, looks at its share, and gets the score of
        all.

        Args:
            network: (B, C, ...) -> logits (B, K), in eval mode on the device.

        Returns:
            In [0, 1]; not a number where an output is not finite.

        Raises:
            DataError: No item can be read.
            RunError: A worker died.
        """
        from rsbench.training.distribution import from_lead

        if self._request.target == "multilabel":
            # A ranking needs all scores in one place: every process looks at everything. Rounding
            # may differ from one to the next, and all must choose alike.
            precision = self._mean_precision(network)
            return float(from_lead(lambda: precision, self._request.settings.ranks))
        num_right, num_read = self._counted(network)
        self._refuse_nothing(num_read)
        return num_right / num_read

    def _mean_precision(self, network: nn.Module) -> float:
        import numpy as np

        rows, logits_NK = self._logits(network, list(range(len(self._items))))
        self._refuse_nothing(len(rows))
        if not np.isfinite(logits_NK).all():
            return math.nan
        truth_NK = truth_of([self._targets[row] for row in rows], num_classes=self._num_classes)
        return mean_average_precision(logits_NK, truth_NK)

    def _counted(self, network: nn.Module) -> tuple[float, int]:
        """Give how many items are classified rightly, and how many could be read, of all ranks.

        The first is not a number where an output of any rank is not finite.
        """
        import numpy as np

        from rsbench.training.distribution import gathered_sum, share_of

        ranks = self._request.settings.ranks
        mine = share_of(range(len(self._items)), ranks)
        rows, logits_NK = self._logits(network, mine)
        right = float(
            sum(
                int(self._targets[row]) == int(logits_K.argmax())
                for row, logits_K in zip(rows, logits_NK, strict=True)
            )
        )
        if not np.isfinite(logits_NK).all():
            right = math.nan
        all_right, all_read = gathered_sum([right, float(len(rows))], ranks)
        return all_right, int(all_read)

    def _logits(self, network: nn.Module, rows: list[int]) -> tuple[list[int], np.ndarray]:
        """Run the network on the centre views of some items.

        Returns:
            The rows that could be read, and their logits, float32 (N, K).
        """
        import numpy as np
        import torch

        from rsbench.data.loaders import Lookup, batches
        from rsbench.training.machine import autocast

        request = self._request
        settings = request.settings
        if self._lookup is None:
            # What is known of the items is looked up once, not after each epoch.
            self._lookup = Lookup(
                self._items, request.reading, settings, rows=rows, is_random=False
            )
        read: list[int] = []
        found = [np.empty((0, self._num_classes), dtype=np.float32)]
        for batch in batches(
            self._items, request.reading, settings, rows=rows, lookup=self._lookup
        ):
            self._failures.update(
                {self._items[each.row].id: each.reason for each in batch.failures}
            )
            note_remarks(self._remarks, self._items, batch)
            if not batch.rows:
                continue
            # One view an item: the axis of views is dropped.
            views = alike(batch.views, protocol="A held-out score")[:, 0]
            inputs = network_inputs(views, request.reading, device=settings.device)
            with torch.inference_mode(), autocast(machine_of(settings)):
                logits_BK = network(inputs)
            found.append(logits_BK.float().cpu().numpy())
            read += batch.rows
        return read, np.concatenate(found)

    def _refuse_nothing(self, num_read: int) -> None:
        if num_read:
            return
        first = next(iter(self._failures.items()), None)
        why = "" if first is None else f" (the first is {first[0]}: {first[1]})"
        raise DataError(
            f"Epochs and settings are compared on {self.where} data, and no item of it could be"
            f" read{why}: hold more of train out, or mend the files."
        )

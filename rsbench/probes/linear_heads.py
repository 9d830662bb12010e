"""Many linear classifiers on the same features, trained side by side: a grid in one pass.

Each head sees some of the columns and has its own start, rate and decay; heads share nothing, so
each ends as if it had been trained alone (to the rounding of a wider multiplication). Heads that
see the same columns are multiplied together.

Shape letters: B batch, D features, K classes, M heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional


class LinearHeads(nn.Module):
    """M classifiers W x + b on the last columns of features."""

    def __init__(
        self, widths: Sequence[int], *, num_classes: int, seeds: Sequence[int], weight_std: float
    ) -> None:
        """Draw the weights; biases are 0.

        Args:
            widths: How many of the last columns each head sees, (M,), at least 1 each.
            num_classes: K.
            seeds: Of the weights of each head, (M,): equal seeds and widths give equal weights.
            weight_std: Deviation of the weights; 0 starts at zero.
        """
        super().__init__()
        self.widths = tuple(widths)
        self.weights = nn.ParameterList(
            nn.Parameter(_normal(num_classes, width, weight_std, seed))
            for width, seed in zip(widths, seeds, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(num_classes)) for _ in widths)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Map features, at least as wide as the widest head, to logits (B, M, K)."""
        parts = []
        for width, heads in groupby(range(len(self.widths)), key=lambda head: self.widths[head]):
            same = list(heads)
            logits = functional.linear(
                features_BD[:, features_BD.shape[1] - width :],
                torch.cat([self.weights[head] for head in same]),
                torch.cat([self.biases[head] for head in same]),
            )
            parts.append(logits.reshape(len(logits), len(same), -1))
        return torch.cat(parts, dim=1)

    def parameters_of(self, head: int) -> tuple[nn.Parameter, nn.Parameter]:
        """Give weight (K, its width) and bias (K,) of one head."""
        return self.weights[head], self.biases[head]


def _normal(num_classes: int, width: int, std: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_classes, width, generator=generator) * std

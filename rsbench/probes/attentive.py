"""The attentive probe: a learned query looks at all tokens of a frozen network, then a classifier.

The architecture is that of V-JEPA 2 (arXiv 2506.09985; src/models/attentive_pooler.py and
src/models/utils/modules.py of its code): `num_blocks` - 1 transformer blocks on the tokens (norm
first, GELU, biases everywhere), then one block in which a single learned query attends to them. The
query itself is not normalised, and no projection follows its attention, as there. With one block it
is the probe of V-JEPA (arXiv 2404.08471), but for that projection.

Nothing in it knows where a token came from: a convolutional map tells no more of positions than its
zero padding does.

Shape letters: B batch, S tokens, Q queries (one), D width, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_INIT_STD = 0.02
"""Of a normal cut at +-2, for all weight matrices and the query (`init_std` of the code)."""


class Perceptron(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, width)

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """Map each token by itself: (B, S, D) -> (B, S, D)."""
        hidden: Tensor = self.fc2(functional.gelu(self.fc1(tokens_BSD)))
        return hidden


class SelfAttentionBlock(nn.Module):
    """A transformer block, norm first: tokens attend to one another."""

    def __init__(self, width: int, num_heads: int, hidden_width: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Perceptron(width, hidden_width)

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """Map tokens (B, S, D) to as many."""
        queries, keys, values = self.qkv(self.norm1(tokens_BSD)).chunk(3, dim=-1)
        tokens_BSD = tokens_BSD + self.proj(_attend(queries, keys, values, self.num_heads))
        mixed: Tensor = tokens_BSD + self.mlp(self.norm2(tokens_BSD))
        return mixed


class CrossAttentionBlock(nn.Module):
    """Queries attend to tokens; neither are the queries normalised nor what they find projected."""

    def __init__(self, width: int, num_heads: int, hidden_width: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(width)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Perceptron(width, hidden_width)

    def forward(self, queries_BQD: Tensor, tokens_BSD: Tensor) -> Tensor:
        """Give what the queries found, (B, Q, D)."""
        keys, values = self.kv(self.norm1(tokens_BSD)).chunk(2, dim=-1)
        found = _attend(self.q(queries_BQD), keys, values, self.num_heads)
        queries_BQD = queries_BQD + found
        mixed: Tensor = queries_BQD + self.mlp(self.norm2(queries_BQD))
        return mixed


class AttentiveProbe(nn.Module):
    """Pool tokens with a learned query and classify what it gives: (B, S, D) -> logits (B, K)."""

    def __init__(
        self,
        width: int,
        *,
        num_classes: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float,
        seed: int,
    ) -> None:
        """Draw the weights as the code of V-JEPA 2 does; equal seeds give equal ones.

        Args:
            width: D, a multiple of `num_heads`.
            num_classes: K.
            num_blocks: All of them, the last one with the query, at least 1.
            num_heads: Of each attention.
            mlp_ratio: Hidden width of the blocks' perceptrons over D.
            seed: Of the weights.
        """
        super().__init__()
        assert width % num_heads == 0, "each attention head sees as many features"
        hidden_width = int(width * mlp_ratio)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.blocks = nn.ModuleList(
                SelfAttentionBlock(width, num_heads, hidden_width) for _ in range(num_blocks - 1)
            )
            self.query = nn.Parameter(torch.zeros(1, 1, width))
            self.pool = CrossAttentionBlock(width, num_heads, hidden_width)
            # The classifier keeps PyTorch's own start.
            self.linear = nn.Linear(width, num_classes)
            self._draw()

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """Map tokens (B, S, D) to logits (B, K)."""
        for block in self.blocks:
            tokens_BSD = block(tokens_BSD)
        queries_BQD = self.query.expand(len(tokens_BSD), -1, -1)
        logits: Tensor = self.linear(self.pool(queries_BQD, tokens_BSD)[:, 0])
        return logits

    @torch.no_grad()
    def _draw(self) -> None:
        _draw_truncated(self.query)
        for part in (*self.pool.modules(), *self.blocks.modules()):
            if isinstance(part, nn.Linear):
                _draw_truncated(part.weight)
                nn.init.zeros_(part.bias)
        # What is added to the residual stream is scaled down with the depth.
        self.pool.mlp.fc2.weight.div_(math.sqrt(2))
        for number, block in enumerate(self.blocks, start=2):
            assert isinstance(block, SelfAttentionBlock)
            block.proj.weight.div_(math.sqrt(2 * number))
            block.mlp.fc2.weight.div_(math.sqrt(2 * number))


def num_parameters(width: int, *, num_classes: int, num_blocks: int, mlp_ratio: float) -> int:
    """Count the parameters of a probe without building it."""
    hidden_width = int(width * mlp_ratio)
    perceptron = 2 * width * hidden_width + hidden_width + width
    norms = 4 * width
    self_attention = 4 * (width * width + width) + norms + perceptron
    cross_attention = 3 * (width * width + width) + norms + perceptron
    classifier = num_classes * (width + 1)
    return (num_blocks - 1) * self_attention + cross_attention + width + classifier


def _attend(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
    """Let each head of each query look at all keys: (B, Q, D), (B, S, D) twice -> (B, Q, D)."""
    queries, keys, values = (
        each.reshape(*each.shape[:2], num_heads, -1).transpose(1, 2)
        for each in (queries, keys, values)
    )
    found = functional.scaled_dot_product_attention(queries, keys, values)
    return found.transpose(1, 2).flatten(2)


def _draw_truncated(weight: Tensor) -> None:
    # The code cuts at -2 and 2, a hundred deviations away.
    nn.init.trunc_normal_(weight, std=_INIT_STD, a=-2.0, b=2.0)

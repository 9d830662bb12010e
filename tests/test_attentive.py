"""The attentive probe beside PyTorch's own transformer layers, with the same weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from rsbench.probes.attentive import (
    AttentiveProbe,
    CrossAttentionBlock,
    SelfAttentionBlock,
    num_parameters,
)

WIDTH, HEADS, HIDDEN = 24, 4, 96


def _drawn(module: nn.Module) -> nn.Module:
    """Give every parameter a value of its own, the norms too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


def test_a_self_attention_block_is_torchs_encoder_layer_with_the_norm_first() -> None:
    block = SelfAttentionBlock(WIDTH, HEADS, HIDDEN)
    _drawn(block)
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    layer.load_state_dict(
        {
            "self_attn.in_proj_weight": block.qkv.weight,
            "self_attn.in_proj_bias": block.qkv.bias,
            "self_attn.out_proj.weight": block.proj.weight,
            "self_attn.out_proj.bias": block.proj.bias,
            "linear1.weight": block.mlp.fc1.weight,
            "linear1.bias": block.mlp.fc1.bias,
            "linear2.weight": block.mlp.fc2.weight,
            "linear2.bias": block.mlp.fc2.bias,
            "norm1.weight": block.norm1.weight,
            "norm1.bias": block.norm1.bias,
            "norm2.weight": block.norm2.weight,
            "norm2.bias": block.norm2.bias,
        }
    )
    tokens = torch.randn(3, 10, WIDTH)

    torch.testing.assert_close(block(tokens), layer(tokens), atol=1e-4, rtol=1e-4)


def test_a_cross_attention_block_is_torchs_attention_without_its_last_projection() -> None:
    block = CrossAttentionBlock(WIDTH, HEADS, HIDDEN)
    _drawn(block)
    attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([block.q.weight, block.kv.weight]))
        attention.in_proj_bias.copy_(torch.cat([block.q.bias, block.kv.bias]))
        attention.out_proj.weight.copy_(torch.eye(WIDTH))
        attention.out_proj.bias.zero_()
    queries, tokens = torch.randn(3, 1, WIDTH), torch.randn(3, 10, WIDTH)

    # CrossAttentionBlock of V-JEPA 2: q = q + y, then q = q + mlp(norm2(q)).
    seen = block.norm1(tokens)
    expected = queries + attention(queries, seen, seen, need_weights=False)[0]
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(queries, tokens), expected, atol=1e-4, rtol=1e-4)


def _probe(num_blocks: int = 4, seed: int = 0) -> AttentiveProbe:
    return AttentiveProbe(
        WIDTH, num_classes=5, num_blocks=num_blocks, num_heads=HEADS, mlp_ratio=4.0, seed=seed
    )


def test_a_probe_is_its_blocks_then_the_query_then_a_linear_layer() -> None:
    probe = _probe().eval()
    tokens = torch.randn(2, 7, WIDTH)

    seen = tokens
    for block in probe.blocks:
        seen = block(seen)
    expected = probe.linear(probe.pool(probe.query.expand(2, 1, WIDTH), seen).squeeze(1))

    assert len(probe.blocks) == 3
    torch.testing.assert_close(probe(tokens), expected)


def test_the_order_of_tokens_does_not_matter_and_their_values_do() -> None:
    probe = _drawn(_probe())
    tokens = torch.randn(2, 7, WIDTH)

    torch.testing.assert_close(probe(tokens.flip(1)), probe(tokens), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(probe(tokens), probe(tokens.roll(1, dims=2)), atol=1e-2)


def test_weights_start_as_those_of_v_jepa_2() -> None:
    # attentive_pooler.py: deviation 0.02, what is added to the stream over sqrt(2 * depth), where
    # the pool has depth 1 and the blocks 2, 3, 4. Wide, so that deviations are sharp.
    probe = AttentiveProbe(96, num_classes=5, num_blocks=4, num_heads=4, mlp_ratio=4.0, seed=0)

    def deviation(weight: torch.Tensor) -> float:
        return float(weight.detach().std())

    assert deviation(probe.pool.kv.weight) == pytest.approx(0.02, rel=0.03)
    assert deviation(probe.pool.mlp.fc2.weight) == pytest.approx(0.02 / math.sqrt(2), rel=0.03)
    for depth, block in enumerate(probe.blocks, start=2):
        assert isinstance(block, SelfAttentionBlock)
        assert deviation(block.qkv.weight) == pytest.approx(0.02, rel=0.03)
        expected = 0.02 / math.sqrt(2 * depth)
        assert deviation(block.proj.weight) == pytest.approx(expected, rel=0.03)
        assert deviation(block.mlp.fc2.weight) == pytest.approx(expected, rel=0.03)
    assert not probe.pool.q.bias.any()
    # torch.nn.Linear's own: uniform within 1 / sqrt(D), whose deviation is that over sqrt(3).
    assert deviation(probe.linear.weight) == pytest.approx(1 / math.sqrt(3 * 96), rel=0.1)


def test_equal_seeds_give_equal_probes_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()

    one, same, other = _probe(seed=1), _probe(seed=1), _probe(seed=2)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.query, same.query)
    assert not torch.equal(one.query, other.query)


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_parameters_are_counted_without_a_probe(num_blocks: int) -> None:
    counted = num_parameters(WIDTH, num_classes=5, num_blocks=num_blocks, mlp_ratio=4.0)

    assert counted == sum(each.numel() for each in _probe(num_blocks).parameters())

"""VTAB's flow with the whole network is `vtab1k`'s own, whose tests hold it (test_vtab1k.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_world import fit_request, item_set, model, pictures, settings
from torch import nn

from rsbench.errors import RsbenchError
from rsbench.protocols import vtab1k
from rsbench.protocols.finetune_vtab import PROTOCOL, fit
from rsbench.specs import Fitted, Protocol

pytestmark = pytest.mark.usefixtures("one_thread")


def _fitted(folder: Path, protocol: Protocol = PROTOCOL, **changes: Any) -> Fitted:
    network = changes.pop("network", None) or model()
    recipe = {**protocol.recipe, "steps": "6,10", "batch_size": 16, **changes}
    asked = fit_request(
        protocol, network, item_set(*pictures(36, noise=60)), settings(folder), recipe=recipe
    )
    return protocol.fit(asked)


def test_it_comes_to_what_vtab1k_comes_to_with_the_whole_network(tmp_path: Path) -> None:
    found = _fitted(tmp_path / "a")
    expected = _fitted(tmp_path / "b", vtab1k.PROTOCOL)

    assert found.selection == expected.selection
    assert found.chosen == expected.chosen
    assert found.arrays.keys() == expected.arrays.keys()
    assert all(np.array_equal(found.arrays[name], expected.arrays[name]) for name in found.arrays)


def test_each_training_leaves_its_curve(tmp_path: Path) -> None:
    found = _fitted(tmp_path)

    # No training is longer than a stretch, so each has one row.
    ends = [(row["training"], row["steps"]) for row in found.curve]
    best = next(row["steps"] for row in found.selection if row["chosen"])
    assert ends == [
        ("rate 0.1, steps 6", 6),
        ("rate 0.1, steps 10", 10),
        ("rate 0.01, steps 6", 6),
        ("rate 0.01, steps 10", 10),
        ("best", best),
    ]


def test_the_network_always_learns() -> None:
    assert PROTOCOL.fit is fit
    assert PROTOCOL.learns_backbone(PROTOCOL.recipe)
    assert "train" not in PROTOCOL.recipe
    assert PROTOCOL.train_views(PROTOCOL.recipe) == 3 * 512 * (2 * 12_500 + 10_000)


class Averages(nn.Module):
    """Mean colours of the quarters, without a batch norm, which would see the parts alone."""

    head: nn.Module | None = None

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))
        self.sizes: set[int] = set()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.sizes.add(len(batch))
        return nn.functional.adaptive_avg_pool2d(batch, 2).flatten(1) * self.scale

    def __deepcopy__(self, memo: dict[int, Any]) -> Averages:
        # The copy that trains tells what it saw to the one that the test holds.
        copied = Averages()
        copied.sizes = self.sizes
        return copied


def test_a_batch_in_parts_is_the_same_batch_where_nothing_is_normalised(tmp_path: Path) -> None:
    whole = _fitted(tmp_path / "a", network=model(Averages()))
    network = Averages()
    parts = _fitted(tmp_path / "b", network=model(network), examples_at_once=4)

    assert network.sizes == {4}
    for name, array in whole.arrays.items():
        np.testing.assert_allclose(parts.arrays[name], array, atol=1e-6)
    with pytest.raises(RsbenchError, match=r"^examples_at_once must be"):
        PROTOCOL.check({**PROTOCOL.recipe, "examples_at_once": -1})

"""The loop in several processes: what one is told all do, and what one keeps all have."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from team_world import in_processes
from torch import nn

from rsbench.data.team import Team
from rsbench.specs import Ranks
from rsbench.training.batches import TrainingBatch
from rsbench.training.distribution import share_of
from rsbench.training.loop import Checkpoint, Machine, TrainingPlan, named_tensors, train

# Imported here, because every forked child would otherwise import it again, for seconds.
import torch._dynamo  # isort: skip

NUM_EXAMPLES, BATCH_SIZE = 20, 8
PLAN = TrainingPlan(
    epochs=3,
    optimizer="adamw",
    learning_rate=0.01,
    momentum=0.9,
    weight_decay=1e-3,
    decay_norm_and_bias=False,
    warmup_share=0.1,
    warmup_factor=0.1,
    label_smoothing=0.0,
    largest_gradient=0.0,
    ema_decay=0.9,
)
SCORES = (0.2, 0.6, 0.4)


pytestmark = pytest.mark.usefixtures("one_thread")


def _trained(
    ranks: Ranks, folder: Path, *, told_at: int = -1, scores: tuple[float, ...] = ()
) -> dict[str, Any]:
    """Train with dropout and batch norm; the second process is told to stop at a step."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(NUM_EXAMPLES, 4, generator=generator)
    labels = torch.arange(NUM_EXAMPLES) % 3
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )
    dropped: list[tuple[bool, ...]] = []
    network[3].register_forward_hook(
        lambda module, given, output: dropped.append(tuple((output[0] == 0).tolist()))
    )

    def read(epoch: int, first: int, failures: dict[str, str]) -> Iterator[TrainingBatch]:
        order = np.random.default_rng([0, epoch]).permutation(NUM_EXAMPLES).tolist()
        for start in range(first * BATCH_SIZE, NUM_EXAMPLES, BATCH_SIZE):
            rows = share_of(order[start : start + BATCH_SIZE], ranks)
            yield TrainingBatch(inputs[rows], labels[rows], tuple(map(str, rows)))

    def progress(done: int, total: int) -> None:
        if ranks.rank == 1 and done == told_at:
            os.kill(os.getpid(), signal.SIGTERM)

    left = list(scores)

    def held_out(shown: nn.Module) -> float:
        # What the others think of it does not count.
        if ranks.rank > 0:
            return 0.9
        return left.pop(0) if left else float(named_tensors(shown)["4.bias"][0].sigmoid())

    found = train(
        network,
        read,
        PLAN,
        steps_per_epoch=3,
        seed=0,
        machine=Machine(device="cpu", precision="float32"),
        checkpoint=Checkpoint(path=folder / f"of {ranks.rank}" / "c.pt", key="k"),
        ranks=ranks,
        held_out=held_out,
        keep="best",
        progress=progress,
    )
    return {
        "weights": {name: each.numpy().copy() for name, each in named_tensors(network).items()},
        "curve": [{k: v for k, v in row.items() if k != "seconds"} for row in found.curve],
        "kept_epoch": found.kept_epoch,
        "num_steps": found.num_steps,
        "dropped": dropped,
    }


def _together(team: Team, folder: Path, **words: Any) -> Any:
    return team.together(lambda ranks: _trained(ranks, folder, **words))


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        np.array_equal(each, other["weights"][name]) for name, each in one["weights"].items()
    )


def test_all_end_with_the_first_ones_best_network_and_the_same_curve(tmp_path: Path) -> None:
    (_, first), (_, second) = in_processes(
        tmp_path, 2, partial(_together, folder=tmp_path, scores=SCORES)
    )

    assert first["kept_epoch"] == second["kept_epoch"] == 2
    assert _same(first, second)
    assert first["curve"] == second["curve"]
    assert [row["held_out_top1"] for row in first["curve"]] == list(SCORES)
    # Alike in the rehearsal and ever after, they would drop the same features.
    assert first["dropped"] != second["dropped"]


# Words cross while the next batch but one is read, and before a score: a step later all leave.
@pytest.mark.parametrize(
    ("step", "where"), [(1, "in epoch 1 after batch 2"), (2, "in epoch 1 after batch 3")]
)
def test_all_stop_where_one_is_told_to_and_go_on_to_the_same_bits(
    tmp_path: Path, step: int, where: str
) -> None:
    whole = in_processes(tmp_path / "whole", 2, partial(_together, folder=tmp_path / "whole"))
    parts = tmp_path / "parts"

    stopped = in_processes(parts, 2, partial(_together, folder=parts, told_at=step))
    (parts / "rendezvous").unlink(missing_ok=True)
    resumed = in_processes(parts, 2, partial(_together, folder=parts))

    assert [word for word, _ in stopped] == ["RunError", "RunError"]
    assert all(f"Stopped by SIGTERM {where}" in said for _, said in stopped), stopped
    for (_, one), (_, other) in zip(whole, resumed, strict=True):
        assert other["num_steps"] == 9
        assert _same(one, other)

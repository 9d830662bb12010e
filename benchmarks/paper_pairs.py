"""Time the pairs of the ResNet-RS paper, ResNet-RS beside the EfficientNet of the same accuracy.

    python benchmarks/paper_pairs.py [--batch 128] [--precision bf16] [--results results]

Bello et al. 2021, https://arxiv.org/abs/2103.07579, claims 1.7 to 2.7 times the speed on a TPU and
2.1 to 3.3 times on a GPU, of a training step with a batch of 128, halved until it fits (tables 3
and 4; README of tensorflow/tpu, models/official/resnet/resnet_rs). It was measured on a V100 in
float32 and on a TPUv3 in bfloat16. Here a step is forward, backward and SGD with momentum; times
are compared image for image. It wants a GPU; `--small` runs the same networks at a quarter of the
side and a batch of two on a CPU, which shows that the program works and says nothing about the
claim.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rsbench.profiling import cost_tables, costs, grids
from rsbench.profiling.costs import Cost
from rsbench.profiling.side_by_side import ProfileRequest, profile
from rsbench.profiling.steps import Setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two networks of about the same accuracy, and what the paper says of them."""

    ours: str
    theirs: str
    tpu: float
    """How many times as long the second one's training step takes, TPUv3, bfloat16."""
    gpu: float
    """The same on a V100, float32."""
    memory: float | None
    """How many times as much memory it takes, TPUv3."""


PAIRS = (
    # Table 3: 84.0 and 84.0 % top-1; 84.4 and 84.7 %.
    Pair(
        ours="resnet_rs_350@256",
        theirs="torchvision/efficientnet_b6@528",
        tpu=2.7,
        gpu=3.3,
        memory=2.3,
    ),
    Pair(
        ours="resnet_rs_420@320",
        theirs="torchvision/efficientnet_b7@600",
        tpu=2.9,
        gpu=2.8,
        memory=1.8,
    ),
    # Table 4: 86.2 and 86.1 % with 130 million images more (its 4.7x and 5.5x).
    Pair(
        ours="resnet_rs_152@224",
        theirs="torchvision/efficientnet_b5@456",
        tpu=4.7,
        gpu=5.5,
        memory=None,
    ),
)


def smaller(name: str) -> str:
    """Give the same network at a quarter of its side."""
    base, _, pixels = name.partition("@")
    return f"{base}@{max(32, int(pixels) // 4)}"


def ratio_of(work: str, ours: Cost, theirs: Cost) -> float | None:
    """Give how many times as long the second network takes for an image."""
    pair = (theirs.timing(work), ours.timing(work))
    if pair[0] is None or pair[1] is None:
        return None
    return pair[1].views_per_second / pair[0].views_per_second


def memory_ratio(ours: Cost, theirs: Cost) -> float | None:
    """Give how many times as much memory the second one's training step takes, at equal batch."""
    pair = (theirs.timing("training"), ours.timing("training"))
    if pair[0] is None or pair[1] is None or pair[0].batch_size != pair[1].batch_size:
        return None
    if not pair[0].peak_bytes or not pair[1].peak_bytes:
        return None
    return pair[0].peak_bytes / pair[1].peak_bytes


def verdict(pair: Pair, measured: Sequence[Cost]) -> tuple[str, ...]:
    """Give a row of the table of ratios: the second network over the first, and the paper's."""
    by_name = {cost.backbone: cost for cost in measured}
    found = [by_name.get(pair.ours), by_name.get(pair.theirs)]
    ratios: list[float | None] = [None, None, None]
    if found[0] is not None and found[1] is not None:
        ours, theirs = found[0], found[1]
        ratios = [
            ratio_of("training", ours, theirs),
            ratio_of("inference", ours, theirs),
            memory_ratio(ours, theirs),
        ]
    paper = (pair.tpu, pair.gpu, pair.memory)
    return (
        f"{pair.theirs} / {pair.ours}",
        *("-" if each is None else f"{each:.2f}" for each in ratios),
        *("-" if each is None else f"{each:.1f}" for each in paper),
    )


def main(pairs: Sequence[Pair] = PAIRS) -> None:
    """Measure pair by pair, print what was measured and the ratios beside the paper's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, default=128, help="images a step, halved until it fits"
    )
    parser.add_argument("--precision", choices=["float32", "bf16", "fp16"], default="float32")
    parser.add_argument(
        "--layout", choices=["channels_last", "contiguous"], default="channels_last"
    )
    parser.add_argument("--rounds", type=int, default=10, help="laps of everything")
    parser.add_argument("--results", type=Path, help="results folder to save in")
    parser.add_argument("--small", action="store_true", help="a small size, on the CPU")
    words = parser.parse_args()
    if not (words.small or torch.cuda.is_available()):
        print("The paper's pairs want a GPU, and there is none; --small shows how it would run.")
        return
    measured: list[Cost] = []
    rows = []
    for pair in map(_smaller_pair, pairs) if words.small else pairs:
        print(f"{pair.ours} and {pair.theirs}", flush=True)
        found = profile(_request(pair, words))
        for fault in found.faults:
            print(f"  {fault.backbone}, {fault.what}: {fault.error}")
        measured += found.costs
        rows.append(verdict(pair, found.costs))
        if words.results is not None:
            for cost in found.costs:
                print(f"  saved: {costs.save(words.results, cost)}")
    print(grids.to_terminal([*cost_tables.cost_grids(measured), _ratios(rows, small=words.small)]))


def _request(pair: Pair, words: argparse.Namespace) -> ProfileRequest:
    small = words.small
    return ProfileRequest(
        backbones=(pair.ours, pair.theirs),
        batch_size=2 if small else words.batch,
        setting=Setting(
            device="cpu" if small else "cuda",
            precision=words.precision,
            layout=words.layout,
        ),
        training=True,
        rounds=1 if small else words.rounds,
    )


def _smaller_pair(pair: Pair) -> Pair:
    return Pair(
        ours=smaller(pair.ours),
        theirs=smaller(pair.theirs),
        tpu=pair.tpu,
        gpu=pair.gpu,
        memory=pair.memory,
    )


def _ratios(rows: Sequence[tuple[str, ...]], *, small: bool) -> grids.Grid:
    remarks = [
        "Times and memory of the second network over those of the first: above 1, ResNet-RS is"
        " faster, image for image. Memory only where both trained with the same batch.",
        "The paper claims 1.7 to 2.7 on a TPU and 2.1 to 3.3 on a GPU at equal accuracy; its own"
        " columns are its tables'.",
    ]
    if small:
        remarks.append("NOT THE CLAIM: small pictures, a batch of two and one lap, on a CPU.")
    return grids.Grid(
        title="EfficientNet over ResNet-RS",
        headers=(
            *("pair", "step", "forward", "memory"),
            *("paper TPUv3", "paper V100", "paper memory"),
        ),
        rows=tuple(rows),
        remarks=tuple(remarks),
    )


if __name__ == "__main__":
    main()

"""Run ResNet-RS beside timm's networks of the same name: forward, and a whole training step.

    python benchmarks/resnet_rs_beside_timm.py [--depths 50,101] [--batch 4] [--repeats 9]

Both hold the same weights; their outputs and the operations they ask PyTorch for are compared
first. They take turns on one thread, each round beginning with another one; ours runs a second time
as "ours again", whose ratio to ours shows how far two equal things lie apart here. Ratios are over
what the process computed (CPU time), lap by lap, and their median is given: above 1, ours is
faster. `--laps` prints every lap.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from rsbench.profile import with_head
from rsbench.profiling.steps import Kind, Layout, NetworkAtWork, Setting
from rsbench.profiling.timing import Lap, clock_of, take_turns
from rsbench.registry import find_backbone

CLASSES = 1000
KINDS: tuple[Kind, ...] = ("inference", "training")
LAYOUTS: tuple[Layout, ...] = ("channels_last", "contiguous")


def networks(depth: int) -> dict[str, nn.Module]:
    """Build ours twice and timm's once, with equal weights of which none is zero."""
    spec = find_backbone(f"resnet_rs_{depth}").spec
    torch.manual_seed(0)
    ours = spec.build(CLASSES)
    for parameter in ours.parameters():
        if parameter.ndim == 1:  # a branch that begins as zero would hide what it computes
            nn.init.uniform_(parameter, 0.5, 1.0)
    found = {"ours": ours, "timm": timm.create_model(f"resnetrs{depth}", num_classes=CLASSES)}
    found["ours again"] = spec.build(CLASSES)
    for module in found.values():
        module.load_state_dict(ours.state_dict())
    return found


def largest_difference(found: Mapping[str, nn.Module], batch: Tensor) -> float:
    """Give how far logits of the networks lie apart, over the largest of them."""
    with torch.inference_mode():
        logits = [with_head(module.eval(), batch) for module in found.values()]
    return max(float((each - logits[0]).abs().max() / logits[0].abs().max()) for each in logits)


class _Listed(TorchDispatchMode):
    """Writes down every operation that PyTorch is asked for, backward ones included."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        operation: Any,  # noqa: ANN401 - as torch hands it over
        types: Any,  # noqa: ANN401 - as above
        inputs: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation gives
        self.names[str(operation).removeprefix("aten.")] += 1
        return operation(*inputs, **(options or {}))


def operations(module: nn.Module, kind: Kind, pixels: int = 64) -> Counter[str]:
    """Count the operations of a pass by name; a clock is not needed to see that two do the same."""
    batch = torch.randn(2, 3, pixels, pixels)
    with _Listed() as listed:
        if kind == "inference":
            with torch.inference_mode():
                with_head(module.eval(), batch)
        else:
            with_head(module.train(), batch).sum().backward()
    module.zero_grad(set_to_none=True)
    return listed.names


def compared(ours: Counter[str], theirs: Counter[str]) -> str:
    """Say in words how the operations of two networks differ."""
    words = f"{sum((ours & theirs).values())} operations are the same"
    for name, more in (("ours", ours - theirs), ("timm", theirs - ours)):
        listed = ", ".join(f"{count} {each}" for each, count in sorted(more.items()))
        words += f"; {name} alone: {listed or 'none'}"
    return words


def measure(
    found: Mapping[str, nn.Module], *, layout: Layout, pixels: int, batch: int, rounds: int
) -> dict[str, dict[str, list[Lap]]]:
    """Give the laps of each network, by kind of work."""
    setting = Setting(layout=layout)
    clock = clock_of(torch.device(setting.device))
    turns = {}
    for name, module in found.items():
        network = NetworkAtWork(module, (3, pixels, pixels), setting, num_outputs=CLASSES)
        works = {kind: network.work(kind, batch) for kind in KINDS}
        for kind in KINDS:
            network.prepare(kind, batch)
        turns[name] = lambda works=works: {kind: clock.lap(work) for kind, work in works.items()}
    done = take_turns(turns, rounds=rounds)
    for error in done.faults.values():
        raise error
    return done.laps


def ratio(others: Sequence[Lap], ours: Sequence[Lap]) -> float:
    """Give the median over rounds of another's CPU time over ours."""
    return statistics.median(
        theirs.cpu_seconds / mine.cpu_seconds for theirs, mine in zip(others, ours, strict=True)
    )


def main() -> None:
    """Print a line for each depth, layout, kind of work and network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", default="50,101", help="depths by commas")
    parser.add_argument("--pixels", type=int, default=160, help="side of the input")
    parser.add_argument("--batch", type=int, default=4, help="images a pass")
    parser.add_argument("--repeats", type=int, default=9, help="rounds")
    parser.add_argument("--laps", action="store_true", help="print every lap")
    words = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, timm {timm.__version__}, one thread, {words.pixels} pixels,"
        f" batch {words.batch}, medians of {words.repeats}"
    )
    print(f"{'':38} {'CPU ms':>8} {'wall ms':>8} {'over ours':>10}")
    for depth in words.depths.split(","):
        for layout in LAYOUTS:
            found = networks(int(depth))
            apart = largest_difference(found, torch.randn(1, 3, words.pixels, words.pixels))
            print(f"ResNet-RS-{depth}, {layout}: outputs differ by {apart:.0e} of the largest")
            for kind in KINDS:
                lists = (operations(found[name], kind) for name in ("ours", "timm"))
                print(f"  {kind:10} {compared(*lists)}")
            laps = measure(
                found,
                layout=layout,
                pixels=words.pixels,
                batch=words.batch,
                rounds=words.repeats,
            )
            for kind in KINDS:
                print_kind(kind, {name: laps[name][kind] for name in laps}, every=words.laps)


def print_kind(kind: Kind, laps: Mapping[str, Sequence[Lap]], *, every: bool) -> None:
    """Print a line for each network at one kind of work."""
    for name, mine in laps.items():
        cpu, wall = (
            1000 * statistics.median(values)
            for values in ([lap.cpu_seconds for lap in mine], [lap.seconds for lap in mine])
        )
        over = ratio(mine, laps["ours"])
        print(f"  {kind:10} {name:25} {cpu:8.0f} {wall:8.0f} {over:10.3f}")
        if every:
            print("    CPU ms:", " ".join(f"{1000 * lap.cpu_seconds:.0f}" for lap in mine))


if __name__ == "__main__":
    main()

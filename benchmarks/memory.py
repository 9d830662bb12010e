"""Memory and start of reader processes over a long epoch: the curve, main process and workers.

    python benchmarks/memory.py [--items 240000] [--workers 2] [--as-list]

Every item is one small picture file under its own name (links to a few), so that the list is what
grows or does not. Printed are megabytes of the main process and of all workers together: USS, which
only they have (what forked workers copied, the growth to watch), and PSS, where what is shared is
shared out. --as-list reads through a plain list of items instead, as most loaders do.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from rsbench.data.loaders import batches, read_item
from rsbench.media.image import write_image
from rsbench.specs import ClipSpec, InputSpec, Item, Reading, Settings, Views

READING = Reading(
    modality="image",
    input=InputSpec(pixels=8),
    clip=ClipSpec(frames=1, stride=1),
    sampler="mmaction2@1",
    views=Views(),
)


class Memory(NamedTuple):
    """Megabytes of the main process and of its children."""

    main_uss: float
    workers_uss: float
    all_pss: float


def measure() -> Memory:
    """Read the kernel's own accounts of this process and its children; Linux only."""
    main = _rollup(os.getpid())
    workers = [_rollup(number) for number in _children()]
    return Memory(
        main_uss=main["uss"],
        workers_uss=sum(each["uss"] for each in workers),
        all_pss=main["pss"] + sum(each["pss"] for each in workers),
    )


def _children() -> list[int]:
    task = Path(f"/proc/{os.getpid()}/task")
    return [
        int(word) for each in task.iterdir() for word in (each / "children").read_text().split()
    ]


def _rollup(number: int) -> dict[str, float]:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {"uss": 0.0, "pss": 0.0}
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"uss": own / 1024, "pss": kilobytes["Pss"] / 1024}


def write_items(folder: Path, number: int) -> tuple[Item, ...]:
    """Write one small picture and give as many items that all read it."""
    write_image(folder / "a.png", np.full((8, 8, 3), 90, dtype=np.uint8))
    # Paths of a usual length; each is an object of its own.
    return tuple(
        Item(
            id=f"some_class_name/video_{row:08d}_000010_000020",
            source=folder / "a.png",
            group=f"video_{row:08d}",
        )
        for row in range(number)
    )


class _Plain(Dataset[Any]):
    """What most loaders do: a list, looked at row by row."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> Any:  # noqa: ANN401 - as torch has it
        return read_item(self._items[row], READING).views


def epoch(items: Sequence[Item], settings: Settings, *, as_list: bool) -> Iterator[int]:
    """Read all items once; give how many were read after each batch."""
    if as_list:
        loader = DataLoader(_Plain(items), batch_size=64, num_workers=settings.num_workers)
        for number, views in enumerate(loader):
            yield 64 * number + len(views)
        return
    done = 0
    for batch in batches(items, READING, settings):
        done += len(batch.rows)
        yield done


def main() -> None:
    """Read one epoch and print a line a tenth of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=240_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--as-list", action="store_true", help="through a plain list, to compare")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        items = write_items(Path(folder), words.items)
        gc.collect()
        before = measure()
        print(f"{words.items} items in memory: main {before.main_uss:.0f} MB")
        print("items read   seconds   main USS   workers' USS   all PSS")
        settings = Settings(
            batch_size=64,
            num_workers=words.workers,
            cache_root=Path(folder) / "cache",
            work_root=Path(folder) / "work",
        )
        started = time.perf_counter()
        following = 0
        for done in epoch(items, settings, as_list=words.as_list):
            if done >= following or done == words.items:
                found = measure()
                print(
                    f"{done:10d} {time.perf_counter() - started:9.1f} {found.main_uss:10.0f}"
                    f" {found.workers_uss:14.0f} {found.all_pss:9.0f}",
                    flush=True,
                )
                following += words.items // 10


if __name__ == "__main__":
    main()

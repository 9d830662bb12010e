"""Extraction by several processes: the missing shards, in turn; see `rsbench.data.team`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from rsbench.data.assembling import Plan
from rsbench.data.computing import Clock, Computed, Look, computed, look_up, pool_key
from rsbench.data.team import Team
from rsbench.errors import RunError
from rsbench.specs import Item, Model, Output, Reading, Settings


class Ready(NamedTuple):
    """What a helper has of the cell that an order is about."""

    model: Model
    """Its own network, the same as the lead's."""
    pools: Sequence[Sequence[Item]]
    """The order is about one of them."""
    read: Callable[[Item], np.ndarray] | None
    """The task's own reader, which no message can carry."""
    settings: Settings
    """As the lead's, but for the device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What helpers must know of an extraction."""

    model: str
    """Digest of the network."""
    output: Output
    reading: Reading
    """Without the task's own reader, which they have."""
    pool: str
    """Name of the pool, by its ids."""
    numbers: tuple[int, ...]
    """The shards that are missing, of which each process takes its turn."""
    key: str
    """What all the numbers depend on: a process that has another key must not take part."""


def order_of(look: Look, items: Sequence[Item], numbers: Sequence[int]) -> Order:
    """Write the order for some shards of a pool."""
    return Order(
        model=look.model.digest,
        output=look.output,
        reading=replace(look.reading, read=None),
        pool=pool_key(items),
        numbers=tuple(numbers),
        key=look.key,
    )


def computed_by_all(
    order: Order, share: Callable[[Sequence[int]], Iterator[Computed]], settings: Settings
) -> Generator[Computed]:
    """Compute shards here, or in turn with the helpers if they have this network.

    Args:
        order: Of these shards.
        share: Computes some of them in this process.
        settings: With the helpers, if there are any.

    Yields:
        Every shard of the order, once, in its order.

    Raises:
        RunError: A helper failed.
    """
    helpers = settings.helpers
    if helpers is None or helpers.model != order.model or len(order.numbers) < 2:
        yield from share(order.numbers)
        return
    size = helpers.num_processes
    own = share(order.numbers[::size])
    yield from helpers.lead(order, own, num_rounds=_num_rounds(order, size))


def assist(order: object, prepare: Callable[[], Ready], team: Team) -> None:
    """Compute a helper's share of an extraction that the lead has begun.

    Args:
        order: What the lead sent.
        prepare: Makes the cell ready; what goes wrong in it is the lead's to report.
        team: All processes.
    """
    assert isinstance(order, Order), "a lead sends orders"

    def share() -> Iterator[Computed]:
        model, pools, read, settings = prepare()
        reading = replace(order.reading, read=read if order.reading.read_key else None)
        look = Look(model=model, reading=reading, settings=settings, output=order.output)
        pool = next((each for each in pools if pool_key(each) == order.pool), None)
        if pool is None or look.key != order.key:
            what = "other items" if pool is None else "another device, threads or network"
            raise RunError(
                f"it has {what} than the first one, so that its numbers would differ; give all"
                " processes the same data, GPUs of one kind and the same OMP_NUM_THREADS"
            )
        plan = Plan(items=pool, wanted=(), items_per_shard=look.items_per_shard)
        numbers = order.numbers[team.rank :: team.size]
        return computed(plan, numbers, look, look_up(plan, numbers, look), clock=Clock())

    with torch.inference_mode():
        team.help(share, num_rounds=_num_rounds(order, team.size))


def _num_rounds(order: Order, num_processes: int) -> int:
    return -(-len(order.numbers) // num_processes)

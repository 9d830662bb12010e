"""Which shards of an extraction are written: all, or as many as a limit leaves room for."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence

from rsbench.data import extractions
from rsbench.data.assembling import Plan, is_large, refuse_unless_held
from rsbench.data.shards import Shard, ShardStore
from rsbench.errors import DiskError
from rsbench.specs import Settings

_WORTH_LOOKING = 20.0
"""The folder is looked at again when so many times the duration of a look have passed."""


class Keeper:
    """Writes shards as long as there is room.

    Other processes may write into the same folder. It is looked at before each shard, or as often
    as costs a twentieth of the time; so each process may pass the limit by what others write in
    between, a shard or a few.
    """

    def __init__(self, store: ShardStore, settings: Settings, *, is_needed: bool) -> None:
        """Look how much room there is, where there is a limit and something to be written."""
        self._store = store
        self._say = settings.say
        self._root = settings.cache_root
        self._limit = settings.cache_limit_bytes
        self._used = 0
        self._look_seconds = 0.0
        self._looked = -math.inf
        self._is_foreseen = False
        if is_needed:
            self._look()

    @property
    def has_room(self) -> bool:
        """Whether anything may be written."""
        return self._limit is None or self._used < self._limit

    def foresee(self, shard: Shard, plan: Plan, missing: Sequence[int], *, streams: bool) -> None:
        """Refuse what neither disk nor memory could hold, once the first shard says how wide it is.

        Args:
            shard: The first one computed.
            plan: What is wanted.
            missing: All the shards to be computed.
            streams: Outputs are taken as they come, and none must be held.

        Raises:
            DiskError: The disk has less free room than will be kept.
            RsbenchError: The limit keeps out more than memory should hold.
        """
        if self._is_foreseen or not len(shard.values):
            return
        self._is_foreseen = True
        item_bytes = shard.values.nbytes // len(shard.values)
        num_bytes = item_bytes * sum(len(plan.rows_of(number)) for number in missing)
        kept = num_bytes if self._limit is None else min(num_bytes, self._limit - self._used)
        folder = next(each for each in (self._root, *self._root.parents) if each.exists())
        free = shutil.disk_usage(folder).free
        if kept > free:
            raise DiskError(
                f"{self._root} must have room for {kept:,} bytes of outputs and has {free:,}: free"
                " some space, name another folder with RSBENCH_CACHE, or keep less with"
                " --cache-limit."
            )
        if not streams and is_large((len(plan.wanted), *shard.values.shape[1:])):
            numbers = set(missing)
            num_wanted = sum(plan.shard_of(row) in numbers for row in plan.wanted)
            share_kept = max(0, kept) / num_bytes
            refuse_unless_held(int(item_bytes * num_wanted * (1 - share_kept)))

    def keep(self, key: str, shard: Shard) -> bool:
        """Write a shard if there is room; say whether it was.

        Raises:
            DiskError: It can't be written.
        """
        self._look()
        room = None if self._limit is None else self._limit - self._used
        # What is too large without its header need not be made a file of first.
        if room is None or shard.values.nbytes <= room:
            written = self._store.save(key, shard, most_bytes=room)
            self._used += written
            if written:
                return True
        why, remedy = "--cache-limit 0 keeps no features", ""
        if self._limit:
            why = f"the feature cache is as large as --cache-limit allows ({self._limit:,} bytes)"
            remedy = "; rsbench cache gc makes room"
        self._say(
            f"{why}: outputs go to the protocol without being kept, and the next run computes them"
            f" again{remedy}"
        )
        return False

    def _look(self) -> None:
        """Ask the folder what is used, unless that was just done."""
        started = time.perf_counter()
        if self._limit is None or started - self._looked < _WORTH_LOOKING * self._look_seconds:
            return
        self._used = extractions.bytes_in_use(self._root)
        self._looked = time.perf_counter()
        self._look_seconds = self._looked - started

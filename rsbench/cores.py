"""How many processor cores this process may use, which is often fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(*, system: Path = Path("/")) -> int:
    """Count the cores that the scheduler and the control groups leave to this process, at least 1.

    Args:
        system: Root of the file system whose control groups are read.

    Returns:
        The cores it is bound to, or what a limit of processor time comes to, rounded up.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # macOS has neither affinity nor control groups.
        cores = os.cpu_count() or 1
    limits = [*_limits_v2(system), *_limits_v1(system)]
    return max(1, min([cores, *(math.ceil(limit) for limit in limits)]))


def _limits_v2(system: Path) -> list[float]:
    """Give the limits in cores of the unified hierarchy: those of the group and all above it."""
    mount = system / "sys/fs/cgroup"
    own = _own_groups(system).get("", "")
    group = mount / own.lstrip("/")
    limits = []
    for folder in (group, *group.parents):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            limits.append(int(words[0]) / int(words[1]))
        if folder == mount:
            break
    return limits


def _limits_v1(system: Path) -> list[float]:
    """Give the limit in cores of the older hierarchy; a quota of -1 is none."""
    mount = system / "sys/fs/cgroup/cpu"
    own = next((path for name, path in _own_groups(system).items() if "cpu" in name.split(",")), "")
    limits = []
    for folder in (mount / own.lstrip("/"), mount):
        quota, period = (_words(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota and period and quota[0].isdigit() and period[0].isdigit():
            limits.append(int(quota[0]) / int(period[0]))
    return limits


def _own_groups(system: Path) -> dict[str, str]:
    """Give this process's group by controllers; those of the unified hierarchy are named ""."""
    parts = [line.split(":", 2) for line in _lines(system / "proc/self/cgroup")]
    return {part[1]: part[2] for part in parts if len(part) == 3}


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []

"""Where rsbench keeps what it can make again: the folder of all caches."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Give the folder of all caches: $RSBENCH_CACHE, $XDG_CACHE_HOME/rsbench, ~/.cache/rsbench.

    The environment is read at each call; the folder need not exist.
    """
    if named := os.environ.get("RSBENCH_CACHE"):
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME")
    folder = Path(home).expanduser() if home else Path.home() / ".cache"
    return (folder / "rsbench").absolute()

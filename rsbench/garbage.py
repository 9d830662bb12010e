"""Python's collector of garbage cycles, held back where much is made and none of it is garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_held() -> Iterator[None]:
    """Hold the collector back in a block that makes hundreds of thousands of lasting objects.

    It would look at all of them again and again, which takes as long as making them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

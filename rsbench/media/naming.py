"""Names with versions: a name stands for one definition for ever, a bare one is the newest."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from rsbench.errors import UnknownNameError


def resolve_version(name: str, known: Collection[str], *, kind: str) -> str:
    """Give the full name, with version, of what is named with or without it.

    Args:
        name: As typed: "psf", or "psf@1".
        known: The full names there are.
        kind: What they name, for the message: "sampler".

    Raises:
        UnknownNameError: There is none; the nearest is named.
    """
    if name in known:
        return name
    versions = [full for full in known if _bare(full) == name]
    if versions:
        return max(versions, key=lambda full: int(full.rpartition("@")[2]))
    near = [full for full in known if name and full.startswith(name)]
    near = near or difflib.get_close_matches(name, [*known, *map(_bare, known)], 1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise UnknownNameError(f"no {kind} {name!r}. {hint}There are: {', '.join(known)}")


def _bare(full: str) -> str:
    return full.rpartition("@")[0]

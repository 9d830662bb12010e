"""What names a frozen network beside its digest, by what is kept of it."""

from __future__ import annotations

from rsbench.specs import Model, Output

_OF_MAPS = ("stages", "tokens")
"""Outputs that are made of stage maps, of which the digest of the features knows nothing."""


def maps_part(model: Model, output: Output) -> dict[str, str]:
    """Give the part of a key that stands for stage maps; none where no output is made of them.

    It belongs to every key under which something made by a frozen network is kept.
    """
    return {"maps": model.maps_digest()} if output in _OF_MAPS else {}

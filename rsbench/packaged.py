"""Files that installed Python packages bring, found without running any of their code."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path


def packaged_file(name: str) -> Path | None:
    """Find a file that an installed package brings, through the distribution's metadata.

    Args:
        name: "DISTRIBUTION:PATH/IN/IT", as in "scikit-learn:sklearn/datasets/data/digits.csv.gz".

    Returns:
        The file, or None where the package is not installed or lacks it.
    """
    distribution, _, inside = name.partition(":")
    try:
        found = importlib.metadata.distribution(distribution).locate_file(inside)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found))
    return path if path.is_file() else None

"""Tables that come as MATLAB files (version 5, which hold data and no code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rsbench.errors import DataError


def read_mat(path: Path, *, required: str) -> Mapping[str, Any]:
    """Read a file's variables: structures as dicts, cells and arrays of structures as lists.

    Args:
        path: The file.
        required: A variable that must be in it.

    Raises:
        DataError: It is no MATLAB file of version 5, is damaged, or lacks the variable.
    """
    from scipy.io import loadmat

    with _parsing(path):
        variables: Mapping[str, Any] = loadmat(path, simplify_cells=True)
    if required not in variables:
        raise DataError(
            f"{path.name} must hold the variable {required!r}, it holds "
            f"{', '.join(sorted(name for name in variables if name[0] != '_')) or 'none'}; "
            "get the official file"
        )
    return variables


def mat_shapes(path: Path) -> Mapping[str, tuple[int, ...]]:
    """Give the shapes of a file's variables, by their names; unpacks none of them.

    Raises:
        DataError: It is no MATLAB file of version 5, or is damaged.
    """
    from scipy.io import whosmat

    with _parsing(path):
        return {name: tuple(shape) for name, shape, _ in whosmat(path)}


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # scipy's parser raises whatever it trips over.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path.name} must be a MATLAB file of version 5: {reason[:120]}; fetch it again"
        ) from error


def as_list(value: Any) -> list[Any]:  # noqa: ANN401 - as a MATLAB file has it
    """Give what scipy made of a vector as a list; a vector of one entry comes as the entry."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return list(value.reshape(-1).tolist())
    return value if isinstance(value, list) else [value]

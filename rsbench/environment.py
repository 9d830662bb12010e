"""Where a run happened: versions, commit, device. No host, user or folder is named.

Most is asked directly; compiler, OpenCV and the driver's side come from mmengine's collector,
which is imported only here and takes seconds, so `describe` remembers its answer. The decoder's own
version is `rsbench.media.video.decoder_version`; a run adds it with device, precision and batch.
"""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import rsbench
from rsbench.specs import Scalar

PACKAGES = ("torch", "torchvision", "av", "numpy", "scikit-learn", "mmengine", "pyarrow")
"""Distributions whose versions are recorded."""

CHECKOUT = Path(rsbench.__file__).parents[1]
"""The folder that holds rsbench: a checkout, or where packages are installed."""

_CODE = ("rsbench", "tasks", "backbones", "setup.cfg", "pyproject.toml")
"""What makes a checkout dirty; results, docs and tests do not move a score."""

_COLLECTED = {"GCC": "gcc", "NVCC": "nvcc", "OpenCV": "opencv", "MSVC": "msvc"}
"""Name in mmengine's collection -> name here. Its CUDA_HOME is a folder and is left out."""


def describe() -> dict[str, Scalar]:
    """Describe code, versions and machine as a flat mapping of scalars.

    Returns:
        Among others: ``rsbench``, ``commit`` and ``dirty`` (None outside a checkout of rsbench),
        ``python``, one entry for each of `PACKAGES` (None where not installed), ``platform``,
        ``cpu``, ``cores``, ``threads``, ``gpu``, ``cuda``, ``cudnn``. What can't be found out is
        left out, and ``environment_note`` says so.
    """
    commit, dirty = commit_of(CHECKOUT)
    return {
        "rsbench": rsbench.__version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        **_torch_side(),
        **_collected(),
    }


@functools.cache
def commit_of(checkout: Path) -> tuple[str | None, bool | None]:
    """Give the commit of a checkout of rsbench, and whether its code differs from it.

    Args:
        checkout: The folder that holds the package ``rsbench``.

    Returns:
        Both None where the folder is no checkout of rsbench: an installed copy, or one that merely
        lies in another project's checkout. Untracked code files count as a difference. The
        answer is that of the first call: the code a process runs is the code it started with.
    """
    # Elsewhere a commit would be some other project's, which is worse than none.
    if _git(checkout, "ls-files", "--error-unmatch", "rsbench/__init__.py") is None:
        return None, None
    top = _git(checkout, "rev-parse", "--show-toplevel")
    commit = _git(checkout, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != checkout.resolve():
        return None, None
    changes = _git(checkout, "status", "--porcelain", "--", *_CODE)
    return commit, None if changes is None else bool(changes)


def _git(folder: Path, *words: str) -> str | None:
    """Give what git prints, or None if there is no git, no checkout, or no such thing."""
    # A hook or an editor may have pointed these at another checkout.
    hidden = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    surroundings = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            # Reading must not refresh the index under another process's feet.
            env={**surroundings, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _torch_side() -> dict[str, Scalar]:
    import torch

    found: dict[str, Scalar] = {"threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return found


@functools.cache
def _collected_once() -> Mapping[str, Scalar]:
    try:
        from mmengine.utils.dl_utils import collect_env

        collected = collect_env()
    except Exception as fault:  # whatever a foreign collector meets, it must not cost a run
        reason = type(fault).__name__
        return {"environment_note": f"compiler and driver left out: mmengine raised {reason}"}
    return {
        ours: " ".join(str(collected[theirs]).split())
        for theirs, ours in _COLLECTED.items()
        if collected.get(theirs) not in (None, "n/a", "Not Available")
    }


def _collected() -> dict[str, Scalar]:
    return dict(_collected_once())

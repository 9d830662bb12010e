"""Do the installed packages belong together? Versions in the ranges asked for, imports that work.

Ranges are read from the metadata of the installed distributions, so that they are stated once. A
package that may be broken is imported in a process of its own: a wrong binary can end the process.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from rsbench.findings import Check, Fault, attempt

IMPORTS = {
    # An operator of torchvision's own library: its Python side alone loads beside any torch.
    "torch and torchvision": (
        "import torch, torchvision;"
        " torchvision.ops.nms(torch.rand(2, 4), torch.rand(2), iou_threshold=0.5)"
    ),
    "av": "import av; av.codec.Codec('h264', 'r')",
}
"""What is tried in a fresh process, by what it shows."""

IMPORT_SECONDS = 120
"""torch takes up to a minute from a cold network disk."""

_REQUIREMENT = re.compile(r"^\s*([\w.-]+)\s*(?:\[.*?\])?\s*\(?([^;()]*)\)?\s*(?:;(.*))?$")
_CLAUSE = re.compile(r"^(>=|<=|==|!=|>|<)\s*v?(\d+(?:\.\d+)*)(\.\*)?")
_RELEASE = re.compile(r"^\s*v?(?:\d+!)?(\d+(?:\.\d+)*)")

_REPAIR = "Install again into a fresh environment: pip install -c constraints.txt ."


def look_at_installation() -> Iterator[Check]:
    """Ask after Python, the required packages, the pair of torch and torchvision, and imports."""
    yield attempt("versions: python", _look_at_python, next_step=_REPAIR)
    yield attempt("versions: packages", _look_at_packages, next_step=_REPAIR)
    yield attempt("versions: torch and torchvision", _look_at_pair, next_step=_REPAIR)
    for name, program in IMPORTS.items():
        yield _look_at_import(name, program)


def fits(version: str, ranges: str) -> bool:
    """Tell whether a version lies in ranges such as ">=2.6,<3" or "==2.11.*".

    Only the release is compared: "2.11.0+cpu" and "2.11.0rc1" count as 2.11.0.

    Raises:
        ValueError: One of the two can't be understood.
    """
    return all(_fits_clause(version, clause.strip()) for clause in ranges.split(",") if clause)


def _fits_clause(version: str, clause: str) -> bool:
    match = _CLAUSE.match(clause)
    if match is None:
        raise ValueError(f"{clause!r} is no range of versions")
    sign, text, star = match.groups()
    wanted = tuple(map(int, text.split(".")))
    have = _release(version)
    if star:
        same = (have + (0,) * len(wanted))[: len(wanted)] == wanted
        return same if sign == "==" else not same
    length = max(len(wanted), len(have))
    wanted, have = (part + (0,) * (length - len(part)) for part in (wanted, have))
    return {
        ">=": have >= wanted,
        "<=": have <= wanted,
        "==": have == wanted,
        "!=": have != wanted,
        ">": have > wanted,
        "<": have < wanted,
    }[sign]


def _release(version: str) -> tuple[int, ...]:
    match = _RELEASE.match(version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(map(int, match[1].split(".")))


def _requirements(distribution: str) -> dict[str, str]:
    """Give the ranges of what a distribution requires without extras, by lower-case name."""
    found = {}
    for line in metadata.requires(distribution) or ():
        match = _REQUIREMENT.match(line)
        if match is not None and "extra" not in (match[3] or ""):
            found[match[1].lower()] = match[2].replace(" ", "")
    return found


def _look_at_python() -> str:
    ranges = str(metadata.metadata("rsbench")["Requires-Python"])
    version = platform.python_version()
    if not fits(version, ranges):
        raise Fault(
            f"Python must be {ranges}; it is {version}",
            next_step="Make an environment with a Python in that range.",
        )
    return f"{version} ({ranges})"


def _look_at_packages() -> str:
    required = _requirements("rsbench")
    wrong = []
    for name, ranges in required.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} must be {ranges or 'installed'}, is missing")
            continue
        if not fits(version, ranges):
            wrong.append(f"{name} must be {ranges}, is {version}")
    if wrong:
        raise Fault("; ".join(wrong), next_step=_REPAIR)
    return f"{len(required)} required packages are within their ranges"


def _look_at_pair() -> str:
    torch, torchvision = metadata.version("torch"), metadata.version("torchvision")
    # Builds without a pinned torch (conda's) follow the same numbering: 2.11 goes with 0.26.
    ranges = _requirements("torchvision").get("torch") or f"==2.{_release(torchvision)[1] - 15}.*"
    if not fits(torch, ranges):
        raise Fault(
            f"torchvision {torchvision} belongs to torch {ranges}; torch is {torch}",
            next_step=f"Install the pair: pip install 'torch{ranges}' torchvision=={torchvision}",
        )
    return f"torch {torch} and torchvision {torchvision}"


def _look_at_import(name: str, program: str) -> Check:
    def look() -> str:
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                timeout=IMPORT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Fault(
                f"must import within {IMPORT_SECONDS} s, and did not",
                next_step="Look at the disk that Python is installed on.",
            ) from error
        if done.returncode < 0:
            raise Fault(
                f"importing it ended the process with signal {-done.returncode}", next_step=_REPAIR
            )
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise Fault(f"can't be imported: {lines[-1] if lines else ''}", next_step=_REPAIR)
        return "imports and runs"

    return attempt(f"imports: {name}", look, next_step=_REPAIR)

"""Content digests: what caches, resume keys, rulers and records are named by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def digest_bytes(content: bytes) -> str:
    """Give the sha256 of bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_parts(parts: Iterable[bytes | memoryview]) -> str:
    """Give the sha256 of bytes that lie in several pieces, as if they were one."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def digest_json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Give the sha256 of a JSON value in canonical form (sorted keys, no spaces, exact floats)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(text.encode())


def digest_lines(lines: Iterable[str]) -> str:
    r"""Give the sha256 of lines, each ended by "\n"; order matters."""
    state = hashlib.sha256()
    for line in lines:
        state.update(line.encode())
        state.update(b"\n")
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """Give the sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""The errors a user can cause, each one line: what, what it must be, what it was, next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RsbenchError(Exception):
    """A fault of the user's words, files or data; the command line prints it and exits with 2."""

    exit_code = 2


class UnknownNameError(RsbenchError):
    """No task, backbone, protocol, sampler or weights of this name; says the nearest one."""


class DuplicateNameError(RsbenchError):
    """Two places offer a plug-in of one name; names both."""


class PluginError(RsbenchError):
    """A plug-in can't be imported or does not hold what it must; names the file and the cause."""


class DataError(RsbenchError):
    """Data is missing, laid out differently, labelled outside the classes, or leaves its root."""


class MediaError(RsbenchError):
    """One file can't be read as the image or clip it must be; an evaluation counts it as failed."""


class WeightsError(RsbenchError):
    """Weights are missing, damaged, of another network, or would run code on loading."""


class LeakError(RsbenchError):
    """A protocol asked for labels of what is reported; a run may allow it, and says so then."""


class RecordError(RsbenchError):
    """A record is cut short, not JSON, of a newer schema, or does not match its digest."""


class RunError(RsbenchError):
    """The work itself failed (too many unreadable items, a worker that died); exit code 1."""

    exit_code = 1


class DiskError(RunError):
    """The disk can't take a file: it is full or read-only. The user's to mend; exit code 2."""

    exit_code = 2


def suggest(name: str, known: Iterable[str]) -> str:
    """Give " Did you mean ...?" for a near miss, after a blank; nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""

"""What `rsbench check` and `rsbench doctor` report: one finding a question, good or bad."""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rsbench.errors import RsbenchError

NUM_SHOWN = 3
"""Names of a long list that a message shows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question, its answer, and what to do about a bad one."""

    name: str
    """What was looked at."""
    ok: bool
    detail: str
    """What was found; of a bad answer: what it must be and what it was."""
    next_step: str = ""
    """What mends it; empty where all is well."""


class Fault(Exception):
    """A bad answer, on its way to a `Check`; never leaves `attempt`."""

    def __init__(self, detail: str, *, next_step: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step


def attempt(name: str, look: Callable[[], str], *, next_step: str) -> Check:
    """Ask one question; whatever it raises is its answer.

    Args:
        name: What is looked at.
        look: Gives what was found, or raises `Fault`. It may run a stranger's code: any exception
            of that is a bad answer, named with the line that raised it.
        next_step: What to do where the exception does not say it.
    """
    try:
        return Check(name=name, ok=True, detail=look())
    except Fault as fault:
        return Check(name=name, ok=False, detail=fault.detail, next_step=fault.next_step)
    except RsbenchError as error:
        return Check(name=name, ok=False, detail=str(error), next_step=next_step)
    except Exception as error:
        return Check(name=name, ok=False, detail=explain(error), next_step=next_step)


def explain(error: Exception) -> str:
    """Give an exception as one line, with the file and line that raised it."""
    lines = str(error).strip().splitlines()
    steps = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(steps[-1].filename).name}, line {steps[-1].lineno})" if steps else ""
    return f"raised {type(error).__name__}: {lines[0] if lines else 'no message'}{where}"


def some(names: Iterable[object]) -> str:
    """Give the first few of a list, and how many more there are."""
    listed = [str(name) for name in names]
    more = len(listed) - NUM_SHOWN
    return ", ".join(listed[:NUM_SHOWN]) + (f" and {more} more" if more > 0 else "")


def kinds_in_words(reasons: Iterable[str]) -> str:
    """Count remarks by kind, the commonest first: "header claims N frames, N decode (22)".

    Remarks of one kind differ in their numbers only.
    """
    listed = list(reasons)
    kinds = Counter(re.sub(r"(?<![\w-])\d+(?!\w)", "N", each) for each in listed)
    shown = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common(NUM_SHOWN))
    return shown + ("; ..." if len(kinds) > NUM_SHOWN else "")


def failure_in_words(item: str, reason: str) -> str:
    """Name an item and why it can't be read, the file's name once.

    Readers know the file, not the item, and begin with its name; an id ends with that name as a
    rule.
    """
    name, colon, rest = reason.partition(": ")
    last = item.rsplit("/", 1)[-1]
    return f"{item}: {rest if colon and name == last else reason}"

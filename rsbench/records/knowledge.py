"""What weights know of a task's data without having learned on the task itself.

Data sets of one family share clips, and one's train split may hold what another one tests
(`Task.shares_data_with`). A record says so in a note, from which tables draw their mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def shared_data_notes(trained_on: Iterable[str], shares: Mapping[str, str]) -> tuple[str, ...]:
    """Say through which data sets weights know what a task tests; one note each.

    Args:
        trained_on: What the weights learned on, "kinetics700" or "ucf101:split1" each. A sample
            shares nothing with the data set whose name it bears.
        shares: Name of a data set -> why what it trains on is tested here.
    """
    names = dict.fromkeys(entry.partition(":")[0] for entry in trained_on)
    return tuple(f"{_beginning(name)}{shares[name]}" for name in names if name in shares)


def is_known_through(trained_on: Iterable[str], notes: Iterable[str]) -> bool:
    """Tell whether a record's notes say that weights of this history know its task's data."""
    beginnings = tuple(_beginning(entry.partition(":")[0]) for entry in trained_on)
    return any(note.startswith(beginnings) for note in notes)


def _beginning(name: str) -> str:
    return f"weights that learned on {name} know this task's data through it: "

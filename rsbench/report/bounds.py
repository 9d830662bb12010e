"""How much a page holds: beyond these it says what it left out instead of growing without end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """The most of everything; the defaults keep a page of 10,000 records at fifteen megabytes."""

    table_rows: int = 500
    """Rows of one table, the best ones."""
    all_rows: int = 4000
    """Rows of all tables together."""
    ranked_tables: int = 30
    """Up to so many tables stand side by side where no suite is asked for."""
    pairs: int = 120
    """Pairs of one comparison, those of the best rows."""
    all_pairs: int = 1500
    """Pairs of all comparisons together."""
    full_records: int = 200
    """Records of which every field is shown; the others have one line each."""
    short_records: int = 5000
    """Records that have a line at all."""
    listed_items: int = 40
    """Failed, missing or remarked items named in a record."""
    trace_rows: int = 80
    """Rows of a selection trace or a learning curve in a record."""
    predicted_records: int = 200
    """Records whose predictions are read for the views by class and by item."""
    predicted_scores: int = 100_000_000
    """Items times classes of one record; the predictions of a larger one are left unread."""
    class_rows: int = 8
    """Networks of one table, the best ones, whose classes are shown."""
    matrix_classes: int = 20
    """Up to so many classes a confusion is a matrix; of more, the most frequent ones are listed."""
    confusions: int = 25
    wrong_items: int = 24
    """Items of one table that were told wrong."""
    wrong_tables: int = 30
    """Tables whose wrong items are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Omissions:
    """What a page left out, in the order it was met."""

    lines: list[str]

    def say(self, line: str) -> None:
        """Add a line, once."""
        if line not in self.lines:
            self.lines.append(line)

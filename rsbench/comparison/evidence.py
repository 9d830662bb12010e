"""What the runs of a comparison came to by item: read when it is needed, and not twice.

What is remembered from one comparison to the next stands under the content of the predictions (see
`rsbench.records.scorebook`) and under the code of this folder and of the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from rsbench import metrics, tables
from rsbench.comparison.compared import Pairwise
from rsbench.comparison.judged import averaging_of, metric_rows
from rsbench.digests import digest_file, digest_json
from rsbench.errors import DataError, RecordError
from rsbench.records.databases import code_digest
from rsbench.records.predictions import PredictionTable, from_parquet
from rsbench.records.schema import MetricPart
from rsbench.records.scorebook import Scorebook, SortedScores
from rsbench.records.store import PREDICTIONS_SUFFIX, Stored, read_file
from rsbench.tables.pairing import row_contents
from rsbench.tables.table import Row, by_seed

_ROUNDING = 1e-9
"""A sum in another order is off by less."""


class Facts(NamedTuple):
    """What is known of a run without its scores at hand."""

    is_by_item: bool
    """Whether its headline has scores of single items."""
    items: str
    """Digest of (fold, id) of its items, sorted."""
    num_different: int
    """Different items: one that several folds test is one."""


_FIELDS = tuple(each.name for each in fields(Pairwise) if each.name != "warnings")
_MAX_HELD = 25_000_000
"""Scores that are held, some 200 MB; beyond that those held are forgotten, and read again."""


class Evidence:
    """Reads runs through a book; its state is what it knows of them, and the scores it holds."""

    def __init__(self, book: Scorebook, records: Sequence[Stored]) -> None:
        """Read runs through an open book.

        Args:
            book: What holds files to their digests and remembers.
            records: All runs; those of one name are one run.
        """
        self._book = book
        self._stored: dict[str, Stored] = {}
        for each in records:
            # Of the same run in two folders tables take the first, and so must this.
            self._stored.setdefault(each.name, each)
        self._facts: dict[str, Facts] = {}
        self._scores: dict[str, SortedScores | None] = {}
        self._num_held = 0
        self._digests: dict[int, tuple[object, str]] = {}
        own = code_digest(Path(__file__).parent, Path(tables.__file__).parent)
        self._code = digest_json([own, digest_file(Path(metrics.__file__))])

    def look_over(self) -> dict[str, str]:
        """Hold every run's predictions to what its record says.

        Returns:
            Name of a run that can't be used -> one line that says why.
        """
        faults: dict[str, str] = {}
        keys: dict[str, str] = {}
        for name, stored in self._stored.items():
            try:
                keys[name] = _run_key(stored, self._book.content(stored))
            except RecordError as fault:
                faults[name] = str(fault)
        kind = f"run in comparison {self._code}"
        known = self._book.recall(kind, list(keys.values()))
        found: dict[str, object] = {}
        for name, key in keys.items():
            if key in known:
                self._facts[name] = Facts(*known[key])
                continue
            try:
                self._facts[name] = self._facts_of(self._stored[name])
            except RecordError as fault:
                faults[name] = str(fault)
            else:
                found[key] = list(self._facts[name])
        if found:
            self._book.remember(kind, found)
        for name in self._of_other_items():
            faults[name] = (
                f"{name}: its predictions are of other items than those of the other runs on its"
                " list."
            )
        return faults

    def facts(self, run: Stored) -> Facts:
        """Give what is known of a run that `look_over` found whole."""
        return self._facts[run.name]

    def runs_of(self, row: Row) -> list[Stored]:
        """Give the records of a row."""
        return [self._stored[name] for name in row.records]

    def scores(self, run: Stored) -> SortedScores | None:
        """Give the scores of single items of a run's headline; None where it has none.

        Raises:
            RecordError: As of `Scorebook.scores`.
        """
        if run.name not in self._scores:
            found = self._book.scores(run, run.record.metrics[0].name)
            num = 0 if found is None else len(found.scores)
            if self._num_held + num > _MAX_HELD:
                self._scores.clear()
                self._num_held = 0
            self._scores[run.name] = found
            self._num_held += num
        return self._scores[run.name]

    def content_of(self, row: Row) -> str:
        """Name all that a row's statistics are made of."""
        runs = self.runs_of(row)
        headline = runs[0].record.metrics[0].name
        values = [run.record.metrics[0].value for run in runs]
        return digest_json([row_contents(by_seed(runs), headline, self._book), values])

    def recall_pairs(self, key: str) -> tuple[Pairwise, ...] | None:
        """Give the pairs that a former comparison kept under a key; None where none did."""
        kind = f"pairs {self._code}"
        found = self._book.recall(kind, [key]).get(key)
        if found is None:
            return None
        return tuple(
            Pairwise(**dict(zip(_FIELDS, each, strict=True)), warnings=tuple(warnings))
            for *each, warnings in found
        )

    def remember_pairs(self, key: str, pairs: Sequence[Pairwise]) -> None:
        """Keep the pairs of a family for the next comparison.

        Args:
            key: Names all that went into them: the rows' contents, and what else is said of them.
            pairs: All pairs of the family.
        """
        rows = [[*(getattr(pair, name) for name in _FIELDS), pair.warnings] for pair in pairs]
        self._book.remember(f"pairs {self._code}", {key: rows})

    def _of_other_items(self) -> Iterator[str]:
        """Name what has other items than most runs of the same list."""
        of_lists: dict[object, dict[str, list[str]]] = {}
        for name, facts in self._facts.items():
            of_list = of_lists.setdefault(self._stored[name].record.ruler.get("data"), {})
            of_list.setdefault(facts.items, []).append(name)
        for lists in of_lists.values():
            most = max(lists.values(), key=len)
            for names in lists.values():
                if names is not most:
                    yield from names

    def _facts_of(self, stored: Stored) -> Facts:
        headline = stored.record.metrics[0]
        found = self.scores(stored)
        if found is not None:
            _require_mean(stored, headline, found)
            different = len({name for _, name in found.keys})
            return Facts(True, self._digest_of(found.keys), different)
        table = from_parquet(
            read_file(stored, PREDICTIONS_SUFFIX), where=f"{stored.name} (predictions)"
        )
        keys = sorted(zip(table.folds, table.ids, strict=True))
        if len(set(keys)) != len(keys):
            raise RecordError(f"{stored.name}: an item stands twice in its predictions.")
        if len(keys) != headline.n:
            raise RecordError(
                f"{stored.name}: its predictions must be of {headline.n} items, were of"
                f" {len(keys)}."
            )
        _require_value(stored, headline, table)
        return Facts(False, digest_json(keys), len(set(table.ids)))

    def _digest_of(self, keys: tuple[tuple[str, str], ...]) -> str:
        """Digest keys, once for what a book gives as one object."""
        if id(keys) not in self._digests:
            # The keys are held beside their digest, so that no other object comes to their place.
            self._digests[id(keys)] = (keys, digest_json(keys))
        return self._digests[id(keys)][1]


def _run_key(stored: Stored, content: str) -> str:
    headline = stored.record.metrics[0]
    return digest_json([content, headline.name, headline.n, headline.value, bool(headline.folds)])


def _require_mean(stored: Stored, headline: MetricPart, found: SortedScores) -> None:
    """Hold a record's number to its items' scores, where it is their plain mean."""
    mean = float(found.scores.mean())
    if not headline.folds and abs(mean - headline.value) > _ROUNDING:
        raise RecordError(
            f"{stored.name}: its {headline.name} must be the mean of its items' scores, {mean:.6g},"
            f" was {headline.value:.6g}; run it again."
        )


def _require_value(stored: Stored, headline: MetricPart, table: PredictionTable) -> None:
    """Hold a record's number to its predictions, where the metric is known without its task."""
    metric = metrics.BY_NAME.get(headline.name)
    if metric is None:
        return
    rows = metric_rows(table.folds, averaging_of(stored))
    try:
        values = [
            metric.compute(
                [table.targets[row] for row in each], [table.predictions[row] for row in each]
            )
            for each in rows
        ]
    except (DataError, TypeError, ValueError, IndexError) as fault:
        raise RecordError(
            f"{stored.name}: its {headline.name} can't be computed from its predictions ({fault});"
            " run it again."
        ) from None
    value = math.fsum(values) / len(values)
    if abs(value - headline.value) > _ROUNDING:
        raise RecordError(
            f"{stored.name}: its {headline.name} must be what its predictions give, {value:.6g},"
            f" was {headline.value:.6g}; run it again."
        )

"""What each change of a study is worth, in the form of the ResNet-RS paper's table 1.

The rows' recipes differ, for that is what is studied; in all else their rulers must agree, so that
the same items are scored in the same way. A change is paired over these items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain

from rsbench.errors import RecordError
from rsbench.plans import Plan, PlannedRow
from rsbench.records.ruler import Difference, differences
from rsbench.records.store import Stored
from rsbench.stats import PairedDifference
from rsbench.tables.layout import Layout, Text, clean, difference_text, metric_text, number_text
from rsbench.tables.pairing import paired_with_first
from rsbench.tables.table import Cell, Column, by_seed, cell_of, column_of, marks_of, seconds_of

_ABSENT = Text("-")


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationRow:
    """One row of a study with what came of it."""

    planned: PlannedRow
    cell: Cell | None
    """The headline over all seeds; None where no cell of the row is finished."""
    change: PairedDifference | None
    """Headline of this row minus that of the row it is compared with, over the same items, with its
    95% interval; None for the first row, and where it can't be known."""
    seeds: tuple[int, ...]
    seconds: float | None
    """Wall clock of a run, on average over the seeds; None where a record does not say."""
    marks: tuple[str, ...]
    records: tuple[str, ...]
    """Names of the records below the results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """A study with what came of it."""

    plan: Plan
    task: str
    """With "@sample" where the sample stood in."""
    task_version: int
    split: str
    protocol: str
    column: Column
    rows: tuple[AblationRow, ...]
    problems: tuple[str, ...]
    """Why a change is not known, one line each."""


def build_ablation(plan: Plan, finished: Sequence[Sequence[Stored]]) -> Ablation:
    """Put the records of a study together.

    Args:
        plan: The study as it was laid out.
        finished: Records of each row of the plan, one a seed; empty where none is finished. At
            least one row has some.

    Raises:
        RecordError: Two rows differ in more than their recipe: in data, split, views or metric.
    """
    group = list(chain.from_iterable(finished))
    first = group[0]
    for stored in group:
        _require_comparable(first, stored)
    headline = first.record.metrics[0]
    num_seeds = max(len(by_seed(members)) for members in finished)
    rows, problems = [], []
    for planned, members in zip(plan.rows, finished, strict=True):
        seeds = tuple(runs[0].record.seed for runs in by_seed(members))
        change = None
        if planned.compared_with is not None and members and finished[planned.compared_with]:
            pair = paired_with_first(
                [by_seed(finished[planned.compared_with]), by_seed(members)],
                headline.name,
                averaging=str(first.record.ruler.get("averaging", "pooled")),
            )
            change = pair[1].difference
            problems += [problem for each in pair for problem in each.problems]
        fewer = (f"{len(seeds)} of {num_seeds} seeds",) if 0 < len(seeds) < num_seeds else ()
        rows.append(
            AblationRow(
                planned=planned,
                cell=cell_of(headline.name, members) if members else None,
                change=change,
                seeds=seeds,
                seconds=seconds_of(members) if members else None,
                marks=(*marks_of(members), *fewer) if members else ("not finished",),
                records=tuple(sorted(stored.name for stored in members)),
            )
        )
    return Ablation(
        plan=plan,
        task=first.record.task.name,
        task_version=first.record.task.version,
        split=first.record.task.split,
        protocol=first.record.protocol.name,
        column=column_of(headline, group),
        rows=tuple(rows),
        problems=tuple(dict.fromkeys(problems)),
    )


def _require_comparable(first: Stored, other: Stored) -> None:
    found = [
        difference
        for difference in differences(first.record.ruler, other.record.ruler)
        if not difference.field.startswith("recipe.")
    ]
    if found:
        raise RecordError(
            f"Rows of a study must differ in their recipe alone, and {other.name} differs from"
            f" {first.name} in {_in_words(found)}: run the study again on the same data."
        )


def _in_words(found: Sequence[Difference]) -> str:
    return "; ".join(f"{each.field} ({each.first} there, {each.second} here)" for each in found)


def lay_out_ablation(ablation: Ablation) -> Layout:
    """Put a study into words: step, score, change, and what the paper has of both."""
    rows, study = ablation.rows, ablation.plan.study
    of_finished = [row.marks for row in rows if row.cell is not None]
    # In the order that the first of them has them in.
    shared = [mark for mark in of_finished[0] if all(mark in marks for marks in of_finished)]
    is_published = any(row.planned.published is not None for row in rows)
    unit = " %" if ablation.column.percent else ""
    headers = ["step", f"{ablation.column.metric}{unit}", "change"]
    headers += ["paper %", "paper's change"] if is_published else []
    texts = []
    for row in rows:
        line = [
            Text(row.planned.name),
            metric_text(row.cell, ablation.column),
            _change(row, ablation.column),
        ]
        if is_published:
            line += [_published(row.planned.published), _gain(row.planned.published_change)]
        line.append(Text(", ".join(mark for mark in row.marks if mark not in shared)))
        texts.append(tuple(Text(*map(clean, text)) for text in line))
    return Layout(
        title=clean(
            f"{study.title}: {ablation.plan.backbone} on {ablation.task} v{ablation.task_version},"
            f" {ablation.split} ({ablation.protocol})"
        ),
        unlike=(),
        caption=clean(", ".join(shared)),
        headers=(*headers, "marks"),
        numeric=(False, *[True] * (len(headers) - 1), False),
        rows=tuple(texts),
        remarks=tuple(clean(line) for line in _remarks(ablation, is_published=is_published)),
    )


def _change(row: AblationRow, column: Column) -> Text:
    if row.change is None:
        return _ABSENT if row.planned.compared_with is not None else Text("")
    if column.percent:
        return difference_text(row.change)
    value, low, high = (number_text(number, column) for number in row.change)
    return Text(value, f"{low}, {high}")


def _published(score: float | None) -> Text:
    return Text("") if score is None else Text(f"{score:.1f}")


def _gain(change: float | None) -> Text:
    return Text("") if change is None else Text(f"{change:+.1f}")


def _remarks(ablation: Ablation, *, is_published: bool) -> list[str]:
    study = ablation.plan.study
    whom = "the row above" if study.adds_up else "the first row"
    lines = [
        f"Change: from {whom}, paired over the tested items; in brackets 95% intervals over items."
    ]
    seeds = max((row.seeds for row in ablation.rows), key=len)
    if len(seeds) > 1:
        shown = ", ".join(str(seed) for seed in seeds)
        lines.append(f"Mean ± standard deviation over {len(seeds)} seeds ({shown}).")
    else:
        lines.append("One seed: what a change is worth beside another seed's chance is not known.")
    if is_published:
        lines.append(f"Paper: {study.published_on}. {study.citation}")
    else:
        lines.append(study.citation)
    lines += [f"Note: {note}" for note in ablation.plan.notes]
    return lines + [f"Warning: {problem}" for problem in ablation.problems]


def ablation_json(ablation: Ablation) -> dict[str, object]:
    """Give a study for machines: scores as fractions or in their own unit, published in percent."""
    return {
        "study": ablation.plan.study.name,
        "task": ablation.task,
        "task_version": ablation.task_version,
        "split": ablation.split,
        "protocol": ablation.protocol,
        "backbone": ablation.plan.backbone,
        "metric": ablation.column.metric,
        "rows": [_plain(row) for row in ablation.rows],
        "notes": list(ablation.plan.notes),
        "problems": list(ablation.problems),
    }


def _plain(row: AblationRow) -> dict[str, object]:
    planned = row.planned
    return {
        "step": planned.name,
        "backbone": planned.backbone,
        "overrides": dict(planned.overrides),
        "compared_with": planned.compared_with,
        "score": None if row.cell is None else asdict(row.cell),
        "change": None if row.change is None else row.change._asdict(),
        "published": planned.published,
        "published_change": planned.published_change,
        "seeds": list(row.seeds),
        "seconds": row.seconds,
        "marks": list(row.marks),
        "records": list(row.records),
    }

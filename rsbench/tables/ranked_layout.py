"""Which texts stand where in a ranking; markdown, LaTeX and terminal only dress it."""

from __future__ import annotations

from dataclasses import replace

from rsbench.stats import Estimate
from rsbench.tables.layout import Layout, Text, clean, difference_text, metric_text, percent
from rsbench.tables.ranked_columns import RankedColumn
from rsbench.tables.ranking import RankedCell, RankedRow, Ranking


def lay_out_ranking(ranking: Ranking) -> Layout:
    """Put a ranking into words: rank and network, mean, groups, seconds, then a column a task."""
    compared = any(row.difference is not None for row in ranking.rows)
    inputs = {row.inputs for row in ranking.rows}
    headers = ["rank", "backbone", "weights"]
    headers += [_INPUTS] if len(inputs) > 1 else []
    numeric = [False] * len(headers)
    headers.append("mean %")
    headers += ["difference to first"] if compared else []
    headers += [f"{group} %" for group in ranking.groups]
    headers.append("seconds in all")
    headers += [_header(column) for column in ranking.columns]
    numeric += [True] * (len(headers) - len(numeric))
    rows = [
        _texts(row, ranking, compared=compared, with_inputs=len(inputs) > 1) for row in ranking.rows
    ]
    return Layout(
        title=clean(_title(ranking)),
        unlike=(),
        caption=_caption(ranking),
        headers=(*(clean(header) for header in headers), "marks"),
        numeric=(*numeric, False),
        rows=tuple(tuple(Text(*map(clean, text)) for text in row) for row in rows),
        remarks=tuple(clean(line) for line in _remarks(ranking, compared=compared)),
    )


def _title(ranking: Ranking) -> str:
    limit = "" if ranking.limit is None else f", at most {ranking.limit} items a split"
    if not ranking.name:
        return f"{ranking.title}{limit}"
    num_all = ranking.num_suite_tasks
    some = f"{ranking.num_tasks} of " if ranking.num_tasks < num_all else ""
    tasks = f"{some}{num_all} tasks"
    return f"Suite {ranking.name} ({tasks}{limit}): {ranking.title}"


def _caption(ranking: Ranking) -> str:
    captions = [ranking.caption] if ranking.caption else []
    samples = [column.task for column in ranking.columns if column.task.endswith("@sample")]
    if samples:
        named = ", ".join(dict.fromkeys(samples))
        captions.append(f"synthetic, and no measure of the real data sets: {named}")
    return "; ".join(captions)


def _header(column: RankedColumn) -> str:
    unit = " %" if column.metric.percent else ""
    lower = "" if column.metric.higher_is_better else " (lower is better)"
    return f"{column.label} {column.metric.metric}{unit}{lower}"


def _texts(row: RankedRow, ranking: Ranking, *, compared: bool, with_inputs: bool) -> list[Text]:
    version = "" if row.backbone_version == 1 else f" v{row.backbone_version}"
    digest = "" if row.weights_digest is None else f" {row.weights_digest[:8]}"
    texts = [
        Text(_rank(row)),
        Text(f"{row.backbone}{version}"),
        Text(f"{row.weights}{digest}"),
    ]
    texts += [Text(" / ".join(row.inputs))] if with_inputs else []
    texts.append(_mean(row.mean))
    if compared:
        first = "first" if row is ranking.rows[0] else "-"
        texts.append(Text(first) if row.difference is None else _difference(row.difference))
    texts += [_mean(group) for group in row.groups]
    texts.append(Text("-" if row.seconds is None else f"{row.seconds:.0f}"))
    texts += [
        Text("-") if cell is None else _cell(cell, column)
        for cell, column in zip(row.cells, ranking.columns, strict=True)
    ]
    texts.append(Text(", ".join(row.marks)))
    return texts


_INPUTS = "frames x stride x pixels"
_NOT_SEPARATED = "="
"""Behind ranks that the first may have as well."""


def _rank(row: RankedRow) -> str:
    if row.rank is None:
        return "-"
    may_be_first = row.difference is not None and not row.is_separated
    return f"{row.rank}{_NOT_SEPARATED if may_be_first else ''}"


def _mean(mean: Estimate | None) -> Text:
    if mean is None:
        return Text("-")
    if mean.low is None or mean.high is None:
        return Text(percent(mean.value))
    return Text(percent(mean.value), f"{percent(mean.low)}, {percent(mean.high)}")


def _difference(difference: Estimate) -> Text:
    if difference.low is None or difference.high is None:
        value = percent(difference.value)
        return Text(value if value.startswith("-") else f"+{value}")
    return difference_text((difference.value, difference.low, difference.high))


def _cell(cell: RankedCell, column: RankedColumn) -> Text:
    text = metric_text(replace(cell.score, folds=()), column.metric)
    more = [f"{cell.num_failed} failed"] if cell.num_failed else []
    more += ["knows this task"] if cell.knows_task else []
    more += cell.fit_marks
    cost = [] if cell.seconds is None else [_seconds(cell.seconds)]
    cost += ["cached"] if cell.cached else []
    return Text(text.main, text.detail, ", ".join(more), ", ".join(cost))


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _remarks(ranking: Ranking, *, compared: bool) -> list[str]:
    lines = [
        "The mean is over all columns alike; only networks with all of them have a rank. In"
        " brackets: 95% intervals over items, that of the mean made of its columns' own"
        + ("; the difference to the first is paired over items." if compared else ".")
    ]
    if any(
        cell is not None and cell.score.std is not None
        for row in ranking.rows
        for cell in row.cells
    ):
        lines.append("± is the standard deviation over seeds, which the intervals hold too.")
    if any(_rank(row).endswith(_NOT_SEPARATED) for row in ranking.rows):
        lines.append(
            f"{_NOT_SEPARATED}: not separated from the first, the interval of the difference to it"
            " holds 0 or is not known."
        )
    lines.append(
        "Seconds: wall clock of all cells of a row, extraction included; less where an earlier run"
        " had left the features (cached)."
    )
    shared = {" / ".join(row.inputs) for row in ranking.rows}
    if len(shared) == 1:
        lines.append(f"All rows: {_INPUTS} {shared.pop()}.")
    lines += [f"Note: {note}" for note in ranking.notes]
    if ranking.missing:
        lines.append(f"Missing: no result on {', '.join(ranking.missing)}.")
    for row in ranking.rows:
        absent = [
            column.label
            for cell, column in zip(row.cells, ranking.columns, strict=True)
            if cell is None
        ]
        if absent:
            lines.append(f"Missing: {row.backbone} ({row.weights}) has no {', '.join(absent)}.")
    return lines

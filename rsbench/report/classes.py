"""Where networks go wrong: each class, what it is taken for, and the items that were told wrong.

Items of several labels are not right or wrong as a whole: of those each class has its average
precision. Other kinds of targets (boxes, masks) have no classes to be shown by, which is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rsbench.records.store import Stored
from rsbench.report.anchors import row_anchor, table_anchor
from rsbench.report.bounds import Bounds, Omissions
from rsbench.report.grid import Heading, Place, grid
from rsbench.report.markup import Markup, join, tag, wrappable
from rsbench.report.precisions import AVERAGED, ClassPrecision, mean_precisions, precisions_of
from rsbench.report.thumbnails import thumbnails_of
from rsbench.report.verdicts import (
    FAILED,
    ClassScore,
    PredictionReader,
    Verdicts,
    class_names,
    class_scores,
    confusion_of,
    most_frequent_confusions,
    verdicts_of,
)
from rsbench.tables.layout import percent
from rsbench.tables.table import Row, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What all runs of a row said of the same items."""

    row: Row
    runs: tuple[Verdicts, ...]
    counts: NDArray[np.int64]
    """See `rsbench.report.verdicts.confusion_of`."""


class ClassViews:
    """Draws the views by class and by item of a report, within its bounds."""

    def __init__(
        self,
        stored: Mapping[str, Stored],
        *,
        bounds: Bounds,
        omissions: Omissions,
        data: Path | None,
    ) -> None:
        self._stored = stored
        self._bounds = bounds
        self._omissions = omissions
        self._data = data
        self._reader = PredictionReader(bounds, omissions)
        self._num_with_items = 0

    def section(self, table: Table) -> Markup | None:
        """Give the view of one table; None where there is none, which is said."""
        shown = table.rows[: self._bounds.class_rows]
        target = self._stored[shown[0].records[0]].record.task.target
        metric = table.columns[0].metric
        views: list[Markup] = []
        if target == "class":
            told = [each for each in map(self._told, shown) if each is not None]
            views = self._single(table, told) if told else []
        elif target == "multilabel" and metric in AVERAGED:
            views = self._several(table, shown)
        else:
            kind = f"targets of the kind {target}"
            kind = f"{metric} of several labels" if target == "multilabel" else kind
            self._omissions.say(f"{table.task}: there is no view by class and item for {kind}.")
        if not views:
            return None
        if len(shown) < len(table.rows):
            self._omissions.say(
                f"Classes and wrong items are of the best {self._bounds.class_rows} networks of "
                "each table."
            )
        title = (
            f"{table.task}, {table.split}: {table.protocol} "
            f"({table.clips} x {table.crops} views, ruler {table.digest[:8]})"
        )
        return tag(
            "section",
            tag("h3", tag("a", title, href=f"#{table_anchor(table.digest)}")),
            join(views),
            class_="classes",
        )

    def _single(self, table: Table, told: Sequence[Told]) -> list[Markup]:
        """Give the views of a task of one class an item."""
        names = self._names(told[0].row)
        views = [self._network(each, names, is_first=place == 0) for place, each in enumerate(told)]
        return [*views, self._wrong_items(table, told, names)]

    def _several(self, table: Table, rows: Sequence[Row]) -> list[Markup]:
        """Give the views of a task of several labels an item."""
        metric = table.columns[0].metric
        averaging: Literal["pooled", "mean"] = (
            "mean" if table.ruler["averaging"] == "mean" else "pooled"
        )

        def reader(stored: Stored) -> tuple[ClassPrecision, ...]:
            return precisions_of(stored, metric, averaging)

        views: list[Markup] = []
        for row in rows:
            read = [self._reader.read(self._stored[name], reader) for name in row.records]
            runs = [each for each in read if each]
            if runs:
                views.append(_precisions(row, runs, self._names(row), is_first=not views))
        if views:
            said = "Items of several labels are not right or wrong as a whole: none are shown."
            views.append(tag("p", said, class_="hint"))
        return views

    def _names(self, row: Row) -> tuple[str, ...]:
        stored = self._stored[row.records[0]]
        return class_names(stored, stored.record.task.num_classes)

    def _told(self, row: Row) -> Told | None:
        read = [self._reader.read(self._stored[name], verdicts_of) for name in row.records]
        runs = [each for each in read if each is not None]
        if not runs:
            return None
        # Runs of other items would be other classes' shares; the table itself names such a row.
        runs = [each for each in runs if each.keys == runs[0].keys]
        num_classes = self._stored[row.records[0]].record.task.num_classes
        return Told(row=row, runs=tuple(runs), counts=confusion_of(runs, num_classes))

    def _network(self, told: Told, names: Sequence[str], *, is_first: bool) -> Markup:
        scores = class_scores(told.counts, num_runs=len(told.runs))
        runs = "" if len(told.runs) == 1 else f", {len(told.runs)} runs together"
        label = f"{told.row.backbone}, {told.row.weights}"
        worst = min(scores, key=lambda score: (score.share, score.place))
        summary = tag(
            "summary",
            tag("span", wrappable(label), class_="what"),
            " ",
            tag(
                "span",
                f"worst class: {names[worst.place]}, {percent(worst.share)} %{runs}",
                class_="said",
            ),
        )
        if len(names) <= self._bounds.matrix_classes:
            confusion = _matrix(told.counts, names, label)
        else:
            confusion = _listed(told.counts, names, self._bounds.confusions, label)
        return tag(
            "details",
            summary,
            tag(
                "div",
                tag("div", tag("h4", "Classes"), _class_table(scores, names, told, label)),
                tag("div", tag("h4", "Taken for"), confusion),
                class_="pair",
            ),
            open=is_first,
            class_="network",
        )

    def _wrong_items(self, table: Table, told: Sequence[Told], names: Sequence[str]) -> Markup:
        """Show items that the best network told wrong, those first that most networks did."""
        best = told[0].runs[0]
        runs = [run for each in told for run in each.runs if run.keys == best.keys]
        num_wrong = np.sum([run.answers_N != run.targets_N for run in runs], axis=0)
        of_best = np.sum([run.answers_N != run.targets_N for run in told[0].runs], axis=0)
        wrong = [int(place) for place in np.flatnonzero(of_best)]
        if not wrong:
            return tag("p", f"{told[0].row.backbone} told every item right.", class_="hint")
        if self._num_with_items >= self._bounds.wrong_tables:
            self._omissions.say(
                f"Wrong items are shown of the first {self._bounds.wrong_tables} tables."
            )
            return Markup("")
        self._num_with_items += 1
        wrong.sort(key=lambda place: (-num_wrong[place], best.keys[place]))
        kept = wrong[: self._bounds.wrong_items]
        pictures = thumbnails_of(
            table.task,
            table.split,
            [best.keys[place][1] for place in kept],
            data=self._data,
            limit=self._bounds.wrong_items,
        )
        cards = []
        for place in kept:
            fold, item = best.keys[place]
            run = next(run for run in told[0].runs if run.answers_N[place] != run.targets_N[place])
            cards.append(
                _card(
                    f"{fold}: {item}" if fold else item,
                    pictures.images.get(item),
                    truth=names[run.targets_N[place]],
                    answer=_answer(int(run.answers_N[place]), names),
                    said=f"wrong in {num_wrong[place]} of {len(runs)} runs",
                )
            )
        some = f"{len(kept)} of {len(wrong)}" if len(kept) < len(wrong) else str(len(wrong))
        title = tag(
            "summary",
            tag("span", f"Wrong items: {some}", class_="what"),
            " ",
            tag("span", f"of {told[0].row.backbone}, the first network above", class_="said"),
        )
        note = tag("p", pictures.note, class_="hint") if pictures.note else ""
        return tag(
            "details",
            title,
            tag(
                "p",
                "First those that most runs of the networks above got wrong. ",
                tag("a", "The run that did", href=f"#{row_anchor(told[0].row.records)}"),
                class_="hint",
            ),
            note,
            tag("ul", join(cards), class_="cards"),
            class_="wrong",
            open=bool(pictures.images),
        )


def _precisions(
    row: Row, runs: Sequence[Sequence[ClassPrecision]], names: Sequence[str], *, is_first: bool
) -> Markup:
    """Give the average precision of each class, over the runs of a row."""
    found = mean_precisions(runs)
    label = f"{row.backbone}, {row.weights}"
    worst = min(found, key=lambda each: (each.value, each.place))
    mean = "" if len(runs) == 1 else f", mean of {len(runs)} runs"
    said = f"lowest class: {names[worst.place]}, {percent(worst.value)} %{mean}"
    headings = [
        Heading("class"),
        Heading("average precision %", numeric=True),
        Heading("items that have it", numeric=True),
        Heading("of all %", numeric=True, explained="what a list in no order comes to"),
    ]
    rows = [
        (
            Place(wrappable(names[each.place]), sort=each.place),
            Place(tag("span", percent(each.value), class_="value"), sort=each.value),
            Place(str(each.num_having), sort=each.num_having),
            Place(percent(each.num_having / each.num_items)),
        )
        for each in found
    ]
    return tag(
        "details",
        tag(
            "summary",
            tag("span", wrappable(label), class_="what"),
            " ",
            tag("span", said, class_="said"),
        ),
        grid(headings, rows, label=f"Classes as found by {label}"),
        open=is_first,
        class_="network",
    )


def _answer(answer: int, names: Sequence[str]) -> str:
    return "unreadable" if answer == FAILED else names[answer]


def _card(item: str, image: str | None, *, truth: str, answer: str, said: str) -> Markup:
    picture = (
        tag("div", "no picture", class_="blank")
        if image is None
        else tag("img", src=image, alt=f"Frames of {item}", decoding="async")
    )
    return tag(
        "li",
        picture,
        tag("p", tag("span", "is ", class_="hint"), tag("b", truth)),
        tag("p", tag("span", "taken for ", class_="hint"), tag("b", answer, class_="bad")),
        tag("p", wrappable(item), class_="item"),
        tag("p", said, class_="hint"),
    )


def _class_table(
    scores: Sequence[ClassScore], names: Sequence[str], told: Told, label: str
) -> Markup:
    headings = [
        Heading("class"),
        Heading("right %", numeric=True),
        Heading("items" if len(told.runs) == 1 else "items x runs", numeric=True),
        Heading("most often taken for"),
    ]
    rows = [
        (
            Place(wrappable(names[score.place]), sort=score.place),
            Place(
                tag("span", percent(score.share), class_="value")
                + " "
                + tag("span", f"[{percent(score.low)}, {percent(score.high)}]", class_="interval"),
                sort=score.share,
            ),
            Place(str(score.n), sort=score.n),
            Place("-", sort=0)
            if score.mistaken_for is None
            else Place(f"{names[score.mistaken_for]} ({score.num_mistaken})"),
        )
        for score in scores
    ]
    return grid(headings, rows, label=f"Classes as told by {label}")


def _matrix(counts: NDArray[np.int64], names: Sequence[str], label: str) -> Markup:
    """Give a confusion as a table whose cells are the darker the larger their share of the row."""
    has_failed = bool(counts[:, -1].any())
    answers = [*range(len(names)), *([len(names)] if has_failed else [])]
    columns = [*names, "unreadable"]
    head = tag(
        "tr",
        tag("th", "is \\ taken for", scope="col"),
        join(tag("th", tag("span", columns[answer]), scope="col") for answer in answers),
    )
    lines = []
    for true, name in enumerate(names):
        total = int(counts[true].sum())
        cells = []
        for answer in answers:
            count = int(counts[true, answer])
            share = count / total if total else 0.0
            # Ten steps of shade, which the style sheet knows for both themes.
            kind = "right" if answer == true else "wrong"
            cells.append(
                tag(
                    "td",
                    str(count) if count else "·",
                    class_=f"{kind} s{-(-share * 10 // 1):.0f}" if count else "none",
                    title=f"{name}, taken for {columns[answer]}: {count} of {total}",
                )
            )
        lines.append(tag("tr", tag("th", name, scope="row"), join(cells)))
    name = f"How often each class was taken for each by {label}"
    table = tag(
        "table",
        tag("thead", head),
        tag("tbody", join(lines)),
        class_="matrix",
        aria_label=name,
    )
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)


def _listed(counts: NDArray[np.int64], names: Sequence[str], limit: int, label: str) -> Markup:
    found = most_frequent_confusions(counts, limit)
    if not found:
        return tag("p", "No class was taken for another.", class_="hint")
    headings = [Heading("is"), Heading("taken for"), Heading("times", numeric=True)]
    headings.append(Heading("of", numeric=True))
    rows = [
        (
            Place(wrappable(names[true])),
            Place(wrappable(names[answer])),
            Place(str(count), sort=count),
            Place(str(int(counts[true].sum()))),
        )
        for true, answer, count in found
    ]
    hint = tag(
        "p", f"The {len(found)} most frequent of {len(names)} x {len(names)}.", class_="hint"
    )
    return hint + grid(headings, rows, label=f"Most frequent mistakes of {label}")

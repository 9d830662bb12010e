"""Which network is better than which: standings and pairs of each family, refusals beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rsbench.comparison.compared import Comparison, Family, Pairwise, Refusal
from rsbench.report.anchors import row_anchor, table_anchor
from rsbench.report.bounds import Bounds, Omissions
from rsbench.report.grid import Heading, Place, grid
from rsbench.report.markup import Markup, join, tag, wrappable, wrappable_words
from rsbench.tables.layout import number_text
from rsbench.tables.table import Column

_ANSWERS = 12
"""Answers that are open at once."""
_VERDICTS = {"win": "better", "loss": "worse", "tie": "not told apart", "untested": "not tested"}


def comparisons(
    comparison: Comparison, *, bounds: Bounds, omissions: Omissions
) -> Iterator[Markup]:
    """Give each family that has pairs as a section, those of the best rows first."""
    left = bounds.all_pairs
    families = [family for family in comparison.families if family.pairs]
    for family in families:
        # Pairs of the best rows say most: who is first, and of whom is it surely better?
        ordered = sorted(family.pairs, key=lambda pair: (pair.first + pair.second, pair.first))
        kept = ordered[: min(bounds.pairs, left)]
        left -= len(kept)
        if kept:
            yield _section(family, kept, bounds.table_rows)
    num_pairs = sum(len(family.pairs) for family in families)
    num_shown = bounds.all_pairs - left
    if num_shown < num_pairs:
        omissions.say(
            f"{num_shown:,} of {num_pairs:,} pairs are shown, those of the best networks of each "
            "comparison; `rsbench compare` shows all."
        )


def _section(family: Family, pairs: Sequence[Pairwise], limit: int) -> Markup:
    column = family.metric
    unit = " points" if column.percent else ""
    headings = [
        Heading("first"),
        Heading("second"),
        Heading("verdict"),
        Heading(f"difference{unit}", numeric=True, explained="first minus second, 95% interval"),
        Heading("p", numeric=True),
        Heading("q", numeric=True, explained="p after Benjamini and Hochberg over all pairs"),
        Heading(f"{column.metric}{' %' if column.percent else ''} of first", numeric=True),
        Heading("of second", numeric=True),
        Heading("only first right", numeric=True, explained="items on which it scores higher"),
        Heading("only second", numeric=True),
        Heading("detectable", numeric=True, explained="difference that four of five would show"),
        Heading("items", numeric=True),
    ]
    rows = [_pair(pair, family) for pair in pairs]
    title = tag("a", family.title, href=f"#{table_anchor(family.digest)}")
    return tag(
        "section",
        tag("h3", title),
        _standings(family, limit),
        tag(
            "details",
            tag("summary", f"{len(pairs)} pairs" if len(pairs) > 1 else "The pair"),
            grid(
                headings,
                rows,
                label=f"Pairs of {family.title}",
                row_classes=[pair.verdict for pair in pairs],
                filterable=True,
            ),
            open=len(pairs) <= 10,
        ),
        _lines(family.warnings),
        class_="result",
    )


def _standings(family: Family, limit: int) -> Markup:
    headings = [
        Heading("network"),
        Heading("rank", numeric=True, explained="1 more than those which are surely better"),
        Heading(f"{family.metric.metric}{' %' if family.metric.percent else ''}", numeric=True),
        Heading("better than", numeric=True),
        Heading("not told apart", numeric=True),
        Heading("worse than", numeric=True),
        Heading("items", numeric=True),
    ]
    rows = []
    for row, standing in list(zip(family.rows, family.standings, strict=True))[:limit]:
        value = standing.value
        number = "-" if value is None else number_text(value, family.metric)
        rows.append(
            (
                Place(wrappable(standing.label)),
                Place("-" if standing.rank is None else str(standing.rank)),
                Place(tag("a", number, href=f"#{row_anchor(row.records)}"), sort=value),
                Place(str(standing.wins)),
                Place(str(standing.ties)),
                Place(str(standing.losses)),
                Place(str(standing.n)),
            )
        )
    return grid(headings, rows, label=f"Standings of {family.title}", filterable=True)


def _pair(pair: Pairwise, family: Family) -> list[Place]:
    column = family.metric
    names = [_name(family, place) for place in (pair.first, pair.second)]
    verdict = tag("span", _VERDICTS[pair.verdict], class_=f"verdict {pair.verdict}")
    remarks = list(pair.warnings)
    if pair.seeds_may_turn and pair.verdict in ("win", "loss"):
        remarks.insert(0, "other seeds may turn it")
    if remarks:
        verdict += tag("span", "; ".join(remarks), class_="more")
    difference = tag("span", _signed(pair.difference, column), class_="value")
    if pair.low is not None and pair.high is not None:
        ends = f" [{number_text(pair.low, column)}, {number_text(pair.high, column)}]"
        difference += tag("span", ends, class_="interval", title=f"{pair.interval} interval")
    if pair.low_with_seeds is not None and pair.high_with_seeds is not None:
        seeded = [number_text(end, column) for end in (pair.low_with_seeds, pair.high_with_seeds)]
        difference += tag("span", f"[{', '.join(seeded)}] over seeds too", class_="interval seeds")
    detectable = "-" if pair.detectable is None else number_text(pair.detectable, column)
    return [
        *names,
        Place(verdict),
        Place(difference, sort=pair.difference),
        _probability(pair.p, pair.test),
        _probability(pair.q),
        Place(number_text(pair.first_value, column), sort=pair.first_value),
        Place(number_text(pair.second_value, column), sort=pair.second_value),
        _count(pair.wins_items),
        _count(pair.losses_items),
        Place(detectable, sort=pair.detectable),
        Place(_counts(pair), sort=pair.n),
    ]


def _name(family: Family, place: int) -> Place:
    anchor = row_anchor(family.rows[place].records)
    return Place(
        tag("a", wrappable(family.standings[place].label), href=f"#{anchor}"), class_="name"
    )


def _signed(value: float, column: Column) -> str:
    shown = number_text(value, column)
    return shown if shown.startswith("-") else f"+{shown}"


def _probability(p: float | None, test: str = "") -> Place:
    if p is None:
        return Place("-")
    shown = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return Place(tag("span", shown, title=f"{p:.3g} {test}".rstrip()), sort=p)


def _count(count: int | None) -> Place:
    return Place("-") if count is None else Place(str(count), sort=count)


def _counts(pair: Pairwise) -> str:
    """Give the items, and of a common subset those of each."""
    if pair.n == pair.n_first == pair.n_second:
        return str(pair.n)
    return f"{pair.n} of {pair.n_first} and {pair.n_second}"


def sentences(comparison: Comparison) -> Markup:
    """Give the answers in plain words, most of many folded."""
    said = [tag("li", wrappable_words(sentence)) for sentence in comparison.sentences]
    first, others = said[:_ANSWERS], said[_ANSWERS:]
    answers = tag("ul", join(first), class_="sentences")
    if not others:
        return answers
    summary = tag("summary", f"{len(others)} more answers")
    return answers + tag("details", summary, tag("ul", join(others), class_="sentences"))


def refusals(comparison: Comparison) -> Markup:
    """Say what was not compared, and in which fields the rulers differ."""
    return join(_refusal(refusal) for refusal in comparison.refusals)


def _refusal(refusal: Refusal) -> Markup:
    headings = [Heading("field"), Heading("first"), Heading("second")]
    rows = [
        (Place(field), Place(_digits(first)), Place(_digits(second)))
        for field, first, second in refusal.fields
    ]
    way = f"; {refusal.way_out} would" if refusal.way_out else ""
    return tag(
        "details",
        tag("summary", f"{refusal.first} | {refusal.second}"),
        tag("p", f"Their rulers differ in {len(rows)} fields, so no table holds both{way}."),
        grid(headings, rows, label="Fields that differ", class_="plain"),
    )


def _digits(value: object) -> Markup:
    return wrappable("none" if value is None else str(value))


def _lines(lines: Sequence[str]) -> Markup:
    if not lines:
        return Markup("")
    return tag("ul", join(tag("li", line, class_="warning") for line in lines), class_="remarks")

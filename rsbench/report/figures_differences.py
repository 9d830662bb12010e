"""Forest plots: how much better one network is than another, pair by pair, with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rsbench.comparison.compared import Comparison, Family, Pairwise
from rsbench.report.anchors import row_anchor
from rsbench.report.figure import (
    BETTER,
    NEUTRAL,
    WORSE,
    Datum,
    Figure,
    drawn,
    enumerated,
    in_words,
    named,
    shown,
    titled,
    vega_lite,
)
from rsbench.tables.layout import clean
from rsbench.tables.table import Table, Tables

MAX_PAIRS = 40
"""Lines of one plot; of more pairs those of the best rows are drawn."""

_LINE_PIXELS = 34
"""Height of a pair: its names in one line, and below them its interval."""
_TALL_LINE_PIXELS = 54
"""The same with the second name below the first."""
_LETTERS_OF_A_LINE = 32
"""Two names that are longer together have a line each, so that a phone shows both."""

_NUMBER_PIXELS = 135
"""Room for a difference with its interval."""

_VERDICTS = {
    "win": ("first is better", BETTER, "triangle-up"),
    "loss": ("second is better", WORSE, "triangle-down"),
    "tie": ("not told apart", NEUTRAL, "circle"),
    "untested": ("not tested", NEUTRAL, "diamond"),
}
"""Verdict of a pair -> its words, colour and shape."""


def difference_figures(tables: Tables, comparison: Comparison) -> Iterator[Figure]:
    """Draw the differences of each family's pairs.

    Args:
        tables: Whose rows the families hold.
        comparison: The pairs.
    """
    by_digest = {table.digest: table for table in tables.tables}
    for family in comparison.families:
        table = by_digest.get(family.digest)
        if table is not None and family.pairs:
            yield _figure(family, table)


def _figure(family: Family, table: Table) -> Figure:
    # Rows stand best first: pairs with the best row lead, then those with the second, ...
    ordered = sorted(family.pairs, key=lambda pair: (min(_places(pair)), max(_places(pair))))
    kept = ordered[:MAX_PAIRS]
    pairs = [(pair, *_names(family, pair)) for pair in kept]
    is_short = all(len(first) + len(second) + 4 <= _LETTERS_OF_A_LINE for _, first, second in pairs)
    data = [
        _datum(family, pair, line, (first, second), between=" vs " if is_short else "\nvs ")
        for line, (pair, first, second) in enumerate(pairs)
    ]
    verdicts = [pair.verdict for pair in kept]
    column = family.metric
    told = [
        f"{each['first']} {each['difference_in_words']} against {each['second']}"
        for each, pair in zip(data, kept, strict=True)
        if pair.verdict in ("win", "loss")
    ]
    unsure = verdicts.count("tie")
    caption = (
        "Each line is the difference of two networks over the same items, the first minus the"
        " second, with its 95% interval. A triangle is sure (q at most 0.05 after Benjamini and"
        f" Hochberg over {len(family.pairs)} {'pair' if len(family.pairs) == 1 else 'pairs'}), a"
        " circle is not told apart: over many pairs, an interval that leaves out 0 is not enough."
    )
    if any(pair.low_with_seeds is not None for pair in kept):
        caption += (
            " The thick bar is over items, which q is over too; the thin one over items and seeds,"
            " where there are several: where it holds 0, other seeds may turn the verdict."
        )
    if len(kept) < len(ordered):
        caption += f" Drawn are the {len(kept)} of {len(ordered)} pairs that the best rows are in."
    words = (
        f"Forest plot of paired differences of {clean(column.metric)}, {len(kept)} in all:"
        f" {len(told)} sure, {unsure} not told apart."
    )
    if told:
        words += f" Sure: {enumerated(told, limit=6)}."
    return Figure(
        name=named("differences", table),
        section="differences",
        title=titled("Paired differences", table),
        caption=caption,
        alt=words,
        spec=_spec(family, data),
    )


def _places(pair: Pairwise) -> tuple[int, int]:
    return pair.first, pair.second


def _names(family: Family, pair: Pairwise) -> tuple[str, str]:
    first, second = (clean(family.standings[place].label) for place in _places(pair))
    return first, second


def _datum(
    family: Family, pair: Pairwise, line: int, names: tuple[str, str], *, between: str
) -> Datum:
    column = family.metric
    points = " points" if column.percent else ""

    def signed(value: float) -> str:
        return f"{shown(value, column):+.{column.decimals}f}"

    def interval(low: float | None, high: float | None) -> str:
        return "" if low is None or high is None else f"[{signed(low)}, {signed(high)}]"

    first, second = names
    over_items = interval(pair.low, pair.high)
    return {
        "record": row_anchor(family.rows[pair.first].records),
        "line": line,
        "zero": 0,
        "pair": f"{first}{between}{second}",
        "numbers": f"{signed(pair.difference)} {over_items}".rstrip(),
        "first": first,
        "second": second,
        "difference": shown(pair.difference, column),
        "low": shown(pair.low, column),
        "high": shown(pair.high, column),
        "low_with_seeds": shown(pair.low_with_seeds, column),
        "high_with_seeds": shown(pair.high_with_seeds, column),
        "difference_in_words": f"{signed(pair.difference)}{points}",
        "interval": over_items or "none",
        "interval_with_seeds": interval(pair.low_with_seeds, pair.high_with_seeds) or "none",
        "first_score": in_words(pair.first_value, column),
        "second_score": in_words(pair.second_value, column),
        "p": "none" if pair.p is None else f"{pair.p:.3g}",
        "q": "none" if pair.q is None else f"{pair.q:.3g}",
        "test": pair.test,
        "items": pair.n,
        "verdict": _VERDICTS[pair.verdict][0],
    }


def _spec(family: Family, data: Sequence[Datum]) -> dict[str, Any]:
    alt = vega_lite()
    column = family.metric
    ends = [
        value
        for each in data
        for value in (
            *(each["low"], each["high"], each["low_with_seeds"], each["high_with_seeds"]),
            *(each["difference"], 0.0),
        )
        if value is not None
    ]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    domain = [min(ends) - room, max(ends) + room]
    height = _TALL_LINE_PIXELS if any("\n" in each["pair"] for each in data) else _LINE_PIXELS
    # From the middle of a pair's height up to its names, and down to its interval.
    up, down = (17, 15) if height == _TALL_LINE_PIXELS else (9, 8)
    base = alt.Chart(alt.NamedData("points")).encode(
        y=alt.Y(
            "line:O",
            axis=None,
            sort=None,
            scale=alt.Scale(paddingInner=0, paddingOuter=0.1),
        )
    )
    unit = " (points)" if column.percent else ""
    title = f"difference of {clean(column.metric)}{unit}, first - second"
    scale = alt.Scale(domain=domain, nice=False, zero=False)
    used = [each for each in _VERDICTS.values() if each[0] in {datum["verdict"] for datum in data}]
    words = [word for word, _, _ in used]
    names = alt.Legend(title=None, orient="bottom", direction="horizontal", symbolOpacity=1)
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=words, range=[colour for _, colour, _ in used]),
        legend=names,
    )
    shape = alt.Shape(
        "verdict:N",
        scale=alt.Scale(domain=words, range=[shape for _, _, shape in used]),
        legend=names,
    )
    # Names and numbers stand above their interval, so that a phone has room for all; lines that
    # run from top to bottom would cross them out.
    zero = base.mark_tick(thickness=1.5, size=18, yOffset=down, color=NEUTRAL).encode(
        x=alt.X("zero:Q", title=title, scale=scale, axis=alt.Axis(grid=False))
    )
    texts = base.mark_text(
        align="left", lineBreak="\n", dy=-up, dx=2, limit=alt.ExprRef(f"width - {_NUMBER_PIXELS}")
    ).encode(x=alt.value(0), text="pair:N")
    numbers = base.mark_text(align="right", dy=-up, dx=-2).encode(
        x=alt.value("width"), text="numbers:N"
    )
    seeds = base.mark_rule(strokeWidth=1, yOffset=down).encode(
        x=alt.X("low_with_seeds:Q", title=title, scale=scale), x2="high_with_seeds:Q", color=colour
    )
    bars = base.mark_rule(strokeWidth=3, yOffset=down).encode(
        x=alt.X("low:Q", title=title, scale=scale), x2="high:Q", color=colour
    )
    marks = base.mark_point(filled=True, size=110, opacity=1, yOffset=down).encode(
        x=alt.X("difference:Q", title=title, scale=scale),
        color=colour,
        shape=shape,
        tooltip=[
            alt.Tooltip("first:N"),
            alt.Tooltip("first_score:N", title="its score"),
            alt.Tooltip("second:N"),
            alt.Tooltip("second_score:N", title="its score "),
            alt.Tooltip("difference_in_words:N", title="difference"),
            alt.Tooltip("interval:N", title="95% interval over items"),
            alt.Tooltip("interval_with_seeds:N", title="over items and seeds"),
            alt.Tooltip("p:N"),
            alt.Tooltip("q:N"),
            alt.Tooltip("test:N"),
            alt.Tooltip("items:Q"),
            alt.Tooltip("verdict:N"),
        ],
    )
    layers = (zero, seeds, bars, marks, texts, numbers)
    return drawn(layers, height=height * len(data), datasets={"points": data})

"""What a figure of the report is: words, numbers, and a Vega-Lite drawing that says no colours.

A drawing holds its data and asks for nothing from elsewhere. Colours of text, axes and background
are the page's (`rsbench.report.drawing.style` puts them into the words that Vega wants). Those of
the data are `PALETTE` and the verdicts', readable on white and on near-black alike; none of them
stands alone: shapes, dashes or words say the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rsbench.errors import RsbenchError
from rsbench.tables.layout import clean
from rsbench.tables.table import Column, Row, Table

Section = Literal["cost", "differences", "views", "learning", "selection"]
"""Where in the report a figure stands, in this order."""

Datum = dict[str, Any]
"""What one mark shows, as JSON; "record" is the anchor of the record it stands for."""

PALETTE = (
    *("#6459b2", "#f25b00", "#009cb2", "#a64929"),
    *("#869973", "#7f606c", "#9700f2", "#e740ff"),
)
"""Of 835 colours with a contrast of 3 and more to #ffffff and to #14181d, eight whose least
distance in CIELAB is greatest, the least over normal sight and the three dichromacies as Machado,
Oliveira and Fernandes 2009 (severity 1) simulate them: 22.6. The calmer ones come first."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "wedge", "arrow")
"""Goes with `PALETTE`, so that no colour stands alone."""
BETTER, WORSE, NEUTRAL = "#009cb2", "#f25b00", "#7a7f87"
"""A difference that is surely positive, surely negative, or neither."""

MAX_SERIES = len(PALETTE)
"""Networks that are told apart in one chart."""
MAX_FIGURES = 12
"""Of one section; a page is not an atlas."""
LABEL_PIXELS = 300
"""Widest that a network's name is drawn in a legend."""

PLOT_HEIGHT = 320
"""In pixels; the width is that of what holds the chart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One chart of the report."""

    name: str
    """Letters, digits and hyphens: its anchor and its file's name; no two figures share one."""
    section: Section
    title: str
    caption: str
    """How it is to be read, and what is not in it. Plain text, as all texts here."""
    alt: str
    """What it shows, in a sentence with its numbers, for who can't see it."""
    spec: Mapping[str, Any]
    """Vega-Lite, complete but for colours of the surroundings: data inline, as wide as what holds
    it. Marks that stand for a run have the anchor of its record in the field "record"."""


def drawn(
    layers: Sequence[Any], *, height: int, datasets: Mapping[str, Sequence[Datum]]
) -> dict[str, Any]:
    """Give the Vega-Lite of charts on top of each other, without colours of surroundings.

    Args:
        layers: Charts of Altair, which name their data; the last is drawn last.
        height: Of the plot, in pixels; it is as wide as what holds it.
        datasets: What they name.
    """
    chart = vega_lite().layer(*layers).properties(width="container", height=height)
    # Drawings do not depend on the data but for numbers and texts, and tests hold them to the
    # schema; that takes longer than everything else.
    spec: dict[str, Any] = chart.to_dict(validate=False)
    del spec["config"]
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["datasets"] = {name: list(values) for name, values in datasets.items()}
    return spec


def vega_lite() -> Any:  # noqa: ANN401 - a module
    """Give Altair.

    Raises:
        RsbenchError: It is not installed.
    """
    try:
        import altair
    except ImportError:
        raise RsbenchError(
            "Figures need Altair, which is not installed: pip install 'rsbench[report]', or leave"
            " them out with --no-figures."
        ) from None
    return altair


# ------------------------------------------------------------------------------------------ words


def named(kind: str, table: Table) -> str:
    """Give the name of a table's figure of some kind."""
    words = f"{kind}-{table.task}-{table.protocol}-{table.digest[:8]}"
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-")


def titled(what: str, table: Table) -> str:
    """Give the title of a table's figure."""
    views = "" if table.clips * table.crops == 1 else f", {table.clips} x {table.crops} views"
    return clean(f"{what}: {table.task}, {table.protocol}{views}")


def axis_title(column: Column) -> str:
    """Name a metric with its unit."""
    return f"{clean(column.metric)} (%)" if column.percent else clean(column.metric)


def shown(value: float | None, column: Column) -> float | None:
    """Give a value of a metric as it stands on an axis: in percent where the tables say percent."""
    if value is None:
        return None
    return 100 * value if column.percent else value


def in_words(value: float, column: Column) -> str:
    """Write a value of a metric with its unit: "52.5%"."""
    return f"{shown(value, column):.{column.decimals}f}{'%' if column.percent else ''}"


def input_of(row: Row) -> str:
    """Say what a network is shown: "16 x 4 x 224"."""
    return f"{row.frames} x {row.stride} x {row.pixels}"


def enumerated(texts: Sequence[str], *, limit: int = 4) -> str:
    """Write a list of names: "a, b and 3 more"."""
    if len(texts) <= limit:
        return ", ".join(texts)
    return f"{', '.join(texts[: limit - 1])} and {len(texts) - limit + 1} more"


def left_out(rows: Sequence[str], reason: str) -> str:
    """Say who is not in a figure and why, as a sentence; empty where all are in it."""
    return f" Not drawn, {reason}: {enumerated(rows)}." if rows else ""


# ------------------------------------------------------------------------------------------ scales


def series_scales(labels: Sequence[str]) -> tuple[Any, Any]:
    """Give the scales of colour and shape that tell up to `MAX_SERIES` networks apart."""
    altair = vega_lite()
    domain = list(labels)
    assert len(domain) <= MAX_SERIES, "no more networks than colours"
    return (
        altair.Scale(domain=domain, range=list(PALETTE[: len(domain)])),
        altair.Scale(domain=domain, range=list(SHAPES[: len(domain)])),
    )


def legend(num_labels: int) -> Any:  # noqa: ANN401 - a legend of Altair
    """Give a legend below the chart, narrow enough for a phone where names are few."""
    return vega_lite().Legend(
        title=None,
        orient="bottom",
        direction="vertical",
        columns=1 if num_labels <= 4 else 2,
        labelLimit=LABEL_PIXELS,
        symbolOpacity=1,
    )


def log_domain(values: Sequence[float], *, padding: float = 0.08) -> tuple[float, float]:
    """Give bounds around positive values, with room at both ends by a share of their span.

    Where they are (nearly) equal, the bounds are half and twice the value.
    """
    low, high = math.log(min(values)), math.log(max(values))
    room = padding * (high - low) if high - low > math.log(1.2) else math.log(2)
    return math.exp(low - room), math.exp(high + room)


def log_ticks(low: float, high: float) -> list[float]:
    """Give three to ten round numbers within bounds on a logarithmic axis.

    Powers of ten where there are enough of them, else 1, 2 and 5 times these, else, since so narrow
    an axis is nearly a linear one, numbers at equal distances: Vega labels powers of ten only,
    which a narrow axis may not have.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [float(f"{digit}e{exponent}") for exponent in exponents for digit in digits]
        ticks = [tick for tick in found if low <= tick <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / 10)]
    power = math.floor(math.log10((high - low) / 3))
    steps = (digit * 10.0**power for digit in (5, 2, 1))
    step = next(step for step in steps if high // step - math.ceil(low / step) >= 2)
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{place * step:.12g}") for place in places]

"""Which network is better than which, and is it sure: comparisons, and how they are drawn."""

from __future__ import annotations

import json
import sys

from rsbench.comparison.compared import (
    SIGNIFICANT,
    Average,
    AverageRow,
    Comparison,
    Family,
    IntervalKind,
    Pairwise,
    Refusal,
    Standing,
    Test,
    Verdict,
)
from rsbench.comparison.comparing import compare
from rsbench.tables import screen_width, unknown_form

__all__ = [
    "SIGNIFICANT",
    "Average",
    "AverageRow",
    "Comparison",
    "Family",
    "IntervalKind",
    "Pairwise",
    "Refusal",
    "Standing",
    "Test",
    "Verdict",
    "compare",
    "render_comparison",
]


def render_comparison(comparison: Comparison, form: str) -> str:
    """Draw a comparison in one form, ending with a newline; see `render`.

    In CSV and LaTeX the refusals have no place either.

    Args:
        comparison: What `compare` gave.
        form: One of `Form`.

    Raises:
        UnknownNameError: There is no such form.
    """
    from rsbench.comparison import machine, text
    from rsbench.comparison.layout import lay_out_comparison

    if form == "terminal":
        return text.to_terminal(comparison, width=screen_width(), styled=sys.stdout.isatty())
    if form == "markdown":
        return text.to_markdown(comparison)
    if form == "latex":
        from rsbench.tables.latex import layouts_to_latex

        return layouts_to_latex(lay_out_comparison(comparison))
    if form == "csv":
        return machine.comparison_csv(comparison)
    if form == "json":
        content = machine.comparison_json(comparison)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    raise unknown_form(form)

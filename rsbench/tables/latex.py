"""Tables as LaTeX (packages booktabs and inputenc, graphicx for wide ones), ready for a paper.

The caption names the table and what it must be read with; how to read it stands below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rsbench.tables.layout import Layout, clean, lay_out, unlike_sentence
from rsbench.tables.table import Tables

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


_MAX_COLUMNS = 8
"""Tables of more columns are scaled to the width of the page."""


def to_latex(tables: Tables) -> str:
    """Give each table as a LaTeX table environment; names from records are escaped."""
    return layouts_to_latex([lay_out(table) for table in tables.tables])


def layouts_to_latex(layouts: Sequence[Layout]) -> str:
    """Give each layout as a LaTeX table environment; names from records are escaped."""
    return "\n".join(map(_environment, layouts))


def escape(text: str) -> str:
    """Escape what LaTeX would take for a command."""
    return "".join(_SPECIAL.get(letter, letter) for letter in clean(text))


def _environment(layout: Layout) -> str:
    unlike = unlike_sentence(layout)
    caption = _sentences([layout.title, layout.caption, unlike])
    below = _sentences(layout.remarks)
    is_wide = len(layout.headers) > _MAX_COLUMNS
    # Braces keep a cell that begins with a bracket or a star from being read as an argument of \\.
    rows = [
        " & ".join(
            f"{{{_signed(str(text)) if numeric else escape(str(text))}}}"
            for text, numeric in zip(row, layout.numeric, strict=True)
        )
        + r" \\"
        for row in layout.rows
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            *([r"\resizebox{\textwidth}{!}{% needs \usepackage{graphicx}"] if is_wide else []),
            rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in layout.numeric)}}}",
            r"\toprule",
            " & ".join(escape(header) for header in layout.headers) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}" + ("}" if is_wide else ""),
            *([rf"\par\smallskip{{\footnotesize {below}\par}}"] if below else []),
            r"\end{table}",
            "",
        ]
    )


def _sentences(texts: Iterable[str]) -> str:
    return " ".join(escape(f"{text.removesuffix('.')}.") for text in texts if text)


def _signed(text: str) -> str:
    """Escape a number, its sign as a minus rather than a hyphen."""
    return re.sub(r"-(?=\d)", "$-$", escape(text))

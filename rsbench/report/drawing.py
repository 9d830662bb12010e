"""Figures as SVG and PNG, offline, and the JavaScript that draws them on a page.

The only importer of vl-convert, which brings Vega and Vega-Lite with it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsbench.atomic import write_atomically
from rsbench.errors import RsbenchError
from rsbench.report.figure import PALETTE, Figure

PIXELS_WIDE = 640
"""Of a figure's plot with its axes, in SVG units and, times the scale, in pixels of a PNG."""

LIGHT = {"ink": "#1f2328", "muted": "#59636e", "grid": "#d9dee3", "background": "#ffffff"}
"""Colours of texts, of less important ones, of lines, and of the paper."""
DARK = {"ink": "#e6e9ed", "muted": "#a3abb5", "grid": "#363d46", "background": "#14181d"}


def style(
    *,
    ink: str,
    muted: str,
    grid: str,
    background: str,
    font: str = "Helvetica, Arial, sans-serif",
) -> dict[str, Any]:
    """Give Vega-Lite's configuration of everything that is no data.

    Args:
        ink: Colour of texts.
        muted: Colour of less important texts, as of numbers on axes.
        grid: Colour of lines behind the data.
        background: Colour of the paper.
        font: CSS names of fonts.
    """
    return {
        "background": background,
        "font": font,
        "padding": 6,
        "view": {"stroke": None},
        "range": {"category": list(PALETTE)},
        "title": {"color": ink, "fontSize": 14, "anchor": "start", "offset": 12, "limit": 0},
        "axis": {
            "labelColor": muted,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "gridColor": grid,
            "domainColor": grid,
            "tickColor": grid,
            "labelOverlap": "greedy",
        },
        "legend": {"labelColor": ink, "titleColor": ink, "labelFontSize": 11, "symbolSize": 90},
        "text": {"color": ink, "fontSize": 11},
        "rule": {"color": muted},
        "line": {"strokeWidth": 2},
    }


def to_svg(figure: Figure, *, dark: bool = False) -> str:
    """Give a figure with its title as SVG, asking for nothing from outside.

    Raises:
        RsbenchError: The extra "report" is not installed.
    """
    svg: str = _vl_convert().vegalite_to_svg(_alone(figure, dark=dark), allowed_base_urls=[])
    return svg


def to_png(figure: Figure, *, scale: float = 2, dark: bool = False) -> bytes:
    """Give a figure with its title as PNG, `PIXELS_WIDE` x `scale` pixels wide.

    Raises:
        RsbenchError: The extra "report" is not installed.
    """
    png: bytes = _vl_convert().vegalite_to_png(
        _alone(figure, dark=dark), scale=scale, allowed_base_urls=[]
    )
    return png


def write_figures(figures: Sequence[Figure], folder: Path) -> tuple[Path, ...]:
    """Write each figure as NAME.svg and NAME.png, on white, for papers.

    Args:
        figures: What `figures_of` gave.
        folder: Made if need be; files of these names are replaced.

    Returns:
        The files.

    Raises:
        DiskError: The folder can't be written.
        RsbenchError: The extra "report" is not installed.
    """
    written = []
    for figure in figures:
        for suffix, content in ((".svg", to_svg(figure).encode()), (".png", to_png(figure))):
            path = folder / f"{figure.name}{suffix}"
            write_atomically(path, content)
            written.append(path)
    return tuple(written)


@functools.cache
def javascript() -> str:
    """Give Vega, Vega-Lite and Vega-Embed as one script that asks for nothing from outside.

    It sets `window.vegaEmbed`, `window.vega` and `window.vegaLite`.

    Raises:
        RsbenchError: The extra "report" is not installed.
    """
    script: str = _vl_convert().javascript_bundle()
    assert "</script" not in script.lower(), "it may stand in a page as it is"
    return script


def _alone(figure: Figure, *, dark: bool) -> dict[str, Any]:
    """Give the drawing with what a page would put around it: title, colours, width."""
    return {
        **figure.spec,
        "title": figure.title,
        "width": PIXELS_WIDE,
        "config": style(**(DARK if dark else LIGHT)),
    }


def _vl_convert() -> Any:  # noqa: ANN401 - a module
    try:
        import vl_convert
    except ImportError:
        raise RsbenchError(
            "Drawing figures needs vl-convert, which is not installed: pip install"
            " 'rsbench[report]', or leave them out with --no-figures."
        ) from None
    return vl_convert

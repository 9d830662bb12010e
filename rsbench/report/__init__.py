"""The report: one HTML file that shows the records of a results folder and asks for nothing else.

Tables, comparisons, figures, classes, wrong items and the records themselves, each number a link to
the run that made it. A pure function of the folder (and of the data, where pictures are wanted).
"""

from __future__ import annotations

from pathlib import Path

from rsbench.atomic import write_atomically
from rsbench.errors import RsbenchError
from rsbench.report.bounds import Bounds
from rsbench.report.sections import Report, draw
from rsbench.suites import Suite

__all__ = ["Bounds", "Report", "draw_report", "write_report"]


def write_report(
    root: Path,
    target: Path,
    *,
    data: Path | None = None,
    suite: Suite | None = None,
    title: str = "rsbench results",
    bounds: Bounds | None = None,
    with_figures: bool = True,
) -> Path:
    """Write the report of a results folder as one HTML file, whole or not at all.

    Args:
        root: The results folder.
        target: The file; its folder is made if need be, and a file there is replaced.
        data: Folder of the data sets, for pictures of wrong items; samples need none.
        suite: Whose tasks are ranked; None ranks whatever is there.
        title: Of the page.
        bounds: How much the page holds; None for the defaults.
        with_figures: False draws tables alone, which needs nothing that rsbench does not.

    Returns:
        The file.

    Raises:
        RsbenchError: There is no such folder, or figures are to be drawn and the extra "report" is
            not installed.
        DiskError: The file can't be written.
    """
    report = draw_report(
        root, data=data, suite=suite, title=title, bounds=bounds, with_figures=with_figures
    )
    write_atomically(target, report.html.encode())
    return target


def draw_report(
    root: Path,
    *,
    data: Path | None = None,
    suite: Suite | None = None,
    title: str = "rsbench results",
    bounds: Bounds | None = None,
    with_figures: bool = True,
) -> Report:
    """Draw the report of a results folder without writing it; see `write_report`."""
    if not root.is_dir():
        raise RsbenchError(f"No results folder {root}; run something first, or name another.")
    return draw(
        root,
        data=data,
        suite=suite,
        title=title,
        bounds=bounds or Bounds(),
        with_figures=with_figures,
    )

"""The page as a whole: its head, its ways through, its sections in order.

One file holds everything: styles, scripts, data. The browser is told to ask for nothing (a content
security policy of hashes), so that the page is the same from ``file://``, in an archive, in a mail.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from rsbench import __version__
from rsbench.report.figure import Figure
from rsbench.report.markup import Markup, inline_code, join, json_script, tag, text

_PLACE = re.compile(r' id="((?:row|record|table)-[0-9a-f]+)"')
_LINK = re.compile(r' href="#((?:row|record|table)-[0-9a-f]+)"')


class Section(NamedTuple):
    """One part of the page."""

    anchor: str
    title: str
    short: str
    """Its name in the list of ways."""
    body: Markup


def static(name: str) -> str:
    """Read one of the files that every page holds: "page.css", "page.js"."""
    return resources.files("rsbench.report").joinpath("static", name).read_text(encoding="utf-8")


def draw_page(
    *,
    title: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    figures: Sequence[Figure],
    library: str,
    style: Mapping[str, object],
) -> str:
    """Put a page together.

    Args:
        title: Of the page.
        facts: (number, of what) in the head.
        sections: In their order; each has a way in the list at the side.
        figures: Those of all sections; they are drawn where `figure_place` stands.
        library: The JavaScript that draws them; empty without figures.
        style: Vega's configuration, whose colours are names of the style sheet's.
    """
    css = static("page.css")
    scripts = [library] if figures else []
    scripts.append(static("page.js"))
    codes = [inline_code("script", script) for script in scripts]
    sheet = inline_code("style", css)
    # Hashes are of what stands between the tags.
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {' '.join(_hash(code, 'script') for code in codes)}; "
        f"style-src {_hash(sheet, 'style')}"
    )
    head = join(
        [
            tag("meta", charset="utf-8"),
            # The policy first: it holds for what follows it.
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("meta", name="referrer", content="no-referrer"),
            tag("meta", name="generator", content=f"rsbench {__version__}"),
            tag("title", title),
            sheet,
        ]
    )
    specs = {figure.name: dict(figure.spec) for figure in figures}
    body = join(
        [
            tag("a", "Skip to the results", href="#main", class_="skip"),
            _banner(title, facts),
            tag(
                "div",
                _ways(sections),
                tag("main", _living(_bodies(sections)), id="main"),
                class_="frame",
            ),
            json_script({"specs": specs, "style": dict(style)}, id_="figures"),
            *codes,
        ]
    )
    document = tag("html", tag("head", head), tag("body", body), lang="en")
    return f"<!doctype html>\n{document}\n"


def _banner(title: str, facts: Sequence[tuple[str, str]]) -> Markup:
    chips = join(tag("li", tag("b", number), " ", what) for number, what in facts)
    return tag("header", tag("h1", title), tag("ul", chips, class_="facts"), class_="banner")


def _ways(sections: Sequence[Section]) -> Markup:
    ways = join(
        tag("li", tag("a", section.short, href=f"#{section.anchor}")) for section in sections
    )
    search = tag(
        "label",
        tag("span", "Filter rows"),
        tag(
            "input",
            type="search",
            id="filter",
            placeholder="names, tasks",
            autocomplete="off",
            spellcheck="false",
            aria_describedby="filtered",
        ),
        class_="filter",
    )
    said = tag("p", "", id="filtered", role="status")
    return tag("nav", search, said, tag("ul", ways, class_="ways"), aria_label="Sections")


def _bodies(sections: Sequence[Section]) -> Markup:
    return join(
        tag("section", tag("h2", section.title), section.body, id=section.anchor, class_="part")
        for section in sections
    )


def _living(body: Markup) -> Markup:
    """Take the link from what leads to a record or row that the page has no room for."""
    # Texts hold no plain quotation mark, so that this finds attributes alone.
    there = set(_PLACE.findall(body))
    return Markup(_LINK.sub(lambda found: found[0] if found[1] in there else "", body))


def figure_place(figure: Figure) -> Markup:
    """Give where a figure is drawn, with its words; its numbers are in the tables as well."""
    return tag(
        "figure",
        tag("h3", figure.title),
        tag(
            "div",
            tag("p", figure.alt, class_="undrawn"),
            class_="drawing",
            role="img",
            aria_label=figure.alt,
            data_figure=figure.name,
        ),
        tag("figcaption", figure.caption),
        id=f"figure-{figure.name}",
    )


def _hash(element: Markup, name: str) -> str:
    content = element.removeprefix(f"<{name}>").removesuffix(f"</{name}>")
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"

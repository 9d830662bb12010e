"""HTML that can't be broken by what stands in it: text is escaped unless it was made here.

`tag` takes children and attributes; a child that is plain `str` is text and gets escaped, one that
is `Markup` was made by `tag` itself. So whatever a record holds (a backbone named ``<script>``)
comes out as the letters it is made of. There is no other way to make `Markup` of text from a record
than to go through here.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable

from rsbench.tables.layout import clean

Attribute = str | int | float | bool | None
"""True writes the bare name, None and False leave it out."""

_VOID = frozenset({"br", "img", "input", "link", "meta"})
_WHOLE = 26
"""Names up to so many letters stay in one piece."""
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")


class Markup(str):
    """HTML that is safe as it stands."""

    __slots__ = ()

    def __add__(self, other: str) -> Markup:
        """Put markup behind this; plain text is escaped first."""
        return Markup(str.__add__(self, other if isinstance(other, Markup) else text(other)))


Child = str | Markup | Iterable[Markup]
"""Text, markup, or several pieces of markup."""


def text(content: str) -> Markup:
    """Escape text, and replace the control and formatting characters in it."""
    shown = content if content.isprintable() else clean(content)
    return Markup(html.escape(shown, quote=True))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Give an element.

    Args:
        name: Of the element.
        children: Text, markup, or several pieces of markup.
        attributes: An underscore at the end of a name is left out (``class_``), others become
            hyphens (``data_sort``, ``aria_label``).
    """
    assert _NAME.fullmatch(name), name
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = key.rstrip("_").replace("_", "-")
        parts.append(f" {written}" if value is True else f' {written}="{text(str(value))}"')
    parts.append(">")
    if name not in _VOID:
        parts += [_child(child) for child in children]
        parts.append(f"</{name}>")
    return Markup("".join(parts))


def join(pieces: Iterable[Markup], separator: str = "") -> Markup:
    """Put pieces of markup behind each other, text between them."""
    return Markup(text(separator).join(pieces))


def wrappable(name: str) -> Markup:
    """Give a name that may break, if it is long, after the marks which hold it together."""
    if len(name) <= _WHOLE:
        return text(name)
    broken = Markup(re.sub(r"([_/+=.@-])(?=[^_/+=.@-])", r"\1<wbr>", text(name)))
    return tag("span", broken, class_="long")


def wrappable_words(sentence: str) -> Markup:
    """Give a sentence in which long names may break, and numbers may not."""
    words = re.split(r"(\s+)", sentence)
    return Markup("".join(text(word) if len(word) <= _WHOLE else wrappable(word) for word in words))


def json_script(content: object, *, id_: str) -> Markup:
    """Give data for the page's own script, as an element that no browser runs.

    Whatever could end the element or begin a comment in it is written as an escape of JSON; so are
    all letters outside ASCII, U+2028 among them.
    """
    written = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    return tag("script", Markup(written), type="application/json", id=id_)


def inline_code(name: str, code: str) -> Markup:
    """Give a script or a style of ours as one element.

    Args:
        name: "script" or "style".
        code: Ours or a library's, never a record's.
    """
    # Both elements end at their own closing tag and nowhere else; "<!--" starts a state in which
    # "<script" hides that end. In JavaScript such letters can stand in strings alone, where the
    # backslash changes nothing.
    guarded = re.sub(r"<(?=/(?:script|style)|!--|script)", r"\\x3c", code, flags=re.IGNORECASE)
    return tag(name, Markup(guarded))


def _child(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    return text(child) if isinstance(child, str) else "".join(map(_child, child))

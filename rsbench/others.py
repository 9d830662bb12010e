"""All that is known of others' numbers, put beside the records of a results folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from rsbench.errors import RsbenchError
from rsbench.published import joined, published_of, read_published
from rsbench.records import foreign
from rsbench.records.store import Contents
from rsbench.registry import find_backbone
from rsbench.specs import Backbone
from rsbench.tables.beside import Besides, against

_OWN_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?")
"""Names of networks that come with rsbench or with a package. A name in a record that is a path
would have that file run; one with options is another network than was published."""


def besides_of(root: Path, contents: Contents) -> Besides:
    """Put records beside published tables, imported rows, and what their weights carry.

    Args:
        root: The results folder, whose `reference/` and `foreign/` are read.
        contents: Its records, or some of them.

    Raises:
        DataError: A published table is not as it must be; names the file.
    """
    names = sorted({stored.record.backbone.name for stored in contents.records})
    rows = joined(read_published(root), published_of(_known(names)))
    imported = foreign.read_all(root)
    besides = against(contents, rows, imported=imported.files)
    return replace(besides, problems=(*imported.problems, *besides.problems))


def _known(names: Iterable[str]) -> Iterator[Backbone]:
    for name in names:
        if _OWN_NAME.fullmatch(name) is None:
            continue
        try:
            yield find_backbone(name).spec
        except RsbenchError:
            # A record outlives the plug-in that made it; its weights publish nothing here then.
            continue

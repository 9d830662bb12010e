"""Where a record, a row and a table stand on the page: fragments that figures and numbers link to.

Names of records are untrusted text, so that an anchor holds their digest and not themselves.
"""

from __future__ import annotations

from rsbench.digests import digest_bytes

_DIGITS = 12


def anchor_of(name: str) -> str:
    """Give the fragment of a record's provenance.

    Args:
        name: Of the record below the results folder, as in `rsbench.tables.table.Row.records`.
    """
    return f"record-{digest_bytes(name.encode())[:_DIGITS]}"


def row_anchor(records: tuple[str, ...]) -> str:
    """Give the fragment of a row: that of its record, or of the list of its runs."""
    if len(records) == 1:
        return anchor_of(records[0])
    return f"row-{digest_bytes(chr(10).join(records).encode())[:_DIGITS]}"


def table_anchor(digest: str) -> str:
    """Give the fragment of the table of a ruler, by the ruler's digest."""
    return f"table-{digest[:_DIGITS]}"

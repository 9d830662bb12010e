"""Records of older schemas, made into what they would say under the one of now.

A schema is raised only where a reader of the former one would misread a record: a field that is
added with a default needs no migration. Each migration takes the JSON of its schema to that of the
next, and a record is led through all that lie between. Files stay as they were written: what is
migrated is the record in memory, after its own digest was held to its own text.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from rsbench.errors import RecordError

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""JSON of a record (schema and digest left out) -> the same under the next schema."""

MIGRATIONS: Mapping[int, Migration] = {}
"""Schema -> what leads from it to the next. Empty while there has been one schema only."""


def migrate(
    plain: Mapping[str, Any],
    *,
    to: int,
    where: str,
    migrations: Mapping[int, Migration] | None = None,
) -> dict[str, Any]:
    """Lead a record's JSON from its own schema to another, step by step.

    Args:
        plain: As it was written, its digest already held to it and taken out; stays as it is.
        to: The schema of now, no lower than the record's.
        where: Name of the file, for messages.
        migrations: By the schema they begin at; `MIGRATIONS` if left out.

    Returns:
        The JSON under the schema of now, which it names.

    Raises:
        RecordError: No migration leads on from a schema, or the record lacks what one needs.
    """
    steps = MIGRATIONS if migrations is None else migrations
    written = int(plain["schema"])
    content = {key: value for key, value in copy.deepcopy(dict(plain)).items() if key != "schema"}
    for schema in range(written, to):
        if schema not in steps:
            raise RecordError(
                f"{where} was written under schema {written}, and nothing leads from schema"
                f" {schema} to {schema + 1}, which this rsbench reads up to {to}; run it again."
            )
        try:
            content = steps[schema](content)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as fault:
            cause = " ".join(f"{type(fault).__name__}: {fault}".split())[:120]
            raise RecordError(
                f"{where} was written under schema {written} and can't be brought to schema"
                f" {schema + 1} ({cause}); run it again."
            ) from None
    return {"schema": to, **content}

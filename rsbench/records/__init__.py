"""What a run leaves behind: the record and its schema, predictions, the ruler, and the store."""

from __future__ import annotations

from rsbench.records.schema import RunRecord, from_json, to_json
from rsbench.records.store import Stored

__all__ = ["RunRecord", "Stored", "from_json", "to_json"]

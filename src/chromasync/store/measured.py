"""Rows of `performance_metrics` as measurements, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chromasync.model import Measurement
from chromasync.store.schema_history import metrics

_COLUMNS: Mapping[str, str] = {
    "memory_mb": "memory_usage_mb",
    "primary_count": "primary_document_count",
}
_UNKNOWN = {"lag_seconds", "memory_mb", "memory_limit_mb", "cpu_percent", "process_name"}
"""Fields that may be unknown; the others are 0 where a row lacks them."""

FIELDS = tuple(Measurement.__dataclass_fields__)
SELECTED = [metrics.c[_COLUMNS.get(name, name)] for name in FIELDS]
IS_CYCLE = metrics.c.process_name.is_(None)


def built(row: Sequence[Any]) -> Measurement:
    """The measurement of a row of SELECTED; what an older program left out is 0."""
    given = dict(zip(FIELDS, row, strict=True))
    for name, value in given.items():
        if value is None and name not in _UNKNOWN:
            given[name] = 0
    if given["process_name"] is None:
        given["span_seconds"] = given["span_seconds"] or given["duration_seconds"]
    return Measurement(**given)


def values_of(one: Measurement) -> dict[str, Any]:
    """The values of a measurement by column."""
    rate = one.records_read / one.duration_seconds if one.duration_seconds > 0 else 0.0
    fields = {_COLUMNS.get(name, name): getattr(one, name) for name in FIELDS}
    return fields | {"records_per_second": rate}

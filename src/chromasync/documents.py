"""The JSON documents of reports: their fields, and properties computed from them.

`--json` prints them, and the page serves the one of `status`. Every document has `command`,
`version` and `exit_code`. Instants are ISO 8601 in UTC, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import orjson

from chromasync import __version__
from chromasync.advice_reports import AdviceReport
from chromasync.failover_reports import PromoteReport, RestoreReport
from chromasync.reports import (
    ControlReport,
    CycleReport,
    DoctorReport,
    FenceReport,
    PlanReport,
    StatusSnapshot,
    VerifyReport,
)

STATUS_SCHEMA = 1
"""Version of the document of `/api/v1/status`; it rises when a field goes, or changes meaning."""

Report = CycleReport | PlanReport | VerifyReport | StatusSnapshot | DoctorReport | AdviceReport
Document = Report | ControlReport | FenceReport | PromoteReport | RestoreReport
"""Everything that a command prints as a document of its fields."""

COMPUTED = {
    CycleReport: (),
    PlanReport: (),
    VerifyReport: ("different", "inconclusive"),
    StatusSnapshot: ("is_paused",),
    DoctorReport: (),
    ControlReport: (),
    AdviceReport: ("sentences",),
    FenceReport: (),
    PromoteReport: ("identical_as_of",),
    RestoreReport: ("is_identical",),
}
"""Properties that are printed beside the fields of a report."""


def report_document(command: str, report: Document) -> dict[str, object]:
    """The document of a command that made a report."""
    values = {field.name: getattr(report, field.name) for field in fields(report)}
    values |= {name: getattr(report, name) for name in COMPUTED[type(report)]}
    return {**head(command, report.exit_code), **values}


def status_document(snapshot: StatusSnapshot) -> dict[str, object]:
    """The document of the page's `/api/v1/status`: that of `status --json` with its version."""
    return {"schema_version": STATUS_SCHEMA, **report_document("status", snapshot)}


def encode(document: dict[str, object], *, one_line: bool = False) -> str:
    """The document as text that ends in a newline."""
    layout = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
    if not one_line:
        layout |= orjson.OPT_INDENT_2
    try:
        return orjson.dumps(document, option=layout).decode()
    except orjson.JSONEncodeError:
        return orjson.dumps(_valid(document), option=layout).decode()


def _valid(value: object) -> object:
    """`value` with valid texts only; a path or a variable may contain bytes that are not UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_valid(key): _valid(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_valid(inner) for inner in value]
    if is_dataclass(value):
        return {field.name: _valid(getattr(value, field.name)) for field in fields(value)}
    return value


def head(command: str, exit_code: int) -> dict[str, object]:
    """The fields that every document has."""
    return {"command": command, "version": __version__, "exit_code": int(exit_code)}

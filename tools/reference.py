"""Writes the reference pages in `docs` (see `pages`) from the program itself.

`python -m tools.reference FOLDER` writes them; a test compares them with what is there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import click
from pydantic import TypeAdapter

from chromasync.advice_reports import AdviceReport
from chromasync.cli.commands import program
from chromasync.cli.exits import MEANINGS
from chromasync.cli.invoking import CLOSED_PIPE
from chromasync.config.reference import settings_table
from chromasync.documents import COMPUTED, STATUS_SCHEMA
from chromasync.failover_reports import PromoteReport, RestoreReport
from chromasync.model import Hold
from chromasync.reports import (
    ControlReport,
    CycleReport,
    DoctorReport,
    FenceReport,
    PlanReport,
    StatusSnapshot,
    VerifyReport,
)
from chromasync.web.metrics import METRICS

GENERATED = "<!-- Written by `make docs` from the program itself. -->"
WIDTH = 96
REPORTS: dict[str, type] = {
    "sync": CycleReport,
    "plan": PlanReport,
    "verify": VerifyReport,
    "status": StatusSnapshot,
    "doctor": DoctorReport,
    "pause": ControlReport,
    "fence": FenceReport,
    "promote": PromoteReport,
    "restore": RestoreReport,
    "resume": ControlReport,
    "advise": AdviceReport,
}
SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true or false"}
NOTES = {
    "run": "`--json` prints no document: the log lines on stderr are JSON instead.",
    "dashboard": "`--json` prints no document: the log lines on stderr are JSON instead.",
    "demo": "The text goes to stderr then; the document has the common fields only.",
    "selftest": "The text goes to stderr then; the document has the figures and the `problems`.",
}

SETTINGS_INTRO = """\
# Settings

A setting comes from a flag (`--primary`, `--replica`, `--data-dir`, or `--set NAME=VALUE` for any),
from the environment variable of its name, from `chromasync.toml` in the working folder (or from the
file that `--config` names), or from its default; the first of these wins. An empty variable counts
as not set. An unknown setting is refused, so that a typing error is noticed. A variable that starts
with `SYNC_` and is not in this list is refused, too. Platforms also set variables that start with
`PRIMARY_` or `REPLICA_` (`PRIMARY_REGION`, `PRIMARY_PORT`): they are refused if they look like a
misspelt setting, and ignored otherwise. `chromasync doctor` shows every setting in effect and its
origin. Tokens, header values and passwords are never shown. A `user:password@` in a server's URL is
sent as an Authorization header. Special characters of user and password are percent-encoded in any
URL (`%40` for `@`, `%2F` for `/`).

The variables of proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) apply to both servers, as
[deploy.md](deploy.md#behind-a-proxy) explains.

In `chromasync.toml` the names are the same, in either case, and lists may be real lists:

```toml
PRIMARY_URL = "http://one:8000"
REPLICA_URL = "https://two.example.com/chroma"
SYNC_INTERVAL = 60
SYNC_EXCLUDE = ["test-*", "tmp-*"]
```

Two settings determine the role of a process:

| SYNC_DISTRIBUTED | SYNC_COORDINATOR | role |
|---|---|---|
| false | any | single: one process does everything |
| true | true | coordinator: plans, and also works unless SYNC_COORDINATOR_WORKS is false |
| true | false | worker: works on tasks only |
"""

COMMANDS_INTRO = """\
# Commands

Data goes to stdout; messages for people (progress, notes, errors, log lines) go to stderr. Progress
bars appear on a terminal only. Colour carries no meaning. `-q` shows errors only.

## Exit codes
"""

CUT_SHORT = (
    f"A command ends with {CLOSED_PIPE}, as is usual in shells, when its reader closes the pipe\n"
    "(`| head`) while the command prints help or repeated snapshots."
)

JSON_INTRO = """\
## JSON documents

With `--json` a command prints one document on stdout. Instants are ISO 8601 in UTC, durations
are seconds, sizes are bytes. New versions may
add fields; they rename and remove none.

All documents have `command` (text), `version` (text) and `exit_code` (whole number). A command that
fails or is interrupted prints `error` instead of its report: `kind`, `what` happened, what was left
`untouched`, and a `hint` (all text). An interrupted `status --watch` prints none. A wrong command
line prints no document.
"""


METRICS_INTRO = """\
# Metrics

`chromasync run` with SYNC_HTTP_PORT (or PORT), and `chromasync dashboard`, answer at `/metrics` in
the formats of Prometheus. With SYNC_HTTP_TOKEN, the scraper sends `Authorization: Bearer` and the
token.

Values about the deployment come from the state store, so every process shows the same. They are
computed at each scrape. While the store cannot be read, `chromasync_store_up` is 0, and the lag
goes on growing from what was seen last. A process that is frozen or dead does not answer: scrape a
`chromasync dashboard`, too, which runs elsewhere. `deploy/prometheus` has alert rules, and
`deploy/grafana` a dashboard; [operations.md](operations.md) says what to do.
"""

STATUS_INTRO = """\
The document of /api/v1/status: that of `chromasync status --json` with the version of this schema.
New versions of chromasync may add fields; `schema_version` rises when one goes or changes its
meaning."""


def metrics_page() -> str:
    """The text of `docs/metrics.md`."""
    parts = [
        GENERATED,
        "",
        METRICS_INTRO,
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
        optional = " Only with SYNC_METRICS_COLLECTIONS." if metric.optional else ""
        source = f"{metric.source[:1].upper()}{metric.source[1:]}."
        parts.append(
            f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning}{optional} {source} |"
        )
    return "\n".join([*parts, ""])


def status_schema() -> str:
    """The text of `docs/status.schema.json`."""
    report = TypeAdapter(StatusSnapshot).json_schema(mode="serialization")
    head = {
        "schema_version": {"const": STATUS_SCHEMA},
        "command": {"const": "status"},
        "version": {"type": "string", "description": "the version of chromasync"},
        "exit_code": {"type": "integer", "description": "as of `chromasync status`"},
    }
    computed = {name: _property_schema(StatusSnapshot, name) for name in COMPUTED[StatusSnapshot]}
    properties = head | report["properties"] | computed
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "chromasync status",
        "description": " ".join(STATUS_INTRO.split()),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "$defs": report["$defs"],
    }
    return json.dumps(_required(schema), indent=2) + "\n"


def _property_schema(report: type, name: str) -> dict[str, Any]:
    """The schema of a property that is computed from a report."""
    return TypeAdapter(get_type_hints(getattr(report, name).fget)["return"]).json_schema()


def _required(schema: Any) -> Any:
    """The schema without titles and defaults: every field of an object is always there."""
    if isinstance(schema, list):
        return [_required(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {k: _required(v) for k, v in schema.items() if k != "default"}
    if isinstance(kept.get("title"), str) and "$schema" not in kept:
        kept.pop("title")
    if "properties" in kept:
        kept["required"] = list(kept["properties"])
    return kept


def settings_page() -> str:
    """The text of `docs/settings.md`."""
    parts = [GENERATED, "", SETTINGS_INTRO]
    for group, rows in groupby(settings_table(), key=lambda info: info.group):
        parts += [f"## {group}", "", "| name | default | allowed | meaning |", "|---|---|---|---|"]
        parts += [
            f"| `{row.name}` | {row.default} | {row.allowed} | {row.meaning} |" for row in rows
        ]
        parts.append("")
    return "\n".join(parts)


def commands_page() -> str:
    """The text of `docs/commands.md`."""
    parts = [GENERATED, "", COMMANDS_INTRO, "| code | meaning |", "|---|---|"]
    parts += [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    parts += [
        "",
        CUT_SHORT,
        "",
        *_command_section(program),
    ]
    parent = click.Context(program, info_name="chromasync", **program.context_settings)
    for command in program.commands.values():
        parts += _command_section(command, parent)
    return "\n".join([*parts, JSON_INTRO, *_document_sections()])


def _command_section(command: click.Command, parent: click.Context | None = None) -> list[str]:
    name = command.name if parent else "chromasync"
    layout = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **layout)
    text = command.get_help(context).rstrip()
    return [f"## `{context.command_path}`", "", "```text", text, "```", ""]


def _document_sections() -> Iterator[str]:
    for name in program.commands:
        yield from (f"### `chromasync {name} --json`", "")
        if name in NOTES:
            yield from (NOTES[name], "")
            continue
        yield from ("| field | holds |", "|---|---|")
        if name == "approve":
            yield "| `approved[]` | list |"
            rows = _rows("approved[].", Hold)
        else:
            rows = _report_rows(REPORTS[name])
        yield from (f"| `{path}` | {what} |" for path, what in rows)
        yield ""


def _report_rows(report: type) -> Iterator[tuple[str, str]]:
    yield from _rows("", report)
    for name in COMPUTED[report]:
        kind = get_type_hints(getattr(report, name).fget)["return"]
        yield name, _words(kind)


def _rows(prefix: str, kind: type) -> Iterator[tuple[str, str]]:
    """The fields of a dataclass and of those in it, as paths with what they hold."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        hint = hints[field.name]
        path = f"{prefix}{field.name}"
        item = _item_type(hint)
        if item is not None:
            path += "[]"
        yield path, "list" if item is not None and _is_record(item) else _words(hint)
        inner = _without_none(item if item is not None else hint)
        if _is_record(inner) and inner not in REPORTS.values():
            yield from _rows(f"{path}.", inner)


def _words(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join("null" if part is NoneType else _words(part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_words(get_args(hint)[0])}"
    if hint is datetime:
        return "instant"
    if _is_record(hint):
        same = [
            f", the fields of `chromasync {n} --json`," for n, r in REPORTS.items() if r is hint
        ]
        return f"object{''.join(same)}"
    if issubclass(hint, StrEnum):
        return "one of " + ", ".join(f"`{member.value}`" for member in hint)
    return SIMPLE[hint]


def _item_type(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is tuple else None


def _without_none(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _is_record(hint: Any) -> bool:
    return isinstance(hint, type) and is_dataclass(hint)


def pages() -> Mapping[str, str]:
    """The generated pages by file name."""
    return {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
        "status.schema.json": status_schema(),
    }


def write_pages(folder: Path) -> None:
    """Write the generated pages into `folder`."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))

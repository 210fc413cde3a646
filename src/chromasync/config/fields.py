"""The parts of settings: enumerations, groups, texts, and rows of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic.fields import FieldInfo

from chromasync.model import Side

CONFIG_FILE = "chromasync.toml"


class Role(StrEnum):
    """The role of this process, from SYNC_DISTRIBUTED and SYNC_COORDINATOR alone."""

    SINGLE = "single"
    COORDINATOR = "coordinator"
    WORKER = "worker"


class Origin(StrEnum):
    """The source of a setting's value, the strongest first.

    A process has flags or, where a program calls chromasync, keywords.
    """

    FLAG = "flag"
    KEYWORD = "keyword"
    ENVIRONMENT = "environment"
    FILE = CONFIG_FILE
    DEFAULT = "default"


class Drift(StrEnum):
    """The treatment of records that others changed on the replica."""

    MEND = "mend"
    HOLD = "hold"


class LogFormat(StrEnum):
    """The format of log lines; auto is console on a terminal and JSON otherwise."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The lowest level of log lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The connection settings of a server; `headers` holds secrets and stays out of `repr`."""

    side: Side
    url: str
    headers: Mapping[str, str]
    timeout_seconds: float
    ca_file: Path | None = None
    tls_verify: bool = True
    client_cert: Path | None = None

    def __repr__(self) -> str:
        return f"ServerSettings(side={self.side.value!r}, url={self.url!r})"


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One row of the reference: a setting and its allowed values."""

    name: str
    group: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting in effect; `value` hides secrets."""

    name: str
    value: str
    origin: Origin


SERVERS = "Servers"
MIRROR = "What to mirror"
STATE = "State"
CYCLE = "Cycle"
GUARDS = "Guards and budgets"
ROLES = "Roles"
PAGE = "Status page and metrics"
ALERTS = "Alerts"
ADVICE = "Advice"
LOGS = "Logs"

URL = (
    "a URL that starts with http:// or https://; it may have a path prefix. For sync, plan, verify "
    "and restore also a folder of Chroma: ./chroma, /data/chroma or file:///data/chroma"
)
HEADERS = 'a JSON object of texts, such as {"x-team": "search"}'
TEXT = "any text"
FILE = "the path of an existing file"
LIST = "names, separated by commas"
GLOBS = "case-sensitive patterns with * and ?, separated by commas"
YES_NO = "true or false"
SECONDS = "a number of seconds above 0, at most 2678400 (31 days)"
LEASE = "a number of seconds from 1 to 2678400 (31 days)"
TARGET = (
    "TENANT/DATABASE/NAME with {tenant}, {database} and {name} in them; {name} stands in the name, "
    "{database} also in the database, {tenant} in all three"
)


def setting(
    default: object, group: str, allowed: str, meaning: str, *, shown: str = "", **limits: Any
) -> Any:
    """A field with its row of the reference; `shown` is the default in words."""
    extra: dict[str, Any] = {"group": group, "allowed": allowed, "shown": shown}
    limits["default_factory" if callable(default) else "default"] = default
    return Field(description=meaning, json_schema_extra=extra, **limits)


def field_extra(field: FieldInfo) -> dict[str, str]:
    """The row of the reference that `field` carries: group, allowed, shown."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError("a setting without its row of the reference")
    return {key: str(value) for key, value in extra.items()}

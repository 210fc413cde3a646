"""The settings themselves, and the questions that the program and people ask of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chromasync.config.shown import as_text, shown_database
from chromasync.config.values import (
    BaseUrl,
    DatabaseUrl,
    ExistingFile,
    Fraction,
    Headers,
    MaxDelete,
    Names,
    OptionalNames,
    Seconds,
    Threshold,
    WebhookUrl,
    add_header,
    container_memory_mb,
    cut_userinfo,
)
from chromasync.errors import SettingsError
from chromasync.model import Side

CONFIG_FILE = "chromasync.toml"
DATABASE_FILE = "chromasync.db"
URL_FIELDS = ("primary_url", "replica_url")


class Role(StrEnum):
    """What this process does, by SYNC_DISTRIBUTED and SYNC_COORDINATOR alone."""

    SINGLE = "single"
    COORDINATOR = "coordinator"
    WORKER = "worker"


class Origin(StrEnum):
    """Where the value of a setting came from, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = CONFIG_FILE
    DEFAULT = "default"


class LogFormat(StrEnum):
    """How log lines look; auto is console on a terminal and JSON otherwise."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important log lines that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How to reach one of the two servers; `headers` holds secrets and stays out of `repr`."""

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
    """One row of the reference: what can be set, and to what."""

    name: str
    group: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as it is in effect; `value` is fit to be shown, secrets hidden."""

    name: str
    value: str
    origin: Origin


SERVERS = "Servers"
MIRROR = "What to mirror"
STATE = "State"
CYCLE = "Cycle"
GUARDS = "Guards and budgets"
ROLES = "Roles"
PAGE = "Status page, metrics and alerts (none in this version: checked, then ignored)"
LOGS = "Logs"

URL = "a URL that starts with http:// or https://; it may have a path prefix"
HEADERS = 'a JSON object of texts, such as {"x-team": "search"}'
TEXT = "any text"
FILE = "the path of an existing file"
LIST = "names, separated by commas"
GLOBS = "case-sensitive patterns with * and ?, separated by commas"
YES_NO = "true or false"
SECONDS = "a number of seconds above 0, at most 2678400 (31 days)"
LEASE = "a number of seconds from 1 to 2678400 (31 days)"


def _setting(
    default: object, group: str, allowed: str, meaning: str, *, shown: str = "", **limits: Any
) -> Any:
    """A field with its row of the reference; `shown` is the default in words."""
    extra: dict[str, Any] = {"group": group, "allowed": allowed, "shown": shown}
    limits["default_factory" if callable(default) else "default"] = default
    return Field(description=meaning, json_schema_extra=extra, **limits)


class Settings(BaseSettings):
    """All settings, validated and frozen; `load_settings` makes one from all sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True)
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    primary_url: BaseUrl = _setting("", SERVERS, URL, "The server that is read.", shown="required")
    replica_url: BaseUrl = _setting(
        "", SERVERS, URL, "The server that is kept identical.", shown="required"
    )
    primary_token: SecretStr | None = _setting(
        None, SERVERS, TEXT, "Sent to the primary as `x-chroma-token`."
    )
    replica_token: SecretStr | None = _setting(
        None, SERVERS, TEXT, "Sent to the replica as `x-chroma-token`."
    )
    primary_headers: Headers = _setting(
        dict, SERVERS, HEADERS, "Extra headers for the primary.", shown="none"
    )
    replica_headers: Headers = _setting(
        dict, SERVERS, HEADERS, "Extra headers for the replica.", shown="none"
    )
    primary_ca_file: ExistingFile = _setting(
        None, SERVERS, FILE, "Authorities (PEM) to check the primary's TLS certificate against."
    )
    replica_ca_file: ExistingFile = _setting(
        None, SERVERS, FILE, "Authorities (PEM) to check the replica's TLS certificate against."
    )
    primary_tls_verify: bool = _setting(
        True, SERVERS, YES_NO, "Check the primary's TLS certificate."
    )
    replica_tls_verify: bool = _setting(
        True, SERVERS, YES_NO, "Check the replica's TLS certificate."
    )
    primary_client_cert: ExistingFile = _setting(
        None, SERVERS, FILE, "Client certificate and key (one PEM file) shown to the primary."
    )
    replica_client_cert: ExistingFile = _setting(
        None, SERVERS, FILE, "Client certificate and key (one PEM file) shown to the replica."
    )
    sync_http_timeout: Seconds = _setting(
        60.0, SERVERS, SECONDS, "Longest wait for a server, in seconds."
    )

    sync_tenants: Names = _setting(
        ("default_tenant",), MIRROR, LIST, "Tenants to mirror.", min_length=1
    )
    sync_databases: OptionalNames = _setting(
        None,
        MIRROR,
        LIST,
        "Databases to mirror in each tenant.",
        shown="all of each tenant",
        min_length=1,
    )
    sync_include: Names = _setting(
        (), MIRROR, GLOBS, "Mirror only collections whose name matches one of these.", shown="all"
    )
    sync_exclude: Names = _setting(
        (),
        MIRROR,
        GLOBS,
        "Mirror no collection whose name matches one of these. What was mirrored before stays on "
        "the replica as it is.",
        shown="none",
    )

    sync_data_dir: Path = _setting(
        Path("chromasync-data"), STATE, "the path of a folder", "Folder of the state file."
    )
    database_url: DatabaseUrl = _setting(
        None,
        STATE,
        "sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/NAME",
        "The state store; PostgreSQL for more than one machine.",
        shown=f"SQLite file {DATABASE_FILE} under SYNC_DATA_DIR",
    )

    sync_interval: Seconds = _setting(
        300.0, CYCLE, SECONDS, "Seconds from the start of one cycle to the start of the next."
    )
    sync_chunk_size: int = _setting(
        1000, CYCLE, "a whole number from 1 to 5000", "Records in a chunk.", ge=1, le=5000
    )
    sync_workers: int = _setting(
        2, CYCLE, "a whole number from 1 to 64", "Worker threads in this process.", ge=1, le=64
    )
    sync_replica_check_interval: Seconds = _setting(
        86400.0,
        CYCLE,
        SECONDS,
        "Seconds within which the replica's side of every chunk is read again, to find what "
        "someone else changed there.",
    )

    sync_max_delete: Threshold = _setting(
        MaxDelete(10, is_percentage=True),
        GUARDS,
        "a count such as 500, or a percentage such as 10%",
        "More deletes than this in one collection are held until approved; a percentage never "
        "means less than 100 records. A collection that the primary lists no more is dropped, "
        "however large, by the second successful cycle that misses it, unless SYNC_EXCLUDE names "
        "it; only when most of them are gone at once, that is held, too.",
    )
    sync_scrub_budget: Fraction = _setting(
        0.25,
        GUARDS,
        "a percentage from 0% to 100%, or a fraction below 1 such as 0.25",
        "Share of the interval that may go into reading unchanged content again.",
    )
    sync_max_memory_mb: int | None = _setting(
        container_memory_mb,
        GUARDS,
        "a whole number of at least 64",
        "Memory in MB; work backs off before it is reached.",
        shown="the container's limit",
        ge=64,
    )

    sync_distributed: bool = _setting(False, ROLES, YES_NO, "Share the work among processes.")
    sync_coordinator: bool = _setting(
        False, ROLES, YES_NO, "With SYNC_DISTRIBUTED: this process plans the cycles."
    )
    sync_coordinator_works: bool = _setting(
        True, ROLES, YES_NO, "A coordinator works on tasks, too."
    )
    sync_lease_seconds: Seconds = _setting(
        120.0,
        ROLES,
        LEASE,
        "Seconds after which the task of a silent worker goes to another.",
        ge=1,
    )
    sync_lead_seconds: Seconds = _setting(
        30.0,
        ROLES,
        LEASE,
        "Seconds after which a silent coordinator is replaced by one that stands by.",
        ge=1,
    )

    sync_http_host: str = _setting("127.0.0.1", PAGE, TEXT, "Address the page listens on.")
    sync_http_port: int | None = _setting(
        None,
        PAGE,
        "a whole number from 1 to 65535",
        "Port of the page; the variable PORT does the same.",
        shown="off",
        ge=1,
        le=65535,
    )
    sync_http_token: SecretStr | None = _setting(
        None, PAGE, TEXT, "Token that a reader of the page must give."
    )
    sync_webhook_url: WebhookUrl = _setting(
        None, PAGE, "a URL that starts with http:// or https://", "Where alerts go, as JSON."
    )

    sync_log_format: LogFormat = _setting(
        LogFormat.AUTO, LOGS, "auto, console or json", "auto: console on a terminal, else JSON."
    )
    sync_log_level: LogLevel = _setting(
        LogLevel.INFO,
        LOGS,
        "debug, info, warning or error",
        "The least important lines to show.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take given values only: `load_settings` reads the sources and remembers which it was."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _move_userinfo(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Make `user:password@` of a URL an Authorization header, where it stays hidden."""
        values = dict(given)
        for url_field in URL_FIELDS:
            userinfo, url = cut_userinfo(values.get(url_field))
            if userinfo:
                headers_field = url_field.replace("_url", "_headers")
                token = base64.b64encode(userinfo.encode(errors="surrogateescape")).decode()
                values[url_field] = url
                values[headers_field] = add_header(
                    values.get(headers_field), "Authorization", f"Basic {token}"
                )
        return values

    # ---- what the program asks --------------------------------------------------------------

    @property
    def role(self) -> Role:
        """What this process does."""
        if not self.sync_distributed:
            return Role.SINGLE
        return Role.COORDINATOR if self.sync_coordinator else Role.WORKER

    @property
    def worker_threads(self) -> int:
        """Tasks at a time in this process; a coordinator may be told to plan only."""
        plans_only = self.role is Role.COORDINATOR and not self.sync_coordinator_works
        return 0 if plans_only else self.sync_workers

    def check_role(self) -> None:
        """Raise SettingsError when this process could never meet the others of its role."""
        if self.role is Role.WORKER and self.database_url is None:
            raise SettingsError(
                "A worker shares a state store with its coordinator, and DATABASE_URL is not set.",
                untouched="Nothing was started.",
                hint="Set DATABASE_URL to the coordinator's, such as postgresql://….",
            )

    @property
    def store_url(self) -> str:
        """URL of the state store, password included: never to be shown."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.sync_data_dir / DATABASE_FILE}"

    @property
    def state_file(self) -> Path | None:
        """The file of the state store; None when it is in PostgreSQL."""
        scheme, _, path = self.store_url.partition(":///")
        return Path(path) if scheme == "sqlite" else None

    @property
    def shown_store_url(self) -> str:
        """Where the state store is: host, port and database, or the file."""
        return shown_database(self.store_url)

    def server(self, side: Side) -> ServerSettings:
        """How to reach the server of `side`; raises SettingsError when its URL is not set."""
        url: str = getattr(self, f"{side}_url")
        if not url:
            raise missing_urls([f"{side}_url"])
        headers = {k: v.get_secret_value() for k, v in getattr(self, f"{side}_headers").items()}
        token: SecretStr | None = getattr(self, f"{side}_token")
        if token is not None:
            headers["x-chroma-token"] = token.get_secret_value()
        return ServerSettings(
            side=side,
            url=url,
            headers=headers,
            timeout_seconds=self.sync_http_timeout,
            ca_file=getattr(self, f"{side}_ca_file"),
            tls_verify=getattr(self, f"{side}_tls_verify"),
            client_cert=getattr(self, f"{side}_client_cert"),
        )

    def wants_collection(self, name: str) -> bool:
        """Whether SYNC_INCLUDE and SYNC_EXCLUDE let a collection of this name be mirrored."""
        included = not self.sync_include or any(fnmatchcase(name, g) for g in self.sync_include)
        return included and not any(fnmatchcase(name, g) for g in self.sync_exclude)

    def covers(self, tenant: str, database: str) -> bool:
        """Whether SYNC_TENANTS and SYNC_DATABASES name this database."""
        databases = self.sync_databases
        return tenant in self.sync_tenants and (databases is None or database in databases)

    # ---- what people ask --------------------------------------------------------------------

    def origin(self, name: str) -> Origin:
        """Where the value of `name` (in either case) came from; raises KeyError if unknown."""
        field = name.lower()
        if field not in type(self).model_fields:
            raise KeyError(name)
        return self._origins.get(field, Origin.DEFAULT)

    def remember_origins(self, origins: Mapping[str, Origin]) -> None:
        """Note where values came from, by field name."""
        self._origins.update(origins)

    def effective(self) -> list[SettingLine]:
        """Every setting with its value, fit to be shown, and its origin."""
        return [
            SettingLine(name.upper(), self._shown(name, field), self.origin(name))
            for name, field in type(self).model_fields.items()
        ]

    @classmethod
    def table(cls) -> list[SettingInfo]:
        """The reference of all settings, in the order of the documentation."""
        rows = []
        for name, field in cls.model_fields.items():
            extra = field_extra(field)
            default = extra["shown"] or as_text(name, field.default)
            meaning = field.description or ""
            info = SettingInfo(name.upper(), extra["group"], default, extra["allowed"], meaning)
            rows.append(info)
        return rows

    def _shown(self, name: str, field: FieldInfo) -> str:
        value = getattr(self, name)
        if name == "database_url":
            return self.shown_store_url
        if name == "sync_max_memory_mb" and value is None:
            return "none (no container limit found)"
        if value in (None, "", (), {}):
            return field_extra(field)["shown"] or "none"
        return as_text(name, value)


def field_extra(field: FieldInfo) -> dict[str, str]:
    """The row of the reference that `field` carries: group, allowed, shown."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError("a setting without its row of the reference")
    return {key: str(value) for key, value in extra.items()}


def missing_urls(fields: list[str]) -> SettingsError:
    """The error of a command that needs URLs which are not set."""
    verb = "is" if len(fields) == 1 else "are"
    return SettingsError(
        f"{' and '.join(field.upper() for field in fields)} {verb} not set.",
        hint="Set PRIMARY_URL and REPLICA_URL in the environment or in chromasync.toml, "
        "or give --primary and --replica.",
    )

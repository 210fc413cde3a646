"""The settings, and the values that program and people derive from them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from chromasync.config import meanings
from chromasync.config.fields import (
    ADVICE,
    ALERTS,
    CYCLE,
    FILE,
    GLOBS,
    GUARDS,
    HEADERS,
    LEASE,
    LIST,
    LOGS,
    MIRROR,
    PAGE,
    ROLES,
    SECONDS,
    SERVERS,
    STATE,
    TARGET,
    TEXT,
    URL,
    YES_NO,
    Drift,
    LogFormat,
    LogLevel,
    Origin,
    Role,
    ServerSettings,
    SettingLine,
    field_extra,
    setting,
)
from chromasync.config.headers import headers_for
from chromasync.config.refusals import missing_urls
from chromasync.config.scope import Scope
from chromasync.config.shown import as_text
from chromasync.config.store_place import StorePlace, state_file
from chromasync.config.target import Target
from chromasync.config.values import (
    SHORTEST_TOKEN,
    AlertUrls,
    BaseUrl,
    DatabaseUrl,
    ExistingFile,
    Fraction,
    Headers,
    HttpToken,
    MaxDelete,
    Names,
    OptionalNames,
    OptionalSeconds,
    Seconds,
    Share,
    TargetTemplate,
    Threshold,
    WebhookUrl,
    add_header,
    container_memory_mb,
    cut_userinfo,
)
from chromasync.errors import SettingsError
from chromasync.model import DEFAULT_TENANT, MARKS_DATABASE, Side

DATABASE_FILE = "chromasync.db"
URL_FIELDS = ("primary_url", "replica_url")
ALERT_INTERVALS = 3
"""The default of SYNC_ALERT_LAG, in intervals without a completed cycle."""


class Settings(BaseSettings):
    """All settings, validated and frozen; `load_settings` makes one from all sources."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_ignore_empty=True)
    _origins: dict[str, Origin] = PrivateAttr(default_factory=dict)

    primary_url: BaseUrl = setting("", SERVERS, URL, "The server that is read.", shown="required")
    replica_url: BaseUrl = setting(
        "", SERVERS, URL, "The server that is kept identical.", shown="required"
    )
    primary_token: SecretStr | None = setting(
        None, SERVERS, TEXT, "Sent to the primary as `x-chroma-token`."
    )
    replica_token: SecretStr | None = setting(
        None, SERVERS, TEXT, "Sent to the replica as `x-chroma-token`."
    )
    primary_bearer: SecretStr | None = setting(
        None, SERVERS, TEXT, "Sent to the primary as `Authorization: Bearer …`."
    )
    replica_bearer: SecretStr | None = setting(
        None, SERVERS, TEXT, "Sent to the replica as `Authorization: Bearer …`."
    )
    primary_headers: Headers = setting(
        dict, SERVERS, HEADERS, "Extra headers for the primary.", shown="none"
    )
    replica_headers: Headers = setting(
        dict, SERVERS, HEADERS, "Extra headers for the replica.", shown="none"
    )
    primary_ca_file: ExistingFile = setting(
        None, SERVERS, FILE, "Certificate authorities (PEM) to check the primary's certificate."
    )
    replica_ca_file: ExistingFile = setting(
        None, SERVERS, FILE, "Certificate authorities (PEM) to check the replica's certificate."
    )
    primary_tls_verify: bool = setting(
        True, SERVERS, YES_NO, "Check the primary's TLS certificate."
    )
    replica_tls_verify: bool = setting(
        True, SERVERS, YES_NO, "Check the replica's TLS certificate."
    )
    primary_client_cert: ExistingFile = setting(
        None, SERVERS, FILE, "Client certificate and key (one PEM file) shown to the primary."
    )
    replica_client_cert: ExistingFile = setting(
        None, SERVERS, FILE, "Client certificate and key (one PEM file) shown to the replica."
    )
    sync_http_timeout: Seconds = setting(
        60.0, SERVERS, SECONDS, "Longest wait for a server, in seconds."
    )

    sync_tenants: Names = setting(
        (DEFAULT_TENANT,),
        MIRROR,
        LIST,
        "Tenants to mirror. If a server has no `default_tenant`, as Chroma Cloud, that name means "
        "the tenant of the token.",
        min_length=1,
    )
    sync_databases: OptionalNames = setting(
        None,
        MIRROR,
        LIST,
        "Databases to mirror in each tenant. A missing database does not stop the others.",
        shown="all of each tenant",
        min_length=1,
    )
    sync_include: Names = setting(
        (),
        MIRROR,
        GLOBS,
        "Mirror only collections whose name matches one of these patterns. A pattern that matches "
        "no collection is reported.",
        shown="all",
    )
    sync_exclude: Names = setting(
        (),
        MIRROR,
        GLOBS,
        "Mirror no collection whose name matches one of these patterns. A collection that was "
        "mirrored before stays on the replica as it is.",
        shown="none",
    )
    sync_target: TargetTemplate = setting(Target(), MIRROR, TARGET, meanings.TARGET)

    sync_data_dir: Path = setting(
        Path("chromasync-data"), STATE, "the path of a folder", "Folder of the state file."
    )
    database_url: DatabaseUrl = setting(
        None,
        STATE,
        "sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/NAME",
        "The state store. More than one machine needs PostgreSQL.",
        shown=f"SQLite file {DATABASE_FILE} under SYNC_DATA_DIR; with folders, one per replica",
    )

    sync_interval: Seconds = setting(
        300.0, CYCLE, SECONDS, "Seconds from the start of one cycle to the start of the next."
    )
    sync_chunk_size: int = setting(
        1000, CYCLE, "a whole number from 1 to 5000", "Records in a chunk.", ge=1, le=5000
    )
    sync_workers: int = setting(
        2, CYCLE, "a whole number from 1 to 64", "Worker threads in this process.", ge=1, le=64
    )
    sync_replica_check_interval: Seconds = setting(
        86400.0,
        CYCLE,
        SECONDS,
        "Seconds within which the replica's side of every chunk is read again, to find changes "
        "that others made there.",
    )
    sync_alert_lag: Seconds | None = setting(
        None,
        CYCLE,
        SECONDS,
        "Longest age, in seconds, of the newest completed cycle's start; `status` reports an older "
        "one as out of date, and an alert tells it.",
        shown=f"{ALERT_INTERVALS} times SYNC_INTERVAL",
    )

    sync_max_delete: Threshold = setting(
        MaxDelete(10, is_percentage=True),
        GUARDS,
        "a count such as 500, or a percentage such as 10%",
        meanings.MAX_DELETE,
    )
    sync_drift: Drift = setting(
        Drift.MEND,
        GUARDS,
        "mend or hold",
        "What to do with records that others changed or deleted on the replica while the primary "
        "was available: mend restores them from the primary, hold holds them. Records that others "
        "added there are always held.",
    )
    sync_assume_away: Seconds | None = setting(
        None,
        GUARDS,
        SECONDS,
        "The primary counts as having been away when no cycle has read it for so many seconds. "
        "Changes by others on the replica are then held.",
        shown="3 x SYNC_INTERVAL",
    )
    sync_keep_dropped: OptionalSeconds = setting(
        None,
        GUARDS,
        f"{SECONDS}, or off",
        meanings.KEEP_DROPPED,
        shown="off",
    )
    sync_scrub_budget: Fraction = setting(
        0.25,
        GUARDS,
        "a percentage from 0% to 100%, or a fraction below 1 such as 0.25",
        "Share of the interval that may be spent on re-reading unchanged content.",
    )
    sync_mark: bool = setting(True, GUARDS, "on or off", meanings.MARK, shown="on")
    sync_primary_share: Share = setting(
        0.5,
        GUARDS,
        "a percentage from 1% to 100%, or a fraction from 0.01",
        meanings.PRIMARY_SHARE,
    )
    sync_max_requests_per_second: float | None = setting(
        None,
        GUARDS,
        "a number of at least 0.1",
        "Most requests to the primary within a second, of all processes together.",
        shown="none",
        ge=0.1,
        allow_inf_nan=False,
    )
    sync_max_memory_mb: int | None = setting(
        container_memory_mb,
        GUARDS,
        "a whole number of at least 64",
        "Memory limit in MB; near it, the process makes smaller reads, then uses fewer threads.",
        shown="the container's limit",
        ge=64,
    )

    sync_distributed: bool = setting(
        False, ROLES, YES_NO, "Share the work among several processes."
    )
    sync_coordinator: bool = setting(
        False, ROLES, YES_NO, "With SYNC_DISTRIBUTED: this process plans the cycles."
    )
    sync_coordinator_works: bool = setting(
        True, ROLES, YES_NO, "The coordinator works on tasks, too."
    )
    sync_lease_seconds: Seconds = setting(
        120.0,
        ROLES,
        LEASE,
        "Seconds after which the task of a silent worker goes to another worker.",
        ge=1,
    )
    sync_lead_seconds: Seconds = setting(
        30.0,
        ROLES,
        LEASE,
        "Seconds after which a standby coordinator replaces a silent one.",
        ge=1,
    )

    sync_http_host: str = setting(
        "127.0.0.1",
        PAGE,
        "an address of this machine, such as 0.0.0.0 for all of them",
        "Address on which the page listens. Beyond this machine, set SYNC_HTTP_TOKEN, too.",
        min_length=1,
    )
    sync_http_port: int | None = setting(
        None,
        PAGE,
        "a whole number from 1 to 65535",
        "Port of the page, the metrics and the health checks, for `run` and `dashboard`. The "
        "variable PORT has the same meaning.",
        shown="off",
        ge=1,
        le=65535,
    )
    sync_http_token: HttpToken = setting(
        None,
        PAGE,
        f"at least {SHORTEST_TOKEN} ASCII characters without spaces",
        "Token that readers of the page must send. Without a token, the page has no buttons.",
    )
    sync_metrics_collections: bool = setting(
        False,
        PAGE,
        YES_NO,
        "Metrics of each collection, too; each collection is then a label of five time series.",
    )
    sync_webhook_url: WebhookUrl = setting(
        None,
        ALERTS,
        "a URL that starts with http:// or https://",
        "Webhook that receives alerts as JSON with a `text`, as Slack, Mattermost and Google Chat "
        "take it.",
    )
    sync_alert_urls: AlertUrls = setting(
        (),
        ALERTS,
        "URLs of Apprise, separated by commas, such as mailto://USER:PASSWORD@example.com",
        "Other services that receive alerts. They need the extra `alerts`: "
        "`pip install 'chromasync[alerts]'`.",
        shown="none",
    )

    sync_advice_table: ExistingFile = setting(
        None,
        ADVICE,
        FILE,
        "Own thresholds, rates and prices for `advise`, `plan` and the status page, as TOML; "
        "`chromasync advise --table` prints the start values.",
    )

    sync_log_format: LogFormat = setting(
        LogFormat.AUTO,
        LOGS,
        "auto, console or json",
        "auto: console on a terminal, JSON otherwise.",
    )
    sync_log_level: LogLevel = setting(
        LogLevel.INFO,
        LOGS,
        "debug, info, warning or error",
        "The lowest level of log lines to show.",
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
        """Take given values only: `load_settings` reads the sources and remembers them."""
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

    @field_validator("sync_databases")
    @classmethod
    def _refuse_marks(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        """The database of the marks belongs to a replica and is never mirrored."""
        if given is not None and MARKS_DATABASE in given:
            raise ValueError(f"{MARKS_DATABASE} holds the marks of a replica")
        return given

    @field_validator("sync_target")
    @classmethod
    def _refuse_vague(cls, given: Target, info: ValidationInfo) -> Target:
        """A template that leads several databases to one needs to know which ones."""
        if not given.tells_databases_apart and not info.data.get("sync_databases"):
            raise ValueError("without {database} in its database, SYNC_DATABASES must be set, too")
        return given

    # ---- for the program --------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """The role of this process."""
        if not self.sync_distributed:
            return Role.SINGLE
        return Role.COORDINATOR if self.sync_coordinator else Role.WORKER

    @property
    def worker_threads(self) -> int:
        """Number of worker threads in this process; 0 for a coordinator that only plans."""
        plans_only = self.role is Role.COORDINATOR and not self.sync_coordinator_works
        return 0 if plans_only else self.sync_workers

    @property
    def alert_lag_seconds(self) -> float:
        """Longest age of the newest completed cycle's start before it is reported."""
        return self.sync_alert_lag or ALERT_INTERVALS * self.sync_interval

    def check_role(self) -> None:
        """Raise SettingsError when a worker has no state store in common with a coordinator."""
        if self.role is Role.WORKER and self.database_url is None:
            raise SettingsError(
                "A worker needs the state store of its coordinator, but DATABASE_URL is not set.",
                untouched="Nothing was started.",
                hint="Set DATABASE_URL to the coordinator's, such as postgresql://….",
            )

    @property
    def assume_away_seconds(self) -> float:
        """The primary counts as having been away when no cycle has read it for so long."""
        return self.sync_assume_away or 3 * self.sync_interval

    @property
    def store(self) -> StorePlace:
        """The place of the state store."""
        if self.database_url is not None:
            return StorePlace.parse(self.database_url.get_secret_value())
        urls = self.primary_url, self.replica_url
        return StorePlace.file(state_file(self.sync_data_dir, DATABASE_FILE, *urls))

    def server(self, side: Side) -> ServerSettings:
        """The connection settings of the server of `side`.

        Raises:
            SettingsError: its URL is not set, or two settings ask for an Authorization header.
        """
        url: str = getattr(self, f"{side}_url")
        if not url:
            raise missing_urls([f"{side}_url"])
        return ServerSettings(
            side=side,
            url=url,
            headers=headers_for(
                side,
                getattr(self, f"{side}_headers"),
                getattr(self, f"{side}_token"),
                getattr(self, f"{side}_bearer"),
            ),
            timeout_seconds=self.sync_http_timeout,
            ca_file=getattr(self, f"{side}_ca_file"),
            tls_verify=getattr(self, f"{side}_tls_verify"),
            client_cert=getattr(self, f"{side}_client_cert"),
        )

    @property
    def scope(self) -> Scope:
        """The names that are mirrored."""
        return Scope(self.sync_tenants, self.sync_databases, self.sync_include, self.sync_exclude)

    # ---- for people -------------------------------------------------------------------------

    def origin(self, name: str) -> Origin:
        """The origin of the value of `name` (in either case); raises KeyError if unknown."""
        field = name.lower()
        if field not in type(self).model_fields:
            raise KeyError(name)
        return self._origins.get(field, Origin.DEFAULT)

    def remember_origins(self, origins: Mapping[str, Origin]) -> None:
        """Remember the origins of values, by field name."""
        self._origins.update(origins)

    def effective(self) -> list[SettingLine]:
        """Every setting with its value, without secrets, and its origin."""
        return [
            SettingLine(name.upper(), self._shown(name, field), self.origin(name))
            for name, field in type(self).model_fields.items()
        ]

    def _shown(self, name: str, field: FieldInfo) -> str:
        value = getattr(self, name)
        if name == "database_url":
            return self.store.shown
        if name == "sync_max_memory_mb" and value is None:
            return "none (no container limit found)"
        if value in (None, "", (), {}):
            return field_extra(field)["shown"] or "none"
        return as_text(name, value)

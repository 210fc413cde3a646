"""The settings as keywords of the Python functions. Written by `make docs` from the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal, TypedDict


class SettingKeywords(TypedDict, total=False):
    """Settings by keyword; whatever is left out, or None, has its default."""

    primary_token: str | None
    """Sent to the primary as `x-chroma-token`. Allowed: any text. Default: none."""

    replica_token: str | None
    """Sent to the replica as `x-chroma-token`. Allowed: any text. Default: none."""

    primary_bearer: str | None
    """Sent to the primary as `Authorization: Bearer …`. Allowed: any text. Default: none."""

    replica_bearer: str | None
    """Sent to the replica as `Authorization: Bearer …`. Allowed: any text. Default: none."""

    primary_headers: Mapping[str, str] | None
    """Extra headers for the primary. Allowed: a JSON object of texts, such as {"x-team":
    "search"}. Default: none."""

    replica_headers: Mapping[str, str] | None
    """Extra headers for the replica. Allowed: a JSON object of texts, such as {"x-team":
    "search"}. Default: none."""

    primary_ca_file: str | PathLike[str] | None
    """Certificate authorities (PEM) to check the primary's certificate. Allowed: the path of
    an existing file. Default: none."""

    replica_ca_file: str | PathLike[str] | None
    """Certificate authorities (PEM) to check the replica's certificate. Allowed: the path of
    an existing file. Default: none."""

    primary_tls_verify: bool | None
    """Check the primary's TLS certificate. Allowed: true or false. Default: true."""

    replica_tls_verify: bool | None
    """Check the replica's TLS certificate. Allowed: true or false. Default: true."""

    primary_client_cert: str | PathLike[str] | None
    """Client certificate and key (one PEM file) shown to the primary. Allowed: the path of an
    existing file. Default: none."""

    replica_client_cert: str | PathLike[str] | None
    """Client certificate and key (one PEM file) shown to the replica. Allowed: the path of an
    existing file. Default: none."""

    http_timeout: float | None
    """Longest wait for a server, in seconds. Allowed: a number of seconds above 0, at most
    2678400 (31 days). Default: 60."""

    tenants: str | Sequence[str] | None
    """Tenants to mirror. If a server has no `default_tenant`, as Chroma Cloud, that name
    means the tenant of the token. Allowed: names, separated by commas. Default:
    default_tenant."""

    databases: str | Sequence[str] | None
    """Databases to mirror in each tenant. A missing database does not stop the others.
    Allowed: names, separated by commas. Default: all of each tenant."""

    include: str | Sequence[str] | None
    """Mirror only collections whose name matches one of these patterns. A pattern that
    matches no collection is reported. Allowed: case-sensitive patterns with * and ?,
    separated by commas. Default: all."""

    exclude: str | Sequence[str] | None
    """Mirror no collection whose name matches one of these patterns. A collection that was
    mirrored before stays on the replica as it is. Allowed: case-sensitive patterns with * and
    ?, separated by commas. Default: none."""

    target: str | None
    """Where a collection goes on the replica; `docs/target.md` explains it. Collections that
    would meet there are errors; the one that is there already goes on, and the others are not
    written. If the part of the database has no `{database}`, SYNC_DATABASES must be set.
    Allowed: TENANT/DATABASE/NAME with {tenant}, {database} and {name} in them; {name} stands
    in the name, {database} also in the database, {tenant} in all three. Default:
    {tenant}/{database}/{name}."""

    data_dir: str | PathLike[str] | None
    """Folder of the state file. Allowed: the path of a folder. Default: chromasync-data."""

    interval: float | None
    """Seconds from the start of one cycle to the start of the next. Allowed: a number of
    seconds above 0, at most 2678400 (31 days). Default: 300."""

    chunk_size: int | None
    """Records in a chunk. Allowed: a whole number from 1 to 5000. Default: 1000."""

    workers: int | None
    """Worker threads in this process. Allowed: a whole number from 1 to 64. Default: 2."""

    replica_check_interval: float | None
    """Seconds within which the replica's side of every chunk is read again, to find changes
    that others made there. Allowed: a number of seconds above 0, at most 2678400 (31 days).
    Default: 86400."""

    alert_lag: float | None
    """Longest age, in seconds, of the newest completed cycle's start; `status` reports an
    older one as out of date, and an alert tells it. Allowed: a number of seconds above 0, at
    most 2678400 (31 days). Default: 3 times SYNC_INTERVAL."""

    max_delete: int | str | None
    """Most deletes within a day, for each collection and for all of them together; more are
    held until approved. A percentage never means less than 100 records in all collections
    together; 0 and 0% mean never. A collection that disappears counts with all its records,
    and only in the second successful cycle without it. When at least half of the collections
    disappear at once, they are held, too. Allowed: a count such as 500, or a percentage such
    as 10%. Default: 10%."""

    drift: Literal["mend", "hold"] | None
    """What to do with records that others changed or deleted on the replica while the primary
    was available: mend restores them from the primary, hold holds them. Records that others
    added there are always held. Allowed: mend or hold. Default: mend."""

    assume_away: float | None
    """The primary counts as having been away when no cycle has read it for so many seconds.
    Changes by others on the replica are then held. Allowed: a number of seconds above 0, at
    most 2678400 (31 days). Default: 3 x SYNC_INTERVAL."""

    keep_dropped: float | str | None
    """Time for which a replaced or dropped collection stays on the replica under another
    name, which ends in `.chromasync-kept-` and a part of its id; then it is dropped. When
    this is switched off, collections kept before stay. Allowed: a number of seconds above 0,
    at most 2678400 (31 days), or off. Default: off."""

    scrub_budget: float | str | None
    """Share of the interval that may be spent on re-reading unchanged content. Allowed: a
    percentage from 0% to 100%, or a fraction below 1 such as 0.25. Default: 25%."""

    mark: bool | None
    """Keep a mark on the replica: one small record for each mirrored database, in a database
    of its own (chromasync-marks). The mark shows that the replica or the state store was
    restored from an older copy, or that another store writes to the same replica. Allowed: on
    or off. Default: on."""

    primary_share: float | str | None
    """Share of the primary's time that large reads may take, in all processes together, so
    that short queries of others are answered. Two seconds of it may be taken at once; then
    reads become small. If the primary has cores to spare, the share grows. 100% means no such
    limit. Allowed: a percentage from 1% to 100%, or a fraction from 0.01. Default: 50%."""

    max_requests_per_second: float | None
    """Most requests to the primary within a second, of all processes together. Allowed: a
    number of at least 0.1. Default: none."""

    max_memory_mb: int | None
    """Memory limit in MB; near it, the process makes smaller reads, then uses fewer threads.
    Allowed: a whole number of at least 64. Default: the container's limit."""

    distributed: bool | None
    """Share the work among several processes. Allowed: true or false. Default: false."""

    coordinator: bool | None
    """With SYNC_DISTRIBUTED: this process plans the cycles. Allowed: true or false. Default:
    false."""

    coordinator_works: bool | None
    """The coordinator works on tasks, too. Allowed: true or false. Default: true."""

    lease_seconds: float | None
    """Seconds after which the task of a silent worker goes to another worker. Allowed: a
    number of seconds from 1 to 2678400 (31 days). Default: 120."""

    lead_seconds: float | None
    """Seconds after which a standby coordinator replaces a silent one. Allowed: a number of
    seconds from 1 to 2678400 (31 days). Default: 30."""

    http_host: str | None
    """Address on which the page listens. Beyond this machine, set SYNC_HTTP_TOKEN, too.
    Allowed: an address of this machine, such as 0.0.0.0 for all of them. Default: 127.0.0.1."""

    http_port: int | None
    """Port of the page, the metrics and the health checks, for `run` and `dashboard`. The
    variable PORT has the same meaning. Allowed: a whole number from 1 to 65535. Default: off."""

    http_token: str | None
    """Token that readers of the page must send. Without a token, the page has no buttons.
    Allowed: at least 16 ASCII characters without spaces. Default: none."""

    metrics_collections: bool | None
    """Metrics of each collection, too; each collection is then a label of five time series.
    Allowed: true or false. Default: false."""

    webhook_url: str | None
    """Webhook that receives alerts as JSON with a `text`, as Slack, Mattermost and Google
    Chat take it. Allowed: a URL that starts with http:// or https://. Default: none."""

    alert_urls: str | Sequence[str] | None
    """Other services that receive alerts. They need the extra `alerts`: `pip install
    'chromasync[alerts]'`. Allowed: URLs of Apprise, separated by commas, such as
    mailto://USER:PASSWORD@example.com. Default: none."""

    advice_table: str | PathLike[str] | None
    """Own thresholds, rates and prices for `advise`, `plan` and the status page, as TOML;
    `chromasync advise --table` prints the start values. Allowed: the path of an existing
    file. Default: none."""

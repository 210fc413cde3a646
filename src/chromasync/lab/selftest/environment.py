"""Settings as environment variables, for the processes that the self-test starts."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
from pydantic import SecretStr

import chromasync
from chromasync.config import Settings

OWN_PREFIXES = ("SYNC_", "PRIMARY_", "REPLICA_", "CHROMASYNC_")
OWN_NAMES = ("DATABASE_URL", "PORT")
NOT_THEIRS = (
    "sync_http_host",
    "sync_http_port",
    "sync_http_token",
    "sync_webhook_url",
    "sync_alert_urls",
)
"""Settings of the service that another process must not use."""


def environment_of(settings: Settings, **overrides: str) -> dict[str, str]:
    """The environment that gives a process these settings, in any folder.

    Args:
        overrides: variables that take precedence; an empty one is not set.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OWN_PREFIXES) and name not in OWN_NAMES
    }
    ours = _variables(settings) | {"DATABASE_URL": settings.store.absolute().url} | overrides
    source = str(Path(chromasync.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return inherited | {n: v for n, v in ours.items() if v} | {"PYTHONPATH": path}


def _variables(settings: Settings) -> dict[str, str]:
    """All settings that differ from their default."""
    given = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True, validated_data={})
        if value is not None and value != default and name not in NOT_THEIRS:
            given[name.upper()] = _as_text(value)
    return given


def _as_text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case SecretStr():
            return value.get_secret_value()
        case Path():
            return str(value.absolute())
        case tuple():
            return ",".join(value)
        case dict():
            return orjson.dumps({k: v.get_secret_value() for k, v in value.items()}).decode()
        case _:
            return str(value)

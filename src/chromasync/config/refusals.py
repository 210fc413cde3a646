"""Errors about settings that are missing or contradict each other."""

from __future__ import annotations

from chromasync.errors import SettingsError
from chromasync.model import Side


def missing_urls(fields: list[str]) -> SettingsError:
    """The error of a command that needs URLs that are not set."""
    verb = "is" if len(fields) == 1 else "are"
    return SettingsError(
        f"{' and '.join(field.upper() for field in fields)} {verb} not set.",
        hint="Set PRIMARY_URL and REPLICA_URL in the environment or in chromasync.toml, "
        "or give --primary and --replica.",
    )


def two_authorizations(side: Side) -> SettingsError:
    """The error of a bearer token beside another Authorization header."""
    name = side.upper()
    return SettingsError(
        f"{name}_BEARER is given together with another Authorization header: in {name}_HEADERS, or "
        f"as user:password@ in {name}_URL.",
        untouched="Nothing was sent.",
        hint="A request can have one Authorization header only: remove one of them.",
    )

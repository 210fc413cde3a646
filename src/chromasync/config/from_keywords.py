"""Settings from the keywords of a Python function, which are all that counts unless it says more.

A keyword has the name of its setting in lower case, without `SYNC_`: `chunk_size=500`. The two
servers and the state store have short names, because every call has them. Log lines belong to the
program that calls, so there are no keywords for them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chromasync.config.fields import Origin
from chromasync.config.settings import URL_FIELDS, Settings
from chromasync.config.sources import OWN_PREFIX, load_settings
from chromasync.errors import SettingsError

Place = str | os.PathLike[str]
"""A URL, or the path of a file or folder."""

SHORT = {"primary_url": "primary", "replica_url": "replica", "database_url": "store"}
"""Arguments of every function, by the field that they set."""
LOGS = ("sync_log_format", "sync_log_level")
PREFIX = OWN_PREFIX.lower()
UNTOUCHED = "Nothing was started."


def keyword_of(field: str) -> str:
    """The keyword that sets a field of the settings."""
    return SHORT.get(field) or field.removeprefix(PREFIX)


def keyword_fields() -> dict[str, str]:
    """The fields that have a keyword, by it; without those of `SHORT`."""
    fields = [name for name in Settings.model_fields if name not in (*SHORT, *LOGS)]
    return {keyword_of(field): field for field in fields}


def settings_from(
    primary: Place | None,
    replica: Place | None,
    store: Place | None,
    keywords: Mapping[str, Any],
    *,
    environment: bool,
    servers_required: bool = True,
) -> Settings:
    """The settings that a caller gave; None counts as not given.

    Args:
        primary, replica: URLs, or folders of Chroma's.
        store: the state store: a file, or a URL such as `postgresql://…`.
        environment: settings that are not given come from the environment and `chromasync.toml`.

    Raises:
        SettingsError: a keyword is unknown, a value is not allowed, or a server is missing.
    """
    fields = keyword_fields()
    if unknown := [name for name in keywords if name not in fields]:
        what = " ".join(_unknown(name, fields) for name in unknown)
        raise SettingsError(what, untouched=UNTOUCHED, hint="See docs/python.md for all keywords.")
    given: dict[str, object] = {fields[name]: value for name, value in keywords.items()}
    given["primary_url"] = None if primary is None else server_place(primary)
    given["replica_url"] = None if replica is None else server_place(replica)
    given["database_url"] = None if store is None else store_place(store)
    if servers_required and not environment:
        _refuse_missing(given)
    return load_settings(
        given,
        servers_required=servers_required,
        given_as=Origin.KEYWORD,
        environment=environment,
    )


def server_place(place: Place) -> str:
    """The place of a server as a setting has it; a path object becomes an absolute path."""
    return place if isinstance(place, str) else str(Path(place).expanduser().absolute())


def store_place(place: Place) -> str:
    """The place of a state store as a setting has it; whatever is no URL is a file."""
    text = os.fspath(place)
    return text if "://" in text or not text else f"sqlite:///{Path(text).expanduser()}"


def _unknown(name: str, fields: Mapping[str, str]) -> str:
    wanted = name.lower().removeprefix(PREFIX)
    if f"{PREFIX}{wanted}" in LOGS:
        return f"There is no keyword {name}: log lines go where this program sends them."
    close = difflib.get_close_matches(SHORT.get(wanted, wanted), [*fields, *SHORT.values()], n=1)
    return f"There is no keyword {name}." + (f" Did you mean {close[0]}?" if close else "")


def _refuse_missing(given: Mapping[str, object]) -> None:
    missing = [SHORT[field] for field in URL_FIELDS if not given[field]]
    if missing:
        what = "argument" if len(missing) == 1 else "arguments"
        raise SettingsError(
            f"Missing {what}: {' and '.join(missing)}.",
            untouched=UNTOUCHED,
            hint="Pass the URLs of both servers, or environment=True to read PRIMARY_URL and "
            "REPLICA_URL.",
        )

"""Reads the settings from flags, environment and file, and explains their errors."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, TomlConfigSettingsSource

from chromasync.config.fields import (
    CONFIG_FILE,
    Origin,
    field_extra,
)
from chromasync.config.refusals import missing_urls
from chromasync.config.settings import (
    URL_FIELDS,
    Settings,
)
from chromasync.config.shown import hide_secrets
from chromasync.errors import SettingsError

OWN_PREFIX = "SYNC_"
SHARED_PREFIXES = ("PRIMARY_", "REPLICA_")
"""Platforms and other programs also set variables with these prefixes, such as PRIMARY_REGION."""
TYPING_ERROR = 0.9
"""Similarity of names that differ by one letter, or by two exchanged letters."""
WHERE = {
    Origin.FLAG: "given as a flag",
    Origin.KEYWORD: "given as a keyword",
    Origin.ENVIRONMENT: "in the environment",
    Origin.FILE: "in the settings file",
    Origin.DEFAULT: "by default",
}
UNTOUCHED = "Nothing was started."
HINT = "docs/settings.md lists all settings."


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    config_file: Path | None = None,
    servers_required: bool = True,
    given_as: Origin = Origin.FLAG,
    environment: bool = True,
) -> Settings:
    """Read the settings from `flags`, the environment and the file, the strongest first.

    Args:
        flags: values of command-line flags by setting name; None values count as not given.
        config_file: the file to read; by default `chromasync.toml` in the working folder.
        servers_required: raise an error if a URL is missing.
        given_as: the origin of the values in `flags`.
        environment: read the environment and the file, too.

    Raises:
        SettingsError: settings are unknown, missing or not allowed; it names all of them.
    """
    sources = {given_as: _from_flags(flags or {})}
    if environment:
        around = {Origin.FILE: _from_file(config_file), Origin.ENVIRONMENT: _from_environment()}
        sources = around | sources
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    for origin, found in sources.items():
        values |= found
        origins |= dict.fromkeys(found, origin)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        what = _explain(error, values, origins)
        raise SettingsError(what, untouched=UNTOUCHED, hint=HINT) from None
    settings.remember_origins(origins)
    missing = [field for field in URL_FIELDS if not getattr(settings, field)]
    if missing and servers_required:
        raise missing_urls(missing)
    return settings


def _from_flags(flags: Mapping[str, object]) -> dict[str, Any]:
    given = {name.lower(): value for name, value in flags.items() if value is not None}
    return _known(given, "The setting")


def _from_environment() -> dict[str, Any]:
    names = {name.lower() for name in os.environ if _is_meant_for_us(name)}
    _known(dict.fromkeys(names), "The environment variable")
    found = EnvSettingsSource(Settings)()
    port = os.environ.get("PORT")
    return {"sync_http_port": port, **found} if port else found


def _is_meant_for_us(variable: str) -> bool:
    if not variable.startswith(SHARED_PREFIXES):
        return variable.startswith(OWN_PREFIX)
    known = Settings.model_fields
    return bool(difflib.get_close_matches(variable.lower(), known, n=1, cutoff=TYPING_ERROR))


def _from_file(config_file: Path | None) -> dict[str, Any]:
    path = config_file or Path(CONFIG_FILE)
    if not path.is_file():
        if config_file is None:
            return {}
        raise SettingsError(f"There is no settings file {path}.", hint="Check --config.")
    try:
        source = TomlConfigSettingsSource(Settings, path)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(
            f"The settings file {path} cannot be read: {error}.",
            untouched=UNTOUCHED,
            hint='Its lines look like: PRIMARY_URL = "http://localhost:8000"',
        ) from error
    found = {key.lower(): value for key, value in source.toml_data.items()}
    return _known(found, f"In {path}, the setting")


def _known(found: dict[str, Any], what: str) -> dict[str, Any]:
    unknown = sorted(name for name in found if name not in Settings.model_fields)
    if unknown:
        sentences = [f"{what} {name.upper()} is unknown.{_similar(name)}" for name in unknown]
        raise SettingsError(" ".join(sentences), untouched=UNTOUCHED, hint=HINT)
    return found


def _similar(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f" Did you mean {close[0].upper()}?" if close else ""


def _explain(error: ValidationError, values: dict[str, Any], origins: dict[str, Origin]) -> str:
    """One sentence for each wrong setting, without the values of secrets."""
    sentences = {}
    for wrong in error.errors(include_url=False):
        name = str(wrong["loc"][0])
        allowed = field_extra(Settings.model_fields[name])["allowed"]
        where = WHERE[origins.get(name, Origin.DEFAULT)]
        cause = f" ({wrong['ctx']['error']})" if wrong["type"] == "value_error" else ""
        sentences[name] = (
            f"{_variable(name, origins)} {where} is {_quoted(name, values.get(name))}{cause}; "
            f"allowed: {allowed}."
        )
    return " ".join(sentences.values())


def _variable(name: str, origins: dict[str, Origin]) -> str:
    """The name under which the setting was set; platforms name the port of the page PORT."""
    shown = name.upper()
    is_port = name == "sync_http_port" and origins.get(name) is Origin.ENVIRONMENT
    return "PORT" if is_port and shown not in os.environ else shown


def _quoted(name: str, value: object) -> str:
    if "SecretStr" in str(Settings.model_fields[name].annotation):
        return "not valid, its value stays hidden"
    if isinstance(value, str) and (name.endswith("_url") or "://" in value):
        return repr(hide_secrets(value))
    return hide_secrets(repr(value)) if "://" in repr(value) else repr(value)

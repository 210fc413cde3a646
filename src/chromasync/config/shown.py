"""Shows values of settings; every value that may hold a secret is masked or left out.

Refused values are shown, too, so masking also works on texts that are no URL. In doubt it hides too
much, so that no part of a password is shown.
"""

from __future__ import annotations

import re

from pydantic import SecretStr

MASK = "***"
_USERINFO = re.compile(r"^([A-Za-z][\w+.-]*://)?.*@", re.DOTALL)
_PARAMETER = re.compile(r"([^?&=\s]+)=[^&]*")
_SECRET_WORD = re.compile(r"pass|secret|token|key", re.IGNORECASE)
_HOST = (
    r"(?:\[[^\]@/?]*\]|[^@/?#:,\[\]]*)(?::\d*)?"  # a port has digits only; other text is a password
)
_POSTGRES = re.compile(
    rf"(?P<scheme>postgres\w*://)(?:[^@/]*@)?(?P<place>{_HOST}(?:,{_HOST})*(?:/[^@/?#]*)?)"
    r"(?:\?(?P<query>[^@]*))?"
)
_SHARES = ("sync_scrub_budget", "sync_primary_share")
_PLACE_PARAMETERS = ("host=", "hostaddr=", "port=", "dbname=")


def hide_secrets(text: str) -> str:
    """A text that may be a URL, without user name, password and secret parameters.

    A password that is not percent-encoded may hold any character. So everything between the scheme
    (or the start) and the last @ is removed.
    """
    return _PARAMETER.sub(_hide_parameter, _USERINFO.sub(rf"\1{MASK}@", text))


def _hide_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}={MASK}" if _SECRET_WORD.search(found[1]) else found[0]


def shown_database(url: str) -> str:
    """The URL of a state store, reduced to host, port and database."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return url
    found = _POSTGRES.fullmatch(f"{scheme.partition('+')[0]}://{rest}")
    if found is None:
        return f"{scheme}://{MASK}"
    given = (found["query"] or "").split("&")
    kept = "&".join(part for part in given if part.startswith(_PLACE_PARAMETERS))
    return found["scheme"] + found["place"] + (f"?{kept}" if kept else "")


def as_text(name: str, value: object) -> str:
    """The value of a setting for people, with secrets hidden."""
    match value:
        case None:
            text = "none"
        case bool():
            text = str(value).lower()
        case float():
            text = f"{value * 100:g}%" if name in _SHARES else f"{value:.12g}"
        case SecretStr():
            text = "(hidden)"
        case dict():
            text = ", ".join(f"{key}: (hidden)" for key in value)
        case tuple():
            text = ", ".join("(hidden)" if isinstance(v, SecretStr) else v for v in value)
        case _:
            text = str(value)
    return text

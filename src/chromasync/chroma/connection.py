"""The connection settings of one server, and what they mean for its requests."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from chromasync import __version__
from chromasync.chroma import http_errors, proxies
from chromasync.errors import SettingsError
from chromasync.model import Side

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS_TO_SEND = {
    "host", "content-length", "content-encoding", "transfer-encoding", "connection",
    "proxy-connection", "keep-alive", "te", "trailer", "upgrade", "expect",
}  # fmt: skip
"""Headers about one message or one connection, which only this client can set."""


def _always() -> None:
    """Admit every request."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection settings of one server.

    Attributes:
        url: base URL, path prefix allowed.
        address: what messages show instead of the URL; the URL if empty.
        headers: extra headers; kept out of every message, like the token.
        token: sent as `x-chroma-token`.
        verify: check the server's certificate.
        ca_file: certificate authorities (PEM) to trust instead of the system's.
        client_cert: client certificate (PEM); its key is in `client_key` or in the same file.
        timeout_seconds: longest silence of the server before a request fails.
        answer_seconds: longest time for one whole answer, even if it arrives steadily.
        attempts: most attempts of one request.
        admit: called before every attempt; raises if no request may be sent now.
        called: what messages call the server; its side if empty.
        prefix: how the names of its settings begin; its side if empty.
        retry_seconds: time after the first attempt in which repetitions may begin.
    """

    side: Side
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | None = field(default=None, repr=False)
    verify: bool = True
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    timeout_seconds: float = 120.0
    connect_seconds: float = 10.0
    answer_seconds: float = 600.0
    attempts: int = 6
    retry_seconds: float = 45.0
    wait_initial_seconds: float = 0.1
    wait_max_seconds: float = 5.0
    admit: Callable[[], None] = field(default=_always, repr=False)
    called: str = ""
    prefix: str = ""
    address: str = ""

    @property
    def shown(self) -> str:
        """The place that the settings name: a URL or a folder."""
        return self.address or self.url

    @property
    def place(self) -> str:
        """The name of this server in messages: side and address."""
        return str(self.where())

    def where(self, proxy: proxies.Proxy | None = None) -> http_errors.Where:
        """The name of this server in messages, with the proxy in front of it."""
        where = http_errors.place(
            self.side, self.url, proxy, called=self.called, prefix=self.prefix
        )
        return replace(where, address=self.address) if self.address else where

    def setting(self, name: str) -> str:
        """The name of one of this server's settings."""
        return f"{self.prefix or self.side.upper()}_{name}"


def check_url(connection: Connection) -> None:
    """Raise SettingsError when the URL is not a base URL."""
    url = connection.url
    if not proxies.is_usable(url, ("http", "https")) or re.search("[?#]", url):
        raise SettingsError(
            f"{connection.setting('URL')} is not a base URL like http://host:8000 or "
            "https://host/prefix."
        )


def headers_of(connection: Connection) -> dict[str, str]:
    """The headers of each request; raises SettingsError when one cannot be sent."""
    ours = {
        "user-agent": f"chromasync/{__version__}",
        "accept": "application/json",
        "accept-encoding": "gzip, deflate",
    }
    chosen = dict(connection.headers)
    if connection.token is not None:
        chosen["x-chroma-token"] = connection.token
    for name, value in chosen.items():
        if problem := _header_problem(name, value):
            raise SettingsError(
                f"The {connection.called or connection.side}'s header {name!r} {problem}.",
                hint=f"It comes from {_origin_of(name, connection.setting)}.",
            )
    replaced = {name.lower() for name in chosen}
    return {name: value for name, value in ours.items() if name not in replaced} | chosen


def _origin_of(header: str, setting: Callable[[str], str]) -> str:
    """The settings that may have given a header."""
    match header.lower():
        case "x-chroma-token":
            return f"{setting('TOKEN')} or {setting('HEADERS')}"
        case "authorization":
            given = f"{setting('BEARER')}, {setting('HEADERS')}"
            return f"{given} or the user and password in {setting('URL')}"
        case _:
            return setting("HEADERS")


def _header_problem(name: str, value: str) -> str:
    """Why a header cannot be sent, without its value; empty when it can."""
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        return "has a name or value that cannot be sent; only printable ASCII can"
    if value != value.strip():
        return "has a value that begins or ends with a blank, which cannot be sent"
    if name.lower() in _OURS_TO_SEND:
        return "cannot be chosen: each request has its own"
    return ""


def tls_of(connection: Connection) -> ssl.SSLContext | None:
    """How https is spoken, None for http.

    Raises:
        SettingsError: a certificate file cannot be used.
    """
    if urlsplit(connection.url).scheme != "https":
        return None  # loading authorities is slow
    try:
        context = ssl.create_default_context(cafile=connection.ca_file)
        if connection.client_cert is not None:
            context.load_cert_chain(connection.client_cert, connection.client_key)
    except OSError as error:
        raise SettingsError(
            f"A certificate file of the {connection.called or connection.side} cannot be used: "
            f"{error}."
        ) from error
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context

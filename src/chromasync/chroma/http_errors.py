"""Translates the failure of one request into our error tree, without secrets."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import orjson

from chromasync.chroma.no_answer import (
    ConnectionBroke,
    NoAnswer,
    NotAnsweredInTime,
    NotConnected,
    NotConnectedInTime,
    NotSocks,
    ProxyRefused,
    cause_of,
)
from chromasync.chroma.proxies import Proxy
from chromasync.errors import (
    AccessRefused,
    Conflict,
    NotChroma,
    NotFound,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerError,
    ServerFault,
    ServerUnreachable,
    TooLarge,
    UntrustedCertificate,
)
from chromasync.model import Side

MESSAGE_LIMIT = 300
_GATEWAY = {408, 425, 502, 504, 520, 521, 522, 523, 524, 525, 526, 530}
_BUSY = {429, 503}
_SILENT = (
    "Check that the server runs and is not overloaded. Restart a server that stays silent. "
    "Work resumes by itself."
)
_PRIVATE = (
    "The private server of this folder is overloaded or has ended, for example because memory ran "
    "out. Repeat the command."
)
_PROXY_REFUSES_US = re.compile(r"^407\b|username/password|authentication")
"""Words of a proxy, or of the SOCKS library, that other credentials are required."""
_ABSENT = re.compile(r"^Collection \S.* does not exists?\.?$")
_TAKEN = re.compile(r"UNIQUE constraint failed: collections\.name")

_Rule = tuple[Callable[[int, str, bool], bool], type[ServerError], str]
_RULES: tuple[_Rule, ...] = (
    (lambda status, *_: status in {401, 403}, AccessRefused, "The {where} refuses access"),
    (
        lambda status, _, chroma: status == 404 and not chroma,
        NotChroma,
        "The {where} knows no such path",
    ),
    (
        lambda status, said, _: status == 404 or (status == 400 and bool(_ABSENT.match(said))),
        NotFound,
        "The {where} does not have it",
    ),
    (
        lambda status, said, _: status == 409 or (status == 500 and bool(_TAKEN.search(said))),
        Conflict,
        "The name is taken on the {where}",
    ),
    (
        lambda status, *_: status in _GATEWAY,
        ServerUnreachable,
        "The {where} is not behind its gateway ({status})",
    ),
    (lambda status, *_: status == 413, TooLarge, "The {where} takes no body of this size"),
    (
        lambda _, said, __: "quota" in said.lower(),
        QuotaExceeded,
        "A quota of the {where} is exceeded",
    ),
    (
        lambda status, *_: status < 500 or status == 501,
        RequestRefused,
        "The {where} refuses the request",
    ),
)
"""Rules in order; without a matching rule, the failure is a fault of the server."""


class ConnectionLost(ServerUnreachable):
    """The connection broke during a request."""


class Malformed(ValueError):
    """An answer that is not JSON."""


class Unexpected(ValueError):
    """JSON, but not the answer of a Chroma server."""


class Damaged(ValueError):
    """Chroma's answer, but with missing or inconsistent parts."""


@dataclass(frozen=True, slots=True)
class Where:
    """The name of a server in messages, and the proxy in front of it.

    Attributes:
        called: what messages call the server; its side if empty.
        prefix: how the names of its settings begin; its side if empty.
    """

    side: Side
    address: str
    proxy: Proxy | None = None
    called: str = ""
    prefix: str = ""

    def __str__(self) -> str:
        return f"{self.called or self.side} at {self.address}"

    @property
    def with_way(self) -> str:
        """The server and its proxy, for failures that either of them may have caused."""
        return f"{self}, asked through the {self.proxy}," if self.proxy else str(self)

    @property
    def is_folder(self) -> bool:
        """Whether it is the private server of a folder."""
        return self.address.startswith("/")

    def setting(self, name: str) -> str:
        """The name of this side's setting."""
        return f"{self.prefix or self.side.upper()}_{name}"


def place(
    side: Side, url: str, proxy: Proxy | None = None, *, called: str = "", prefix: str = ""
) -> Where:
    """The name of a server in messages: side and address, without user name and password."""
    return Where(side, _address(url), proxy, called, prefix)


def _address(url: str) -> str:
    """A URL without user name, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def from_exception(error: NoAnswer, where: Where, asked: str = "") -> ServerError:
    """The failure of a request that got no complete answer; `asked` is its method and path."""
    refused = cause_of(error, ssl.SSLCertVerificationError)
    if refused is not None:
        return _untrusted(refused, where)
    if where.proxy is not None and (failure := _from_proxy(error, where, where.proxy)):
        return failure
    failure = _unanswered(error, where, asked)
    if where.is_folder:
        failure.hint = _PRIVATE
    return failure


def _unanswered(error: NoAnswer, where: Where, asked: str) -> ServerUnreachable:
    server, side = where.with_way, where.side
    match error:
        case NotConnectedInTime():
            return ServerUnreachable(f"The {server} accepts no connection in time.", side=side)
        case NotAnsweredInTime():
            what = f"The {server} did not answer in time{asked and f' ({asked})'}."
            return ServerUnreachable(what, side=side, hint=_SILENT)
        case NotConnected():
            return ServerUnreachable(f"The {server} cannot be reached: {error}.", side=side)
        case ConnectionBroke():
            what = f"The {server} closed the connection without an answer."
            return ConnectionLost(what, side=side)
    return ServerUnreachable(f"The request to the {server} failed ({error}).", side=side)


def _untrusted(error: ssl.SSLCertVerificationError, where: Where) -> UntrustedCertificate:
    proxy = where.proxy
    of_proxy = f", or of the {proxy}," if proxy and proxy.scheme == "https" else ""
    return UntrustedCertificate(
        f"The certificate of the {where}{of_proxy} is not trusted: "
        f"{error.verify_message.removesuffix('.')}.",
        side=where.side,
        untouched="Nothing was sent.",
        hint=f"It must be for the name in {where.setting('URL')}, from an authority that is "
        f"known here or named in {where.setting('CA_FILE')} (PEM); "
        f"{where.setting('TLS_VERIFY')}=false switches the check off.",
    )


# ---- failures of the proxy -------------------------------------------------------------------


def _from_proxy(error: NoAnswer, where: Where, proxy: Proxy) -> ServerError | None:
    """The failure of the proxy; None when the server may have caused it."""
    if isinstance(error, ProxyRefused):
        return _proxy_refuses(str(error), where, proxy)
    if isinstance(error, NotConnected) and cause_of(error, ssl.SSLError) is None:
        what = f"The {proxy}, through which the {where} is asked, cannot be reached: {error}."
    elif isinstance(error, NotSocks):
        what = f"The {proxy}, through which the {where} is asked, does not speak SOCKS."
    else:
        return None
    return ServerUnreachable(what, side=where.side, hint=_proxy_hint(proxy))


def _proxy_refuses(words: str, where: Where, proxy: Proxy) -> ServerError:
    """The failure of a proxy that answers but refuses the connection."""
    said = words.strip().rstrip(".")
    what = f'The {proxy} does not connect to the {where}: "{said}".'
    if _PROXY_REFUSES_US.search(said):
        hint = f"Check the user name and the password in {proxy.variable}."
        return AccessRefused(what, side=where.side, said=said, hint=hint)
    return ServerUnreachable(what, side=where.side, said=said, hint=_proxy_hint(proxy))


def _proxy_hint(proxy: Proxy) -> str:
    return (
        f"Check that the proxy runs and that {proxy.variable} is right, or name the server's host "
        "in NO_PROXY to ask it directly; work resumes by itself."
    )


# ---- answers ---------------------------------------------------------------------------------


def from_answer(
    status: int, headers: Mapping[str, str], body: bytes, where: Where, path: str
) -> ServerError:
    """The failure for an answer to `path` with another status than 2xx."""
    message, is_chroma = _message(body)
    said = f': "{message}".' if message else "."
    server = str(where) if is_chroma else where.with_way
    if status == 407 and where.proxy is not None:
        return _proxy_refuses(f"407 {message}", where, where.proxy)
    if 300 <= status < 400:
        return _redirected(status, headers, where, path)
    if status in _BUSY:
        wait = retry_after(headers.get("retry-after"))
        what = f"The {server} asks to slow down ({status}){said}"
        return ServerBusy(
            what, side=where.side, status=status, said=message, retry_after_seconds=wait
        )
    for applies, kind, sentence in _RULES:
        if applies(status, message, is_chroma):
            what = sentence.format(where=server, status=status) + said
            return kind(what, side=where.side, status=status, said=message)
    what = f"The {server} failed with status {status}{said}"
    return ServerFault(what, side=where.side, status=status, said=message)


def from_content(error: Malformed | Unexpected | Damaged, body: bytes, where: Where) -> ServerError:
    """The failure for an answer with status 2xx and unusable content."""
    if isinstance(error, Damaged):
        what = f"The {where} answered with unusable data: {error}."
        return ServerFault(what, side=where.side)
    server = where.with_way
    if isinstance(error, Malformed) and body.lstrip()[:1] != b"<":
        what = f"The {server} answered with truncated or invalid JSON ({len(body)} bytes)."
        return ServerUnreachable(what, side=where.side)
    found = "a web page" if isinstance(error, Malformed) else f"something else: {error}"
    what = f"The {server} does not answer as Chroma does, but with {found}."
    return NotChroma(what, side=where.side)


def _redirected(status: int, headers: Mapping[str, str], where: Where, path: str) -> NotChroma:
    """The failure for a redirect; its hint is a base URL if that can be derived.

    Query and credentials of the address may be secrets, so they are left out.
    """
    target = _target(where.address + path, headers.get("location", ""))
    to = f" to {target}" if target else ""
    url = where.setting("URL")
    hint = f"Set {url} to an address that answers without a redirect; this may be a login page."
    if target.endswith(path):
        hint = f"Set {url} to {target.removesuffix(path)} if that is your server."
    return NotChroma(
        f"The {where.with_way} redirects{to}; redirects are not followed.",
        side=where.side,
        status=status,
        hint=hint,
    )


def _target(asked: str, location: str) -> str:
    """The full address in a redirect; empty when there is none or it is invalid."""
    try:
        return _address(urljoin(asked, location)) if location else ""
    except ValueError:
        return ""


def retry_after(value: str | None) -> float | None:
    """Seconds to wait according to a Retry-After header (a number or an HTTP date)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _message(body: bytes) -> tuple[str, bool]:
    """The message of an error answer, and whether it comes from Chroma."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:MESSAGE_LIMIT].decode(errors="replace").strip()
        return ("" if text.startswith("<") else text), False
    if not isinstance(answer, dict):
        return "", False
    message = answer.get("message") or answer.get("error") or answer.get("detail") or ""
    return str(message)[:MESSAGE_LIMIT].strip(), "error" in answer

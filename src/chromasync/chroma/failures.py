"""Translates whatever went wrong with one request into our error tree, without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import orjson

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
)
from chromasync.model import Side

MESSAGE_LIMIT = 300
_GATEWAY = {408, 425, 502, 504, 520, 521, 522, 523, 524, 525, 526, 530}
_BUSY = {429, 503}
_SILENT = (
    "Check that the server runs and is not overloaded; one that stays silent has to be restarted."
    " Work resumes by itself."
)
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
"""Checked from the top; what no rule names is a fault of the server."""


class ConnectionLost(ServerUnreachable):
    """The connection broke while a request was under way."""


class Malformed(ValueError):
    """An answer that is not JSON."""


class Unexpected(ValueError):
    """JSON, but not the answer of a Chroma server."""


class Damaged(ValueError):
    """Chroma's answer, but with parts that are missing or do not fit together."""


def place(side: Side, url: str) -> str:
    """How sentences name a server: side and address, without user name and password."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return f"{side} at {parts.scheme}://{host}{port}{parts.path}"


def from_exception(error: Exception, where: str, side: Side) -> ServerUnreachable:
    """The failure of a request that got no complete answer."""
    lost = (httpx2.ReadError, httpx2.WriteError, httpx2.CloseError, httpx2.RemoteProtocolError)
    if isinstance(error, httpx2.ConnectTimeout):
        return ServerUnreachable(f"The {where} accepts no connection in time.", side=side)
    if isinstance(error, httpx2.TimeoutException):
        what = f"The {where} did not answer in time{_asked(error)}."
        return ServerUnreachable(what, side=side, hint=_SILENT)
    if isinstance(error, httpx2.ConnectError):
        # the operating system's or the TLS library's own words; they hold no header
        return ServerUnreachable(f"The {where} cannot be reached: {error}.", side=side)
    if isinstance(error, lost):
        return ConnectionLost(f"The {where} closed the connection without an answer.", side=side)
    return ServerUnreachable(
        f"The request to the {where} failed ({type(error).__name__}).", side=side
    )


def _asked(error: httpx2.TimeoutException) -> str:
    """Which request it was, in brackets, as far as is known: its method and the end of its path."""
    try:
        request = error.request
    except RuntimeError:
        return ""
    return f" ({request.method} …/{request.url.path.rpartition('/')[2]})"


def from_answer(
    status: int, headers: Mapping[str, str], body: bytes, where: str, side: Side
) -> ServerError:
    """The failure that an answer with another status than 2xx stands for."""
    message, is_chroma = _message(body)
    said = f": {message}" if message else "."
    if 300 <= status < 400:
        return _redirected(status, headers, where, side)
    if status in _BUSY:
        return _busy(status, headers, said, where, side)
    for applies, kind, sentence in _RULES:
        if applies(status, message, is_chroma):
            return kind(
                sentence.format(where=where, status=status) + said, side=side, status=status
            )
    return ServerFault(f"The {where} failed with status {status}{said}", side=side, status=status)


def from_content(
    error: Malformed | Unexpected | Damaged, body: bytes, where: str, side: Side
) -> ServerError:
    """The failure that an answer with status 2xx and unusable content stands for."""
    if isinstance(error, Damaged):
        return ServerFault(f"The {where} answered with unusable data: {error}.", side=side)
    if isinstance(error, Malformed) and body.lstrip()[:1] != b"<":
        return ServerUnreachable(
            f"The {where} answered with truncated or invalid JSON ({len(body)} bytes).", side=side
        )
    what = "a web page" if isinstance(error, Malformed) else f"something else: {error}"
    return NotChroma(f"The {where} does not answer as Chroma does, but with {what}.", side=side)


def _redirected(status: int, headers: Mapping[str, str], where: str, side: Side) -> NotChroma:
    target = urlsplit(headers.get("location", ""))
    to = f" to {target.scheme}://{target.hostname}" if target.hostname else ""
    return NotChroma(
        f"The {where} redirects{to}; redirects are not followed.",
        side=side,
        status=status,
        hint="Set the URL to the address it redirects to.",
    )


def _busy(status: int, headers: Mapping[str, str], said: str, where: str, side: Side) -> ServerBusy:
    return ServerBusy(
        f"The {where} asks to slow down ({status}){said}",
        side=side,
        status=status,
        retry_after_seconds=retry_after(headers.get("retry-after")),
    )


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
    """What an error answer says, and whether Chroma said it."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body[:MESSAGE_LIMIT].decode(errors="replace").strip()
        return ("" if text.startswith("<") else text), False
    if not isinstance(answer, dict):
        return "", False
    message = answer.get("message") or answer.get("error") or answer.get("detail") or ""
    return str(message)[:MESSAGE_LIMIT].strip(), "error" in answer

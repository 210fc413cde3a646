"""The HTTP connections of one server: sends requests, repeats them, and translates errors.

A read-only client refuses everything but reads at the lowest level, before a byte is sent. The
primary always gets a read-only client.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar
from urllib.parse import unquote, urlencode

import stamina

from chromasync import faultpoints
from chromasync.chroma import age, decode, http_errors, proxies
from chromasync.chroma.connection import Connection, check_url, headers_of, tls_of
from chromasync.chroma.exchange import Answer, Exchange
from chromasync.chroma.meter import BUSY, OK, Meter
from chromasync.chroma.no_answer import TIMEOUTS, NoAnswer
from chromasync.chroma.pacer import Pacer, Turn
from chromasync.chroma.route import target_of
from chromasync.chroma.tenant import IDENTITY_PATH, TokenTenant
from chromasync.chroma.timed import Limits
from chromasync.errors import (
    AccessRefused,
    Conflict,
    NotChroma,
    NotFound,
    ReadOnlyViolation,
    RequestRefused,
    ServerBusy,
    ServerError,
    ServerFault,
    ServerTooOld,
    ServerUnreachable,
    TooLarge,
    UntrustedCertificate,
)
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.ports import Permit

T = TypeVar("T")

_log = get_logger()

LARGE_BODY = 64 * 1024
LONGEST_RETRY_AFTER_SECONDS = 60.0
FAULT_ATTEMPTS = 3
AT_ONCE_BYTES = 256 * 1024 * 1024
"""Longest answer that is read into one piece of memory; a longer one may only be announced."""
PART_BYTES = 1024 * 1024

_READ_PATH = re.compile(
    r"/api/v2/tenants/[^/]+/databases/[^/]+/collections/[^/]+/"
    r"(get|count|query)$"
)

_OUTCOMES: tuple[tuple[type[ServerError], str], ...] = (
    (ServerBusy, BUSY),
    (ServerUnreachable, "unreachable"),
    (AccessRefused, "denied"),
    (NotFound, "missing"),
    (Conflict, "conflict"),
    (TooLarge, "too_large"),
    (RequestRefused, "refused"),
    (NotChroma, "not_chroma"),
    (ServerTooOld, "not_chroma"),
    (UntrustedCertificate, "untrusted"),
    (ServerFault, "fault"),
)


@dataclass(frozen=True, slots=True)
class _Ask:
    """One request with all its attempts; `most_bytes` limits its uncompressed answer.

    `rows` is the number of records that it asks for, if it asks for records.
    """

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, int] | None = None
    most_bytes: int | None = None
    rows: int = 0

    def __str__(self) -> str:
        return f"{self.method} …/{unquote(self.path.rpartition('/')[2])}"


class Client:
    """Thread-safe; one per server, shared by all threads of the process.

    Raises:
        SettingsError: when the URL, a header, a certificate file or the environment's proxy cannot
            be used.
    """

    def __init__(
        self, connection: Connection, *, read_only: bool, pacer: Pacer | None = None
    ) -> None:
        self.connection = connection
        self.pacer = pacer or Pacer()
        self.side = connection.side
        self.read_only = read_only
        self.meter = Meter()
        self.tenant = TokenTenant()
        self._closed = False
        check_url(connection)
        self.proxy = proxies.proxy_for(connection.url)
        self._where = connection.where(self.proxy)
        self._prefix = target_of(connection.url).rstrip("/")
        self._headers = headers_of(connection)
        self._http = Exchange(connection.url, tls_of(connection), self.proxy)

    def close(self) -> None:
        """Close all connections; no request can be sent after that."""
        self._closed = True
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        parse: Callable[[bytes], T],
        *,
        body: bytes | None = None,
        params: Mapping[str, int] | None = None,
        permit: Permit | None = None,
        most_bytes: int | None = None,
        most_attempts: int | None = None,
        rows: int = 0,
    ) -> T:
        """Send a request, repeat it after transient failures, and parse its answer.

        The request must be idempotent; all of Chroma's requests that are used here are. If the
        server has no default tenant, the tenant of our token stands for it; see `tenant`.

        Args:
            method: HTTP method.
            path: path below the base URL, its segments quoted.
            parse: turns the answer's body into a value; raises Malformed, Unexpected or Damaged.
            body: JSON to send.
            params: query parameters.
            permit: called before every attempt; returns the seconds that the attempt may take.
            most_bytes: refuse a larger answer (uncompressed) before it is read completely.
            most_attempts: most attempts; None means the number of the connection.
            rows: number of records that it asks for.

        Raises:
            TooLarge: the answer is larger than `most_bytes`.
            ServerError: the subclass that fits, after the last attempt.
        """
        ask = _Ask(method, self.tenant.path(path), body, params, most_bytes, rows)
        try:
            value = self._repeated(ask, parse, permit, most_attempts)
        except (AccessRefused, NotFound):
            if not self._has_other_tenant(ask.path):
                raise
            ask = replace(ask, path=self.tenant.path(path))
            value = self._repeated(ask, parse, permit, most_attempts)
        self.tenant.note_answer(ask.path)
        return value

    def rows_at_once(self, path: str) -> int | None:
        """The most records that one read of this path may ask for now; None for no limit."""
        return self.pacer.rows_at_once(self.tenant.path(path))

    def _has_other_tenant(self, path: str) -> bool:
        """Whether a failed request was for the default tenant, and our token is of another one.

        Raises:
            ServerUnreachable, ServerFault: the server does not say whose token it is.
        """
        if not self.tenant.is_unknown(path):
            return self.tenant.path(path) != path  # another thread has found out meanwhile
        ask = _Ask("GET", IDENTITY_PATH)
        try:
            identity = self._repeated(ask, decode.mapping)
        except (ServerUnreachable, ServerFault):
            raise  # without an answer, nothing is known of the tenant
        except ServerError:
            return False  # the first failure says more
        found = self.tenant.settle(identity)
        if found:
            _log.info(Event.TENANT_FOUND, side=self.side.value, tenant=self.tenant.other)
        return found

    def _repeated(
        self,
        ask: _Ask,
        parse: Callable[[bytes], T],
        permit: Permit | None = None,
        most_attempts: int | None = None,
    ) -> T:
        """Send a request, and repeat it after transient failures."""
        state = _Repeats(self, len(ask.body or b""))
        for attempt in stamina.retry_context(
            on=state.wait_seconds,
            attempts=most_attempts or self.connection.attempts,
            timeout=self.connection.retry_seconds,
            wait_initial=self.connection.wait_initial_seconds,
            wait_max=self.connection.wait_max_seconds,
            wait_jitter=self.connection.wait_initial_seconds,
        ):
            with attempt:
                try:
                    return self._counted(ask, parse, permit)
                except http_errors.ConnectionLost as error:
                    state.check_size(error)
                    raise
        raise AssertionError("a retry loop ends by returning or raising")

    @staticmethod
    def _ask_permit(permit: Permit | None) -> float:
        """The seconds that the next attempt may take."""
        if permit is None:
            return math.inf
        allowed = permit()
        faultpoints.reach(faultpoints.BEFORE_SEND)
        return allowed

    def is_alive(self) -> bool:
        """Whether the server answers its heartbeat now."""
        try:
            self._counted(_Ask("GET", "/api/v2/heartbeat"), bytes)
        except ServerError:
            return False
        return True

    def _counted(self, ask: _Ask, parse: Callable[[bytes], T], permit: Permit | None = None) -> T:
        """Wait for the turn of one attempt, send it, and count it."""
        # A permit may send a request of its own, so it is asked before the turn. It is asked again
        # after a wait, because the wait took time of the lease.
        allowed = self._ask_permit(permit)
        with self.pacer.turn(ask.path, self.connection.admit) as turn:
            if turn.waited_seconds:
                self.meter.note_throttled(turn.waited_seconds)
                allowed = self._ask_permit(permit)
            count = _Counted(self.meter, len(ask.body or b""))
            try:
                value = self._send(ask, parse, allowed, count)
            except ServerError as error:
                _note_load(turn, error)
                if not isinstance(error, ReadOnlyViolation):
                    count.end(next(name for kind, name in _OUTCOMES if isinstance(error, kind)))
                raise
            count.end(OK)
            turn.answered(count.first_byte_seconds, max(count.sent, count.received), ask.rows)
            return value

    def _send(
        self, ask: _Ask, parse: Callable[[bytes], T], allowed_seconds: float, count: _Counted
    ) -> T:
        where = self._where
        try:
            status, headers, content = self._exchange(ask, allowed_seconds, count)
            count.received = len(content)
        except NoAnswer as error:
            raise http_errors.from_exception(error, where, str(ask)) from error
        if not 200 <= status < 300:
            failure = http_errors.from_answer(status, headers, content, where, ask.path)
            raise self._too_old(ask, failure) or failure
        try:
            return parse(content)
        except (http_errors.Malformed, http_errors.Unexpected, http_errors.Damaged) as error:
            raise http_errors.from_content(error, content, where) from error

    def _too_old(self, ask: _Ask, failure: ServerError) -> ServerTooOld | None:
        """The error of a server that is too old to know this path or method, if it is."""
        if failure.status not in (404, 405) or isinstance(failure, NotFound):
            return None
        for path in age.VERSION_PATHS if ask.path not in age.VERSION_PATHS else ():
            try:
                return self.why_too_old(self._counted(_Ask("GET", path), decode.parsed))
            except ServerError:
                continue
        return None

    def why_too_old(self, version: object) -> ServerTooOld | None:
        """The error of a server that reports this version; None when it is new enough."""
        if not age.is_too_old(version):
            return None
        return ServerTooOld(
            f"The {self._where} calls itself Chroma {version}, and servers before {age.OLDEST} "
            "cannot be mirrored.",
            side=self.side,
            untouched="Nothing was read or written.",
        )

    def _exchange(
        self, ask: _Ask, allowed_seconds: float, count: _Counted
    ) -> tuple[int, Mapping[str, str], bytes]:
        limits = self._limits(allowed_seconds)
        if self._closed:  # its new connection would never be closed
            raise RuntimeError(f"The client of the {self.connection.place} is closed.")
        self.connection.admit()
        target = self._prefix + ask.path
        self._guard(ask.method, target)
        if ask.params:
            target += f"?{urlencode(ask.params)}"
        headers = self._headers
        if ask.body is not None:
            headers = headers | {"content-type": "application/json"}
        with self._http.ask(
            ask.method, target, headers=headers, body=ask.body, limits=limits
        ) as answer:
            count.note_first_byte()
            content = self._content(answer, ask.most_bytes)
        return answer.status, answer.headers, content

    def _content(self, answer: Answer, most_bytes: int | None) -> bytes:
        """The whole answer, uncompressed."""
        announced = answer.length_remaining
        if most_bytes is not None and announced is not None and announced > most_bytes:
            raise self._too_large_answer(most_bytes)
        if announced and announced <= AT_ONCE_BYTES and "content-encoding" not in answer.headers:
            return answer.read(announced)
        # Compression helps on slow links. The limit protects memory, so it counts uncompressed
        # bytes; no more than a part is uncompressed at a time.
        parts, size = [], 0
        while part := answer.read(PART_BYTES):
            size += len(part)
            if most_bytes is not None and size > most_bytes:
                raise self._too_large_answer(most_bytes)
            parts.append(part)
        return b"".join(parts)

    def _limits(self, allowed_seconds: float) -> Limits:
        """Limits of a request's steps, so that all steps together stay within the allowed time."""
        silence, connect = self.connection.timeout_seconds, self.connection.connect_seconds
        deadline = time.monotonic() + min(self.connection.answer_seconds, allowed_seconds)
        return Limits(
            connect=min(connect, allowed_seconds / 8),
            write=min(silence, allowed_seconds / 8),
            read=min(silence, allowed_seconds * 5 / 8),
            deadline=deadline,
        )

    def _too_large_answer(self, most_bytes: int) -> TooLarge:
        return TooLarge(
            f"The {self.connection.place} has an answer of more than {most_bytes:,} bytes.",
            side=self.side,
            untouched="It was not read.",
            hint="Smaller reads follow.",
        )

    def _guard(self, method: str, target: str) -> None:
        if not self.read_only or method == "GET":
            return
        if method == "POST" and _READ_PATH.search(target.partition("?")[0]):
            return
        raise ReadOnlyViolation(
            f"A write ({method}) to the {self.connection.place} was stopped.",
            side=self.side,
            untouched="Nothing was sent.",
        )


class _Counted:
    """One attempt of a request, for the meter."""

    def __init__(self, meter: Meter, sent: int) -> None:
        self._meter = meter
        self._began = time.monotonic()
        self.sent = sent
        self.received = 0
        self.first_byte_seconds = 0.0

    def note_first_byte(self) -> None:
        """Note that the answer begins: the server's own work is done."""
        self.first_byte_seconds = time.monotonic() - self._began

    def end(self, outcome: str) -> None:
        """Count the attempt with its outcome."""
        seconds = time.monotonic() - self._began
        self._meter.note(outcome, seconds=seconds, sent=self.sent, received=self.received)


class _Repeats:
    """Decides, for one request, whether and when another attempt follows a failure."""

    def __init__(self, client: Client, body_size: int) -> None:
        self._client = client
        self._body_size = body_size
        self._faults = 0
        self._losses = 0

    def wait_seconds(self, error: Exception) -> bool | float:
        """Whether to repeat the request, or the seconds to wait when the server named a time."""
        if isinstance(error, ServerBusy) and error.retry_after_seconds is not None:
            if error.retry_after_seconds > LONGEST_RETRY_AFTER_SECONDS:
                return False
            return error.retry_after_seconds
        if isinstance(error, ServerFault):
            # mostly a race of a read with a delete; if it repeats, the server cannot do it
            self._faults += 1
            return self._faults < FAULT_ATTEMPTS
        return isinstance(error, ServerUnreachable)

    def check_size(self, error: ServerError) -> None:
        """Raise TooLarge when a live server closed the connection twice on a large body.

        Chroma answers 413 and closes the connection; the reset may destroy the answer.
        """
        self._losses += 1
        if self._body_size < LARGE_BODY or self._losses < 2 or not self._client.is_alive():
            return
        raise TooLarge(
            f"The {self._client.connection.place} closes the connection on a body of "
            f"{self._body_size} bytes.",
            side=self._client.side,
        ) from error


def _note_load(turn: Turn, error: ServerError) -> None:
    """Tell the pacer about a failure that may be a sign of load."""
    if isinstance(error, ServerBusy):
        turn.refused(error.retry_after_seconds)
    elif isinstance(error.__cause__, TIMEOUTS):
        turn.refused(None)

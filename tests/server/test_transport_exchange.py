"""Connections below HTTP: kept, dropped, slow, cut off."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from chromasync.chroma import Connection, exchange
from chromasync.chroma.client import Client
from chromasync.chroma.exchange import MOST_IDLE, Exchange
from chromasync.chroma.http_errors import ConnectionLost
from chromasync.chroma.timed import Limits
from chromasync.errors import ServerUnreachable, TooLarge
from chromasync.model import Side
from tests.server.transport_samples import QUICK
from tests.support.bare import OK, BareServer, Line, Play

LARGE = b"x" * 20_000_000
"""More than the buffers of both ends hold."""
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@contextmanager
def asked(play: Play, **options: Any) -> Iterator[tuple[BareServer, Client]]:
    """A server that a function plays, and a client of it."""
    with BareServer(play) as server:
        connection = Connection(Side.REPLICA, server.url, **{**QUICK, **options})
        client = Client(connection, read_only=False)
        try:
            yield server, client
        finally:
            client.close()


def get(client: Client, **options: Any) -> bytes:
    return client.request("GET", "/x", bytes, **options)


def post(client: Client, body: bytes = b"{}", **options: Any) -> bytes:
    return client.request("POST", "/x", bytes, body=body, **options)


# ---- connections that are kept ---------------------------------------------------------------


def test_a_connection_is_used_again() -> None:
    """Ten requests with and without a body, and empty answers, need one connection."""

    def play(line: Line) -> None:
        line.answer_all(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n")

    with asked(play) as (server, client):
        for _ in range(5):
            assert get(client) == post(client) == b""
        assert [number for number, _ in server.heads] == [1] * 10
        assert not [head for _, head in server.heads if b"cookie" in head.lower()]


def test_an_answer_in_chunks_keeps_its_connection() -> None:
    """An answer without a length is read to its end, and the next one comes on the same line."""
    chunks = CHUNKED + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"
    with asked(lambda line: line.answer_all(chunks)) as (server, client):
        assert get(client) == get(client) == b"abcde"
        assert server.count == 1


def test_a_connection_that_the_server_closed_is_no_failure() -> None:
    """The client sees that an idle connection has ended, and the next request has a new one."""

    def play(line: Line) -> None:
        line.request()
        line.send(OK)
        line.connection.shutdown(socket.SHUT_RDWR)
        line.server.left.release()

    with asked(play, attempts=1) as (server, client):
        for _ in range(3):
            assert post(client) == b"ok"
            assert server.left.acquire(timeout=60)
        assert [number for number, _ in server.heads] == [1, 2, 3]


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_connection_that_ends_as_the_request_comes_is_repeated(attempts: int) -> None:
    """The server may have done what was asked, so only the attempts of the setting follow."""

    def play(line: Line) -> None:
        line.request()
        line.send(OK)
        line.server.play = Line.answer_all
        line.request()  # and no answer

    with asked(play, attempts=attempts) as (server, client):
        assert post(client) == b"ok"
        if attempts == 1:
            with pytest.raises(ConnectionLost, match="without an answer"):
                post(client)
        assert post(client) == b"ok"
        assert [number for number, _ in server.heads] == [1, 1, 2]


def test_a_connection_that_was_idle_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something on the way may have forgotten it, and a request on it would wait in vain."""
    monkeypatch.setattr(exchange, "IDLE_SECONDS", -1.0)
    with asked(Line.answer_all) as (server, client):
        assert get(client) == get(client) == b"ok"
        assert server.count == 2
        assert server.left.acquire(timeout=60)


def test_threads_have_a_connection_each_and_few_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for a connection; those beyond the limit are closed, and nothing is logged."""
    count = MOST_IDLE + 8
    together = threading.Barrier(count)

    def play(line: Line) -> None:
        line.request()
        together.wait(60)
        line.send(OK)
        line.answer_all()

    caplog.set_level(logging.DEBUG)
    with asked(play) as (server, client), ThreadPoolExecutor(count) as threads:
        assert list(threads.map(lambda _: get(client), range(count))) == [b"ok"] * count
        for _ in range(count - MOST_IDLE):
            assert server.left.acquire(timeout=60)
        assert not server.left.acquire(blocking=False)
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]


def test_a_closed_client_sends_nothing_and_keeps_nothing() -> None:
    """A request that began before ends with its answer, and its connection is closed then."""
    arrived, closed = threading.Event(), threading.Event()

    def play(line: Line) -> None:
        line.request()
        arrived.set()
        assert closed.wait(60)
        line.send(OK)
        line.answer_all()

    with asked(play) as (server, client), ThreadPoolExecutor(1) as threads:
        answer = threads.submit(get, client)
        assert arrived.wait(60)
        client.close()
        closed.set()
        assert answer.result(60) == b"ok"
        assert server.left.acquire(timeout=60)
        with pytest.raises(RuntimeError, match=r"replica at .* is closed"):
            get(client)
        assert server.count == 1


def test_a_connection_is_closed_when_its_answer_was_not_read() -> None:
    """No half-read answer is left to the next request, however the last one ended."""
    with BareServer(Line.answer_all) as server, Exchange(server.url, None, None) as http:
        within = Limits(60, 60, 60, time.monotonic() + 60)
        asking = partial(http.ask, "GET", "/", headers={}, body=None, limits=within)
        with pytest.raises(KeyboardInterrupt), asking():
            raise KeyboardInterrupt
        with asking() as answer:
            assert answer.status == 200
        with asking() as answer:
            assert answer.read() == b"ok"
        assert server.count == 3


# ---- limits of time --------------------------------------------------------------------------

ENDLESS = {
    "status": b"HTTP/1.1 200 OK",
    "headers": b"HTTP/1.1 200 OK\r\nx: y",
    "body": SIZED % 9_000_000 + b"x",
    "chunks": CHUNKED + b"1\r\nx\r\n0",
    "to the end": b"HTTP/1.1 200 OK\r\n\r\nx",
}


@pytest.mark.parametrize("part", ENDLESS)
@pytest.mark.parametrize("limit", ["setting", "permit"])
def test_a_server_that_drips_is_left_when_the_time_is_over(part: str, limit: str) -> None:
    """In whichever part of its answer, by the setting's time or by that of a lease."""

    def play(line: Line) -> None:
        line.request()
        line.drip(ENDLESS[part])

    seconds = 0.3 if limit == "setting" else math.inf
    with asked(play, attempts=1, answer_seconds=min(seconds, 600)) as (_, client):
        permit = (lambda: 0.3) if limit == "permit" else None
        with pytest.raises(ServerUnreachable, match=r"in time \(GET …/x\)"):
            get(client, permit=permit)


def test_a_server_that_takes_a_large_body_slowly_is_given_its_time() -> None:
    """Sending may take longer than connecting may, as long as the server goes on reading."""

    def play(line: Line) -> None:
        line.head()
        rest = len(LARGE)
        while rest and not line.server.ended.wait(0.02):
            rest -= len(line.reader.read(min(rest, 500_000)))
        line.send(OK)

    with asked(play, attempts=1, connect_seconds=0.2) as (_, client):
        assert post(client, LARGE) == b"ok"


def test_a_server_that_stops_reading_is_left() -> None:
    """A body that nobody takes ends in the same error as an answer that does not come."""

    def play(line: Line) -> None:
        line.head()
        line.server.ended.wait(60)

    in_time = pytest.raises(ServerUnreachable, match=r"in time \(POST …/x\)")
    with asked(play, attempts=1, timeout_seconds=0.2) as (_, client), in_time:
        post(client, LARGE)


# ---- answers that end early ------------------------------------------------------------------


def test_an_answer_that_comes_before_the_body_was_sent_counts() -> None:
    """A server that refuses a body hangs up; its answer is read although sending failed."""

    def play(line: Line) -> None:
        line.head()
        line.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        line.connection.close()

    with asked(play, attempts=1) as (server, client):
        with pytest.raises(TooLarge, match="takes no body of this size"):
            post(client, LARGE)
        server.play = Line.answer_all
        assert post(client) == b"ok"


CUT_OFF = {
    "after the status": b"HTTP/1.1 200 OK\r\n",
    "after a header": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
    "in a header": b"HTTP/1.1 200 OK\r\ncontent-le",
    "in the body": SIZED % 10 + b"x",
    "of a length that no memory holds": SIZED % 10**15 + b"x",
    "in a chunk": CHUNKED + b"ff\r\nx",
    "between chunks": CHUNKED + b"1\r\nx\r\n",
    "before it was HTTP": b"SSH-2.0-OpenSSH\r\n",
}


@pytest.mark.parametrize("answer", CUT_OFF.values(), ids=CUT_OFF)
def test_an_answer_that_is_cut_off_is_none(answer: bytes) -> None:
    """The request is repeated, and its answer is the whole one."""

    def play(line: Line) -> None:
        line.request()
        line.send(answer)
        line.server.play = Line.answer_all

    with asked(play) as (server, client):
        assert get(client) == b"ok"
        assert [number for number, _ in server.heads] == [1, 2]


def test_headers_that_cannot_be_read_are_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """It is told as an error, and no library logs the address."""
    odd = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nno header\r\n\r\nok"
    caplog.set_level(logging.DEBUG)
    failed = pytest.raises(ServerUnreachable, match=r"request to the replica at .* failed")
    with asked(lambda line: line.answer_all(odd), attempts=1) as (_, client), failed:
        get(client)
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]


def test_a_long_answer_is_refused_by_its_announced_length() -> None:
    """Nothing of its body is awaited."""

    def play(line: Line) -> None:
        line.request()
        line.send(SIZED % 5000)
        line.request()

    with asked(play, attempts=1) as (_, client), pytest.raises(TooLarge, match="more than 4,999"):
        get(client, most_bytes=4999)

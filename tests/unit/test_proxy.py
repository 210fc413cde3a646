"""The proxy that judges others must not be wrong itself."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from chromasync.lab.proxy import Answer, RecordingProxy, Request


def send(proxy: RecordingProxy, body: bytes, *, of: int) -> bytes:
    """Send a request with a body of `of` bytes, hang up after these, and read what comes back."""
    address = urlsplit(proxy.url)
    head = f"POST /api/v2/x/upsert HTTP/1.1\r\nHost: x\r\nContent-Length: {of}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), 10.0) as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(4096)


def test_half_a_request_is_none() -> None:
    """Whoever dies while sending has asked for nothing: it is neither passed on nor recorded."""
    played: list[Request] = []

    def answer(request: Request) -> Answer:
        played.append(request)
        return Answer(200, b"{}")

    with RecordingProxy("http://127.0.0.1:9") as proxy:
        proxy.fault = answer
        assert send(proxy, b"{", of=2) == b""
        assert send(proxy, b"{}", of=2).startswith(b"HTTP/1.1 200")
        assert len(proxy.writes()) == len(played) == 1

"""Proxies that are reached over TLS, and what SOCKS proxies say when they refuse."""

from __future__ import annotations

import os
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync.errors import AccessRefused, ServerError, ServerUnreachable, UntrustedCertificate
from chromasync.lab.chroma_server import ChromaServer
from tests.conftest import ProxyMaker
from tests.server.certificates import server_tls
from tests.server.transport_samples import (
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    reader,
)
from tests.support.bare import BareServer, Line
from tests.support.gateway import Gateway

FAR = "http://chroma.internal:8000"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has in its environment does not count here."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def joined(line: Line, tls: ssl.SSLContext, port: int) -> None:
    """Take TLS off a connection, and lead it to a port of this machine until an end closes."""
    with (
        tls.wrap_socket(line.connection, server_side=True) as client,
        socket.create_connection(("127.0.0.1", port)) as server,
    ):
        other: dict[socket.socket, socket.socket] = {client: server, server: client}
        while not line.server.ended.is_set():
            ready = [client] if client.pending() else select.select(list(other), [], [], 0.05)[0]
            for end in ready:
                piece = end.recv(65536)
                if not piece:
                    return
                other[end].sendall(piece)


class SecureGateway:
    """A proxy with user name and password behind TLS."""

    def __init__(self, cleanup: ExitStack, upstream: str, leaf: Path) -> None:
        self.inner = cleanup.enter_context(Gateway(upstream, "someone", "s3cret"))
        port = int(self.inner.url().rpartition(":")[2])
        tls = server_tls(leaf)
        self.outer = cleanup.enter_context(BareServer(lambda line: joined(line, tls, port)))

    @property
    def url(self) -> str:
        """The value of a variable."""
        return f"https://someone:s3cret@127.0.0.1:{self.outer.port}"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ChromaServer]:
    """One server for all tests of this module."""
    with ChromaServer() as server:
        yield server


def test_a_proxy_behind_tls_forwards_requests(
    monkeypatch: pytest.MonkeyPatch,
    cleanup: ExitStack,
    shared_server: ChromaServer,
    pem: tuple[Path, Path],
) -> None:
    """Its certificate is checked as the system says, and its credentials reach it."""
    authority, leaf = pem
    gateway = SecureGateway(cleanup, shared_server.url, leaf)
    monkeypatch.setenv("HTTP_PROXY", gateway.url)
    with pytest.raises(UntrustedCertificate, match=r"or of the proxy https://127\.0\.0\.1"):
        reader(FAR, attempts=1).capabilities()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert reader(FAR).capabilities().version
    assert set(gateway.inner.passed) == {("forward", "chroma.internal")}


@pytest.mark.parametrize("verify", [False, True])
def test_a_proxy_behind_tls_opens_tunnels(
    monkeypatch: pytest.MonkeyPatch,
    cleanup: ExitStack,
    make_proxy: ProxyMaker,
    shared_server: ChromaServer,
    pem: tuple[Path, Path],
    *,
    verify: bool,
) -> None:
    """The server's own TLS goes through; what its settings say does not count for the proxy."""
    authority, leaf = pem
    secure = make_proxy(shared_server.url, tls=server_tls(leaf))
    gateway = SecureGateway(cleanup, secure.url, leaf)
    monkeypatch.setenv("HTTPS_PROXY", gateway.url)
    far = "https://127.9.9.9:8443"
    with pytest.raises(UntrustedCertificate, match="proxy https"):
        reader(far, verify=False, attempts=1).capabilities()
    assert gateway.inner.passed == []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    if verify:
        with pytest.raises(UntrustedCertificate, match=r"127\.9\.9\.9"):
            reader(far, ca_file=authority, attempts=1).capabilities()
    else:
        assert reader(far, verify=False).capabilities().version
    assert set(gateway.inner.passed) == {("tunnel", "127.9.9.9")}


NO_PASSWORD = b"\x05\x00"
REFUSALS: list[tuple[bytes, bytes, type[ServerError], str]] = [
    (NO_PASSWORD, b"\x05\x02\x00\x01" + bytes(6), ServerUnreachable, '"Connection not allowed by'),
    (NO_PASSWORD, b"\x05\x04\x00\x01" + bytes(6), ServerUnreachable, '"Host unreachable"'),
    (NO_PASSWORD, b"\x05\x77\x00\x01" + bytes(6), ServerUnreachable, '"Unknown error"'),
    (b"\x05\xff", b"", AccessRefused, "rejected"),
    (b"\x05\x02", b"", AccessRefused, "username/password"),
    (NO_PASSWORD, b"HTTP/1.1 400", ServerUnreachable, "does not speak SOCKS"),
]


@pytest.mark.parametrize(("choice", "reply", "kind", "words"), REFUSALS)
def test_what_a_socks_proxy_says_is_told(
    monkeypatch: pytest.MonkeyPatch,
    choice: bytes,
    reply: bytes,
    kind: type[ServerError],
    words: str,
) -> None:
    """The proxy, its variable and its reason are named, and not the library's own numbers."""

    def play(line: Line) -> None:
        _, count = line.reader.read(2)
        line.reader.read(count)
        line.send(choice)
        if reply:
            line.reader.read(5)
            line.send(reply)
        line.server.ended.wait(60)

    with BareServer(play) as server:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{server.port}")
        with pytest.raises(kind) as raised:
            reader(FAR, attempts=1).capabilities()
    text = str(raised.value)
    assert f"proxy socks5://127.0.0.1:{server.port} (from ALL_PROXY)" in text
    assert words in text
    assert "0x" not in text


def test_a_socks_proxy_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence ends when connecting has taken too long."""

    def play(line: Line) -> None:
        line.server.ended.wait(60)

    with BareServer(play) as server:
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{server.port}")
        with pytest.raises(ServerUnreachable, match="accepts no connection in time"):
            reader(FAR, attempts=1, connect_seconds=0.2).capabilities()

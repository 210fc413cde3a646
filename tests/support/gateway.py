"""A small proxy as companies run them: forwards HTTP, opens tunnels, and speaks SOCKS5.

Whatever host is asked for, it connects to one real server: names need not be known anywhere.
"""

from __future__ import annotations

import base64
import select
import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

SOCKS = 5
DOMAIN, IPV4 = 3, 1
WITH_PASSWORD, NOTHING_ACCEPTABLE = 2, 0xFF


@dataclass
class Gateway:
    """The proxy, on a free loopback port.

    Args:
        upstream_url: the server to which all roads lead.
        user: with this name and the password it lets through; everybody when empty.

    Attributes:
        passed: what was let through: `forward`, `tunnel` or `socks`, and the host asked for.
    """

    upstream_url: str
    user: str = ""
    password: str = ""
    passed: list[tuple[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Listener(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, scheme: str = "http", *, user: str = "", password: str = "") -> str:
        """Its address as a variable names it, with credentials if any are given."""
        credentials = f"{user}:{password}@" if user else ""
        return f"{scheme}://{credentials}127.0.0.1:{self._server.server_address[1]}"


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        super().__init__(("127.0.0.1", 0), _Visitor)


class _Visitor(socketserver.StreamRequestHandler):
    server: _Listener

    def handle(self) -> None:
        self.gateway = self.server.gateway
        first = self._peek(1)[:1]
        with suppress(ConnectionError):  # either side may hang up
            if first == bytes([SOCKS]):
                self._socks()
            elif first:
                self._http()

    # ---- HTTP -------------------------------------------------------------------------------

    def _http(self) -> None:
        method, target, _ = self.rfile.readline().decode().split(maxsplit=2)
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
        if not self._is_known(lines):
            self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n")
            self.wfile.write(b"connection: close\r\ncontent-length: 0\r\n\r\n")
        elif method == "CONNECT":
            self.gateway.passed.append(("tunnel", target.rpartition(":")[0]))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._join(b"")
        else:
            asked = urlsplit(target)
            self.gateway.passed.append(("forward", asked.hostname or ""))
            path = asked.path + (f"?{asked.query}" if asked.query else "")
            kept = [n for n in lines if not n.lower().startswith((b"proxy-", b"connection:"))]
            head = f"{method} {path} HTTP/1.1\r\nconnection: close\r\n".encode()
            self._join(head + b"".join(kept) + b"\r\n")

    def _is_known(self, lines: list[bytes]) -> bool:
        if not self.gateway.user:
            return True
        word = base64.b64encode(f"{self.gateway.user}:{self.gateway.password}".encode())
        return any(line.strip().endswith(b"Basic " + word) for line in lines)

    # ---- SOCKS5 -----------------------------------------------------------------------------

    def _socks(self) -> None:
        _, count = self.rfile.read(2)
        offered = self.rfile.read(count)
        wanted = WITH_PASSWORD if self.gateway.user else 0
        if wanted not in offered:
            self.wfile.write(bytes([SOCKS, NOTHING_ACCEPTABLE]))
            return
        self.wfile.write(bytes([SOCKS, wanted]))
        if wanted == WITH_PASSWORD and not self._password_fits():
            return
        _, _, _, kind = self.rfile.read(4)
        size = self.rfile.read(1)[0] if kind == DOMAIN else 4
        host = self.rfile.read(size)
        self.rfile.read(2)
        self.gateway.passed.append(
            ("socks", host.decode() if kind == DOMAIN else socket.inet_ntoa(host))
        )
        self.wfile.write(bytes([SOCKS, 0, 0, IPV4, 0, 0, 0, 0, 0, 0]))
        self._join(b"")

    def _password_fits(self) -> bool:
        self.rfile.read(1)
        name, password = (self.rfile.read(self.rfile.read(1)[0]).decode() for _ in range(2))
        fits = (name, password) == (self.gateway.user, self.gateway.password)
        self.wfile.write(bytes([1, 0 if fits else 1]))
        return fits

    def _peek(self, size: int) -> bytes:
        reader: Any = self.rfile  # a BufferedReader, which can look ahead
        return reader.peek(size) or b""

    # ---- both -------------------------------------------------------------------------------

    def _join(self, head: bytes) -> None:
        """Send `head` to the server, and pass on whatever comes from either side until one ends."""
        there = urlsplit(self.gateway.upstream_url)
        with socket.create_connection((there.hostname or "", there.port or 80)) as server:
            server.sendall(head + self._read_ahead())
            ends = {self.connection: server, server: self.connection}
            while ends:
                for end in select.select(list(ends), [], [])[0]:
                    piece = end.recv(65536)
                    if not piece:
                        return
                    ends[end].sendall(piece)

    def _read_ahead(self) -> bytes:
        """What came behind the head and is in our buffer already."""
        self.connection.setblocking(False)
        try:
            ahead = self._peek(0)
        finally:
            self.connection.setblocking(True)
        return self.rfile.read(len(ahead)) if ahead else b""

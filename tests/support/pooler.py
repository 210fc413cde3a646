"""A transaction pooler in front of PostgreSQL, as strict as one can be.

Every transaction of a client runs on the other of two server connections, after DISCARD ALL; start
parameters that a pooler does not know are refused, those that it knows are ignored, and so that
what a server reports is not what the other one does, each can be given settings of its own. Named
prepared statements are refused.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg

_KNOWN = {"user", "database", "application_name", "client_encoding"}
_REPORTED = ("server_version", "client_encoding", "standard_conforming_strings", "DateStyle")
_ENCRYPTION = {80877103, 80877104}
_IDLE = b"I"


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def _read_message(stream: socket.socket) -> tuple[bytes, bytes]:
    kind = _read(stream, 1)
    (size,) = struct.unpack("!I", _read(stream, 4))
    return kind, _read(stream, size - 4)


class _Server:
    """A connection that libpq has opened, spoken to directly."""

    def __init__(self, url: str, options: str) -> None:
        self.connection = psycopg.connect(url, options=options, autocommit=True)
        self.stream = socket.socket(fileno=socket.dup(self.connection.fileno()))
        self.stream.setblocking(True)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def discard_all(self) -> None:
        self.stream.sendall(_message(b"Q", b"DISCARD ALL\0"))
        while _read_message(self.stream)[0] != b"Z":
            pass

    def close(self) -> None:
        self.stream.close()
        self.connection.close()


class Pooler:
    """Listens on a loopback port and hands transactions to two server connections in turn.

    Args:
        url: the database behind it.
        options: what each of the two server connections is started with, as in `-c DateStyle=SQL`.

    Attributes:
        transactions: how many it has handed on.
    """

    def __init__(self, url: str, options: tuple[str, str] = ("", "")) -> None:
        self._servers = [_Server(url, its_own) for its_own in options]
        self._turns = itertools.cycle(self._servers)
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self.transactions = 0
        parts = urlsplit(url)
        place = f"pooled@127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = urlunsplit(parts._replace(netloc=place))

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for client in self._clients:
            client.close()
        for server in self._servers:
            server.close()

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                break
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients.append(client)
            threads.append(threading.Thread(target=self._serve, args=(client,)))
            threads[-1].start()
        for client in self._clients:
            with suppress(OSError):  # its own thread may close it at this very moment
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def _serve(self, client: socket.socket) -> None:
        try:
            self._welcome(client)
            while True:
                first = _read_message(client)
                if first[0] == b"X":
                    break
                with self._lock:
                    self._transaction(client, next(self._turns), first)
        except OSError:
            pass
        client.close()

    def _welcome(self, client: socket.socket) -> None:
        while True:
            (size,) = struct.unpack("!I", _read(client, 4))
            body = _read(client, size - 4)
            if struct.unpack("!I", body[:4])[0] not in _ENCRYPTION:
                break
            client.sendall(b"N")
        words = body[4:].rstrip(b"\0").decode().split("\0")
        unknown = set(words[::2]) - _KNOWN
        if unknown:
            refusal = f"SFATAL\0C08P01\0Munsupported startup parameter: {unknown}\0\0"
            client.sendall(_message(b"E", refusal.encode()))
            raise ConnectionError
        client.sendall(_message(b"R", struct.pack("!I", 0)))
        for name in _REPORTED:
            value = self._servers[0].connection.info.parameter_status(name)
            client.sendall(_message(b"S", f"{name}\0{value}\0".encode()))
        client.sendall(_message(b"Z", _IDLE))

    def _transaction(
        self, client: socket.socket, server: _Server, message: tuple[bytes, bytes]
    ) -> None:
        self.transactions += 1
        server.discard_all()
        while True:
            kind, body = message
            assert kind != b"P" or body.startswith(b"\0"), "a named prepared statement"
            server.stream.sendall(_message(kind, body))
            if kind in {b"Q", b"S"} and self._relay(client, server) == _IDLE:
                return
            message = _read_message(client)

    def _relay(self, client: socket.socket, server: _Server) -> bytes:
        while True:
            kind, body = _read_message(server.stream)
            client.sendall(_message(kind, body))
            if kind == b"Z":
                return body

"""A server below HTTP: a function plays each connection, byte by byte."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

Play = Callable[["Line"], None]


class Line:
    """One connection of a server; `number` counts them from 1."""

    def __init__(self, server: BareServer, connection: Any, reader: Any) -> None:
        self.server = server
        self.connection = connection
        self.reader = reader
        self.number = server.count

    def head(self) -> bytes:
        """The head of the next request; empty at the end of the connection."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (line := self.reader.readline()):
            head += line
        return head

    def request(self) -> bytes:
        """The head of the next request, when its body has come, too."""
        head = self.head()
        for line in head.lower().splitlines():
            if line.startswith(b"content-length:"):
                self.reader.read(int(line.partition(b":")[2]))
        if head:
            self.server.heads.append((self.number, head))
        return head

    def send(self, answer: bytes) -> None:
        """Send bytes."""
        self.connection.sendall(answer)

    def drip(self, answer: bytes) -> None:
        """Send bytes one by one, and the last one again and again until the client has enough."""
        place = 0
        while not self.server.ended.wait(0.02):
            self.send(answer[place : place + 1])
            place = min(place + 1, len(answer) - 1)

    def answer_all(self, answer: bytes = OK) -> None:
        """Answer each request until the client closes the connection."""
        while self.request():
            self.send(answer)
        self.server.left.release()


class BareServer:
    """Listens on a free loopback port; `play` has each connection in a thread of its own.

    Attributes:
        count: the number of connections so far.
        heads: of all requests that came whole, with the connection's number.
        left: released for each connection that the client closed after its answers.
        ended: set at the end; a function that waits waits for this.
    """

    def __init__(self, play: Play) -> None:
        self.play = play
        self.count = 0
        self.heads: list[tuple[int, bytes]] = []
        self.left = threading.Semaphore(0)
        self.ended = threading.Event()

    def __enter__(self) -> Self:
        outer = self

        class Visitor(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer.count += 1
                with suppress(OSError):  # a client may leave at any time, in TLS as well
                    outer.play(Line(outer, self.connection, self.rfile))

        class Listener(socketserver.ThreadingTCPServer):
            request_queue_size = 100

        self._server = Listener(("127.0.0.1", 0), Visitor)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

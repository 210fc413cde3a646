"""A real HTTP server on loopback that receives alerts, and answers as it is told."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

SECRET = "T00SECRET/B00SECRET/hush-hush"  # the path of a webhook, which nobody may see


class Post:
    """A receiver of webhooks.

    Attributes:
        status: what it answers from now on.
        headers: of its answers.
        body: of its answers.
        is_hanging: whether it answers only when the test ends.
    """

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b"ok"
        self.is_hanging = False
        self.requests: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self._end = threading.Event()
        post = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                post._take(self, content)

            def do_GET(self) -> None:
                post._take(self, b"null")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name)
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Its address with a secret path."""
        return f"http://{self.host}/services/{SECRET}"

    @property
    def texts(self) -> list[str]:
        """What it took, in order."""
        with self._arrived:
            return [
                str(request["json"].get("text")) for request in self.requests if request["taken"]
            ]

    def wait(self, count: int, seconds: float = 120.0) -> list[str]:
        """The texts, once so many have been taken."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: self._taken() >= count, seconds)
        assert enough, f"only {self.texts} arrived"
        return self.texts

    def wait_for_request(self, count: int = 1, seconds: float = 120.0) -> None:
        """Wait until so many requests have arrived, taken or not."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, seconds)

    def _taken(self) -> int:
        return sum(request["taken"] for request in self.requests)

    def _take(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        hangs, status = self.is_hanging, self.status
        request = {
            "path": handler.path,
            "headers": dict(handler.headers),
            "json": json.loads(content),
            "taken": 200 <= status < 300 and not hangs,
        }
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        if hangs:
            self._end.wait()
            return
        handler.send_response(status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)

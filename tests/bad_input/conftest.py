"""Two real servers with a little content, and a way to see that nothing about them changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chromasync.lab.judge import collections_of, records_by_id
from tests.support.stage import Servers, Stage


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A pair with something to do: both sides hold a collection, and they differ."""
    stage = Stage(servers, tmp_path)
    stage.create(count=5)
    yield stage
    stage.close()
    servers.primary_proxy.fault = servers.replica_proxy.fault = None


@pytest.fixture
def website() -> Iterator[str]:
    """A web server that answers every request with a page and status 200."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Website)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class _Website(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        page = b"<!doctype html><html><body>Welcome</body></html>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 -- the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Stay silent on standard error."""


def contents(stage: Stage) -> str:
    """Everything that both sides hold, as the official client gives it."""
    found = [
        (side, name, str(collection.id), collection.metadata, records_by_id(collection, ids))
        for side, client in (("primary", stage.primary), ("replica", stage.replica))
        for name, collection in sorted(collections_of(client).items())
        for ids in [collection.get(include=[])["ids"] or ["none"]]
    ]
    return json.dumps(found, default=str, sort_keys=True)

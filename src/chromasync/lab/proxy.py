"""A forwarding HTTP/1.1 proxy on loopback that records every request and plays faults on demand."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

READ_POSTS = ("/get", "/count", "/query")
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request that reached the proxy; `status` is None as long as there is no answer.

    Faults can read `body`; in records it is empty unless `keep_bodies` is set.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    body_size: int
    status: int | None = None
    response_size: int = 0

    @property
    def is_read(self) -> bool:
        """Whether it can only read: GET, HEAD, or a POST to …/get, …/count, …/query."""
        if self.method in ("GET", "HEAD"):
            return True
        return self.method == "POST" and urlsplit(self.path).path.endswith(READ_POSTS)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this without forwarding."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TruncateBody:
    """Forward, then answer with the given part of the body only, as if it were whole."""

    keep: float = 0.5


@dataclass(frozen=True, slots=True)
class ResetBefore:
    """Reset the connection; the server never sees the request."""


@dataclass(frozen=True, slots=True)
class ResetAfter:
    """Forward, then reset the connection: applied, but the answer is lost."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Wait until `release` is set (or the proxy stops), before or after forwarding; then go on."""

    release: threading.Event
    after_forwarding: bool = False


@dataclass(frozen=True, slots=True)
class Drip:
    """Forward, then send the answer in small pieces with a pause between them."""

    piece_bytes: int = 64
    pause_seconds: float = 0.05


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Forward another request, and answer with what `answer` makes of the body of a success.

    A path or a body of None stays as it is.
    """

    path: str | None = None
    body: bytes | None = None
    answer: Callable[[bytes], bytes] = bytes


Fault = Answer | TruncateBody | ResetBefore | ResetAfter | Hang | Drip | Rewrite
FaultHook = Callable[[Request], Fault | None]
Reply = tuple[int, list[tuple[str, str]], bytes]


class RecordingProxy:
    """Forwards requests to `upstream_url`, records them, and can inject faults.

    Args:
        upstream_url: base URL (http) of the real server.
        refuse_writes: answer 403 to everything that is not a read (and record it).
        latency_seconds: wait before each request is forwarded.
        prefix: path prefix of the callers' URLs; it is removed before forwarding.
        tls: serve https with this context.
        keep_bodies: keep request bodies in the records.
    """

    def __init__(
        self,
        upstream_url: str,
        *,
        refuse_writes: bool = False,
        latency_seconds: float = 0.0,
        prefix: str = "",
        tls: ssl.SSLContext | None = None,
        keep_bodies: bool = False,
    ) -> None:
        self.upstream_url = upstream_url
        self.refuse_writes = refuse_writes
        self.latency_seconds = latency_seconds
        self.prefix = prefix
        self.keep_bodies = keep_bodies
        self.fault: FaultHook | None = None
        self._tls = tls
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._stopping = threading.Event()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL of the proxy, prefix included."""
        if self._server is None:
            raise RuntimeError("the proxy is not started")
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}{self.prefix}"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in order of completion."""
        with self._lock:
            return list(self._requests)

    def writes(self) -> list[Request]:
        """The requests that were not reads."""
        return [request for request in self.requests if not request.is_read]

    @property
    def bytes_sent(self) -> int:
        """Bytes of request bodies."""
        return sum(request.body_size for request in self.requests)

    @property
    def bytes_received(self) -> int:
        """Bytes of response bodies."""
        return sum(request.response_size for request in self.requests)

    def reset(self) -> None:
        """Delete all records."""
        with self._lock:
            self._requests.clear()

    def forget_bodies(self) -> None:
        """Delete the kept bodies; the records themselves stay."""
        with self._lock:
            self._requests = [replace(r, body=b"") if r.body else r for r in self._requests]

    def start(self) -> Self:
        """Listen on a free loopback port."""
        self._stopping.clear()
        self._server = _Server(self, self._tls)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening, release hanging requests and close every connection."""
        self._stopping.set()
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.close_connections()

    def record(self, request: Request) -> None:
        """Remember one finished request."""
        kept = request if self.keep_bodies else replace(request, body=b"")
        with self._lock:
            self._requests.append(kept)

    def lead_to(self, upstream_url: str) -> None:
        """Forward to another server from now on, also on existing connections."""
        self.upstream_url = upstream_url
        if self._server is not None:
            self._server.close_connections()

    def fault_for(self, request: Request) -> Fault | None:
        """The fault to inject into this request."""
        if self.refuse_writes and not request.is_read:
            return Answer(403, b'{"error":"Forbidden","message":"writes are refused here"}')
        if not request.path.startswith(self.prefix):
            return Answer(404, b'{"error":"NotFound","message":"nothing at this path"}')
        return self.fault(request) if self.fault is not None else None

    def wait(self, release: threading.Event) -> None:
        """Wait until `release` is set or the proxy stops."""
        while not release.wait(0.02) and not self._stopping.is_set():
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: RecordingProxy, tls: ssl.SSLContext | None) -> None:
        self.proxy = proxy
        self._tls = tls
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self._tls is not None:
            # the handshake happens at the first read, in the connection's own thread
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a client that goes away, or refuses our certificate, is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        upstream = urlsplit(self.server.proxy.upstream_url)
        self._base_path = upstream.path.rstrip("/")
        self._upstream = http.client.HTTPConnection(upstream.hostname or "", upstream.port)

    def finish(self) -> None:
        self._upstream.close()
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Stay silent on standard error."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        size = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:  # its sender died on the way, and no server does half a request
            self.close_connection = True
            return
        request = Request(self.command, self.path, dict(self.headers), body, len(body))
        fault = proxy.fault_for(request)
        if proxy.latency_seconds:
            time.sleep(proxy.latency_seconds)
        reply = self._play(request, fault)
        if reply is None:
            proxy.record(request)
            self._reset()
            return
        done = replace(request, status=reply[0], response_size=len(reply[2]))
        proxy.record(done)
        self._send(reply, fault if isinstance(fault, Drip) else None)

    do_GET = _serve  # noqa: N815 -- the base class looks for these names
    do_HEAD = _serve  # noqa: N815 -- same
    do_POST = _serve  # noqa: N815 -- same
    do_PUT = _serve  # noqa: N815 -- same
    do_PATCH = _serve  # noqa: N815 -- same
    do_DELETE = _serve  # noqa: N815 -- same

    def _play(self, request: Request, fault: Fault | None) -> Reply | None:
        """The answer; None to reset the connection."""
        if isinstance(fault, Answer):
            return fault.status, list(fault.headers.items()), fault.body
        if isinstance(fault, ResetBefore):
            return None
        if isinstance(fault, Hang) and not fault.after_forwarding:
            self.server.proxy.wait(fault.release)
        if isinstance(fault, Rewrite):
            return self._rewrite(request, fault)
        reply = self._forward(request)
        if isinstance(fault, Hang) and fault.after_forwarding:
            self.server.proxy.wait(fault.release)
        if isinstance(fault, ResetAfter):
            return None
        if isinstance(fault, TruncateBody) and reply is not None:
            status, headers, body = reply
            return status, headers, body[: int(len(body) * fault.keep)]
        return reply

    def _rewrite(self, request: Request, fault: Rewrite) -> Reply | None:
        path = request.path if fault.path is None else fault.path
        body = request.body if fault.body is None else fault.body
        reply = self._forward(replace(request, path=path, body=body))
        if reply is None or not 200 <= reply[0] < 300:
            return reply
        status, headers, content = reply
        return status, headers, fault.answer(content)

    def _forward(self, request: Request) -> Reply | None:
        path = self._base_path + request.path[len(self.server.proxy.prefix) :]
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_HEADERS}
        if self._gone():
            self._upstream.close()
        try:
            # an early answer (413) may wait behind a send that failed
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._upstream.request(request.method, path, body=request.body, headers=headers)
            answer = self._upstream.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._upstream.close()
            return None
        if answer.will_close:
            self._upstream.close()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP_HEADERS]
        return answer.status, kept, body

    def _gone(self) -> bool:
        """Whether the server has closed the idle connection."""
        connection = self._upstream.sock
        return connection is not None and bool(select.select([connection], [], [], 0)[0])

    def _send(self, reply: Reply, drip: Drip | None) -> None:
        status, headers, body = reply
        try:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if drip is not None:
                self._drip(body, drip)
            elif self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def _drip(self, body: bytes, drip: Drip) -> None:
        for start in range(0, len(body), drip.piece_bytes):
            self.wfile.write(body[start : start + drip.piece_bytes])
            self.wfile.flush()
            time.sleep(drip.pause_seconds)

    def _reset(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)  # no lingering: the peer gets a reset, not an end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

"""Faults that a proxy plays at random, from a seed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from chromasync.lab.proxy import (
    Answer,
    Drip,
    Fault,
    Hang,
    RecordingProxy,
    Request,
    ResetAfter,
    ResetBefore,
    TruncateBody,
)

HTML = Answer(200, b"<html><body>starting up</body></html>", {"content-type": "text/html"})


def chroma_error(status: int, message: str = "made to fail", **headers: str) -> Answer:
    """An error answer as Chroma writes it."""
    body = f'{{"error":"ChromaError","message":"{message}"}}'.encode()
    return Answer(status, body, {"content-type": "application/json", **headers})


BUSY = chroma_error(429, "Backoff and retry", **{"retry-after": "0.05"})
GATEWAY = Answer(502, b"<html>bad gateway</html>")

MAKERS: dict[str, Callable[[threading.Event], Fault]] = {
    "reset before the server saw it": lambda _: ResetBefore(),
    "answer lost after it was applied": lambda _: ResetAfter(),
    "truncated JSON": lambda _: TruncateBody(0.6),
    "web page with 200": lambda _: HTML,
    "too many requests": lambda _: BUSY,
    "500": lambda _: chroma_error(500),
    "502 from a gateway": lambda _: GATEWAY,
    "503": lambda _: chroma_error(503),
    "no answer before the timeout": Hang,
    "applied, no answer before the timeout": lambda release: Hang(release, after_forwarding=True),
    "slow drip": lambda _: Drip(piece_bytes=512, pause_seconds=0.002),
}


class RandomFaults:
    """A fault hook that fails a share of the requests, each time with one of `kinds`.

    Args:
        seed: what goes wrong follows from it and the order of requests alone.
        share: of requests that fail, 0 to 1.
        kinds: keys of MAKERS.
        only: which requests may fail; all when None.
    """

    def __init__(
        self,
        seed: int,
        share: float,
        kinds: list[str],
        only: Callable[[Request], bool] | None = None,
    ) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._kinds = kinds
        self._only = only
        self._lock = threading.Lock()
        self.release = threading.Event()
        self.played = 0

    def __call__(self, request: Request) -> Fault | None:
        """What shall go wrong with this request."""
        if self._only is not None and not self._only(request):
            return None
        with self._lock:
            if self._random.random() >= self._share:
                return None
            kind = self._random.choice(self._kinds)
            self.played += 1
        return MAKERS[kind](self.release)


def calm(*proxies: RecordingProxy) -> None:
    """No more faults; what hangs is let go."""
    for proxy in proxies:
        if isinstance(proxy.fault, RandomFaults):
            proxy.fault.release.set()
        proxy.fault = None
        proxy.latency_seconds = 0.0

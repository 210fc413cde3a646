"""Real Chroma servers for the demo, the bench and the tests; see `folders.server`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.folders.server import (
    WATCHDOG,
    ChromaServer,
    LocalServerError,
    PortTaken,
    free_port,
    installed_command,
    rust_command,
    start_on_some_port,
)

__all__ = [
    "WATCHDOG",
    "ChromaServer",
    "LocalServerError",
    "PortTaken",
    "free_port",
    "installed_command",
    "loopback_without_proxy",
    "rust_command",
    "start_on_some_port",
]


@contextmanager
def loopback_without_proxy() -> Iterator[None]:
    """Reach our own servers without the HTTP proxies of the environment."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = f"{value},127.0.0.1" if value else "127.0.0.1"
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

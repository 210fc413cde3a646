"""Ports of this machine for tests that start a server by its command line."""

from __future__ import annotations

import socket
from contextlib import closing


def free_port() -> int:
    """A port that nobody uses now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port

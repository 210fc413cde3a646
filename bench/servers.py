"""CPU seconds that the two servers use while something is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil

from chromasync.lab.chroma_server import ChromaServer


def cpu_of(server: ChromaServer) -> float:
    """CPU seconds of a server's process so far."""
    used = psutil.Process(server.pid).cpu_times()
    return float(used.user + used.system)


def with_cpu(
    work: Callable[[], dict[str, Any]], primary: ChromaServer, replica: ChromaServer | None = None
) -> dict[str, Any]:
    """Do the work, and add what each server used meanwhile to its result."""
    servers = {"primary": primary} | ({"replica": replica} if replica is not None else {})
    before = {side: cpu_of(server) for side, server in servers.items()}
    result = work()
    used = {f"{side}_cpu_seconds": cpu_of(s) - before[side] for side, s in servers.items()}
    return result | used

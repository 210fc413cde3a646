"""What the name of a process (host:pid:start:random) tells: where it is, and if it has ended."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil

_CREATE_TIME_SLACK_SECONDS = 2.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def machine_name() -> str:
    """Where this process can look up others by their number: one boot of a machine or container.

    Containers may share a host name and yet see none of each other's processes.
    """
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PID_NAMESPACE.readlink()}"
    except OSError:
        return socket.gethostname()


def host_and_pid(name: str) -> tuple[str, str]:
    """The host and the number in the name of a process; the whole name where it has none."""
    host, *rest = name.rsplit(":", 3)
    return (host, rest[0]) if len(rest) == 3 else (name, "?")


def has_ended(name: str) -> bool:
    """Whether a name is that of a process of this host that has provably ended."""
    parts = name.rsplit(":", 3)
    if len(parts) != 4 or parts[0] != socket.gethostname():
        return False
    try:
        pid, created = int(parts[1]), float(parts[2])
    except ValueError:
        return False
    return not _runs(pid, created)


def _runs(pid: int, created: float) -> bool:
    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(found.create_time() - created) <= _CREATE_TIME_SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True

"""Names of processes (host:pid:start:random), what of them has ended, and who uses this one."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from threading import Thread

_CREATE_TIME_SLACK_SECONDS = 2.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def machine_name() -> str:
    """The scope in which this process can look up other processes by pid: one boot or container.

    Containers may share a host name, but cannot see each other's processes.
    """
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PID_NAMESPACE.readlink()}"
    except OSError:
        return socket.gethostname()


def ended_among(threads: Iterable[Thread]) -> tuple[str, ...]:
    """The names of those threads that were started and have ended."""
    return tuple(t.name for t in threads if t.ident is not None and not t.is_alive())


def operator_name() -> str:
    """Who uses this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may give its user no name
        user = str(os.getuid()) if hasattr(os, "getuid") else "?"
    return f"{user}@{socket.gethostname()}"


def host_and_pid(name: str) -> tuple[str, str]:
    """The host and the pid in the name of a process; the whole name if it has none."""
    host, *rest = name.rsplit(":", 3)
    return (host, rest[0]) if len(rest) == 3 else (name, "?")


def has_ended(name: str) -> bool:
    """Whether the name belongs to a process of this host that has certainly ended."""
    parts = name.rsplit(":", 3)
    if len(parts) != 4 or parts[0] != socket.gethostname():
        return False
    try:
        pid, created = int(parts[1]), float(parts[2])
    except ValueError:
        return False
    return not _runs(pid, created)


def _runs(pid: int, created: float) -> bool:
    import psutil  # noqa: PLC0415 -- a command that only shows states looks at no process

    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(found.create_time() - created) <= _CREATE_TIME_SLACK_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True

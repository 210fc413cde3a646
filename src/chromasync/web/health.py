"""Health: whether this process is alive, and whether it does its duty.

Lag, differences and holds are no matter of health: a restart mends none of them. An alert tells.
"""

from __future__ import annotations

from chromasync.model import Duty
from chromasync.web.process import Process
from chromasync.web.snapshots import Latest

READY = {Duty.LEADING, Duty.WORKING, Duty.WAITING}


def why_not_alive(process: Process | None) -> str:
    """Why this process should be restarted; empty if it should not."""
    ended = () if process is None else process.vitals().ended_threads
    return f"ended threads: {', '.join(ended)}" if ended else ""


def why_not_ready(process: Process | None, latest: Latest) -> str:
    """Why this process does not do its duty now; empty if it does.

    A process that waits for the lead is ready: it takes over when the leader ends.
    """
    if latest.error is not None or latest.snapshot is None:
        return "the state store cannot be read"
    if process is None:
        return ""
    duty = process.vitals().duty
    return why_not_alive(process) or ("" if duty in READY else duty.value)

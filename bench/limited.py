"""A real memory limit for a child: a control group where one may be made, else RLIMIT_DATA."""

from __future__ import annotations

import contextlib
import os
import resource
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1 << 20
GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit for one child process.

    Attributes:
        kind: how it is kept, for people.
        enter: what the child calls before it runs its program.
    """

    kind: str
    enter: Callable[[], None]


@contextlib.contextmanager
def memory_limit(megabytes: int, reserve: int = 0, groups: Path = GROUPS) -> Iterator[Limit]:
    """The best limit that this machine allows.

    A process that exceeds a control group is killed. RLIMIT_DATA is stricter: it counts private
    memory when it is asked for, the stacks of threads included, and a process that exceeds it gets
    no more and fails. It does not count mapped files.

    Args:
        reserve: megabytes that RLIMIT_DATA allows beyond, for memory that is reserved and not used.
        groups: where control groups of version 2 are mounted.
    """
    group = groups / f"chromasync-{uuid.uuid4().hex[:8]}"
    if not _is_made(group, megabytes):
        allowed = megabytes + reserve
        yield Limit(f"{allowed} MB of data (RLIMIT_DATA)", _data(allowed))
        return

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    try:
        yield Limit(f"a control group of {megabytes} MB", enter)
    finally:
        group.rmdir()


def _is_made(group: Path, megabytes: int) -> bool:
    """Whether a control group with this limit could be made; it has no swap."""
    try:
        # elsewhere than in a tree of control groups, files could be made that limit nothing
        if "memory" not in (group.parent / "cgroup.subtree_control").read_text().split():
            return False
        group.mkdir()
    except OSError:
        return False
    try:
        (group / "memory.max").write_text(str(megabytes * MEGABYTE))
        if (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
    except OSError:
        group.rmdir()
        return False
    return True


def _data(megabytes: int) -> Callable[[], None]:
    size = megabytes * MEGABYTE
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (size, size))

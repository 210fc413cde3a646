"""A real memory limit for a child: a control group where one may be made, else RLIMIT_DATA."""

from __future__ import annotations

import contextlib
import os
import resource
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

MEGABYTE = 1 << 20
GROUPS = Path("/sys/fs/cgroup")


class Limit:
    """A limit for one child process.

    Attributes:
        kind: how it is kept, for people.
        enter: what the child calls before it runs its program.
    """

    def __init__(self, kind: str, enter: Callable[[], None]) -> None:
        self.kind = kind
        self.enter = enter


@contextlib.contextmanager
def memory_limit(megabytes: int) -> Iterator[Limit]:
    """The best limit that this machine allows; the system kills a process that exceeds it."""
    for root, name, procs in (
        (GROUPS / "memory", "memory.limit_in_bytes", "cgroup.procs"),
        (GROUPS, "memory.max", "cgroup.procs"),
    ):
        folder = root / f"chromasync-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
            (folder / name).write_text(str(megabytes * MEGABYTE))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        swap = folder / (
            "memory.memsw.limit_in_bytes" if root.name == "memory" else "memory.swap.max"
        )
        with contextlib.suppress(OSError):
            swap.write_text(str(megabytes * MEGABYTE) if root.name == "memory" else "0")

        def enter(file: Path = folder / procs) -> None:
            file.write_text(str(os.getpid()))

        try:
            yield Limit(f"a control group of {megabytes} MB", enter)
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()
        return
    bytes_ = megabytes * MEGABYTE

    def limit_data() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))

    yield Limit(f"RLIMIT_DATA of {megabytes} MB", limit_data)

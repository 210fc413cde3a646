"""Who may be at work at the same time: tasks side by side, but one that was tried before alone.

A chunk that kills its process (it needs too much memory, say) costs every task of that process an
attempt. From the second attempt on each of them runs alone, so only the culprit kills again, and
only the culprit is charged until it fails for good.

Nobody waits here with a task in hand: it would be charged as well when the one inside kills the
process. A task that cannot pass at once is given back. If it is a lone one, the gate keeps its
place: none is claimed any more beside others, so that those inside leave, and then one at a time,
oldest first, until its turn has come or somebody else has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.model import Task


class Gate:
    """Lets tasks in, or turns them away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._alone = False
        self._kept_for: int | None = None
        self._closed = False

    @property
    def free(self) -> bool:
        """Whether a task may be claimed beside others: no lone one is inside or has its place."""
        with self._lock:
            return not self._alone and self._kept_for is None

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._closed = True

    def found_none(self) -> None:
        """No task can be had: whoever had its place kept here is elsewhere by now."""
        with self._lock:
            self._let_go_of_place()

    @contextmanager
    def passing(self, task: Task) -> Iterator[bool]:
        """Take a place at once and give it back at the end; False when there is none for it."""
        entered = self._enter(task, alone=task.retry_count > 0)
        try:
            yield entered
        finally:
            if entered:
                self._leave()

    def _enter(self, task: Task, *, alone: bool) -> bool:
        with self._lock:
            if self._closed or self._alone:
                return False
            if alone and self._inside:
                self._kept_for = task.id
                return False
            # tasks come oldest first: where a younger one comes, it is not to be had
            if self._kept_for is not None and task.id >= self._kept_for:
                self._let_go_of_place()
            self._inside += 1
            self._alone = alone
            return True

    def _let_go_of_place(self) -> None:
        # what was claimed while others are inside may have been claimed before the place was kept
        if not self._inside:
            self._kept_for = None

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            self._alone = False

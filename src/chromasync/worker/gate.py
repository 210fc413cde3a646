"""Who may be at work at the same time: tasks side by side, but one that was tried before alone.

A chunk that kills its process (it needs too much memory, say) costs every task of that process an
attempt. From the second attempt on each of them runs alone, so only the culprit kills again, and
only the culprit is charged until it fails for good.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Lets tasks in; a lone one waits until all others have left, and lets none in meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False
        self._waiting = 0
        self._closed = False

    @property
    def free(self) -> bool:
        """Whether no lone task is inside or waits to be."""
        with self._changed:
            return not self._alone and not self._waiting

    def close(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @contextmanager
    def passing(self, *, alone: bool) -> Iterator[bool]:
        """Wait for a place and give it back at the end; False when the gate closed before."""
        entered = self._enter_alone() if alone else self._enter()
        try:
            yield entered
        finally:
            if entered:
                self._leave()

    def _enter(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (not self._alone and not self._waiting))
            self._inside += not self._closed
            return not self._closed

    def _enter_alone(self) -> bool:
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._closed or not self._inside)
            self._waiting -= 1
            self._alone = not self._closed
            self._inside += not self._closed
            self._changed.notify_all()
            return not self._closed

    def _leave(self) -> None:
        with self._changed:
            self._inside -= 1
            self._alone = False
            self._changed.notify_all()

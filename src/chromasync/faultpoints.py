"""Named points where tests make a process die or fail; no-ops in production.

A test sets `CHROMASYNC_FAULTPOINT=name[:n]` in the environment of a real process. The process then
kills itself with SIGKILL when it reaches that point for the n-th time. With
`CHROMASYNC_FAULT=stop` it freezes itself with SIGSTOP instead. A test may also install a callable
with `injected` in its own process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

AFTER_OPEN = "after-open-cycle"
AFTER_COLLECTION_CREATED = "after-collection-created"
BETWEEN_LEDGERS = "between-ledgers"
BETWEEN_RENAMES = "between-renames"
BEFORE_KEEP = "before-keep"
AFTER_WALK = "after-walk"
AFTER_PLAN = "after-plan"
AFTER_CLAIM = "after-claim"
AFTER_READ = "after-read"
BEFORE_SEND = "before-send"
MID_WRITE = "mid-write"
AFTER_WRITE = "after-write"
AFTER_COMPLETE = "after-complete"
AFTER_COMMIT = "after-commit"
MID_PRUNE = "mid-prune"
BEFORE_DROP = "before-drop"
BEFORE_CLOSE = "before-close"
AFTER_PROMOTION_BEGAN = "after-promotion-began"
BEFORE_COMPARISON = "before-comparison"
AFTER_PROMOTION_MARK = "after-promotion-mark"

ALL = (
    AFTER_OPEN,
    AFTER_COLLECTION_CREATED,
    BETWEEN_LEDGERS,
    BETWEEN_RENAMES,
    BEFORE_KEEP,
    AFTER_WALK,
    AFTER_PLAN,
    AFTER_CLAIM,
    AFTER_READ,
    BEFORE_SEND,
    MID_WRITE,
    AFTER_WRITE,
    AFTER_COMPLETE,
    AFTER_COMMIT,
    MID_PRUNE,
    BEFORE_DROP,
    BEFORE_CLOSE,
)
"""The points in a cycle."""

OF_PROMOTION = (AFTER_PROMOTION_BEGAN, BEFORE_COMPARISON, AFTER_PROMOTION_MARK)
"""The points in a promotion, in order."""

Hook = Callable[[str], None]


def _signal_hook(spec: str) -> Hook:
    name, _, nth = spec.partition(":")
    left = int(nth or 1)
    sent = signal.SIGSTOP if os.environ.get("CHROMASYNC_FAULT") == "stop" else signal.SIGKILL

    def hook(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), sent)

    return hook


_spec = os.environ.get("CHROMASYNC_FAULTPOINT")
_hook: Hook | None = _signal_hook(_spec) if _spec else None


def reach(point: str) -> None:
    """Call the installed hook with `point`; does nothing if there is none."""
    if _hook is not None:
        _hook(point)


@contextmanager
def injected(hook: Hook) -> Iterator[None]:
    """Call `hook(point)` at every point, in every thread, while the block runs."""
    global _hook
    before, _hook = _hook, hook
    try:
        yield
    finally:
        _hook = before

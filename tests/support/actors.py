"""Processes of the program in worlds of failovers: their clock, their fate, and what they hold."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from chromasync import lease as leasing
from chromasync.chroma.pacer import Pacer
from chromasync.errors import ReadOnlyViolation, ServerUnreachable
from chromasync.failover import promote as promoting
from chromasync.lab.fake import FakeServer
from chromasync.model import Change, Collection, Definition, Records, Side
from chromasync.store import SqlStore
from tests.chaos.mortal import Killed

if TYPE_CHECKING:
    from tests.support.failovers import World

EPOCH = 1_900_000_000.0
MOMENTS = {
    *("take_lead", "give_up_lead", "open_cycle", "close_cycle", "add_tasks", "cancel_tasks"),
    *("complete_task", "save_mirrors", "note_mark_written", "turn"),
    *("begin_promotion", "cancel_promotion", "finish_promotion"),
}
"""Calls of the store that are instants, before and after them."""

WRITES = {
    *("add", "upsert", "update", "delete"),
    *("create_collection", "modify_collection", "drop_collection", "ensure_database"),
}
"""Requests that change a server."""


class Clock:
    """The time of the store and of all processes: that of the machine, and what was skipped.

    It skips nothing while another thread is about to write: a request that takes longer than its
    process may write is aborted, and so it is never in progress when a wait has ended.
    """

    def __init__(self) -> None:
        self._skipped = 0.0
        self._moved = threading.Condition()
        self._writing: set[int] = set()

    def now(self) -> float:
        """Seconds."""
        return time.monotonic() + self._skipped

    def skip(self, seconds: float) -> None:
        """Let time pass."""
        with self._moved:
            self._moved.wait_for(lambda: not self._writing - {threading.get_ident()})
            self._skipped += max(0.0, seconds)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A request that writes: from the permission until the server has answered."""
        self._change(self._writing.add)
        try:
            yield
        finally:
            self._change(self._writing.discard)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """This thread stands still, even in a request."""
        was_writing = threading.get_ident() in self._writing
        self._change(self._writing.discard)
        try:
            yield
        finally:
            if was_writing:
                self._change(self._writing.add)

    def _change(self, change: Callable[[int], None]) -> None:
        with self._moved:
            change(threading.get_ident())
            self._moved.notify_all()

    def rule(self, patch: pytest.MonkeyPatch) -> None:
        """Let every process have this clock, and no wait take any time."""
        patch.setattr(leasing, "_clock", None)
        patch.setattr(leasing, "time", SimpleNamespace(monotonic=self.now))
        patch.setattr(promoting, "time", SimpleNamespace(monotonic=self.now, sleep=self.skip))

    def rule_store(self, store: SqlStore) -> None:
        """Let the state store have this clock, too."""

        def connected(connection: Any, _: object) -> None:
            connection.create_function("julianday", 1, self._julian)

        event.listen(store.backend.engine, "connect", connected)
        store.backend.engine.dispose()

    def _julian(self, _: object) -> float:
        return (EPOCH + self.now()) / 86_400.0 + 2_440_587.5


@dataclass
class Cut:
    """What happens at the `nth` instant of a process: others act, and then its fate.

    With `in_write` only requests that write count.
    """

    nth: int
    meanwhile: Sequence[str]
    fate: str
    in_write: bool = False


class Process:
    """One process of the program: it may freeze once, and then go on or end."""

    def __init__(self, world: World, cut: Cut | None, *, promotes: bool = False) -> None:
        self.world = world
        self.promotes = promotes
        self.dead = False
        self._cut = cut
        self._left = cut.nth if cut is not None else 0
        self._lock = threading.Lock()

    def reach(self, *, writes: bool = False) -> None:
        """An instant of this process."""
        self.live()
        with self._lock:
            self._left -= writes or not (self._cut and self._cut.in_write)
            is_now, self._left = self._left == 0, self._left or -1
        if is_now and self._cut is not None:
            with self.world.clock.frozen():
                self.world.nested(self._cut.meanwhile)
            self.dead = self._cut.fate == "die"
            if self._cut.fate == "interrupt" and self.promotes:
                raise KeyboardInterrupt
        self.live()

    def live(self) -> None:
        """Raise if this process is dead."""
        if self.dead:
            raise Killed


class Held:
    """The state store as a process holds it."""

    def __init__(self, store: Any, process: Process) -> None:
        self._store = store
        self._process = process

    def led_by(self, term: Any) -> Held:
        """The same, for a leader's view."""
        return Held(self._store.led_by(term), self._process)

    def urgent(self) -> Held:
        """The same, for what cannot wait."""
        return Held(self._store.urgent(), self._process)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        instant = self._process.reach if name in MOMENTS else self._process.live

        def call(*args: Any, **options: Any) -> Any:
            instant()
            result = method(*args, **options)
            instant()
            return result

        return call


class Line(FakeServer):
    """The connection of one process to a server in memory, which has one of both roles for it."""

    def __init__(self, server: FakeServer, side: Side, process: Process) -> None:
        vars(self).update(vars(server))
        self.side = side
        self.pacing = Pacer()
        self.server = server
        self.process = process

    def _request(self, name: str, ids: Any = ()) -> None:
        self.process.reach(writes=name in WRITES)
        if self.server in self.process.world.away:
            raise ServerUnreachable("It is away.", side=self.side)
        super()._request(name, ids)

    def _write(self, name: str, ids: Any = ()) -> None:
        if self.side is Side.PRIMARY:
            raise ReadOnlyViolation(f"{name} on the primary", side=self.side)
        clock = self.process.world.clock
        left = self._permit() if self._permit is not None else 60.0
        ends = clock.now() + left
        self._request(name, ids)
        if clock.now() > ends:
            raise ServerUnreachable("The request took longer than it may.", side=self.side)
        self.process.world.judge(self, name, ids)

    def ensure_database(self, tenant: str, database: str) -> None:
        with self.process.world.clock.writing():
            super().ensure_database(tenant, database)

    def add(self, collection: Collection, records: Records) -> None:
        with self.process.world.clock.writing():
            super().add(collection, records)

    def upsert(self, collection: Collection, records: Records) -> None:
        with self.process.world.clock.writing():
            super().upsert(collection, records)

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        with self.process.world.clock.writing():
            super().update(collection, changes)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        with self.process.world.clock.writing():
            super().delete(collection, ids)

    def create_collection(self, definition: Definition) -> Collection:
        with self.process.world.clock.writing():
            return super().create_collection(definition)

    def modify_collection(self, collection: Collection, **changes: Any) -> None:
        with self.process.world.clock.writing():
            super().modify_collection(collection, **changes)

    def drop_collection(self, collection: Collection) -> None:
        with self.process.world.clock.writing():
            super().drop_collection(collection)

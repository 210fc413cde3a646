"""Worlds in which a replica is promoted: two servers in memory, a real store, an application.

Processes of the program run one within another: each may freeze at any of its instants, so that
others do something meanwhile, and may then go on, be interrupted, or be dead. An instant is a
request to a server, or a call of the store that changes who may write. All processes and the store
have one clock, which jumps ahead where someone waits.

An application uses one of both servers. It changes to the other one when its operator learns that
the replica was promoted. The world notes each write that may not reach its server.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from chromasync import fence as fencing
from chromasync import role
from chromasync.config import Settings, load_settings
from chromasync.errors import (
    AnotherInstance,
    ChromasyncError,
)
from chromasync.failover.promote import Checks, Promotion
from chromasync.failover_reports import PromoteOutcome, PromoteReport
from chromasync.fence import Fence
from chromasync.lab.fake import FakeServer
from chromasync.model import Collection, DirectionState, Records, Side, Space
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, FenceReport
from chromasync.status import take_snapshot
from chromasync.store import SqlStore, open_store
from chromasync.turned import plan_next_cycle
from chromasync.verify import Verifier
from chromasync.worker import attempt, pool
from tests.chaos.mortal import Killed, swept
from tests.support.actors import Clock, Cut, Held, Line, Process
from tests.support.ledgers import joined, record

URLS = ("http://one:1", "http://two:2")
HOME = ("default_tenant", "default_database")
NAMES = ("docs", "mail")
FLAGS = {"SYNC_CHUNK_SIZE": "5", "SYNC_WORKERS": "1", "SYNC_ASSUME_AWAY": "1000000"}
LEAD_SECONDS = 31.0
"""After so long, a silent leader is replaced."""
MARKING = {"add", "upsert", "create_collection", "ensure_database"}
"""What a promotion sends to write its mark."""


Content = dict[str, dict[str, tuple[Any, ...]]]
"""What a server has: each record by its id, by the name of its collection."""


@dataclass
class World:
    """Two servers, the first of which is the primary at first; see the module.

    Attributes:
        used: the server that the application uses.
        stopped: the operator of a switchover has stopped the application.
        lossless: if the replica is promoted now, nothing may be missing on it.
        may_turn: a service with exchanged URLs has run.
        late: what the former primary alone has, from before the application left it.
        wrong: writes that reached a server that they may not reach.
        log: what happened, for people.
    """

    store: SqlStore
    clock: Clock
    chance: random.Random
    flags: dict[str, str]
    servers: list[FakeServer] = field(default_factory=lambda: [FakeServer(), FakeServer()])
    away: list[FakeServer] = field(default_factory=list)
    stopped: bool = False
    lossless: bool = False
    late: Content = field(default_factory=dict)
    acknowledged: Content = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    may_turn: bool = False
    sent: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    used: FakeServer = field(init=False)
    _depth: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def __post_init__(self) -> None:
        self.used = self.servers[0]
        for name, space, count in zip(NAMES, (Space.L2, Space.COSINE), (12, 7), strict=True):
            made = self.used.make(name, space=space)
            self._put(made, [f"{name}{next(self._numbers)}" for _ in range(count)])
        self.acknowledged = self.content(self.used)

    # ---- what is there ------------------------------------------------------------------------

    @property
    def first(self) -> FakeServer:
        """The server that is the primary at first."""
        return self.servers[0]

    @property
    def second(self) -> FakeServer:
        """The server that is the replica at first."""
        return self.servers[1]

    def collections(self, server: FakeServer) -> dict[str, Collection]:
        """A server's collections by name, but for the marks."""
        return {c.name: c for c in server.list_collections(*HOME)}

    def content(self, server: FakeServer) -> Content:
        """All that a server has."""
        return {
            name: _rows(server.contents(made)) for name, made in self.collections(server).items()
        }

    def differing(self) -> set[str]:
        """Ids of records that are not the same on both servers."""
        one, two = map(self.content, self.servers)
        return {
            i
            for name in one.keys() | two.keys()
            for i in one.get(name, {}).keys() | two.get(name, {}).keys()
            if one.get(name, {}).get(i) != two.get(name, {}).get(i)
        }

    def settings(self, *, turned: bool) -> Settings:
        """Those of a process: before the promotion, or with exchanged URLs."""
        primary, replica = URLS[::-1] if turned else URLS
        return load_settings(
            flags=FLAGS | self.flags | {"PRIMARY_URL": primary, "REPLICA_URL": replica}
        )

    def is_turned(self) -> bool:
        """Whether the store has the second server as the primary."""
        ids = {c.id for c in self.collections(self.second).values()}
        return any(m.collection_id in ids for m in self.store.mirrors())

    # ---- what must never happen ----------------------------------------------------------------

    def judge(self, line: Line, name: str, ids: Sequence[str]) -> None:
        """Note a write if it may not reach its server; called just before it does."""
        there = {i for rows in self.content(line.server).values() for i in rows}
        # to delete what is not there changes nothing
        self.sent |= {i for i in ids if "/" not in i and (name != "delete" or i in there)}
        if line.process.promotes and name in MARKING:
            return  # its mark
        state, turned = self.store.direction(), self.is_turned()
        primary = self.servers[turned]
        at = self.store.now()
        match state.state:
            case DirectionState.FOLLOWING:
                wrong = line.server is primary
            case DirectionState.PROMOTING:
                wrong = state.writers_until is None or at >= state.writers_until
            case _:
                wrong = True
        if wrong:
            which = self.servers.index(line.server) + 1
            self.wrong.append(f"{name} {list(ids)} to server {which}, {state}")

    def check(self) -> None:
        """What holds at all times."""
        told = "\n".join(self.log)
        assert not self.wrong, f"{self.wrong}\n{told}"
        assert self.may_turn or not self.is_turned(), told
        if self.used is self.first and self.is_turned():
            return  # the operator does not know it yet
        assert self.content(self.used) == self.acknowledged, told
        if self.used is self.second:
            theirs = self.content(self.first)
            for name, rows in self.late.items():
                kept = {i: theirs.get(name, {}).get(i) for i in rows}
                assert kept == rows, f"only the former primary had {rows.keys()}\n{told}"

    # ---- what happens --------------------------------------------------------------------------

    def act(self, name: str, cut: Cut | None = None) -> None:
        """Let one thing happen."""
        self.log.append(f"{'  ' * self._depth}{name} {cut or ''}")
        match name:
            case "old" | "new":
                self.cycle(cut, turned=name == "new")
            case "switchover" | "failover":
                self.promote(cut, planned=name == "switchover")
            case "write":
                self.write()
            case "create":
                self.create()
            case "wait":
                self.clock.skip(self.chance.choice([5.0, 40.0, 200.0]))
            case "cancel":
                if self.store.cancel_promotion():
                    self._follow()
            case "leave":
                self.away = [self.first]
            case "return":
                self.away = []

    def nested(self, acts: Sequence[str]) -> None:
        """What happens while a process stands still."""
        self._depth += 1
        try:
            for name in acts:
                self.act(name)
        finally:
            self._depth -= 1

    def write(self) -> None:
        """The application adds, changes or deletes records."""
        if self.stopped or self.used in self.away:
            return
        self.lossless = False
        made = self.collections(self.used)[self.chance.choice(list(self.acknowledged))]
        known = list(self.acknowledged[made.name])
        some = self.chance.sample(known, min(len(known), self.chance.randrange(1, 4)))
        match self.chance.choice(["add", "update", "delete"]):
            case "update" if some:
                self._put(made, some)
            case "delete" if len(known) > 4:
                self.used.remove(made, some[:1])
                self.touched.add(some[0])
            case _:
                self._put(made, [f"{made.name}{next(self._numbers)}"])
        self.acknowledged = self.content(self.used)

    def create(self) -> None:
        """The application makes another collection."""
        if not (self.stopped or self.used in self.away):
            self.lossless = False
            name = f"made{next(self._numbers)}"
            self._put(self.used.make(name), [f"{name}-{n}" for n in range(3)])
            self.acknowledged = self.content(self.used)

    def _put(self, made: Collection, ids: Sequence[str]) -> None:
        vectors = [[float(self.chance.randrange(-9, 9)), 1.0, 2.0] for _ in ids]
        words = [f"w{next(self._numbers)}" for _ in ids]
        rows = [record(i, w, {}, None, v) for i, w, v in zip(ids, words, vectors, strict=True)]
        self.used.put(made, joined(*rows))
        self.touched |= set(ids)

    def cycle(self, cut: Cut | None = None, *, turned: bool) -> CycleReport | None:
        """A service runs one cycle; None if it could not."""
        self.may_turn |= turned
        process = Process(self, cut)
        before, self.sent, self.touched = self.differing(), set(), set()
        participant = self.participant(process, turned=turned)
        report = None
        try:
            with swept(participant):
                try:
                    report = participant.run_cycle(Quiet())
                finally:
                    if not process.dead:
                        participant.__exit__(None, None, None)
        except (Killed, ChromasyncError) as error:
            self.log.append(f"{'  ' * self._depth}  -> {error!r}")
        if turned and self._depth == 0 and not (cut and cut.meanwhile):
            surplus = self.sent - before - self.touched
            assert not surplus, f"only differences travel: {surplus}\n" + "\n".join(self.log)
        return report

    def participant(self, process: Process, *, turned: bool) -> role.Participant:
        """A service in this process."""
        sides = self.servers[::-1] if turned else self.servers
        held: Any = Held(self.store, process)
        primary, replica = (Line(s, side, process) for s, side in zip(sides, Side, strict=True))
        return role.Participant(primary, replica, held, self.settings(turned=turned))

    def promote(self, cut: Cut | None = None, *, planned: bool) -> None:
        """An operator promotes the replica; in a switchover the application stops first."""
        self.stopped |= planned
        self.lossless = planned and self.used is self.first and not self.away
        process = Process(self, cut, promotes=True)
        report = None
        try:
            report = self.promotion(process, planned=planned).run("ann@here")
        except (Killed, KeyboardInterrupt, ChromasyncError) as error:
            self.log.append(f"{'  ' * self._depth}  -> {error!r}")
        if report is not None:
            self.log.append(f"{'  ' * self._depth}  -> {report.outcome} {report.reason}")
        promoted = report is not None and report.outcome in (
            PromoteOutcome.PROMOTED, PromoteOutcome.ALREADY,
        )  # fmt: skip
        if promoted:
            self._move(report)
        elif not process.dead:
            self._follow()

    def promotion(self, process: Process, *, planned: bool) -> Promotion:
        """A run of `promote` in this process."""
        primary = Line(self.first, Side.PRIMARY, process)
        replica = Line(self.second, Side.REPLICA, process)
        held: Any = Held(self.store, process)
        settings = self.settings(turned=False)
        look = partial(take_snapshot, held, settings)

        def cycle(full: bool) -> CycleReport:
            return self._fencing_cycle(process, full=full)

        def fence() -> FenceReport:
            return Fence(held.now(), cycle, look, threading.Event()).wait(Quiet())

        verifier = Verifier(primary, replica, settings, list)
        checks = Checks(fence, lambda: verifier.verify(Quiet())) if planned else None
        return Promotion(
            primary,
            replica,
            held,
            settings,
            look=look,
            checks=checks,
            anyway=True,
            progress=Quiet(),
        )

    def _fencing_cycle(self, process: Process, *, full: bool) -> CycleReport:
        """A cycle of the fence; whoever leads is frozen, and is replaced after a while."""
        self.clock.skip(30.0)  # chunks of a frozen worker are not verified while its lease lasts
        while True:
            participant = self.participant(process, turned=False)
            try:
                with swept(participant):
                    try:
                        return participant.run_cycle(Quiet(), full=full)
                    finally:
                        if not process.dead:
                            participant.__exit__(None, None, None)
            except AnotherInstance:
                self.clock.skip(LEAD_SECONDS)

    # ---- the operator ---------------------------------------------------------------------------

    def learn(self) -> None:
        """The operator looks at the status."""
        state = self.store.direction().state
        if state is DirectionState.PROMOTED or self.is_turned():
            self._move(None)

    def _move(self, report: PromoteReport | None) -> None:
        """The application uses the promoted server from now on."""
        self.stopped = False
        if self.used is self.second:
            return
        one, two = map(self.content, self.servers)
        if self.lossless and report is not None and report.direction.planned:
            assert two == one, "\n".join(["a switchover lost something", *self.log])
        if not self.is_turned():
            self.late = {
                name: {i: row for i, row in rows.items() if two.get(name, {}).get(i) != row}
                for name, rows in one.items()
            }
        self.used, self.acknowledged = self.second, two

    def _follow(self) -> None:
        """The promotion was given up, so the application goes on where it was."""
        if self.store.direction().is_following and not self.is_turned():
            self.stopped = False

    def settle(self) -> None:
        """Promote at last, turn round, and decide for the promoted side until both are equal."""
        self.away, self.stopped = [], False
        self.clock.skip(3600.0)
        self.learn()
        for name in ("old", self.chance.choice(["switchover", "failover"]), "failover"):
            if self.used is self.first:
                self.act(name)
                self.check()
        for name in ("old", "write", "cancel", "write", "old"):
            self.act(name)
            self.check()
        self.clock.skip(300.0)
        report = self.as_planned()
        for _ in range(8):
            self.check()
            self.act("old")
            self.clock.skip(300.0)
            if report is not None and report.exit_code == 0:
                break
            self._decide()
            report = self.cycle(turned=True)
        told = "\n".join([*self.log, str(report)])
        assert self.content(self.first) == self.acknowledged, told
        assert self.content(self.second) == self.acknowledged, told

    def as_planned(self) -> CycleReport | None:
        """A cycle that turns the direction, or goes on after that, and does what was planned."""
        settings = self.settings(turned=True)
        primary, replica = (
            Line(server, side, Process(self, None))
            for server, side in zip(self.servers[::-1], Side, strict=True)
        )
        before = self.store.direction()
        plan = plan_next_cycle(self.store, primary, replica, settings, Quiet())
        assert self.store.direction() == before
        report = self.cycle(turned=True)
        told = "\n".join([*self.log, str(plan), str(report)])
        assert report is not None, told
        counts = report.counts
        assert sum(p.create for p in plan.collections) == counts.inserted, told
        assert sum(p.update for p in plan.collections) == counts.updated + counts.replaced, told
        assert sum(p.delete - p.held_count for p in plan.collections) == counts.deleted, told
        held = {(hold.tenant, hold.database, hold.collection_name) for hold in report.holds}
        assert {(p.tenant, p.database, p.name) for p in plan.collections if p.held} == held, told
        return report

    def _decide(self) -> None:
        """Someone takes the side of the promoted server."""
        self.late = {}
        for hold in self.store.holds():
            self.store.approve(hold)


def _rows(records: Records) -> dict[str, tuple[Any, ...]]:
    assert records.embeddings is not None
    rows = zip(records.ids, records.documents, records.embeddings.tolist(), strict=True)
    return {i: (document, tuple(vector)) for i, document, vector in rows}


@contextmanager
def world_of(folder: Path, seed: int, **flags: str) -> Iterator[World]:
    """A world after its first cycle; in the end its store is closed."""
    clock = Clock()
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        store = open_store(folder / "state.db")
        stack.callback(store.close)
        clock.rule(patch)
        clock.rule_store(store)
        patch.setattr(fencing, "BETWEEN_SECONDS", 0.0)
        patch.setattr(import_module("chromasync.verify"), "SETTLE_SECONDS", 0.0)
        patch.setattr(pool, "IDLE_SECONDS", 0.02)
        patch.setattr(attempt, "STORE_RETRY_SECONDS", 0.02)
        world = World(store, clock, random.Random(seed), flags)
        world.act("old")
        world.act("old")
        yield world

"""A deployment in memory: a clock, what is wrong, a store of alerts, and a receiver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from chromasync.alerts import AlertWatcher, Rhythm
from chromasync.alerts.kinds import ABOUT, AlertKind
from chromasync.alerts.messages import Message
from chromasync.alerts.state import Phase
from chromasync.errors import AlertNotTaken
from chromasync.model import (
    Alert,
    ControlRow,
    Cycle,
    CycleStatus,
    Hold,
    HoldKind,
    MirrorStatus,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.ports import Store
from chromasync.reports import CollectionReport, StatusSnapshot

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def snapshot(now: datetime = NOON, **changes: Any) -> StatusSnapshot:
    """A deployment in which nothing is wrong."""
    cycle = Cycle(7, now - timedelta(minutes=2), CycleStatus.COMPLETED, now - timedelta(minutes=1))
    values: dict[str, Any] = {
        "taken_at": now,
        "identical_as_of": now,
        "lag_seconds": 0.0,
        "collections": (),
        "workers": (beat(last_heartbeat_at=now),),
        "tasks": TaskCounts(),
        "cycles": (cycle,),
        "holds": (),
        "quarantined": (),
        "store": "sqlite:///state.db",
        "clean_at": cycle.started_at,
        "alert_lag_seconds": 900.0,
        "latest_as_of": now,
        "control": ControlRow(),
    }
    return StatusSnapshot(**(values | changes))


def hold(name: str = "docs", kind: HoldKind = HoldKind.DELETES, **changes: Any) -> Hold:
    """A hold of 350 records of a collection."""
    values: dict[str, Any] = {
        "collection_id": f"id-{name}",
        "collection_name": name,
        "kind": kind,
        "count": 350,
        "reason": "350 of 600 records are gone",
        "held_at": NOON,
        "tenant": "default_tenant",
        "database": "default_database",
        "set_digest": "3f9a1b2c4d5e",
    }
    return Hold(**(values | changes))


def collection(name: str = "docs", **changes: Any) -> CollectionReport:
    """An identical collection with 600 records."""
    values: dict[str, Any] = {
        "collection_id": f"id-{name}",
        "tenant": "default_tenant",
        "database": "default_database",
        "name": name,
        "status": MirrorStatus.IDENTICAL,
        "primary_count": 600,
        "replica_count": 600,
        "identical_as_of": NOON,
    }
    return CollectionReport(**(values | changes))


def beat(name: str = "host", **changes: Any) -> WorkerBeat:
    """The heartbeat of an active process with two threads."""
    first = WorkerBeat(
        f"{name}:42:1.0:abcd1234", WorkerStatus.ACTIVE, None, 100.0, 5.0, name, 42, "1", NOON
    )
    return replace(replace(first, role="worker", threads=2), **changes)


@dataclass
class Told:
    """One message as the receiver understands it."""

    at: datetime
    kind: AlertKind
    phase: Phase
    names: tuple[str, ...]
    message: Message


@dataclass
class Listener:
    """A receiver that takes everything, unless it is away."""

    world: World
    name: str = "webhook"
    place: str = "listener"
    is_away: bool = False
    told: list[Told] = field(default_factory=list)

    def send(self, message: Message) -> None:
        if self.is_away:
            raise AlertNotTaken("The listener is away.")
        title = message.title.partition(": ")[2]
        lasts = title.startswith("Still: ")
        title = title.removeprefix("Still: ")
        for kind, about in ABOUT.items():
            if title in {about.title, about.over}:
                over = Phase.ENDED if title == about.over else Phase.BEGINS
                phase = Phase.LASTS if lasts else over
                names = tuple(re.findall(r"`([a-z0-9:-]+)`", message.text))
                self.told.append(Told(self.world.now, kind, phase, names, message))
                return
        raise AssertionError(f"nobody knows what {title!r} means")

    def phases(self) -> list[str]:
        """What it was told, in order."""
        return [told.phase.value for told in self.told]


@dataclass
class World:
    """What is wrong now, and what the store knows; `Store` as far as the watcher needs it."""

    now: datetime = NOON
    changes: dict[str, Any] = field(default_factory=dict)
    rows: dict[tuple[str, str, str], Alert] = field(default_factory=dict)
    holder: str = ""

    def take(self) -> StatusSnapshot:
        return snapshot(self.now, **self.changes)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def watcher(self, *receivers: Listener, holder: str = "me") -> AlertWatcher:
        """A process that looks when it is told to."""
        rhythm = Rhythm(pause=0.0)
        store = cast("Store", self)
        return AlertWatcher(
            store, self.take, receivers, holder=holder, place="chromasync", rhythm=rhythm
        )

    def lead_alerts(self, holder: str, ttl_seconds: float, patience_seconds: float) -> bool:
        self.holder = self.holder or holder
        return self.holder == holder

    def give_up_alerts(self, holder: str) -> None:
        self.holder = ""

    def alerts(self) -> list[Alert]:
        return list(self.rows.values())

    def save_alerts(self, holder: str, changed: Sequence[Alert]) -> bool:
        if self.holder != holder:
            return False
        self.rows |= {(a.receiver, a.kind, a.subject): a for a in changed}
        return True

    def forget_alerts(self, keep_seconds: float) -> None:
        old = self.now - timedelta(seconds=keep_seconds)
        self.rows = {k: a for k, a in self.rows.items() if not a.over_at or a.over_at >= old}


def look(watcher: AlertWatcher) -> None:
    """One look, and the end of what it sent."""
    watcher.look()
    for delivery in watcher._deliveries:
        delivery.wait(60)

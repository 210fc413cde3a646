"""The watcher: looks at the store every few seconds, and has alerts told.

One process of a deployment tells them: the one with the lease `alerts` (`store.alerts`). Every
process with a receiver in its settings tries to get it, workers included. So "the coordinator was
lost" is told by whoever is left. All memory is in the store; a process that takes over goes on
where the last one stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from chromasync.alerts.delivery import FIRST_PAUSE_SECONDS, Delivery
from chromasync.alerts.kinds import AlertKind, Condition
from chromasync.alerts.messages import compose
from chromasync.alerts.receivers import Receiver
from chromasync.alerts.rules import find_conditions
from chromasync.alerts.state import Due, Key, Times, key_of, next_message, note_told, observe
from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import Alert
from chromasync.ports import Store
from chromasync.repeated import Repeated
from chromasync.reports import StatusSnapshot

DRAIN_SECONDS = 3.0
"""Longest wait at the end for messages that are being sent; the process has tasks to hand back."""

Alerts = dict[Key, Alert]

_KINDS = frozenset(AlertKind)

log = get_logger()


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The times of a watcher, in seconds.

    Attributes:
        look: pause between two looks.
        lease: the lease of the process that tells alerts.
        patience: how long a free lease is left to the leader.
        pause: rest after a receiver did not take a message, at first.
        times: those of the state machine.
    """

    look: float = 15.0
    lease: float = 60.0
    patience: float = 30.0
    pause: float = FIRST_PAUSE_SECONDS
    times: Times = field(default_factory=Times)


class AlertWatcher:
    """A context manager with a thread that looks and tells until it is left.

    Without receivers it does nothing.

    Args:
        take: takes a status snapshot.
        holder: the name of this process, as in `Control.take_lead`.
        place: the deployment in words, for the title of messages.
    """

    def __init__(
        self,
        store: Store,
        take: Callable[[], StatusSnapshot],
        receivers: Sequence[Receiver],
        *,
        holder: str,
        place: str,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._store = store
        self._take = take
        self._holder = holder
        self._place = place
        self._rhythm = rhythm or Rhythm()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._looks = Repeated(Event.NO_LOOK_FOR_ALERTS, "the look for alerts")
        self._deliveries = [
            Delivery(receiver, self._wake.set, self._rhythm.pause) for receiver in receivers
        ]
        self._thread = threading.Thread(target=self._run, name="alert-watcher", daemon=True)

    def __enter__(self) -> Self:
        if self._deliveries:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(2 * DRAIN_SECONDS)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._try(self.look)
            self._wake.wait(self._rhythm.look)
            self._wake.clear()
        deadline = time.monotonic() + DRAIN_SECONDS
        for delivery in self._deliveries:
            delivery.wait(max(0.0, deadline - time.monotonic()))
        self._try(self._leave)

    def _try(self, step: Callable[[], None]) -> None:
        """Do a step; no failure of alerts ends or delays the service."""
        try:
            step()
        except ChromasyncError as error:
            self._looks.failed(str(error))
        except Exception:
            log.exception(Event.ALERT_FAILED)
        else:
            self._looks.succeeded()

    def look(self) -> None:
        """One look: what is wrong now, what was told, and what must be told next."""
        taken = self._taken()
        rhythm = self._rhythm
        if not self._store.lead_alerts(self._holder, rhythm.lease, rhythm.patience):
            self._put_down(taken)
            return
        seen = self._take()
        conditions = find_conditions(seen)
        known = self._store.alerts()
        after = self._observed(known, taken, conditions, seen.taken_at)
        due = {
            delivery: message
            for delivery in self._deliveries
            if delivery.is_free or delivery in taken
            if (message := self._next(delivery, after, seen.taken_at)) is not None
        }
        changed = _changed(known, after) + self._removed(known, seen.taken_at)
        if (changed or due) and not self._store.save_alerts(self._holder, changed):
            return
        self._put_down(taken)
        by_key = {(str(c.kind), c.subject): c for c in conditions}
        for delivery, message in due.items():
            delivery.carry(message, compose(message, by_key, self._place))
        self._forget_old(known, seen.taken_at)

    def _taken(self) -> dict[Delivery, Due]:
        """What receivers took since the last look; more may come during this one."""
        taken = {delivery: delivery.taken for delivery in self._deliveries}
        return {delivery: due for delivery, due in taken.items() if due is not None}

    def _observed(
        self,
        known: Sequence[Alert],
        taken: Mapping[Delivery, Due],
        conditions: Sequence[Condition],
        now: datetime,
    ) -> dict[str, Alerts]:
        """The alerts of each receiver after this look, with what it took since the last one."""
        after = {}
        for delivery in self._deliveries:
            name = delivery.receiver.name
            mine = _noted(known, delivery, taken.get(delivery))
            after[name] = observe(name, mine, conditions, now, self._rhythm.times)
        return after

    def _next(self, delivery: Delivery, after: Mapping[str, Alerts], now: datetime) -> Due | None:
        return next_message(after[delivery.receiver.name].values(), now, self._rhythm.times)

    def _removed(self, known: Iterable[Alert], now: datetime) -> list[Alert]:
        """The alerts of receivers that are no longer in the settings; nobody is told their end."""
        names = {delivery.receiver.name for delivery in self._deliveries}
        return [
            replace(a, over_at=now) for a in known if a.receiver not in names and a.over_at is None
        ]

    def _put_down(self, taken: Iterable[Delivery]) -> None:
        for delivery in taken:
            delivery.put_down()

    def _forget_old(self, known: Sequence[Alert], now: datetime) -> None:
        keep = self._rhythm.times.memory
        if any(a.over_at and (now - a.over_at).total_seconds() > keep for a in known):
            self._store.forget_alerts(keep)

    def _leave(self) -> None:
        """Note what was taken at the end, and let another process tell the alerts."""
        taken = self._taken()
        if taken:
            known = self._store.alerts()
            after = {c.receiver.name: _noted(known, c, due) for c, due in taken.items()}
            self._store.save_alerts(self._holder, _changed(known, after))
        self._store.give_up_alerts(self._holder)


def _noted(known: Iterable[Alert], delivery: Delivery, taken: Due | None) -> Alerts:
    """The alerts of one receiver, and that it took this message; later versions' kinds are left."""
    name = delivery.receiver.name
    mine = {key_of(a): a for a in known if a.receiver == name and a.kind in _KINDS}
    return mine if taken is None else note_told(mine, taken)


def _changed(known: Iterable[Alert], after: Mapping[str, Alerts]) -> list[Alert]:
    there = set(known)
    return [alert for those in after.values() for alert in those.values() if alert not in there]

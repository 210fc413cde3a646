"""What a receiver was told about a condition, and what it must be told next; pure.

Each receiver has its own alerts, so one that is away does not change what others are told. An alert
of one kind and one subject goes through these states (`model.Alert` has the fields):

    state     condition    fields                leads to
    waiting   holds        not told, not ended   told, when its message was taken
    told      holds        told                  told again a day later; quiet when it ends
    quiet     is away      told, ended           told, if it comes back in time; else over
    back      was there    told, ended, back     waiting, when its former end was told
    passed    is away      not told, ended       waiting, if it comes back; told, if it was due;
                                                 else over, without a word
    over      is away      over                  waiting, if it comes back; deleted later

A condition is *due* when it has lasted as long as its kind demands (`About.after_seconds`). It is
*away* when a look does not find it. After the *quiet time* its end is decided: if it comes back
later, that is a new alert, which is told after the end, even when it has left again by then. The
quiet time is ten minutes. It doubles each time when the alert came back within a day after its end
was told. So what comes and goes all day long is told a few times only.

All alerts of one kind that are due share a message. After a message, the next one of the same kind
waits for a while, the longer the more there were within a day. So 1,500 collections that fail one
after the other make a few messages.

Invariants, for one receiver:

* No end without a beginning; between two beginnings of one alert is its end.
* No two equal messages within the repeat time (23 hours: alerts of one kind that were told within
  an hour are repeated together). The end of an alert and its return within this time are told; they
  become rarer each time.
* A condition that was due is told, even when it ended before the receiver could be reached.

What can fail:

* The receiver is away: nothing counts as told, and the message is made anew at each try.
* The answer of the receiver is lost, or the process dies after the receiver took the message and
  before the store knows it: the message is sent again. This is the one case of a duplicate. To lose
  an alert would be worse.
* Nobody looks for a time: conditions that came and went meanwhile were never seen.
* A process is frozen, and another one takes its place: the store refuses what the first one notes.
  At most the message that it was sending arrives twice.
* The clock goes back: instants in the future become now, so that waits begin again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from chromasync.alerts.kinds import ABOUT, AlertKind, Condition
from chromasync.model import Alert

Key = tuple[str, str]
MOST_DOUBLINGS = 12


@dataclass(frozen=True, slots=True)
class Times:
    """All times of the state machine, in seconds.

    Attributes:
        quiet: how long a condition must stay away until its end is told, at first.
        longest_quiet: the same at most.
        repeat: after so long an alert is told again.
        together: alerts that would be repeated within this time are repeated together.
        spacing: pause after a message until the next one of its kind, at first.
        longest_spacing: the same at most.
        memory: for so long an ended alert is remembered.
    """

    quiet: float = 600.0
    longest_quiet: float = 43_200.0
    repeat: float = 86_400.0
    together: float = 3600.0
    spacing: float = 300.0
    longest_spacing: float = 3600.0
    memory: float = 86_400.0


class Phase(StrEnum):
    """What a message says about its alerts; in the order of sending."""

    BEGINS = "begins"
    ENDED = "ended"
    LASTS = "lasts"


@dataclass(frozen=True, slots=True)
class Due:
    """A message that a receiver must get now: alerts of one kind, oldest first."""

    kind: AlertKind
    phase: Phase
    alerts: tuple[Alert, ...]
    at: datetime


def key_of(alert: Alert) -> Key:
    """The key of an alert among those of its receiver."""
    return alert.kind, alert.subject


# ---- a look ----------------------------------------------------------------------------------


def observe(
    receiver: str,
    known: Mapping[Key, Alert],
    conditions: Iterable[Condition],
    now: datetime,
    times: Times,
) -> dict[Key, Alert]:
    """The alerts of a receiver after a look that found these conditions."""
    found = {(str(c.kind), c.subject): c for c in conditions}
    after: dict[Key, Alert] = {}
    for key, alert in known.items():
        dated = _dated(alert, now)
        after[key] = (
            _met(dated, found[key], now, times) if key in found else _away(dated, now, times)
        )
    for key, condition in found.items():
        if key not in known:
            after[key] = Alert(receiver, *key, condition.name, condition.sentence, since_at=now)
    return after


def _look_at(alert: Alert, found: Condition | None, now: datetime, times: Times) -> Alert:
    return _away(alert, now, times) if found is None else _met(alert, found, now, times)


def _met(alert: Alert, condition: Condition, now: datetime, times: Times) -> Alert:
    if alert.over_at is not None:
        came_back = alert.return_count + (alert.told_at is not None)
        return _begun(alert, condition, now, came_back)
    if alert.ended_at is None:
        return alert
    has_left = _passed(alert.ended_at, now) >= _quiet_seconds(alert, times)
    if has_left and alert.told_at is not None:
        return alert if alert.back_at is not None else replace(alert, back_at=now)
    if has_left and not _was_due(alert, now):
        return _begun(alert, condition, now, alert.return_count)
    return replace(alert, ended_at=None)


def _begun(alert: Alert, condition: Condition, now: datetime, return_count: int) -> Alert:
    return Alert(
        alert.receiver,
        alert.kind,
        alert.subject,
        condition.name,
        condition.sentence,
        since_at=now,
        return_count=min(return_count, MOST_DOUBLINGS),
    )


def _away(alert: Alert, now: datetime, times: Times) -> Alert:
    if alert.over_at is not None:
        return alert
    if alert.ended_at is None:
        return replace(alert, ended_at=now)
    untold = alert.told_at is None and not _was_due(alert, now)
    if untold and _passed(alert.ended_at, now) >= _quiet_seconds(alert, times):
        return replace(alert, over_at=now)
    return alert


def _was_due(alert: Alert, now: datetime) -> bool:
    """Whether it lasted, or has lasted, long enough to be told."""
    return (
        _passed(alert.since_at, alert.ended_at or now) >= ABOUT[AlertKind(alert.kind)].after_seconds
    )


def _quiet_seconds(alert: Alert, times: Times) -> float:
    return min(times.quiet * (1 << alert.return_count), times.longest_quiet)


def _dated(alert: Alert, now: datetime) -> Alert:
    """The alert without instants in the future."""

    def past(instant: datetime | None) -> datetime | None:
        return None if instant is None else min(instant, now)

    dated = replace(
        alert,
        since_at=min(alert.since_at, now),
        ended_at=past(alert.ended_at),
        told_at=past(alert.told_at),
        over_at=past(alert.over_at),
        back_at=past(alert.back_at),
    )
    return alert if dated == alert else dated


def _passed(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()


# ---- messages --------------------------------------------------------------------------------


def next_message(alerts: Iterable[Alert], now: datetime, times: Times) -> Due | None:
    """The next message for a receiver; None while there is nothing to tell."""
    by_kind: dict[AlertKind, list[Alert]] = {kind: [] for kind in AlertKind}
    for alert in sorted(alerts, key=lambda a: (a.since_at, a.name, a.subject)):
        by_kind[AlertKind(alert.kind)].append(alert)
    for phase in Phase:
        for kind, those in by_kind.items():
            due = _due(phase, those, now, times)
            if due:
                return Due(kind, phase, tuple(due), now)
    return None


def _due(phase: Phase, those: Sequence[Alert], now: datetime, times: Times) -> list[Alert]:
    match phase:
        case Phase.BEGINS:
            due = [a for a in _open(those) if a.told_at is None and _was_due(a, now)]
            told = {a.told_at for a in those if a.told_at is not None}
            return due if _may_follow(told, now, times) else []
        case Phase.ENDED:
            due = [a for a in _open(those) if a.told_at is not None and _is_gone(a, now, times)]
            told = {a.over_at for a in those if a.told_at is not None and a.over_at is not None}
            return due if _may_follow(told, now, times) else []
        case Phase.LASTS:
            ages = {
                key_of(a): _passed(a.told_at, now)
                for a in _open(those)
                if a.told_at is not None and a.ended_at is None
            }
            if max(ages.values(), default=0.0) < times.repeat:
                return []
            least = times.repeat - times.together
            return [a for a in those if ages.get(key_of(a), 0.0) >= least]


def _open(those: Iterable[Alert]) -> Iterator[Alert]:
    return (alert for alert in those if alert.over_at is None)


def _is_gone(alert: Alert, now: datetime, times: Times) -> bool:
    """Whether its end is decided."""
    ended_at = alert.ended_at
    return ended_at is not None and _passed(ended_at, now) >= _quiet_seconds(alert, times)


def _may_follow(told: set[datetime], now: datetime, times: Times) -> bool:
    """Whether a message may follow those that were told at these instants."""
    lately = [at for at in told if now - at < timedelta(seconds=times.memory)]
    if not lately:
        return True
    doublings = min(len(lately) - 1, MOST_DOUBLINGS)
    pause = min(times.spacing * (1 << doublings), times.longest_spacing)
    return _passed(max(lately), now) >= pause


def note_told(known: Mapping[Key, Alert], due: Due) -> dict[Key, Alert]:
    """The alerts of a receiver after it took this message."""
    after = dict(known)
    for key in map(key_of, due.alerts):
        alert = known.get(key)
        if alert is None or alert.over_at is not None:
            continue
        if due.phase is Phase.ENDED:
            after[key] = _over(alert, due.at)
        else:
            after[key] = replace(alert, told_at=due.at, told_count=alert.told_count + 1)
    return after


def _over(alert: Alert, at: datetime) -> Alert:
    """The alert after its end was told; it waits again if it came back before that."""
    if alert.back_at is None:
        return replace(alert, over_at=at)
    return Alert(
        alert.receiver,
        alert.kind,
        alert.subject,
        alert.name,
        alert.message,
        since_at=alert.back_at,
        return_count=min(alert.return_count + 1, MOST_DOUBLINGS),
    )

"""The rules: which conditions a status snapshot shows; pure.

Each rule looks at one kind. Docs/operations.md explains each kind to operators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime

from chromasync.alerts.kinds import AlertKind, Condition
from chromasync.alerts.words import MOST_NAME, coded, counted, quoted
from chromasync.memory import MEMORY_SHARE
from chromasync.model import (
    DECISIONS,
    PRIMARY_EMPTY,
    CycleStatus,
    Hold,
    MirrorStatus,
    Quarantined,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.reports import CollectionReport, StatusSnapshot
from chromasync.trials import trial_of
from chromasync.wording.concerns import ONLY_COPY, SHOWN_DIGEST, WAYS_OUT, held_words
from chromasync.wording.words import duration, moment

LOST_SECONDS = 3600.0
"""A lost process is reported for so long after its last heartbeat."""

LET_THROUGH = "`chromasync status` shows it; to let it through once: {command}"
DEFAULT_PLACE = ("default_tenant", "default_database")

_NEVER = datetime.min.replace(tzinfo=UTC)
_PLANNERS = {"single", "coordinator"}
_ALIVE = {WorkerStatus.ACTIVE, WorkerStatus.DRAINING}
_PLAIN = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}")


def find_conditions(seen: StatusSnapshot) -> list[Condition]:
    """Everything that is wrong at this instant, by kind and then by name."""
    return [condition for rule in _RULES for condition in rule(seen)]


# ---- holds -----------------------------------------------------------------------------------


def _undecided(seen: StatusSnapshot) -> Iterator[Condition]:
    places = _places(seen)
    for hold in _waiting(seen):
        if hold.kind in DECISIONS:
            yield _held(AlertKind.UNDECIDED, hold, places, "")


def _limited(seen: StatusSnapshot) -> Iterator[Condition]:
    places = _places(seen)
    for hold in _waiting(seen):
        if hold.kind not in DECISIONS:
            yield _held(AlertKind.HELD, hold, places, f"{held_words(hold)}, because ")


def _waiting(seen: StatusSnapshot) -> list[Hold]:
    """The holds that need a person; self-tests look after their own."""
    return [
        hold
        for hold in seen.holds
        if not hold.unconfirmed and hold.approved_digest is None
        if not trial_of(hold.collection_name)
    ]


def _places(seen: StatusSnapshot) -> Mapping[str, set[str]]:
    """The held collections by name: those of several databases may share one."""
    places: dict[str, set[str]] = {}
    for hold in seen.holds:
        places.setdefault(hold.collection_name, set()).add(hold.full_name)
    return places


def _held(kind: AlertKind, hold: Hold, places: Mapping[str, set[str]], what: str) -> Condition:
    name = coded(hold.collection_name)
    if hold.tenant:
        name = _collection_name(hold.tenant, hold.database, hold.collection_name)
    usual = WAYS_OUT.get(hold.kind, LET_THROUGH)
    way = ONLY_COPY if hold.reason == PRIMARY_EMPTY else usual
    command = f"`chromasync approve {_argument(hold, places)}@{hold.set_digest[:SHOWN_DIGEST]}`"
    return Condition(
        kind,
        f"{hold.collection_id} {hold.kind}",
        name,
        counted(hold.count, "record"),
        f"{name}: {what}{quoted(hold.reason)}. {way.format(command=command)}.",
    )


def _argument(hold: Hold, places: Mapping[str, set[str]]) -> str:
    """The collection as an argument of `approve`: its name, or its id if a shell may misread it."""
    is_unique = len(places[hold.collection_name]) == 1
    name = hold.collection_name if is_unique else hold.full_name
    return name if _is_typed(name) else quoted(hold.collection_id)


def _is_typed(name: str) -> bool:
    """Whether a name may stand in a command that is copied into a shell."""
    return len(name) <= MOST_NAME and _PLAIN.fullmatch(name) is not None


# ---- collections -----------------------------------------------------------------------------


def _unfinished(seen: StatusSnapshot) -> Iterator[Condition]:
    """Collections with an error, out of date by themselves."""
    for one in _in_state(seen, MirrorStatus.ERROR):
        as_of = one.identical_as_of
        age = None if as_of is None else (seen.taken_at - as_of).total_seconds()
        if age is not None and age <= seen.alert_lag_seconds:
            continue
        name = _name(one)
        since = "It was never identical" if age is None else f"It is {duration(age)} old"
        why = quoted(one.message) or "The last cycle did not finish it"
        sentence = f"{name}: {why}. {since}. Other collections are mirrored."
        yield Condition(AlertKind.COLLECTION_FAILS, one.collection_id, name, since, sentence)


def _unanswering(seen: StatusSnapshot) -> Iterator[Condition]:
    for one in _in_state(seen, MirrorStatus.UNANSWERING):
        name = _name(one)
        rebuilt = one.name if _is_typed(one.name) else "NAME"
        sentence = (
            f"{name}: the replica has {counted(one.replica_count, 'record')}, but its index does "
            f"not answer queries as it must. Applications must not use it. `chromasync sync "
            f"--rebuild {rebuilt}` builds it anew beside the old one."
        )
        figure = counted(one.replica_count, "record")
        yield Condition(AlertKind.UNANSWERING, one.collection_id, name, figure, sentence)


def _quarantined(seen: StatusSnapshot) -> Iterator[Condition]:
    first: dict[str, Quarantined] = {}
    for record in seen.quarantined:
        first.setdefault(record.collection_id, record)
    for one in seen.collections:
        if one.collection_id not in first or trial_of(one.name):
            continue
        record = first[one.collection_id]
        name, count = _name(one), counted(one.quarantined, "record")
        sentence = (
            f"{name}: {count}, for example {coded(record.record_id)}: {quoted(record.reason)}. "
            "All other records are mirrored. Correct the record on the primary; the next cycle "
            "tries it again when it has changed."
        )
        yield Condition(AlertKind.QUARANTINED, one.collection_id, name, count, sentence)


def _in_state(seen: StatusSnapshot, status: MirrorStatus) -> Iterable[CollectionReport]:
    return (c for c in seen.collections if c.status is status and not trial_of(c.name))


def _name(collection: CollectionReport) -> str:
    return _collection_name(collection.tenant, collection.database, collection.name)


def _collection_name(tenant: str, database: str, name: str) -> str:
    is_default = (tenant, database) == DEFAULT_PLACE
    return coded(name if is_default else f"{tenant}/{database}/{name}")


# ---- cycles ----------------------------------------------------------------------------------


def _lag(seen: StatusSnapshot) -> Iterator[Condition]:
    """The newest completed cycle is too old; before the first one, only `_failing` tells.

    Nothing is too old after a promotion, because nothing is mirrored any more.
    """
    if seen.clean_at is None or seen.is_fresh or not seen.direction.is_following:
        return
    age = (seen.taken_at - seen.clean_at).total_seconds()
    if age < 0:
        what = (
            f"The newest completed cycle began at {moment(seen.clean_at)}, in the future: a clock "
            "has jumped. The next cycle reads and checks everything again."
        )
    else:
        what = (
            f"The newest completed cycle began {duration(age)} ago, at {moment(seen.clean_at)}; "
            f"SYNC_ALERT_LAG is {duration(seen.alert_lag_seconds)}. Changes of the primary since "
            "then may be missing."
        )
    figure = duration(abs(age))
    yield Condition(AlertKind.LAG, "", "", figure, f"{what} {_why_no_cycle(seen)}")


def _why_no_cycle(seen: StatusSnapshot) -> str:
    """What is in the way of the next completed cycle, and what to do about it."""
    if seen.is_paused:
        return _say_paused(seen)
    newest = seen.cycles[0] if seen.cycles else None
    if newest is not None and newest.status is CycleStatus.RUNNING:
        since = duration(_seconds_since(newest.started_at, seen))
        return (
            f"Cycle {newest.id} has been running for {since}; `chromasync status` shows its "
            "progress. If cycles always take that long, set SYNC_ALERT_LAG higher, or add workers."
        )
    failed = seen.last_ended
    if failed is not None and failed.status is CycleStatus.FAILED:
        why = f": {quoted(failed.error)}" if failed.error else ""
        return f"The last cycle failed{why}. `chromasync status` has the reasons."
    return "No cycle is running. Look whether the coordinator runs, and at its log."


def _say_paused(seen: StatusSnapshot) -> str:
    control = seen.control
    who = coded(control.paused_by or "?")
    since = f" since {moment(control.paused_at)}" if control.paused_at else ""
    why = f" ({quoted(control.pause_reason)})" if control.pause_reason else ""
    until = f" until {moment(control.paused_until)}" if control.paused_until else ""
    return f"It is paused by {who}{since}{until}{why}; `chromasync resume` ends the pause."


def _failing(seen: StatusSnapshot) -> Iterator[Condition]:
    """The last cycle could not be carried out at all, so nothing was finished."""
    last = seen.last_ended
    if last is None or last.status is not CycleStatus.FAILED or not last.error:
        return
    failed = 0
    for cycle in seen.cycles:
        if cycle.status is CycleStatus.COMPLETED:
            break
        failed += cycle.status is CycleStatus.FAILED
    times = "The last cycle" if failed <= 1 else f"The last {failed:,} cycles"
    more = " or more" if failed == len(seen.cycles) and failed > 1 else ""
    sentence = (
        f"{times}{more} failed, the newest one for this reason: {quoted(last.error)}. "
        "The replica stays as it is; cycles are tried again by themselves."
    )
    yield Condition(AlertKind.CYCLE_FAILS, "", "", counted(failed, "cycle"), sentence)


# ---- processes -------------------------------------------------------------------------------


def _no_worker(seen: StatusSnapshot) -> Iterator[Condition]:
    """Nobody is alive who could do a task; a coordinator may only plan."""
    if not seen.workers or any(_works(w) for w in seen.workers):
        return
    last = max(map(_beat_at, seen.workers))
    planner = " The coordinator runs, but does no tasks itself." if _alive(seen) else ""
    sentence = (
        f"No process has given a sign of life since {moment(last)} that could copy records."
        f"{planner} Nothing is lost; start `chromasync run`."
    )
    yield Condition(AlertKind.NO_WORKER, "", "", "", sentence)


def _works(worker: WorkerBeat) -> bool:
    """Whether a process is alive that does tasks; an older version does not say its threads."""
    return worker.status in _ALIVE and (worker.threads > 0 or not worker.role)


def _alive(seen: StatusSnapshot) -> list[WorkerBeat]:
    return [worker for worker in seen.workers if worker.status in _ALIVE]


def _coordinator_lost(seen: StatusSnapshot) -> Iterator[Condition]:
    """The process that planned last is dead, and no other one plans."""
    planners = [worker for worker in seen.workers if worker.role in _PLANNERS]
    newest = max(planners, key=_beat_at, default=None)
    alive = any(worker.status in _ALIVE for worker in planners)
    if newest is None or alive or newest.status is not WorkerStatus.DEAD:
        return
    left = counted(len(_alive(seen)), "process")
    sentence = (
        f"{_process(newest)} planned the cycles. It ended or froze without a word after "
        f"{moment(_beat_at(newest))}, and no other coordinator is running; {left} left. Start it "
        "again, and look at the end of its log."
    )
    yield Condition(AlertKind.COORDINATOR_LOST, "", "", "", sentence)


def _lost(seen: StatusSnapshot) -> Iterator[Condition]:
    """Hosts with a process that ended without a word; one alert for a process that keeps dying."""
    by_host: dict[str, list[WorkerBeat]] = {}
    for worker in seen.workers:
        if _is_lost(worker, seen):
            by_host.setdefault(worker.hostname, []).append(worker)
    left = counted(len(_alive(seen)), "process")
    for host, lost in sorted(by_host.items()):
        newest = max(lost, key=_beat_at)
        often = f" {len(lost):,} processes were lost there within an hour." if lost[1:] else ""
        sentence = (
            f"{_process(newest)} ended or froze without a word after {moment(_beat_at(newest))}."
            f"{often} Other processes take over its tasks; {left} active. Look at the end of its "
            "log, and at the memory limit of its container."
        )
        figure = counted(len(lost), "process")
        yield Condition(AlertKind.WORKER_LOST, host, coded(host), figure, sentence)


def _is_lost(worker: WorkerBeat, seen: StatusSnapshot) -> bool:
    is_dead = worker.status is WorkerStatus.DEAD
    return is_dead and _seconds_since(_beat_at(worker), seen) <= LOST_SECONDS


def _near_limit(seen: StatusSnapshot) -> Iterator[Condition]:
    for worker in _alive(seen):
        limit = worker.memory_limit_mb
        if not limit or worker.memory_mb < MEMORY_SHARE * limit:
            continue
        share = f"{worker.memory_mb / limit:.0%}"
        sentence = (
            f"{_process(worker)} uses {worker.memory_mb:,.0f} of {limit:,.0f} MB ({share}). At the "
            "limit the system ends it. Give it more memory, or set SYNC_WORKERS or "
            "SYNC_CHUNK_SIZE lower."
        )
        yield Condition(AlertKind.MEMORY, worker.worker_id, _process(worker), share, sentence)


def _process(worker: WorkerBeat) -> str:
    return coded(f"{worker.hostname}:{worker.pid}")


def _beat_at(worker: WorkerBeat) -> datetime:
    return worker.last_heartbeat_at or _NEVER


def _seconds_since(instant: datetime, seen: StatusSnapshot) -> float:
    return (seen.taken_at - instant).total_seconds()


_RULES: tuple[Callable[[StatusSnapshot], Iterable[Condition]], ...] = (
    _undecided,
    _limited,
    _no_worker,
    _coordinator_lost,
    _lag,
    _failing,
    _unfinished,
    _unanswering,
    _lost,
    _near_limit,
    _quarantined,
)

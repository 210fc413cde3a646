"""What the templates show: the snapshot with its sentences, for one reader's choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chromasync.model import CycleStatus, Hold, MirrorStatus, OpCounts, WorkerBeat, WorkerStatus
from chromasync.reports import CollectionReport, StatusSnapshot
from chromasync.web.choice import ATTENTION, Choice, choose
from chromasync.web.snapshots import Latest
from chromasync.wording.assessment import assess, clock
from chromasync.wording.concerns import STATES, held_words, hold_name, hold_sentences
from chromasync.wording.freshness import reread_sentence
from chromasync.wording.words import number, plain, plural

SHOWN_QUARANTINED = 50
SHOWN_ERRORS = 20
LEVELS: Mapping[MirrorStatus, str] = {
    MirrorStatus.IDENTICAL: "good",
    MirrorStatus.NEW: "busy",
    MirrorStatus.SYNCING: "busy",
    MirrorStatus.LIMITED: "warn",
    MirrorStatus.HELD: "warn",
    MirrorStatus.VANISHED: "warn",
}
"""How urgent a state is; those that are not here are bad."""
GONE = {WorkerStatus.STOPPED}


@dataclass(frozen=True, slots=True)
class HoldView:
    """One hold with its sentences, and what its button confirms."""

    hold: Hold
    name: str
    what: str
    sentences: Sequence[str]
    may_approve: bool


@dataclass(frozen=True, slots=True)
class CycleView:
    """The newest cycle; `share` and `left_seconds` are None while they are unknown."""

    id: int
    is_running: bool
    is_deserted: bool
    seconds: float
    done: int
    total: int
    failed: int
    share: float | None
    left_seconds: float | None
    counts: OpCounts
    status: str
    error: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One process with its shares of memory and of the tasks of all."""

    beat: WorkerBeat
    memory_share: float | None
    task_share: float | None


def aged(latest: Latest) -> StatusSnapshot | None:
    """The snapshot as of now: what was seen before the store was lost grows old, too."""
    now = latest.now
    if latest.snapshot is None or now is None:
        return None
    return replace(latest.snapshot, taken_at=now, lag_seconds=latest.lag_seconds)


def view_of(snapshot: StatusSnapshot, choice: Choice) -> dict[str, Any]:
    """All that the live part of the page shows."""
    counts = _running_counts(snapshot)
    return {
        "now": snapshot.taken_at,
        "seen": snapshot,
        "assessment": assess(snapshot),
        "as_of": _clock_of(snapshot),
        "primary_count": sum(c.primary_count for c in snapshot.collections),
        "replica_count": sum(c.replica_count for c in snapshot.collections),
        "identical_count": sum(c.status is MirrorStatus.IDENTICAL for c in snapshot.collections),
        "cycle": _cycle_view(snapshot, counts),
        "holds": [_hold_view(hold, snapshot) for hold in snapshot.holds],
        "quarantined": _quarantined(snapshot),
        "more_quarantined": max(0, len(snapshot.quarantined) - SHOWN_QUARANTINED),
        "choice": choice,
        "shown": choose(snapshot.collections, choice),
        "states": _state_choices(snapshot),
        "state_words": STATES,
        "levels": LEVELS,
        "workers": _workers(snapshot),
        "errors": _errors(snapshot),
        "reread": reread_sentence(snapshot),
    }


def _clock_of(snapshot: StatusSnapshot) -> str:
    as_of = snapshot.identical_as_of
    return "" if as_of is None else clock(as_of, snapshot.taken_at)


def _running_counts(snapshot: StatusSnapshot) -> OpCounts:
    return sum((c.counts for c in snapshot.collections), OpCounts())


def _cycle_view(snapshot: StatusSnapshot, counts: OpCounts) -> CycleView | None:
    if not snapshot.cycles:
        return None
    cycle, tasks = snapshot.cycles[0], snapshot.tasks
    running = cycle.status is CycleStatus.RUNNING
    end = snapshot.taken_at if cycle.finished_at is None else cycle.finished_at
    seconds = max(0.0, (end - cycle.started_at).total_seconds())
    done = tasks.completed + tasks.failed
    share = done / tasks.total if running and tasks.total else None
    left = seconds * (1 - share) / share if share else None
    return CycleView(
        cycle.id,
        running,
        snapshot.is_deserted,
        seconds,
        done,
        tasks.total,
        tasks.failed,
        share,
        None if snapshot.is_deserted else left,
        counts if running else cycle.counts,
        cycle.status.value,
        plain(cycle.error or ""),
    )


def _hold_view(hold: Hold, snapshot: StatusSnapshot) -> HoldView:
    waits = not hold.unconfirmed and hold.approved_digest is None and bool(hold.set_digest)
    sentences = hold_sentences(hold, snapshot.holds)
    return HoldView(hold, hold_name(hold), held_words(hold), sentences, waits)


def _quarantined(snapshot: StatusSnapshot) -> list[tuple[str, str, str, str]]:
    names = {c.collection_id: plain(c.name) for c in snapshot.collections}
    return [
        (
            names.get(one.collection_id, "?"),
            plain(one.record_id),
            "not on the replica" if one.absent else "older on the replica",
            plain(one.reason),
        )
        for one in snapshot.quarantined[:SHOWN_QUARANTINED]
    ]


def _state_choices(snapshot: StatusSnapshot) -> list[tuple[str, str]]:
    """The states that something is in, with their number, for the filter."""
    found: dict[MirrorStatus, int] = {}
    for collection in snapshot.collections:
        found[collection.status] = found.get(collection.status, 0) + 1
    others = sum(n for status, n in found.items() if status is not MirrorStatus.IDENTICAL)
    return [
        ("", f"all states ({number(len(snapshot.collections))})"),
        (ATTENTION, f"not identical ({number(others)})"),
        *((status.value, f"{STATES[status]} ({number(n)})") for status, n in sorted(found.items())),
    ]


def _workers(snapshot: StatusSnapshot) -> list[WorkerView]:
    listed = [worker for worker in snapshot.workers if worker.status not in GONE]
    done = sum(worker.tasks_done for worker in listed)
    return [
        WorkerView(
            worker,
            worker.memory_mb / worker.memory_limit_mb if worker.memory_limit_mb else None,
            worker.tasks_done / done if done else None,
        )
        for worker in listed
    ]


def _errors(snapshot: StatusSnapshot) -> list[tuple[str, str]]:
    """What went wrong lately: failed cycles and what collections report, the newest first."""
    cycles = [
        (f"Cycle {cycle.id}, {cycle.status}", plain(cycle.error))
        for cycle in snapshot.cycles
        if cycle.error
    ]
    told = [
        (_place(collection), plain(collection.message))
        for collection in sorted(snapshot.collections, key=_urgency)
        if collection.message
    ]
    found = [*cycles, *told]
    if len(found) > SHOWN_ERRORS:
        rest = plural(len(found) - SHOWN_ERRORS, "more message")
        found = [*found[:SHOWN_ERRORS], ("…", f"{rest}; chromasync status --json has all.")]
    return found


def _place(collection: CollectionReport) -> str:
    return plain(f"{collection.tenant}/{collection.database}/{collection.name}")


def _urgency(collection: CollectionReport) -> int:
    return ["bad", "warn", "busy", "good"].index(LEVELS.get(collection.status, "bad"))

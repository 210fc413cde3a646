"""The status at one instant, from the store alone: nobody is asked, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chromasync.config import Role, Settings
from chromasync.ledger.plan import reread_cycles
from chromasync.model import (
    Cycle,
    CycleStatus,
    Hold,
    Mirror,
    OpCounts,
    Quarantined,
    Suspicion,
    TaskCounts,
)
from chromasync.plan.clock import known
from chromasync.plan.pairing import is_superseded
from chromasync.ports import Store
from chromasync.reports import CollectionReport, StatusSnapshot, oldest
from chromasync.trials import trial_of

CYCLES_SHOWN = 10
CYCLES_SEARCHED = 1_000
"""So many of the newest cycles may have failed before the last completed one is not known."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What the store knows of the collections that the settings name."""

    mirrors: tuple[Mirror, ...]
    holds: tuple[Hold, ...]
    quarantined: tuple[Quarantined, ...]


def look_at_mirrored(store: Store, settings: Settings) -> Mirrored:
    """Leave out collections that are not mirrored any more: what is left as it is cannot fail.

    Those that a self-test left behind are not mirrored, either.

    Raises:
        StoreError: the store cannot be read.
    """
    every = store.mirrors()
    mirrored_trials = {"", *store.live_trials()}
    left = {
        m.collection_id
        for m in every
        if is_superseded(m)
        or trial_of(m.name) not in mirrored_trials
        or not (settings.covers(m.tenant, m.database) and settings.wants_collection(m.name))
    }
    return Mirrored(
        tuple(m for m in every if m.collection_id not in left),
        tuple(
            hold
            for hold in store.holds()
            if trial_of(hold.collection_name) in mirrored_trials and _concerns(hold, settings)
        ),
        tuple(q for q in store.quarantined() if q.collection_id not in left),
    )


def _concerns(hold: Hold, settings: Settings) -> bool:
    """Whether a hold is about what the settings name; one without a place is about everything."""
    chosen = settings.covers(hold.tenant, hold.database)
    return not hold.tenant or (chosen and settings.wants_collection(hold.collection_name))


def report_mirror(
    mirror: Mirror,
    holds: Iterable[Hold],
    quarantined: Iterable[Quarantined],
    counts: OpCounts,
    notes: Iterable[str] = (),
) -> CollectionReport:
    """One collection for people."""
    key = mirror.collection_id
    words = [*notes, *([mirror.last_error] if mirror.last_error else [])]
    if mirror.unanswering:
        words.append(_say_unanswering(mirror, mirror.unanswering))
    if mirror.reduced_count:
        words.append(
            f"{mirror.reduced_count:,} records are without metadata that the replica's server "
            "cannot store, such as lists."
        )
    return CollectionReport(
        collection_id=key,
        tenant=mirror.tenant,
        database=mirror.database,
        name=mirror.name,
        status=mirror.status,
        primary_count=mirror.primary_count,
        replica_count=mirror.replica_count,
        identical_as_of=mirror.identical_as_of,
        counts=counts,
        quarantined=sum(q.collection_id == key for q in quarantined),
        held=sum(h.count for h in holds if h.collection_id == key),
        message=" ".join(words),
    )


def _say_unanswering(mirror: Mirror, why: str) -> str:
    """What to say of a replica that has the records and does not answer."""
    return (
        f"The replica has the records, and its index does not answer: {why.removesuffix('.')}. "
        f"`chromasync sync --rebuild {mirror.name}` builds it anew beside the old one."
    )


def take_snapshot(store: Store, settings: Settings) -> StatusSnapshot:
    """Everything that the store knows, at one instant.

    Raises:
        StoreError: the store cannot be read.
    """
    taken_at = store.now()
    found = look_at_mirrored(store, settings)
    waits = say_what_waits(store)
    cycles = tuple(store.cycles(CYCLES_SHOWN))
    counts = store.cycle_counts(cycles[0].id) if cycles else {}
    collections = tuple(
        report_mirror(
            replace(m, identical_as_of=known(m.identical_as_of, taken_at)),
            found.holds,
            found.quarantined,
            counts.get(m.collection_id, OpCounts()),
            waits.get(m.collection_id, ()),
        )
        for m in found.mirrors
    )
    as_of = oldest(c.identical_as_of for c in collections)
    clean_at = _clean_at(cycles) or _clean_at(store.cycles(CYCLES_SEARCHED))
    return StatusSnapshot(
        taken_at=taken_at,
        identical_as_of=as_of,
        lag_seconds=None if as_of is None else (taken_at - as_of).total_seconds(),
        collections=collections,
        workers=tuple(store.workers()),
        tasks=store.task_counts(cycles[0].id) if cycles else TaskCounts(),
        cycles=cycles,
        holds=found.holds,
        quarantined=found.quarantined,
        store=settings.shown_store_url,
        reread_seconds=reread_seconds(store, settings, found.mirrors),
        clean_at=clean_at,
        alert_lag_seconds=settings.alert_lag_seconds,
        warnings=() if clean_at is None else _warn_of_names(found.mirrors, settings),
        latest_as_of=max(
            (m.identical_as_of for m in found.mirrors if m.identical_as_of), default=None
        ),
    )


def say_what_waits(store: Store) -> dict[str, list[str]]:
    """By collection, one sentence about chunks that nobody can vouch for yet, and until when."""
    return {key: [_what_waits(one)] for key, one in store.suspicions().items()}


def _what_waits(suspicion: Suspicion) -> str:
    count = "1 chunk" if suspicion.chunks == 1 else f"{suspicion.chunks:,} chunks"
    if suspicion.until_at is None:
        return f"The next cycle compares {count} on both sides."
    until = suspicion.until_at.astimezone(UTC)
    return (
        f"A worker that was called back may write until {until:%Y-%m-%d %H:%M:%S} UTC; "
        f"the first cycle after that compares {count} on both sides."
    )


def _warn_of_names(mirrors: Iterable[Mirror], settings: Settings) -> tuple[str, ...]:
    """Each name in SYNC_INCLUDE that no mirrored collection has, as far as the store knows."""
    return tuple(
        f"SYNC_INCLUDE names {pattern!r}, and no collection of such a name is mirrored; mind that "
        "patterns are case-sensitive."
        for pattern in settings.unmatched(mirror.name for mirror in mirrors)
    )


def _clean_at(cycles: Iterable[Cycle]) -> datetime | None:
    """When the newest completed of these cycles began."""
    completed = (c.started_at for c in cycles if c.status is CycleStatus.COMPLETED)
    return next(completed, None)


def reread_seconds(store: Store, settings: Settings, mirrors: Iterable[Mirror]) -> float | None:
    """Within how many seconds every record is read again; None when that is never."""
    if settings.sync_scrub_budget == 0:
        return None
    heads = [head for m in mirrors for head in store.chunk_heads(m.collection_id)]
    cycles = reread_cycles(heads, scrub_budget_seconds(store, settings))
    return None if cycles == float("inf") else cycles * settings.sync_interval


def scrub_budget_seconds(store: Store, settings: Settings) -> float:
    """Seconds of reading per cycle that unchanged content may cost, all workers together.

    Every process at work is taken to have as many threads as this one is set to.
    """
    share_seconds = settings.sync_scrub_budget * settings.sync_interval
    return share_seconds * settings.sync_workers * _processes_at_work(store, settings)


def _processes_at_work(store: Store, settings: Settings) -> int:
    if settings.role is Role.SINGLE:
        return 1
    planners = 0 if settings.sync_coordinator_works else 1
    return max(1, store.active_workers() - planners)

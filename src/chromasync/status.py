"""The status at one instant, from the store alone: nobody is asked, nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from chromasync.config import Role, Settings
from chromasync.ledger.plan import reread_cycles
from chromasync.model import (
    SILENT_SECONDS,
    Hold,
    Mirror,
    OpCounts,
    Quarantined,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.ports import Store
from chromasync.reports import CollectionReport, PlacedHold, StatusSnapshot, oldest

CYCLES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What the store knows of the collections that the settings name."""

    mirrors: tuple[Mirror, ...]
    holds: tuple[PlacedHold, ...]
    quarantined: tuple[Quarantined, ...]


def look_at_mirrored(store: Store, settings: Settings) -> Mirrored:
    """Leave out collections that are not mirrored any more: what is left as it is cannot fail.

    Raises:
        StoreError: the store cannot be read.
    """
    every = store.mirrors()
    left = {
        m.collection_id
        for m in every
        if not (settings.covers(m.tenant, m.database) and settings.wants_collection(m.name))
    }
    return Mirrored(
        tuple(m for m in every if m.collection_id not in left),
        tuple(
            hold
            for hold in place_holds(store.holds(), every)
            if hold.collection_id not in left and settings.wants_collection(hold.collection_name)
        ),
        tuple(q for q in store.quarantined() if q.collection_id not in left),
    )


def place_holds(holds: Iterable[Hold], mirrors: Iterable[Mirror]) -> list[PlacedHold]:
    """Holds with tenant and database, as far as a mirror knows them."""
    places = {m.collection_id: (m.tenant, m.database) for m in mirrors}
    placed = [(hold, *places.get(hold.collection_id, ("", ""))) for hold in holds]
    return [PlacedHold(**asdict(h), tenant=tenant, database=name) for h, tenant, name in placed]


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


def take_snapshot(store: Store, settings: Settings) -> StatusSnapshot:
    """Everything that the store knows, at one instant.

    Raises:
        StoreError: the store cannot be read.
    """
    taken_at = store.now()
    known = look_at_mirrored(store, settings)
    cycles = tuple(store.cycles(CYCLES_SHOWN))
    counts = store.cycle_counts(cycles[0].id) if cycles else {}
    collections = tuple(
        report_mirror(m, known.holds, known.quarantined, counts.get(m.collection_id, OpCounts()))
        for m in known.mirrors
    )
    as_of = oldest(c.identical_as_of for c in collections)
    return StatusSnapshot(
        taken_at=taken_at,
        identical_as_of=as_of,
        lag_seconds=None if as_of is None else (taken_at - as_of).total_seconds(),
        collections=collections,
        workers=tuple(look_at_workers(store, taken_at)),
        tasks=store.task_counts(cycles[0].id) if cycles else TaskCounts(),
        cycles=cycles,
        holds=known.holds,
        quarantined=known.quarantined,
        store=settings.shown_store_url,
        reread_seconds=reread_seconds(store, settings, known.mirrors),
    )


def look_at_workers(store: Store, now: datetime) -> list[WorkerBeat]:
    """All known workers; silent ones are dead, though the last of all left nobody to say so."""
    alive = (WorkerStatus.ACTIVE, WorkerStatus.DRAINING)
    since = now - timedelta(seconds=SILENT_SECONDS)
    return [
        replace(worker, status=WorkerStatus.DEAD)
        if worker.status in alive and (worker.last_heartbeat_at or now) < since
        else worker
        for worker in store.workers()
    ]


def active_workers(store: Store) -> int:
    """How many processes are at work now."""
    workers = look_at_workers(store, store.now())
    return sum(worker.status is WorkerStatus.ACTIVE for worker in workers)


def reread_seconds(store: Store, settings: Settings, mirrors: Iterable[Mirror]) -> float | None:
    """Within how many seconds every record is read again; None when that is never."""
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
    return max(1, active_workers(store) - planners)

"""Closes the mirrors of a cycle: the state of each, and the instant as of which it is identical.

*Identical as of T* means: every record that the primary did not change since T is the same on the
replica. T is the oldest of the instants at which the ids were walked and each chunk was read whole.
So T moves only after a clean read of everything. Reads of single records do not move it. A
collection with records that were never read is not identical. If an instant lies in the future, or
if the clock jumped during the cycle, T is unknown, and the collection is not identical, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.ledger.plan import has_unread
from chromasync.mirrored import look_at_mirrored, outcome_of, report_mirror, say_what_waits
from chromasync.model import (
    ChunkHead,
    Cycle,
    Deletion,
    DeletionKind,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    StoreSnapshot,
)
from chromasync.plan.clock import known
from chromasync.reports import CycleReport, oldest


def close_mirrors(cycle: CycleWork) -> None:
    """Count the replica's collections, decide the state of each mirror, and store the mirrors."""
    store = cycle.store
    heads = store.heads_of([work.mirror.collection_id for work in cycle.collections])
    done = store.cycle_counts(cycle.cycle.id)
    aside: dict[str, list[Quarantined]] = {}
    for record in store.quarantined():
        aside.setdefault(record.collection_id, []).append(record)
    now = store.now()
    for work in cycle.collections:
        key = work.mirror.collection_id
        counts = done.get(key, OpCounts())
        if counts.applied or work.deleted:
            work.update(last_changed_at=now)
        counted = _count_replica(cycle, work, counts)
        _close(cycle, work, heads[key], aside.get(key, []), now, counted=counted)
    store.save_mirrors([work.mirror for work in cycle.collections])


def _close(
    cycle: CycleWork,
    work: CollectionWork,
    heads: list[ChunkHead],
    quarantined: list[Quarantined],
    finished_at: datetime,
    *,
    counted: bool,
) -> None:
    agrees = work.error is None and _counts_agree(cycle, work, heads, quarantined)
    agrees &= _is_in_place(work)
    as_of = None if cycle.jumped else identical_since(work.mirror, heads, finished_at)
    work.update(
        status=_status(work, heads, quarantined, agrees=agrees and as_of is not None),
        duration_seconds=cycle.seconds,
        settled_cycle=cycle.cycle.id if counted else work.mirror.settled_cycle,
        reduced_count=sum(head.replica.reduced_count for head in heads),
        consecutive_errors=0 if work.error is None else work.mirror.consecutive_errors + 1,
        last_error=None if work.error is None else str(work.error),
        adopting=work.mirror.adopting and not (agrees and _is_adopted(cycle, work)),
    )
    if work.mirror.primary.ordered and _has_live_hints(cycle, work):
        work.update_primary(ordered=False)
    if work.mirror.status is MirrorStatus.IDENTICAL:
        work.update(last_successful_sync_at=finished_at, identical_as_of=as_of)


def _count_replica(cycle: CycleWork, work: CollectionWork, done: OpCounts) -> bool:
    """Count the replica's records; returns whether the count is the one that this cycle left.

    If the cycle added and deleted nothing, the count from its beginning is valid.

    If the collection was dropped during the cycle, that is recorded as its error. If the count was
    not checked at the beginning of the cycle, the former count stays, so that the next cycle can
    check it.
    """
    if work.error is not None and not work.counted:
        return False
    if work.error is None and work.counted and not (done.inserted or done.replaced or work.deleted):
        work.count_is_early = True
        return True
    try:
        work.update(replica_count=cycle.replica.count(work.replica))
    except REFUSALS as error:
        work.error = work.error or error
        return False
    return True


def identical_since(mirror: Mirror, heads: Iterable[ChunkHead], now: datetime) -> datetime | None:
    """The oldest instant of the last reads of all parts; None if any of them is unknown."""
    instants = [mirror.primary.walked_at, *(head.read_at for head in heads)]
    return oldest(known(instant, now) for instant in instants)


def _counts_agree(
    cycle: CycleWork, work: CollectionWork, heads: list[ChunkHead], quarantined: list[Quarantined]
) -> bool:
    """Whether the replica has the number of records that the ledger expects.

    If not, the next cycle walks the replica.
    """
    surplus = sum(len(d.ids) for d in _waiting(cycle, work) if d.chunk_id is None)
    expected = sum(h.count for h in heads) - sum(q.absent for q in quarantined) + surplus
    if work.mirror.replica_count != expected and work.count_is_early:
        # a task that was cut off may have written records, so later tasks had nothing to write
        work.update(replica_count=cycle.replica.count(work.replica))
    if work.mirror.replica_count == expected:
        return True
    work.notes.append(
        f"the replica has {work.mirror.replica_count:,} records where {expected:,} were expected; "
        "the next cycle lists its ids to find them"
    )
    work.update(replica_walked_at=None)
    return False


def _waiting(cycle: CycleWork, work: CollectionWork) -> list[Deletion]:
    """The waiting deletions; read from the store only if some waited after the last task."""
    key = work.mirror.collection_id
    return cycle.store.deletions(key) if key in cycle.waiting else []


def _is_in_place(work: CollectionWork) -> bool:
    """Whether the replica's collection has its final name; if not, a note says why."""
    if work.replica.name == work.mirror.name:
        return True
    work.notes.append(
        f"on the replica it has the name {work.replica.name!r}, because another "
        f"collection there still has the name {work.mirror.name!r}"
    )
    return False


def _is_adopted(cycle: CycleWork, work: CollectionWork) -> bool:
    """Whether the replica's ids were walked and no surplus record waits for an approval."""
    surplus = any(d.kind is DeletionKind.SURPLUS for d in _waiting(cycle, work))
    return work.mirror.replica_walked_at is not None and not surplus


def _status(
    work: CollectionWork,
    heads: list[ChunkHead],
    quarantined: list[Quarantined],
    *,
    agrees: bool,
) -> MirrorStatus:
    first = (
        (work.error is not None, MirrorStatus.ERROR),
        (work.diverged, MirrorStatus.DIVERGED),
        (work.older, MirrorStatus.DOUBTFUL),
        (work.held > 0, MirrorStatus.HELD),
        (work.mirror.unanswering is not None, MirrorStatus.UNANSWERING),
    )
    if state := next((state for applies, state in first if applies), None):
        return state
    if not agrees or any(h.read_at is None or h.replica.suspect or has_unread(h) for h in heads):
        return MirrorStatus.SYNCING
    if quarantined or work.not_carried or any(head.replica.reduced_count for head in heads):
        return MirrorStatus.LIMITED
    return MirrorStatus.IDENTICAL


def _has_live_hints(cycle: CycleWork, work: CollectionWork) -> bool:
    """Whether an id that the walk missed exists, so that the order differs from the ledger's."""
    if not work.hints:
        return False
    deletions = cycle.store.deletions(work.mirror.collection_id)
    waiting: dict[int | None, list[Sequence[str]]] = {}
    for deletion in deletions:
        waiting.setdefault(deletion.chunk_id, []).append(deletion.ids)
    for chunk_id, hinted in work.hints.items():
        chunk = cycle.store.load_chunk(chunk_id)
        known = waiting.get(chunk_id, ())
        if chunk is not None and set(chunk.ids).intersection(hinted).difference(*known):
            return True
    return False


def report_cycle(work: CycleWork, closed: Cycle, seen: StoreSnapshot) -> CycleReport:
    """The report of a closed cycle; `seen` has the counts of its tasks."""
    found = look_at_mirrored(seen, work.settings.scope)
    waits = say_what_waits(seen)
    notes = {w.mirror.collection_id: [*w.notes, *w.not_carried] for w in work.collections}
    more = {
        w.mirror.collection_id: OpCounts(read=w.read, deleted=w.deleted) for w in work.collections
    }
    collections = tuple(
        report_mirror(
            mirror,
            found.holds,
            found.quarantined,
            seen.counts.get(mirror.collection_id, OpCounts())
            + more.get(mirror.collection_id, OpCounts()),
            [*notes.get(mirror.collection_id, ()), *waits.get(mirror.collection_id, ())],
        )
        for mirror in found.mirrors
    )
    as_of = oldest(report.identical_as_of for report in collections)
    return CycleReport(
        cycle=closed,
        outcome=outcome_of(collections, found.holds, failed=closed.error is not None),
        collections=collections,
        holds=found.holds,
        quarantined=found.quarantined,
        warnings=tuple(work.warnings),
        tasks=seen.tasks,
        counts=sum(seen.counts.values(), OpCounts(read=work.read, deleted=work.deleted)),
        duration_seconds=work.seconds,
        identical_as_of=as_of,
        never_reread=work.settings.sync_scrub_budget == 0,
    )

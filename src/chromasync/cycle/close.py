"""The cycle's last room: what each collection came to, and since when it is identical.

*Identical as of T* means: every record that the primary did not change since T is the same on the
replica. T is the oldest of the instants at which the ids were walked and each chunk's content was
read, so it moves only when a clean read has covered everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.model import (
    ChunkHead,
    Cycle,
    DeletionKind,
    Hold,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    TaskCounts,
)
from chromasync.reports import CollectionReport, CycleReport, Outcome, oldest
from chromasync.status import look_at_mirrored, report_mirror


def settle_mirror(cycle: CycleWork, work: CollectionWork) -> None:
    """Count both sides, decide the collection's state, and remember it."""
    heads = cycle.store.chunk_heads(work.mirror.collection_id)
    quarantined = cycle.store.quarantined(work.mirror.collection_id)
    _count_replica(cycle, work)
    agrees = work.error is None and _counts_agree(cycle, work, heads, quarantined)
    agrees &= _is_in_place(work)
    finished_at = cycle.store.now()
    seconds = (finished_at - work.started_at).total_seconds()
    work.update(
        status=_status(work, heads, quarantined, agrees=agrees),
        duration_seconds=seconds,
        reduced_count=sum(head.reduced_count for head in heads),
        consecutive_errors=0 if work.error is None else work.mirror.consecutive_errors + 1,
        last_error=None if work.error is None else str(work.error),
        ordered=work.mirror.ordered and not _has_live_hints(cycle, work),
        adopting=work.mirror.adopting and not (agrees and _is_settled(cycle, work)),
    )
    if work.mirror.status is MirrorStatus.IDENTICAL:
        as_of = identical_since(work.mirror, heads)
        work.update(last_successful_sync_at=finished_at, identical_as_of=as_of)
    cycle.store.save_mirror(work.mirror)


def _count_replica(cycle: CycleWork, work: CollectionWork) -> None:
    """Count what the replica has; a collection that someone dropped meanwhile is an error of it."""
    try:
        work.update(replica_count=cycle.replica.count(work.replica))
    except REFUSALS as error:
        work.error = work.error or error


def identical_since(mirror: Mirror, heads: Iterable[ChunkHead]) -> datetime | None:
    """The oldest instant at which a part of the collection was last read."""
    instants = [mirror.walked_at, *(head.read_at for head in heads)]
    known = [instant for instant in instants if instant is not None]
    return min(known) if len(known) == len(instants) else None


def _counts_agree(
    cycle: CycleWork, work: CollectionWork, heads: list[ChunkHead], quarantined: list[Quarantined]
) -> bool:
    """Whether the replica holds as many records as the ledger says; if not, walk it next time."""
    surplus = sum(
        len(d.ids) for d in cycle.store.deletions(work.mirror.collection_id) if d.chunk_id is None
    )
    expected = sum(h.count for h in heads) - sum(q.absent for q in quarantined) + surplus
    if work.mirror.replica_count == expected:
        return True
    work.notes.append(
        f"the replica has {work.mirror.replica_count:,} records where {expected:,} were expected; "
        "the next cycle looks which"
    )
    work.update(replica_walked_at=None)
    return False


def _is_in_place(work: CollectionWork) -> bool:
    """Whether the replica's collection has its name; if not, say who waits for what."""
    if work.replica.name == work.mirror.name:
        return True
    work.notes.append(
        f"on the replica it stands under the name {work.replica.name!r}, because another "
        f"collection there still has the name {work.mirror.name!r}"
    )
    return False


def _is_settled(cycle: CycleWork, work: CollectionWork) -> bool:
    """Whether the replica's ids were walked and nothing surplus waits for an approval."""
    waiting = cycle.store.deletions(work.mirror.collection_id)
    surplus = any(d.kind is DeletionKind.SURPLUS for d in waiting)
    return work.mirror.replica_walked_at is not None and not surplus


def _status(
    work: CollectionWork,
    heads: list[ChunkHead],
    quarantined: list[Quarantined],
    *,
    agrees: bool,
) -> MirrorStatus:
    if work.error is not None:
        return MirrorStatus.ERROR
    if work.held:
        return MirrorStatus.HELD
    if not agrees or any(head.read_at is None or head.suspect for head in heads):
        return MirrorStatus.SYNCING
    if quarantined or work.not_carried or any(head.reduced_count for head in heads):
        return MirrorStatus.LIMITED
    return MirrorStatus.IDENTICAL


def _has_live_hints(cycle: CycleWork, work: CollectionWork) -> bool:
    """Whether an id that the walk did not see is there all the same: the order is not as kept."""
    if not work.hints:
        return False
    deletions = cycle.store.deletions(work.mirror.collection_id)
    waiting = {record_id for deletion in deletions for record_id in deletion.ids}
    for chunk_id, hinted in work.hints.items():
        chunk = cycle.store.load_chunk(chunk_id)
        if chunk is not None and (hinted - waiting) & set(chunk.ids):
            return True
    return False


def report_cycle(
    work: CycleWork,
    closed: Cycle,
    tasks: TaskCounts,
    counts: dict[str, OpCounts],
) -> CycleReport:
    """What people are told of the cycle."""
    known = look_at_mirrored(work.store, work.settings)
    notes = {w.mirror.collection_id: [*w.notes, *w.not_carried] for w in work.collections}
    deleted = {w.mirror.collection_id: OpCounts(deleted=w.deleted) for w in work.collections}
    collections = tuple(
        report_mirror(
            mirror,
            known.holds,
            known.quarantined,
            counts.get(mirror.collection_id, OpCounts())
            + deleted.get(mirror.collection_id, OpCounts()),
            notes.get(mirror.collection_id, ()),
        )
        for mirror in known.mirrors
    )
    as_of = oldest(report.identical_as_of for report in collections)
    finished_at = closed.finished_at or work.store.now()
    return CycleReport(
        cycle=closed,
        outcome=_outcome(collections, known.holds),
        collections=collections,
        holds=known.holds,
        quarantined=known.quarantined,
        warnings=tuple(work.warnings),
        tasks=tasks,
        counts=sum(counts.values(), OpCounts(deleted=work.deleted)),
        duration_seconds=(finished_at - closed.started_at).total_seconds(),
        identical_as_of=as_of,
    )


def _outcome(collections: Iterable[CollectionReport], holds: tuple[Hold, ...]) -> Outcome:
    states = {report.status for report in collections}
    if MirrorStatus.ERROR in states:
        return Outcome.FAILED
    if holds:
        return Outcome.HELD
    if states - {MirrorStatus.IDENTICAL}:
        return Outcome.LIMITED
    return Outcome.IDENTICAL

"""Reports of mirrored collections, from one snapshot of the store; pure.

A cycle makes them at its end, `status` at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC

from chromasync.config import Scope
from chromasync.model import (
    Hold,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    StoreSnapshot,
    Suspicion,
)
from chromasync.plan.superseded import is_superseded
from chromasync.reports import CollectionReport, Outcome
from chromasync.trials import trial_of


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The state of the collections that the settings select."""

    mirrors: tuple[Mirror, ...]
    holds: tuple[Hold, ...]
    quarantined: tuple[Quarantined, ...]


def look_at_mirrored(seen: StoreSnapshot, scope: Scope) -> Mirrored:
    """Leave out collections that are not mirrored any more: they stay as they are and cannot fail.

    Collections of self-tests that have ended are left out, too.
    """
    mirrored_trials = {"", *seen.live_trials}
    left = {
        m.collection_id
        for m in seen.mirrors
        if is_superseded(m)
        or trial_of(m.name) not in mirrored_trials
        or not scope.includes(m.tenant, m.database, m.name)
    }
    return Mirrored(
        tuple(m for m in seen.mirrors if m.collection_id not in left),
        tuple(
            hold
            for hold in seen.holds
            if trial_of(hold.collection_name) in mirrored_trials and _concerns(hold, scope)
        ),
        tuple(q for q in seen.quarantined if q.collection_id not in left),
    )


def _concerns(hold: Hold, scope: Scope) -> bool:
    """Whether a hold concerns the selected collections; a hold without a place concerns all."""
    place = hold.tenant, hold.database, hold.collection_name
    return not hold.tenant or scope.includes(*place)


def report_mirror(
    mirror: Mirror,
    holds: Iterable[Hold],
    quarantined: Iterable[Quarantined],
    counts: OpCounts,
    notes: Iterable[str] = (),
) -> CollectionReport:
    """The report of one collection."""
    key = mirror.collection_id
    words = [*notes, *([mirror.last_error] if mirror.last_error else [])]
    if mirror.unanswering:
        words.append(_say_unanswering(mirror, mirror.unanswering))
    if mirror.reduced_count:
        words.append(
            f"{mirror.reduced_count:,} records lack metadata that the replica's server cannot "
            "store, such as lists."
        )
    return CollectionReport(
        collection_id=key,
        tenant=mirror.tenant,
        database=mirror.database,
        name=mirror.name,
        status=mirror.status,
        primary_count=mirror.primary.count,
        replica_count=mirror.replica_count,
        identical_as_of=mirror.identical_as_of,
        counts=counts,
        quarantined=sum(q.collection_id == key for q in quarantined),
        held=sum(h.count for h in holds if h.collection_id == key),
        message=" ".join(words),
        dimension=mirror.primary.dimension,
    )


def _say_unanswering(mirror: Mirror, why: str) -> str:
    """The message about a replica that has the records but does not answer queries."""
    return (
        f"The replica has the records, but its index does not answer: {why.removesuffix('.')}. "
        f"`chromasync sync --rebuild {mirror.name}` builds it anew and replaces the old one."
    )


def say_what_waits(seen: StoreSnapshot) -> dict[str, list[str]]:
    """One sentence for each collection with suspect chunks, and until when they stay suspect."""
    return {key: [_what_waits(one)] for key, one in seen.suspicions.items()}


def _what_waits(suspicion: Suspicion) -> str:
    count = "1 chunk" if suspicion.chunks == 1 else f"{suspicion.chunks:,} chunks"
    if suspicion.until_at is None:
        return f"The next cycle compares {count} on both sides."
    until = suspicion.until_at.astimezone(UTC)
    return (
        f"A worker that was called back may write until {until:%Y-%m-%d %H:%M:%S} UTC; "
        f"the first cycle after that compares {count} on both sides."
    )


def outcome_of(
    collections: Iterable[CollectionReport], holds: tuple[Hold, ...], *, failed: bool
) -> Outcome:
    """The outcome of a cycle, from the states of its collections."""
    states = {report.status for report in collections}
    if failed or states & {MirrorStatus.ERROR, MirrorStatus.UNANSWERING}:
        return Outcome.FAILED
    if holds:
        return Outcome.HELD
    if states - {MirrorStatus.IDENTICAL}:
        return Outcome.LIMITED
    return Outcome.IDENTICAL

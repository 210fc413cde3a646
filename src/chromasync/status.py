"""The status at one instant, from the store alone; it asks no server and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from chromasync.config import Scope, Settings
from chromasync.ledger.scrub import reread_seconds
from chromasync.mirrored import (
    Mirrored,
    look_at_mirrored,
    outcome_of,
    report_mirror,
    say_what_waits,
)
from chromasync.model import ChunkCounts, Mirror, OpCounts, StoreSnapshot
from chromasync.plan.clock import known
from chromasync.ports import Store
from chromasync.reports import CollectionReport, CycleReport, StatusSnapshot, lag_between, oldest

CYCLES_SHOWN = 10


def take_snapshot(store: Store, settings: Settings) -> StatusSnapshot:
    """The whole state of the store, as of one instant.

    Raises:
        StoreError: the store cannot be read.
    """
    seen = store.snapshot(CYCLES_SHOWN)
    found = look_at_mirrored(seen, settings.scope)
    collections = _report_collections(seen, found)
    as_of = oldest(c.identical_as_of for c in collections)
    return StatusSnapshot(
        taken_at=seen.taken_at,
        identical_as_of=as_of,
        lag_seconds=lag_between(as_of, seen.taken_at),
        collections=collections,
        workers=seen.workers,
        tasks=seen.tasks,
        cycles=seen.cycles,
        holds=found.holds,
        quarantined=found.quarantined,
        store=settings.store.shown,
        reread_seconds=_reread_seconds(seen, found, settings),
        clean_at=seen.clean_at,
        alert_lag_seconds=settings.alert_lag_seconds,
        warnings=() if seen.clean_at is None else _warn_of_names(found.mirrors, settings.scope),
        latest_as_of=max(
            (m.identical_as_of for m in found.mirrors if m.identical_as_of), default=None
        ),
        control=seen.control,
        direction=seen.direction,
    )


def stored_report(store: Store, settings: Settings, cycle_id: int) -> CycleReport | None:
    """The report of the newest cycle, from the store; None while one is running.

    It lacks the warnings of a cycle, which only its own process knows.

    Args:
        cycle_id: a cycle that has ended; a newer one may have ended since then.
    """
    seen = store.snapshot(1)
    if not seen.cycles or seen.cycles[0].id < cycle_id or seen.cycles[0].finished_at is None:
        return None
    cycle, found = seen.cycles[0], look_at_mirrored(seen, settings.scope)
    collections = _report_collections(seen, found)
    ended_at = cycle.finished_at or seen.taken_at
    return CycleReport(
        cycle=cycle,
        outcome=outcome_of(collections, found.holds, failed=cycle.error is not None),
        collections=collections,
        holds=found.holds,
        quarantined=found.quarantined,
        warnings=_warn_of_names(found.mirrors, settings.scope),
        tasks=seen.tasks,
        counts=cycle.counts,
        duration_seconds=max(0.0, (ended_at - cycle.started_at).total_seconds()),
        identical_as_of=oldest(c.identical_as_of for c in collections),
        never_reread=settings.sync_scrub_budget == 0,
    )


def _report_collections(seen: StoreSnapshot, found: Mirrored) -> tuple[CollectionReport, ...]:
    """All mirrored collections; an instant in the future is not shown."""
    waits = say_what_waits(seen)
    return tuple(
        replace(
            report_mirror(
                replace(m, identical_as_of=known(m.identical_as_of, seen.taken_at)),
                found.holds,
                found.quarantined,
                seen.counts.get(m.collection_id, OpCounts()),
                waits.get(m.collection_id, ()),
            ),
            chunks=seen.chunks.get(m.collection_id, ChunkCounts()),
            probed_cycle=m.probed_cycle,
            unanswering=m.unanswering,
            last_attempt_at=m.last_attempt_at,
            last_changed_at=known(m.last_changed_at, seen.taken_at),
        )
        for m in found.mirrors
    )


def _reread_seconds(seen: StoreSnapshot, found: Mirrored, settings: Settings) -> float | None:
    """Seconds within which every mirrored record is read again; None means never."""
    read_seconds = sum(seen.read_seconds.get(m.collection_id, 0.0) for m in found.mirrors)
    return reread_seconds(settings, seen.active_workers, read_seconds)


def _warn_of_names(mirrors: Iterable[Mirror], scope: Scope) -> tuple[str, ...]:
    """Each pattern in SYNC_INCLUDE that matches no mirrored collection of the store."""
    return tuple(
        f"SYNC_INCLUDE names {pattern!r}, but no mirrored collection matches it; note that "
        "patterns are case-sensitive."
        for pattern in scope.unmatched(mirror.name for mirror in mirrors)
    )

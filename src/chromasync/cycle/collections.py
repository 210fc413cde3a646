"""Ensures that each primary collection has a replica collection with the right definition.

This step drops nothing. If the process dies after it created a collection and before it stored its
id, the next cycle finds the collection by its name and adopts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chromasync import faultpoints
from chromasync.cycle.names import assign_names
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.definition import (
    creatable,
    effective,
    not_held,
)
from chromasync.errors import ChromasyncError, RequestRefused
from chromasync.model import Collection, Definition, Mirror, Side
from chromasync.plan.distance import promise
from chromasync.plan.pairing import Match, Pairing, Pairings, begun, final_name
from chromasync.plan.redefinition import redefinition
from chromasync.plan.superseded import superseded


def ensure_collections(cycle: CycleWork, pairings: Pairings) -> None:
    """Create, adopt, redefine and rename; fills `cycle.collections` for the walks."""
    refused = _ensure_databases(cycle)
    for pairing in pairings.pairings:
        error = refused.get((pairing.primary.tenant, pairing.primary.database))
        if error is None:
            _ensure_collection(cycle, pairing)
        else:
            cycle.refuse(pairing.mirror, error)
    pairings.vanished.extend(cycle.superseded)
    _rename(cycle, pairings)


def _ensure_databases(cycle: CycleWork) -> dict[tuple[str, str], RequestRefused]:
    """Create missing databases; returns those that the replica refuses, such as for a quota."""
    refused = {}
    for place in cycle.primary_listing.databases:
        if place not in cycle.replica_listing.databases:
            try:
                cycle.replica.ensure_database(*place)
            except RequestRefused as error:
                refused[place] = error
                cycle.warnings.append(f"Database {place[1]!r} was not created: {error.what}")
    return refused


def _ensure_collection(cycle: CycleWork, pairing: Pairing) -> None:
    mirror, started_at = pairing.mirror, cycle.cycle.started_at
    definition, not_carried = creatable(pairing.primary, cycle.replica.capabilities())
    if pairing.lost:
        cycle.warnings.append(f"{mirror.name}: {pairing.lost} Copying it anew.")
        _put_aside(cycle, pairing)
    try:
        replica = pairing.replica or _create(cycle, pairing, definition)
        work = CollectionWork(mirror, pairing.primary, replica, started_at)
        lost = not_held(pairing.primary, replica, cycle.replica.capabilities())
        work.not_carried = (*not_carried, *lost, *_misbuilt(cycle, replica))
        work.update(replica_id=replica.id, last_attempt_at=started_at)
        work.update_primary(
            space=effective(pairing.primary).space,
            dimension=pairing.primary.dimension,
            first_cycle=mirror.primary.first_cycle or cycle.cycle.id,
        )
        _remember(cycle, pairing, work)
        _redefine(cycle, work)
    except REFUSALS as error:
        cycle.refuse(mirror, error)
        return
    cycle.collections.append(work)


def _put_aside(cycle: CycleWork, pairing: Pairing) -> None:
    """Take the ledger away from a collection that is copied anew.

    If the former replica collection still exists, it keeps the ledger under a mirror of its own:
    the ledger tells later which of its records this program wrote.
    """
    if pairing.superseded is None:
        cycle.store.forget_chunks(pairing.mirror.collection_id)
        return
    former = superseded(pairing.mirror, pairing.superseded)
    cycle.superseded.append(former)
    cycle.store.save_mirror(former)
    cycle.store.move_ledger(pairing.mirror.collection_id, former.collection_id)


def _create(cycle: CycleWork, pairing: Pairing, definition: Definition) -> Collection:
    named = Definition(
        pairing.create_name,
        definition.tenant,
        definition.database,
        definition.metadata,
        definition.configuration,
        definition.schema,
    )
    created = cycle.replica.create_collection(named)
    cycle.redefined = True
    promised = promise(created, pairing.primary)
    cycle.store.save_distances([promised])
    created = replace(created, live=promised.space)
    cycle.store.remember_ids(cycle.cycle.id, {created.id: Side.REPLICA})
    cycle.replica_listing.collections[created.id] = created
    cycle.counts.note_created(created)
    faultpoints.reach(faultpoints.AFTER_COLLECTION_CREATED)
    return created


def _misbuilt(cycle: CycleWork, replica: Collection) -> Iterator[str]:
    """A note if the server built the index with another distance than requested."""
    space = cycle.misbuilt.get(replica.id)
    if space is not None:
        yield (
            f"The replica's server built an index with the distance {space}, although "
            f"{replica.live} was requested, so queries return other results."
        )


def _remember(cycle: CycleWork, pairing: Pairing, work: CollectionWork) -> None:
    """Store which mirror the replica collection belongs to, before any record is written to it."""
    if pairing.former is not None:
        _take_over(cycle, pairing.former, work)
    if pairing.match is not Match.KEEP:
        work.mirror = begun(work.mirror, pairing.match, work.started_at)
        cycle.store.save_mirror(work.mirror)


def _take_over(cycle: CycleWork, former: Mirror, work: CollectionWork) -> None:
    """Move the ledger of a vanished collection; `plan.heirs` repairs a move that was cut off."""
    cycle.store.save_mirror(work.mirror)
    faultpoints.reach(faultpoints.BETWEEN_LEDGERS)
    cycle.store.move_ledger(former.collection_id, work.mirror.collection_id)


def _redefine(cycle: CycleWork, work: CollectionWork) -> None:
    """Make metadata and changeable configuration equal to the primary's."""
    change = redefinition(work.primary, work.replica, cycle.replica.capabilities())
    if change:
        cycle.redefined = True
        cycle.forget_definition(work)
        cycle.replica.modify_collection(
            work.replica,
            metadata=change.metadata,
            configuration=change.configuration or None,
        )


def _rename(cycle: CycleWork, pairings: Pairings) -> None:
    """Do the renames that need not wait for other steps.

    A name is taken only from a mirror whose own primary collection has another name now. A refused
    rename stops nothing: it is repeated when the collection is complete.
    """
    wanted = {m.replica_id: m.name for m in pairings.excluded if m.replica_id}
    wanted |= {work.replica.id: work.mirror.name for work in cycle.collections}

    def may_take(_: Collection, occupant: Collection) -> bool:
        return wanted.get(occupant.id, occupant.name) != occupant.name

    def refused(replica: Collection, error: ChromasyncError) -> None:
        if all(work.replica.id != replica.id for work in cycle.collections):
            cycle.warnings.append(f"{final_name(replica)} was not renamed: {error.what}")

    cycle.forget_definitions_to_rename()
    for mirror in pairings.excluded:
        cycle.store.save_mirror(replace(mirror, definition_digest=None))
    assign_names(cycle.replica, cycle.replica_listing, wanted, may_take, refused)
    cycle.refresh_replicas()

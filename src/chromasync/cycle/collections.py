"""The cycle's first room: every primary collection gets its replica, with the right definition.

Nothing is dropped here. A crash between creating a collection and remembering its id is mended by
the next cycle, which finds the collection by its name and adopts it.
"""

from __future__ import annotations

from chromasync import faultpoints
from chromasync.config import Settings
from chromasync.cycle.listing import Listing
from chromasync.cycle.names import settle_names
from chromasync.cycle.pairing import Match, Pairing, Pairings, final_name
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.definition import (
    configuration_change,
    creatable,
    effective,
    immutable_differences,
    not_held,
)
from chromasync.errors import ChromasyncError
from chromasync.model import Capabilities, Collection, Definition, MirrorStatus
from chromasync.reconcile.diff import metadata_delta


def why_incompatible(primary: Collection, replica: Collection, server: Capabilities) -> str:
    """Why a replica collection can never become equal to a primary one; empty when it can."""
    if primary.dimension and replica.dimension and primary.dimension != replica.dimension:
        return f"The dimension is {replica.dimension} instead of {primary.dimension}."
    return " ".join(immutable_differences(primary, replica, server))


def warn_of_filters(primary: Listing, settings: Settings) -> tuple[str, ...]:
    """A warning when SYNC_INCLUDE and SYNC_EXCLUDE leave nothing to mirror: a name is misspelt."""
    names = [collection.name for collection in primary.collections.values()]
    if not names or any(map(settings.wants_collection, names)):
        return ()
    which = "the only collection" if len(names) == 1 else f"all {len(names):,} collections"
    return (f"SYNC_INCLUDE and SYNC_EXCLUDE leave out {which} of the primary.",)


def settle_collections(cycle: CycleWork, pairings: Pairings) -> None:
    """Create, adopt, redefine and rename, so that `cycle.collections` is ready for the census."""
    cycle.warnings += warn_of_filters(cycle.primary_listing, cycle.settings)
    for tenant, database in cycle.primary_listing.databases:
        if (tenant, database) not in cycle.replica_listing.databases:
            cycle.replica.ensure_database(tenant, database)
    for pairing in pairings.pairings:
        _settle_one(cycle, pairing)
    _rename(cycle, pairings)


def _settle_one(cycle: CycleWork, pairing: Pairing) -> None:
    mirror, started_at = pairing.mirror, cycle.cycle.started_at
    definition, not_carried = creatable(pairing.primary, cycle.replica.capabilities())
    if pairing.lost:
        cycle.warnings.append(f"{mirror.name}: {pairing.lost} Copying it anew.")
        cycle.store.forget_chunks(mirror.collection_id)
    try:
        replica = pairing.replica or _create(cycle, pairing, definition)
        work = CollectionWork(mirror, pairing.primary, replica, started_at)
        lost = not_held(pairing.primary, replica, cycle.replica.capabilities())
        work.not_carried = (*not_carried, *lost)
        work.update(
            replica_id=replica.id,
            space=effective(pairing.primary).space,
            dimension=pairing.primary.dimension,
            last_attempt_at=started_at,
        )
        _remember(cycle, pairing, work)
        _redefine(cycle, work, definition)
    except REFUSALS as error:
        cycle.refuse(mirror, error)
        return
    cycle.collections.append(work)


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
    cycle.replica_listing.collections[created.id] = created
    faultpoints.reach(faultpoints.AFTER_COLLECTION_CREATED)
    return created


def _remember(cycle: CycleWork, pairing: Pairing, work: CollectionWork) -> None:
    """Store whose replica it is, before any record is written to it."""
    if pairing.match is not Match.KEEP:
        adopted = pairing.match is Match.ADOPT
        work.update(
            status=MirrorStatus.NEW,
            identical_as_of=None,
            replica_walked_at=None if adopted else work.started_at,
            replica_count=0,
            adopting=adopted,
        )
        cycle.store.save_mirror(work.mirror)


def _redefine(cycle: CycleWork, work: CollectionWork, wanted: Definition) -> None:
    """Bring metadata and changeable configuration in line."""
    delta = metadata_delta(dict(wanted.metadata), dict(work.replica.metadata))
    configuration = configuration_change(work.primary, work.replica, cycle.replica.capabilities())
    if delta is not None or configuration:
        cycle.replica.modify_collection(
            work.replica,
            metadata=None if delta is None else wanted.metadata,
            configuration=configuration or None,
        )


def _rename(cycle: CycleWork, pairings: Pairings) -> None:
    """Renames that need nothing to be finished first.

    A name is taken only from a mirror whose own primary collection has another name now. A rename
    that is refused stops nothing: it is asked for again when the collection is complete.
    """
    wanted = {m.replica_id: m.name for m in pairings.excluded if m.replica_id}
    wanted |= {work.replica.id: work.mirror.name for work in cycle.collections}

    def may_take(_: Collection, occupant: Collection) -> bool:
        return wanted.get(occupant.id, occupant.name) != occupant.name

    def refused(replica: Collection, error: ChromasyncError) -> None:
        if all(work.replica.id != replica.id for work in cycle.collections):
            cycle.warnings.append(f"{final_name(replica)} was not renamed: {error.what}")

    settle_names(cycle.replica, cycle.replica_listing, wanted, may_take, refused)
    cycle.refresh_replicas()
    for mirror in pairings.excluded:
        cycle.store.save_mirror(mirror)

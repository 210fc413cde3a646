"""Drops whole collections of the replica, or keeps them under another name for a while.

With SYNC_KEEP_DROPPED, a replaced or dropped collection gets another name instead, and the store
records it as *kept*. A kept collection is hidden from every listing, so it is not mirrored,
counted, held or verified. It is dropped when its time is over.

The store records it before the rename. If the process dies in between, the kept collection still
has its old name, and the next cycle renames it before it looks at any name.
"""

from __future__ import annotations

from datetime import timedelta

from chromasync import faultpoints
from chromasync.cycle.names import rename
from chromasync.cycle.work import REFUSALS, CycleWork
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import Collection, Kept
from chromasync.plan.pairing import final_name, marked

log = get_logger()


def kept_name(collection: Collection) -> str:
    """The name under which a replica collection is kept."""
    return marked(final_name(collection), f"kept-{collection.id.replace('-', '')[:12]}")


def drop_or_keep(cycle: CycleWork, collection: Collection) -> int:
    """Drop or keep one collection of the replica; returns how many records were deleted with it.

    Raises:
        ServerError: the replica refused it; the collection is unchanged.
    """
    if cycle.settings.sync_keep_dropped is not None:
        _keep(cycle, collection, cycle.settings.sync_keep_dropped)
        return 0
    count = cycle.replica.count(collection)
    cycle.replica.drop_collection(collection)
    cycle.replica_listing.collections.pop(collection.id, None)
    return count


def _keep(cycle: CycleWork, collection: Collection, seconds: float) -> None:
    name = kept_name(collection)
    cycle.store.save_kept(Kept(collection.id, collection.tenant, collection.database, name))
    faultpoints.reach(faultpoints.BEFORE_KEEP)
    try:
        rename(cycle.replica, cycle.replica_listing, collection, name)
    except REFUSALS:
        cycle.store.forget_kept(collection.id)
        raise
    cycle.replica_listing.hide([collection.id])
    until = cycle.store.now() + timedelta(seconds=seconds)
    cycle.warnings.append(
        f"{final_name(collection)}: the removed collection is kept on the replica as {name!r} "
        f"until {until:%Y-%m-%d %H:%M:%S} UTC."
    )


def set_kept_apart(cycle: CycleWork) -> None:
    """Hide kept collections from the replica's listing."""
    ids = [one.replica_id for one in cycle.store.kept()]
    cycle.kept = cycle.replica_listing.hide(ids)


def finish_keeping(cycle: CycleWork) -> None:
    """Rename kept collections that still have their old name, so that the name is free."""
    for one in cycle.store.kept():
        collection = cycle.kept.get(one.replica_id)
        if collection is not None and collection.name != one.name:
            cycle.replica.modify_collection(collection, name=one.name)
    if cycle.kept and cycle.settings.sync_keep_dropped is None:
        cycle.warnings.append(
            f"Collections that are kept on the replica: {len(cycle.kept):,}. They stay there, "
            "because SYNC_KEEP_DROPPED is off."
        )


def drop_overdue(cycle: CycleWork) -> None:
    """Drop kept collections whose time is over; the next cycle repeats drops that were refused.

    A cycle with an error drops nothing.
    """
    if cycle.settings.sync_keep_dropped is None or cycle.has_errors:
        return
    for one in cycle.store.overdue_kept(cycle.settings.sync_keep_dropped):
        collection = cycle.kept.get(one.replica_id)
        was_listed = (one.tenant, one.database) in cycle.replica_listing.databases
        if collection is None and not was_listed:
            continue
        try:
            if collection is not None:
                log.info(Event.DROPPING_KEPT, name=one.name)
                cycle.replica.drop_collection(collection)
        except REFUSALS as error:
            cycle.warnings.append(f"{one.name} was not dropped: {error.what}")
        else:
            cycle.store.forget_kept(one.replica_id)

"""Assigns names to replica collections, also names that other collections still have.

Chroma refuses to rename a collection to a taken name, and it cannot swap two names in one call. So
each step frees a name first: the collection that has it is renamed aside, under a name that says
what it is. Every step can be interrupted; the next cycle sees the present names and continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from chromasync import faultpoints
from chromasync.cycle.work import REFUSALS
from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import Collection
from chromasync.plan.listing import Listing, place_of
from chromasync.plan.pairing import final_name, marked
from chromasync.ports import Writer

log = get_logger()

MayTake = Callable[[Collection, Collection], bool]
"""(newcomer, occupant) → whether the newcomer may take the occupant's name now."""
OnRefusal = Callable[[Collection, ChromasyncError], None]
"""Called with each collection whose rename was refused, and the reason."""


def aside_name(collection: Collection) -> str:
    """A free name for a replica collection that loses its name."""
    return marked(final_name(collection), f"old-{collection.id.replace('-', '')[:12]}")


def assign_names(
    writer: Writer,
    replica: Listing,
    wanted: dict[str, str],
    may_take: MayTake,
    refused: OnRefusal,
) -> list[Collection]:
    """Rename replica collections towards their wanted names.

    Args:
        replica: the replica's collections; their names are updated.
        wanted: the wanted name by replica collection id.
        may_take: called for each name that another collection has.
        refused: called for each rename that the server refuses; the others continue.

    Returns:
        Collections that lost their name to another one.
    """
    ousted: list[Collection] = []
    for collection_id, name in wanted.items():
        newcomer = replica.collections[collection_id]
        if newcomer.name == name:
            continue
        try:
            ousted += _give_name(writer, replica, newcomer, name, may_take)
        except REFUSALS as error:
            log.warning(Event.RENAME_REFUSED, place="/".join(place_of(newcomer)), name=name)
            refused(newcomer, error)
    return ousted


def _give_name(
    writer: Writer, replica: Listing, newcomer: Collection, name: str, may_take: MayTake
) -> list[Collection]:
    """Give one collection its name, unless another one has it and `may_take` forbids it."""
    occupant = replica.by_place().get((newcomer.tenant, newcomer.database, name))
    if occupant is None:
        rename(writer, replica, newcomer, name)
        return []
    if not may_take(newcomer, occupant):
        return []
    aside = rename(writer, replica, occupant, aside_name(occupant))
    faultpoints.reach(faultpoints.BETWEEN_RENAMES)
    try:
        rename(writer, replica, newcomer, name)
    except REFUSALS:
        rename(writer, replica, aside, name)
        raise
    return [aside]


def rename(writer: Writer, replica: Listing, collection: Collection, name: str) -> Collection:
    """Rename one replica collection, on the server and in the listing."""
    log.info(Event.RENAMING, place="/".join(place_of(collection)), name=name)
    writer.modify_collection(collection, name=name)
    renamed = replace(collection, name=name)
    replica.collections[collection.id] = renamed
    return renamed

"""Giving replica collections their names, when others may still have them.

Chroma refuses a rename onto a taken name, and two names cannot be swapped in one call. So each step
frees a name first: whoever has it and should not is renamed aside, under a name that says what it
is. Every step can be interrupted; the next cycle sees the names as they are and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from chromasync import faultpoints
from chromasync.cycle.listing import Listing, place_of
from chromasync.cycle.pairing import final_name, marked
from chromasync.model import Collection
from chromasync.ports import Writer

log = structlog.get_logger()

MayTake = Callable[[Collection, Collection], bool]
"""(newcomer, occupant) → whether the occupant's name may be taken from it now."""


def aside_name(collection: Collection) -> str:
    """A free name for a replica collection that must give its name up."""
    return marked(final_name(collection), f"old-{collection.id.replace('-', '')[:12]}")


def settle_names(
    writer: Writer, replica: Listing, wanted: dict[str, str], may_take: MayTake
) -> list[Collection]:
    """Rename replica collections towards their wanted names.

    Args:
        replica: the replica's collections; its names are kept up to date.
        wanted: the wanted name of each replica collection id.
        may_take: asked for each name that another collection has.

    Returns:
        Collections that lost their name to another one.
    """
    ousted: list[Collection] = []
    for collection_id, name in wanted.items():
        newcomer = replica.collections[collection_id]
        if newcomer.name == name:
            continue
        occupant = replica.by_place().get((newcomer.tenant, newcomer.database, name))
        if occupant is not None:
            if not may_take(newcomer, occupant):
                continue
            ousted.append(rename(writer, replica, occupant, aside_name(occupant)))
            faultpoints.reach(faultpoints.BETWEEN_RENAMES)
        rename(writer, replica, newcomer, name)
    return ousted


def rename(writer: Writer, replica: Listing, collection: Collection, name: str) -> Collection:
    """Rename one replica collection, and in the listing too."""
    log.info("renaming on the replica", place="/".join(place_of(collection)), name=name)
    writer.modify_collection(collection, name=name)
    renamed = replace(collection, name=name)
    replica.collections[collection.id] = renamed
    return renamed

"""Turns the direction of the mirror before a cycle, if the settings name the promoted replica."""

from __future__ import annotations

from chromasync.config import Settings
from chromasync.events import Event
from chromasync.ledger.digest import whole_digests
from chromasync.logs import get_logger
from chromasync.marks import REFUSALS, Marks
from chromasync.model import Direction, DirectionState
from chromasync.plan.direction import leads_other_way, promoted_error, turnable
from chromasync.plan.listing import Listing, list_primary, list_replica
from chromasync.plan.mark import Mark
from chromasync.ports import Reader, Store

log = get_logger()


def turn_if_asked(primary: Reader, replica: Reader, store: Store, settings: Settings) -> None:
    """Turn the direction if the replica was promoted and the settings lead the other way.

    Raises:
        ReplicaPromoted: the settings still lead to the promoted replica.
        ServerError: a server cannot be listed.
    """
    promotion = due_turn(primary, replica, store, settings)
    if promotion is not None and turn(store, promotion):
        log.warning(Event.TURNED, primary=settings.primary_url, turns=promotion.turns + 1)


def due_turn(
    primary: Reader, replica: Reader, store: Store, settings: Settings
) -> Direction | None:
    """The promotion after which a cycle turns the direction first; None if the replica follows.

    Raises:
        ReplicaPromoted: the settings still lead to the promoted replica.
        ServerError: a server cannot be listed.
    """
    direction = store.direction()
    if direction.is_following:
        return None
    if direction.state is DirectionState.PROMOTING:
        raise promoted_error(direction)
    if not _leads_other_way(primary, replica, store, settings, direction):
        raise promoted_error(direction)
    return direction


def turn(store: Store, promotion: Direction) -> bool:
    """Exchange both sides in the store after this promotion; whether this call did."""
    return store.turn(promotion.turns, turnable(store.mirrors()), whole_digests)


def _leads_other_way(
    primary: Reader, replica: Reader, store: Store, settings: Settings, direction: Direction
) -> bool:
    ours = list_primary(primary, settings.scope)
    theirs = list_replica(replica, settings.scope, ours)
    return leads_other_way(
        ours.collections,
        theirs.collections,
        store.mirrors(),
        is_marked=any(
            mark.store_id == store.deployment().store_id and mark.promoted == direction.turns
            for mark in _marks_of(primary, ours)
        ),
    )


def _marks_of(primary: Reader, listing: Listing) -> list[Mark]:
    """The marks on the primary; none if it refuses to return them: its collections tell, too."""
    spots = [spot for spot in listing.databases if spot[0] in listing.marked]
    try:
        return list(Marks(primary).read(spots).values())
    except REFUSALS as error:
        log.warning(Event.MARKS_UNREADABLE, reason=str(error))
        return []

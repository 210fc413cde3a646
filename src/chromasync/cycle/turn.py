"""Turns the direction of the mirror before a cycle, if the settings name the promoted replica."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from chromasync.config import Settings
from chromasync.events import Event
from chromasync.ledger.digest import whole_digests
from chromasync.logs import get_logger
from chromasync.marks import REFUSALS, Marks
from chromasync.model import Direction, DirectionState, Mirror
from chromasync.plan.direction import leads_other_way, promoted_error, turnable
from chromasync.plan.listing import Listing, list_primary, list_replica
from chromasync.plan.mark import Mark
from chromasync.plan.places import at_new_places, refuse_wrong_way
from chromasync.ports import Reader, Store
from chromasync.targeted import bare

log = get_logger()


def turn_if_asked(primary: Reader, replica: Reader, store: Store, settings: Settings) -> None:
    """Turn the direction if the replica was promoted and the settings lead the other way.

    Raises:
        ReplicaPromoted: the settings still lead to the promoted replica.
        SettingsError: SYNC_TARGET does not lead back.
        ServerError: a server cannot be listed.
    """
    due = due_turn(primary, replica, store, settings)
    if due is not None and turn(store, due):
        turns = due.promotion.turns + 1
        log.warning(Event.TURNED, primary=settings.primary_url, turns=turns)


@dataclass(frozen=True, slots=True)
class DueTurn:
    """A turn that is due.

    Attributes:
        promotion: the direction as the promotion left it.
        turned: the collections whose ledger is kept, see `turnable`.
        moved: the collections at their places on the former primary.
    """

    promotion: Direction
    turned: AbstractSet[str]
    moved: Sequence[Mirror]


def due_turn(primary: Reader, replica: Reader, store: Store, settings: Settings) -> DueTurn | None:
    """The turn that a cycle makes first; None if the replica follows.

    Raises:
        ReplicaPromoted: the settings still lead to the promoted replica.
        SettingsError: SYNC_TARGET does not lead back.
        ServerError: a server cannot be listed.
    """
    promotion = store.direction()
    if promotion.is_following:
        return None
    if promotion.state is DirectionState.PROMOTING:
        raise promoted_error(promotion)
    mirrors = store.mirrors()
    ours = list_primary(primary, settings.scope)
    originals = dict.fromkeys(mirror.collection_id for mirror in mirrors)
    theirs = list_replica(replica, settings.scope, ours, originals)
    own = store.deployment().store_id
    is_marked = any(
        mark.store_id == own and mark.promoted == promotion.turns
        for mark in _marks_of(primary, ours)
    )
    if not leads_other_way(ours.collections, theirs.collections, mirrors, is_marked=is_marked):
        raise promoted_error(promotion)
    turned = turnable(mirrors)
    kept = [mirror for mirror in mirrors if mirror.collection_id in turned]
    refuse_wrong_way(kept, ours.collections, theirs.collections, bare(replica), settings)
    return DueTurn(promotion, turned, at_new_places(kept, ours.collections))


def turn(store: Store, due: DueTurn) -> bool:
    """Exchange both sides in the store; whether this call did."""
    return store.turn(due.promotion.turns, due.turned, whole_digests, due.moved)


def _marks_of(primary: Reader, listing: Listing) -> list[Mark]:
    """The marks on the primary; none if it refuses to return them: its collections tell, too."""
    spots = [spot for spot in listing.databases if spot[0] in listing.marked]
    try:
        return list(Marks(primary).of_copies(spots).values())
    except REFUSALS as error:
        log.warning(Event.MARKS_UNREADABLE, reason=str(error))
        return []

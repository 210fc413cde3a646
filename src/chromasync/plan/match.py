"""Lists both sides, refuses wrong roles, and matches the collections; writes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from chromasync.config import Scope, Settings
from chromasync.errors import SettingsError
from chromasync.guard import refuse_same_server
from chromasync.ledger.ids import lists_of
from chromasync.ledger.idset import has_more
from chromasync.ledger.paging import pages
from chromasync.model import Deployment, Hold, HoldKind, Mirror, Side
from chromasync.plan.distance import Distances
from chromasync.plan.divergence import why_away
from chromasync.plan.identity import PRIMARY_KEY, judge_primary, refuse_wrong_sides
from chromasync.plan.listing import (
    Listing,
    Owned,
    list_primary,
    list_replica,
    warn_of_leftovers,
)
from chromasync.plan.pairing import (
    Pairing,
    Pairings,
    pair_collections,
    unmarked,
    warn_of_filters,
    why_incompatible,
)
from chromasync.plan.places import guarded_ids, is_beside, take_out_meeting
from chromasync.plan.removals import find_hold, is_approved
from chromasync.plan.superseded import is_superseded, successor_of
from chromasync.ports import Reader, Store


@dataclass(frozen=True, slots=True)
class Matched:
    """Both sides, matched by collections; no record was read yet.

    Attributes:
        met: which side listed each collection first, before now.
        why_away: why the primary may have been away since the last clean cycle; empty if it was
            not.
        other: the hold of everything, if another server answers as the primary.
        approved: that hold was approved.
        warnings: sentences for people.
        untold: mirrors in databases that the primary lacks; the listing says nothing about them.
        restored: the replica's collection that each restored collection was copied from.
        meeting: mirrors of collections that would meet others on the replica, with their error;
            they are not in the pairings.
    """

    primary: Listing
    replica: Listing
    pairings: Pairings
    met: dict[str, Side]
    why_away: str
    other: Hold | None
    approved: bool
    warnings: tuple[str, ...]
    untold: list[Mirror]
    restored: dict[str, str]
    meeting: list[tuple[Mirror, SettingsError]]


@dataclass(frozen=True, slots=True)
class Sides:
    """The listings of both sides, whose roles are as before.

    Attributes:
        met: which side listed each collection first, before now.
        mirrors: the mirrors in the tenants and databases that the settings name.
        distances: the known distances of both sides' collections.
        restored: the replica's collection that each restored collection was copied from.
    """

    primary: Listing
    replica: Listing
    met: dict[str, Side]
    mirrors: list[Mirror]
    distances: Distances
    restored: dict[str, str]

    def new_ids(self) -> dict[str, Side]:
        """Collections that were never listed before."""
        listed = dict.fromkeys(self.primary.collections, Side.PRIMARY)
        listed |= dict.fromkeys(self.replica.collections, Side.REPLICA)
        return {i: side for i, side in listed.items() if i not in self.met}


def list_sides(primary: Reader, replica: Reader, store: Store, settings: Settings) -> Sides:
    """List both sides, and query indexes whose distance is unknown.

    Raises:
        GuardRefusal: a server has another role than before, or both sides are one server.
        ServerError: a listing failed.
        StoreError: the store cannot be read.
    """
    scope = settings.scope
    ours = list_primary(primary, scope, store.live_trials())
    theirs = list_replica(replica, scope, ours, _owned(store, ours))
    mirrors = _covered(store, scope)
    met = _met(store, mirrors, [*ours.collections, *theirs.collections])
    ids = guarded_ids(ours, replica, settings)
    refuse_wrong_sides(ids, (), met, settings.primary_url)
    refuse_same_server(ids, theirs.collections)
    # beside the originals, the primary's side may have listed such collections before
    copies = theirs.collections.keys() - ours.collections.keys()
    refuse_wrong_sides((), copies, met, settings.primary_url)
    distances = Distances({one.collection_id: one for one in store.distances()})
    distances.tell(ours, primary, scope.wants)
    distances.tell(theirs, replica, lambda name: scope.wants(unmarked(name)))
    return Sides(ours, theirs, met, mirrors, distances, store.restored())


def _owned(store: Store, primary: Listing) -> Owned:
    """The replica's collections of this program, kept ones included."""
    owned: dict[str, tuple[str, str] | None] = {one.replica_id: None for one in store.kept()}
    for mirror in store.mirrors():
        if mirror.replica_id is not None:
            original = successor_of(mirror) if is_superseded(mirror) else mirror.collection_id
            is_there = original in primary.collections
            owned[mirror.replica_id] = (mirror.tenant, mirror.database) if is_there else None
    return owned


def pair_sides(sides: Sides, replica: Reader, store: Store, settings: Settings) -> Matched:
    """Match the listings of both sides through the store's present mirrors."""
    scope = settings.scope
    ours, mirrors = sides.primary, _covered(store, scope)
    told = [m for m in mirrors if ours.tells_of(m)]
    wanted = [m for m in told if scope.wants(m.name)]
    deployment = store.deployment()
    other = judge_primary(
        ours, wanted, deployment.primary_url, settings.primary_url, sides.restored
    )
    known = find_hold(store.holds(), PRIMARY_KEY, HoldKind.OTHER_PRIMARY)
    pairings = pair_collections(
        ours,
        sides.replica,
        told,
        scope.wants,
        partial(why_incompatible, server=replica.capabilities()),
    )
    meeting = take_out_meeting(pairings, settings.sync_target)
    if is_beside(settings):
        pairings.surplus.clear()  # nobody said that other collections there are copies
    return Matched(
        ours,
        sides.replica,
        pairings,
        sides.met,
        _why_away(deployment, mirrors, store, settings),
        other,
        other is not None and is_approved(known, other.set_digest),
        warn_of_filters(ours, scope) + warn_of_leftovers(ours, sides.replica),
        [m for m in mirrors if not ours.tells_of(m) and scope.wants(m.name)],
        sides.restored,
        meeting,
    )


def lacks_ledger_ids(store: Store, primary: Reader, pairing: Pairing) -> bool:
    """Whether the primary lacks a record of a collection that the ledger has."""
    known = lists_of(store, pairing.ledger_id)
    return has_more(known, pages(primary, pairing.primary, primary.count(pairing.primary)))


def _covered(store: Store, scope: Scope) -> list[Mirror]:
    return [m for m in store.mirrors() if scope.covers(m.tenant, m.database)]


def mirrors_told_of(store: Store, scope: Scope, primary: Listing) -> list[Mirror]:
    """Mirrors of included collections that could be listed; the delete budget counts these."""
    return [
        mirror
        for mirror in store.mirrors()
        if scope.includes(mirror.tenant, mirror.database, mirror.name)
        and primary.tells_of(mirror)
        and not is_superseded(mirror)
    ]


def _met(store: Store, mirrors: Iterable[Mirror], listed: Sequence[str]) -> dict[str, Side]:
    """Which side listed each collection first; mirrors of an older program count, too."""
    met = {m.replica_id: Side.REPLICA for m in mirrors if m.replica_id}
    met |= {m.collection_id: Side.PRIMARY for m in mirrors if not is_superseded(m)}
    return met | store.sides_of(listed)


def _why_away(
    deployment: Deployment, mirrors: Iterable[Mirror], store: Store, settings: Settings
) -> str:
    if deployment.primary_seen_at is None:
        attempts = [m.last_attempt_at for m in mirrors if m.last_attempt_at is not None]
        if attempts:
            deployment = _seen(deployment, max(attempts))
    promoted_at = store.direction().since_at
    return why_away(deployment, store.now(), settings.assume_away_seconds, promoted_at)


def _seen(deployment: Deployment, at: datetime) -> Deployment:
    return Deployment(deployment.store_id, primary_seen_at=at, away_since=deployment.away_since)

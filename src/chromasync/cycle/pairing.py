"""Which replica collection belongs to which primary collection; pure.

Matching is by the primary's collection id, kept in the ledger, so a rename is a rename and a
collection that was re-created under its name is another collection. A new collection whose name is
still taken on the replica is built beside the old one under a *building name*; the names are
swapped when it is complete (see `names`).

What is decided for each primary collection:

    KEEP     its replica is there
    ADOPT    a replica collection that nobody owns has its name and definition: compare both
    CREATE   there is none: create it, copy everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from chromasync.cycle.listing import Listing, place_of
from chromasync.model import Collection, Mirror

MAX_NAME = 512
OLD_MAX_NAME = 63
"""What servers before 1.0.20 take; they also refuse two dots in a row."""
BUILDING_MARK = ".chromasync-"

Compatible = Callable[[Collection, Collection], str]
"""(primary, replica) → why the replica collection can never become equal; empty when it can."""


class Match(StrEnum):
    """How a primary collection finds its replica."""

    KEEP = "keep"
    ADOPT = "adopt"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Pairing:
    """The decision for one primary collection.

    Attributes:
        mirror: the ledger's row, a new one when the collection is new; its name is up to date.
        replica: the replica's collection; None when it is to be created.
        create_name: under which name to create it.
        lost: the replica collection of earlier cycles is not there any more, or unusable: why.
        superseded: that collection when it is there, to be replaced by the new one.
    """

    match: Match
    primary: Collection
    mirror: Mirror
    replica: Collection | None = None
    create_name: str = ""
    lost: str = ""
    superseded: Collection | None = None


@dataclass(frozen=True, slots=True)
class Pairings:
    """All decisions of a cycle.

    Attributes:
        vanished: mirrors whose primary collection is not listed any more.
        surplus: replica collections that belong to no mirror.
        excluded: mirrors whose primary collection got another name, one that is not wanted; with
            that name. Their replica follows the rename, for another may need the name it has.
    """

    pairings: list[Pairing]
    vanished: list[Mirror]
    surplus: list[Collection]
    excluded: list[Mirror] = field(default_factory=list)


def building_name(primary: Collection) -> str:
    """The name of a replica collection while another one still has its real name."""
    return marked(primary.name, primary.id.replace("-", "")[:12])


def marked(name: str, what: str) -> str:
    """A name that says what the collection is; no longer than a server of the name's age takes."""
    mark = BUILDING_MARK + what
    most = OLD_MAX_NAME if len(name) <= OLD_MAX_NAME else MAX_NAME
    return name[: most - len(mark)].rstrip(".") + mark


def final_name(replica: Collection) -> str:
    """The name that a replica collection has, or will have when it is complete."""
    return replica.name.partition(BUILDING_MARK)[0]


def pair_collections(
    primary: Listing,
    replica: Listing,
    mirrors: Iterable[Mirror],
    wants: Callable[[str], bool],
    why_incompatible: Compatible,
) -> Pairings:
    """Match both listings through the ledger's mirrors.

    Args:
        wants: whether a collection of this name is to be mirrored.
        why_incompatible: whether a replica collection can become equal to a primary one.
    """
    known = {mirror.collection_id: mirror for mirror in mirrors}
    owned = {m.replica_id for m in known.values() if m.replica_id}
    free = {
        place_of(c): c
        for c in replica.collections.values()
        if c.id not in owned and wants(final_name(c))
    }
    pairings = []
    for collection in sorted(primary.collections.values(), key=place_of):
        if not wants(collection.name):
            continue
        mirror = known.get(collection.id) or _new_mirror(collection)
        pairing = _pair(collection, mirror, replica, free, why_incompatible)
        if pairing.replica is not None:
            free.pop(place_of(pairing.replica), None)
        pairings.append(pairing)
    vanished = [
        m for m in known.values() if m.collection_id not in primary.collections and wants(m.name)
    ]
    excluded = [
        replace(known[c.id], name=c.name)
        for c in primary.collections.values()
        if c.id in known and not wants(c.name) and _has_other_name(replica, known[c.id], c.name)
    ]
    return Pairings(pairings, vanished, sorted(free.values(), key=place_of), excluded)


def _has_other_name(replica: Listing, mirror: Mirror, name: str) -> bool:
    own = replica.collections.get(mirror.replica_id or "")
    return own is not None and own.name != name


def _new_mirror(collection: Collection) -> Mirror:
    return Mirror(collection.id, collection.tenant, collection.database, collection.name)


def _pair(
    collection: Collection,
    mirror: Mirror,
    replica: Listing,
    free: Mapping[tuple[str, str, str], Collection],
    why_incompatible: Compatible,
) -> Pairing:
    mirror = replace(
        mirror,
        tenant=collection.tenant,
        database=collection.database,
        name=collection.name,
        missing_cycles=0,
    )
    own = replica.collections.get(mirror.replica_id or "")
    lost = ""
    if own is not None:
        lost = why_incompatible(collection, own)
        if not lost:
            return Pairing(Match.KEEP, collection, mirror, own)
    elif mirror.replica_id is not None:
        lost = "The replica's collection is not there any more."
    mirror = replace(mirror, replica_id=None)
    tenant, database, name = place_of(collection)
    for candidate_name in (name, building_name(collection)):
        candidate = free.get((tenant, database, candidate_name))
        if candidate is not None and not why_incompatible(collection, candidate):
            return Pairing(Match.ADOPT, collection, mirror, candidate, lost=lost, superseded=own)
    taken = (tenant, database, name) in replica.by_place()
    create_name = building_name(collection) if taken else name
    return Pairing(
        Match.CREATE, collection, mirror, create_name=create_name, lost=lost, superseded=own
    )

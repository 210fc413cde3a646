"""Decides which replica collection belongs to which primary collection; pure.

Collections are matched by the primary's collection id in the ledger. So a rename is a rename, and a
collection that was re-created under its name is another collection. If the name of a new collection
is still taken on the replica, it is built beside the old one under a *building name*. The names are
swapped when it is complete (see `cycle.names`).

The decision for each primary collection:

    KEEP     its replica collection exists
    ADOPT    a replica collection without a mirror has its name and definition: compare both
    CREATE   otherwise: create a replica collection, and copy everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Container
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from chromasync.config import Scope
from chromasync.definition import immutable_differences
from chromasync.errors import SettingsError
from chromasync.model import (
    Capabilities,
    Collection,
    Hold,
    Mirror,
    MirrorStatus,
    PrimaryCollection,
)
from chromasync.plan.listing import Listing, place_of

MAX_NAME = 512
OLD_MAX_NAME = 63
"""Longest name on servers before 1.0.20; they also refuse two dots in a row."""
BUILDING_MARK = ".chromasync-"

Compatible = Callable[[Collection, Collection], str]
"""(primary, replica) → why the replica collection can never become equal; empty if it can."""


class Match(StrEnum):
    """How a primary collection finds its replica."""

    KEEP = "keep"
    ADOPT = "adopt"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class Pairing:
    """The decision for one primary collection.

    Attributes:
        mirror: the mirror in the store, or a new one; its name is the present one.
        replica: the replica's collection; None if it must be created.
        create_name: the name under which it is created.
        lost: why the replica collection of earlier cycles is gone or unusable; empty if it is not.
        superseded: that collection if it still exists; the new one replaces it.
        former: the mirror of a vanished collection that this one takes over (see `heirs`).
    """

    match: Match
    primary: Collection
    mirror: Mirror
    replica: Collection | None = None
    create_name: str = ""
    lost: str = ""
    superseded: Collection | None = None
    former: Mirror | None = None

    @property
    def ledger_id(self) -> str:
        """The id of the chunks in the ledger before the cycle writes anything."""
        return (self.former or self.mirror).collection_id


@dataclass(frozen=True, slots=True)
class Pairings:
    """All decisions of a cycle.

    Attributes:
        vanished: mirrors whose primary collection is no longer listed.
        surplus: replica collections without a mirror.
        excluded: mirrors, with their new name, whose primary collection got a name that the
            settings exclude. Their replica is renamed, too, because another collection may need
            its present name.
    """

    pairings: list[Pairing]
    vanished: list[Mirror]
    surplus: list[Collection]
    excluded: list[Mirror] = field(default_factory=list)


def why_incompatible(primary: Collection, replica: Collection, server: Capabilities) -> str:
    """Why a replica collection can never become equal to a primary one; empty if it can."""
    if primary.dimension and replica.dimension and primary.dimension != replica.dimension:
        return f"The dimension is {replica.dimension} instead of {primary.dimension}."
    return " ".join(immutable_differences(primary, replica, server))


def warn_of_filters(primary: Listing, scope: Scope) -> tuple[str, ...]:
    """Warnings if the filters leave out all collections, or if a pattern matches none."""
    names = [collection.name for collection in primary.collections.values()]
    if not names:
        return ()
    each = tuple(f"SYNC_INCLUDE {what_is_unmatched(g)}" for g in scope.unmatched(names))
    if any(map(scope.wants, names)):
        return each
    which = "the only collection" if len(names) == 1 else f"all {len(names):,} collections"
    return (f"SYNC_INCLUDE and SYNC_EXCLUDE leave out {which} of the primary.", *each)


def what_is_unmatched(pattern: str) -> str:
    """The warning about a pattern of SYNC_INCLUDE that matches nothing."""
    return (
        f"names {pattern!r}, but no collection of the primary matches it; note that patterns are "
        "case-sensitive."
    )


def building_name(primary: Collection) -> str:
    """The name of a replica collection while another one still has its final name."""
    return marked(primary.name, primary.id.replace("-", "")[:12])


def marked(name: str, what: str) -> str:
    """A name that says what the collection is, within the server's limit of length."""
    mark = BUILDING_MARK + what
    most = OLD_MAX_NAME if len(name) <= OLD_MAX_NAME else MAX_NAME
    return name[: most - len(mark)].rstrip(".") + mark


def final_name(replica: Collection) -> str:
    """The name that a replica collection has, or will have when it is complete."""
    return unmarked(replica.name)


def unmarked(name: str) -> str:
    """A name without what `marked` added to it."""
    return name.partition(BUILDING_MARK)[0]


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
        why_incompatible: why a replica collection cannot become equal to a primary one.
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
        known[c.id].with_primary(name=c.name)
        for c in primary.collections.values()
        if c.id in known and not wants(c.name) and _has_other_name(replica, known[c.id], c.name)
    ]
    return Pairings(pairings, vanished, sorted(free.values(), key=place_of), excluded)


def take_out(pairings: Pairings, keys: Container[str]) -> None:
    """Remove collections from the pairings, by the primary's id or their own."""
    pairings.pairings[:] = [
        p
        for p in pairings.pairings
        if p.mirror.collection_id not in keys
        and (p.former is None or p.former.collection_id not in keys)
    ]
    pairings.vanished[:] = [m for m in pairings.vanished if m.collection_id not in keys]
    pairings.surplus[:] = [c for c in pairings.surplus if c.id not in keys]


def begun(mirror: Mirror, match: Match, now: datetime) -> Mirror:
    """The mirror at the start of a cycle; facts about a former replica are reset."""
    if match is Match.KEEP:
        return mirror
    adopted = match is Match.ADOPT
    return replace(
        mirror,
        status=MirrorStatus.NEW,
        identical_as_of=None,
        replica_walked_at=None if adopted else now,
        replica_count=0,
        settled_cycle=None,
        adopting=adopted,
    )


REBUILT = "It is built anew, as requested."


def rebuilt(
    pairings: Pairings,
    names: Container[str],
    replica: Listing,
    holds: Sequence[Hold],
    lacks_some: Callable[[Pairing], bool],
) -> Pairings:
    """The pairings, with the named collections built anew beside their present replicas.

    Args:
        holds: all holds; a collection with a hold is not built anew.
        lacks_some: whether the primary lacks a record of a collection that the ledger has.

    Raises:
        SettingsError: a name matches several collections, or none that can be built anew now.
    """
    chosen = {_chosen(pairings, name, holds, lacks_some).mirror.collection_id for name in names}
    built = [
        _anew(pairing, replica) if pairing.mirror.collection_id in chosen else pairing
        for pairing in pairings.pairings
    ]
    return replace(pairings, pairings=built)


def _chosen(
    pairings: Pairings, name: str, holds: Sequence[Hold], lacks_some: Callable[[Pairing], bool]
) -> Pairing:
    found = [
        pairing
        for pairing in pairings.pairings
        if pairing.match is Match.KEEP
        and name in (pairing.primary.name, "/".join(place_of(pairing.primary)))
    ]
    if not found:
        raise _not_built(
            f"There is no collection {name!r} with a replica that is not diverged.",
            "See `chromasync status`.",
        )
    if len(found) > 1:
        those = ", ".join("/".join(place_of(pairing.primary)) for pairing in found)
        raise _not_built(
            f"Several collections are called {name!r}: {those}.",
            "Name one as tenant/database/name.",
        )
    _refuse_in_doubt(found[0], holds, lacks_some)
    return found[0]


def _refuse_in_doubt(
    pairing: Pairing, holds: Sequence[Hold], lacks_some: Callable[[Pairing], bool]
) -> None:
    """Refuse to build a collection anew if the primary may have lost some of its records."""
    mirror = pairing.mirror
    if any(hold.collection_id == mirror.collection_id for hold in holds):
        raise _not_built(
            f"{mirror.name} has a hold, and a new copy would lose the held records.",
            "Decide about that first; `chromasync status` says how.",
        )
    if lacks_some(pairing):
        raise _not_built(
            f"The primary lacks records of {mirror.name} that it had in the last cycle, so a new "
            "copy would lack them, too.",
            "Run `chromasync sync` first, and then again with --rebuild.",
        )
    if pairing.replica is not None and BUILDING_MARK in pairing.replica.name:
        raise _not_built(
            f"{mirror.name} is being built anew already.", "The next cycle continues that."
        )


def _not_built(what: str, hint: str) -> SettingsError:
    return SettingsError(what, untouched="Nothing was written.", hint=hint)


def _anew(pairing: Pairing, replica: Listing) -> Pairing:
    return replace(
        pairing,
        match=Match.CREATE,
        mirror=replace(pairing.mirror, replica_id=None, unanswering=None),
        replica=None,
        create_name=_free_name(pairing.primary, replica),
        lost=REBUILT,
        superseded=pairing.replica,
    )


def _free_name(primary: Collection, replica: Listing) -> str:
    """The collection's own name, or a building name if that is taken."""
    tenant, database, name = place_of(primary)
    taken = {
        c.name for c in replica.collections.values() if (c.tenant, c.database) == (tenant, database)
    }
    wanted = [name, building_name(primary)]
    wanted += [marked(name, f"{primary.id.replace('-', '')[:12]}-{n}") for n in range(2, 100)]
    return next((free for free in wanted if free not in taken), wanted[1])


def _has_other_name(replica: Listing, mirror: Mirror, name: str) -> bool:
    own = replica.collections.get(mirror.replica_id or "")
    return own is not None and own.name != name


def _new_mirror(collection: Collection) -> Mirror:
    return Mirror(PrimaryCollection(collection.id, *place_of(collection)))


def _pair(
    collection: Collection,
    mirror: Mirror,
    replica: Listing,
    free: Mapping[tuple[str, str, str], Collection],
    why_incompatible: Compatible,
) -> Pairing:
    tenant, database, name = place_of(collection)
    mirror = mirror.with_primary(tenant=tenant, database=database, name=name, missing_cycles=0)
    own = replica.collections.get(mirror.replica_id or "")
    lost = ""
    if own is not None:
        lost = why_incompatible(collection, own)
        if not lost:
            return Pairing(Match.KEEP, collection, mirror, own)
    elif mirror.replica_id is not None:
        lost = "The replica's collection no longer exists."
    mirror = replace(mirror, replica_id=None)
    for candidate_name in (name, building_name(collection)):
        candidate = free.get((tenant, database, candidate_name))
        if candidate is not None and not why_incompatible(collection, candidate):
            return Pairing(Match.ADOPT, collection, mirror, candidate, lost=lost, superseded=own)
    create_name = _free_name(collection, replica)
    return Pairing(
        Match.CREATE, collection, mirror, create_name=create_name, lost=lost, superseded=own
    )

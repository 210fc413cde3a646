"""Decides which new collection of the primary takes over the replica of a vanished one; pure.

A collection that was re-created under its name has another id. So has each collection of a primary
that was rebuilt from an export. If the new collection has mostly the same records, a second copy
beside the old one would be a waste. Then the new collection is the *heir*: its mirror takes over
the replica collection and the ledger of the old one. Both sides are compared in place, and only
differences are written.

A collection that `chromasync restore` copied from a replica collection is the heir of the mirror of
that one. Its name and its records are not asked about.

An heir takes over in two steps: its mirror is stored, and then the ledger moves. A process that
dies between them leaves two mirrors of one replica collection. Then the mirror that the primary
still lists is the heir of the other, without a new comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from chromasync.model import Collection, Mirror, MirrorStatus
from chromasync.plan.listing import Listing, place_of
from chromasync.plan.pairing import Compatible, Match, Pairing, Pairings

IsLike = Callable[[Pairing, Mirror, Collection], bool]
"""(pairing of the new collection, old mirror, its replica) → mostly the same records."""


def with_heirs(
    pairings: Pairings,
    primary: Listing,
    replica: Listing,
    mirrors: Iterable[Mirror],
    *,
    why_incompatible: Compatible,
    is_like: IsLike,
    restored: Mapping[str, str],
) -> Pairings:
    """The pairings, with new collections as heirs of vanished ones with the same name.

    Args:
        mirrors: all mirrors in the ledger.
        is_like: called only if everything else agrees; it may read both sides.
        restored: the replica's collection that each restored collection was copied from.
    """
    present = [m for m in mirrors if m.collection_id in primary.collections]
    owned = {m.replica_id for m in present if m.replica_id}
    gone = [m for m in pairings.vanished if m.replica_id not in owned]
    interrupted = {m.replica_id: m for m in pairings.vanished if m.replica_id in owned}
    paired = []
    for pairing in pairings.pairings:
        former = None if pairing.replica is None else interrupted.get(pairing.replica.id)
        if former is not None and pairing.match is Match.KEEP:
            paired.append(replace(pairing, former=former))
            continue
        source = restored.get(pairing.primary.id)
        heir = _find(pairing, gone, replica, why_incompatible, is_like, source=source)
        if heir.former is not None:
            gone.remove(heir.former)
        paired.append(heir)
    return replace(pairings, pairings=paired, vanished=gone)


def in_place_words(pairing: Pairing) -> str:
    """The note about an heir."""
    return f"{pairing.mirror.name}: it was re-created with mostly the same records; comparing them."


def _find(
    pairing: Pairing,
    gone: Iterable[Mirror],
    replica: Listing,
    why_incompatible: Compatible,
    is_like: IsLike,
    *,
    source: str | None,
) -> Pairing:
    """The pairing; that of an heir, if there is a collection to take over.

    Args:
        source: the replica's collection that this one was copied from; None if it is no copy.
    """
    if pairing.match is not Match.CREATE or pairing.lost:
        return pairing
    for former in sorted(gone, key=lambda mirror: mirror.replica_id != source):
        held = replica.collections.get(former.replica_id or "")
        is_copy = held is not None and held.id == source
        if held is None or not (is_copy or place_of(former) == place_of(pairing.primary)):
            continue
        if why_incompatible(pairing.primary, held):
            continue
        if is_copy or is_like(pairing, former, held):
            return replace(
                pairing,
                match=Match.KEEP,
                mirror=_heir_of(former, pairing.mirror),
                replica=held,
                create_name="",
                former=former,
            )
    return pairing


def _heir_of(former: Mirror, mirror: Mirror) -> Mirror:
    """The new collection's mirror: it keeps facts about the replica, and none about the primary.

    The index of the replica has the distance and the dimension that the old collection had.
    """
    known = mirror.with_primary(space=former.primary.space, dimension=former.primary.dimension)
    return replace(
        known,
        replica_id=former.replica_id,
        status=MirrorStatus.NEW,
        adopting=former.adopting,
        definition_digest=former.definition_digest,
        identical_as_of=None,
        replica_walked_at=None,
    )

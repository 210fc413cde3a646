"""Recognises servers by their collection ids; pure.

A name can come again, but a server makes each id only once. So the listed collection ids identify a
server:

* A server that lists an id which the replica ever listed is a replica, for ever. A server that
  lists an id which the primary ever listed is a primary, for ever. Wrong roles are refused.
* *Another primary*: hardly any of the mirrored names that still exist has its former id, or the
  address in the settings changed and ids changed with it. Then another server answers, or the
  primary was migrated or restored from an export. Everything is held. A collection that `chromasync
  restore` copied from the replica counts as one that kept its id.

`older` decides whether the primary is the same server in an older state.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping

from chromasync.errors import GuardRefusal
from chromasync.model import Hold, HoldKind, Mirror, Side
from chromasync.plan.listing import Listing, place_of
from chromasync.plan.removals import IdSum
from chromasync.plan.superseded import is_superseded

PRIMARY_KEY = "primary"
"""The key and the name of the hold of another primary."""

HARDLY_ANY = 4
"""Another primary: fewer than one in so many collections kept its id."""

NOTHING_WRITTEN = "Nothing was written to either side."


def refuse_wrong_sides(
    primary_ids: Container[str],
    replica_ids: Container[str],
    met: Mapping[str, Side],
    primary_url: str,
) -> None:
    """Raise if a server has another role than before.

    Args:
        met: which side listed each of these collections first, if any did.

    Raises:
        GuardRefusal: the primary's URL leads to a former replica, or the replica's to a former
            primary.
    """
    if any(met.get(i) is Side.REPLICA for i in primary_ids):
        raise GuardRefusal(
            f"The server at PRIMARY_URL ({primary_url}) is the replica of earlier cycles: "
            "PRIMARY_URL and REPLICA_URL look swapped.",
            untouched=NOTHING_WRITTEN,
            hint="Swap them back; `chromasync promote` makes the replica the new primary on "
            "purpose.",
        )
    if any(met.get(i) is Side.PRIMARY for i in replica_ids):
        raise GuardRefusal(
            "The server at REPLICA_URL was the primary of earlier cycles, so its records are "
            "originals.",
            untouched=NOTHING_WRITTEN,
            hint="Set REPLICA_URL to the server that is to be kept identical; to overwrite a "
            "former primary on purpose, start with a new SYNC_DATA_DIR (or DATABASE_URL).",
        )


def judge_primary(
    listing: Listing,
    mirrors: Iterable[Mirror],
    former_url: str | None,
    url: str,
    restored: Mapping[str, str],
) -> Hold | None:
    """The hold of everything if another server answers as the primary; None otherwise.

    Args:
        listing: the primary's collections.
        mirrors: the mirrors of collections that the settings include.
        former_url: the primary's address in the last clean cycle; None if there was none.
        url: its present address.
        restored: the replica's collection that each restored collection was copied from.
    """
    known = [m for m in mirrors if m.replica_id is not None and not is_superseded(m)]
    by_place = listing.by_place()
    copied = {restored.get(collection_id) for collection_id in listing.collections}
    kept = [m for m in known if m.collection_id in listing.collections or m.replica_id in copied]
    same = {m.collection_id for m in kept}
    renewed = [m for m in known if m.collection_id not in same and place_of(m) in by_place]
    if not renewed:
        return None
    moved = former_url is not None and former_url != url
    if not moved and HARDLY_ANY * len(kept) >= len(kept) + len(renewed):
        return None
    places = {place_of(m) for m in [*kept, *renewed]}
    ids = IdSum(sorted(c.id for place, c in by_place.items() if place in places))
    of = f"{len(renewed):,} of {len(kept) + len(renewed):,}"
    where = f" at a new address (before, it was {former_url})" if moved else ""
    return Hold(
        PRIMARY_KEY,
        PRIMARY_KEY,
        HoldKind.OTHER_PRIMARY,
        sum(m.replica_count for m in renewed),
        f"{of} mirrored collections have another id under the same name{where}: "
        "another server answers as the primary, or it was migrated or restored",
        set_digest=ids.digest(HoldKind.OTHER_PRIMARY),
    )


def outdated_copies(
    listing: Listing, mirrors: Iterable[Mirror], restored: Mapping[str, str]
) -> set[str]:
    """Restored collections whose source on the replica follows another collection of the primary.

    The replica goes on with that one, so the copy must not be taken for the primary's later.
    """
    followed = {m.replica_id: m for m in mirrors if m.collection_id in listing.collections}
    return {
        copy
        for copy, source in restored.items()
        if source in followed and followed[source].collection_id != copy
    }

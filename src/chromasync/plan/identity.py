"""Which server is which; pure.

Names can be anything; ids are made by a server and never come again. So a server is known by the
collection ids that it lists:

* An id that was ever listed by the replica makes a server a replica; one that was ever listed by
  the primary makes it a primary, for ever. Roles that do not fit are refused.
* *Another primary*: of the mirrored names that are still there, hardly any has its id, or the
  address in the settings changed and ids with it. That is another server, or one that was
  migrated or restored from an export. Everything is held.

Whether it is the same server, only older, is asked in `older`.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping

from chromasync.errors import GuardRefusal
from chromasync.model import Hold, HoldKind, Mirror, Side
from chromasync.plan.listing import Listing, place_of
from chromasync.plan.pairing import is_superseded
from chromasync.plan.removals import IdSum

PRIMARY_KEY = "primary"
"""What the hold of another primary is stored under, and approved by."""

HARDLY_ANY = 4
"""Fewer than one in so many collections kept its id."""

NOTHING_WRITTEN = "Nothing was written to either side."


def refuse_wrong_sides(
    primary_ids: Container[str],
    replica_ids: Container[str],
    met: Mapping[str, Side],
    primary_url: str,
) -> None:
    """Raise when a server has another role than it had.

    Args:
        met: which side listed these collections first, as far as they were ever met.

    Raises:
        GuardRefusal: the primary's URL leads to a former replica, or the replica's to a former
            primary.
    """
    if any(met.get(i) is Side.REPLICA for i in primary_ids):
        raise GuardRefusal(
            f"The server at PRIMARY_URL ({primary_url}) is the replica of earlier cycles: "
            "PRIMARY_URL and REPLICA_URL look swapped.",
            untouched=NOTHING_WRITTEN,
            hint="Swap them back; to make the replica the new primary on purpose, "
            "start with a new SYNC_DATA_DIR (or DATABASE_URL).",
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
    listing: Listing, mirrors: Iterable[Mirror], former_url: str | None, url: str
) -> Hold | None:
    """The hold of everything when another server answers at the primary's address.

    Args:
        listing: the primary's collections.
        mirrors: what the store knows of the collections that the settings want.
        former_url: the primary's address in the last clean cycle; None before there was one.
        url: its address now.
    """
    known = [m for m in mirrors if m.replica_id is not None and not is_superseded(m)]
    by_place = listing.by_place()
    kept = [m for m in known if m.collection_id in listing.collections]
    renewed = [
        m for m in known if m.collection_id not in listing.collections and place_of(m) in by_place
    ]
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

"""Looks whether the server at REPLICA_URL is the replica that the state store describes.

The store says as of when the replica is identical. That is true of the replica alone, and only if
nothing was taken from it since the last cycle. So before a promotion the server is asked which
collections it lists, how many records they have, and for its marks. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from chromasync.errors import GuardRefusal, NotFound
from chromasync.marks import Knowledge, Marks, look_at_replica
from chromasync.model import MARKS_DATABASE, Collection, Mirror
from chromasync.plan.listing import Listing
from chromasync.plan.mark import Mark, MarkState
from chromasync.ports import Reader, Store

SHOWN_NAMES = 3


@dataclass(slots=True)
class Examined:
    """What was found on the replica.

    Attributes:
        listed: whether it lists any of the collections that were copied.
        unsure: the mirrors, by collection id, for which the store may promise too much.
        warnings: one sentence for each reason.
    """

    listed: bool = True
    unsure: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def doubt(self, mirrors: Iterable[Mirror], why: str) -> None:
        """Note why the store may promise too much for these mirrors, if there are any."""
        some = list(mirrors)
        if some:
            self.unsure |= {m.collection_id for m in some}
            self.warnings.append(why.format(names=_names(some)))


def examine_replica(replica: Reader, store: Store, *, marked: bool) -> Examined:
    """Compare the replica with the store.

    Args:
        marked: whether the replica carries marks (SYNC_MARK).

    Raises:
        GuardRefusal: nothing was copied yet.
        AnotherStore, ReplicaPromoted: another store works there, or promoted the server.
        ServerError: the replica cannot be asked.
    """
    mirrors = [m for m in store.mirrors() if m.replica_id is not None]
    if not mirrors:
        raise GuardRefusal(
            "Nothing was copied to the replica yet.",
            untouched="Nothing was changed.",
            hint="Check SYNC_DATA_DIR or DATABASE_URL, PRIMARY_URL and REPLICA_URL.",
        )
    listing = _list(replica, mirrors)
    missing = [m for m in mirrors if m.replica_id not in listing.collections]
    found = Examined(listed=len(missing) < len(mirrors))
    if not found.listed:
        return found
    found.doubt(missing, "The replica lacks collections that were copied: {names}.")
    found.doubt(
        (m for m in mirrors if _has_fewer(replica, m, listing.collections)),
        "The replica has fewer records than the last cycle left, in: {names}.",
    )
    if marked:
        _look_at_marks(replica, store, mirrors, listing, found)
    return found


def refuse_stranger(found: Examined, url: str) -> None:
    """Raise if the server has none of the collections that were copied.

    Raises:
        GuardRefusal: it is another server, or it lost its data.
    """
    if not found.listed:
        raise GuardRefusal(
            f"The server at REPLICA_URL ({url}) has none of the collections that were copied: it "
            "is another server, or it lost its data.",
            untouched="Nothing was changed.",
            hint="Check REPLICA_URL, and SYNC_DATA_DIR or DATABASE_URL.",
        )


def warn_of_kept(store: Store) -> Iterator[str]:
    """A sentence if the replica keeps collections that were dropped; they count as its own now."""
    names = sorted(one.name for one in store.kept())
    if names:
        yield (
            f"The replica keeps collections that were dropped before: {_shown(names)}. They are "
            "collections like any other now. Delete them there if nobody needs them."
        )


def _list(replica: Reader, mirrors: Iterable[Mirror]) -> Listing:
    listing = Listing()
    wanted = {(m.tenant, m.database) for m in mirrors}
    for tenant in sorted({tenant for tenant, _ in wanted}):
        if MARKS_DATABASE in replica.list_databases(tenant):
            listing.marked.append(tenant)
    for tenant, database in sorted(wanted):
        with suppress(NotFound):  # then it lacks the collections, too
            found = replica.list_collections(tenant, database)
            listing.databases.append((tenant, database))
            listing.collections |= {collection.id: collection for collection in found}
    return listing


def _has_fewer(replica: Reader, mirror: Mirror, listed: dict[str, Collection]) -> bool:
    """Whether records are missing; unknown while a cycle was cut off."""
    held = listed.get(mirror.replica_id or "")
    if held is None or mirror.settled_cycle is None:
        return False
    return replica.count(held) < mirror.replica_count


def _look_at_marks(
    replica: Reader, store: Store, mirrors: list[Mirror], listing: Listing, found: Examined
) -> None:
    known = Knowledge.of(store)
    look = look_at_replica(Marks(replica), listing, listing.databases, known)
    for spot, verdict in look.verdicts.items():
        if verdict.found is not None and _is_of_this(verdict.found, known):
            continue
        if verdict.error is not None:
            raise verdict.error
        if verdict.state is MarkState.DOUBT:
            there = [m for m in mirrors if (m.tenant, m.database) == spot]
            words = verdict.why.replace("{", "{{").replace("}", "}}")
            found.doubt(there, f"{words} So this may be out of date: {{names}}.")


def _is_of_this(mark: Mark, known: Knowledge) -> bool:
    """Whether a mark is that of this very promotion, which was interrupted."""
    return mark.store_id == known.deployment.store_id and mark.promoted == known.turns


def _names(mirrors: list[Mirror]) -> str:
    return _shown(sorted(m.name for m in mirrors))


def _shown(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown

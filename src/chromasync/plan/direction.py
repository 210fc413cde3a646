"""Judges whether the settings name a promoted replica as the primary; pure.

After a promotion this program writes to that replica never again. It goes on only with settings
that lead the other way: PRIMARY_URL to the promoted replica, REPLICA_URL to the former primary or
to a new server. The promoted replica is recognised by its collections, which are those of the
mirrors, or by its mark, which says that it was promoted (`plan.mark`).
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable

from chromasync.errors import ReplicaPromoted
from chromasync.model import Direction, DirectionState, Mirror
from chromasync.plan.superseded import is_superseded, successor_of


def promoted_error(direction: Direction) -> ReplicaPromoted:
    """The error of everything that would write to a promoted replica."""
    if direction.state is DirectionState.PROMOTING:
        return ReplicaPromoted(
            f"{direction.by} is promoting the replica ({direction.url}).",
            hint="Wait for `chromasync promote`, or run it again if it was interrupted; "
            "`chromasync promote --cancel` lets the replica follow again.",
        )
    since = direction.since_at
    when = "" if since is None else f" at {since:%Y-%m-%d %H:%M:%S} UTC"
    return ReplicaPromoted(
        f"The replica ({direction.url}) was promoted by {direction.by}{when}: it is the primary "
        "now."
    )


def leads_other_way(
    primary_ids: Container[str],
    replica_ids: Container[str],
    mirrors: Iterable[Mirror],
    *,
    is_marked: bool,
) -> bool:
    """Whether the promoted replica is the primary of the settings, and not their replica.

    Args:
        primary_ids, replica_ids: the collections that the servers of the settings list.
        mirrors: those from before the promotion.
        is_marked: the primary of the settings carries the mark of this promotion.
    """
    copies = {m.replica_id for m in mirrors if m.replica_id is not None}
    is_primary = is_marked or not copies.isdisjoint(primary_ids)
    return is_primary and copies.isdisjoint(replica_ids)


def turnable(mirrors: Iterable[Mirror]) -> set[str]:
    """The mirrors whose ledger is kept in a turn, by the former primary's collection id.

    A collection that was being replaced on the replica is left out, because the ledger belongs to
    the unfinished copy and applications use the former one.
    """
    every = list(mirrors)
    replaced = {successor_of(m) for m in every if is_superseded(m)}
    return {
        m.collection_id
        for m in every
        if m.replica_id is not None and not is_superseded(m) and m.collection_id not in replaced
    }

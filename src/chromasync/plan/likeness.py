"""Decides by a sample whether two collections are mostly the same; pure.

A replica collection that has records and is in no ledger may be a copy of this primary (the ledger
was lost), or an unrelated collection with the same name. A sample of its records, spread over the
whole collection, decides. If at least half of them are the same on the primary, it is a copy, and
only differences are written. Otherwise nothing is written there until someone decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chromasync.model import Collection, Hold, HoldKind
from chromasync.plan.pairing import Pairing
from chromasync.plan.removals import IdSum

SAMPLE = 200
"""Records in a sample."""
RUNS = 8
"""Runs of consecutive records that form a sample."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much of a collection on the replica is the same on the primary.

    Attributes:
        compared: records of the sample, without those that the primary cannot return.
        same: how many of them are the same on both sides, as far as the replica can hold them.
    """

    primary_count: int
    replica_count: int
    compared: int
    same: int

    @property
    def is_mostly_same(self) -> bool:
        """Whether at least half of the sample is the same; false for an empty sample."""
        return 2 * self.same >= self.compared > 0


def spread_runs(count: int) -> list[tuple[int, int]]:
    """Runs (offset, length) over `count` records, evenly spread, `SAMPLE` records in all."""
    if count <= SAMPLE:
        return [(0, count)] if count else []
    length = SAMPLE // RUNS
    last = count - length
    return [(run * last // (RUNS - 1), length) for run in range(RUNS)]


def hold_adoption(
    pairing: Pairing,
    likeness: Likeness,
    count_ids: Callable[[Collection], IdSum],
    *,
    beside: bool = False,
) -> Hold | None:
    """The hold of a replica collection that is not mostly the same; None if it may be adopted.

    Args:
        count_ids: reads all ids of a replica collection; called only if it is held.
        beside: the replica is on the primary's server, where a like collection may be an
            application's own copy. So it is held, too.
    """
    replica = pairing.replica
    if replica is None or not likeness.replica_count or (likeness.is_mostly_same and not beside):
        return None
    return Hold(
        pairing.mirror.collection_id,
        pairing.mirror.name,
        HoldKind.ADOPTION,
        likeness.replica_count,
        _reason(likeness, beside=beside),
        tenant=pairing.mirror.tenant,
        database=pairing.mirror.database,
        set_digest=count_ids(replica).digest(HoldKind.ADOPTION, replica.id),
    )


def is_decided(hold: Hold, holds: list[Hold]) -> bool:
    """Whether someone approved exactly this hold."""
    return any(
        (known.collection_id, known.kind) == (hold.collection_id, hold.kind)
        and known.approved_digest == hold.set_digest
        for known in holds
    )


def _reason(likeness: Likeness, *, beside: bool) -> str:
    why = (
        "may be an application's own, because it is on the primary's server"
        if beside
        else "looks like another collection"
    )
    return (
        f"it is in no ledger and {why}: of {likeness.compared:,} compared "
        f"records, {likeness.same:,} are the same on the primary "
        f"({likeness.primary_count:,} records on the primary, {likeness.replica_count:,} on the "
        "replica)"
    )

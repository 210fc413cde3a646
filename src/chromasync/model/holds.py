"""Holds: changes that a guard keeps back until someone approves them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class HoldKind(StrEnum):
    """The kind of change that a guard holds."""

    DELETES = "deletes"
    """Deleting records that are gone from the primary."""
    SURPLUS = "surplus"
    """Deleting replica records that the primary never had."""
    DROP = "drop"
    """Dropping the mirror of a collection that disappeared from the primary."""
    REPLACE = "replace"
    """Replacing a collection by a re-created, much smaller one."""
    SURPLUS_COLLECTION = "surplus collection"
    """Dropping a replica collection that the primary never had."""
    DIVERGED = "diverged"
    """Everything in a collection that others changed on the replica while the primary was away."""
    ADOPTION = "adoption"
    """Writing to a collection of the replica that is not in the ledger and mostly different."""
    OLDER_PRIMARY = "older primary"
    """Updates and deletes in a collection whose newest records are missing on the primary."""
    OTHER_PRIMARY = "other primary"
    """Everything: another server answers at the primary's address."""


DECISIONS = frozenset(
    {HoldKind.DIVERGED, HoldKind.ADOPTION, HoldKind.OLDER_PRIMARY, HoldKind.OTHER_PRIMARY}
)
"""Holds that need a decision which side is right; the other holds limit deletes."""

PRIMARY_EMPTY = "the primary has no records left in any collection"
"""The reason of a hold after which the replica may be the only copy left."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A change that a guard holds until it is approved.

    Attributes:
        collection_id: the primary's id, or the replica's for a surplus collection.
        count: records that would be deleted or overwritten.
        approved_count: the number of approved records; None without an approval.
        tenant, database: place of the collection; empty for a hold of the whole primary.
        set_digest: identifies the set of held records on this replica.
        unconfirmed: it waits for a second successful cycle, not for an approval.
        seen_cycles: successful cycles in a row that held it.
        shown_count: the `count` that a person saw last; None when it was never shown.
        approved_digest: the `set_digest` that was approved.
        approved_at: time of the approval, which ends after a day.
    """

    collection_id: str
    collection_name: str
    kind: HoldKind
    count: int
    reason: str
    held_at: datetime | None = None
    approved_count: int | None = None
    tenant: str = ""
    database: str = ""
    set_digest: str = ""
    unconfirmed: bool = False
    seen_cycles: int = 0
    shown_count: int | None = None
    approved_digest: str | None = None
    approved_at: datetime | None = None

    @property
    def full_name(self) -> str:
        """The unique name of the collection; its id if the place is unknown."""
        if not self.tenant:
            return self.collection_id
        return f"{self.tenant}/{self.database}/{self.collection_name}"

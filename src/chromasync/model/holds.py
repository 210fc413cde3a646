"""What a guard holds until someone approves it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class HoldKind(StrEnum):
    """What a guard holds back."""

    DELETES = "deletes"
    """Deleting records that are gone from the primary."""
    SURPLUS = "surplus"
    """Deleting replica records that the primary never had."""
    DROP = "drop"
    """Dropping the mirror of a collection that vanished from the primary."""
    REPLACE = "replace"
    """Putting a re-created, much smaller collection in the place of the old one."""
    SURPLUS_COLLECTION = "surplus collection"
    """Dropping a replica collection that the primary never had."""
    DIVERGED = "diverged"
    """Everything in a collection that others wrote to while the primary was away."""
    ADOPTION = "adoption"
    """Writing to a collection of the replica that no ledger knows and that is another one."""
    OLDER_PRIMARY = "older primary"
    """Updates and deletes in a collection whose newest records the primary has no more."""
    OTHER_PRIMARY = "other primary"
    """Everything: another server answers at the primary's address."""


DECISIONS = frozenset(
    {HoldKind.DIVERGED, HoldKind.ADOPTION, HoldKind.OLDER_PRIMARY, HoldKind.OTHER_PRIMARY}
)
"""Holds about which side is right, not about how much goes: someone must decide."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Something a guard holds back until it is approved.

    Attributes:
        collection_id: the primary's id, or the replica's for a surplus collection.
        count: records that would be deleted or overwritten.
        approved_count: how many of them someone approved; None when nobody did.
        tenant, database: where the collection is; empty for what concerns no single collection.
        set_digest: names exactly what is held, on exactly this replica.
        unconfirmed: it waits for the next successful cycle to see the same, not for an approval.
        seen_cycles: successful cycles in a row that held it.
        shown_count: `count` as a person saw it last; None when nobody did.
        approved_digest: the `set_digest` that was approved.
        approved_at: when; an approval ends after a day.
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
        """The name that no other collection has; an id where the place is not known."""
        if not self.tenant:
            return self.collection_id
        return f"{self.tenant}/{self.database}/{self.collection_name}"

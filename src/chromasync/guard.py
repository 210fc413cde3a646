"""The guards: nothing is deleted by mistake, and nothing runs against the wrong servers; pure.

Each `judge_…` function answers with the reason to hold, or None to let it through. A hold that
someone approved lets through what was counted when it was held, once; more than that is held anew.

States of a hold: none → held (shown with count and reason) → approved → done, and gone with the
cause: when the counted records come back to the primary, the hold is cleared unapproved.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Sequence

from chromasync.config import MaxDelete
from chromasync.errors import ChromasyncError, GuardRefusal, SettingsError
from chromasync.model import Hold
from chromasync.reports import PlacedHold

CONFIRMING_CYCLES = 2
"""Successful listings in a row that must not name a collection before its mirror is dropped."""

UNCONFIRMED = "it vanished from the primary in this cycle; the next one confirms it"
"""The one reason to hold that passes by itself: nobody has to approve anything."""


def is_approved(hold: Hold | None, count: int) -> bool:
    """Whether an earlier approval covers this many records."""
    return hold is not None and hold.approved_count is not None and count <= hold.approved_count


def choose_holds(holds: Sequence[PlacedHold], names: Sequence[str]) -> list[PlacedHold]:
    """What is held in the collections of these names: full ones, ids, or bare ones of one alone.

    Raises:
        ChromasyncError: nothing is held under one of the names.
        SettingsError: one of them is that of several collections.
    """
    chosen: list[PlacedHold] = []
    for name in names:
        chosen += [hold for hold in _held_under(name, holds) if hold not in chosen]
    return chosen


def _held_under(name: str, holds: Sequence[PlacedHold]) -> list[PlacedHold]:
    exact = [hold for hold in holds if name in (hold.collection_id, hold.full_name)]
    found = exact or [hold for hold in holds if hold.collection_name == name]
    if not found:
        raise ChromasyncError(
            f"Nothing is held in a collection named {name!r}.",
            untouched="Nothing was approved.",
            hint="`chromasync status` lists what is held.",
        )
    candidates = sorted({hold.full_name for hold in found})
    if len(candidates) > 1:
        raise SettingsError(
            f"Something is held in {len(candidates)} collections named {name!r}.",
            untouched="Nothing was approved.",
            hint=f"Name the one that is meant: {', '.join(candidates)}.",
        )
    return found


def judge_deletes(
    count: int, total: int, max_delete: MaxDelete, *, primary_empty: bool
) -> str | None:
    """Deleting `count` of a collection's `total` records on the replica."""
    if primary_empty:
        return "the primary has no records left in any collection"
    limit = max_delete.limit(total)
    if count > limit:
        return f"{count:,} deletes are more than the limit of {limit:,} for this collection"
    return None


def judge_drop(
    missing_cycles: int, vanished: int, known: int, *, primary_empty: bool
) -> str | None:
    """Dropping the mirror of a collection that the primary no longer lists.

    Args:
        missing_cycles: successful listings in a row that did not name it.
        vanished: collections that are missing now.
        known: collections that the ledger knows, the missing ones included.
        primary_empty: the primary lists no collection at all.
    """
    if primary_empty:
        return "the primary lists no collections at all"
    if vanished > max(1, known // 2):
        return f"{vanished:,} of {known:,} collections vanished at once"
    if missing_cycles < CONFIRMING_CYCLES:
        return UNCONFIRMED
    return None


def judge_replacement(
    old_count: int, new_count: int, max_delete: MaxDelete, *, mirrored: bool, primary_empty: bool
) -> str | None:
    """Putting a re-created collection in the place of the one that had its name.

    Args:
        old_count: records of the replica collection that would go.
        new_count: records of the one that takes its place.
        mirrored: the old one mirrored a primary collection (else it is of unknown origin).
    """
    if primary_empty and old_count:
        return "the primary has no records left in any collection"
    if not mirrored and old_count:
        return f"a replica collection of unknown origin with {old_count:,} records has its name"
    lost = old_count - new_count
    if lost > max_delete.limit(old_count):
        return f"it was re-created with {new_count:,} records where {old_count:,} were"
    return None


def refuse_same_server(primary_ids: Container[str], replica_ids: Container[str]) -> None:
    """Raise when both sides list the same collection ids.

    Raises:
        GuardRefusal: both URLs lead to one server, or one is a copy of the other's disk.
    """
    if set(primary_ids) & set(replica_ids):
        raise GuardRefusal(
            "PRIMARY_URL and REPLICA_URL list the same collection ids, so they lead to one server "
            "(or the replica was made from a copy of the primary's disk).",
            untouched="Nothing was written to either side.",
            hint="Point REPLICA_URL at a server of its own, with an empty data folder.",
        )


def refuse_equal_urls(primary_url: str, replica_url: str) -> None:
    """Raise when both URLs are one; a server without collections would not give itself away.

    Raises:
        GuardRefusal: PRIMARY_URL and REPLICA_URL are the same.
    """
    if primary_url.rstrip("/") == replica_url.rstrip("/"):
        raise GuardRefusal(
            f"PRIMARY_URL and REPLICA_URL are the same ({primary_url}).",
            untouched="Nothing was written to either side.",
            hint="Point REPLICA_URL at a server of its own, with an empty data folder.",
        )


def refuse_swapped(
    primary_ids: Container[str], known_replica_ids: Container[str], primary_url: str
) -> None:
    """Raise when the primary lists collections that the ledger knows as the replica's.

    Raises:
        GuardRefusal: PRIMARY_URL and REPLICA_URL are swapped.
    """
    if set(primary_ids) & set(known_replica_ids):
        raise GuardRefusal(
            f"The server at PRIMARY_URL ({primary_url}) is the replica of earlier cycles: "
            "PRIMARY_URL and REPLICA_URL look swapped.",
            untouched="Nothing was written to either side.",
            hint="Swap them back; to make the replica the new primary on purpose, "
            "start with a new SYNC_DATA_DIR (or DATABASE_URL).",
        )

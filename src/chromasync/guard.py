"""Approval of holds, and refusal of two URLs that lead to one server; pure.

A hold has these states: none → held (shown with count, reason and digest) → approved → done. It
ends when its cause ends: when the records are back on the primary, the hold is cleared without an
approval. An approval is valid for one set of records (`Hold.set_digest`) and ends when the set
changes. The modules of `plan/` decide what is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Collection as Container

from chromasync.config import Settings, folder_of
from chromasync.errors import ChromasyncError, GuardRefusal, SettingsError
from chromasync.model import Hold, Side

DIGEST_MARK = "@"
SHORTEST_DIGEST = 4


def choose_holds(
    holds: Sequence[Hold], names: Sequence[str], expected: int | None = None
) -> list[Hold]:
    """The holds of these collections, given by full name, by id, or by a name that is unique.

    A name may carry the digest of the hold (`docs@3f9a`). Without a digest, the count of records
    must be the expected one, or the one that a person was shown last.

    Raises:
        ChromasyncError: nothing is held under one of the names, or the hold has changed.
        SettingsError: several collections have one of the names.
    """
    chosen: list[Hold] = []
    for name in names:
        bare, digest = _parted(name, holds)
        found = [hold for hold in _held_under(bare, holds) if hold.set_digest.startswith(digest)]
        if not found:
            raise _changed(bare, _held_under(bare, holds))
        if not digest:
            refuse_unseen(found, expected)
        chosen += [hold for hold in found if hold not in chosen]
    return chosen


def approve_chosen(approve: Callable[[Hold], bool], chosen: Sequence[Hold]) -> list[Hold]:
    """Approve these holds in the store.

    Raises:
        ChromasyncError: a cycle changed some of them meanwhile.
    """
    approved = [hold for hold in chosen if approve(hold)]
    if len(approved) < len(chosen):
        raise ChromasyncError(
            "A cycle changed the holds at this moment.",
            untouched=f"Only {len(approved):,} of {len(chosen):,} holds were approved.",
            hint="Look at `chromasync status`, and approve again.",
        )
    return approved


def refuse_unseen(holds: Sequence[Hold], expected: int | None = None) -> None:
    """Raise when the count of held records is not the expected one, or the one shown last.

    Raises:
        ChromasyncError: the count differs, or was never shown.
    """
    waiting = [hold for hold in holds if not hold.unconfirmed]
    if expected is not None:
        if sum(hold.count for hold in waiting) != expected:
            raise _changed(_names(holds), holds)
        return
    if any(hold.shown_count != hold.count for hold in waiting):
        raise _changed(_names(holds), holds)


def _names(holds: Sequence[Hold]) -> str:
    return ", ".join(sorted({hold.collection_name for hold in holds}))


def _changed(name: str, holds: Sequence[Hold]) -> ChromasyncError:
    now = ", ".join(f"{hold.count:,} ({hold.kind}, @{hold.set_digest})" for hold in holds)
    return ChromasyncError(
        f"The hold for {name} is not what was shown: now it is {now}.",
        untouched="Nothing was approved.",
        hint="Look at `chromasync status`, then approve NAME@DIGEST, or give --expect COUNT.",
    )


def _parted(name: str, holds: Sequence[Hold]) -> tuple[str, str]:
    """A name and the digest after it; the name of a collection may itself contain the mark."""
    bare, mark, digest = name.rpartition(DIGEST_MARK)
    known = {n for h in holds for n in (h.collection_id, h.full_name, h.collection_name)}
    if name in known or not mark or len(digest) < SHORTEST_DIGEST:
        return name, ""
    return bare, digest


def _held_under(name: str, holds: Sequence[Hold]) -> list[Hold]:
    exact = [hold for hold in holds if name in (hold.collection_id, hold.full_name)]
    found = exact or [hold for hold in holds if hold.collection_name == name]
    if not found:
        raise ChromasyncError(
            f"Nothing is held in a collection named {name!r}.",
            untouched="Nothing was approved.",
            hint="`chromasync status` lists all holds.",
        )
    candidates = sorted({hold.full_name for hold in found})
    if len(candidates) > 1:
        raise SettingsError(
            f"Something is held in {len(candidates)} collections named {name!r}.",
            untouched="Nothing was approved.",
            hint=f"Give the full name of one of them: {', '.join(candidates)}.",
        )
    return found


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
            hint="Point REPLICA_URL at a server of its own, with an empty data folder. Copies "
            "beside the originals need SYNC_TARGET, and the same address as both URLs, with one "
            "token and the same headers.",
        )


def is_one_server(settings: Settings) -> bool:
    """Whether the settings give one server for both sides.

    One address may be two servers to those who ask with two tokens, such as two tenants of Chroma
    Cloud. If it is one server all the same, the ids of its collections show that.
    """
    if settings.primary_url.rstrip("/") != settings.replica_url.rstrip("/"):
        return False
    is_given = bool(settings.primary_url)
    return not is_given or _headers(settings, Side.PRIMARY) == _headers(settings, Side.REPLICA)


def _headers(settings: Settings, side: Side) -> dict[str, str]:
    """The headers of a side, its token included."""
    return {name.lower(): value for name, value in settings.server(side).headers.items()}


def refuse_equal_urls(settings: Settings) -> None:
    """Raise when both sides are one server by the settings; see `is_one_server`.

    Collection ids cannot show this on an empty server. With SYNC_TARGET it may be one: see
    `plan.places`.

    Raises:
        GuardRefusal: PRIMARY_URL and REPLICA_URL are the same, or a folder and one inside it.
    """
    primary_url, replica_url = settings.primary_url, settings.replica_url
    if settings.sync_target.is_plain and is_one_server(settings):
        raise GuardRefusal(
            f"PRIMARY_URL and REPLICA_URL are the same ({primary_url}).",
            untouched="Nothing was written to either side.",
            hint="Point REPLICA_URL at a server of its own, with an empty data folder; or set "
            "SYNC_TARGET, to keep copies beside the originals.",
        )
    refuse_nested(primary_url, replica_url)


def refuse_nested(one_url: str, other_url: str) -> None:
    """Raise when both URLs are folders, and one folder is inside the other.

    Raises:
        GuardRefusal: what is written to one would change the other.
    """
    one, other = folder_of(one_url), folder_of(other_url)
    if one and other and (one.is_relative_to(other) or other.is_relative_to(one)):
        raise GuardRefusal(
            f"Both sides are the folder {one}."
            if one == other
            else f"One of the folders {one} and {other} is inside the other.",
            untouched="Nothing was written to either side.",
            hint="Give each side a folder of its own, beside the other or on another disk.",
        )

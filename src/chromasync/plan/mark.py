"""Judges the mark that a replica carries, before anything is written; pure.

A mark is one record per mirrored place (`tenant/database`). It names the store that mirrors to the
place, the cycle that wrote it, and a random number that no other mark has. The store remembers its
last mark, and a cycle compares both before it writes anything:

    on the replica                     in the store           consequence
    none                               none                   none
    the store's last                   the same               none
    none, or an older one of its own   a newer one            compare everything
    a newer one of its own             an older one, or none  compare everything
    another store's, active            any                    refuse
    another store's, not active        any                    compare everything, take over
    one that says *promoted*           any                    refuse, unless the store was turned

The mark is the first write of a cycle, and it is written again when the cycle ends. So a copy of
the replica from the middle of a cycle has another random number than the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import orjson

from chromasync.errors import AnotherStore, GuardRefusal, ReplicaPromoted
from chromasync.model import MARKS_DATABASE, Deployment, MarkRow
from chromasync.processes import host_and_pid

ALIVE_INTERVALS = 3
"""A store on another host counts as gone if its mark does not change for so many intervals."""
SHORTEST_INTERVAL = 20.0
"""Shortest interval in this count; cycles may start more often, but they take time."""

NOT_NOTICED = (
    "So these are not noticed: a replica restored from an older copy, another store that writes to "
    "it, and a state store restored from an older backup."
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on the replica.

    Attributes:
        store_id: the store that mirrors to the place; empty if the record cannot be read.
        cycle_id: the cycle in which it was written.
        nonce: a random number.
        holder: the leading process of that store.
        machine: where that process can be looked up.
        written_at: when, by the clock of that store.
        interval_seconds: the SYNC_INTERVAL of that store.
        final: it was written at the end of its cycle.
        released: the process ended in order.
        promoted: the replica was promoted, after so many turns of that store's direction; None if
            it was not.
    """

    store_id: str
    cycle_id: int
    nonce: str
    holder: str
    machine: str
    written_at: datetime
    interval_seconds: float
    final: bool = False
    released: bool = False
    promoted: int | None = None

    @property
    def fingerprint(self) -> str:
        """A value that changes whenever the store writes the mark again."""
        return f"{self.nonce}@{self.written_at.timestamp()}"

    def document(self) -> str:
        """The mark as the document of its record."""
        content = {
            "store": self.store_id,
            "cycle": self.cycle_id,
            "nonce": self.nonce,
            "holder": self.holder,
            "machine": self.machine,
            "written_at": self.written_at.astimezone(UTC).isoformat(),
            "interval": self.interval_seconds,
            "final": self.final,
            "released": self.released,
            "promoted": self.promoted,
        }
        return orjson.dumps(content).decode()


UNREADABLE = Mark("", 0, "", "", "", datetime.fromtimestamp(0, UTC), 0.0, released=True)


def parse_mark(document: str | None) -> Mark:
    """The mark in a record's document; UNREADABLE when it is none."""
    try:
        content = orjson.loads(document or "")
        return Mark(
            store_id=str(content["store"]),
            cycle_id=int(content["cycle"]),
            nonce=str(content["nonce"]),
            holder=str(content["holder"]),
            machine=str(content["machine"]),
            written_at=datetime.fromisoformat(content["written_at"]).astimezone(UTC),
            interval_seconds=float(content["interval"]),
            final=bool(content["final"]),
            released=bool(content["released"]),
            promoted=_promoted(content.get("promoted")),
        )
    except (ValueError, TypeError, KeyError, OverflowError):
        return UNREADABLE


def _promoted(value: object) -> int | None:
    """The number of turns; a mark of an older program has none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class MarkState(StrEnum):
    """The state of a place by its mark."""

    KNOWN = "known"
    """The mark is the one that this store left, or there never was one."""
    DOUBT = "doubt"
    """The ledger is not trusted until everything was compared."""
    REFUSED = "refused"
    """Another store is active there, or the replica was promoted."""


@dataclass(frozen=True, slots=True)
class MarkVerdict:
    """The judgement about the mark in one place.

    Attributes:
        found: the mark there; None if there is none.
        row: the store's new row for the place.
        why: one sentence; empty if the mark is known.
        error: the error that a cycle raises; None unless the place is refused.
    """

    place: str
    state: MarkState
    found: Mark | None
    row: MarkRow
    why: str = ""
    error: AnotherStore | ReplicaPromoted | None = None

    @property
    def vouches(self) -> bool:
        """Whether the mark proves that the replica is as it was left.

        The mark of an unfinished cycle may also be on a copy from the middle of that cycle.
        """
        return self.state is MarkState.KNOWN and self.found is not None and self.found.final


Ended = Callable[[Mark], bool | None]
"""Whether the process that wrote a mark has ended; None if it cannot be checked on this host."""


def judge_mark(
    found: Mark | None,
    row: MarkRow,
    deployment: Deployment,
    now: datetime,
    ended: Ended,
    *,
    turns: int = 0,
) -> MarkVerdict:
    """Judge the mark that was found in the place of `row`.

    Args:
        turns: `Direction.turns` of this store.
    """
    if found is not None and _is_promoted(found, deployment, turns):
        error = _promoted_there(found, row.place, deployment)
        return MarkVerdict(row.place, MarkState.REFUSED, found, row, error.what, error)
    if found is not None and found.store_id != deployment.store_id:
        return _judge_foreign(found, row, now, ended)
    met_none = replace(row, met_nonce=None, met_at=None)
    if is_still(found, row):
        return MarkVerdict(row.place, MarkState.KNOWN, found, met_none)
    return MarkVerdict(row.place, MarkState.DOUBT, found, met_none, _why_doubtful(found, row))


def judge_meeting(
    verdict: MarkVerdict,
    others: Iterable[Mark],
    row: MarkRow,
    deployment: Deployment,
    *,
    now: datetime,
    ended: Ended,
) -> MarkVerdict:
    """Judge also the marks of other stores that SYNC_TARGET led to the same place.

    Each store reads only the mark of its own database there, so these are not its own. One that is
    older than the own mark was judged before. Clocks may be wrong, so the instant when it was first
    seen counts as well; the row keeps it.

    Args:
        verdict: about the own mark, which is `row`.
    """
    foreign = [mark for mark in others if mark.store_id != deployment.store_id]
    if verdict.error is not None or not foreign:
        return verdict
    foreign.sort(key=lambda mark: mark.written_at, reverse=True)
    judged = [judge_mark(mark, row, deployment, now, ended) for mark in foreign]
    for met in judged:
        if met.error is not None:
            return replace(met, found=verdict.found)
    newest = _met(foreign[0], row, now)
    seen_at = min(foreign[0].written_at, newest.met_at or now)
    if verdict.found is None or verdict.found.written_at < seen_at:
        verdict = replace(judged[0], found=verdict.found)
    kept = replace(verdict.row, met_nonce=newest.met_nonce, met_at=newest.met_at)
    return replace(verdict, row=kept)


def _is_promoted(found: Mark, deployment: Deployment, turns: int) -> bool:
    """Whether the server was promoted; not if this store's direction was turned since then."""
    if found.promoted is None:
        return False
    return found.store_id != deployment.store_id or turns <= found.promoted


def _promoted_there(found: Mark, place: str, deployment: Deployment) -> ReplicaPromoted:
    when = _shown(found.written_at)
    if found.store_id == deployment.store_id:
        return ReplicaPromoted(
            f"The mark on the replica in {place} says that it was promoted at {when}: it is a "
            "primary now. This state store does not know that, so it is older than the promotion."
        )
    return ReplicaPromoted(
        f"Another chromasync store promoted the server at REPLICA_URL at {when} ({place}): it is a "
        "primary now, and applications write to it.",
        hint="Give another server as REPLICA_URL. To overwrite this one on purpose, remove its "
        f"database {MARKS_DATABASE}.",
    )


def is_still(found: Mark | None, row: MarkRow) -> bool:
    """Whether a place has the mark of `row`, or still the one before that was prepared."""
    nonce = None if found is None else found.nonce
    return nonce == row.nonce or (not row.written and nonce == row.former_nonce)


def _why_doubtful(found: Mark | None, row: MarkRow) -> str:
    if found is None:
        return (
            f"The replica does not carry the mark that this store left in {row.place}: it was "
            "emptied or restored from an older copy, or it is another server."
        )
    known = row.cycle_id or 0
    if found.promoted is not None:
        return f"The mark in {row.place} is that of an earlier promotion of this server."
    if found.cycle_id > known:
        return (
            f"The replica carries a newer mark of this store in {row.place} (of cycle "
            f"{found.cycle_id}; {known} is the last one known here): the state store was restored "
            "from an older backup, or a copy of it is in use, too."
        )
    if found.cycle_id < known:
        return (
            f"The replica carries an older mark of this store in {row.place} (of cycle "
            f"{found.cycle_id} instead of {known}): it was restored from an older copy, or it is "
            "another server."
        )
    return (
        f"The replica carries another mark of cycle {known} in {row.place} than this store left: "
        "it was restored from a copy made in the middle of that cycle, or a copy of the state "
        "store is in use, too."
    )


def _judge_foreign(found: Mark, row: MarkRow, now: datetime, ended: Ended) -> MarkVerdict:
    met = _met(found, row, now)
    if _is_alive(found, met, now, ended):
        error = _another_store(found, row.place)
        return MarkVerdict(row.place, MarkState.REFUSED, found, met, error.what, error)
    met = replace(row, met_nonce=None, met_at=None)
    if not found.store_id:
        why = f"The mark of the replica in {row.place} cannot be read."
    else:
        host, _ = host_and_pid(found.holder)
        why = (
            f"Another chromasync store (last on host {host}) mirrored {row.place} to this replica "
            f"until {_shown(found.written_at)}, and is no longer active there."
        )
    return MarkVerdict(row.place, MarkState.DOUBT, found, met, why)


def _met(found: Mark, row: MarkRow, now: datetime) -> MarkRow:
    """The row with the instant when this mark of another store was first seen."""
    if row.met_nonce != found.fingerprint or row.met_at is None or row.met_at > now:
        return replace(row, met_nonce=found.fingerprint, met_at=now)
    return row


def _is_alive(found: Mark, met: MarkRow, now: datetime, ended: Ended) -> bool:
    """Whether the store of a mark counts as active.

    An instant in the future proves nothing, because it comes from a wrong clock.
    """
    if found.released:
        return False
    has_ended = ended(found)
    if has_ended is not None:
        return not has_ended
    silent_since = min(met.met_at or now, found.written_at)
    return (now - silent_since).total_seconds() <= _alive_seconds(found)


def _alive_seconds(found: Mark) -> float:
    """Seconds without a change after which the store of a mark counts as gone."""
    return ALIVE_INTERVALS * refresh_seconds(found.interval_seconds)


def refresh_seconds(interval_seconds: float) -> float:
    """Seconds after which a running cycle writes its mark again."""
    return max(interval_seconds, SHORTEST_INTERVAL)


def _another_store(found: Mark, place: str) -> AnotherStore:
    host, pid = host_and_pid(found.holder)
    return AnotherStore(
        f"Another chromasync with its own state store mirrors {place} to this replica: process "
        f"{pid} on host {host}, which wrote its mark last at {_shown(found.written_at)}.",
        untouched="Nothing was written.",
        hint="Stop the other one, or give each a replica of its own. A killed one counts as gone "
        f"when its mark has not changed for {_alive_seconds(found):,.0f} seconds. SYNC_MARK=off "
        "turns this check off.",
    )


def overtaken(place: str) -> AnotherStore:
    """The error for a mark that changed after this cycle checked it."""
    return AnotherStore(
        f"The mark in {place} on the replica changed during this cycle: another chromasync "
        "works there, too, or the replica was restored.",
        untouched="Nothing more was written.",
        hint="Stop the other one, or give each a replica of its own; the next cycle reports the "
        "cause, and compares everything.",
    )


def refuse_marked_primary(
    found: Mapping[str, Mark],
    deployment: Deployment,
    primary_url: str,
    promoted_at: datetime | None = None,
) -> None:
    """Raise if the primary carries marks in mirrored places, because then it is a replica.

    A promoted replica is a primary, so its mark is not refused. If it took no mark when it was
    promoted, it still has the one that this store left there before.

    Args:
        promoted_at: when the present primary was promoted; None if it never was.

    Raises:
        GuardRefusal: this store's replica, or another one's, was given as primary.
    """

    def is_of_promoted(mark: Mark) -> bool:
        own = mark.store_id == deployment.store_id
        is_before = own and promoted_at is not None and mark.written_at <= promoted_at
        return mark.promoted is not None or is_before

    found = {place: mark for place, mark in found.items() if not is_of_promoted(mark)}
    for place, mark in found.items():
        if mark.store_id == deployment.store_id:
            raise GuardRefusal(
                f"The server at PRIMARY_URL ({primary_url}) carries the mark that this store "
                f"leaves on its replica in {place}: PRIMARY_URL and REPLICA_URL look swapped.",
                untouched="Nothing was written to either side.",
                hint=f"Swap them back. {_ON_PURPOSE}",
            )
    for place in found:
        raise GuardRefusal(
            f"The server at PRIMARY_URL ({primary_url}) is a replica: chromasync left its mark in "
            f"{place} there.",
            untouched="Nothing was written to either side.",
            hint=f"Give the server that the application writes to as PRIMARY_URL. {_ON_PURPOSE}",
        )


_ON_PURPOSE = (
    f"If it is the primary from now on, remove its database {MARKS_DATABASE} and use a new "
    "SYNC_DATA_DIR (or DATABASE_URL). To mirror a server that stays a replica, set SYNC_MARK=off."
)


def _shown(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

"""Decides whether the primary went back in time, restored from an older copy; pure.

A restore undoes all changes after the copy, in every collection. So the missing records show it:
they are the *newest* part of the ledger's order, and no newer record survived in any collection.
Then the missing records exist on the replica only, so updates and deletes are held.

    no record of the collection is missing         not older; a hold of it ends
    it is held already and not approved            older: it stays held
    the missing records are not the newest part    not older
    the primary was never away, and few records
      are missing, or new ones replaced them       not older: ordinary deletes
    a newer record survived                        not older: they were deleted
    otherwise                                      older: held

A *newer record* counts only if it came in or before the last clean cycle: later records may have
been written to the restored primary. For the same reason later records do not end a hold. It ends
by a decision, or when all missing records are back.

The judgement depends on the walks alone and comes before any write to old chunks. The restore may
also happen later in the cycle. So a record that the walk did see is never deleted in this cycle:
the walk of the next cycle is judged first.

A vanished collection counts as one whose whole ledger is missing. This holds only after an outage,
and only if all surviving records are older than its first record. Otherwise the rules for vanished
collections apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from typing import overload

from chromasync.config import Scope
from chromasync.ledger.ids import ids_of
from chromasync.ledger.idset import ShortIds
from chromasync.model import Hold, HoldKind, Mirror
from chromasync.plan.removals import IdSum, find_hold, is_approved
from chromasync.plan.superseded import is_superseded
from chromasync.ports import Store

OLDER = "the primary may have gone back in time, so nothing is deleted until someone decides"

NEWEST_SHARE = 0.9
"""Least share of the newest part in the missing records of an older primary."""

FEWEST_NEWEST = 5
"""Without an outage, fewer missing records than this count as ordinary deletes."""

REPLACED_SHARE = 0.5
"""Without an outage, so many new records per missing one count as a replacement."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest part of one collection's ledger, after the walk of the primary.

    Attributes:
        missing: number of ledger ids that the primary does not list and that were not judged
            before.
        newest_missing: how many of them are at the end of the ledger's order, without a gap.
        added_cycle: the cycle that added the newest record; 0 if that is unknown.
        surviving_cycles: cycles that added records which still exist.
        new: ids that the primary listed and the ledger did not have.
    """

    missing: int
    newest_missing: int
    added_cycle: int
    surviving_cycles: frozenset[int] = frozenset()
    new: int = 0

    @property
    def looks_cut(self) -> bool:
        """Whether nearly all missing records belong to the newest part."""
        return self.newest_missing > 0 and self.newest_missing >= NEWEST_SHARE * self.missing

    @property
    def looks_ordinary(self) -> bool:
        """Whether ordinary deletes and replacements of an application explain it as well."""
        few = self.newest_missing < FEWEST_NEWEST
        return few or self.new >= REPLACED_SHARE * self.missing


def tail_of(
    counts: Sequence[int],
    added: Sequence[int | None],
    missing: Sequence[AbstractSet[int]],
    new: int = 0,
) -> Tail:
    """The tail of a ledger.

    Args:
        counts: records by chunk, in the ledger's order.
        added: the cycle that added the last record of each chunk.
        missing: rows by chunk that the primary does not list.
        new: ids that the primary listed and the ledger did not have.
    """
    newest, surviving, total, whole = 0, set(), 0, True
    for count, cycle, rows in zip(
        reversed(counts), reversed(added), reversed(missing), strict=True
    ):  # the rows of one chunk at a time, because there may be millions in all
        run = next((n for n in range(count) if count - 1 - n not in rows), count)
        newest += run if whole else 0
        whole = whole and run == count
        total += len(rows)
        if run == 0 and cycle:
            surviving.add(cycle)
    last = (added[-1] or 0) if added else 0
    return Tail(total, newest, last, frozenset(surviving), new)


@dataclass(frozen=True, slots=True)
class Part:
    """One chunk before the walk: the number of records that stay, and the last record's cycle."""

    chunk_id: int
    count: int
    added_cycle: int | None


def tail_without(
    parts: Sequence[Part],
    missing: Mapping[int, ShortIds],
    judged: Mapping[int | None, Iterable[str]],
    load_ids: Callable[[int], Sequence[str]],
    new: int,
) -> Tail:
    """The tail of a ledger that lacks these ids by chunk, except those that were judged before.

    Args:
        judged: ids that were judged before, by chunk.
        load_ids: loads a chunk's ids; those beyond a part's count are ignored.
        new: ids that the primary listed and the ledger did not have.
    """
    rows = _LostRows(parts, missing, judged, load_ids)
    return tail_of([p.count for p in parts], [p.added_cycle for p in parts], rows, new)


class _LostRows(Sequence[AbstractSet[int]]):
    """The rows that each part has lost; computed when they are asked for."""

    def __init__(
        self,
        parts: Sequence[Part],
        missing: Mapping[int, ShortIds],
        judged: Mapping[int | None, Iterable[str]],
        load_ids: Callable[[int], Sequence[str]],
    ) -> None:
        self._parts = parts
        self._missing = missing
        self._judged = judged
        self._load_ids = load_ids

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, at: int) -> AbstractSet[int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[AbstractSet[int]]: ...
    def __getitem__(self, at: int | slice) -> AbstractSet[int] | list[AbstractSet[int]]:
        if isinstance(at, slice):
            return [self._rows_of(part) for part in self._parts[at]]
        return self._rows_of(self._parts[at])

    def _rows_of(self, part: Part) -> AbstractSet[int]:
        lost = self._missing.get(part.chunk_id)
        if lost is None:
            return frozenset()
        judged = frozenset(self._judged.get(part.chunk_id, ()))
        ids = self._load_ids(part.chunk_id)[: part.count]
        return {row for row in lost.rows(ids) if ids[row] not in judged}


def were_judged(
    mirror: Mirror, gone: Iterable[Iterable[str]], holds: Sequence[Hold], replica_id: str
) -> bool:
    """Whether a finished cycle judged and held exactly these ids, which wait to be deleted.

    The ids of a cycle that was cut off were never judged.
    """
    hold = find_hold(holds, mirror.collection_id, HoldKind.DELETES)
    if hold is None:
        return False
    total = IdSum(i for ids in gone for i in ids)
    return hold.set_digest == total.digest(HoldKind.DELETES, replica_id)


@dataclass(frozen=True, slots=True)
class Seen:
    """One mirrored collection after the walk of the primary.

    Attributes:
        missing: ids of the ledger that the primary does not list, those that wait to be deleted
            included.
        total: number of records in the ledger before the walk.
        tail: None if the primary could not be walked.
        vanished: the primary does not list the collection.
    """

    mirror: Mirror
    missing: IdSum
    total: int
    tail: Tail | None
    vanished: bool = False

    @classmethod
    def gone(cls, mirror: Mirror, load_ids: Callable[[], Iterable[str]]) -> Seen:
        """A collection that the primary no longer lists; its ids are loaded at once."""
        missing = IdSum(load_ids())
        count = missing.count
        tail = Tail(count, count, mirror.primary.first_cycle or 0)
        return cls(mirror, missing, count, tail, vanished=True)

    def hold(self) -> Hold:
        """The hold of its updates and deletes."""
        mirror = self.mirror
        kind = HoldKind.DROP if self.vanished else HoldKind.DELETES
        return Hold(
            mirror.collection_id,
            mirror.name,
            HoldKind.OLDER_PRIMARY,
            self.missing.count,
            f"{self._words()}: it may have gone back in time, restored from an older copy, and the "
            "replica may be the only place that has them",
            tenant=mirror.tenant,
            database=mirror.database,
            set_digest=self.missing.digest(kind, mirror.replica_id or ""),
        )

    def _words(self) -> str:
        if self.vanished:
            return f"the primary lacks the whole collection, its newest, of {self.total:,} records"
        newest = self.tail.newest_missing if self.tail else 0
        if newest and newest == self.missing.count:
            return f"the primary lacks the newest {newest:,} of {self.total:,} records"
        return f"the primary lacks {self.missing.count:,} of {self.total:,} records"


@dataclass(slots=True)
class Ages:
    """The judgement about all collections of a primary that may be older.

    Attributes:
        held: holds by collection id; no old record of these is updated or deleted.
        unseen: holds of collections that could not be checked; they stay.
        approved: collections whose deletes were approved, with the digest of the set.
        ended: collections whose hold has no cause any more.
    """

    held: dict[str, Hold] = field(default_factory=dict)
    unseen: list[Hold] = field(default_factory=list)
    approved: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    @property
    def doubt(self) -> str:
        """Why nothing may be deleted anywhere; empty if it may."""
        return OLDER if self.held or self.unseen else ""


def look_at_ages(
    store: Store,
    scope: Scope,
    walked: Iterable[Seen],
    vanished: Iterable[Mirror],
    *,
    away: bool,
) -> tuple[Ages, list[Mirror]]:
    """The ages of all mirrored collections, and the vanished collections that were judged.

    Args:
        walked: collections whose ids were listed, or could not be.
        vanished: collections that the primary no longer lists.
        away: see `judge_ages`.
    """
    holds = store.holds()
    gone = vanished_to_judge(vanished, holds, away=away)
    seen = [*walked, *(Seen.gone(m, partial(ids_of, store, m.collection_id)) for m in gone)]
    seen += unseen_of(seen, holds, store.mirrors(), scope)
    clean_cycle = store.deployment().clean_cycle
    return judge_ages(seen, holds, clean_cycle=clean_cycle, away=away), gone


def judge_ages(
    seen: Sequence[Seen], holds: Sequence[Hold], *, clean_cycle: int | None, away: bool
) -> Ages:
    """Find the collections that look like those of a primary restored from an older copy.

    Args:
        seen: every mirrored collection.
        clean_cycle: the last cycle with nothing to decide; None if there was none.
        away: the primary was unreachable, or not contacted, since then.
    """
    ages = Ages()
    for one in seen:
        key = one.mirror.collection_id
        known = find_hold(holds, key, HoldKind.OLDER_PRIMARY)
        if one.tail is None:
            if known is not None:
                ages.unseen.append(known)
            continue
        # lazy, because there may be many collections and few of them need it
        others = (o.tail.surviving_cycles for o in seen if o is not one and o.tail is not None)
        evidence = (c for cycles in others for c in cycles if c <= (clean_cycle or 0))
        if not _is_older(one, one.tail, known, evidence, away=away):
            if known is not None:
                ages.ended.add(key)
            continue
        new = one.hold()
        if is_approved(known, new.set_digest):
            ages.approved[key] = new.set_digest
        else:
            ages.held[key] = new
    return ages


def _is_older(
    one: Seen, tail: Tail, known: Hold | None, evidence: Iterable[int], *, away: bool
) -> bool:
    if not one.missing.count:
        return False
    if known is not None:
        return True
    if not tail.looks_cut or (not away and (one.vanished or tail.looks_ordinary)):
        return False
    oldest = tail.added_cycle + (0 if one.vanished else 1)
    return not any(cycle >= oldest for cycle in evidence)


def unseen_of(
    seen: Iterable[Seen], holds: Iterable[Hold], mirrors: Iterable[Mirror], scope: Scope
) -> list[Seen]:
    """Collections whose hold stays, because this cycle did not check them for this reason."""
    known = {mirror.collection_id: mirror for mirror in mirrors}
    looked_at = {one.mirror.collection_id for one in seen}
    return [
        Seen(known[hold.collection_id], IdSum(), 0, None)
        for hold in holds
        if hold.kind is HoldKind.OLDER_PRIMARY
        and hold.collection_id in known
        and hold.collection_id not in looked_at
        and scope.includes(hold.tenant, hold.database, hold.collection_name)
    ]


def vanished_to_judge(
    vanished: Iterable[Mirror], holds: Sequence[Hold], *, away: bool
) -> list[Mirror]:
    """Collections that the primary no longer lists and that a restore may have undone."""
    held = {hold.collection_id for hold in holds if hold.kind is HoldKind.OLDER_PRIMARY}
    return [
        mirror
        for mirror in vanished
        if not is_superseded(mirror)
        and mirror.replica_id is not None
        and (away or mirror.collection_id in held)
    ]

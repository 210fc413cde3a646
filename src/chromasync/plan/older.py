"""Whether the primary went back in time, restored from an older copy; pure.

A restore undoes everything that came after the copy, everywhere. So it is told by what is missing:
the *newest* part of a ledger's order, while nothing that came later survived in any collection.
What the primary lacks then exists on the replica only, so updates and deletes are held.

    nothing of the collection is missing           not older; a hold of it ends
    it is held already, and no one approved it     older: it stays held
    what is missing is not the newest part         not older
    the primary was there all the time, and
      few are missing, or others came for them     not older: ordinary deletes
    something newer survived                       not older: they were deleted
    anything else                                  older: held

*Something newer* counts only when it came in or before the last clean cycle: what came after that
may have been written to the restored primary. For the same reason a hold ends by a decision, or
when everything is there again, and by nothing that comes later.

It is judged by walks alone, before anything old is written. A restore may come later in the cycle:
what a walk did not miss is never deleted before the next one was judged.

A collection that vanished counts as one whose whole ledger is missing, after an outage only, and
when all that survived is older than its first record: at other times it goes by the rules for
collections that vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial

from chromasync.config import Scope
from chromasync.ledger.ids import ids_of
from chromasync.model import Hold, HoldKind, Mirror
from chromasync.plan.pairing import is_superseded
from chromasync.plan.removals import IdSum, find_hold, is_approved
from chromasync.ports import Store

OLDER = "the primary may have gone back in time, so nothing is deleted until that is decided"

NEWEST_SHARE = 0.9
"""So much of what is missing must be the newest part to look like an older primary."""

FEWEST_NEWEST = 5
"""Without an outage, fewer missing records than that are taken for ordinary deletes."""

REPLACED_SHARE = 0.5
"""Without an outage, so many new records for each missing one are taken for a replacement."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest part of one collection's ledger, after the walk of the primary.

    Attributes:
        missing: ledger ids that the primary does not list, and that do not wait to be deleted.
        newest_missing: how many of them stand at the end of the ledger's order, without a gap.
        added_cycle: the cycle that brought the newest record; 0 when that is not known.
        surviving_cycles: the cycles that brought records which are still there.
        new: ids that the primary listed and the ledger did not have.
    """

    missing: int
    newest_missing: int
    added_cycle: int
    surviving_cycles: frozenset[int] = frozenset()
    new: int = 0

    @property
    def looks_cut(self) -> bool:
        """Whether what is missing is the newest part, by and large."""
        return self.newest_missing > 0 and self.newest_missing >= NEWEST_SHARE * self.missing

    @property
    def looks_ordinary(self) -> bool:
        """Whether it may as well be what an application deletes or replaces day by day."""
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
    ):
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
    """One chunk of a ledger before the walk: records that stay in it, and who added the last."""

    chunk_id: int
    count: int
    added_cycle: int | None


def tail_without(
    parts: Sequence[Part],
    missing: Mapping[int, Container[str]],
    judged: Container[str],
    load_ids: Callable[[int], Sequence[str]],
    new: int,
) -> Tail:
    """The tail of a ledger that lacks these ids by chunk, but for those that were judged before.

    Args:
        load_ids: a chunk's ids; of those beyond a part's count nothing is asked.
        new: ids that the primary listed and the ledger did not have.
    """
    rows: list[set[int]] = []
    for part in parts:
        lost = missing.get(part.chunk_id)
        ids = load_ids(part.chunk_id)[: part.count] if lost else ()
        rows.append({row for row, i in enumerate(ids) if lost and i in lost and i not in judged})
    return tail_of([p.count for p in parts], [p.added_cycle for p in parts], rows, new)


def judged_before(
    mirror: Mirror, gone: Iterable[str], holds: Sequence[Hold], replica_id: str
) -> frozenset[str]:
    """Ids that wait to be deleted, and that a whole cycle looked at and held for their number.

    Those of a cycle that was cut off were never judged.
    """
    ids = frozenset(gone)
    hold = find_hold(holds, mirror.collection_id, HoldKind.DELETES)
    digest = IdSum(ids).digest(HoldKind.DELETES, replica_id)
    return ids if hold is not None and hold.set_digest == digest else frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """One mirrored collection as the primary was found.

    Attributes:
        missing: ids of the ledger that the primary does not list, those that wait to be deleted
            included.
        total: records that the ledger had before the walk.
        tail: None when the primary could not be walked.
        vanished: the primary does not list the collection.
    """

    mirror: Mirror
    missing: IdSum
    total: int
    tail: Tail | None
    vanished: bool = False

    @classmethod
    def gone(cls, mirror: Mirror, load_ids: Callable[[], Iterable[str]]) -> Seen:
        """A collection that the primary lists no more; its ids are asked for at once."""
        missing = IdSum(load_ids())
        count = missing.count
        tail = Tail(count, count, mirror.first_cycle or 0)
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
    """What is to be done about a primary that may be older.

    Attributes:
        held: holds to be kept, by collection id: nothing old of them is updated or deleted.
        unseen: holds of collections that could not be looked at; they stay.
        approved: collections whose deletes someone approved, with the digest of the set.
        ended: collections whose hold has no cause any more.
    """

    held: dict[str, Hold] = field(default_factory=dict)
    unseen: list[Hold] = field(default_factory=list)
    approved: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    @property
    def doubt(self) -> str:
        """Why nothing may be deleted anywhere; empty when it may."""
        return OLDER if self.held or self.unseen else ""


def look_at_ages(
    store: Store,
    scope: Scope,
    walked: Iterable[Seen],
    vanished: Iterable[Mirror],
    *,
    away: bool,
) -> tuple[Ages, list[Mirror]]:
    """The ages of all that is mirrored, and which of the vanished collections were looked at.

    Args:
        walked: collections whose ids the primary listed, or could not.
        vanished: those that it lists no more.
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
    """Which collections look like those of a primary restored from an older copy.

    Args:
        seen: every mirrored collection.
        clean_cycle: the last cycle that found nothing to decide; None before there was one.
        away: the primary was not reachable, or not watched, since then.
    """
    ages = Ages()
    for one in seen:
        key = one.mirror.collection_id
        known = find_hold(holds, key, HoldKind.OLDER_PRIMARY)
        if one.tail is None:
            if known is not None:
                ages.unseen.append(known)
            continue
        # looked through only where something newest is missing: there may be many collections
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
    """Collections whose hold stays, because this cycle looks at them for another reason only."""
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
    """Collections that the primary lists no more, and that a restore may have undone."""
    held = {hold.collection_id for hold in holds if hold.kind is HoldKind.OLDER_PRIMARY}
    return [
        mirror
        for mirror in vanished
        if not is_superseded(mirror)
        and mirror.replica_id is not None
        and (away or mirror.collection_id in held)
    ]

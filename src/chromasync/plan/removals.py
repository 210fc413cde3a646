"""Decides which removals from the replica may be carried out, all of a cycle together; pure.

A *removal* is a set of records with one reason to be deleted: the primary deleted them in one
collection, it never had them there, or a whole collection is removed. All removals of a cycle are
judged together, in this order:

    1  the collection could not be read in this cycle     held
    2  exactly this set was approved through a hold of a
       diverged or doubtful collection                    let through, and not counted
    3  the primary may have gone back in time, or a
       collection is dropped while another is diverged    held
    4  exactly this set was approved                      let through, and not counted
    5  there is a doubt, such as an unknown origin        held
    6  the primary has no records left                    held
    7  at least half of all collections are removed       held
    8  more records than the budget allows                held
    9  a whole collection, seen for the first time        held until the next successful cycle
    10 otherwise                                          let through, and counted

The *budget* is SYNC_MAX_DELETE, for each collection and for the whole replica, within a rolling
day. A percentage never means fewer than 100 records for all collections together (the floor). All
deletes of the collections that lose more than their own share must fit into the floor. `0` and `0%`
mean never.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from chromasync.config import MaxDelete
from chromasync.model import PRIMARY_EMPTY, Hold, HoldKind, Mirror, Removal

CONFIRMING_CYCLES = 2
"""Successful cycles in a row that must see a removal before it is carried out."""

ADOPTED = "the replica had them before it was first compared with this primary"
NEVER_HAD = "the primary never had them, as far as is known"

DIGEST_CHARS = 12

Key = tuple[str, HoldKind]
"""The collection id of a hold, and its kind."""

UNCONFIRMED = {
    HoldKind.DROP: "it vanished from the primary in this cycle; the next one confirms it",
    HoldKind.REPLACE: "it was re-created on the primary without them; the next cycle confirms it",
    HoldKind.DELETES: "the primary emptied it in this cycle; the next one confirms it",
}
"""Reasons to hold that end without an approval."""


FROZEN = "another collection is diverged or in doubt, and someone must decide about it first"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A removal that a cycle would carry out.

    Attributes:
        collection_id: the primary's id, or the replica's for a collection without a mirror.
        count: records that would be deleted.
        total: records that the collection has on the replica now.
        set_digest: a digest of exactly these records on exactly this replica, see `IdSum`.
        wholly: no record of the collection would be left.
        whole: the replica's collection itself is dropped.
        doubt: why it is held at any size until it is approved; empty if there is no doubt.
        seen_cycles: earlier successful cycles that saw this removal.
        trouble: why even an approval has no effect in this cycle, such as a failed read of the
            primary; empty if there is no such reason.
    """

    collection_id: str
    tenant: str
    database: str
    name: str
    kind: HoldKind
    count: int
    total: int
    set_digest: str
    wholly: bool = False
    whole: bool = False
    doubt: str = ""
    seen_cycles: int = 0
    trouble: str = ""

    @property
    def key(self) -> Key:
        """The key of its hold."""
        return self.collection_id, self.kind

    @property
    def must_confirm(self) -> bool:
        """Whether a second cycle must confirm it."""
        if self.kind is HoldKind.DROP:
            return True
        return self.count > 0 and (self.wholly or self.kind is HoldKind.REPLACE)

    def hold(self, verdict: Verdict) -> Hold:
        """The hold that prevents it."""
        return Hold(
            self.collection_id,
            self.name,
            self.kind,
            self.count,
            verdict.reason,
            tenant=self.tenant,
            database=self.database,
            set_digest=self.set_digest,
            unconfirmed=verdict.unconfirmed,
            seen_cycles=verdict.seen_cycles,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a candidate.

    Attributes:
        reason: why it is held; empty if it is let through.
        unconfirmed: the next successful cycle may let it through without an approval.
        approved: it was approved, so it does not count against the budget.
        seen_cycles: successful cycles that saw this removal, this one included.
    """

    reason: str = ""
    unconfirmed: bool = False
    approved: bool = False
    seen_cycles: int = 0

    @property
    def held(self) -> bool:
        """Whether it is not carried out now."""
        return bool(self.reason)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The facts by which candidates are judged.

    Attributes:
        max_delete: the budget.
        totals: records on the replica by collection id, for all mirrored collections.
        collections: number of mirrored collections, vanished ones included.
        removed: removals without an approval within the last day.
        holds: the present holds, with their approvals.
        approved_sets: digests of sets that were approved through another hold.
        primary_empty: the primary has no record in any mirrored collection.
        frozen: why no collection may be dropped as a whole; empty if it may.
        undecided: why nothing may be removed at all; empty if it may.
        succeeded: the cycle had no error, so its observations count.
    """

    max_delete: MaxDelete
    totals: Mapping[str, int]
    collections: int
    removed: Sequence[Removal] = ()
    holds: Sequence[Hold] = ()
    approved_sets: frozenset[str] = frozenset()
    primary_empty: bool = False
    frozen: str = ""
    undecided: str = ""
    succeeded: bool = True


class IdSum:
    """The digest of a set of ids, built incrementally in any order; each id is added once."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.count = 0
        self._sum = 0
        self.add(ids)

    def add(self, ids: Iterable[str]) -> None:
        """Add ids that are not in the set yet."""
        for record_id in ids:
            digest = blake2b(record_id.encode(errors="surrogatepass"), digest_size=16).digest()
            self._sum = (self._sum + int.from_bytes(digest)) % 2**128
            self.count += 1

    def digest(self, *context: str) -> str:
        """A short digest of the set and its context, such as a kind and a replica collection."""
        whole = "\0".join((*context, str(self.count), str(self._sum)))
        return blake2b(whole.encode(), digest_size=16).hexdigest()[:DIGEST_CHARS]


def find_hold(holds: Iterable[Hold], collection_id: str, kind: HoldKind) -> Hold | None:
    """The hold of this kind on a collection; None if there is none."""
    return next((h for h in holds if h.collection_id == collection_id and h.kind is kind), None)


def is_approved(hold: Hold | None, set_digest: str) -> bool:
    """Whether exactly this set was approved."""
    return hold is not None and bool(set_digest) and hold.approved_digest == set_digest


def _is_emptied(hold: Hold | None, candidate: Candidate) -> bool:
    """Whether an approved collection is empty now, because its drop was cut off midway."""
    return (
        hold is not None
        and hold.approved_digest is not None
        and candidate.whole
        and candidate.total == 0
    )


def was_counted(candidate: Candidate, removed: Sequence[Removal]) -> bool:
    """Whether a whole collection was counted before, in a drop that was refused or cut off."""
    same = Removal(candidate.collection_id, candidate.count, candidate.wholly)
    return candidate.whole and same in removed


def deletes_candidate(
    mirror: Mirror,
    replica_id: str,
    kind: HoldKind,
    ids: IdSum,
    *,
    total: int,
    holds: Sequence[Hold],
    trouble: str = "",
) -> Candidate:
    """The removal of records of one collection: DELETES that the primary had, or SURPLUS."""
    hold = find_hold(holds, mirror.collection_id, kind)
    surplus = kind is HoldKind.SURPLUS
    doubt = (ADOPTED if mirror.adopting else NEVER_HAD) if surplus else ""
    return Candidate(
        mirror.collection_id,
        mirror.tenant,
        mirror.database,
        mirror.name,
        kind,
        count=ids.count,
        total=total,
        set_digest=ids.digest(kind, replica_id),
        wholly=not surplus and ids.count >= total,
        doubt=doubt,
        seen_cycles=hold.seen_cycles if hold is not None and hold.unconfirmed else 0,
        trouble=trouble,
    )


def judge_removals(candidates: Sequence[Candidate], around: Surroundings) -> dict[Key, Verdict]:
    """The verdict about each candidate; all removals of a cycle are judged together."""
    verdicts: dict[Key, Verdict] = {}
    open_ones: list[Candidate] = []
    for candidate in candidates:
        verdict = _alone(candidate, around)
        if verdict is None:
            open_ones.append(candidate)
        else:
            verdicts[candidate.key] = verdict
    verdicts.update(_together(open_ones, around))
    return verdicts


def _alone(candidate: Candidate, around: Surroundings) -> Verdict | None:
    """The verdict that does not depend on other candidates; None if there is none."""
    if candidate.trouble:
        return Verdict(candidate.trouble)
    if candidate.set_digest in around.approved_sets:
        return Verdict(approved=True)
    if undecided := around.undecided or (around.frozen if candidate.whole else ""):
        return Verdict(undecided)
    hold = find_hold(around.holds, *candidate.key)
    if is_approved(hold, candidate.set_digest) or _is_emptied(hold, candidate):
        return Verdict(approved=True)
    doubt = candidate.doubt
    if around.primary_empty and candidate.count:
        doubt = doubt or PRIMARY_EMPTY
    return Verdict(doubt) if doubt else None


def _together(candidates: Sequence[Candidate], around: Surroundings) -> dict[Key, Verdict]:
    budget = _Budget(candidates, around)
    return {c.key: _judge(c, budget, around) for c in candidates}


def _judge(candidate: Candidate, budget: _Budget, around: Surroundings) -> Verdict:
    seen = candidate.seen_cycles + (1 if around.succeeded else 0)
    if reason := budget.most_gone(candidate) or budget.excess(candidate):
        return Verdict(reason, seen_cycles=seen)
    if candidate.must_confirm and seen < CONFIRMING_CYCLES:
        return Verdict(UNCONFIRMED[candidate.kind], unconfirmed=True, seen_cycles=seen)
    return Verdict(seen_cycles=seen)


class _Budget:
    """The sums over all candidates and over the removals of the last day."""

    def __init__(self, candidates: Sequence[Candidate], around: Surroundings) -> None:
        self._max_delete = around.max_delete
        self._removed: dict[str, int] = {}
        again = {c.collection_id for c in candidates if was_counted(c, around.removed)}
        for removal in around.removed:
            if removal.collection_id in again:
                continue
            self._removed[removal.collection_id] = (
                self._removed.get(removal.collection_id, 0) + removal.count
            )
        self._going: dict[str, int] = {}
        for candidate in candidates:
            self._going[candidate.collection_id] = (
                self._going.get(candidate.collection_id, 0) + candidate.count
            )
        self._totals = dict(around.totals)
        for candidate in candidates:
            self._totals.setdefault(candidate.collection_id, candidate.total)
        going = {c.collection_id for c in candidates if c.wholly}
        went = sum(r.whole and r.collection_id not in going for r in around.removed)
        self._gone = len({(c.tenant, c.database, c.name) for c in candidates if c.wholly}) + went
        self._known = around.collections + went
        self._day = sum(self._removed.values())
        self._limit = self._max_delete.limit(sum(self._totals.values()) + self._day)
        beyond = [key for key in self._going if self._own(key) > self._share(key)]
        self._beyond = sum(map(self._own, beyond))
        self._beyond_count = len(beyond)
        # a candidate that is held for its own size uses no budget of the others
        self._all = self._day + sum(
            c.count for c in candidates if not self.most_gone(c) and not self._own_excess(c)
        )

    def _own(self, key: str) -> int:
        """Records that one collection loses within the day."""
        return self._going[key] + self._removed.get(key, 0)

    def _share(self, key: str) -> int:
        """Records that one collection may lose within a day, without the floor."""
        return self._max_delete.share(self._totals[key] + self._removed.get(key, 0))

    def most_gone(self, candidate: Candidate) -> str:
        """The reason to hold if at least half of all collections are removed; empty otherwise."""
        if candidate.wholly and 2 * self._gone >= self._known:
            return f"{self._gone:,} of {self._known:,} collections are gone or empty at once"
        return ""

    def excess(self, candidate: Candidate) -> str:
        """The reason to hold if the budget is exceeded; empty otherwise."""
        if not candidate.count:
            return ""
        if reason := self._own_excess(candidate):
            return reason
        if self._all > self._limit:
            return (
                f"{self._all:,} deletes within a day are more than the limit of "
                f"{self._limit:,} for all collections together"
            )
        return ""

    def _own_excess(self, candidate: Candidate) -> str:
        """The reason to hold if a collection exceeds its share and the floor; empty otherwise."""
        own, share = self._own(candidate.collection_id), self._share(candidate.collection_id)
        floor = self._max_delete.floor
        if own <= share or self._beyond <= floor:
            return ""
        if self._beyond_count == 1 or own > floor:
            limit = max(share, floor)
            return f"{own:,} deletes are more than the limit of {limit:,} for this collection"
        return (
            f"{self._beyond:,} deletes in {self._beyond_count:,} collections are more than the "
            f"{floor:,} that may go in all of them together"
        )

"""Verify: compares both sides record by record, without the ledger.

Collections are matched by name, ids as two sets, contents by reading both sides by id. A record
that differs is read again on both sides. If the primary's record has changed meanwhile, or the
difference is gone, a write was in progress, and the record is *inconclusive*. Memory use is about
20 bytes for each id, and one batch of records.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b

import numpy as np

from chromasync.answers import AnswerCheck
from chromasync.config import Settings
from chromasync.definition import creatable, effective, not_held
from chromasync.errors import RequestRefused, ServerFault
from chromasync.guard import refuse_same_server
from chromasync.ledger.digest import embedding_digests, id_digests, payload_digests
from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import pages
from chromasync.memory import Memory
from chromasync.model import Capabilities, Collection, Records
from chromasync.plan.distance import Distances
from chromasync.plan.listing import list_primary, list_replica, place_of, warn_of_leftovers
from chromasync.plan.pairing import warn_of_filters, why_incompatible
from chromasync.plan.places import guarded_ids, is_beside, meeting_error, meeting_places
from chromasync.plan.redefinition import redefinition
from chromasync.ports import Progress, Reader
from chromasync.reconcile.diff import Differ, Whole, carried, describe
from chromasync.reconcile.read import ReadBatch, RecordReader
from chromasync.reports import Finding, Sigil, VerifiedCollection, VerifyReport

MAX_FINDINGS = 1_000
BATCH_IDS = 1_000
SETTLE_SECONDS = 0.3
"""Pause before a record that differs is read again."""


@dataclass(slots=True)
class _Tally:
    """Counts and findings of one collection."""

    collection: Collection
    same: int = 0
    missing: int = 0
    extra: int = 0
    changed: int = 0
    inconclusive: int = 0
    unreadable: int = 0
    definition_differs: bool = False
    queries: int = 0
    overlap: float | None = None
    answers_differ: bool = False
    findings: list[Finding] = field(default_factory=list)

    def find(self, sigil: Sigil, record_id: str | None, what: str) -> None:
        tenant, database, name = place_of(self.collection)
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(sigil, tenant, database, name, record_id, what))

    def close(self) -> VerifiedCollection:
        tenant, database, name = place_of(self.collection)
        return VerifiedCollection(
            tenant,
            database,
            name,
            self.same,
            self.missing,
            self.extra,
            self.changed,
            self.inconclusive,
            self.definition_differs,
            self.queries,
            self.overlap,
            self.answers_differ,
            self.unreadable,
        )


class Verifier:
    """Compares a primary and a replica; writes nothing.

    Each verifier draws a new sample, and uses it in all of its comparisons.

    Args:
        hidden: gives the replica's collections that mirror nothing (dropped ones that are kept).
        queries: number of queries for each collection on both sides.
        trials: self-tests whose collections are compared, too.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Reader,
        settings: Settings,
        hidden: Callable[[], Iterable[str]] = tuple,
        queries: int = 0,
        *,
        trials: Container[str] = (),
    ) -> None:
        self._hidden = hidden
        self._queries = queries
        self._trials = trials
        self._primary = primary
        self._replica = replica
        self._memory = Memory(settings.sync_max_memory_mb)
        self._settings = settings
        self._sample_key = secrets.token_bytes(16)

    def verify(
        self, progress: Progress, sample_percent: float = 100.0, *, repaired: bool = False
    ) -> VerifyReport:
        """Compare everything, or a random sample of the records of each collection.

        Raises:
            GuardRefusal: both URLs lead to one server.
            ServerError: one side could not be read.
        """
        began = time.monotonic()
        primary = list_primary(self._primary, self._settings.scope, self._trials)
        replica = list_replica(self._replica, self._settings.scope, primary)
        settings = self._settings
        ids = guarded_ids(primary, self._replica, settings)
        refuse_same_server(ids, replica.collections.keys())
        replica.hide(self._hidden())
        wants = settings.scope.wants
        distances = Distances()
        distances.tell(primary, self._primary, wants)
        distances.tell(replica, self._replica, wants)
        lefts = {k: c for k, c in primary.by_place().items() if wants(c.name)}
        rights = {k: c for k, c in replica.by_place().items() if wants(c.name)}
        meeting = meeting_places(lefts.values(), settings.sync_target)
        tallies = [
            self._compare(progress, left, rights.get(key), sample_percent)
            for key, left in sorted(lefts.items())
            if key not in meeting
        ]
        extra = [] if is_beside(settings) else rights.keys() - lefts.keys()
        tallies += [self._extra(rights[key]) for key in sorted(extra)]
        findings = [finding for tally in tallies for finding in tally.findings]
        return VerifyReport(
            collections=tuple(tally.close() for tally in tallies),
            findings=tuple(findings[:MAX_FINDINGS]),
            sample_percent=sample_percent,
            duration_seconds=time.monotonic() - began,
            repaired=repaired,
            warnings=warn_of_filters(primary, settings.scope) + warn_of_leftovers(primary, replica),
            failures=(
                *(str(gone.error) for gone in primary.missing),
                *(str(meeting_error(key, meeting)) for key in sorted(meeting)),
            ),
        )

    def _extra(self, replica: Collection) -> _Tally:
        tally = _Tally(replica, extra=self._replica.count(replica), definition_differs=True)
        tally.find(Sigil.EXTRA, None, "the primary has no collection of this name")
        return tally

    def _compare(
        self, progress: Progress, left: Collection, right: Collection | None, percent: float
    ) -> _Tally:
        tally = _Tally(left)
        count = self._primary.count(left)
        progress.start(f"verifying {left.name}", count)
        if right is None:
            tally.missing, tally.definition_differs = count, True
            tally.find(Sigil.MISSING, None, "the replica has no collection of this name")
            return tally
        self._compare_definitions(tally, right)
        comparison = _Comparison(
            RecordReader(self._primary, MOST_LOST, self._memory),
            RecordReader(self._replica, MOST_LOST, self._memory),
            (left, right),
            self._replica.capabilities(),
            tally,
        )
        try:
            for ids in self._shared_ids(tally, left, right, count):
                chosen = ids if percent >= 100 else self._sample(left, ids, percent)
                comparison.run(chosen)
                progress.advance(len(ids))
            self._compare_answers(tally, left, right, count)
        except (RequestRefused, ServerFault) as error:
            # the other collections are compared nevertheless
            tally.answers_differ = True
            tally.find(Sigil.CHANGED, None, f"it could not be compared completely: {error.what}")
        return tally

    def _sample(self, left: Collection, ids: list[str], percent: float) -> list[str]:
        """The ids whose keyed hash falls into the share.

        The choice depends on the id alone, not on the order of ids. The comparison after a repair
        therefore reads the same records as the comparison before it.
        """
        share = int(percent / 100 * 2**64)
        start = blake2b(left.id.encode(), key=self._sample_key, digest_size=8)
        return [i for i in ids if _number(start, i) < share]

    def _compare_definitions(self, tally: _Tally, right: Collection) -> None:
        left, server = tally.collection, self._replica.capabilities()
        _, not_carried = creatable(left, server)
        change = redefinition(left, right, server)
        lost = not_held(left, right, server)
        found = [why_incompatible(left, right, server), *not_carried, *lost]
        found += ["The metadata differs."] if change.metadata is not None else []
        found += [f"{name} differs." for name in change.configuration]
        for what in filter(None, found):
            tally.definition_differs = True
            tally.find(Sigil.CHANGED, None, what)

    def _compare_answers(
        self, tally: _Tally, left: Collection, right: Collection, count: int
    ) -> None:
        """Send the same queries to both sides, and count the answers."""
        if not self._queries or not count:
            return
        key = int.from_bytes(self._sample_key)
        check = AnswerCheck(self._primary, self._replica, left, right)
        check.run(self._queries, count, random.Random(key))  # noqa: S311 (no secret)
        tally.queries, tally.overlap = check.asked, check.overlap
        for what in check.findings:
            tally.answers_differ = True
            tally.find(Sigil.CHANGED, None, what)

    def _shared_ids(
        self, tally: _Tally, left: Collection, right: Collection, count: int
    ) -> Iterator[list[str]]:
        """The primary's ids in lists; afterwards, extra ids of the replica are counted."""
        digests = bytearray()
        for page in pages(self._primary, left, count):
            digests += id_digests(page)
            for start in range(0, len(page), BATCH_IDS):
                yield page[start : start + BATCH_IDS]
        known = IdSet(digests)
        for page in pages(self._replica, right, partial(self._replica.count, right)):
            extra = [page[i] for i in np.flatnonzero(known.find(page) < 0)]
            self._tally_extra(tally, right, extra)

    def _tally_extra(self, tally: _Tally, right: Collection, ids: list[str]) -> None:
        """Count replica ids that the walk of the primary did not see, after a read by id."""
        for start in range(0, len(ids), BATCH_IDS):
            asked = ids[start : start + BATCH_IDS]
            alive = set(self._primary.read(tally.collection, asked, embeddings=False).ids)
            there = set(self._replica.read(right, asked, embeddings=False).ids)
            for record_id in asked:
                if record_id in alive:
                    tally.inconclusive += 1
                    tally.find(Sigil.INCONCLUSIVE, record_id, "it was added during the comparison")
                elif record_id in there:
                    tally.extra += 1
                    tally.find(Sigil.EXTRA, record_id, "the primary does not have it")


def _number(start: blake2b, record_id: str) -> int:
    """A number from 0 up to 2**64 that depends on this id alone."""
    hashing = start.copy()
    hashing.update(record_id.encode())
    return int.from_bytes(hashing.digest())


MOST_LOST = 16
"""Most unreadable records in one read. More of them mean that the index, which holds the vectors,
is dead or behind; the comparison of the collection then ends."""

UNREADABLE = "the primary cannot return it"

_Sides = tuple[Collection, Collection]


@dataclass(slots=True)
class _Found:
    """One record that differs: the difference, and the primary's digests at that time."""

    sigil: Sigil
    what: str
    digests: bytes


class _Comparison:
    """Compares records by id, and differing ones twice."""

    def __init__(
        self,
        primary: RecordReader,
        replica: RecordReader,
        sides: _Sides,
        server: Capabilities,
        tally: _Tally,
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._left, self._right = sides
        self._server = server
        self._tally = tally
        self._differ = Differ(effective(sides[0]).space)

    def run(self, ids: Sequence[str]) -> None:
        """Compare these records and tally them."""
        first = self._look(ids)
        self._tally.same += len(ids) - len(first)
        if not first:
            return
        time.sleep(SETTLE_SECONDS)
        second = self._look(list(first))
        for record_id, found in first.items():
            again = second.get(record_id)
            if again is None or again.digests != found.digests:
                again = _Found(Sigil.INCONCLUSIVE, "it changed during the comparison", b"")
            self._count(again)
            self._tally.find(again.sigil, record_id, again.what)

    def _count(self, found: _Found) -> None:
        self._tally.missing += found.sigil is Sigil.MISSING
        self._tally.changed += found.sigil is Sigil.CHANGED
        self._tally.inconclusive += found.sigil is Sigil.INCONCLUSIVE
        self._tally.unreadable += found.what == UNREADABLE

    def _look(self, ids: Sequence[str]) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        for batch in self._primary.batches(self._left, ids):
            other = self._replica.read(self._right, batch.asked)
            found.update(self._look_at_batch(batch, other))
        return found

    def _look_at_batch(self, batch: ReadBatch, other: ReadBatch) -> Iterator[tuple[str, _Found]]:
        lefts, rights = _by_id(batch), _by_id(other)
        digests = _digests(batch)
        for record_id in batch.asked:
            found = self._difference(record_id, lefts, rights, batch, other)
            if found is not None:
                yield record_id, _Found(*found, digests.get(record_id, b""))

    def _difference(
        self,
        record_id: str,
        lefts: _ById,
        rights: _ById,
        batch: ReadBatch,
        other: ReadBatch,
    ) -> tuple[Sigil, str] | None:
        if record_id in batch.unreadable:
            return Sigil.INCONCLUSIVE, UNREADABLE
        if record_id in other.unreadable:
            return Sigil.CHANGED, "the replica cannot return it"
        if record_id not in lefts:
            here = record_id in rights
            return (Sigil.INCONCLUSIVE, "it was deleted during the comparison") if here else None
        if record_id not in rights:
            return Sigil.MISSING, "the replica does not have it"
        wanted, row = lefts[record_id]
        return self._content(wanted, row, *rights[record_id])

    def _content(
        self, wanted: Records, row: int, present: Records, other: int
    ) -> tuple[Sigil, str] | None:
        difference = self._differ.difference(wanted, row, present, other)
        if difference is None:
            return None
        sendable, reduced = carried(wanted.take([row]), self._server)
        rest = self._differ.difference(sendable, 0, present, other) if reduced else difference
        if rest is None:
            return Sigil.CHANGED, "metadata that the replica's server cannot store is left out"
        words = "document" if rest is Whole.REPLACE else describe(rest)
        return Sigil.CHANGED, f"{words} differs"


_ById = dict[str, tuple[Records, int]]


def _by_id(batch: ReadBatch) -> _ById:
    return {i: (piece, row) for piece in batch.pieces for row, i in enumerate(piece.ids)}


def _digests(batch: ReadBatch) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in batch.pieces:
        embedding, payload = embedding_digests(piece), payload_digests(piece)
        for row, record_id in enumerate(piece.ids):
            found[record_id] = embedding.row(row) + payload.row(row)
    return found

"""Marks on servers: read for each place, and written before any other write to that place.

`plan.mark` decides the content of a mark. Several writers may write a mark at the same time: each
writes the mark that the coordinator prepared in the store, so the content is the same. This module
holds no lock, because a permit may be called while a writer holds its own lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np

from chromasync.config import FROM
from chromasync.errors import (
    AccessRefused,
    ChromasyncError,
    Conflict,
    LeaseLost,
    NotChroma,
    NotFound,
    RequestRefused,
    ServerError,
    ServerFault,
)
from chromasync.events import Event
from chromasync.lease import monotonic
from chromasync.ledger.paging import pages
from chromasync.logs import get_logger
from chromasync.model import (
    MARKS_DATABASE,
    Collection,
    Definition,
    Deployment,
    MarkRow,
    Records,
    mark_place,
)
from chromasync.plan.listing import Listing
from chromasync.plan.mark import (
    NOT_NOTICED,
    UNREADABLE,
    Mark,
    MarkVerdict,
    is_still,
    judge_mark,
    judge_meeting,
    overtaken,
    parse_mark,
    refuse_marked_primary,
)
from chromasync.ports import Control, Permit, Reader, Writer
from chromasync.processes import has_ended, machine_name
from chromasync.targeted import TargetedReader

MARKS_COLLECTION = "marks"
REFUSALS = (RequestRefused, ServerFault, NotFound, Conflict, AccessRefused, NotChroma)
"""Errors after which a replica keeps no mark, and the cycle goes on without one."""
RELEASE_SECONDS = 3.0
"""Longest wait of an ending process for the release of its mark."""

Spot = tuple[str, str]
"""Tenant and database of a mirrored place."""
Rows = Mapping[Spot, MarkRow]
Note = Callable[[str, str], None]
"""Called with the place and the random number of each mark on the replica."""

log = get_logger()


class Marks:
    """The marks on one server; it remembers their collection. Thread-safe."""

    def __init__(self, server: Reader) -> None:
        self._server = server
        self._known: dict[str, Collection] = {}

    def read(self, spots: Iterable[Spot]) -> dict[Spot, Mark]:
        """The marks in these places; places without one are left out."""
        found: dict[Spot, Mark] = {}
        for tenant, some in _by_tenant(spots):
            documents = self._documents(tenant, [mark_place(*spot) for spot in some])
            present = [spot for spot in some if mark_place(*spot) in documents]
            found |= {spot: parse_mark(documents[mark_place(*spot)]) for spot in present}
        return found

    def of_copies(self, spots: Iterable[Spot]) -> dict[Spot, Mark]:
        """Any mark in each of these places, also of copies that SYNC_TARGET led there."""
        found: dict[Spot, Mark] = {}
        for tenant, some in _by_tenant(spots):
            home = self._find(tenant)
            if home is None:
                continue
            records = self._server.read(home, _ids_of(self._server, home), embeddings=False)
            for claim, document in zip(records.ids, records.documents, strict=True):
                place = claim.partition(FROM)[0]
                found |= {s: parse_mark(document) for s in some if mark_place(*s) == place}
        return found

    def meeting(self, spots: Iterable[Spot]) -> dict[Spot, list[Mark]]:
        """The marks in the same places that SYNC_TARGET led other databases of a primary to."""
        server = self._server
        if not isinstance(server, TargetedReader):
            return {}
        found: dict[Spot, list[Mark]] = {}
        for tenant, some in _by_tenant(spots):
            home = self._find(tenant)
            if home is None:
                continue
            ids = _ids_of(server, home)
            claims = {spot: server.same_place(home, ids, spot[1]) for spot in some}
            wanted = sorted({claim for each in claims.values() for claim in each})
            if wanted:
                records = server.read_claims(home, wanted)
                documents = dict(zip(records.ids, records.documents, strict=True))
                for spot, each in claims.items():
                    found[spot] = [parse_mark(documents[c]) for c in each if c in documents]
        return found

    def write(self, writer: Writer, marks: Mapping[Spot, Mark]) -> None:
        """Write marks to their places; create their collection first if it is missing."""
        for tenant, some in _by_tenant(marks):
            records = _as_records({mark_place(*spot): marks[spot] for spot in some})
            try:
                self._upsert(writer, tenant, records)
            except NotFound:
                self.forget(tenant)
                self._upsert(writer, tenant, records)

    def forget(self, tenant: str) -> None:
        """Look up the collection anew: it was removed, or this is another server."""
        self._known.pop(tenant, None)

    def _documents(self, tenant: str, places: list[str]) -> dict[str, str | None]:
        for _ in range(2):
            home = self._find(tenant)
            if home is None:
                break
            try:
                records = self._server.read(home, places, embeddings=False)
            except NotFound:
                self.forget(tenant)
                continue
            return dict(zip(records.ids, records.documents, strict=True))
        return {}

    def _upsert(self, writer: Writer, tenant: str, records: Records) -> None:
        home = self._find(tenant) or self._make(writer, tenant)
        for batch in writer.batches(records):
            writer.upsert(home, batch)

    def _find(self, tenant: str) -> Collection | None:
        if tenant not in self._known:
            listed = self._server.list_collections(tenant, MARKS_DATABASE)
            self._known.update((tenant, c) for c in listed if c.name == MARKS_COLLECTION)
        return self._known.get(tenant)

    def _make(self, writer: Writer, tenant: str) -> Collection:
        writer.ensure_database(tenant, MARKS_DATABASE)
        try:
            made = writer.create_collection(
                Definition(MARKS_COLLECTION, tenant, MARKS_DATABASE, {})
            )
        except Conflict:
            found = self._find(tenant)
            if found is None:
                raise
            return found
        self._known[tenant] = made
        return made


def _ids_of(server: Reader, home: Collection) -> list[str]:
    count = partial(server.count, home)
    return [i for page in pages(server, home, count) for i in page]


def _by_tenant(spots: Iterable[Spot]) -> Iterator[tuple[str, list[Spot]]]:
    every = sorted(spots)
    for tenant in dict.fromkeys(spot[0] for spot in every):
        yield tenant, [spot for spot in every if spot[0] == tenant]


def _as_records(marks: Mapping[str, Mark]) -> Records:
    """One record for each mark; Chroma requires an embedding for each."""
    return Records(
        ids=list(marks),
        documents=[mark.document() for mark in marks.values()],
        metadatas=[{} for _ in marks],
        uris=[None for _ in marks],
        embeddings=np.ones((len(marks), 1), dtype=np.float32),
    )


# ---- looking ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """The verdicts on the replica's marks; `refusal` is the error if they cannot be read."""

    verdicts: dict[Spot, MarkVerdict]
    refusal: ServerError | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The store's data about itself and about the marks that it wrote, by place.

    `turned_after` is the instant of the promotion after which the direction was turned last.
    """

    deployment: Deployment
    rows: Mapping[str, MarkRow]
    now: datetime
    turns: int = 0
    turned_after: datetime | None = None

    @classmethod
    def of(cls, store: Control) -> Knowledge:
        """The data of this store now."""
        direction = store.direction()
        turned_after = direction.since_at if direction.is_following else None
        rows, now = store.marks(), store.now()
        return cls(store.deployment(), rows, now, direction.turns, turned_after)


def look_at_replica(
    marks: Marks, listing: Listing, spots: Iterable[Spot], known: Knowledge
) -> Look:
    """Judge the marks in these places of the replica, with one request for each tenant.

    With SYNC_TARGET, other ones may be in the same places under the names of other databases.

    Raises:
        ServerUnreachable: the replica is away.
    """
    wanted = list(spots)
    for tenant in {tenant for tenant, _ in wanted}.difference(listing.marked):
        marks.forget(tenant)
    try:
        present = [spot for spot in wanted if spot[0] in listing.marked]
        found, meeting = marks.read(present), marks.meeting(present)
    except REFUSALS as error:
        return Look({}, error)
    verdicts = {}
    for spot in wanted:
        row = known.rows.get(mark_place(*spot)) or MarkRow(mark_place(*spot))
        verdict = judge_mark(
            found.get(spot), row, known.deployment, known.now, _has_ended, turns=known.turns
        )
        others = meeting.get(spot, ())
        verdicts[spot] = judge_meeting(
            verdict, others, row, known.deployment, now=known.now, ended=_has_ended
        )
    return Look(verdicts)


def refuse_if_marked(marks: Marks, listing: Listing, known: Knowledge, primary_url: str) -> None:
    """Check that the mirrored places of the primary carry no marks.

    Raises:
        GuardRefusal: the primary carries a mark, so it is a replica.
        ServerUnreachable: the primary is away.
    """
    try:
        found = marks.of_copies(spot for spot in listing.databases if spot[0] in listing.marked)
    except REFUSALS as error:
        log.warning(Event.MARKS_UNREADABLE, reason=str(error))
        return
    legible = {mark_place(*spot): mark for spot, mark in found.items() if mark is not UNREADABLE}
    refuse_marked_primary(legible, known.deployment, primary_url, known.turned_after)


def say_refused(refusal: ServerError) -> str:
    """The warning about a replica that stores no mark."""
    return f"The replica stores no mark of this store: {refusal.what} {NOT_NOTICED}"


def _has_ended(mark: Mark) -> bool | None:
    """Whether the process of a mark has ended; None if it runs on another machine."""
    return has_ended(mark.holder) if mark.machine == machine_name() else None


# ---- writing ---------------------------------------------------------------------------------


class MarkKeeper:
    """Writes the prepared marks to the replica before this process writes anything else there.

    Attributes:
        marks: the marks on the replica.
        refusal: the error of the last attempt, if the replica refused the mark.
    """

    def __init__(self, replica: Writer) -> None:
        self._replica = replica
        self._done: dict[Spot, str | None] = {}
        self._left: dict[Spot, Mark] = {}
        self.marks = Marks(replica)
        self.refusal: ServerError | None = None

    def permit(self, bare: Permit, rows: Rows, note: Note) -> Permit:
        """A permit to write that writes the marks first, once."""

        def permitted() -> float:
            self.settle(rows, bare, note)
            return bare()

        return permitted

    def settle(self, rows: Rows, bare: Permit, note: Note) -> None:
        """Write the prepared marks to their places, unless they are there.

        Raises:
            AnotherStore: the mark in a place has changed since its new mark was prepared.
            LeaseLost: `bare` refused.
        """
        due = {
            spot: row
            for spot, row in rows.items()
            if row.prepared and not row.written and self._done.get(spot) != row.nonce
        }
        if not due:
            return
        try:
            self.put(due, self.read(due), bare, note)
        except REFUSALS as error:
            self.refuse(error)
        self._done |= {spot: row.nonce for spot, row in due.items()}

    def read(self, rows: Rows) -> dict[Spot, Mark]:
        """The marks in the places of these rows.

        Raises:
            AnotherStore: the mark in a place has changed since its new mark was prepared.
        """
        found = self.marks.read(rows)
        for spot, row in rows.items():
            if not is_still(found.get(spot), row):
                raise overtaken(row.place)
        return found

    def put(self, rows: Rows, found: Mapping[Spot, Mark], bare: Permit, note: Note) -> None:
        """Write the prepared marks where `found` has others, and record that they are written."""
        prepared = {spot: parse_mark(row.prepared) for spot, row in rows.items()}
        missing = {
            spot: mark
            for spot, mark in prepared.items()
            if spot not in found or found[spot].nonce != mark.nonce
        }
        self.write(missing, bare)
        for spot, row in rows.items():
            note(row.place, prepared[spot].nonce)

    def write(self, marks: Mapping[Spot, Mark], bare: Permit) -> None:
        """Write marks without a check."""
        if marks:
            self.marks.write(self._replica.permitted_by(bare), marks)
            self._left |= marks

    def refuse(self, error: ServerError) -> None:
        """Remember that the replica refused the mark."""
        log.warning(Event.NO_MARK, reason=str(error))
        self.refusal = error

    # ---- the end ----------------------------------------------------------------------------

    def release(self, holder: str, bare: Permit) -> None:
        """Record in the marks of this process that it has ended, if the replica answers.

        Args:
            bare: the leader's permit to write; without the lead nothing is written.
        """
        own = {spot: mark for spot, mark in self._left.items() if mark.holder == holder}
        if not own:
            return
        thread = threading.Thread(
            target=self._release, args=(own, bare), name="mark-release", daemon=True
        )
        thread.start()
        thread.join(RELEASE_SECONDS)

    def _release(self, own: Mapping[Spot, Mark], bare: Permit) -> None:
        deadline = monotonic() + RELEASE_SECONDS

        def permit() -> float:
            left = deadline - monotonic()
            if left <= 0:
                raise LeaseLost("The process has ended.")
            return min(left, bare())

        try:
            found = self.marks.read(own)
            still = {s: m for s, m in found.items() if m.nonce == own[s].nonce}
            self.write({s: replace(m, released=True) for s, m in still.items()}, permit)
        except (ChromasyncError, RuntimeError) as error:  # a client that was closed meanwhile
            log.warning(Event.MARK_NOT_RELEASED, reason=str(error))

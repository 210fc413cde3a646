"""Marks on servers: looked at by place, and written before anything else that they vouch for.

What a mark says is decided in `plan.mark`. Several writers may write a mark at once: each writes
what the coordinator prepared in the store, so the content is the same and nobody has to wait. No
lock is held here, since a permit may be asked while a writer has its turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import structlog

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
    overtaken,
    parse_mark,
    refuse_marked_primary,
)
from chromasync.ports import Control, Permit, Reader, Writer
from chromasync.processes import has_ended, machine_name

MARKS_COLLECTION = "marks"
REFUSALS = (RequestRefused, ServerFault, NotFound, Conflict, AccessRefused, NotChroma)
"""Errors after which a replica keeps no mark, and the cycle goes on without one."""
RELEASE_SECONDS = 3.0
"""A process that ends waits no longer for its mark to say so."""

Spot = tuple[str, str]
"""Tenant and database of a mirrored place."""
Rows = Mapping[Spot, MarkRow]
Note = Callable[[str, str], None]
"""Told the place and the random number of each mark that is on the replica."""

log = structlog.get_logger()


class Marks:
    """The marks on one server; knows their collection once it has met it. Thread-safe."""

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

    def write(self, writer: Writer, marks: Mapping[Spot, Mark]) -> None:
        """Put marks in their places, making their collection first where there is none."""
        for tenant, some in _by_tenant(marks):
            records = _as_records({mark_place(*spot): marks[spot] for spot in some})
            try:
                self._upsert(writer, tenant, records)
            except NotFound:
                self.forget(tenant)
                self._upsert(writer, tenant, records)

    def forget(self, tenant: str) -> None:
        """Look for the collection anew: somebody removed it, or this is another server."""
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


def _by_tenant(spots: Iterable[Spot]) -> Iterator[tuple[str, list[Spot]]]:
    every = sorted(spots)
    for tenant in dict.fromkeys(spot[0] for spot in every):
        yield tenant, [spot for spot in every if spot[0] == tenant]


def _as_records(marks: Mapping[str, Mark]) -> Records:
    """One record a mark; Chroma wants an embedding of each."""
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
    """What the replica's marks say; `refusal` is why they cannot be looked at, if they cannot."""

    verdicts: dict[Spot, MarkVerdict]
    refusal: ServerError | None = None


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a store knows of itself and of the marks that it left, by place."""

    deployment: Deployment
    rows: Mapping[str, MarkRow]
    now: datetime

    @classmethod
    def of(cls, store: Control) -> Knowledge:
        """What this store knows now."""
        return cls(store.deployment(), store.marks(), store.now())


def look_at_replica(
    marks: Marks, listing: Listing, spots: Iterable[Spot], known: Knowledge
) -> Look:
    """What to make of the marks in these places of the replica, with one request a tenant.

    Raises:
        ServerUnreachable: the replica is away.
    """
    wanted = list(spots)
    for tenant in {tenant for tenant, _ in wanted}.difference(listing.marked):
        marks.forget(tenant)
    try:
        found = marks.read(spot for spot in wanted if spot[0] in listing.marked)
    except REFUSALS as error:
        return Look({}, error)
    verdicts = {}
    for spot in wanted:
        row = known.rows.get(mark_place(*spot)) or MarkRow(mark_place(*spot))
        verdicts[spot] = judge_mark(found.get(spot), row, known.deployment, known.now, _has_ended)
    return Look(verdicts)


def refuse_if_marked(
    marks: Marks, listing: Listing, deployment: Deployment, primary_url: str
) -> None:
    """Look at the primary's marks, where it has any, in the places that are mirrored.

    Raises:
        GuardRefusal: it carries one, so it is a replica.
        ServerUnreachable: the primary is away.
    """
    try:
        found = marks.read(spot for spot in listing.databases if spot[0] in listing.marked)
    except REFUSALS as error:
        log.warning(Event.MARKS_UNREADABLE, reason=str(error))
        return
    legible = {mark_place(*spot): mark for spot, mark in found.items() if mark is not UNREADABLE}
    refuse_marked_primary(legible, deployment, primary_url)


def say_refused(refusal: ServerError) -> str:
    """The warning for a replica that keeps no mark."""
    return f"The replica keeps no mark of this store: {refusal.what} {NOT_NOTICED}"


def _has_ended(mark: Mark) -> bool | None:
    """Whether the process of a mark has ended, where this machine can tell."""
    return has_ended(mark.holder) if mark.machine == machine_name() else None


# ---- writing ---------------------------------------------------------------------------------


class MarkKeeper:
    """Sees to it that the prepared mark stands on the replica before this process writes there.

    Attributes:
        marks: those on the replica.
        refusal: why the replica took none, when that was tried last.
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
        """Put the prepared marks in their places, unless they are there.

        Raises:
            AnotherStore: a place is not as it was when its mark was prepared.
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
        """What stands in the places of these rows.

        Raises:
            AnotherStore: a place is not as it was when its mark was prepared.
        """
        found = self.marks.read(rows)
        for spot, row in rows.items():
            if not is_still(found.get(spot), row):
                raise overtaken(row.place)
        return found

    def put(self, rows: Rows, found: Mapping[Spot, Mark], bare: Permit, note: Note) -> None:
        """Write the prepared marks where `found` has others, and note that they are there."""
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
        """Write marks as they are."""
        if marks:
            self.marks.write(self._replica.permitted_by(bare), marks)
            self._left |= marks

    def refuse(self, error: ServerError) -> None:
        """Remember that the replica takes no mark."""
        log.warning(Event.NO_MARK, reason=str(error))
        self.refusal = error

    # ---- the end ----------------------------------------------------------------------------

    def release(self, holder: str) -> None:
        """Say in the marks of this process that it has ended; a replica that is away is left so."""
        own = {spot: mark for spot, mark in self._left.items() if mark.holder == holder}
        if not own:
            return
        thread = threading.Thread(
            target=self._release, args=(own,), name="mark-release", daemon=True
        )
        thread.start()
        thread.join(RELEASE_SECONDS)

    def _release(self, own: Mapping[Spot, Mark]) -> None:
        deadline = monotonic() + RELEASE_SECONDS

        def permit() -> float:
            left = deadline - monotonic()
            if left <= 0:
                raise LeaseLost("The process has ended.")
            return left

        try:
            found = self.marks.read(own)
            still = {s: m for s, m in found.items() if m.nonce == own[s].nonce}
            self.write({s: replace(m, released=True) for s, m in still.items()}, permit)
        except (ChromasyncError, RuntimeError) as error:  # a client that was closed meanwhile
            log.warning(Event.MARK_NOT_RELEASED, reason=str(error))

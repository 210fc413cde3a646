"""Checks and writes the marks of one cycle: checked before all writes, written first and last.

If a mark is not the one that this store left, the ledger of that place is doubtful: every record is
compared on both sides before a collection there is called identical again. The store has the doubt
before the replica has the new mark, so the process may die between any two steps.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from chromasync.cycle.tell import is_same_failure
from chromasync.errors import ChromasyncError, LeaseLost, ServerUnreachable
from chromasync.events import Event
from chromasync.lease import monotonic
from chromasync.logs import get_logger
from chromasync.marks import (
    REFUSALS,
    Knowledge,
    MarkKeeper,
    Marks,
    Spot,
    look_at_replica,
    refuse_if_marked,
    say_refused,
)
from chromasync.model import DECISIONS, MarkRow, Mirror, MirrorStatus, Side, mark_place
from chromasync.plan.mark import Mark, MarkState, MarkVerdict, refresh_seconds
from chromasync.ports import Permit, Store
from chromasync.processes import machine_name

if TYPE_CHECKING:
    from chromasync.cycle.work import CycleWork

CALLED_SAME = (MirrorStatus.IDENTICAL, MirrorStatus.LIMITED)

log = get_logger()


class CycleMarks:
    """The marks of one cycle, as the leader checks and writes them.

    Args:
        keeper: writes marks for this process.
        store: bound to the leader's term.
        bare: the leader's permit to write, without the marks.
        holder: the leader's name.
    """

    def __init__(self, keeper: MarkKeeper, store: Store, bare: Permit, holder: str) -> None:
        self._keeper = keeper
        self._store = store
        self._bare = bare
        self._holder = holder
        self._store_id = ""
        self._cycle: CycleWork | None = None
        self._verdicts: dict[Spot, MarkVerdict] = {}
        self._rows: dict[Spot, MarkRow] = {}
        self._settled = False
        self._fresh_at = monotonic()

    # ---- before anything is written ---------------------------------------------------------

    def look(self, cycle: CycleWork, mirrors: Sequence[Mirror]) -> list[Mirror]:
        """Compare the marks of both sides with the store's; returns the mirrors after that.

        Raises:
            AnotherStore: another store is active in one of the places.
            GuardRefusal: the primary has a mark.
            ServerUnreachable: a side is unreachable.
        """
        if not cycle.settings.sync_mark:
            return list(mirrors)
        known, url = Knowledge.of(self._store), cycle.settings.primary_url
        refuse_if_marked(Marks(cycle.primary), cycle.primary_listing, known, url)
        self._keeper.refusal = None
        self._store_id = known.deployment.store_id
        spots = dict.fromkeys(
            [*cycle.primary_listing.databases, *((m.tenant, m.database) for m in mirrors)]
        )
        look = look_at_replica(self._keeper.marks, cycle.replica_listing, spots, known)
        if look.refusal is not None:
            cycle.warnings.append(say_refused(look.refusal))
            return list(mirrors)
        self._cycle, self._verdicts = cycle, look.verdicts
        cycle.vouched = {spot for spot, verdict in look.verdicts.items() if verdict.vouches}
        self._remember_met(known.rows)
        return [self._doubted(cycle, mirror) for mirror in mirrors]

    def _remember_met(self, known: Mapping[str, MarkRow]) -> None:
        """Store when a mark of another store was first seen; refuse if that store is active."""
        for verdict in self._verdicts.values():
            if verdict.row != known.get(verdict.place, MarkRow(verdict.place)):
                self._store.save_mark(verdict.row)
        for verdict in self._verdicts.values():
            if verdict.error is not None:
                raise verdict.error

    def _doubted(self, cycle: CycleWork, mirror: Mirror) -> Mirror:
        """The mirror; if its place is doubtful, all of it becomes suspect."""
        verdict = self._verdicts[mirror.tenant, mirror.database]
        if verdict.state is not MarkState.DOUBT:
            return mirror
        words = f"{verdict.why} Every record there is compared."
        if words not in cycle.warnings:
            cycle.warnings.append(words)
        self._store.distrust(mirror.collection_id)
        doubted = replace(mirror, replica_walked_at=None)
        if mirror.status in CALLED_SAME:
            doubted = replace(doubted, status=MirrorStatus.SYNCING)
        self._store.save_mirror(doubted)
        return doubted

    # ---- the first write --------------------------------------------------------------------

    def prepare(self, spots: Iterable[Spot]) -> None:
        """Save the marks of these places for the process that writes there first."""
        for spot in spots:
            if spot in self._verdicts and spot not in self._rows:
                row, found = self._verdicts[spot].row, self._verdicts[spot].found
                self._rows[spot] = self._save(row, found, final=False)

    def permit(self) -> float:
        """The leader's permit to write; the marks of all places are written before."""
        if not self._settled:
            self.prepare(self._verdicts)
            self._keeper.settle(self._rows, self._bare, self._store.note_mark_written)
            self._settled = self._cycle is not None
        return self._bare()

    def _save(self, row: MarkRow, found: Mark | None, *, final: bool) -> MarkRow:
        cycle = self._cycle
        if cycle is None:
            raise RuntimeError("a cycle must look at the marks before it prepares one")
        mark = Mark(
            store_id=self._store_id,
            cycle_id=cycle.cycle.id,
            nonce=secrets.token_hex(8),
            holder=self._holder,
            machine=machine_name(),
            written_at=self._store.now(),
            interval_seconds=cycle.settings.sync_interval,
            final=final,
        )
        prepared = replace(
            row,
            cycle_id=mark.cycle_id,
            nonce=mark.nonce,
            written=False,
            former_nonce=None if found is None else found.nonce,
            prepared=mark.document(),
        )
        self._store.save_mark(prepared)
        return prepared

    # ---- while it lasts, and at the end -----------------------------------------------------

    def refresh(self) -> None:
        """In a long cycle, renew the marks to show other stores that this one is active.

        Raises:
            AnotherStore: another mark was written meanwhile.
        """
        cycle = self._cycle
        if cycle is None or monotonic() - self._fresh_at < refresh_seconds(
            cycle.settings.sync_interval
        ):
            return
        self._fresh_at = monotonic()
        found, now = self.check(), self._store.now()
        rows = self._current()
        own = {s: m for s, m in found.items() if rows[s].written and m.nonce == rows[s].nonce}
        self._keeper.write({s: replace(m, written_at=now) for s, m in own.items()}, self._bare)

    def check(self) -> dict[Spot, Mark]:
        """The marks in the places of this cycle's tasks; they must be this store's.

        Raises:
            AnotherStore: another mark was written meanwhile.
        """
        current = self._current()
        if self._keeper.refusal is not None:
            return {}
        try:
            return self._keeper.read({spot: current[spot] for spot in self._rows})
        except REFUSALS as error:
            self._keeper.refuse(error)
            return {}

    def finish(self, cycle: CycleWork) -> None:
        """Write marks with new random numbers to the places that were written to or doubtful.

        Raises:
            AnotherStore: another mark was written meanwhile.
        """
        if self._cycle is None:
            return
        self.prepare(s for s, v in self._verdicts.items() if self._is_taken_over(s, v))
        current = self._current()
        due = {spot: current[spot] for spot in self._verdicts if self._is_due(spot, current[spot])}
        if due:
            self._finish(due)
        if self._keeper.refusal is not None:
            cycle.warnings.append(say_refused(self._keeper.refusal))

    def finish_quietly(self, cycle: CycleWork, error: ChromasyncError) -> None:
        """The same for a cycle that ended early; the next cycle sees if that fails."""
        away = isinstance(error, ServerUnreachable) and error.side == Side.REPLICA
        if away or isinstance(error, LeaseLost):
            return
        try:
            self.finish(cycle)
        except ChromasyncError as second:
            if not is_same_failure(error, second):
                log.warning(Event.MARK_NOT_FINISHED, reason=str(second))

    def _finish(self, due: dict[Spot, MarkRow]) -> None:
        try:
            found = self._keeper.read(due)
            rows = {s: self._save(row, found.get(s), final=True) for s, row in due.items()}
            self._keeper.put(rows, found, self._bare, self._store.note_mark_written)
        except REFUSALS as error:
            self._keeper.refuse(error)

    def _current(self) -> dict[Spot, MarkRow]:
        """The store's present rows of the checked places."""
        known = self._store.marks()
        return {s: known.get(mark_place(*s), v.row) for s, v in self._verdicts.items()}

    def _is_taken_over(self, spot: Spot, verdict: MarkVerdict) -> bool:
        """Whether a doubtful place gets a mark in any case, because no hold waits there."""
        return verdict.state is MarkState.DOUBT and not any(
            h.kind in DECISIONS and (h.tenant, h.database) == spot for h in self._store.holds()
        )

    def _is_due(self, spot: Spot, row: MarkRow) -> bool:
        """Whether a place was written to in this cycle, or gets a mark in any case."""
        if self._cycle is None or row.cycle_id != self._cycle.cycle.id:
            return False
        taken_over = self._is_taken_over(spot, self._verdicts[spot])
        return row.written or taken_over or self._keeper.refusal is not None

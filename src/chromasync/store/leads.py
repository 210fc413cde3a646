"""Leadership and holds: the database's clock, the leader's lease, what guards hold back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, delete, func, select, update

from chromasync.model import Hold, HoldKind, Term, WorkerStatus
from chromasync.store.core import COORDINATOR, LEASE_EXPIRED, Core
from chromasync.store.patience import patient
from chromasync.store.rows import HOLD
from chromasync.store.schema import Later, Now, holds, leases, workers

_LEASE = select(leases.c.holder, leases.c.token, LEASE_EXPIRED.label("expired")).where(
    leases.c.name == COORDINATOR
)
_TAKE = (
    update(leases)
    .where(
        leases.c.name == COORDINATOR,
        leases.c.holder == bindparam("old_holder"),
        leases.c.token == bindparam("old_token"),
    )
    .values(
        holder=bindparam("new_holder"),
        token=bindparam("new_token"),
        ttl_seconds=bindparam("seconds"),
        expires_at=Later(bindparam("seconds")),
    )
)
_BURY = (
    update(workers)
    .where(
        workers.c.worker_id == bindparam("old_holder"),
        workers.c.worker_status.in_([WorkerStatus.ACTIVE, WorkerStatus.DRAINING]),
    )
    .values(worker_status=WorkerStatus.DEAD)
)
_NOBODY = {"name": COORDINATOR, "holder": "", "token": 0, "ttl_seconds": 0.0, "expires_at": Now()}


class LeadPart(Core):
    """The first half of `ports.Control`."""

    @patient
    def now(self) -> datetime:
        """The database's own time, which all instants of the store are in."""
        with self._reading() as tx:
            return tx.execute(select(Now())).scalar_one()

    @patient
    def take_lead(self, holder: str, ttl_seconds: float) -> Term | None:
        """Become or stay the leader for `ttl_seconds`; None while someone else leads.

        Args:
            holder: `host:pid:createtime:uuid`, where `host` is what `socket.gethostname` says and
                `createtime` what `psutil.Process().create_time()` says. On SQLite, whose holders
                can only be processes of this host, an ended process is succeeded at once.
            ttl_seconds: how long the lead lasts unless it is taken again.

        A leader that is succeeded without having given up its lead is shown as dead until it beats
        again, and is charged with what it holds when its tasks are called back.
        """
        with self._writing() as tx:
            tx.execute(self._backend.insert(leases).values(_NOBODY).on_conflict_do_nothing())
            before = tx.execute(_LEASE).one()
            if before.holder != holder:
                if not self._is_free(before):
                    return None
                # wait until what is being written in the term before is there or undone
                before = tx.execute(_LEASE.with_for_update()).one()
                if not self._is_free(before):
                    return None
            number = before.token + (0 if before.holder == holder else 1)
            lease = {"new_holder": holder, "new_token": number, "seconds": ttl_seconds}
            lease |= {"old_holder": before.holder, "old_token": before.token}
            taken = tx.execute(_TAKE, lease).rowcount > 0
            if taken and before.holder != holder:
                tx.execute(_BURY, {"old_holder": before.holder})
        return Term(holder, number) if taken else None

    def _is_free(self, lease: Any) -> bool:
        return bool(lease.expired) or self._backend.is_gone(lease.holder)

    @patient
    def give_up_lead(self, term: Term) -> None:
        """Let go of the lead, if `term` still has it; the next term gets the next number."""
        mine = (
            leases.c.name == COORDINATOR,
            leases.c.holder == term.holder,
            leases.c.token == term.number,
        )
        with self._writing() as tx:
            tx.execute(update(leases).where(*mine).values(holder="", expires_at=Now()))

    @patient
    def holds(self) -> list[Hold]:
        """Everything that is held back, oldest first."""
        oldest = select(*HOLD.columns).order_by(
            holds.c.held_at, holds.c.collection_id, holds.c.kind
        )
        with self._reading() as tx:
            return [HOLD.build(row) for row in tx.execute(oldest)]

    @patient
    def save_hold(self, hold: Hold) -> None:
        """Hold something back, or bring a hold up to date.

        `held_at` of a hold that exists stays; so does its approval, as long as it covers
        `hold.count`. The hold's own `held_at` and `approved_count` are not looked at.
        """
        values = HOLD.values(hold) | {"held_at": Now(), "approved_count": None}
        new = self._backend.insert(holds).values(values)
        still_covered = func.coalesce(holds.c.approved_count, -1) >= new.excluded.record_count
        update_to = {
            "collection_name": new.excluded.collection_name,
            "record_count": new.excluded.record_count,
            "reason": new.excluded.reason,
            "approved_count": case((still_covered, holds.c.approved_count)),
        }
        with self._leading() as tx:
            tx.execute(
                new.on_conflict_do_update(index_elements=["collection_id", "kind"], set_=update_to)
            )

    @patient
    def clear_hold(self, collection_id: str, kind: HoldKind) -> None:
        """Forget a hold and its approval."""
        with self._leading() as tx:
            tx.execute(delete(holds).where(*_one(collection_id, kind)))

    @patient
    def approve(self, collection_id: str, kind: HoldKind) -> None:
        """Approve what a hold holds back now; nothing happens when there is no such hold."""
        approval = update(holds).where(*_one(collection_id, kind))
        with self._writing() as tx:
            tx.execute(approval.values(approved_count=holds.c.record_count))


def _one(collection_id: str, kind: HoldKind) -> tuple[ColumnElement[bool], ...]:
    return holds.c.collection_id == collection_id, holds.c.kind == kind

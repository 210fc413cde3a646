"""Leadership: the database's clock and the leader's lease."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from chromasync.model import Term, WorkerStatus
from chromasync.plan.direction import promoted_error
from chromasync.store.core import COORDINATOR, LEASE_EXPIRED, Core
from chromasync.store.direction import NOBODY, direction_in
from chromasync.store.retry import retried
from chromasync.store.schema import Later, Now, leases, workers

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
_MARK_DEAD = (
    update(workers)
    .where(
        workers.c.worker_id == bindparam("old_holder"),
        workers.c.worker_status.in_([WorkerStatus.ACTIVE, WorkerStatus.DRAINING]),
    )
    .values(worker_status=WorkerStatus.DEAD)
)
_NO_LEADER = {
    "name": COORDINATOR,
    "holder": "",
    "token": 0,
    "ttl_seconds": 0.0,
    "expires_at": Now(),
}


class LeadPart(Core):
    """Leadership (a part of `ports.Control`)."""

    @retried
    def now(self) -> datetime:
        """The database's time, which all instants of the store use."""
        with self._reading() as tx:
            return tx.execute(select(Now())).scalar_one()

    @retried
    def take_lead(self, holder: str, ttl_seconds: float) -> Term | None:
        """Become or stay the leader for `ttl_seconds`; None while another process leads.

        Args:
            holder: `host:pid:createtime:uuid`, with `host` from `socket.gethostname` and
                `createtime` from `psutil.Process().create_time()`. On SQLite, all holders are
                processes of this host, so an ended holder loses the lead at once.
            ttl_seconds: how long the lead lasts unless it is taken again.

        If the former leader did not give up the lead, it is marked as dead until its next
        heartbeat. When its tasks are called back, each is charged with a retry.

        Raises:
            ReplicaPromoted: nobody may lead, because the replica is promoted.
        """
        with self._writing() as tx:
            tx.execute(self._backend.insert(leases).values(_NO_LEADER).on_conflict_do_nothing())
            before = tx.execute(_LEASE).one()
            if before.holder != holder:
                if not self._is_free(before):
                    _refuse_promoted(tx, before.holder)
                    return None
                # wait until the writes of the term before have committed or rolled back
                before = tx.execute(_LEASE.with_for_update()).one()
                if not self._is_free(before):
                    _refuse_promoted(tx, before.holder)
                    return None
            number = before.token + (0 if before.holder == holder else 1)
            lease = {"new_holder": holder, "new_token": number, "seconds": ttl_seconds}
            lease |= {"old_holder": before.holder, "old_token": before.token}
            taken = tx.execute(_TAKE, lease).rowcount > 0
            if taken and before.holder != holder:
                tx.execute(_MARK_DEAD, {"old_holder": before.holder})
        return Term(holder, number) if taken else None

    @retried
    def leader(self) -> Term | None:
        """Who leads, and in which term; None while nobody does."""
        with self._reading() as tx:
            lease = tx.execute(_LEASE).first()
        if lease is None or lease.holder in ("", NOBODY) or self._is_free(lease):
            return None
        return Term(lease.holder, lease.token)

    def _is_free(self, lease: Any) -> bool:
        return bool(lease.expired) or self._backend.is_gone(lease.holder)

    @retried
    def give_up_lead(self, term: Term) -> None:
        """Give up the lead, if `term` still has it; the next term gets the next number."""
        mine = (
            leases.c.name == COORDINATOR,
            leases.c.holder == term.holder,
            leases.c.token == term.number,
        )
        with self._writing() as tx:
            tx.execute(update(leases).where(*mine).values(holder="", expires_at=Now()))


def _refuse_promoted(tx: Connection, holder: str) -> None:
    if holder == NOBODY:
        raise promoted_error(direction_in(tx))

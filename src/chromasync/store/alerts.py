"""Alerts that were told, and the lease of the one process that tells them.

The lease is beside the leader's, because alerts must be told when no leader is left: any process
may take it. While it is free, the leader takes it at once; others wait for `patience_seconds` as
long as another process leads. A process that has the lease keeps it when a new leader comes: one
teller is as good as another. Every change is refused to a process that lost the lease.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, select, update

from chromasync.model import Alert
from chromasync.store.core import COORDINATOR, LEASE_EXPIRED, Core
from chromasync.store.retry import retried
from chromasync.store.rows import ALERT
from chromasync.store.schema import Later, Now, leases
from chromasync.store.schema_service import alerts

ALERTS = "alerts"
"""Name of the lease of the process that tells alerts."""

_KEY = ("receiver", "kind", "subject")
_ALL = select(*ALERT.columns).order_by(*(alerts.c[name] for name in _KEY))
_LEASES = select(
    leases.c.name,
    leases.c.holder,
    leases.c.token,
    LEASE_EXPIRED.label("expired"),
    (LEASE_EXPIRED & (leases.c.expires_at <= Later(bindparam("before")))).label("long_expired"),
).where(leases.c.name.in_([ALERTS, COORDINATOR]))
_FREE = {"name": ALERTS, "holder": "", "token": 0, "ttl_seconds": 0.0, "expires_at": Now()}
_TAKE = (
    update(leases)
    .where(leases.c.name == ALERTS, leases.c.token == bindparam("old_token"))
    .values(
        holder=bindparam("new_holder"),
        token=bindparam("new_token"),
        ttl_seconds=bindparam("seconds"),
        expires_at=Later(bindparam("seconds")),
    )
)
_MINE = (
    select(leases.c.token)
    .where(leases.c.name == ALERTS, leases.c.holder == bindparam("me"), ~LEASE_EXPIRED)
    .with_for_update(read=True, key_share=True)
)


class AlertPart(Core):
    """Alerts and their lease (a part of `ports.Control`)."""

    def lead_alerts(self, holder: str, ttl_seconds: float, patience_seconds: float) -> bool:
        """Whether this process tells the alerts for the next `ttl_seconds`.

        Args:
            holder: this process, see `take_lead`.
            ttl_seconds: how long the lease lasts unless it is taken again.
            patience_seconds: how long a free lease is left to a leader that is another process.
        """
        return self._may_lead(holder, patience_seconds) and self._take_alerts(
            holder, ttl_seconds, patience_seconds
        )

    @retried
    def _may_lead(self, holder: str, patience_seconds: float) -> bool:
        """A look before the write, because most processes never get the lease."""
        with self._reading() as tx:
            found = _leases_in(tx, patience_seconds)
        return ALERTS not in found or self._is_for(holder, found)

    @retried
    def _take_alerts(self, holder: str, ttl_seconds: float, patience_seconds: float) -> bool:
        with self._writing() as tx:
            tx.execute(self._backend.insert(leases).values(_FREE).on_conflict_do_nothing())
            found = _leases_in(tx, patience_seconds)
            if not self._is_for(holder, found):
                return False
            token = found[ALERTS].token
            is_new = found[ALERTS].holder != holder
            taken = {"old_token": token, "new_token": token + is_new, "new_holder": holder}
            return tx.execute(_TAKE, taken | {"seconds": ttl_seconds}).rowcount > 0

    def _is_for(self, holder: str, found: Mapping[str, Any]) -> bool:
        """Whether the lease is this process's own, or free for it."""
        lease, lead = found[ALERTS], found.get(COORDINATOR)
        if lease.holder == holder:
            return True
        if not self._is_over(lease):
            return False
        another_leads = lead is not None and lead.holder != holder and not self._is_over(lead)
        return not another_leads or bool(lease.long_expired)

    def _is_over(self, lease: Any) -> bool:
        return bool(lease.expired) or self._backend.is_gone(lease.holder)

    @retried
    def give_up_alerts(self, holder: str) -> None:
        """Let another process tell the alerts at once, if this one has the lease."""
        mine = (leases.c.name == ALERTS, leases.c.holder == holder)
        with self._writing() as tx:
            tx.execute(update(leases).where(*mine).values(holder="", expires_at=Now()))

    @retried
    def alerts(self) -> list[Alert]:
        """All alerts, those that ended within a day included."""
        with self._reading() as tx:
            return [ALERT.build(row) for row in tx.execute(_ALL)]

    @retried
    def save_alerts(self, holder: str, changed: Sequence[Alert]) -> bool:
        """Insert or replace alerts, all or none; False if this process lost the lease."""
        new = self._backend.insert(alerts)
        there = {c.name: new.excluded[c.name] for c in ALERT.columns if c.name not in _KEY}
        put = new.on_conflict_do_update(index_elements=_KEY, set_=there)
        with self._writing() as tx:
            if tx.execute(_MINE, {"me": holder}).scalar() is None:
                return False
            if changed:
                tx.execute(put, [ALERT.values(alert) for alert in changed])
            return True

    @retried
    def forget_alerts(self, keep_seconds: float) -> None:
        """Delete alerts that were over for so long."""
        old = _is_old(keep_seconds)
        with self._writing() as tx:
            tx.execute(delete(alerts).where(old))


def _leases_in(tx: Connection, patience_seconds: float) -> dict[str, Any]:
    rows = tx.execute(_LEASES, {"before": -patience_seconds})
    return {row.name: row for row in rows}


def _is_old(keep_seconds: float) -> ColumnElement[bool]:
    return and_(alerts.c.over_at.is_not(None), alerts.c.over_at < Later(-keep_seconds))

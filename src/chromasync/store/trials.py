"""Leases of running self-tests, one for each trial, under its name, beside the leader's."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from chromasync.store.core import LEASE_EXPIRED, Backend, Core
from chromasync.store.retry import retried
from chromasync.store.schema import Later, leases
from chromasync.trials import trial_of

_LEASES = select(leases.c.name, leases.c.holder, LEASE_EXPIRED.label("expired"))


class TrialPart(Core):
    """Trials (a part of `ports.Control`)."""

    @retried
    def keep_trial(self, trial: str, holder: str, ttl_seconds: float) -> None:
        """Set a trial's lease to end in `ttl_seconds`; 0 ends it now.

        On SQLite, a trial ends at once when its `holder` (see `take_lead`) has ended.
        """
        values = {"holder": holder, "ttl_seconds": ttl_seconds, "expires_at": Later(ttl_seconds)}
        new = self._backend.insert(leases).values(name=trial, token=0, **values)
        with self._writing() as tx:
            tx.execute(new.on_conflict_do_update(index_elements=["name"], set_=values))

    @retried
    def live_trials(self) -> set[str]:
        """The trials whose lease has not expired."""
        with self._reading() as tx:
            return live_trials_in(tx, self._backend)

    @retried
    def known_trials(self) -> set[str]:
        """The trials of this store that are not cleaned up yet."""
        with self._reading() as tx:
            return {row.name for row in tx.execute(_LEASES) if trial_of(row.name)}

    @retried
    def forget_trial(self, trial: str) -> None:
        """Forget a trial that is cleaned up."""
        with self._writing() as tx:
            tx.execute(delete(leases).where(leases.c.name == trial))


def live_trials_in(tx: Connection, backend: Backend) -> set[str]:
    """Like `live_trials`, in the caller's transaction."""
    found = [row for row in tx.execute(_LEASES) if trial_of(row.name) and not row.expired]
    return {row.name for row in found if not backend.is_gone(row.holder)}

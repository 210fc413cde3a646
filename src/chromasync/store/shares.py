"""Shares of SYNC_MAX_REQUESTS_PER_SECOND, one for each process (a part of `ports.Control`).

A process may only take what the others leave. So the sum of all shares never exceeds the limit,
whichever processes start or end:

* A process that starts finds everything taken. The others see it when they ask the next time, and
  reduce their shares to a fair part of the limit.
* A share is only reduced here after its process has begun to keep to the smaller share (`using`).
* A process that died keeps its share until it expires. A process that cannot reach the store stops
  sending before that (`shares.ShareKeeper`).
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, func, select

from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.retry import retried
from chromasync.store.schema import Later, Now
from chromasync.store.schema_service import control, request_shares

_SECONDS_AHEAD = request_shares.c.ttl_seconds + CLOCK_SLACK_SECONDS
_LOCK = select(control.c.id).with_for_update()
_CLEAR = delete(request_shares).where(
    (request_shares.c.expires_at <= Now()) | (request_shares.c.expires_at > Later(_SECONDS_AHEAD))
)
_OTHERS = select(func.count(), func.coalesce(func.sum(request_shares.c.per_second), 0.0)).where(
    request_shares.c.holder != bindparam("me")
)


class SharePart(Core):
    """The shares of the limit of requests."""

    @retried
    def take_share(self, holder: str, limit: float, using: float, ttl_seconds: float) -> float:
        """Take a fair part of the limit for `ttl_seconds`; returns the requests a second.

        It may be less than fair, even 0, while other processes have more than their part.

        Args:
            using: the rate that the process keeps to now; it is not given to others yet.
        """
        with self._writing() as tx:
            tx.execute(_LOCK)
            tx.execute(_CLEAR)
            count, taken = tx.execute(_OTHERS, {"me": holder}).one()
            left = max(0.0, limit - taken)
            granted = min(limit / (count + 1), left)
            values = {
                "per_second": max(granted, min(using, left)),
                "ttl_seconds": ttl_seconds,
                "expires_at": Later(ttl_seconds),
            }
            new = self._backend.insert(request_shares).values(holder=holder, **values)
            tx.execute(new.on_conflict_do_update(index_elements=["holder"], set_=values))
        return float(granted)

    @retried
    def give_up_share(self, holder: str) -> None:
        """Give the share of a process to the others."""
        with self._writing() as tx:
            tx.execute(delete(request_shares).where(request_shares.c.holder == holder))

"""Recommendations: a row for each change of the advice (a part of `ports.Control`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, delete, insert, select

from chromasync.model import Recommendation
from chromasync.store.core import Core
from chromasync.store.retry import retried
from chromasync.store.schema import Now
from chromasync.store.schema_history import recommendations

KEPT_RECOMMENDATIONS = 1000

_ROW = select(
    recommendations.c.current_phase,
    recommendations.c.recommended_phase,
    recommendations.c.reason,
    recommendations.c.estimated_monthly_cost,
    recommendations.c.evidence,
    recommendations.c.created_at,
).order_by(recommendations.c.id.desc())


class RecommendationPart(Core):
    """Recommendations, the newest first."""

    @retried
    def recommendations(self, limit: int) -> list[Recommendation]:
        """The latest recommendations, newest first."""
        with self._reading() as tx:
            return _latest(tx, limit)

    @retried
    def note_recommendation(self, one: Recommendation) -> Recommendation:
        """Record a recommendation if the newest one says something else; returns the newest."""
        with self._writing() as tx:
            newest = _latest(tx, 1)
            if newest and newest[0].says_the_same(one):
                return newest[0]
            tx.execute(insert(recommendations).values(_values(one)))
            _forget_old(tx)
            return _latest(tx, 1)[0]


def _latest(tx: Connection, limit: int) -> list[Recommendation]:
    return [_build(row) for row in tx.execute(_ROW.limit(limit))]


def _forget_old(tx: Connection) -> None:
    ids = select(recommendations.c.id).order_by(recommendations.c.id.desc())
    last = tx.execute(ids.offset(KEPT_RECOMMENDATIONS).limit(1)).scalar()
    if last is not None:
        tx.execute(delete(recommendations).where(recommendations.c.id <= last))


def _values(one: Recommendation) -> dict[str, Any]:
    evidence = {"rules": list(one.rules), "measured": dict(one.measured)}
    return {
        "created_at": Now(),
        "current_phase": one.current_phase,
        "recommended_phase": one.recommended_phase,
        "reason": one.reason,
        "estimated_monthly_cost": one.estimated_monthly_cost,
        "evidence": orjson.dumps(evidence).decode(),
    }


def _build(row: Sequence[Any]) -> Recommendation:
    current, recommended, reason, cost, evidence, created_at = row
    found = orjson.loads(evidence) if evidence else {}
    return Recommendation(
        current,
        recommended,
        reason,
        cost,
        tuple(found.get("rules", ())),
        found.get("measured", {}),
        created_at,
    )

"""What the store keeps of an advice."""

from __future__ import annotations

from chromasync.advice_reports import AdviceReport
from chromasync.model import Recommendation


def recommendation_of(report: AdviceReport) -> Recommendation:
    """What is recorded of an advice."""
    measured: dict[str, float | str | None] = {sign.name: sign.value for sign in report.signs}
    measured["bottleneck"] = report.bottleneck
    cost = report.monthly_cost
    return Recommendation(
        report.current_phase,
        report.recommended_phase,
        " ".join(report.sentences),
        None if cost is None else f"{cost:,.2f} {report.currency}",
        report.rules,
        measured,
    )

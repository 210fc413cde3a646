"""Advice: which phase of the guide fits, and what to change next, from what was measured; pure.

`facts` reads the history, `bottleneck` names the side that costs the time, `rules` recommend, and
`forecast` computes what more documents would take. Thresholds, rates and prices are in
`sizing/table.toml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from chromasync.advice.bottleneck import find_bottleneck
from chromasync.advice.facts import Facts, gather
from chromasync.advice.forecast import Measured, forecast
from chromasync.advice.rules import Recommendation, Situation, recommend, signs_of
from chromasync.advice_reports import AdviceReport
from chromasync.config import Settings
from chromasync.model import Measurement
from chromasync.reports import (
    StatusSnapshot,
)
from chromasync.sizing.effort import Load, pace_of, read_seconds
from chromasync.sizing.pace import text_per_record, write_pace
from chromasync.sizing.table import Rates, Table, load_table

__all__ = ["HISTORY_SECONDS", "Asked", "advise"]

HISTORY_SECONDS = 7 * 86_400.0
"""Advice is based on so many seconds of history."""
USUAL_DIMENSION = 384
USUAL_TEXT_BYTES = 600
"""Assumed until records were copied."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A forecast for so many documents; None for a size means as measured."""

    documents: int
    dimension: int | None = None
    text_bytes: int | None = None


def advise(
    snapshot: StatusSnapshot,
    measurements: Sequence[Measurement],
    settings: Settings,
    asked: Asked | None = None,
) -> AdviceReport:
    """The advice at the time of the snapshot.

    Args:
        measurements: those of the last HISTORY_SECONDS.

    Raises:
        SettingsError: the table that SYNC_ADVICE_TABLE names cannot be used.
    """
    table = load_table(settings.sync_advice_table)
    facts = gather(snapshot, measurements, settings, table.thresholds)
    each = _average(snapshot, measurements, table.rates, asked)
    finding = find_bottleneck(facts, each, table)
    at = Situation(facts, finding, snapshot.reread_seconds, settings, table)
    is_enough = facts.cycles >= table.thresholds.cycles
    chosen = recommend(at) if is_enough else _as_is(facts)
    return AdviceReport(
        taken_at=snapshot.taken_at,
        is_enough=is_enough,
        current_phase=facts.deployed.phase,
        guide_phase=at.guide.name,
        recommended_phase=chosen.phase,
        headline=_headline(at, chosen, is_enough=is_enough),
        signs=signs_of(at),
        bottleneck=None if finding is None else finding.side,
        bottleneck_reason="" if finding is None else finding.reason,
        more_workers_help=None if finding is None else finding.more_workers_help,
        rules=chosen.rules,
        changes=chosen.changes,
        unknown=tuple(_unknown(at)),
        monthly_cost=_cost(chosen, at),
        currency=table.prices.currency,
        forecast=None
        if asked is None
        else forecast(
            asked.documents,
            replace(_measured(snapshot, measurements, facts, table), each=each),
            settings,
            table,
        ),
    )


def _as_is(facts: Facts) -> Recommendation:
    return Recommendation(facts.deployed.phase, facts.deployed.workers, (), ())


def _headline(at: Situation, chosen: Recommendation, *, is_enough: bool) -> str:
    facts, present = at.facts, at.facts.deployed
    size = f"{facts.documents:,} documents"
    if not is_enough:
        return (
            f"Not enough history for advice: {facts.cycles:,} of {at.table.thresholds.cycles:,} "
            "cycles have closed."
        )
    if chosen.phase != present.phase:
        return f"{_capital(chosen.phase)} fits {size}; now it is {present.phase}."
    if chosen.changes:
        return f"{_capital(present.phase)} stays right for {size}, with a change."
    if facts.cycle_seconds is None:
        return f"{_capital(present.phase)} fits {size}. Nothing needs to change."
    took = f"a usual cycle takes {facts.cycle_seconds:.3g} s of {at.settings.sync_interval:g} s"
    return f"{_capital(present.phase)} fits {size}: {took}. Nothing needs to change."


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _unknown(at: Situation) -> list[str]:
    """What the history cannot tell yet."""
    facts, limits = at.facts, at.table.thresholds
    said = (
        (facts.cycle_seconds, f"How long a usual cycle takes: needs {limits.cycles} usual cycles."),
        (facts.growth_per_day, f"Growth: needs {limits.growth_hours:g} hours between cycles."),
        (
            facts.memory_share,
            "Memory: needs a memory limit and ten minutes of the service within the last hour.",
        ),
        (at.finding, f"The bottleneck: needs {limits.busy_minutes:g} minutes of work in a day."),
    )
    return [words for value, words in said if value is None]


def _cost(chosen: Recommendation, at: Situation) -> float:
    plan = next(p for p in at.table.prices.plans if p.name == at.guide.plan)
    return (chosen.workers + 1) * plan.monthly


def _average(
    snapshot: StatusSnapshot,
    measurements: Sequence[Measurement],
    rates: Rates,
    asked: Asked | None = None,
) -> Load:
    """An average record: as asked for, as measured, or as usual."""
    known = [c for c in snapshot.collections if c.dimension and c.primary_count]
    records = sum(c.primary_count for c in known)
    floats: float = USUAL_DIMENSION
    if records:
        floats = sum(c.primary_count * (c.dimension or 0) for c in known) / records
    text = text_per_record(measurements, floats, rates) or USUAL_TEXT_BYTES
    if asked is not None:
        floats = floats if asked.dimension is None else asked.dimension
        text = text if asked.text_bytes is None else asked.text_bytes
    return Load(1, floats, text)


def _measured(
    snapshot: StatusSnapshot,
    measurements: Sequence[Measurement],
    facts: Facts,
    table: Table,
) -> Measured:
    """What a forecast takes from the present, with the average record of the present."""
    present = _average(snapshot, measurements, table.rates)
    return Measured(
        each=present,
        collections=max(1, len(snapshot.collections)),
        growth_per_day=facts.growth_per_day,
        documents=facts.documents,
        read_pace=_read_pace(measurements, present, table),
        write_pace=write_pace(measurements, present.floats, table.rates),
        threads=facts.deployed.threads,
    )


def _read_pace(measurements: Sequence[Measurement], each: Load, table: Table) -> float | None:
    """The pace of the primary over all rows of processes that read records."""
    rows = [one for one in measurements if not one.is_cycle and one.records_read]
    seconds = sum(one.primary_seconds for one in rows)
    read = each.scaled_to(sum(one.records_read for one in rows))
    return pace_of(seconds, read_seconds(read, table.rates)) if rows else None

"""The rules: signs of the guide, and what follows from them with the bottleneck; pure.

    sign or need                        recommendation
    none                                the present phase
    a sign by size or growth alone      phase 1, which costs nothing and prepares the next
    slow cycles, or rare re-reads       more workers, if they help; otherwise what relieves the
                                        bottleneck
    memory near its limit               smaller chunks, then fewer threads, then a larger plan

A sign by size alone is no need: a primary of any size is well served by one process whose cycles
are short.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from chromasync.advice.bottleneck import Finding
from chromasync.advice.facts import DAY, Facts, phase_name
from chromasync.advice_reports import Bottleneck, Sign
from chromasync.config import Role, Settings
from chromasync.sizing.table import Phase, Table

MOST_THREADS = 16
LONGEST_INTERVAL = 86_400


@dataclass(frozen=True, slots=True)
class Situation:
    """The facts, beside what they are compared with."""

    facts: Facts
    finding: Finding | None
    reread_seconds: float | None
    settings: Settings
    table: Table

    @property
    def guide(self) -> Phase:
        """The guide's phase by size."""
        return self.table.phase_for(self.facts.documents)

    @property
    def is_large(self) -> bool:
        """From so many documents on, the guide shares the work."""
        return self.facts.documents >= self.table.thresholds.documents

    @property
    def grows_fast(self) -> bool:
        """So many new documents a day, or more."""
        growth = self.facts.growth_per_day
        return growth is not None and growth >= self.table.thresholds.growth_per_day

    @property
    def is_full(self) -> bool:
        """The memory of a process is consistently above the guide's share."""
        share = self.facts.memory_share
        return share is not None and share > self.table.thresholds.memory_share

    @property
    def is_slow(self) -> bool:
        """A usual cycle takes longer than the guide's limit, or too much of the interval."""
        seconds = self.facts.cycle_seconds
        return seconds is not None and seconds > self.longest_cycle

    @property
    def longest_cycle(self) -> float:
        """The longest usual cycle that is well."""
        limits = self.table.thresholds
        return min(limits.cycle_seconds, limits.interval_share * self.settings.sync_interval)

    @property
    def rereads_rarely(self) -> bool:
        """Some records are not read again for too long."""
        limit = self.table.thresholds.reread_days * DAY
        return self.reread_seconds is not None and self.reread_seconds > limit


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The phase, the number of workers beside the coordinator, and why; `changes` in order."""

    phase: str
    workers: int
    rules: tuple[str, ...]
    changes: tuple[str, ...]


def signs_of(at: Situation) -> tuple[Sign, ...]:
    """The guide's signs, with what was measured."""
    facts, limits = at.facts, at.table.thresholds
    slow = facts.cycle_seconds is not None and facts.cycle_seconds > limits.cycle_seconds
    return (
        Sign("documents", facts.documents, limits.documents, at.is_large),
        Sign("memory_share", facts.memory_share, limits.memory_share, at.is_full),
        Sign("cycle_seconds", facts.cycle_seconds, limits.cycle_seconds, slow),
        Sign("growth_per_day", facts.growth_per_day, limits.growth_per_day, at.grows_fast),
    )


def recommend(at: Situation) -> Recommendation:
    """What fits, and what to change next."""
    present = at.facts.deployed
    workers, rules, changes = present.workers, [], list[str]()
    phase = present.phase
    if at.is_slow or at.rereads_rarely:
        rules += ["slow cycles"] * at.is_slow + ["rare re-reads"] * at.rereads_rarely
        if at.rereads_rarely and not at.is_slow and _wanted_budget(at):
            changes.append(_raise_budget(at))
        elif at.finding is not None and at.finding.more_workers_help:
            workers = max(present.workers + 1, at.guide.workers, 2)
            phase = phase_name(workers)
            rules.append("more workers help")
            changes += _more_workers(at, workers)
        elif at.finding is not None:
            rules.append(f"bottleneck: {at.finding.side}")
            changes += _relieve(at, at.finding)
    elif (at.is_large or at.grows_fast) and present.role is Role.SINGLE:
        rules += ["large"] * at.is_large + ["grows fast"] * at.grows_fast
        phase = phase_name(0)
        changes.append(_prepare(at))
    elif _is_oversized(at):
        rules.append("more workers than needed")
        changes.append(
            f"{present.workers:,} workers are more than this load needs. Stopping some lowers the "
            "cost, and copies nothing again."
        )
    if at.is_full:
        rules.append("memory")
        changes += _less_memory(at)
    return Recommendation(phase, workers, tuple(rules), tuple(changes))


def _more_workers(at: Situation, workers: int) -> Iterator[str]:
    present = at.facts.deployed
    waits = at.finding is not None and at.finding.side is not Bottleneck.PROCESSOR
    if waits and present.threads < MOST_THREADS:
        more = min(2 * present.threads, MOST_THREADS)
        yield f"Set SYNC_WORKERS={more} first: more threads in each process cost nothing."
    if present.role is Role.SINGLE:
        yield (
            "Switch to phase 1 (SYNC_DISTRIBUTED=true, SYNC_COORDINATOR=true); it needs PostgreSQL."
        )
    yield f"Run {workers:,} workers beside the coordinator (now {present.workers:,})."


def _relieve(at: Situation, finding: Finding) -> Iterator[str]:
    """What helps where more workers do not."""
    if finding.side is Bottleneck.THROTTLE:
        yield (
            "Allow more requests (SYNC_MAX_REQUESTS_PER_SECOND), or give the server that is "
            "protected a larger plan."
        )
    elif finding.side in (Bottleneck.PRIMARY, Bottleneck.REPLICA):
        yield f"Give the {finding.side} a larger plan: faster processors, a faster disk."
    if (
        finding.side is not Bottleneck.REPLICA
        and at.facts.rereads
        and at.settings.sync_scrub_budget
    ):
        half = at.settings.sync_scrub_budget / 2
        yield (
            f"Set SYNC_SCRUB_BUDGET={half:.1%}: cycles mostly re-read unchanged records, which are "
            "then read less often."
        )
    seconds = at.facts.cycle_seconds
    if seconds is not None:
        share = at.table.thresholds.interval_share
        interval = min(math.ceil(seconds / share / 60) * 60, LONGEST_INTERVAL)
        if interval > at.settings.sync_interval:
            yield (
                f"Or set SYNC_INTERVAL={interval}, so that a cycle takes at most {share:.0%} of "
                "it. The lag grows accordingly."
            )


def _less_memory(at: Situation) -> Iterator[str]:
    """Smaller chunks, then fewer threads, then a larger plan; more processes never help here."""
    size, threads = at.settings.sync_chunk_size, at.facts.deployed.threads
    smaller = [p.chunk_size for p in at.table.phases if p.chunk_size < size]
    if smaller:
        yield f"Set SYNC_CHUNK_SIZE={max(smaller)} (now {size}): smaller chunks need less memory."
    elif threads > 1:
        yield f"Set SYNC_WORKERS={threads // 2} (now {threads}): fewer threads need less memory."
    limit = at.facts.memory_limit_mb or 0.0
    larger = next((p for p in at.table.prices.plans if p.memory_mb > limit), None)
    if larger is not None:
        yield (
            f"Or give the process the plan {larger.name!r} with {larger.memory_mb:,} MB. More "
            "processes do not make one smaller."
        )


def _prepare(at: Situation) -> str:
    guide = "" if at.guide.workers == 0 else f" The guide's table says {at.guide.name}."
    return (
        "Switch to phase 1 (SYNC_DISTRIBUTED=true, SYNC_COORDINATOR=true, with PostgreSQL): it "
        f"costs nothing and prepares for more.{guide} Cycles are short enough, so more workers are "
        "not needed yet."
    )


def _wanted_budget(at: Situation) -> float:
    """The scrub budget with which records are read again in time; 0 if there is none."""
    limit = at.table.thresholds.reread_days * DAY
    budget = at.settings.sync_scrub_budget
    if at.reread_seconds is None or budget <= 0:
        return 0.0
    wanted = math.ceil(100 * budget * at.reread_seconds / limit) / 100
    return wanted if budget < wanted <= at.table.thresholds.interval_share else 0.0


def _raise_budget(at: Situation) -> str:
    days = at.table.thresholds.reread_days
    return (
        f"Set SYNC_SCRUB_BUDGET={_wanted_budget(at):.0%}, so that every record is read again "
        f"within {days:g} days. Cycles are short enough for that."
    )


def _is_oversized(at: Situation) -> bool:
    """Whether one process would do the work of all workers in time."""
    seconds, workers = at.facts.cycle_seconds, at.facts.deployed.workers
    if seconds is None or not workers or at.is_large or at.grows_fast or at.is_full:
        return False
    return seconds * (workers + 1) <= at.longest_cycle

"""What advice and forecasts say, for everyone who shows them; see `reports` for the others."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Bottleneck(StrEnum):
    """What cycles spend most of their time on."""

    PRIMARY = "primary"
    REPLICA = "replica"
    PROCESSOR = "processor"
    """The processors of chromasync's own processes."""
    THROTTLE = "throttle"
    """Waiting on purpose, to protect a server."""
    LEADER = "leader"
    """Steps that only the leader does, such as listing the primary's ids."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of the guide: what was measured, and its limit; `value` is None when unknown."""

    name: str
    value: float | None
    limit: float
    exceeded: bool


@dataclass(frozen=True, slots=True)
class Cost:
    """A part of a monthly price."""

    what: str
    monthly: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a number of documents would take; `rates` has one sentence for each rate that was used.

    Attributes:
        first_copy_seconds: the first copy to an empty replica.
        cycle_seconds: a usual cycle, with the growth of today.
        reread_seconds: the time within which every record is read again; None for never.
        state_bytes: size of the state store.
        server_memory_mb: memory of each of both servers.
        server_disk_gb: disk of each of both servers.
        costs: monthly prices of all parts; empty if a part has no price.
        unpriced: parts that are larger than all plans with a price.
    """

    documents: int
    phase: str
    first_copy_seconds: float
    cycle_seconds: float
    reread_seconds: float | None
    state_bytes: float
    server_memory_mb: float
    server_disk_gb: float
    process_memory_mb: float
    costs: tuple[Cost, ...]
    currency: str
    rates: tuple[str, ...]
    unpriced: tuple[str, ...] = ()

    @property
    def monthly_cost(self) -> float | None:
        """The sum of all parts; None if a part has no price."""
        return None if self.unpriced else sum(cost.monthly for cost in self.costs)


@dataclass(frozen=True, slots=True)
class AdviceReport:
    """Which phase of the guide fits, and what to change next, from what was measured.

    Attributes:
        is_enough: whether there is enough history for a recommendation.
        guide_phase: the guide's phase for this number of documents, without measurements.
        rules: names of the rules that led to the recommendation.
        changes: what to change, one sentence each, the most useful first.
        more_workers_help: None when unknown.
        unknown: what could not be measured yet, one sentence each.
        monthly_cost: of the processes of chromasync in the recommended phase.
        since: when the recommendation became what it is; None if it was not recorded.
    """

    taken_at: datetime
    is_enough: bool
    current_phase: str
    guide_phase: str
    recommended_phase: str
    headline: str
    signs: tuple[Sign, ...]
    bottleneck: Bottleneck | None = None
    bottleneck_reason: str = ""
    more_workers_help: bool | None = None
    rules: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    monthly_cost: float | None = None
    currency: str = ""
    since: datetime | None = None
    forecast: Forecast | None = None

    @property
    def exit_code(self) -> int:
        """Always 0: advice is no failure."""
        return 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """The advice in words, the most important first."""
        return tuple(filter(None, (self.headline, self.bottleneck_reason, *self.changes)))

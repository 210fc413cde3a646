"""Names the bottleneck, from measured waiting times; pure.

The time of all threads is split: waiting for the primary, for the replica, waiting on purpose, and
computing. The largest part names the bottleneck. Two facts decide whether more workers help. A
server that is busy all the time serves more workers not faster: a Chroma server on one machine
applies one write after another. A server that is distant or slow to answer, although it has little
to do, serves several workers at the same time. Records a second tell the two apart, compared with
the rates of the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from chromasync.advice.facts import Facts, Waiting
from chromasync.advice_reports import Bottleneck
from chromasync.sizing.effort import Load, Writes, read_seconds, write_seconds
from chromasync.sizing.table import Table


@dataclass(frozen=True, slots=True)
class Finding:
    """The bottleneck, whether more workers help, and why; in one or two sentences."""

    side: Bottleneck
    more_workers_help: bool
    reason: str


def find_bottleneck(facts: Facts, each: Load, table: Table) -> Finding | None:
    """The bottleneck; None when the processes worked too little to tell.

    Args:
        each: an average record.
    """
    limits, waiting = table.thresholds, facts.waiting
    if facts.leader_share is not None and facts.leader_share > limits.serial_share:
        return _leader(facts.leader_share)
    if waiting is None:
        return None
    if waiting.share(waiting.throttled) >= limits.throttled_share:
        return _throttle(waiting)
    parts = {
        Bottleneck.PRIMARY: waiting.primary,
        Bottleneck.REPLICA: waiting.replica,
        Bottleneck.PROCESSOR: waiting.cpu,
    }
    side = max(parts, key=lambda one: parts[one])
    share = waiting.share(parts[side])
    if share < limits.waiting_share:
        reason = f"No side is the bottleneck: {_shares(waiting)}."
        return Finding(Bottleneck.NONE, more_workers_help=True, reason=reason)
    if side is Bottleneck.PROCESSOR:
        return _processor(waiting)
    return _server(side, waiting, each, table)


def _leader(share: float) -> Finding:
    return Finding(
        Bottleneck.LEADER,
        more_workers_help=False,
        reason=f"The bottleneck is the leader: {share:.0%} of a cycle are steps that only it does, "
        "such as listing the primary's ids. More workers will not help.",
    )


def _throttle(waiting: Waiting) -> Finding:
    return Finding(
        Bottleneck.THROTTLE,
        more_workers_help=False,
        reason=f"The bottleneck is the throttle: {waiting.share(waiting.throttled):.0%} of the "
        "working time is waiting on purpose, to protect a server. More workers will not help.",
    )


def _processor(waiting: Waiting) -> Finding:
    return Finding(
        Bottleneck.PROCESSOR,
        more_workers_help=True,
        reason="The bottleneck is the processor of chromasync's own processes: "
        f"{_shares(waiting)}. More processes help, on further processors; more threads in one "
        "process do not.",
    )


def _server(side: Bottleneck, waiting: Waiting, each: Load, table: Table) -> Finding:
    """A server is the bottleneck: it is busy, or it is distant or slow."""
    by_table = _by_table(side, waiting, each, table)
    factor = waiting.seconds / by_table if by_table > 0 else float("inf")
    named = f"The bottleneck is the {side}: {_shares(waiting)}."
    if factor > table.thresholds.slow_factor:
        return Finding(
            side,
            more_workers_help=True,
            reason=f"{named} It answers late, although it has little to do, so the distance or a "
            "slow host costs the time. More workers wait at the same time, so they help.",
        )
    why = (
        "A Chroma server on one machine applies one write after another"
        if side is Bottleneck.REPLICA and waiting.records_written
        else "It is busy all the time"
    )
    return Finding(
        side, more_workers_help=False, reason=f"{named} {why}: more workers will not help."
    )


def _by_table(side: Bottleneck, waiting: Waiting, each: Load, table: Table) -> float:
    """The seconds that a server of the table's rates needs for what this one did."""
    written = each.scaled_to(waiting.records_written)
    if side is Bottleneck.PRIMARY:
        return read_seconds(each.scaled_to(waiting.records_read), table.rates)
    writing = write_seconds(Writes(new=written), table.rates)
    return writing + read_seconds(written, table.rates)


def _shares(waiting: Waiting) -> str:
    """The parts of the working time, the largest first."""
    parts = (
        (waiting.primary, "waiting for the primary"),
        (waiting.replica, "waiting for the replica"),
        (waiting.cpu, "computing"),
        (waiting.throttled, "waiting on purpose"),
    )
    shown = sorted((part for part in parts if part[0] > 0), reverse=True)
    words = ", ".join(f"{waiting.share(seconds):.0%} {doing}" for seconds, doing in shown)
    return f"of the working time, {words}"

"""Sentences about freshness: the first line of `status`, and the last line of `sync`."""

from __future__ import annotations

from datetime import datetime

from chromasync.model import ControlRow, DirectionState
from chromasync.reports import CycleReport, Outcome, StatusSnapshot, must_decide
from chromasync.wording.words import ago, duration, moment, plain, plural

NEVER_REREAD = (
    "Records that did not move are never read again, because SYNC_SCRUB_BUDGET is 0. Only "
    "`chromasync sync --full` and `chromasync verify` find changes in them."
)


def headline(snapshot: StatusSnapshot) -> str:
    """The most important fact first; never an outdated claim that all is well."""
    if not snapshot.cycles:
        store = plain(snapshot.store)
        return f"No cycle has run yet on {store}. Start one with: chromasync sync"
    if not snapshot.direction.is_following:
        return direction_sentence(snapshot)
    as_of = snapshot.identical_as_of
    if snapshot.is_ahead:
        return ahead_sentence(snapshot)
    if must_decide(snapshot.holds):
        return _undecided(snapshot)
    if as_of is None:
        known = "Not identical yet: no cycle has ended with all collections identical."
    else:
        known = f"Identical as of {moment(as_of)}, {ago(as_of, snapshot.taken_at)}."
    return known if snapshot.is_fresh else f"{stale_sentence(snapshot)} {known}".lstrip()


def direction_sentence(snapshot: StatusSnapshot) -> str:
    """Who promotes or promoted the replica, and what follows from it."""
    direction = snapshot.direction
    who, url = plain(direction.by or "Somebody"), plain(direction.url or "")
    if direction.state is DirectionState.PROMOTING:
        return f"{who} is promoting the replica {url}. Until that ends, nothing is written to it."
    when = "" if direction.since_at is None else f" {ago(direction.since_at, snapshot.taken_at)}"
    return f"{who} promoted {url}{when}. It is the primary now, and nothing is mirrored to it."


def _undecided(snapshot: StatusSnapshot) -> str:
    """The headline when both sides have their own changes, or the primary's identity changed."""
    first = (
        "Someone must decide which side is right. Until then nothing is written there; see Held."
    )
    if snapshot.identical_as_of is None:
        return first
    since = ago(snapshot.identical_as_of, snapshot.taken_at)
    return f"{first} Both sides were last identical at {moment(snapshot.identical_as_of)}, {since}."


def ahead_sentence(snapshot: StatusSnapshot) -> str:
    """Why nothing is known while a stored instant lies in the future."""
    instants = (snapshot.clean_at, snapshot.identical_as_of, snapshot.latest_as_of)
    latest = max(instant for instant in instants if instant is not None)
    return (
        f"Not known to be fresh: the last stored instant is {moment(latest)}, but it is "
        f"{moment(snapshot.taken_at)} now. A clock has jumped; the next completed cycle shows the "
        "freshness again."
    )


def stale_sentence(snapshot: StatusSnapshot) -> str:
    """The reason why the replica counts as out of date; empty if the rest of the line says it."""
    if snapshot.clean_at is None:
        known = snapshot.identical_as_of is not None
        return "Out of date: no completed cycle is known." if known else ""
    return (
        f"Out of date: the newest completed cycle began {ago(snapshot.clean_at, snapshot.taken_at)}"
        f", and SYNC_ALERT_LAG is {duration(snapshot.alert_lag_seconds)}."
    )


def pause_sentence(control: ControlRow, now: datetime) -> str:
    """Since when, by whom and why everything is paused, and how that ends."""
    since = "" if control.paused_at is None else f" since {moment(control.paused_at)}"
    since += "" if control.paused_at is None else f", {ago(control.paused_at, now)},"
    reason = f": {plain(control.pause_reason).rstrip('.')}" if control.pause_reason else ""
    return f"Paused{since} by {plain(control.paused_by or '?')}{reason}. {pause_end(control)}"


def pause_end(control: ControlRow) -> str:
    """How a pause ends."""
    if control.paused_until is None:
        return "It lasts until someone runs: chromasync resume"
    return f"It ends at {moment(control.paused_until)}, or earlier with: chromasync resume"


def reread_sentence(snapshot: StatusSnapshot) -> str:
    """The time within which a change in place is found."""
    if snapshot.reread_seconds is None:
        return NEVER_REREAD
    return f"Every record is read again within {duration(snapshot.reread_seconds)}."


def verdict(report: CycleReport) -> str:
    """The outcome of the cycle, and since when the replica is identical."""
    as_of = "" if report.identical_as_of is None else f" as of {moment(report.identical_as_of)}"
    if as_of and report.never_reread:
        as_of += ", when the oldest record was last read"
    records = sum(collection.primary_count for collection in report.collections)
    extent = f"{plural(records, 'record')} in {plural(len(report.collections), 'collection')}"
    match report.outcome:
        case Outcome.IDENTICAL:
            return f"Identical{as_of}: {extent}."
        case Outcome.LIMITED:
            return f"Identical{as_of}, except as listed above: {extent}."
        case Outcome.HELD:
            if must_decide(report.holds):
                return "Held: nothing was written where a decision is needed; see above."
            return "Held: a guard stopped deletes; everything else was written."
        case Outcome.FAILED:
            cause = f": {plain(report.cycle.error)}" if report.cycle.error else "; see above."
            return f"Not finished{cause}"

"""How fresh the replica is, in words: the first line of `status`, and the last one of `sync`."""

from __future__ import annotations

from chromasync.cli.words import ago, duration, moment, plain, plural
from chromasync.reports import CycleReport, Outcome, StatusSnapshot, must_decide

NEVER_REREAD = (
    "Records that did not move are never read again, because SYNC_SCRUB_BUDGET is 0: what changes "
    "in them is found by `chromasync sync --full` and `chromasync verify` alone."
)


def headline(snapshot: StatusSnapshot) -> str:
    """What is to be known first; never that all is well when that is not known any more."""
    if not snapshot.cycles:
        store = plain(snapshot.store)
        return f"No cycle has run yet on {store}. Start one with: chromasync sync"
    as_of = snapshot.identical_as_of
    if snapshot.is_ahead:
        return _ahead(snapshot)
    if must_decide(snapshot.holds):
        return _undecided(snapshot)
    if as_of is None:
        known = "Not identical yet: no cycle has ended with all collections identical."
    else:
        known = f"Identical as of {moment(as_of)}, {ago(as_of, snapshot.taken_at)}."
    return known if snapshot.is_fresh else f"{_stale(snapshot)} {known}".lstrip()


def _undecided(snapshot: StatusSnapshot) -> str:
    """Both sides have what the other lacks, or the primary is not what it was."""
    first = (
        "Someone must decide which side is right; until then nothing is written there, see Held."
    )
    if snapshot.identical_as_of is None:
        return first
    since = ago(snapshot.identical_as_of, snapshot.taken_at)
    return f"{first} Both sides were last identical at {moment(snapshot.identical_as_of)}, {since}."


def _ahead(snapshot: StatusSnapshot) -> str:
    instants = (snapshot.clean_at, snapshot.identical_as_of, snapshot.latest_as_of)
    latest = max(instant for instant in instants if instant is not None)
    return (
        f"Not known to be fresh: the last cycle's instants reach to {moment(latest)}, and it is "
        f"{moment(snapshot.taken_at)} now. A clock has jumped; the next completed cycle tells."
    )


def _stale(snapshot: StatusSnapshot) -> str:
    """Why the replica counts as out of date; nothing where the rest of the line says it."""
    if snapshot.clean_at is None:
        known = snapshot.identical_as_of is not None
        return "Out of date: no cycle is known that was completed." if known else ""
    return (
        f"Out of date: the newest completed cycle began {ago(snapshot.clean_at, snapshot.taken_at)}"
        f", longer ago than SYNC_ALERT_LAG allows ({duration(snapshot.alert_lag_seconds)})."
    )


def reread_sentence(snapshot: StatusSnapshot) -> str:
    """Within which time a change in place is noticed."""
    if snapshot.reread_seconds is None:
        return NEVER_REREAD
    return f"Every record is read again within {duration(snapshot.reread_seconds)}."


def verdict(report: CycleReport) -> str:
    """How the cycle ended, and since when the replica is identical."""
    as_of = "" if report.identical_as_of is None else f" as of {moment(report.identical_as_of)}"
    if as_of and report.never_reread:
        as_of += ", when the oldest record was last read"
    records = sum(collection.primary_count for collection in report.collections)
    extent = f"{plural(records, 'record')} in {plural(len(report.collections), 'collection')}"
    match report.outcome:
        case Outcome.IDENTICAL:
            return f"Identical{as_of}: {extent}."
        case Outcome.LIMITED:
            return f"Identical{as_of}, but for what is listed above: {extent}."
        case Outcome.HELD:
            if must_decide(report.holds):
                return "Held: nothing was written where someone must decide; see above."
            return "Held: a guard stopped deletes, everything else was written."
        case Outcome.FAILED:
            cause = f": {plain(report.cycle.error)}" if report.cycle.error else "; see above."
            return f"Not finished{cause}"

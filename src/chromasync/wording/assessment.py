"""The first line of the page: is it identical, as of when, and if not, why and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chromasync.model import CycleStatus, DirectionState, MirrorStatus, WorkerStatus
from chromasync.reports import StatusSnapshot, must_decide
from chromasync.wording.freshness import ahead_sentence, direction_sentence, stale_sentence
from chromasync.wording.words import ago, moment, number, plain, plural

ALIVE = {WorkerStatus.ACTIVE, WorkerStatus.DRAINING}
TURN = "To mirror it, set PRIMARY_URL to it, and REPLICA_URL to the former primary or a new server."
SEE_HELD = "See “Waiting for a decision” below: each entry says what is held, and why."


class Tone(StrEnum):
    """How urgent it is."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Assessment:
    """The state of the replica in a few words.

    Attributes:
        tone: how urgent it is.
        title: one line in large type.
        why: sentences that explain it; may be empty.
        todo: the next step of a person; empty if there is none.
    """

    tone: Tone
    title: str
    why: tuple[str, ...] = ()
    todo: str = ""


def assess(snapshot: StatusSnapshot) -> Assessment:
    """The most urgent fact; never an outdated claim that all is well."""
    found = (case(snapshot) for case in _CASES)
    return next((one for one in found if one is not None), _identical(snapshot))


def _as_of(snapshot: StatusSnapshot) -> str:
    """`identical as of 12:03:07 UTC`, with the date on another day."""
    as_of = snapshot.identical_as_of
    if as_of is None:
        return "not identical yet"
    return f"identical as of {clock(as_of, snapshot.taken_at)}"


def clock(instant: datetime, now: datetime) -> str:
    """An instant as people say it: the time alone on the same day."""
    text = moment(instant)
    return text.partition(" ")[2] if instant.date() == now.date() else text


def _capital(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}"


def _no_cycle(snapshot: StatusSnapshot) -> Assessment | None:
    if snapshot.cycles:
        return None
    return Assessment(
        Tone.WARN,
        "No cycle has run yet",
        (f"The state store {plain(snapshot.store)} is empty.",),
        "Start the service with chromasync run, or one cycle with chromasync sync.",
    )


def _promoted(snapshot: StatusSnapshot) -> Assessment | None:
    direction = snapshot.direction
    if direction.is_following:
        return None
    why = direction_sentence(snapshot)
    if direction.state is DirectionState.PROMOTING:
        todo = "If it was interrupted, run chromasync promote again, or with --cancel."
        return Assessment(Tone.WARN, "The replica is being promoted", (why,), todo)
    known = direction.identical_as_of
    since = () if known is None else (f"Both sides were last identical at {moment(known)}.",)
    return Assessment(Tone.WARN, "The replica is the primary now", (why, *since), TURN)


def _ahead(snapshot: StatusSnapshot) -> Assessment | None:
    if not snapshot.is_ahead:
        return None
    return Assessment(Tone.WARN, "Not known to be identical", (ahead_sentence(snapshot),))


def _undecided(snapshot: StatusSnapshot) -> Assessment | None:
    if not must_decide(snapshot.holds):
        return None
    known = snapshot.identical_as_of
    since = () if known is None else (f"Both sides were last identical at {moment(known)}.",)
    why = ("Until then nothing is written where both sides differ.", *since)
    return Assessment(Tone.BAD, "Someone must decide which side is right", why, SEE_HELD)


def _stale(snapshot: StatusSnapshot) -> Assessment | None:
    if snapshot.is_fresh or (snapshot.clean_at is None and snapshot.identical_as_of is None):
        return None
    why, todo = _why_stale(snapshot)
    words = _capital(stale_sentence(snapshot).removeprefix("Out of date: "))
    return Assessment(Tone.BAD, f"Out of date: {_as_of(snapshot)}", (words, *why), todo)


def _why_stale(snapshot: StatusSnapshot) -> tuple[tuple[str, ...], str]:
    """The reason why no cycle was completed lately, and the next step."""
    if snapshot.is_paused:
        return (_pause_sentence(snapshot),), "Resume when you are ready: chromasync resume."
    if not any(worker.status in ALIVE for worker in snapshot.workers):
        return _nobody(snapshot)
    last = snapshot.last_ended
    if last is not None and last.status is CycleStatus.FAILED and last.error:
        return (f"The last cycle failed: {plain(last.error)}",), ""
    return (), "See the cycle below, and the service's log."


def _nobody(snapshot: StatusSnapshot) -> tuple[tuple[str, ...], str]:
    beats = [w.last_heartbeat_at for w in snapshot.workers if w.last_heartbeat_at is not None]
    seen = f" The last sign of life was {ago(max(beats), snapshot.taken_at)}." if beats else ""
    words = f"No process of chromasync is alive.{seen}"
    return (words,), "Start chromasync run again; the end of its log says why it ended."


def _pause_sentence(snapshot: StatusSnapshot) -> str:
    control = snapshot.control
    who = f" by {plain(control.paused_by)}" if control.paused_by else ""
    why = f": {plain(control.pause_reason).removesuffix('.')}" if control.pause_reason else ""
    until = control.paused_until
    end = "until someone resumes" if until is None else f"until {clock(until, snapshot.taken_at)}"
    return f"Paused{who} {end}{why}."


def _paused(snapshot: StatusSnapshot) -> Assessment | None:
    if not snapshot.is_paused:
        return None
    return Assessment(
        Tone.WARN,
        f"Paused: {_as_of(snapshot)}",
        (_pause_sentence(snapshot),),
        "Resume when you are ready: chromasync resume.",
    )


def _faulty(snapshot: StatusSnapshot) -> Assessment | None:
    failed = [c for c in snapshot.collections if c.status is MirrorStatus.ERROR]
    silent = [c for c in snapshot.collections if c.status is MirrorStatus.UNANSWERING]
    if not failed and not silent:
        return None
    if failed:
        title = f"Not identical: {_of(len(failed), snapshot)} failed"
    else:
        title = f"Not answering: {_of(len(silent), snapshot)} on the replica"
    first = (failed or silent)[0]
    return Assessment(
        Tone.BAD, title, (f"{plain(first.name)}: {plain(first.message)}",), "See the errors below."
    )


def _of(count: int, snapshot: StatusSnapshot) -> str:
    return f"{number(count)} of {plural(len(snapshot.collections), 'collection')}"


def _held(snapshot: StatusSnapshot) -> Assessment | None:
    waiting = [hold for hold in snapshot.holds if hold.approved_digest is None]
    if not waiting:
        return None
    records = plural(sum(hold.count for hold in waiting), "record")
    why = "A guard holds them; everything else is mirrored."
    return Assessment(Tone.WARN, f"{_capital(records)} held: {_as_of(snapshot)}", (why,), SEE_HELD)


def _first_copy(snapshot: StatusSnapshot) -> Assessment | None:
    if snapshot.identical_as_of is not None:
        return None
    done = sum(c.identical_as_of is not None for c in snapshot.collections)
    last = snapshot.last_ended
    failed = last is not None and last.status is CycleStatus.FAILED
    why = (f"{_capital(_of(done, snapshot))} identical so far.",) if snapshot.collections else ()
    if failed and last is not None and last.error:
        return Assessment(Tone.BAD, "Not identical yet", (*why, plain(last.error)))
    return Assessment(Tone.BUSY, "Not identical yet: the first copy is under way", why)


def _last_failed(snapshot: StatusSnapshot) -> Assessment | None:
    last = snapshot.last_ended
    if last is None or last.status is not CycleStatus.FAILED:
        return None
    why = (f"Cycle {last.id} failed: {plain(last.error)}",) if last.error else ()
    return Assessment(Tone.WARN, f"{_capital(_as_of(snapshot))}; the last cycle failed", why)


def _limited(snapshot: StatusSnapshot) -> Assessment | None:
    limited = sum(c.status is MirrorStatus.LIMITED for c in snapshot.collections)
    if not limited:
        return None
    title = f"{_capital(_as_of(snapshot))}, as far as possible"
    why = f"{_capital(_of(limited, snapshot))} with content that the replica does not take."
    return Assessment(Tone.WARN, title, (why,), "See their messages and quarantined records below.")


def _identical(snapshot: StatusSnapshot) -> Assessment:
    records = plural(sum(c.primary_count for c in snapshot.collections), "record")
    extent = f"{records} in {plural(len(snapshot.collections), 'collection')}"
    since = snapshot.identical_as_of
    when = "" if since is None else f", {ago(since, snapshot.taken_at)}"
    return Assessment(Tone.GOOD, _capital(_as_of(snapshot)), (f"{_capital(extent)}{when}.",))


_CASES: tuple[Callable[[StatusSnapshot], Assessment | None], ...] = (
    _promoted,
    _no_cycle,
    _ahead,
    _undecided,
    _stale,
    _paused,
    _faulty,
    _held,
    _first_copy,
    _last_failed,
    _limited,
)
"""From the most urgent to the least; the first that applies is shown."""

"""What the buttons do, and what a person confirms before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from chromasync.errors import ChromasyncError
from chromasync.model import Hold
from chromasync.reports import StatusSnapshot
from chromasync.web.process import Operator
from chromasync.web.snapshots import SnapshotCache
from chromasync.wording.concerns import held_words, hold_name
from chromasync.wording.words import duration, plain, plural

LONGEST_REASON = 200
UNKNOWN = "This page knows no such button."


class Action(StrEnum):
    """The buttons."""

    PAUSE = "pause"
    RESUME = "resume"
    SYNC = "sync"
    APPROVE = "approve"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for.

    Attributes:
        action: one of Action; anything else is refused.
        collection_id, digest: the held set to approve.
        reason: why the processes pause.
        seconds: how long they pause; None until someone resumes.
    """

    action: str
    collection_id: str = ""
    digest: str = ""
    reason: str = ""
    seconds: float | None = None

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> Asked:
        """What the fields of a form or a query say."""
        given = fields.get("seconds", "")
        seconds = float(given) if given.isascii() and given.isdigit() and len(given) < 8 else None
        return cls(
            fields.get("action", ""),
            fields.get("collection", ""),
            fields.get("digest", ""),
            fields.get("reason", "")[:LONGEST_REASON],
            seconds or None,
        )


class Actions:
    """Carries out what was asked for, through an operator.

    Args:
        operator: the program.
        snapshots: what a person sees; it looks again after a change.
    """

    def __init__(self, operator: Operator, snapshots: SnapshotCache) -> None:
        self._operator = operator
        self._snapshots = snapshots

    def confirmation(self, asked: Asked) -> str:
        """What a person confirms, with the counts as of now.

        Raises:
            ChromasyncError: there is nothing to confirm.
        """
        snapshot = self._snapshots.look().snapshot
        if snapshot is None:
            raise ChromasyncError("The state store cannot be read.")
        match asked.action:
            case Action.PAUSE:
                return (
                    f"Pause {_processes(snapshot)}? The replica then stays as it is, and its lag "
                    "grows until someone resumes."
                )
            case Action.RESUME:
                return f"Resume {_processes(snapshot)}?"
            case Action.SYNC:
                records = plural(sum(c.primary_count for c in snapshot.collections), "record")
                return (
                    f"Begin a cycle now, over {records} in "
                    f"{plural(len(snapshot.collections), 'collection')}?"
                )
            case Action.APPROVE:
                hold = _held(snapshot, asked)
                return (
                    f"Approve for {hold_name(hold)}: {held_words(hold)}? "
                    "The next cycle carries it out, once, for exactly this set."
                )
        raise ChromasyncError(UNKNOWN)

    def carry_out(self, asked: Asked, who: str) -> str:
        """Do what was asked for; returns a sentence about it.

        Raises:
            ChromasyncError: it could not be done, and nothing was changed.
        """
        try:
            return self._do(asked, who)
        finally:
            self._snapshots.forget()

    def _do(self, asked: Asked, who: str) -> str:
        match asked.action:
            case Action.PAUSE:
                self._operator.pause(who, asked.reason, asked.seconds)
                end = "" if asked.seconds is None else f" for {duration(asked.seconds)}"
                return f"All processes pause within seconds{end}."
            case Action.RESUME:
                self._operator.resume()
                return "All processes go on within seconds."
            case Action.SYNC:
                self._operator.want_cycle(who)
                return "The leader begins a cycle within seconds."
            case Action.APPROVE:
                approved = self._operator.approve_set(asked.collection_id, asked.digest)
                words = "; ".join(f"{hold_name(hold)}, {held_words(hold)}" for hold in approved)
                return f"Approved: {words}. The next cycle carries it out."
        raise ChromasyncError(UNKNOWN)


def _processes(snapshot: StatusSnapshot) -> str:
    alive = sum(worker.status == "active" for worker in snapshot.workers)
    return f"all processes ({alive:,} active now)"


def _held(snapshot: StatusSnapshot, asked: Asked) -> Hold:
    for hold in snapshot.holds:
        if hold.collection_id == asked.collection_id and hold.set_digest == asked.digest:
            return hold
    raise ChromasyncError(
        f"The set with the digest {plain(asked.digest)!r} is held no more.",
        untouched="Nothing was approved.",
        hint="Look at what is held now.",
    )

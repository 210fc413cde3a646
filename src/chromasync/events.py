"""The names of everything that is logged: constant, so that people can search and count by them.

Whatever varies is a field beside the name, never a part of it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Event(StrEnum):
    """One kind of log line; `when` says when it is logged, in a sentence for people."""

    when: str

    def __new__(cls, text: str, when: str) -> Self:
        """A text that carries its explanation."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.when = when
        return member

    # ---- the service ------------------------------------------------------------------------

    STARTED = "started", "The service begins, in its role and under its name as a worker."
    ENDED = "ended", "The service was asked to stop while it waited for the lead."
    WAITS_FOR_LEAD = "waits for the lead", "Another process leads; told once in each wait."
    LEADS = "leads", "This process leads in a new term, and called so many tasks back."
    LEAD_NOT_GIVEN_UP = (
        "the lead could not be given up; it runs out",
        "The store was away when this process ceased to lead.",
    )

    # ---- cycles -----------------------------------------------------------------------------

    CYCLE_CLOSED = (
        "cycle closed",
        "A cycle ended, well or not; its fields are explained above.",
    )
    CYCLE_WARNS = "cycle warns", "A cycle has something to say to people: `text`."
    COLLECTION_FAILED = (
        "collection failed",
        "A cycle closed with an error of this collection, or of so many for the same reason.",
    )
    HELD = "held", "A guard holds a set of records; told once for each set."
    NO_TASK_ENDED = (
        "no task ended for a while",
        "The tasks of a cycle make no progress; told every 30 seconds.",
    )
    NOT_RECORDED = (
        "the aborted cycle could not be recorded",
        "The end of a cycle could not be written to the store; the next cycle sees to it.",
    )
    FIGURES_UNKNOWN = (
        "the figures of an aborted cycle could not be read",
        "Its end is in the store, which was away just afterwards; its line lacks some fields.",
    )
    NOT_PRUNED = (
        "old history was not pruned; the next cycle tries again",
        "The store refused to forget old cycles and tasks.",
    )
    RENAMING = "renaming on the replica", "A collection of the replica is about to be renamed."
    RENAME_REFUSED = "a rename was refused", "The replica refused a collection's new name."
    DROPPING_KEPT = (
        "dropping what was kept",
        "A dropped collection was kept for SYNC_KEEP_DROPPED, and goes now.",
    )
    SCHEMA_REFUSED = (
        "schema refused",
        "The replica takes only a part of a collection's schema; the rest is tried.",
    )

    # ---- marks ------------------------------------------------------------------------------

    MARKS_UNREADABLE = (
        "the marks on the primary cannot be read",
        "The primary refused to say whether it carries the mark of a replica.",
    )
    NO_MARK = "the replica takes no mark", "The replica refused the mark of this store."
    MARK_NOT_FINISHED = (
        "the mark was not written again",
        "A cycle that ended early left the mark as it was; the next cycle sees it.",
    )
    MARK_NOT_RELEASED = (
        "the mark does not say that this process ended",
        "The replica was away when the process ended.",
    )

    # ---- tasks ------------------------------------------------------------------------------

    BACKING_OFF = (
        "backing off",
        "The worker threads back off, because a server or the store cannot be used.",
    )
    RESCUED = (
        "rescued tasks of silent workers",
        "Leases ran out, whoever held them; their tasks are in the queue again.",
    )
    LEASE_LOST = "lease lost", "A task at hand is put down: its lease ran out or was called back."
    COMPLETION_REFUSED = (
        "completion refused",
        "A task was done too late: another worker owns it; the chunk is compared again.",
    )
    TASK_FAILED = (
        "task failed unexpectedly",
        "A defect of the program; the traceback goes with it, and the task is tried again.",
    )
    HANDED_BACK = (
        "handed back unfinished",
        "A task hung in a server when the process ended.",
    )
    NOT_HANDED_BACK = (
        "not handed back; its lease runs out",
        "The store was away when a task should be handed back.",
    )

    # ---- what is done beside the work -------------------------------------------------------

    NO_PROOF_OF_LIFE = "no proof of life", "This process could not say that it is alive."
    NO_RESCUE = "no rescue of tasks", "This process could not look for leases that ran out."
    RENEWAL_FAILED = (
        "a renewal failed",
        "The leases of the tasks at hand, or the lead, could not be renewed; soon tried again.",
    )
    TRYING_AGAIN = "trying again", "A request to a server or the store is repeated in a moment."
    RECOVERED = (
        "recovered",
        "What failed before succeeds: `what` it is, `after` how many failures and `seconds`.",
    )

"""The names of all log lines: constants, so that people can search and count by them.

Variable values are fields beside the name, never a part of it.
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
    WAITS_FOR_LEAD = "waits for the lead", "Another process leads; logged once in each wait."
    LEADS = "leads", "This process leads in a new term, and called back tasks of earlier terms."
    PROMOTING = "the replica is being promoted", "No process may write to it from now on."
    PROMOTED = "the replica was promoted", "It is the primary now; nothing is mirrored to it."
    TURNED = (
        "the direction was turned",
        "The settings name the promoted replica as the primary; now everything is compared.",
    )
    LEAD_NOT_GIVEN_UP = (
        "the lead could not be given up; it runs out",
        "The store was not reachable when this process ceased to lead.",
    )

    FOLDER_UPGRADED = (
        "the folder is upgraded",
        "An older Chroma wrote the replica's folder; some older versions cannot open it any more.",
    )
    PAUSED = (
        "paused",
        "Someone paused the service: this process puts its tasks down and sends no more requests.",
    )
    RESUMED = "resumed", "The pause ended, or someone ended it: this process goes on."
    NO_ORDERS = (
        "orders cannot be read",
        "The store did not say whether someone paused the service; the last answer stays valid.",
    )

    # ---- cycles -----------------------------------------------------------------------------

    CYCLE_WANTED = "cycle begins on request", "Someone asked for this cycle: `by`."
    CYCLE_CLOSED = (
        "cycle closed",
        "A cycle ended, successfully or not; its fields are explained above.",
    )
    CYCLE_WARNS = "cycle warns", "A cycle has a message for people: `text`."
    COLLECTION_FAILED = (
        "collection failed",
        "A cycle closed with an error of one collection, or of several for the same reason.",
    )
    HELD = "held", "A guard holds a set of records; logged once for each set."
    NO_TASK_ENDED = (
        "no task ended for a while",
        "The tasks of a cycle make no progress; logged every 30 seconds.",
    )
    NOT_RECORDED = (
        "the aborted cycle could not be recorded",
        "The end of a cycle could not be written to the store; the next cycle does it.",
    )
    FIGURES_UNKNOWN = (
        "the figures of an aborted cycle could not be read",
        "Its end is stored, but the store was not reachable afterwards; some fields are missing.",
    )
    USAGE_NOT_RECORDED = (
        "the usage of a cycle could not be recorded",
        "A cycle is closed, but its row of performance_metrics lacks bytes, requests and lag.",
    )
    NOT_PRUNED = (
        "old history was not pruned; the next cycle tries again",
        "The store refused to delete old cycles and tasks.",
    )
    RENAMING = "renaming on the replica", "A collection of the replica is about to be renamed."
    RENAME_REFUSED = "a rename was refused", "The replica refused a collection's new name."
    DROPPING_KEPT = (
        "dropping what was kept",
        "A dropped collection was kept for SYNC_KEEP_DROPPED, and is deleted now.",
    )
    SCHEMA_REFUSED = (
        "schema refused",
        "The replica refused a part of a collection's schema; the rest is tried.",
    )

    # ---- marks ------------------------------------------------------------------------------

    MARKS_UNREADABLE = (
        "the marks on the primary cannot be read",
        "The primary refused to say whether it carries the mark of a replica.",
    )
    NO_MARK = "the replica takes no mark", "The replica refused the mark of this store."
    MARK_NOT_FINISHED = (
        "the mark was not written again",
        "A cycle ended early and left the mark as it was; the next cycle detects this.",
    )
    MARK_NOT_RELEASED = (
        "the mark does not say that this process ended",
        "The replica was not reachable when the process ended.",
    )

    # ---- the page ---------------------------------------------------------------------------

    PAGE_OPEN = "the page is open", "The status page and the metrics are served, at `url`."
    PAGE_UNPROTECTED = (
        "the page is open to everybody",
        "The page listens beyond this machine, and SYNC_HTTP_TOKEN is not set.",
    )
    ASKED_ON_PAGE = "asked on the page", "A person pressed a button: `action` and `who`."
    PAGE_FAILED = (
        "the page failed",
        "A defect of the page; the line has the traceback, and the service goes on.",
    )

    # ---- servers ----------------------------------------------------------------------------

    TENANT_FOUND = (
        "the tenant of the token is used",
        "The server has no default tenant; the tenant of our token stands for it: `tenant`.",
    )

    # ---- tasks ------------------------------------------------------------------------------

    BACKING_OFF = (
        "backing off",
        "A server or the store cannot be used, so the worker threads back off.",
    )
    RESCUED = (
        "rescued tasks of silent workers",
        "Leases expired; their tasks are in the queue again.",
    )
    LEASE_LOST = "lease lost", "A task is interrupted: its lease expired or was called back."
    PUT_DOWN = "put down", "A task is interrupted, because someone paused the service."
    COMPLETION_REFUSED = (
        "completion refused",
        "A task ended too late: another worker owns it; its chunk is compared again.",
    )
    TASK_FAILED = (
        "task failed unexpectedly",
        "A defect of the program; the line has the traceback, and the task is tried again.",
    )
    HANDED_BACK = (
        "handed back unfinished",
        "A task was still waiting for a server when the process ended.",
    )
    NOT_HANDED_BACK = (
        "not handed back; its lease runs out",
        "The store was not reachable when a task should be handed back.",
    )

    # ---- alerts -----------------------------------------------------------------------------

    ALERT_SENT = (
        "alert sent",
        "A receiver took a message; `kind` and `phase` say what about, `subjects` is a number.",
    )
    ALERT_NOT_TAKEN = (
        "an alert was not taken",
        "A receiver of alerts was away or refused a message; it is tried again.",
    )
    NO_LOOK_FOR_ALERTS = (
        "no look for alerts",
        "This process could not read the state store to see what must be told.",
    )
    ALERT_FAILED = (
        "alerts failed unexpectedly",
        "A defect of the program; the line has the traceback, and the service goes on.",
    )

    # ---- background threads -----------------------------------------------------------------

    NO_PROOF_OF_LIFE = "no proof of life", "This process could not record its heartbeat."
    NO_RESCUE = "no rescue of tasks", "This process could not look for expired leases."
    NOT_MEASURED = (
        "not measured; the next row covers this time, too",
        "The store was not reachable when this process should record what it did in a minute.",
    )
    NO_ADVICE = (
        "no advice",
        "The advice could not be made or recorded; it is tried again within minutes.",
    )
    RENEWAL_FAILED = (
        "a renewal failed",
        "The lead, or the leases of tasks in progress, could not be renewed; it tries again soon.",
    )
    TRYING_AGAIN = "trying again", "A failed request to a server or the store is repeated soon."
    RECOVERED = (
        "recovered",
        "An action succeeds again; `what` names it, `after` and `seconds` tell of its failures.",
    )

"""The kinds of alerts, and a condition: one thing that is wrong now.

The order of the kinds is the order in which they are told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class AlertKind(StrEnum):
    """What can be wrong; docs/operations.md says what to do about each kind."""

    UNDECIDED = "decision needed"
    HELD = "held"
    NO_WORKER = "no worker"
    COORDINATOR_LOST = "coordinator lost"
    LAG = "lag"
    CYCLE_FAILS = "cycle fails"
    COLLECTION_FAILS = "collection fails"
    UNANSWERING = "unanswering"
    WORKER_LOST = "worker lost"
    MEMORY = "memory"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class About:
    """What is said about a kind.

    Attributes:
        title: what is wrong, in words that suit one subject and many.
        over: that it ended, in the same way.
        noun: what its subjects are; empty if it is always about the whole deployment.
        advice: what to do if it is about several subjects; one subject has its own advice.
        after_seconds: how long it must last before it is told.
    """

    title: str
    over: str
    noun: str = ""
    advice: str = ""
    after_seconds: float = 0.0


ABOUT: Mapping[AlertKind, About] = {
    AlertKind.UNDECIDED: About(
        "Someone must decide which side is right",
        "No decision is needed any more",
        "collection",
        "Nothing is written there until someone decides; `chromasync status` names each way out.",
    ),
    AlertKind.HELD: About(
        "Deletes are held",
        "Deletes are no longer held",
        "collection",
        "Look at each one with `chromasync status`, and let it through with `chromasync approve`.",
    ),
    AlertKind.NO_WORKER: About(
        "No process is at work", "A process is at work again", after_seconds=60
    ),
    AlertKind.COORDINATOR_LOST: About(
        "The coordinator was lost", "The coordinator is no longer missing"
    ),
    AlertKind.LAG: About("The replica is out of date", "The replica is up to date again"),
    AlertKind.CYCLE_FAILS: About("Cycles fail", "Cycles are carried out again", after_seconds=120),
    AlertKind.COLLECTION_FAILS: About(
        "Collections are not finished",
        "Collections are finished again, or no longer mirrored",
        "collection",
        "`chromasync status` has the reason of each one.",
        after_seconds=120,
    ),
    AlertKind.UNANSWERING: About(
        "The replica does not answer queries",
        "The replica answers queries again",
        "collection",
        "Build the index of each one anew with `chromasync sync --rebuild NAME`.",
    ),
    AlertKind.WORKER_LOST: About(
        "A process was lost",
        "A lost process came back, or an hour has passed since then",
        "host",
        "Look at the end of its log, and at the memory limit of its container.",
    ),
    AlertKind.MEMORY: About(
        "A process is near its memory limit",
        "A process is no longer near its memory limit",
        "process",
        "Give it more memory, or set SYNC_WORKERS or SYNC_CHUNK_SIZE lower.",
        after_seconds=60,
    ),
    AlertKind.QUARANTINED: About(
        "Records are quarantined",
        "Records are no longer quarantined",
        "collection",
        "All other records are mirrored. `chromasync status` names each record and its reason.",
    ),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong now; all texts are harmless to receivers (see `words`).

    Attributes:
        subject: what it is about, the same as long as the condition lasts.
        name: the subject in words; empty for the whole deployment.
        figure: the count that matters, for a list of several.
        sentence: everything about it, and what to do next.
    """

    kind: AlertKind
    subject: str
    name: str
    figure: str
    sentence: str

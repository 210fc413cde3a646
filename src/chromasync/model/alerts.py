"""Alerts: what one receiver was told about one condition, as the state store remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition, as one receiver knows it; `alerts.state` has the states and their meaning.

    Attributes:
        receiver: the name of the receiver, see `alerts.receivers`; it holds no secret.
        kind: what is wrong, see `alerts.kinds`.
        subject: what it is about: a collection, a host; empty for the whole deployment.
        name: the subject in words.
        message: the sentence that was true when it began.
        since_at: time when it began.
        ended_at: time of the first look without it; None while it holds.
        told_at: time of the newest message that it holds; None before the first.
        told_count: the number of these messages.
        over_at: time of the message that it ended, or when it was dropped untold.
        back_at: time when it was there again, although its end is still to be told.
        return_count: how often it came back within a day after its end was told.
    """

    receiver: str
    kind: str
    subject: str
    name: str
    message: str
    since_at: datetime
    ended_at: datetime | None = None
    told_at: datetime | None = None
    told_count: int = 0
    over_at: datetime | None = None
    back_at: datetime | None = None
    return_count: int = 0

"""Messages in plain sentences: one alert with all about it, or many with counts and names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chromasync.alerts.kinds import ABOUT, Condition
from chromasync.alerts.state import Due, Key, Phase, key_of
from chromasync.alerts.words import counted
from chromasync.model import Alert
from chromasync.wording.words import duration, moment

NAMES_SHOWN = 5

_TOO_LATE = " It ended before this message could be sent."


@dataclass(frozen=True, slots=True)
class Message:
    """A message to a receiver: a title of a few words, and sentences."""

    title: str
    text: str


def compose(due: Due, conditions: Mapping[Key, Condition], place: str) -> Message:
    """The message about these alerts.

    Args:
        conditions: what holds now; alerts that it lacks are told in the words of their beginning.
        place: the deployment, because several may write to one receiver.
    """
    about = ABOUT[due.kind]
    title = about.over if due.phase is Phase.ENDED else about.title
    prefix = "Still: " if due.phase is Phase.LASTS else ""
    if len(due.alerts) == 1:
        text = _about_one(due, due.alerts[0], conditions)
    else:
        text = _about_many(due, conditions)
    return Message(f"{place}: {prefix}{title}", text)


def _about_one(due: Due, alert: Alert, conditions: Mapping[Key, Condition]) -> str:
    if due.phase is Phase.ENDED:
        what = f"{alert.name}: it" if alert.name else "It"
        return f"{what} lasted {_duration(due, alert)}."
    condition = conditions.get(key_of(alert))
    words = alert.message if condition is None else condition.sentence
    late = _TOO_LATE if alert.ended_at is not None else ""
    since = f" It has lasted since {moment(alert.since_at)}." if due.phase is Phase.LASTS else ""
    return f"{words}{since}{late}"


def _about_many(due: Due, conditions: Mapping[Key, Condition]) -> str:
    names = [_short(due, alert, conditions) for alert in due.alerts[:NAMES_SHOWN]]
    left = len(due.alerts) - len(names)
    listed = ", ".join(names) + (f" and {left:,} more" if left else "")
    about = ABOUT[due.kind]
    advice = "" if due.phase is Phase.ENDED else f" {about.advice}"
    return f"{counted(len(due.alerts), about.noun)}: {listed}.{advice}"


def _short(due: Due, alert: Alert, conditions: Mapping[Key, Condition]) -> str:
    if due.phase is Phase.ENDED:
        return f"{alert.name} (lasted {_duration(due, alert)})"
    condition = conditions.get(key_of(alert))
    if condition is None:
        return f"{alert.name} (ended meanwhile)"
    return f"{condition.name} ({condition.figure})" if condition.figure else condition.name


def _duration(due: Due, alert: Alert) -> str:
    return duration(((alert.ended_at or due.at) - alert.since_at).total_seconds())

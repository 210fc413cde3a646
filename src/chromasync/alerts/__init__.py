"""Alerts: what is wrong, told once, repeated daily, and told when it has ended.

`rules` finds what is wrong in a status snapshot, `state` decides what each receiver must be told,
`watcher` looks and remembers, `delivery` sends to one `receiver`. `kinds` lists what can be told.
"""

from chromasync.alerts.kinds import AlertKind, Condition
from chromasync.alerts.receivers import Receiver, receivers_of
from chromasync.alerts.rules import find_conditions
from chromasync.alerts.trial import check_receivers, place_of
from chromasync.alerts.watcher import AlertWatcher, Rhythm

__all__ = [
    "AlertKind",
    "AlertWatcher",
    "Condition",
    "Receiver",
    "Rhythm",
    "check_receivers",
    "find_conditions",
    "place_of",
    "receivers_of",
]

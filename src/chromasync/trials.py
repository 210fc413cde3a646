"""Trials: whose a collection is that a self-test made, by its name; pure.

A *trial* is one self-test from its start to its end. Its name begins the names of its collections,
and while it lives it stands in the state store (`ports.Control.live_trials`). To a cycle, the
collections of a living trial are like any others. Those of a trial that is over, which was killed
then, are none of its business: on either side they are left alone, neither mirrored nor held,
dropped or counted, until the next self-test removes them.
"""

from __future__ import annotations

import re
import secrets

PREFIX = "chromasync-selftest-"
_TRIAL = re.compile(re.escape(PREFIX) + r"[0-9a-f]{8}-")


def new_trial() -> str:
    """A name that no other trial has."""
    return f"{PREFIX}{secrets.token_hex(4)}-"


def trial_of(name: str) -> str:
    """The trial that made a collection of this name; empty for collections of all others."""
    found = _TRIAL.match(name)
    return "" if found is None else found[0]

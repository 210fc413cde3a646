"""Trials: the owners of collections that self-tests create, by name; pure.

A *trial* is one self-test from its start to its end. The names of its collections begin with the
trial's name. While the trial is alive, its name is in the state store
(`ports.Control.live_trials`). A cycle treats collections of a living trial like any others. It
ignores the collections of a dead trial, whose self-test was killed: on both sides they are neither
mirrored nor held, dropped or counted, until the next self-test removes them.
"""

from __future__ import annotations

import re
import secrets

PREFIX = "chromasync-selftest-"
_TRIAL = re.compile(re.escape(PREFIX) + r"[0-9a-f]{8}-")


def new_trial() -> str:
    """A new, unique name of a trial."""
    return f"{PREFIX}{secrets.token_hex(4)}-"


def trial_of(name: str) -> str:
    """The trial that created a collection of this name; empty for other collections."""
    found = _TRIAL.match(name)
    return "" if found is None else found[0]

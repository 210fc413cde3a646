"""Self-tests in the store: which live, and which are over and not forgotten yet."""

from __future__ import annotations

import os
import socket

import psutil
import pytest
from sqlalchemy import update

from chromasync.store import SqlStore
from chromasync.store.schema import Later, leases
from chromasync.trials import new_trial
from tests.store.conftest import Opener
from tests.store.samples import arrange

ONE, OTHER = new_trial(), new_trial()


def test_a_trial_lives_as_long_as_it_is_kept(opener: Opener) -> None:
    """Every process on the store sees it; with nothing left to live it is over, not forgotten."""
    ours, theirs = opener(), opener()
    assert theirs.live_trials() == theirs.known_trials() == set()
    for seconds, live in ((60, {ONE, OTHER}), (0.0, {OTHER}), (60, {ONE, OTHER})):
        ours.keep_trial(ONE, "me", seconds)
        ours.keep_trial(OTHER, "you", 60)
        assert theirs.live_trials() == live
        assert theirs.known_trials() == {ONE, OTHER}
    ours.forget_trial(ONE)
    assert (theirs.live_trials(), theirs.known_trials()) == ({OTHER}, {OTHER})


@pytest.mark.parametrize("ends_in", [-1, 3600])
def test_a_trial_that_nobody_keeps_is_over(store: SqlStore, ends_in: float) -> None:
    """Also when its end lies further ahead than it was given: a clock stepped back."""
    store.keep_trial(ONE, "me", 60)
    arrange(store, update(leases).values(expires_at=Later(ends_in)))
    assert (store.live_trials(), store.known_trials()) == (set(), {ONE})


def test_trials_and_the_lead_leave_each_other_alone(store: SqlStore) -> None:
    """The leader is no trial, and a trial leads nothing."""
    store.keep_trial(ONE, "me", 60)
    term = store.take_lead("you", 60)
    assert term is not None
    assert store.live_trials() == {ONE}
    store.forget_trial(ONE)
    assert store.take_lead("you", 60) == term
    assert store.take_lead("me", 60) is None


def test_a_trial_whose_process_ended_is_over_at_once_on_a_file(file_store: SqlStore) -> None:
    """Its processes can only be of this host, and that one knows."""
    created = psutil.Process().create_time()
    for age, live in ((0, {ONE}), (100, set())):
        holder = f"{socket.gethostname()}:{os.getpid()}:{created - age}:abcd"
        file_store.keep_trial(ONE, holder, 3600)
        assert file_store.live_trials() == live

"""Whose a record on the replica is, for every kind of knowledge and every kind of find."""

from __future__ import annotations

import pytest

from chromasync.model import UNKNOWN_DIGEST
from chromasync.reconcile.origin import Found, Held, Known, Nothing, found, is_ours
from tests.support.ledgers import record

NEVER = UNKNOWN_DIGEST
OURS = found(record("a", "as we know it"))
DRIFTED = Found(b"e" * 16, OURS.payload, b"d" * 16)
"""The same as a cosine collection gives it back."""
OTHER = found(record("a", "someone else's"))

UNWRITTEN = Known(NEVER, NEVER, NEVER)
WRITTEN = Known(OURS.embedding, OURS.payload, NEVER)
SEEN = Known(OURS.embedding, OURS.payload, DRIFTED.replica)
ABSENT = Known(OURS.embedding, OURS.payload, NEVER, absent=True)
UNREADABLE_BEFORE = Known(NEVER, OURS.payload, DRIFTED.replica)
"""The primary could not give it once, so that its embedding is not known."""


@pytest.mark.parametrize(
    ("known", "held", "ours"),
    [
        (UNWRITTEN, Nothing.MISSING, True),
        (UNWRITTEN, OTHER, False),
        (UNWRITTEN, Nothing.UNREADABLE, False),
        (WRITTEN, OURS, True),
        (WRITTEN, DRIFTED, False),
        (WRITTEN, OTHER, False),
        (WRITTEN, Nothing.MISSING, False),
        (WRITTEN, Nothing.UNREADABLE, False),
        (SEEN, DRIFTED, True),
        (SEEN, OURS, True),
        (SEEN, OTHER, False),
        (SEEN, Nothing.MISSING, False),
        (ABSENT, Nothing.MISSING, True),
        (ABSENT, OTHER, False),
        (UNREADABLE_BEFORE, DRIFTED, True),
        (UNREADABLE_BEFORE, OURS, False),
        (UNREADABLE_BEFORE, Nothing.MISSING, False),
    ],
)
def test_a_record_that_differs_is_ours_if_we_can_tell(known: Known, held: Held, ours: bool) -> None:
    """Only content that came from the primary, or nothing where nothing was, may be overwritten."""
    assert is_ours(known, held, on_primary=True) is ours


@pytest.mark.parametrize("known", [UNWRITTEN, WRITTEN, SEEN, ABSENT])
@pytest.mark.parametrize("held", [OURS, OTHER, *Nothing])
def test_all_that_was_in_our_hands_is_ours(known: Known, held: Held) -> None:
    """Where a worker of ours was cut off, the replica may hold what no ledger knows."""
    in_hand = Known(known.embedding, known.payload, known.replica, known.absent, in_hand=True)
    assert is_ours(in_hand, held, on_primary=True)


@pytest.mark.parametrize("known", [UNWRITTEN, WRITTEN, SEEN, ABSENT])
def test_what_neither_side_has_is_nobody_s(known: Known) -> None:
    """A record that is gone from both sides was not lost on one of them."""
    assert is_ours(known, Nothing.MISSING, on_primary=False)
    assert not is_ours(known, OTHER, on_primary=False)

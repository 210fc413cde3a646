"""What the replica's mark says, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chromasync.errors import GuardRefusal
from chromasync.model import Deployment, MarkRow
from chromasync.plan.mark import (
    ALIVE_INTERVALS,
    UNREADABLE,
    Mark,
    MarkState,
    MarkVerdict,
    is_still,
    judge_mark,
    judge_meeting,
    parse_mark,
    refresh_seconds,
    refuse_marked_primary,
)

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
INTERVAL = 100.0
PATIENCE = timedelta(seconds=ALIVE_INTERVALS * INTERVAL)
SECOND = timedelta(seconds=1)
PLACE = "t/d"
ME = Deployment("me")
OURS = Mark("me", 7, "n7", "host:1:2.0:x", "here", NOW, INTERVAL, final=True)
THEIRS = replace(OURS, store_id="them", nonce="theirs")
NOTHING = MarkRow(PLACE)
LEFT = MarkRow(PLACE, 7, "n7", written=True)
PREPARED = MarkRow(PLACE, 8, "n8", written=False, former_nonce="n7")
FIRST = MarkRow(PLACE, 1, "n1", written=False)


def judged(
    found: Mark | None, row: MarkRow, *, ended: bool | None = None, now: datetime = NOW
) -> MarkVerdict:
    return judge_mark(found, row, ME, now, lambda _: ended)


@pytest.mark.parametrize(
    ("found", "row"),
    [
        (None, NOTHING),
        (OURS, LEFT),
        (None, FIRST),
        (replace(OURS, nonce="n1"), FIRST),
        (OURS, PREPARED),
        (replace(OURS, nonce="n8", cycle_id=8), PREPARED),
    ],
)
def test_what_was_left_is_known(found: Mark | None, row: MarkRow) -> None:
    """The last mark is known, and so is a prepared one that nobody could say was written."""
    verdict = judged(found, row)
    assert (verdict.state, verdict.why, verdict.row) == (MarkState.KNOWN, "", row)


@pytest.mark.parametrize(
    ("found", "row", "words"),
    [
        (None, LEFT, "emptied or restored"),
        (None, PREPARED, "emptied or restored"),
        (replace(OURS, nonce="n6", cycle_id=6), LEFT, "an older copy, or it is another server"),
        (OURS, replace(PREPARED, written=True), "an older copy, or it is another server"),
        (replace(OURS, nonce="mid"), LEFT, "in the middle of that cycle"),
        (replace(OURS, nonce="n9", cycle_id=9), LEFT, "the state store was restored"),
        (OURS, NOTHING, "the state store was restored"),
        (OURS, FIRST, "the state store was restored"),
        (replace(THEIRS, released=True), LEFT, "no longer active"),
        (UNREADABLE, LEFT, "cannot be read"),
    ],
)
def test_anything_else_makes_the_place_doubtful(
    found: Mark | None, row: MarkRow, words: str
) -> None:
    """Each case says in words what may have happened."""
    verdict = judged(found, row)
    assert verdict.state is MarkState.DOUBT
    assert words in verdict.why
    assert verdict.error is None


@pytest.mark.parametrize(
    ("ended", "released", "alive"),
    [(False, False, True), (True, False, False), (False, True, False), (None, False, True)],
)
def test_another_store_is_refused_while_its_process_is_there(
    ended: bool | None, released: bool, alive: bool
) -> None:
    """On this machine its process is looked for; elsewhere a fresh mark is taken for life."""
    verdict = judged(replace(THEIRS, released=released), LEFT, ended=ended)
    assert (verdict.state is MarkState.REFUSED) == alive
    assert (verdict.error is not None) == alive
    if verdict.error is not None:
        assert verdict.error.exit_code == 5
        for words in ("process 1 on host host", "2026-11-29 12:00:00 UTC", "SYNC_MARK=off"):
            assert words in str(verdict.error)


def meeting(
    found: Mark | None, row: MarkRow, *others: Mark, ended: bool | None = None, now: datetime = NOW
) -> MarkVerdict:
    """The verdict on a place where SYNC_TARGET led other stores, too."""
    own = judged(found, row, now=now)
    return judge_meeting(own, others, row, ME, now=now, ended=lambda _: ended)


def test_an_active_store_at_the_same_place_is_refused() -> None:
    """Whichever mark is newer; this store's own marks of other databases there are no reason."""
    older = replace(THEIRS, written_at=NOW - SECOND)
    for found, row in ((None, NOTHING), (OURS, LEFT)):
        verdict = meeting(found, row, replace(OURS, nonce="other"), older, ended=False)
        assert (verdict.state, verdict.found) == (MarkState.REFUSED, found)
        assert meeting(found, row, replace(OURS, nonce="other")) == judged(found, row)


@pytest.mark.parametrize("written_at", [NOW + SECOND, NOW + timedelta(days=300)])
def test_a_store_that_left_the_same_place_is_doubted_until_the_place_is_marked(
    written_at: datetime,
) -> None:
    """Its mark stays there for good, and its clock may be wrong."""
    gone = replace(THEIRS, written_at=written_at)
    later = NOW + timedelta(hours=1)
    first = meeting(OURS, LEFT, gone, ended=True, now=later)
    assert (first.state, first.found) == (MarkState.DOUBT, OURS)
    assert "no longer active" in first.why
    marked = replace(OURS, nonce="n8", cycle_id=8, written_at=later + SECOND)
    row = replace(first.row, cycle_id=8, nonce="n8", written=True)
    second = meeting(marked, row, gone, ended=None, now=later + 2 * PATIENCE)
    assert (second.state, second.row) == (MarkState.KNOWN, row)
    assert meeting(None, NOTHING, gone, ended=True).state is MarkState.DOUBT


@pytest.mark.parametrize(
    ("written", "met", "alive"),
    [
        (-PATIENCE, None, True),
        (-PATIENCE - SECOND, None, False),
        (timedelta(days=300), -PATIENCE, True),
        (timedelta(days=300), -PATIENCE - SECOND, False),
        (-SECOND, timedelta(days=1), True),
    ],
)
def test_a_store_elsewhere_is_gone_when_its_mark_stays_as_it_is(
    written: timedelta, met: timedelta | None, alive: bool
) -> None:
    """Our own watching counts as much as its instant, and an instant to come proves nothing."""
    found = replace(THEIRS, written_at=NOW + written)
    row = LEFT
    if met is not None:
        row = replace(LEFT, met_nonce=found.fingerprint, met_at=NOW + met)
    assert (judged(found, row).state is MarkState.REFUSED) == alive


def test_a_mark_that_changes_is_met_anew() -> None:
    """A store that writes its mark again lives on, however long it has been met."""
    old = replace(THEIRS, written_at=NOW + PATIENCE)
    row = replace(LEFT, met_nonce=old.fingerprint, met_at=NOW - 2 * PATIENCE)
    assert judged(old, row).state is MarkState.DOUBT
    verdict = judged(replace(old, written_at=old.written_at + SECOND), row)
    assert verdict.state is MarkState.REFUSED
    assert verdict.row.met_at == NOW
    assert verdict.row.nonce == LEFT.nonce


def test_short_intervals_are_given_more_time() -> None:
    """A cycle takes longer than a tenth of a second, whatever the interval says."""
    found = replace(THEIRS, interval_seconds=0.1, written_at=NOW - 10 * SECOND)
    assert judged(found, LEFT).state is MarkState.REFUSED
    assert refresh_seconds(INTERVAL) == INTERVAL


def test_a_writer_goes_on_only_where_nobody_else_wrote() -> None:
    """What the cycle looked at, or its own mark written by a sibling, and nothing else."""
    assert is_still(OURS, PREPARED)
    assert is_still(replace(OURS, nonce="n8"), PREPARED)
    assert is_still(None, FIRST)
    assert not is_still(None, PREPARED)
    assert not is_still(THEIRS, PREPARED)
    assert not is_still(OURS, replace(PREPARED, written=True)), "it was restored meanwhile"


def test_a_mark_outlives_its_document() -> None:
    """It is read as it was written; anything else is an unreadable one."""
    assert parse_mark(OURS.document()) == OURS
    for document in (None, "", "{}", "[1]", "null", '{"store": 1}', OURS.document()[:-2]):
        assert parse_mark(document) is UNREADABLE


@pytest.mark.parametrize(("mark", "words"), [(OURS, "swapped"), (THEIRS, "is a replica")])
def test_a_primary_with_a_mark_is_refused(mark: Mark, words: str) -> None:
    """Whoever left it there; the words say what to do if it is meant."""
    refuse_marked_primary({}, ME, "http://p")
    with pytest.raises(GuardRefusal, match=words) as refused:
        refuse_marked_primary({PLACE: mark}, ME, "http://p")
    assert "SYNC_MARK=off" in refused.value.hint
    assert "chromasync-marks" in refused.value.hint

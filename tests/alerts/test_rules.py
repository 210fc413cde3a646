"""The rules: what a snapshot shows, in plain sentences that no name can misuse."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chromasync.alerts import AlertKind, Condition, find_conditions
from chromasync.alerts.kinds import ABOUT
from chromasync.alerts.words import coded, counted, quoted
from chromasync.model import (
    DECISIONS,
    ControlRow,
    Cycle,
    CycleStatus,
    HoldKind,
    MirrorStatus,
    Quarantined,
    WorkerStatus,
)
from tests.alerts.world import DAY, HOUR, NOON, beat, collection, hold, snapshot

MINUTE = timedelta(minutes=1)
FAILED = Cycle(8, NOON - MINUTE, CycleStatus.FAILED, NOON, error="The replica takes no write.")


def found(**changes: Any) -> list[Condition]:
    return find_conditions(snapshot(**changes))


def one(kind: AlertKind, **changes: Any) -> Condition:
    """The one condition of this kind."""
    (condition,) = [c for c in found(**changes) if c.kind is kind]
    assert condition.sentence.endswith(".")
    return condition


def kinds(**changes: Any) -> list[AlertKind]:
    return [condition.kind for condition in found(**changes)]


def test_nothing_is_wrong_with_a_healthy_deployment() -> None:
    """Nor with one that has not begun."""
    assert found() == []
    assert found(clean_at=None, cycles=(), workers=()) == []


def test_every_kind_of_hold_is_told() -> None:
    """Those that need a decision under their own kind."""
    for kind in HoldKind:
        (condition,) = found(holds=(hold(kind=kind),))
        expected = AlertKind.UNDECIDED if kind in DECISIONS else AlertKind.HELD
        assert condition.kind is expected
        assert "chromasync approve docs@3f9a1b2c`" in condition.sentence
        assert condition.figure == "350 records"


def test_holds_that_need_no_person_are_not_told() -> None:
    """One that a second cycle confirms, one that was approved, one of a self-test."""
    trial = "chromasync-selftest-0123abcd-x"
    waiting = (hold(unconfirmed=True), hold("b", approved_digest="3f9a1b2c4d5e"), hold(trial))
    assert found(holds=waiting) == []


def test_the_command_names_the_collection_without_doubt() -> None:
    """By its full name if two have the same, and by its id if a shell may misread its name."""
    twins = (hold(), replace(hold(), database="other", collection_id="id-2"))
    texts = [condition.sentence for condition in found(holds=twins)]
    assert "approve default_tenant/default_database/docs@3f9a1b2c`" in texts[0]
    assert "approve default_tenant/other/docs@3f9a1b2c`" in texts[1]
    (odd,) = found(holds=(hold("$(rm -rf ~)", collection_id="0-1-2"),))
    assert "approve 0-1-2@3f9a1b2c`" in odd.sentence


def test_lag_is_told_with_its_reason() -> None:
    """Beyond SYNC_ALERT_LAG, with what is in the way of the next cycle."""
    late = {"clean_at": NOON - HOUR}
    running = Cycle(9, NOON - 30 * MINUTE)
    assert found(clean_at=NOON - 15 * MINUTE) == []
    assert "No cycle is running" in one(AlertKind.LAG, **late).sentence
    text = one(AlertKind.LAG, **late, cycles=(running,)).sentence
    assert "began 1 h ago" in text
    assert "SYNC_ALERT_LAG is 15 min" in text
    assert "Cycle 9 has been running for 30 min" in text
    assert "takes no write" in one(AlertKind.LAG, **late, cycles=(FAILED,)).sentence


def test_a_pause_does_not_silence_the_lag() -> None:
    """The alert comes all the same, and names who paused and how to go on."""
    paused = ControlRow(
        paused_at=NOON - HOUR,
        paused_by="ann@desk",
        pause_reason="disk swap",
        paused_until=NOON + DAY,
    )
    text = one(AlertKind.LAG, clean_at=NOON - HOUR, control=paused).sentence
    assert "paused by `ann@\u200bdesk` since 2030-01-02 11:00:00 UTC" in text
    assert "until 2030-01-03 12:00:00 UTC (disk swap); `chromasync resume`" in text
    over = replace(paused, paused_until=NOON - MINUTE)
    assert "paused" not in one(AlertKind.LAG, clean_at=NOON - HOUR, control=over).sentence


def test_a_jump_of_the_clock_is_no_negative_lag() -> None:
    """It is told as what it is."""
    assert "a clock has jumped" in one(AlertKind.LAG, clean_at=NOON + HOUR).sentence


def test_cycles_that_fail_are_counted() -> None:
    """With the reason of the newest one; a collection's own error is no failure of the cycle."""
    cycles = (Cycle(9, NOON), FAILED, replace(FAILED, id=7))
    text = one(AlertKind.CYCLE_FAILS, cycles=cycles).sentence
    assert "The last 2 cycles failed" in text
    assert "The replica takes no write" in text
    assert kinds(cycles=(replace(FAILED, error=None),)) == []
    assert kinds(cycles=(Cycle(9, NOON, CycleStatus.COMPLETED, NOON), FAILED)) == []


def test_a_collection_in_error_is_told_when_it_is_out_of_date() -> None:
    """One failure is mended by the next cycle, and tells nobody."""
    wrong = collection(status=MirrorStatus.ERROR, message="Its definition is refused.")
    assert found(collections=(wrong,)) == []
    late = replace(wrong, identical_as_of=NOON - HOUR)
    assert (
        "definition is refused. It is 1 h old"
        in one(AlertKind.COLLECTION_FAILS, collections=(late,)).sentence
    )
    never = replace(wrong, identical_as_of=None)
    assert kinds(collections=(never,)) == [AlertKind.COLLECTION_FAILS]


def test_an_index_that_does_not_answer() -> None:
    """The command that builds it anew stands in the message."""
    dead = collection(status=MirrorStatus.UNANSWERING)
    text = one(AlertKind.UNANSWERING, collections=(dead,)).sentence
    assert "600 records" in text
    assert "--rebuild docs" in text


def test_quarantined_records_are_counted_with_an_example() -> None:
    """One condition for each collection."""
    aside = [
        Quarantined("id-docs", f"r{n}", "The replica refuses it.", absent=True) for n in (1, 2)
    ]
    with_two = collection(quarantined=2)
    condition = one(AlertKind.QUARANTINED, collections=(with_two,), quarantined=tuple(aside))
    assert condition.figure == "2 records"
    assert "`r1`: The replica refuses it." in condition.sentence


def test_no_process_at_work() -> None:
    """Dead and stopped ones do not count, nor does a coordinator that only plans."""
    dead, stopped = beat(status=WorkerStatus.DEAD), beat(status=WorkerStatus.STOPPED)
    gone = {"workers": (dead, stopped)}
    assert "start `chromasync run`" in one(AlertKind.NO_WORKER, **gone).sentence
    planner = beat(role="coordinator")
    assert kinds(workers=(planner,)) == []
    idle = one(AlertKind.NO_WORKER, workers=(replace(planner, threads=0),))
    assert "does no tasks itself" in idle.sentence
    older = replace(planner, role="", threads=0)  # a version that does not say
    assert kinds(workers=(older,)) == []


def test_the_coordinator_is_lost_when_none_plans() -> None:
    """Not if it ended in order, and not if another one took over."""
    lost = beat("a", role="coordinator", status=WorkerStatus.DEAD)
    worker = beat("b")
    text = one(AlertKind.COORDINATOR_LOST, workers=(lost, worker)).sentence
    assert "`a:42` planned the cycles" in text
    assert "1 process left" in text
    standby = beat("c", role="coordinator")
    later = replace(standby, status=WorkerStatus.STOPPED, last_heartbeat_at=NOON + MINUTE)
    for other in (standby, later):
        assert AlertKind.COORDINATOR_LOST not in kinds(workers=(lost, worker, other))


def test_lost_processes_are_told_for_an_hour_by_host() -> None:
    """A process that dies again and again is one condition."""
    lost = beat("a", status=WorkerStatus.DEAD, last_heartbeat_at=NOON - MINUTE)
    again = replace(lost, pid=43, worker_id="other", last_heartbeat_at=NOON - 2 * MINUTE)
    condition = one(AlertKind.WORKER_LOST, workers=(lost, again, beat("b")))
    assert condition.subject == "a"
    assert "2 processes were lost there within an hour" in condition.sentence
    assert "1 process active" in condition.sentence
    old = replace(lost, last_heartbeat_at=NOON - 2 * HOUR)
    assert kinds(workers=(old, beat("b"))) == []


def test_memory_is_told_from_85_percent_on() -> None:
    """Of a limit that is known."""
    assert kinds(workers=(beat(memory_mb=424.0, memory_limit_mb=500.0),)) == []
    condition = one(AlertKind.MEMORY, workers=(beat(memory_mb=425.0, memory_limit_mb=500.0),))
    assert "`host:42` uses 425 of 500 MB (85%)" in condition.sentence
    assert kinds(workers=(beat(memory_mb=9e9, memory_limit_mb=None),)) == []


# ---- hostile names ---------------------------------------------------------------------------

HOSTILE = [
    "@channel",
    "<!channel>",
    "<@U123>",
    "`@here`",
    "a` @everyone `b",
    "<http://evil.example|click>",
    "https://evil.example/x",
    "www.evil.example",
    "line\nbreak\r\x1b[31m\u202e\u2028",
    "\ud800 broken",
    "x" * 5000,
    "&amp;<script>",
    "",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_is_code_that_nothing_in_it_can_end(name: str) -> None:
    """No mention, no link, no second line, no endless text; and it can be encoded."""
    text = coded(name)
    inside = text[1:-1]
    assert text[0] == text[-1] == "`"
    assert inside
    assert "`" not in inside
    assert inside.isprintable() or "\u200b" in inside
    assert not any(c in inside for c in "\n\r\x1b\u202e\u2028")
    assert len(text) < 200
    assert "@channel" not in text
    assert "@everyone" not in text
    assert "https://" not in text
    text.encode()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_reach_no_sentence_unchanged(name: str) -> None:
    """Whatever a collection, a record, a host, a person or a server calls itself."""
    everything = found(
        holds=(
            hold(name, tenant=name, database=name, reason=name),
            hold(name, HoldKind.DIVERGED, collection_id=name, tenant="", reason=name),
        ),
        collections=(
            collection(name, status=MirrorStatus.ERROR, message=name, identical_as_of=None),
            collection(name, status=MirrorStatus.UNANSWERING, collection_id="i", quarantined=1),
        ),
        quarantined=(Quarantined("i", name, name, absent=True),),
        cycles=(replace(FAILED, error=name or "x"),),
        clean_at=NOON - HOUR,
        control=ControlRow(paused_at=NOON, paused_by=name, pause_reason=name),
        workers=(
            beat(name, status=WorkerStatus.DEAD, role="coordinator", last_heartbeat_at=NOON),
            beat(name, threads=0, role="worker", memory_mb=90.0, memory_limit_mb=100.0),
        ),
    )
    assert {condition.kind for condition in everything} == set(AlertKind)
    for condition in everything:
        for text in (condition.name, condition.figure, condition.sentence):
            assert "@channel" not in text
            assert "@here" not in text
            assert "@everyone" not in text
            assert "://" not in text.replace(":\u200b//", "")
            assert text.count("`") % 2 == 0
            assert "\n" not in text
            assert len(text) < 3000
            text.encode()


def test_words_are_counted_and_cut() -> None:
    """The helpers of all sentences."""
    assert quoted("  It is full.  ") == "It is full"
    assert [counted(n, "process") for n in (0, 1, 2000)] == [
        "0 processes",
        "1 process",
        "2,000 processes",
    ]


def test_everything_is_said_about_every_kind() -> None:
    """A kind with several subjects has a noun and an advice."""
    assert list(ABOUT) == list(AlertKind)
    assert len({about.title for about in ABOUT.values()}) == len(AlertKind)
    assert len({about.over for about in ABOUT.values()}) == len(AlertKind)
    for about in ABOUT.values():
        assert bool(about.noun) == bool(about.advice)

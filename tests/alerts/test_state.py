"""What a receiver is told: once, daily, at the end; grouped, and never in a storm."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from chromasync.alerts import AlertWatcher
from chromasync.alerts.kinds import AlertKind
from chromasync.alerts.messages import Message
from chromasync.alerts.state import Phase
from chromasync.errors import StoreUnavailable
from chromasync.events import Event
from chromasync.model import Alert, HoldKind
from tests.alerts.world import NOON, Listener, World, beat, hold, look

BEGINS, ENDED, LASTS = Phase.BEGINS, Phase.ENDED, Phase.LASTS


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ear(world: World) -> Listener:
    return Listener(world)


@pytest.fixture
def watcher(world: World, ear: Listener) -> AlertWatcher:
    return world.watcher(ear)


def look_for(world: World, watcher: AlertWatcher, seconds: float, *, every: float = 60.0) -> None:
    """Look again and again."""
    for _ in range(round(seconds / every)):
        world.pass_time(every)
        look(watcher)


def test_a_hold_is_told_once_and_its_end_once(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """The end comes when it stayed away for ten minutes."""
    world.changes["holds"] = (hold(),)
    look(watcher)
    look_for(world, watcher, 7200)
    assert ear.phases() == ["begins"]
    world.changes.clear()
    look_for(world, watcher, 600)
    assert ear.phases() == ["begins"]
    look_for(world, watcher, 7200)
    assert ear.phases() == ["begins", "ended"]
    begins, ended = ear.told
    assert begins.message.title == "chromasync: Deletes are held"
    assert begins.message.text.startswith("`docs`: deleting 350 records that the primary no longer")
    assert ended.message.title == "chromasync: Deletes are no longer held"
    assert ended.message.text == "`docs`: it lasted 2 h 1 min."


def test_what_lasts_is_told_again_every_day(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """With what is true on that day."""
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 2 * 86_400, every=600)
    world.changes["holds"] = (hold(count=7),)
    look_for(world, watcher, 86_400, every=600)
    assert ear.phases() == ["begins", "lasts", "lasts"]
    last = ear.told[-1]
    assert last.message.title == "chromasync: Still: Deletes are held"
    assert "deleting 7 records" in last.message.text
    assert last.message.text.endswith("It has lasted since 2030-01-02 12:10:00 UTC.")


def test_what_flaps_within_the_quiet_time_is_one_alert(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """It is told once."""
    for _ in range(50):
        world.changes["holds"] = (hold(),)
        look_for(world, watcher, 60)
        world.changes.clear()
        look_for(world, watcher, 540)
    assert ear.phases() == ["begins"]


def test_what_flaps_more_slowly_is_told_less_and_less(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """The time until its end is told doubles each time when it came back."""
    for _ in range(3 * 24 * 3):
        world.changes["holds"] = (hold(),)
        look_for(world, watcher, 60)
        world.changes.clear()
        look_for(world, watcher, 1140)
    assert ear.phases() == ["begins", "ended", "begins", "lasts", "lasts"]


def test_a_return_after_a_quiet_day_is_new_again(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """What came back once is not held against it for ever."""
    for _ in range(3):
        world.changes["holds"] = (hold(),)
        look(watcher)
        world.changes.clear()
        look_for(world, watcher, 2 * 86_400, every=900)
    assert ear.phases() == ["begins", "ended"] * 3
    assert not [row for row in world.rows.values() if row.return_count]


def test_some_kinds_must_last_before_they_are_told(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """A process near its limit for a moment is no alert."""
    full = beat(memory_mb=95.0, memory_limit_mb=100.0)
    world.changes["workers"] = (full,)
    look_for(world, watcher, 45, every=15)
    world.changes.clear()
    look_for(world, watcher, 1200, every=15)
    assert ear.told == []
    world.changes["workers"] = (full,)
    look_for(world, watcher, 120, every=15)
    assert [(told.kind, told.phase) for told in ear.told] == [(AlertKind.MEMORY, BEGINS)]


def test_many_collections_make_one_message(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """With their number, the first names and their counts."""
    world.changes["holds"] = tuple(hold(f"c{n:04}") for n in range(1500))
    look(watcher)
    (told,) = ear.told
    assert told.message.text == (
        "1,500 collections: `c0000` (350 records), `c0001` (350 records), `c0002` (350 records), "
        "`c0003` (350 records), `c0004` (350 records) and 1,495 more. Look at each one with "
        "`chromasync status`, and let it through with `chromasync approve`."
    )
    look_for(world, watcher, 86_400, every=21_600)
    world.changes.clear()
    look_for(world, watcher, 3600, every=600)
    assert ear.phases() == ["begins", "lasts", "ended"]
    assert "1,500 collections: `c0000` (lasted 1 d" in ear.told[2].message.text


def test_collections_that_join_one_by_one_make_few_messages(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """The first is told at once; the pause before the next message grows up to an hour."""
    for count in range(1, 81):
        world.changes["holds"] = tuple(hold(f"c{n:04}") for n in range(count))
        look_for(world, watcher, 300, every=300)
    look_for(world, watcher, 7200, every=300)
    assert ear.told[0].names[0] == "c0000"
    minutes = [(told.at - NOON) / timedelta(minutes=1) for told in ear.told]
    assert minutes == [5, 10, 20, 40, 80, 140, 200, 260, 320, 380, 440]
    assert {row.told_count for row in world.rows.values()} == {1}
    world.changes.clear()
    look_for(world, watcher, 43_200, every=600)
    assert all(row.over_at for row in world.rows.values())


def test_repeats_of_one_kind_come_together(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """Alerts that were told within an hour share their daily repeat."""
    world.changes["holds"] = (hold("a"),)
    look(watcher)
    look_for(world, watcher, 1800)
    world.changes["holds"] = (hold("a"), hold("b"))
    look_for(world, watcher, 3 * 86_400 - 1800, every=600)
    assert [(t.phase, t.names) for t in ear.told] == [
        (BEGINS, ("a",)),
        (BEGINS, ("b",)),
        *[(LASTS, ("a", "b"))] * 3,
    ]


def test_what_was_told_later_is_not_repeated_early(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """Alerts that were told hours apart are repeated apart."""
    world.changes["holds"] = (hold("a"),)
    look(watcher)
    look_for(world, watcher, 5 * 3600, every=600)
    world.changes["holds"] = (hold("a"), hold("b"))
    look_for(world, watcher, 86_400, every=600)
    assert [(t.phase, t.names) for t in ear.told[2:]] == [(LASTS, ("a",))]


def test_urgent_kinds_come_first(world: World, watcher: AlertWatcher, ear: Listener) -> None:
    """One message at a time, in the order of the kinds; none is forgotten."""
    world.changes["holds"] = (hold("a"), hold("b", HoldKind.DIVERGED))
    for _ in range(3):
        look(watcher)
    assert [told.kind for told in ear.told] == [AlertKind.UNDECIDED, AlertKind.HELD]


# ---- receivers that are away -------------------------------------------------------------------


def test_a_receiver_that_was_away_learns_what_it_missed(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """Also of what has ended meanwhile, because it was due."""
    ear.is_away = True
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 1800)
    world.changes.clear()
    look_for(world, watcher, 7200)
    ear.is_away = False
    look_for(world, watcher, 180)
    assert ear.phases() == ["begins", "ended"]
    assert ear.told[0].message.text.endswith("It ended before this message could be sent.")
    assert ear.told[1].message.text == "`docs`: it lasted 30 min."


def test_receivers_do_not_wait_for_each_other(world: World) -> None:
    """Each has its own alerts; one that is away repeats nothing to the other."""
    good, bad = Listener(world), Listener(world, "url 1", is_away=True)
    watcher = world.watcher(good, bad)
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 3600)
    assert (good.phases(), bad.phases()) == (["begins"], [])
    bad.is_away = False
    look_for(world, watcher, 3600)
    assert (good.phases(), bad.phases()) == (["begins"], ["begins"])


def test_a_new_receiver_is_told_what_holds_and_a_removed_one_is_forgotten(world: World) -> None:
    """Nobody is told the end of what only a removed receiver knew."""
    first, second = Listener(world), Listener(world, "url 1")
    world.changes["holds"] = (hold(),)
    watcher = world.watcher(first)
    look_for(world, watcher, 120)
    watcher = world.watcher(first, second)
    look_for(world, watcher, 120)
    assert (first.phases(), second.phases()) == (["begins"], ["begins"])
    look_for(world, world.watcher(first), 2 * 86_400, every=900)
    assert {row.receiver for row in world.rows.values()} == {"webhook"}


def test_a_failure_is_logged_once_and_its_end_too(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """With the receiver, and without any message text."""
    ear.is_away = True
    world.changes["holds"] = (hold(),)
    with capture_logs() as logs:
        look_for(world, watcher, 300)
        ear.is_away = False
        look_for(world, watcher, 120)
    events = [line["event"] for line in logs]
    assert events == [Event.ALERT_NOT_TAKEN, Event.RECOVERED, Event.ALERT_SENT]
    assert logs[2]["kind"] == "held"
    assert "docs" not in str(logs)


# ---- processes that die ------------------------------------------------------------------------


def test_another_process_goes_on_where_the_last_one_stopped(world: World, ear: Listener) -> None:
    """It repeats nothing that was noted."""
    world.changes["holds"] = (hold(),)
    first = world.watcher(ear, holder="one")
    look(first)
    look(first)
    world.holder = ""
    second = world.watcher(ear, holder="two")
    look_for(world, second, 3600)
    assert ear.phases() == ["begins"]


def test_a_message_that_was_taken_but_not_noted_comes_again(world: World, ear: Listener) -> None:
    """The process died in between: twice is better than never."""
    world.changes["holds"] = (hold(),)
    look(world.watcher(ear))
    look_for(world, world.watcher(ear), 3600)
    assert ear.phases() == ["begins", "begins"]


def test_a_return_is_told_although_the_end_was_not_noted(world: World, ear: Listener) -> None:
    """The receiver took the end, and the process died: what came back is not lost."""
    world.changes["holds"] = (hold(),)
    watcher = world.watcher(ear)
    look_for(world, watcher, 120)
    world.changes.clear()
    look_for(world, watcher, 660)
    assert ear.phases() == ["begins", "ended"]
    assert watcher._deliveries[0].taken is not None
    world.changes["holds"] = (hold(),)
    look_for(world, world.watcher(ear), 300)
    assert ear.phases() == ["begins", "ended", "ended", "begins"]


def test_a_return_that_has_left_again_is_told_after_the_end(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """It was seen at the look that sent the end, and at no later one."""
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 120)
    world.changes.clear()
    look(watcher)
    world.pass_time(900)
    world.changes["holds"] = (hold(),)
    look(watcher)
    world.changes.clear()
    look_for(world, watcher, 3600)
    assert ear.phases() == ["begins", "ended", "begins", "ended"]


def test_what_is_taken_during_a_look_is_noted_at_the_next_one(
    world: World, watcher: AlertWatcher, ear: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow answer may come at any moment; it is never forgotten."""
    go, send, save = threading.Event(), ear.send, world.save_alerts
    (delivery,) = watcher._deliveries

    def slow(message: Message) -> None:
        go.wait()
        send(message)

    def while_it_comes(holder: str, changed: Sequence[Alert]) -> bool:
        go.set()
        delivery.wait(60)
        return save(holder, changed)

    monkeypatch.setattr(ear, "send", slow)
    world.changes["holds"] = (hold("a"),)
    watcher.look()
    monkeypatch.setattr(world, "save_alerts", while_it_comes)
    world.changes["holds"] = (hold("a"), hold("b"))
    watcher.look()
    monkeypatch.setattr(world, "save_alerts", save)
    look_for(world, watcher, 1200)
    assert [told.names for told in ear.told] == [("a",), ("b",)]


def test_an_orderly_end_notes_what_was_taken(world: World, ear: Listener) -> None:
    """A deployment that is rolled out repeats nothing, and the next process tells at once."""
    world.changes["holds"] = (hold(),)
    with world.watcher(ear, holder="one") as watcher:
        watcher._wake.set()
        while not ear.told:
            watcher._thread.join(0.01)
    assert world.holder == ""
    look_for(world, world.watcher(ear, holder="two"), 3600)
    assert ear.phases() == ["begins"]


def test_a_hanging_receiver_does_not_keep_the_process(
    world: World, ear: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message counts as not told, and the lease is free for the next process."""
    monkeypatch.setattr("chromasync.alerts.watcher.DRAIN_SECONDS", 0.05)
    world.changes["holds"] = (hold(),)
    asked, end = threading.Event(), threading.Event()

    def hang(message: Message) -> None:
        asked.set()
        end.wait()

    monkeypatch.setattr(ear, "send", hang)
    with world.watcher(ear) as watcher:
        assert asked.wait(60)
    watcher._thread.join(60)
    assert not watcher._thread.is_alive()
    assert world.holder == ""
    assert [row.told_at for row in world.rows.values()] == [None]
    end.set()
    watcher._deliveries[0].wait(60)


def test_a_process_that_lost_the_lease_says_nothing(world: World, ear: Listener) -> None:
    """It was frozen, and another one tells the alerts now."""
    watcher = world.watcher(ear, holder="one")
    look(watcher)
    world.changes["holds"] = (hold(),)
    world.holder = "two"
    look(watcher)
    assert ear.told == []
    save = world.save_alerts
    world.holder = "one"
    world.save_alerts = lambda *a: save("two", *a[1:])  # type: ignore[method-assign]
    look(watcher)
    assert ear.told == []


def test_a_store_that_is_away_ends_nothing(
    world: World, ear: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watcher says so once, and goes on looking; so it does after a defect."""
    watcher = world.watcher(ear)

    def away() -> None:
        raise StoreUnavailable("The state store is away.")

    monkeypatch.setattr(world, "alerts", away)
    with capture_logs() as logs:
        watcher._try(watcher.look)
        watcher._try(watcher.look)
        monkeypatch.setattr(world, "alerts", lambda: None)
        watcher._try(watcher.look)
    assert [line["event"] for line in logs] == [Event.NO_LOOK_FOR_ALERTS, Event.ALERT_FAILED]
    monkeypatch.undo()
    world.changes["holds"] = (hold(),)
    look(watcher)
    assert ear.phases() == ["begins"]


def test_without_receivers_nothing_runs(world: World) -> None:
    """No thread, no lease."""
    with world.watcher() as watcher:
        assert watcher._thread.ident is None
    assert world.holder == ""


def test_a_clock_that_goes_back_delays_at_most(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """Instants in the future count from now."""
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 120)
    world.now -= timedelta(days=400)
    look_for(world, watcher, 86_400 + 1200, every=600)
    world.changes.clear()
    look_for(world, watcher, 60)
    world.now -= timedelta(days=400)
    look_for(world, watcher, 1800)
    assert ear.phases() == ["begins", "lasts", "ended"]


def test_alerts_of_a_later_version_are_left_alone(
    world: World, watcher: AlertWatcher, ear: Listener
) -> None:
    """An older process beside a newer one does not know what they mean."""
    world.changes["holds"] = (hold(),)
    look_for(world, watcher, 120)
    ((key, row),) = world.rows.items()
    later = ("webhook", "something new", "x")
    world.rows[later] = type(row)("webhook", "something new", "x", "x", "x", NOON)
    look_for(world, watcher, 3600)
    assert ear.phases() == ["begins"]
    assert set(world.rows) == {key, later}

"""Alerts and the lease of the one process that tells them, in both databases."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from chromasync.model import Alert
from chromasync.store import SqlStore
from chromasync.store.alerts import ALERTS
from chromasync.store.schema import Later, leases
from chromasync.worker.heartbeat import process_name
from tests.store.samples import arrange

NOON = datetime(2020, 1, 2, 12, tzinfo=UTC)
ALERT = Alert("webhook", "held", "id-1 deletes", "`docs`", "`docs`: 350 records.", NOON)


def expired_for(store: SqlStore, seconds: float) -> None:
    """The lease ended so long ago."""
    ended = update(leases).where(leases.c.name == ALERTS).values(expires_at=Later(-seconds))
    arrange(store, ended)


def leading(store: SqlStore, *names: str) -> list[str]:
    """Which of these processes get the lease, asked one after the other."""
    return [name for name in names if store.lead_alerts(name, 60, 30)]


def test_one_process_tells_the_alerts(store: SqlStore) -> None:
    """It keeps the lease as long as it renews it, and another one gets it afterwards."""
    assert leading(store, "a", "b", "a", "c") == ["a", "a"]
    expired_for(store, 1)
    assert leading(store, "b", "a") == ["b"]
    store.give_up_alerts("a")  # it is not its own
    assert leading(store, "a", "b") == ["b"]
    store.give_up_alerts("b")
    assert leading(store, "a") == ["a"]


def test_a_free_lease_is_left_to_the_leader_for_a_while(store: SqlStore) -> None:
    """A worker waits; a leader without receivers never asks, so in the end the worker gets it."""
    assert store.take_lead("leader", 60)
    assert leading(store, "worker") == []
    assert leading(store, "leader", "worker") == ["leader"]
    store.give_up_alerts("leader")
    assert leading(store, "worker") == []
    expired_for(store, 31)
    assert leading(store, "worker") == ["worker"]


def test_the_holder_stays_when_a_leader_comes(store: SqlStore) -> None:
    """One teller is as good as another."""
    assert leading(store, "worker") == ["worker"]
    assert store.take_lead("leader", 60)
    assert leading(store, "leader", "worker") == ["worker"]


def test_nobody_waits_for_a_dead_leader(store: SqlStore) -> None:
    """That is what the lease is for."""
    lead = store.take_lead("leader", 0.001)
    assert lead
    assert leading(store, "worker") == ["worker"]


def test_on_one_machine_the_lease_of_an_ended_process_is_free(file_store: SqlStore) -> None:
    """On SQLite all processes are on this machine."""
    host, _, rest = process_name().split(":", 2)
    assert file_store.lead_alerts(f"{host}:999999999:{rest}", 60, 30)
    assert leading(file_store, "b") == ["b"]


def test_many_ask_at_once(store: SqlStore) -> None:
    """One of them gets it."""
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda n: store.lead_alerts(f"p{n}", 60, 30), range(24)))
    assert sum(got) >= 1
    assert len(leading(store, *(f"p{n}" for n in range(24)))) == 1


def test_alerts_are_kept_as_they_are(store: SqlStore) -> None:
    """Saved again, they are replaced; hostile subjects stay what they are."""
    assert leading(store, "me") == ["me"]
    told = replace(
        ALERT,
        told_at=NOON,
        told_count=2,
        ended_at=NOON + timedelta(minutes=1),
        over_at=NOON + timedelta(hours=1),
        return_count=3,
    )
    odd = replace(ALERT, subject="nul\0 \ud800 '; --", receiver="url 1")
    assert store.save_alerts("me", [ALERT, odd])
    assert store.save_alerts("me", [told])
    assert store.save_alerts("me", [])
    assert sorted(store.alerts(), key=lambda a: a.receiver) == [odd, told]


def test_a_process_without_the_lease_changes_nothing(store: SqlStore) -> None:
    """It was frozen, and another one remembers what was told."""
    assert not store.save_alerts("me", [ALERT])
    assert leading(store, "me") == ["me"]
    expired_for(store, 0)
    assert not store.save_alerts("me", [ALERT])
    assert leading(store, "you") == ["you"]
    assert not store.save_alerts("me", [ALERT])
    assert store.alerts() == []


def test_what_is_over_is_forgotten_in_the_end(store: SqlStore) -> None:
    """What still holds is not."""
    assert leading(store, "me") == ["me"]
    old = replace(ALERT, receiver="old", over_at=NOON)
    lately = replace(ALERT, receiver="lately", over_at=store.now() - timedelta(hours=23))
    assert store.save_alerts("me", [ALERT, old, lately])
    store.forget_alerts(86_400)
    assert {alert.receiver for alert in store.alerts()} == {"webhook", "lately"}


def test_many_alerts_are_saved_at_once(store: SqlStore) -> None:
    """1,500 collections are no trouble."""
    assert leading(store, "me") == ["me"]
    many = [replace(ALERT, subject=f"id-{n:04} deletes") for n in range(1500)]
    assert store.save_alerts("me", many)
    assert store.alerts() == many


def test_the_leader_and_the_teller_are_told_apart(store: SqlStore) -> None:
    """The two leases do not know each other's terms."""
    assert leading(store, "me") == ["me"]
    assert store.take_lead("you", 60) is not None
    assert store.live_trials() == set()
    assert store.known_trials() == set()
    give_up: Callable[[str], None] = store.give_up_alerts
    give_up("you")
    assert leading(store, "other") == []

"""The self-test's parts that need no server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from chromasync.config import Settings, load_settings
from chromasync.lab.selftest.environment import environment_of
from chromasync.lab.selftest.material import ADDED, CHANGED, DELETED, Truth, first_count
from chromasync.lab.selftest.watch import Held, TimedOut, Watch, someone_leads
from chromasync.model import (
    CycleStatus,
    Hold,
    HoldKind,
    MirrorStatus,
    Space,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.store import SqlStore, open_store
from chromasync.worker.heartbeat import process_name
from tests.support.ledgers import mirror_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A fresh state store."""
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


# ---- settings for processes ----------------------------------------------------------------------


def test_a_process_gets_the_settings_whole_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets, lists, headers and relative paths reach it as they were, and nothing else does."""
    monkeypatch.chdir(tmp_path)
    Path("ca.pem").touch()
    given = {
        "PRIMARY_URL": "http://user:pass%2Fword@one:8000/prefix",
        "REPLICA_URL": "https://two",
        "REPLICA_TOKEN": "to ken",
        "REPLICA_HEADERS": '{"x-team": "a\\"b"}',
        "REPLICA_CA_FILE": "ca.pem",
        "REPLICA_TLS_VERIFY": "false",
        "SYNC_TENANTS": "one,two",
        "SYNC_EXCLUDE": "tmp-*",
        "SYNC_MAX_DELETE": "7",
        "SYNC_SCRUB_BUDGET": "40%",
        "SYNC_DATA_DIR": "data",
        "SYNC_LOG_FORMAT": "json",
        "SYNC_HTTP_PORT": "8080",
        "SYNC_WEBHOOK_URL": "https://hooks/secret",
        "SYNC_ALERT_URLS": "json://one,json://two",
    }
    settings = load_settings(flags=given)
    monkeypatch.setenv("SYNC_WORKERS", "9")
    monkeypatch.setenv("PORT", "1234")
    environment = environment_of(settings, SYNC_DISTRIBUTED="true", SYNC_EXCLUDE="")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(os, "environ", environment)
    received = load_settings().model_dump()
    expected = settings.model_dump() | {
        "sync_distributed": True,
        "sync_exclude": (),
        "sync_http_port": None,
        "sync_webhook_url": None,
        "sync_alert_urls": received["sync_alert_urls"],
        "sync_data_dir": tmp_path / "data",
        "replica_ca_file": tmp_path / "ca.pem",
        "database_url": received["database_url"],
    }
    assert received == expected
    assert not received["sync_alert_urls"], "its processes tell nobody anything"
    url = received["database_url"].get_secret_value()
    assert url == f"sqlite:///{tmp_path / 'data' / 'chromasync.db'}"


def test_the_defaults_need_no_variables() -> None:
    """Settings that are as by default are not spelled out."""
    environment = environment_of(Settings(primary_url="http://one", replica_url="http://two"))
    ours = {name for name in environment if name.startswith(("SYNC_", "PRIMARY_", "REPLICA_"))}
    assert ours == {"PRIMARY_URL", "REPLICA_URL"}


# ---- invented records ----------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 20, 1000, 5000])
def test_a_collection_fills_several_chunks_of_any_size(chunk_size: int) -> None:
    """However large chunks are, there are at least three to share."""
    assert first_count(chunk_size) > 2 * chunk_size


def test_updates_change_one_field_each_and_keep_the_truth() -> None:
    """A third changes the embedding, a third the document, a third loses a metadata key."""
    truth = Truth(Space.L2)
    truth.add(200)
    before = dict(truth.records)
    changes = truth.update()
    assert len(changes) == 3 * CHANGED
    for change in changes:
        old, new = before[change.id], truth.records[change.id]
        changed = [
            not np.array_equal(old.embedding, new.embedding),
            old.document != new.document,
            old.metadata.keys() - new.metadata.keys() == {"kind"},
        ]
        assert sum(changed) == 1
        assert old.uri == new.uri
    untouched = before.keys() - {change.id for change in changes}
    assert all(truth.records[record_id] is before[record_id] for record_id in untouched)


def test_deletes_and_adds_keep_the_truth() -> None:
    """What is deleted is gone from the truth, and what is added has ids that were never there."""
    truth = Truth(Space.COSINE)
    first = truth.add(200)
    gone = truth.delete()
    added = truth.add(ADDED)
    assert len(gone) == DELETED
    assert not {*gone} & {*first.ids[-DELETED:]}, "a primary that lacks the newest looks restored"
    assert not {*first.ids} & {*added.ids}
    assert truth.records.keys() == {*first.ids, *added.ids}.difference(gone)


# ---- waiting -------------------------------------------------------------------------------------


def beat(name: str) -> WorkerBeat:
    """A sign of life of the process of this name."""
    host, pid, *_ = name.split(":")
    return WorkerBeat(name, WorkerStatus.ACTIVE, None, 1.0, 0.0, host, int(pid), "0")


def test_nobody_leads_on_a_fresh_store_and_asking_leaves_it_free(store: SqlStore) -> None:
    """The question itself takes the lead from nobody."""
    assert not someone_leads(store, 30.0)
    assert store.take_lead(process_name(), 1.0) is not None


def test_a_living_leader_is_seen(store: SqlStore) -> None:
    """A process that leads and beats is a running coordinator."""
    name = process_name()
    store.take_lead(name, 60.0)
    store.beat(beat(name))
    assert someone_leads(store, 30.0)


def test_the_lead_of_a_silent_process_is_waited_for(store: SqlStore) -> None:
    """A lead without a sign of life runs out, and then nobody leads."""
    store.take_lead(process_name(), 1.0)
    assert not someone_leads(store, 30.0)


def test_waiting_in_vain_ends_with_what_was_waited_for(store: SqlStore) -> None:
    """The error names it, and says what the newest cycle came to."""
    watch = Watch(store, lambda: None, seconds=0.0)
    with pytest.raises(TimedOut, match="no cycle found") as caught:
        watch.until_identical(["unknown"], store.now())
    assert "No cycle has run." in caught.value.hint
    cycle = store.open_cycle()
    store.close_cycle(cycle.id, CycleStatus.FAILED, 0, "the replica is away")
    with pytest.raises(TimedOut) as caught:
        watch.until_identical(["unknown"], store.now())
    assert "is failed: the replica is away" in caught.value.hint


def test_what_a_guard_holds_is_not_waited_for(store: SqlStore) -> None:
    """A hold on the test's own collection ends the waiting with the guard's reason."""
    since_at = store.now()
    later = since_at + timedelta(seconds=1)
    held = mirror_of("c1", "t", "d", "docs", status=MirrorStatus.HELD, last_attempt_at=later)
    store.save_mirror(held)
    store.save_hold(Hold("c1", "docs", HoldKind.DELETES, 15, "too many"))
    watch = Watch(store, lambda: None, seconds=30.0)
    with pytest.raises(Held, match="15 records of docs are held: too many"):
        watch.until_identical(["c1"], since_at)

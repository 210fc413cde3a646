"""A real state store and plain settings for tests of single parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync.config import Settings, load_settings
from chromasync.store import SqlStore, open_store
from chromasync.worker import attempt as attempting
from chromasync.worker import pool as working
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record
from tests.unit import configs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """An empty state store."""
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """An engine with one collection beside which others stand, so that one may go."""
    with house_of(store) as house:
        for name in ("steady", "still", "quiet"):
            house.primary.put(house.primary.make(name), joined(*map(record, names(50, name))))
        yield house


@pytest.fixture
def settings() -> Settings:
    """Settings as they are by default, with servers that are never asked."""
    return load_settings(
        flags={
            "PRIMARY_URL": "http://primary:1",
            "REPLICA_URL": "http://replica:2",
            "SYNC_TENANTS": "default_tenant,t",
        }
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle threads look again soon, so that nothing here waits for long."""
    monkeypatch.setattr(working, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(attempting, "STORE_RETRY_SECONDS", 0.02)


@pytest.fixture
def two_servers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only the two URLs in the environment, and no settings file."""
    for name in list(os.environ):
        if name.startswith(("SYNC_", "PRIMARY_", "REPLICA_")) or name in {"DATABASE_URL", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("PRIMARY_URL", configs.ONE)
    monkeypatch.setenv("REPLICA_URL", configs.TWO)
    monkeypatch.chdir(tmp_path)

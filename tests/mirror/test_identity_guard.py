"""Refused before anything is touched: one server on both sides, swapped URLs, Chroma's own keys."""

from __future__ import annotations

import pytest

from chromasync.errors import (
    GuardRefusal,
    RequestRefused,
)
from chromasync.model import Change, Side
from tests.support.stage import Stage, fill

# ---- the identity guard ----------------------------------------------------------------------


@pytest.mark.parametrize("records", [0, 3], ids=["empty", "filled"])
def test_one_url_on_both_sides_is_refused(stage: Stage, records: int) -> None:
    """Even a server without a collection, which would look identical to itself."""
    if records:
        stage.create(count=records)
    proxy = stage.servers.primary_proxy
    for attempt in (stage.sync, stage.plan):
        with pytest.raises(GuardRefusal, match="are the same"):
            attempt(REPLICA_URL=f"{proxy.url}/")
    assert proxy.writes() == []


@pytest.mark.parametrize("way", ["another name", "a proxy"])
def test_one_server_on_both_sides_is_refused(stage: Stage, way: str) -> None:
    """However its address is written, nothing is written to it."""
    stage.create(count=3)
    proxy = stage.servers.primary_proxy
    replica_url = {
        "another name": proxy.url.replace("127.0.0.1", "localhost"),
        "a proxy": stage.servers.primary.url,
    }[way]
    for attempt in (stage.sync, stage.plan):
        with pytest.raises(GuardRefusal, match="lead to one server") as caught:
            attempt(REPLICA_URL=replica_url)
        assert caught.value.untouched == "Nothing was written to either side."
        assert caught.value.exit_code == 4
    assert stage.primary.count_collections() == 1
    assert proxy.writes() == []


def test_swapped_urls_are_refused(stage: Stage) -> None:
    """A replica that is to be read as the primary is recognised by its collections' ids."""
    stage.create(count=3)
    stage.sync()
    fill(stage.primary.get_collection("docs", embedding_function=None), 2, start=10)
    servers = stage.servers
    writes = len(stage.replica_writes())
    first, second = servers.primary_proxy.url, servers.replica_proxy.url
    for attempt in (stage.sync, stage.plan):
        with pytest.raises(GuardRefusal, match="look swapped"):
            attempt(PRIMARY_URL=second, REPLICA_URL=first)
    assert servers.primary_proxy.writes() == []
    assert len(stage.replica_writes()) == writes
    stage.sync()
    stage.assert_identical()


# ---- the poison guard ------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["chroma:document", "chroma:uri", "chroma:anything"])
def test_no_key_of_chromas_own_leaves_in_any_write(stage: Stage, key: str) -> None:
    """A null under such a key would stop every later write to the server for good."""
    stage.create(count=2)
    stage.sync()
    writes = len(stage.replica_writes())
    with stage.app() as app:
        _, writer = app.servers
        (collection,) = writer.list_collections("default_tenant", stage.database)
        records = writer.read(collection, ["r0"])
        with pytest.raises(RequestRefused, match="Chroma's own") as caught:
            writer.update(collection, [Change("r0", metadata={key: None})])
        assert caught.value.side == Side.REPLICA
        records.metadatas[0][key] = "x"
        with pytest.raises(RequestRefused, match="Chroma's own"):
            writer.upsert(collection, records)
    assert len(stage.replica_writes()) == writes


def test_a_primary_that_returns_such_a_key_does_no_harm(stage: Stage) -> None:
    """A record of an old server that shows `chroma:document` is copied without that key."""
    stage.create(count=2)
    before = len(stage.replica_writes())
    stage.servers.replica_proxy.keep_bodies = True
    with stage.app() as app:
        primary, _ = app.servers
        read = primary.read

        def read_poisoned(*arguments: object, **options: object) -> object:
            records = read(*arguments, **options)  # type: ignore[arg-type]
            for metadata in records.metadatas:
                metadata["chroma:document"] = "poison"
            return records

        primary.read = read_poisoned  # type: ignore[method-assign, assignment]
        from chromasync.quiet import Quiet

        app.sync(Quiet())
    stage.servers.replica_proxy.keep_bodies = False
    bodies = b"".join(request.body for request in stage.replica_writes()[before:])
    assert b"the text of record 1" in bodies
    assert b"chroma:" not in bodies
    assert stage.on_replica().count() == 2

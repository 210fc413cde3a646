"""The settings of a restore, and the servers that it refuses by their URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromasync.config import Drift, Role, Settings
from chromasync.errors import GuardRefusal, SettingsError
from chromasync.failover.restore import refuse_urls, restore_settings, state_path
from chromasync.model import Side

NEW = "http://new:8000"


def given(**values: object) -> Settings:
    """The settings of a service in distributed mode."""
    usual: dict[str, object] = {
        "primary_url": "http://one:8000",
        "replica_url": "http://two:8000",
        "primary_token": "of-one",
        "replica_token": "of-two",
        "primary_headers": {"x-team": "one"},
        "sync_data_dir": "data",
        "database_url": "postgresql://me:secret@db/state",
        "sync_distributed": True,
        "sync_include": "docs*",
        "sync_exclude": "tmp-*",
        "sync_max_requests_per_second": 5,
        "sync_keep_dropped": 60,
    }
    return Settings(**(usual | values))  # type: ignore[arg-type]


def test_the_replica_is_read_and_the_new_server_is_written() -> None:
    """The new server gets the credentials of the primary, which it is going to be."""
    found = restore_settings(given(), "new:8000", ())
    source, target = found.server(Side.PRIMARY), found.server(Side.REPLICA)
    assert (source.url, target.url) == ("http://two:8000", NEW)
    assert source.headers == {"x-chroma-token": "of-two"}
    assert target.headers == {"x-team": "one", "x-chroma-token": "of-one"}


def test_user_and_password_of_the_url_win() -> None:
    """They replace those of the primary, and are not part of the address."""
    settings = given(primary_url="http://a:b@one:8000")
    found = restore_settings(settings, "http://ann:word@new:8000", ())
    assert found.replica_url == NEW
    assert found.server(Side.REPLICA).headers["Authorization"] == "Basic YW5uOndvcmQ="
    kept = restore_settings(settings, NEW, ()).server(Side.REPLICA).headers
    assert kept["Authorization"] == "Basic YTpi"


def test_a_state_file_of_its_own_for_each_server() -> None:
    """One process works, no mark is written, and nothing of others is overwritten."""
    found = restore_settings(given(), NEW, ())
    assert found.store.path == Path(state_path(given(), NEW))
    assert found.store.path.parent == Path("data")
    assert state_path(given(), NEW) != state_path(given(), "http://new:8000/other")
    assert found.role is Role.SINGLE
    assert (found.sync_mark, found.sync_drift) == (False, Drift.HOLD)
    assert found.sync_max_requests_per_second is None
    assert found.sync_keep_dropped is None


def test_the_filters() -> None:
    """Names replace the filters; collections that a cycle builds or keeps are never copied."""
    usual = restore_settings(given(), NEW, ()).scope
    assert usual.wants("docs1")
    assert not any(
        map(usual.wants, ["tmp-1", "wares", "docs.chromasync-kept-ab", "docs.chromasync-1"])
    )
    named = restore_settings(given(), NEW, ["tmp-[1]"]).scope
    assert named.wants("tmp-[1]")
    assert not any(map(named.wants, ["tmp-1", "docs"]))


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("chroma-data", "or a folder like ./chroma"),
        ("", "--to is empty"),
        ("ftp://new", "does not start with http"),
        ("http://me:secret@new:x", "host or port"),
    ],
)
def test_what_is_no_server(to: str, words: str) -> None:
    """A bare name is told how a folder is given, and no password is shown."""
    with pytest.raises(SettingsError, match=words) as caught:
        restore_settings(given(), to, ())
    assert "secret" not in str(caught.value)


def test_a_server_of_this_service_is_refused() -> None:
    """Neither the replica nor the primary, however many slashes the URL ends with."""
    for to, words in (
        ("http://two:8000/", "the replica itself"),
        ("http://one:8000", "PRIMARY_URL"),
    ):
        settings = restore_settings(given(), to, ())
        with pytest.raises(GuardRefusal, match=words):
            refuse_urls(given(), settings.replica_url)
    refuse_urls(given(primary_url=""), "http://one:8000")

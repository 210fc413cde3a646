"""Alerts in the program as it is put together: at its start, and beside a page."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from chromasync.app import Application
from chromasync.config import Settings
from chromasync.errors import SettingsError
from chromasync.events import Event
from chromasync.model import Hold, HoldKind
from chromasync.store import open_store
from tests.alerts.post import SECRET, Post
from tests.support.ledgers import mirror_of


def settings_in(folder: Path, **values: Any) -> Settings:
    """A state store of its own, and servers that nobody reaches."""
    servers: dict[str, Any] = {
        "primary_url": "http://127.0.0.1:9",
        "replica_url": "http://127.0.0.1:19",
        "sync_tenants": ("t",),
    }
    return Settings(sync_data_dir=folder, **(servers | values))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.long
def test_a_receiver_that_cannot_be_used_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the state store is made, by the service and by the page alike."""
    folder = tmp_path / "state"
    monkeypatch.setitem(sys.modules, "apprise", None)
    settings = settings_in(folder, sync_alert_urls="json://127.0.0.1/x")
    with Application.open(settings) as app:
        with pytest.raises(SettingsError, match=r"chromasync\[alerts\]"):
            app.run(threading.Event())
        (check,) = [check for check in app.doctor().checks if check.name == "alerts"]
        assert check.exit_code == 2
    assert not folder.exists()


def test_a_page_alone_tells_alerts(tmp_path: Path, post: Post) -> None:
    """`chromasync dashboard` on another machine tells what the dead service cannot."""
    settings = settings_in(tmp_path, sync_webhook_url=post.url, sync_http_port=free_port())
    store = open_store(settings.store.url)
    store.save_mirror(mirror_of("id", "t", "d", "docs"))
    place: dict[str, Any] = {"tenant": "t", "database": "d", "set_digest": "3f9a1b2c"}
    store.save_hold(Hold("id", "docs", HoldKind.DELETES, 350, "too many are gone", **place))
    stop = threading.Event()
    with capture_logs() as logs, Application.open(settings) as app:
        page = threading.Thread(target=app.dashboard, args=(stop,))
        page.start()
        (told,) = post.wait(1)
        stop.set()
        page.join()
    assert "*chromasync 127.0.0.1:9 → 127.0.0.1:19: Deletes are held*" in told
    assert "because too many are gone" in told
    assert "`chromasync approve docs@3f9a1b2c`" in told
    (row,) = store.alerts()
    assert (row.receiver, row.told_count) == ("webhook", 1)
    assert store.lead_alerts("another", 60, 30), "the lease was given up"
    store.close()
    assert Event.ALERT_SENT in [line["event"] for line in logs]
    assert not any(part in str(logs) for part in SECRET.split("/"))

"""The page of real processes: beside the service, and in a process of its own."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.distributed.fleet import Fleet, Member
from tests.support.stage import Servers, Stage, invoke_command
from tests.web.conftest import BEARER, TOKEN
from tests.web.ports import free_port
from tests.web.test_programs import samples, value

WAIT = httpx2.Timeout(60)


@pytest.fixture
def fleet(servers: Servers, tmp_path: Path) -> Iterator[Fleet]:
    """Processes over a SQLite file, with two collections to mirror."""
    stage = Stage(servers, tmp_path / "state")
    fleet = Fleet(stage, f"sqlite:///{tmp_path}/state.db")
    stage.create("docs", count=120)
    stage.create("users", count=30)
    yield fleet
    fleet.close()
    stage.close()


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    """A client that sends the token."""
    with httpx2.Client(headers=BEARER, timeout=WAIT, verify=False) as client:
        yield client


def until_answered(fleet: Fleet, http: httpx2.Client, url: str) -> httpx2.Response:
    """Wait until somebody answers 200 there; the answer."""
    answers: list[httpx2.Response] = []

    def answered() -> bool:
        try:
            answers.append(http.get(url))
        except httpx2.TransportError:
            return False
        return answers[-1].status_code == 200

    fleet.until(answered, f"an answer at {url}")
    return answers[-1]


def until_clean(fleet: Fleet, http: httpx2.Client, url: str) -> dict[str, Any]:
    """Wait until the JSON says identical, and all chunks are read and clean; that document.

    Cycles follow each other at once, so one may be at work in any single look.
    """
    seen: list[dict[str, Any]] = []

    def clean() -> bool:
        seen.append(http.get(f"{url}/api/v1/status").json())
        return seen[-1]["exit_code"] == 0 and all(
            c["chunks"]["clean"] and c["chunks"]["oldest_read_at"] and c["last_changed_at"]
            for c in seen[-1]["collections"]
        )

    fleet.until(clean, "the page says identical")
    return seen[-1]


@pytest.mark.long
def test_the_service_shows_itself_and_takes_orders(fleet: Fleet, http: httpx2.Client) -> None:
    """Beside `run`: page, JSON, metrics and health of a real cycle; the buttons reach the store."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"SYNC_HTTP_PORT": str(port), "SYNC_HTTP_TOKEN": TOKEN}
    settings["SYNC_ALERT_LAG"] = "600"  # a slow machine is not out of date
    member: Member = fleet.single(**settings)
    until_answered(fleet, http, f"{url}/readyz")
    fleet.until_identical()
    document = until_clean(fleet, http, url)
    assert {c["name"]: c["replica_count"] for c in document["collections"]} == {
        "docs": 120,
        "users": 30,
    }
    text = http.get(url).text
    assert "Identical as of" in text
    assert 'id="advice"' in text
    found = samples(http.get(f"{url}/metrics").text)
    assert value(found, "chromasync_identical") == 1
    assert value(found, "chromasync_records", side="replica") == 150
    assert value(found, "chromasync_http_requests_total", side="primary", outcome="ok") > 0
    assert value(found, "chromasync_chunk_duration_seconds_count") > 0
    assert value(found, "chromasync_leases_lost_total") >= 0  # a slow machine may lose one
    assert http.get(f"{url}/healthz").text == "ok"
    assert httpx2.get(f"{url}/api/v1/status", verify=False).status_code == 401
    http.post(f"{url}/act", data={"action": "pause", "reason": "a new disk", "seconds": "3600"})
    control = fleet.store.control()
    assert (control.paused_by, control.pause_reason) == ("page@127.0.0.1", "a new disk")
    fleet.until(lambda: "Paused" in http.get(url).text, "the page shows the pause")
    http.post(f"{url}/act", data={"action": "resume"})
    assert fleet.store.control().paused_at is None
    number = fleet.store.control().wanted_number
    http.post(f"{url}/act", data={"action": "sync"})
    assert fleet.store.control().wanted_number == number + 1
    member.send(signal.SIGTERM)
    assert member.ended() == 0
    assert "the page is open" in member.log
    with pytest.raises(httpx2.TransportError):
        http.get(url)


def test_a_port_in_use_ends_the_start(fleet: Fleet) -> None:
    """Nothing is started, and the error names the port, the reason and what to do."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        for command in ("run", "dashboard"):
            settings = fleet.stage.values(DATABASE_URL=fleet.database_url, PORT=port)
            done = invoke_command(command, **settings)
            assert done.returncode == 2
            said = f"The page cannot listen at 127.0.0.1 on port {port}: address already in use."
            assert said in done.stderr
            assert "Nothing was started. Set SYNC_HTTP_HOST and SYNC_HTTP_PORT" in done.stderr
            assert "Traceback" not in done.stderr
    assert fleet.store.cycles(1) == []


@pytest.mark.parametrize("host", ["192.0.2.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_ends_the_start(fleet: Fleet, host: str) -> None:
    """An address that is not one of this machine is refused like a port in use."""
    settings = fleet.stage.values(
        DATABASE_URL=fleet.database_url, SYNC_HTTP_PORT=str(free_port()), SYNC_HTTP_HOST=host
    )
    done = invoke_command("dashboard", **settings)
    assert (done.returncode, f"cannot listen at {host}" in done.stderr) == (2, True)


def test_a_dashboard_needs_a_port_and_a_store(tmp_path: Path) -> None:
    """Each missing one is named, and no file appears."""
    done = invoke_command("dashboard", SYNC_DATA_DIR=str(tmp_path / "data"))
    assert (done.returncode, "neither SYNC_HTTP_PORT nor PORT is set" in done.stderr) == (2, True)
    done = invoke_command("dashboard", SYNC_DATA_DIR=str(tmp_path / "data"), PORT=str(free_port()))
    assert (done.returncode, "There is no state store" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_dashboard_outlives_the_service(fleet: Fleet, http: httpx2.Client) -> None:
    """In a process of its own, without URLs of servers, it shows the lag of a dead service grow."""
    member = fleet.single(SYNC_ALERT_LAG="1")
    fleet.until_identical()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = {"SYNC_HTTP_PORT": str(port), "SYNC_HTTP_TOKEN": TOKEN, "SYNC_ALERT_LAG": "1"}
    page = fleet.dashboard(PRIMARY_URL="", REPLICA_URL="", **own)
    until_answered(fleet, http, f"{url}/readyz")
    member.kill()

    def lag() -> float:
        return value(samples(http.get(f"{url}/metrics").text), "chromasync_lag_seconds")

    before = lag()
    fleet.until(lambda: lag() > before + 1.5, "the lag grows")
    fleet.until(lambda: "Out of date" in http.get(url).text, "the page says out of date")
    page.send(signal.SIGTERM)
    assert page.ended() == 0

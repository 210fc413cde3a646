"""The functions and the service against real servers, and the helpers for tests of others."""

from __future__ import annotations

import importlib.util
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import chromasync
from chromasync.config import Settings
from chromasync.errors import ChromasyncError
from chromasync.lab.chroma_server import LocalServerError, free_port
from chromasync.testing import assert_identical, chroma_server
from chromasync.web import page
from chromasync.web.page import open_page
from chromasync.web.process import Process
from tests.support.stage import Servers, Stage, fill

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def pair(stage: Stage, **more: Any) -> dict[str, Any]:
    """The keywords that all functions take, for this stage."""
    return {
        "primary": stage.servers.primary_proxy.url,
        "replica": stage.servers.replica_proxy.url,
        "store": stage.folder / "state.db",
        "databases": [stage.database],
        **more,
    }


def named_threads() -> set[str]:
    """Names of the threads that run; those of the proxies have none of their own."""
    return {t.name for t in threading.enumerate() if not t.name.startswith("Thread-")}


def test_the_functions_do_what_the_commands_do(stage: Stage) -> None:
    """Plan, sync, verify and status agree with each other, and the judge with them."""
    stage.create(count=30)
    keywords = pair(stage)
    planned = chromasync.plan(**keywords)
    assert sum(c.create for c in planned.collections) == 30
    report = chromasync.sync(**keywords)
    assert (report.outcome, report.exit_code) == ("identical", 0)
    assert (report.counts.inserted, report.collections[0].name) == (30, "docs")
    stage.assert_identical()
    assert chromasync.plan(**keywords).is_idle
    assert chromasync.verify(queries=2, **keywords).different == 0
    shown = chromasync.status(**keywords)
    assert shown.exit_code == 0
    assert shown.identical_as_of == report.identical_as_of
    assert "docs" in (shown._repr_html_() or "")


def test_a_hold_is_approved_as_it_was_reported(stage: Stage) -> None:
    """The hold of a report lets exactly that through; when it has changed, it is refused."""
    docs = stage.create(count=20)
    keywords = pair(stage, max_delete=1)
    chromasync.sync(**keywords)
    docs.delete(ids=["r1", "r2"])
    (hold,) = chromasync.sync(**keywords).holds
    docs.delete(ids=["r3"])
    chromasync.sync(**keywords)
    with pytest.raises(ChromasyncError, match="not what was shown"):
        chromasync.approve(hold, **keywords)
    (approved,) = chromasync.approve(chromasync.status(**keywords).holds, **keywords)
    assert approved.approved_count == 3 or approved.count == 3
    assert chromasync.sync(**keywords).exit_code == 0
    stage.assert_identical()


def test_pairs_are_mirrored_at_the_same_time(servers: Servers, tmp_path: Path) -> None:
    """Calls from several threads, each with a store of its own, do not disturb each other."""
    stages = [Stage(servers, tmp_path / name) for name in ("one", "two", "three")]
    try:
        for number, stage in enumerate(stages):
            stage.create(count=10 + number)
        with ThreadPoolExecutor(len(stages)) as pool:
            reports = list(pool.map(lambda stage: chromasync.sync(**pair(stage)), stages))
        assert [report.counts.inserted for report in reports] == [10, 11, 12]
        for stage in stages:
            stage.assert_identical()
    finally:
        for stage in stages:
            stage.close()


def test_calls_on_one_store_take_turns(stage: Stage) -> None:
    """Two calls at once on one pair are two processes of one store: both see it identical."""
    stage.create(count=40)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: chromasync.sync(**pair(stage)), range(2)))
    assert [report.exit_code for report in reports] == [0, 0]
    stage.assert_identical()


def test_the_service_mirrors_beside_the_program(stage: Stage) -> None:
    """It runs cycles until its block ends; a call of `sync` has it run one at once."""
    docs = stage.create(count=10)
    keywords, before = pair(stage), named_threads()
    with chromasync.Service(interval=3600, **keywords) as service:
        assert chromasync.sync(**keywords).exit_code == 0
        fill(docs, 5, start=50)
        report = chromasync.sync(**keywords)
        assert (report.exit_code, report.collections[0].replica_count) == (0, 15)
        assert service.is_running()
        assert service.status().workers
    assert named_threads() == before
    stage.assert_identical()


def test_the_service_ends_with_the_error_that_ended_it(stage: Stage) -> None:
    """Where both places are one server, whoever waits for the service gets the refusal."""
    url = stage.servers.primary_proxy.url
    service = chromasync.Service(url, url, store=stage.folder / "state.db").start()
    with pytest.raises(chromasync.GuardRefusal, match="the same"):
        service.join()


def test_the_page_is_served_where_a_port_is_given(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `http_port` it answers like `chromasync run` until its end, and handles no signal."""
    urls: queue.Queue[str] = queue.Queue()

    @contextmanager
    def telling(settings: Settings, process: Process | None) -> Iterator[str]:
        with open_page(settings, process) as url:
            urls.put(url)
            yield url

    monkeypatch.setattr(page, "open_page", telling)
    stage.create(count=3)
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with (
        chromasync.Service(http_port=free_port(), interval=3600, **pair(stage)),
        httpx2.Client(verify=False, trust_env=False) as http,
    ):
        url = urls.get(timeout=60)
        assert chromasync.sync(**pair(stage)).exit_code == 0
        document = http.get(f"{url}api/v1/status").json()
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert [c["name"] for c in document["collections"]] == ["docs"]
    with httpx2.Client(verify=False, trust_env=False) as http, pytest.raises(httpx2.ConnectError):
        http.get(url)


# ---- chromasync.testing ----------------------------------------------------------------------


@pytest.fixture
def private(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two servers of `chromasync.testing`."""
    with chroma_server() as primary, chroma_server(tmp_path / "kept") as replica:
        yield primary, replica


def test_the_judge_of_tests_finds_what_differs(
    private: tuple[str, str], official: Any, tmp_path: Path
) -> None:
    """Identical sides give the number of records; anything else is named in the assertion."""
    primary, replica = private
    docs = official(primary).create_collection("docs", embedding_function=None)
    fill(docs, 7)
    with pytest.raises(AssertionError, match="Not identical: 1 collection"):
        assert_identical(primary, replica)
    chromasync.sync(primary, replica, store=tmp_path / "state.db")
    assert assert_identical(primary, replica) == 7
    assert assert_identical(official(primary), replica) == 7
    docs.update(ids=["r3"], metadatas=[{"n": 7}])
    with pytest.raises(AssertionError, match="metadata: 'r3' in 'docs'"):
        assert_identical(primary, replica)
    assert (tmp_path / "kept" / "chroma.sqlite3").exists()


def test_helpers_say_which_extra_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chromadb there is neither a server nor a judge, and a sentence says why."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name.startswith("chromadb") else real(name, *more),
    )
    monkeypatch.setattr("chromasync.testing.find_spec", importlib.util.find_spec)
    with pytest.raises(LocalServerError, match=r"chromasync\[demo\]"), chroma_server():
        pass
    with pytest.raises(LocalServerError, match=r"chromasync\[demo\]"):
        assert_identical("http://127.0.0.1:1", "http://127.0.0.1:2")

"""Configured servers and store, with collections that are none of the self-test's business."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from chromasync.lab.chroma_server import free_port
from chromasync.lab.proxy import Answer, Fault, Request
from tests.selftest.processes import (
    COMMAND,
    FAILED,
    assert_guide,
    assert_nothing_left,
    configured,
    read_until,
    run,
    running,
    spoken,
)
from tests.support.stage import Stage

SPOILED = """
from chromasync.lab.selftest import story
from chromasync.lab.selftest.compare import find
honest = story.judge_sides
def spoiled(stage, subjects, say, report):
    there = find(stage.replica, subjects[0].collection.name, (stage.tenant, stage.database))
    stage.replica.delete(there, ["cosine-000100"])
    return honest(stage, subjects, say, report)
story.judge_sides = spoiled
from chromasync.cli import main
main()
"""
"""The command, with someone who deletes a record on the replica just before the verdict."""
WITHOUT_CHROMADB = """
import sys
sys.modules["chromadb"] = sys.modules["chromadb_rust_bindings"] = None
from chromasync.cli import main
main()
"""
"""The command, where the `demo` extra is not installed."""


@pytest.mark.long
def test_foreign_collections_and_their_state_stay_as_they_are(stage: Stage, scratch: Path) -> None:
    """It passes beside other collections, which stay as they were, and without `chromadb`."""
    stage.create("docs", count=60)
    stage.create("papers", space="l2", count=10)
    stage.sync()
    with stage.app() as app:
        before = {mirror.name: mirror for mirror in app.store.mirrors()}
    stage.primary.get_collection("papers", embedding_function=None).delete(ids=["r1"])
    # the store is a relative path here, and the processes stand in folders of their own
    settings = configured(stage, SYNC_DATA_DIR="../state", SYNC_DISTRIBUTED="false")
    result = run(scratch, "-c", WITHOUT_CHROMADB, "selftest", **settings)
    assert result.returncode == 0, spoken(result)
    assert_guide(result.stdout.splitlines())
    assert "Official client: not installed here" in result.stdout
    assert "No process leads on this store" in result.stdout
    with stage.app() as app:
        assert {mirror.name: mirror for mirror in app.store.mirrors()} == before
    assert stage.on_replica("papers").count() == 10
    assert_nothing_left(stage, scratch)
    stage.sync_and_judge()


@pytest.mark.long
def test_a_record_that_is_missing_on_the_replica_is_told(stage: Stage, scratch: Path) -> None:
    """All three readings find it where SYNC_TARGET leads, and the exit code is 1."""
    target = "{tenant}/{database}/copy.{name}"
    result = run(scratch, "-c", SPOILED, "selftest", **configured(stage, SYNC_TARGET=target))
    assert result.returncode == 1, spoken(result)
    lines = result.stdout.splitlines()
    assert "✅ Sync verification passed!" not in lines
    assert any("record cosine-000100: the replica does not have it" in line for line in lines)
    assert any("has no record cosine-000100 on the replica." in line for line in lines)
    assert any("The official client sees a difference (missing: " in line for line in lines)
    assert any("counts 214 records on the replica instead of 215." in line for line in lines)
    assert lines[-1] == FAILED
    assert_nothing_left(stage, scratch)


def refuse_writes(request: Request) -> Fault | None:
    """A replica that may only be read."""
    return None if request.is_read else Answer(403, b'{"error":"Forbidden","message":"no"}')


def busy(request: Request) -> Fault | None:
    """A replica that is too busy to write, but for what the self-test does itself."""
    is_record = request.path.endswith(("/add", "/upsert", "/update"))
    return Answer(503, b'{"error":"Busy","message":"later"}') if is_record else None


@pytest.mark.long
def test_a_replica_that_refuses_writes_ends_it(stage: Stage, scratch: Path) -> None:
    """What ends the coordinator ends the self-test, with its reason and exit code 4."""
    stage.servers.replica_proxy.fault = refuse_writes
    result = run(scratch, *COMMAND, "--json", **configured(stage))
    assert result.returncode == 4, spoken(result)
    document = json.loads(result.stdout)
    assert document["exit_code"] == 4
    assert "The coordinator that the self-test started ended by itself" in document["problems"][0]
    assert "403" in document["problems"][0] or "refuse" in document["problems"][0]
    assert result.stderr.splitlines()[-1] == FAILED
    assert_nothing_left(stage, scratch)


@pytest.mark.long
def test_a_replica_that_takes_nothing_for_now_times_out(stage: Stage, scratch: Path) -> None:
    """When nothing arrives in time, the exit code is 3 and the last sentence says what to try."""
    stage.servers.replica_proxy.fault = busy
    result = run(scratch, *COMMAND, "--timeout", "20", **configured(stage))
    assert result.returncode == 3, spoken(result)
    assert "In 20 seconds, no cycle found the test's collections identical." in result.stdout
    assert "--timeout gives it more time." in result.stdout
    assert result.stdout.splitlines()[-1] == FAILED
    stage.servers.replica_proxy.fault = None
    assert_nothing_left(stage, scratch)


@pytest.mark.long
def test_an_interrupted_self_test_cleans_up(stage: Stage, scratch: Path) -> None:
    """Ctrl-C in the middle ends the processes and takes the collections away."""
    with running(scratch, *COMMAND, **configured(stage)) as process:
        read_until(process, "Coordinator cycle")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130, out + err
    assert "Cleaned up" in out
    assert_nothing_left(stage, scratch)


def test_swapped_servers_are_refused_before_anything_is_written(
    stage: Stage, scratch: Path
) -> None:
    """A primary that the store knows as the replica is not written to."""
    stage.create("docs", count=5)
    stage.sync()
    proxy = stage.servers.replica_proxy
    writes = len(proxy.writes())
    settings = configured(stage) | {
        "PRIMARY_URL": proxy.url,
        "REPLICA_URL": stage.servers.primary.url,
    }
    result = run(scratch, *COMMAND, **settings)
    assert result.returncode == 4, spoken(result)
    assert "look swapped" in result.stdout
    assert len(proxy.writes()) == writes
    assert [c.name for c in stage.primary.list_collections()] == ["docs"]


@pytest.mark.parametrize("name", ["docs", None], ids=["filled", "empty"])
def test_one_server_on_both_sides_is_refused(name: str | None, stage: Stage, scratch: Path) -> None:
    """Two URLs that lead to one server are found out, at the latest by the first collection."""
    if name is not None:
        stage.create(name, count=5)
    url = stage.servers.primary.url
    result = run(scratch, *COMMAND, **configured(stage) | {"REPLICA_URL": url})
    assert result.returncode == 4, spoken(result)
    assert "lead to one server" in result.stdout
    assert [c.name for c in stage.primary.list_collections()] == ([name] if name else [])


def test_a_server_that_is_away_is_unreachable(stage: Stage, scratch: Path) -> None:
    """A primary that nobody answers for gives exit code 3 and its name."""
    settings = configured(stage, SYNC_HTTP_TIMEOUT="2")
    settings["PRIMARY_URL"] = f"http://127.0.0.1:{free_port()}"
    result = run(scratch, *COMMAND, **settings)
    assert result.returncode == 3, spoken(result)
    assert "primary at http://127.0.0.1" in result.stdout
    assert result.stdout.splitlines()[-1] == FAILED


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("PRIMARY_URL", "but REPLICA_URL is not"),
        ("DATABASE_URL", "but PRIMARY_URL and REPLICA_URL are not"),
    ],
)
def test_half_a_configuration_is_a_settings_error(name: str, missing: str, scratch: Path) -> None:
    """It neither guesses the other half nor starts servers of its own."""
    value = "sqlite:////nowhere/x.db" if name == "DATABASE_URL" else "http://127.0.0.1:9"
    result = run(scratch, *COMMAND, **{name: value})
    assert result.returncode == 2
    assert f"{name} is set, {missing}" in result.stdout
    assert result.stdout.splitlines()[-1] == FAILED

"""Every command as a process of its own against real servers: one document, one exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chromasync.lab.proxy import Answer
from tests.compat_servers import INSTALLED
from tests.support.stage import Stage, fill

Arrange = Callable[[Stage], Any]
BROKEN = Answer(502, b"<html>Bad gateway</html>")


def first(stage: Stage) -> Any:
    """Something to copy, and no cycle so far."""
    return stage.create(count=6)


def settled(stage: Stage) -> Any:
    """Both sides identical."""
    docs = first(stage)
    stage.sync()
    return docs


def changed(stage: Stage) -> Any:
    """One record more on the primary than on the replica."""
    fill(settled(stage), 1, start=50)


def held(stage: Stage) -> Any:
    """Deletes that wait for an approval."""
    stage.overrides["SYNC_MAX_DELETE"] = "1"
    settled(stage).delete(ids=["r1", "r2"])
    stage.sync()


def shown(stage: Stage) -> Any:
    """Deletes that wait for an approval, and that a person has looked at."""
    held(stage)
    assert stage.command("status").returncode == 4


def away(stage: Stage) -> Any:
    """A replica that was there, and is not behind its gateway now."""
    settled(stage)
    stage.overrides["SYNC_HTTP_TIMEOUT"] = "2"
    stage.servers.replica_proxy.fault = lambda _: BROKEN


CASES: list[tuple[str, Arrange, int, set[str]]] = [
    ("sync", first, 0, {"outcome", "counts", "collections", "identical_as_of"}),
    ("sync", held, 4, {"outcome", "holds"}),
    ("plan", settled, 0, {"collections", "bytes", "expected_seconds"}),
    ("verify", settled, 0, {"collections", "different", "inconclusive"}),
    ("verify --sample 50", settled, 0, {"sample_percent"}),
    ("verify", changed, 1, {"findings"}),
    ("verify", away, 3, {"error"}),
    ("verify --repair", changed, 0, {"repaired"}),
    ("status", settled, 0, {"lag_seconds", "workers", "tasks", "holds"}),
    ("status", away, 0, {"collections"}),
    ("approve docs", shown, 0, {"approved"}),
    ("approve --all", settled, 0, {"approved"}),
    ("approve docs", settled, 4, {"error"}),
    ("doctor", settled, 0, {"servers", "settings", "schema_version", "checks"}),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "arrange", "code", "fields"),
    CASES,
    ids=[f"{command}, {arrange.__name__}" for command, arrange, *_ in CASES],
)
def test_a_command_gives_one_document_and_its_exit_code(
    stage: Stage, command: str, arrange: Arrange, code: int, fields: set[str]
) -> None:
    """One JSON document on stdout has the exit code, too; stderr has words only for errors."""
    arrange(stage)
    ended = stage.command(*command.split(), "--json")
    document = json.loads(ended.stdout)
    assert (ended.returncode, document["exit_code"]) == (code, code), ended.stderr
    assert document["command"] == command.partition(" ")[0]
    assert fields <= document.keys()
    assert ended.stderr.startswith("Error: ") if "error" in document else ended.stderr == ""


def test_the_doctor_tells_settings_servers_and_store(stage: Stage) -> None:
    """Where each setting came from, what each server is and can, and the store's version."""
    settled(stage)
    told = json.loads(stage.command("doctor", "--json", "--set", "SYNC_WORKERS=3").stdout)
    origins = {line["name"]: (line["value"], line["origin"]) for line in told["settings"]}
    assert origins["SYNC_WORKERS"] == ("3", "flag")
    assert origins["SYNC_DATABASES"] == (stage.database, "environment")
    assert origins["SYNC_INTERVAL"] == ("300", "default")
    assert [server["side"] for server in told["servers"]] == ["primary", "replica"]
    for server in told["servers"]:
        assert server["capabilities"]["arrays"] is True, INSTALLED
        assert server["capabilities"]["max_batch_size"] == 5461
    assert told["schema_version"] >= 1


def test_each_server_gets_its_own_credentials(stage: Stage) -> None:
    """Tokens and headers go to their side with every request, and into no output."""
    first(stage)
    proxies = stage.servers.primary_proxy, stage.servers.replica_proxy
    before = [len(proxy.requests) for proxy in proxies]
    secrets = {
        "PRIMARY_TOKEN": "hush-one",
        "PRIMARY_HEADERS": '{"x-team": "hush-two"}',
        "REPLICA_TOKEN": "hush-three",
        "REPLICA_BEARER": "hush-four",
    }
    ended = stage.command("sync", "--debug", **secrets)
    assert ended.returncode == 0, ended.stderr
    assert "hush" not in ended.stdout + ended.stderr
    names = "x-chroma-token", "x-team", "Authorization"
    sent = [
        {tuple(map(r.headers.get, names)) for r in proxy.requests[start:]}
        for proxy, start in zip(proxies, before, strict=True)
    ]
    assert sent == [
        {("hush-one", "hush-two", None)},
        {("hush-three", None, "Bearer hush-four")},
    ]

"""The applications' way to the replica: only reads pass until the switch, and then everything."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import yaml
from chromadb import Search
from chromadb.api import ClientAPI
from chromadb.api.functions import STATISTICS_FUNCTION
from chromadb.errors import AuthorizationError

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from tests.compat_servers import INSTALLED, PYTHON_SERVER
from tests.deploy.gate import (
    CADDYFILE,
    SENTENCE,
    caddy,
    environment,
    exchange,
    running_gate,
)
from tests.deploy.gate_world import BODY, PLACE, UNKNOWN, World, admin, docs
from tests.deploy.image import unprivileged
from tests.support.programs import PROGRAMS
from tests.support.stage import Servers, Stage, client_of, close_client

pytestmark = pytest.mark.needs("caddy")

ROOT = Path(__file__).parents[2]

VECTORS = np.full((1, 8), 0.5, dtype=np.float32)
WRITES: dict[str, Callable[[ClientAPI], Any]] = {
    "create_collection": lambda c: c.create_collection("made", embedding_function=None),
    "get_or_create_collection": lambda c: c.get_or_create_collection(
        "docs", embedding_function=None
    ),
    "modify": lambda c: docs(c).modify(metadata={"changed": True}),
    "rename": lambda c: c.get_collection("query", embedding_function=None).modify("renamed"),
    "delete_collection": lambda c: c.delete_collection("old"),
    "delete_collection named get": lambda c: c.delete_collection("get"),
    "add": lambda c: docs(c).add(ids=["new"], embeddings=VECTORS),
    "update": lambda c: docs(c).update(ids=["r1"], metadatas=[{"n": -1}]),
    "upsert": lambda c: docs(c).upsert(ids=["r2"], embeddings=VECTORS),
    "delete": lambda c: docs(c).delete(ids=["r3"]),
    "create_database": lambda c: admin(c).create_database("made", "default_tenant"),
    "delete_database": lambda c: admin(c).delete_database("spare", "default_tenant"),
    "create_tenant": lambda c: admin(c).create_tenant("another_tenant"),
    "fork": lambda c: docs(c).fork("forked"),
    "attach_function": lambda c: docs(c).attach_function(
        STATISTICS_FUNCTION, name="counting", output_collection="counted"
    ),
    "detach_function": lambda c: docs(c).detach_function("counting"),
    "reset": lambda c: c.reset(),
}
NOT_HERE = ("fork", "attach_function", "detach_function", "reset")
"""Writes that a server on one machine refuses itself."""


def test_the_file_is_valid_and_in_the_usual_form(tmp_path: Path) -> None:
    """Caddy accepts it, and its formatter would change nothing."""
    done = caddy("validate", "--config", CADDYFILE, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert caddy("fmt", CADDYFILE).stdout == CADDYFILE.read_text()


def test_compose_puts_it_in_front_of_its_replica(tmp_path: Path) -> None:
    """With the service's environment, Caddy listens where the port leads and asks the replica."""
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    service = services["gate"]
    assert set(service["environment"]) <= set(re.findall(r"\{\$(\w+)", CADDYFILE.read_text()))
    values = environment(tmp_path, **service["environment"])
    adapted = json.loads(caddy("adapt", "--config", CADDYFILE, env=values).stdout)
    (site,) = adapted["apps"]["http"]["servers"].values()
    assert site["listen"] == ["0.0.0.0:8002"]
    assert service["ports"] == ["127.0.0.1:8002:8002"]
    assert found_in(adapted, "dial") == {"replica:8000"}
    (root,) = found_in(adapted, "root")
    file, marks = service["volumes"]
    assert marks.partition(":")[2] == root
    assert (ROOT / "deploy" / file.partition(":")[0]).samefile(CADDYFILE)


def found_in(value: Any, key: str) -> set[str]:
    """All that has this key somewhere in a configuration."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = {value[key]} if isinstance(value, dict) and key in value else set()
    return own.union(*(found_in(each, key) for each in inner))


# ---- the official client -----------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITES)
def test_a_write_is_refused_with_a_sentence(world: World, name: str) -> None:
    """The official client raises it, nothing reaches the server, and its content is the same."""
    before = world.content()
    with pytest.raises(AuthorizationError, match=SENTENCE):
        WRITES[name](world.client)
    assert [r for r in world.seen.requests if r.method != "GET"] == []
    assert world.content() == before


def test_a_large_write_is_refused_with_the_sentence_too(world: World) -> None:
    """A request of megabytes gets the answer, not a broken connection."""
    many = np.zeros((2000, 1024), dtype=np.float32)
    with pytest.raises(AuthorizationError, match=SENTENCE):
        docs(world.client).upsert(ids=[f"n{n}" for n in range(2000)], embeddings=many)


READS: dict[str, Callable[[ClientAPI], Any]] = {
    "heartbeat": lambda c: c.heartbeat() > 0,
    "get_version": lambda c: c.get_version(),
    "get_user_identity": lambda c: c.get_user_identity().tenant,
    "list_collections": lambda c: [x.name for x in c.list_collections()],
    "count_collections": lambda c: c.count_collections(),
    "get_collection": lambda c: str(docs(c).id),
    "list_databases": lambda c: admin(c).list_databases(tenant="default_tenant"),
    "get_database": lambda c: admin(c).get_database("default_database", "default_tenant"),
    "get_tenant": lambda c: admin(c).get_tenant("default_tenant"),
    "get": lambda c: docs(c).get(ids=["r1"])["documents"],
    "get where": lambda c: docs(c).get(where={"even": True})["ids"],
    "peek": lambda c: docs(c).peek(3)["ids"],
    "count": lambda c: docs(c).count(),
    "query": lambda c: docs(c).query(query_embeddings=VECTORS, n_results=3)["ids"],
}


@pytest.mark.parametrize("name", READS)
def test_a_read_answers_as_the_server_does(world: World, name: str) -> None:
    """The official client sees the same through the gate as directly."""
    answer = READS[name](world.client)
    assert answer
    assert answer == READS[name](world.direct)
    assert world.seen.requests


@pytest.mark.parametrize(
    ("read", "path"),
    [
        (lambda c: docs(c).search(Search().limit(1)), "/search"),
        (lambda c: docs(c).fork_count(), "/fork_count"),
        (lambda c: docs(c).get_indexing_status(), "/indexing_status"),
        (lambda c: docs(c).get_attached_function("counting"), "/functions/counting"),
    ],
    ids=["search", "fork_count", "indexing_status", "get_attached_function"],
)
def test_a_read_that_only_other_servers_know_reaches_the_server(
    world: World, read: Callable[[ClientAPI], Any], path: str
) -> None:
    """What a server on one machine cannot do is refused by the server, not by the gate."""
    with pytest.raises(Exception, match=r"(?i)implemented|unsupported|not found") as raised:
        read(world.client)
    assert SENTENCE not in str(raised.value)
    assert world.seen.requests[-1].path.endswith(path)


@pytest.mark.long
def test_the_replica_is_filled_directly_until_it_is_promoted(
    servers: Servers, tmp_path: Path, cleanup: ExitStack
) -> None:
    """Applications read through the gate what chromasync writes past it, and write afterwards."""
    stage = Stage(servers, tmp_path / "state")
    cleanup.callback(stage.close)
    stage.create("docs", count=30)
    gate = cleanup.enter_context(running_gate(servers.replica.url, tmp_path))
    stage.sync_and_judge()
    client = client_of(gate.url, stage.database)
    cleanup.callback(close_client, client)
    assert docs(client).get()["ids"] == docs(stage.primary).get()["ids"]
    with pytest.raises(AuthorizationError, match=SENTENCE):
        docs(client).delete(ids=["r1"])
    stage.assert_quiet()
    promoted = stage.command("promote", "--wait-for-fence")
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    gate.marker.touch()
    docs(client).delete(ids=["r1"])
    assert "r1" not in docs(stage.replica).get()["ids"]


# ---- every route -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", [pytest.param(PYTHON_SERVER, marks=pytest.mark.long), "1.3.7", INSTALLED]
)
def test_only_what_reads_passes_of_all_that_a_server_knows(
    make_server: Callable[..., ChromaServer],
    make_proxy: Callable[..., RecordingProxy],
    tmp_path: Path,
    version: str,
) -> None:
    """Every operation in the server's own description is tried."""
    server = make_server(version)
    seen = make_proxy(server.url)
    described = httpx2.get(f"{server.url}/openapi.json").json()["paths"]
    known = {"tenant": "default_tenant", "database": "default_database", "collection_id": UNKNOWN}
    operations = [(m.upper(), path) for path, item in described.items() for m in item]
    passed = set()
    with running_gate(seen.url, tmp_path) as gate:
        for method, template in operations:
            path = re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "get"), template)
            seen.reset()
            reply = gate.send(method, path, BODY if method != "GET" else None)
            assert reply.refused is not bool(seen.requests), (method, path, reply)
            passed |= {(method, template)} if seen.requests else set()
    expected = {(m, p) for m, p in operations if m == "GET" or p.endswith(("/get", "/query"))}
    assert passed == expected | {(m, p) for m, p in operations if p.endswith("/search")}
    assert len(passed) > 10
    assert len(operations) - len(passed) > 10


# ---- the switch --------------------------------------------------------------------------------


def test_the_switch_acts_at_once_and_on_open_connections(own: World) -> None:
    """On one connection writes are refused, pass while the file is there, and are refused again."""
    path = f"{own.docs}/upsert"
    with own.gate.connection() as connection:
        assert exchange(connection, "POST", path, BODY).refused
        first = connection.sock
        own.gate.marker.touch()
        assert exchange(connection, "POST", path, BODY).status == 200
        own.gate.marker.unlink()
        assert exchange(connection, "POST", path, BODY).refused
        assert connection.sock is first
    assert own.gate.process.poll() is None
    assert docs(own.client).get(ids=["sneaked"])["ids"] == ["sneaked"]


def test_after_the_switch_everything_passes(own: World) -> None:
    """Each write of the official client reaches the server, and what the server can do is done."""
    own.gate.marker.touch()
    for name, write in WRITES.items():
        before = own.content()
        own.seen.reset()
        if name in NOT_HERE:
            with pytest.raises(Exception, match=r"(?i)implemented|unsupported|disabled|found"):
                write(own.client)
        else:
            write(own.client)
        assert [r for r in own.seen.requests if r.method != "GET"], name
        changes = name not in (*NOT_HERE, "get_or_create_collection", "create_tenant")
        assert (own.content() != before) is changes, name
    assert admin(own.client).get_tenant("another_tenant")["name"] == "another_tenant"


def test_what_the_tricks_send_would_change_something(own: World) -> None:
    """The body that no trick gets through is a write, if it gets through."""
    own.gate.marker.touch()
    ways = ("add", "update", "delete", "upsert")
    for path in (*(f"{own.docs}/{way}" for way in ways), PLACE):
        before = own.content()
        assert own.gate.send("POST", path, BODY).status in (200, 201)
        assert own.content() != before, path


def no_folder(folder: Path) -> None:
    """There is nothing."""


def a_file(folder: Path) -> None:
    """The folder is a file."""
    folder.write_text("")


def a_folder_as_marker(folder: Path) -> None:
    """The marker is a folder."""
    (folder / "promoted").mkdir(parents=True)


def a_link_to_nothing(folder: Path) -> None:
    """The marker is a link that leads nowhere."""
    folder.mkdir()
    (folder / "promoted").symlink_to(folder / "absent")


def a_link_to_itself(folder: Path) -> None:
    """Nobody can say whether the marker is there."""
    folder.mkdir()
    (folder / "promoted").symlink_to("promoted")


def another_name(folder: Path) -> None:
    """A file that only looks similar."""
    folder.mkdir()
    (folder / "promoted.txt").touch()


@pytest.mark.parametrize(
    "arrange",
    [no_folder, a_file, a_folder_as_marker, a_link_to_nothing, a_link_to_itself, another_name],
)
def test_in_doubt_writes_are_refused(
    world: World, tmp_path: Path, arrange: Callable[[Path], None]
) -> None:
    """Only a file that is surely there lets a write pass; reads pass anyway."""
    folder = tmp_path / "place"
    arrange(folder)
    with running_gate(world.seen.url, tmp_path, promoted_folder=folder) as gate:
        path = world.docs
        world.seen.reset()
        assert gate.send("POST", f"{path}/upsert", BODY).refused
        assert world.seen.requests == []
        assert gate.send("POST", f"{path}/get", {}).status == 200


def test_a_folder_that_caddy_may_not_read_refuses_writes(world: World) -> None:
    """The file is there, but Caddy may not look; once it may, writes pass."""
    folder = Path(tempfile.mkdtemp(prefix="chromasync-gate-"))
    folder.chmod(0o755)
    program = shutil.copy(PROGRAMS["caddy"].find(), folder / "program")
    marks = folder / "marks"
    marks.mkdir()
    (marks / "promoted").touch()
    marks.chmod(0o700 if os.geteuid() == 0 else 0)
    options: dict[str, Any] = {"promoted_folder": marks, "program": [program], **unprivileged()}
    try:
        with running_gate(world.seen.url, folder, **options) as gate:
            assert gate.send("POST", f"{world.docs}/upsert", {"ids": []}).refused
            marks.chmod(0o755)
            assert not gate.send("POST", f"{world.docs}/upsert", {"ids": []}).refused
    finally:
        marks.chmod(0o755)
        shutil.rmtree(folder)


def test_without_the_name_of_a_folder_caddy_does_not_start(tmp_path: Path) -> None:
    """An empty PROMOTED_FOLDER is an error, not the folder in which Caddy happens to be."""
    values = environment(tmp_path, PROMOTED_FOLDER="")
    done = caddy("validate", "--config", CADDYFILE, env=values)
    assert "line ending after 'root'" in done.stdout + done.stderr
    assert caddy("run", "--config", CADDYFILE, env=values, cwd=tmp_path).returncode == 1


def test_a_server_that_is_away_is_no_success(tmp_path: Path, cleanup: ExitStack) -> None:
    """Behind the gate nobody answers: reads get 502, and writes are refused all the same."""
    gone = ChromaServer().start()
    url = gone.url
    gone.stop()
    gate = cleanup.enter_context(running_gate(url, tmp_path))
    assert gate.send("GET", "/api/v2/heartbeat").status == 502
    assert gate.send("POST", "/api/v2/tenants", BODY).refused

"""No path and no header makes a write pass the applications' gate as a read."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chromasync.lab.proxy import Request
from tests.deploy.gate import SENTENCE, Gate
from tests.deploy.gate_world import BODY, PLACE, READING, UNKNOWN, World
from tests.support.properties import examples

pytestmark = pytest.mark.needs("caddy")

TRICKS = {
    "a write": "{docs}/upsert",
    "a creation in a database named get": "/api/v2/tenants/default_tenant/databases/get"
    "/collections",
    "a database in a tenant named get": "/api/v2/tenants/get/databases",
    "another level after get": "{docs}/get/upsert",
    "a read after the write": "{docs}/upsert/get",
    "up from get": "{docs}/get/../upsert",
    "up to get": "{docs}/upsert/../get",
    "up to get, encoded": "{docs}/upsert/%2e%2e/get",
    "up from get, encoded": "{docs}/get/%2E%2E/upsert",
    "an encoded slash": "{docs}/upsert%2Fget",
    "an encoded slash before get": "{docs}%2Fupsert/get",
    "an encoded question mark": "{docs}/upsert%3F/get",
    "an encoded question mark at the end": "{docs}/upsert%3Fget",
    "a question mark": "{docs}/upsert?/get",
    "a read in the query": "{docs}/upsert?x={docs}/get",
    "a read in the fragment": "{docs}/upsert#/get",
    "an encoded fragment": "{docs}/upsert%23/get",
    "an encoded end of text": "{docs}/upsert%00/get",
    "an encoded new line": "{docs}/upsert%0A/get",
    "an encoded new line before": "/x%0A{docs}/get",
    "a semicolon": "{docs}/upsert;/get",
    "a backslash": "{docs}/upsert\\get",
    "an encoded backslash": "{docs}/upsert%5Cget",
    "double slashes before the write": "{docs}//upsert",
    "double slashes": "{docs}//get",
    "double slashes first": "/{docs}/get",
    "a slash at the end": "{docs}/get/",
    "a slash at the end of the write": "{docs}/upsert/",
    "capital letters": "{docs}/GET",
    "capital letters of the write": "{docs}/Upsert",
    "an encoded letter": "{docs}/%67et",
    "an encoded letter of the write": "{docs}/%75psert",
    "a longer word": "{docs}/getter",
    "a word before": "{docs}/upsertget",
    "a name in place of the id": "{place}/docs/get",
    "a collection named get": "{place}/get",
    "a placeholder of Caddy": "{docs}/upsert?{{http.request.uri.path}}",
    "a placeholder of Caddy as the path": "/{{http.vars.x}}{docs}/get",
    "an operation before": "/api/v2/reset{docs}/get",
    "a database that hides a write": "/api/v2/tenants/default_tenant/databases/"
    "default_database%2Fcollections%2F{unknown}%2Fupsert%3F/collections/{unknown}/get",
    "a database that goes up": "/api/v2/tenants/default_tenant/databases/../collections/"
    "{unknown}/get",
    "a tenant of dots": "/api/v2/tenants/%2e%2e/databases/x/collections/{unknown}/get",
    "no tenant": "/api/v2/tenants//databases/x/collections/{unknown}/get",
    "a whole address": "http://elsewhere{docs}/upsert",
    "an address without slashes": "mailto:reset{docs}/get",
    "the former API": "/api/v1/collections/{unknown}/upsert",
    "the former API, by name": "/api/v1/collections/docs/get",
    "the former API, two levels": "/api/v1/collections/{unknown}/upsert/get",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_path_makes_a_write_look_like_a_read(world: World, trick: str) -> None:
    """Nothing reaches the server, whose content is the same."""
    path = TRICKS[trick].format(docs=world.docs, place=PLACE, unknown=UNKNOWN)
    world.seen.reset()
    before = world.content()
    reply = world.gate.send("POST", path, BODY)
    assert reply.refused or reply.status == 400, reply
    assert world.seen.requests == []
    assert world.content() == before


WORDS = "api v1 v2 tenants databases collections default_tenant default_database ID reset fork"
WAYS = "get query search add upsert update delete GET %67et get%2F get;x get? ?get upsert%2Fget é"
ODD = ["", "..", ".", "%2e%2e", "%2F", "%3F", "#", "upsert%00", "{http.request.uri}", "%", "%zz"]
SEGMENTS = st.sampled_from([*WORDS.split(), *WAYS.split(), *ODD])
FITTING = st.lists(SEGMENTS, max_size=3).map(
    lambda tail: ["", *PLACE.split("/")[1:], "ID", *tail],
)
PATHS = st.one_of(FITTING, st.lists(SEGMENTS, min_size=1, max_size=12).map(lambda s: ["", *s]))


@given(method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "post", "X"]), parts=PATHS)
@example(method="POST", parts=["", *PLACE.split("/")[1:], "ID", "get"])
@example(method="POST", parts=["", *PLACE.split("/")[1:], "ID", "upsert"])
@example(method="PUT", parts=["", *PLACE.split("/")[1:], "ID", "get"])
@example(method="DELETE", parts=["", *PLACE.split("/")[1:], "get"])
@examples(100)
def test_only_reads_reach_the_server(shared: World, method: str, parts: list[str]) -> None:
    """Whatever a path is made of, what passes has exactly the form of a read."""
    identity = shared.docs.rpartition("/")[2]
    path = "/".join(parts).replace("ID", identity).encode().decode("latin-1")
    shared.seen.reset()
    reply = exchange_raw(shared.gate, method, path)
    assert all(is_plain_read(request, identity) for request in shared.seen.requests), path
    unreadable = reply.startswith(b"HTTP/1.1 400 Bad Request") and not shared.seen.requests
    assert unreadable or bool(shared.seen.requests) is (SENTENCE.encode() not in reply), reply
    count = httpx2.get(f"{shared.server.url}{shared.docs}/count", verify=False)
    assert count.json() == 20


def exchange_raw(gate: Gate, method: str, path: str) -> bytes:
    """The answer to a request whose path may have any bytes."""
    body = b'{"ids": ["r0", "sneaked"], "embeddings": [[1,1,1,1,1,1,1,1], [2,2,2,2,2,2,2,2]]}'
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gate.port), timeout=60) as connection:
        connection.sendall((head + kind).encode("latin-1") + body)
        with connection.makefile("rb") as answer:
            return answer.read()


def is_plain_read(request: Request, identity: str) -> bool:
    """Whether a request is a POST to exactly one of the reading paths of a collection."""
    parts = urlsplit(request.path).path.split("/")
    names = parts[4:5] + parts[6:7]
    fixed = [p for n, p in enumerate(parts) if n not in (4, 6)]
    plain = all(n and "%2" not in n and "%3" not in n and n not in (".", "..") for n in names)
    new = fixed[:-1] == ["", "api", "v2", "tenants", "databases", "collections", identity]
    old = parts[:-1] == ["", "api", "v1", "collections", identity]
    return request.method == "POST" and parts[-1] in READING and ((new and plain) or old)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_header_makes_a_write_of_a_read(world: World, method: str) -> None:
    """Other methods and protocols that a read asks for do not reach the server."""
    asked = {
        "X-HTTP-Method-Override": "DELETE",
        "X-HTTP-Method": "DELETE",
        "X-Method-Override": "DELETE",
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAAP__",
    }
    before = world.content()
    reply = world.gate.send(method, f"{PLACE}/docs", None, asked)
    assert reply.status == 200
    (arrived,) = world.seen.requests
    names = {name.lower() for name in arrived.headers}
    assert not names & {"x-http-method-override", "x-http-method", "x-method-override", "upgrade"}
    assert world.content() == before


def test_a_read_keeps_its_words_and_its_token(world: World) -> None:
    """Path, query, body and the headers that prove who asks arrive as they were sent."""
    proof = {"Authorization": "Bearer abc", "X-Chroma-Token": "def"}
    path = f"{world.docs}/get?why={{not}}"
    world.seen.reset()
    body = {"ids": ["r1"], "include": []}
    reply = world.gate.send("POST", path, body, proof)
    assert reply.status == 200, reply
    (arrived,) = world.seen.requests
    assert (arrived.method, arrived.path) == ("POST", path)
    assert arrived.body == b'{"ids": ["r1"], "include": []}'
    assert proof.items() <= {k.title(): v for k, v in arrived.headers.items()}.items()


def test_names_that_must_be_quoted_can_be_read(world: World) -> None:
    """Spaces and letters of other languages in names keep nobody from reading."""
    path = f"/api/v2/tenants/a%20t%C3%A9nant/databases/(one)%20%7B1%7D/collections/{UNKNOWN}/query"
    assert not world.gate.send("POST", path, {}).refused
    assert [request.path for request in world.seen.requests] == [path]

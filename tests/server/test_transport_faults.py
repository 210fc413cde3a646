"""Bad networks, bad answers and full servers: each becomes the right error, or passes unseen."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import orjson
import pytest

from chromasync.chroma import ChromaWriter
from chromasync.chroma.limits import QUOTA_RECORDS
from chromasync.errors import (
    AccessRefused,
    ChromasyncError,
    Conflict,
    LeaseLost,
    NotChroma,
    QuotaExceeded,
    ReadOnlyViolation,
    RequestRefused,
    ServerBusy,
    ServerFault,
    ServerUnreachable,
    TooLarge,
)
from chromasync.lab.chroma_server import ChromaServer, free_port
from chromasync.lab.proxy import (
    Answer,
    Drip,
    Fault,
    Hang,
    RecordingProxy,
    Request,
    ResetAfter,
    ResetBefore,
    TruncateBody,
)
from chromasync.ledger.paging import pages
from chromasync.model import Change, Side
from chromasync.ports import Permit
from tests.conftest import ProxyMaker
from tests.server.transport_samples import (
    DATABASE,
    TENANT,
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    definition,
    empty,
    reader,
    records,
    writer,
)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ChromaServer]:
    """One server for all tests of this module that do not harm it."""
    with ChromaServer() as server:
        yield server


@pytest.fixture
def proxy(shared_server: ChromaServer, make_proxy: ProxyMaker) -> RecordingProxy:
    """A proxy in front of a server without collections."""
    empty(shared_server.url)
    return make_proxy(shared_server.url, keep_bodies=True)


def once(fault: Fault, ending: str, method: str = "POST") -> Callable[[Request], Fault | None]:
    """Play `fault` at the first matching request only."""
    left = [fault]

    def hook(request: Request) -> Fault | None:
        if request.method == method and request.path.endswith(ending) and left:
            return left.pop()
        return None

    return hook


def always(fault: Fault, ending: str = "") -> Callable[[Request], Fault | None]:
    return lambda request: fault if request.path.endswith(ending) else None


def requests_to(proxy: RecordingProxy, ending: str) -> list[Request]:
    return [request for request in proxy.requests if request.path.endswith(ending)]


LOST = [ResetBefore(), ResetAfter(), Answer(502, b"bad gateway"), TruncateBody(0.0)]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: type(fault).__name__)
def test_a_write_survives_one_lost_exchange(proxy: RecordingProxy, fault: Fault) -> None:
    """An upsert, an update and a delete are repeated and leave the right records."""
    at = writer(proxy.url)
    made = create(at)
    proxy.fault = once(fault, "/upsert")
    at.upsert(made, records(["a", "b"]))
    proxy.fault = once(fault, "/update")
    at.update(made, [Change("a", document="new")])
    proxy.fault = once(fault, "/delete")
    at.delete(made, ["b"])
    found = at.read(made, ["a", "b"])
    assert (found.ids, found.documents) == (["a"], ["new"])
    assert len(requests_to(proxy, "/upsert")) == 2


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: type(fault).__name__)
def test_collections_survive_one_lost_exchange(proxy: RecordingProxy, fault: Fault) -> None:
    """Creating, renaming and dropping each happen exactly once when an answer is lost."""
    at = writer(proxy.url)
    at.capabilities()
    proxy.fault = once(fault, "/collections")
    made = create(at, metadata={"k": 1})
    proxy.fault = once(fault, made.id, "PUT")
    at.modify_collection(made, name="renamed")
    assert [c.name for c in at.list_collections(TENANT, DATABASE)] == ["renamed"]
    proxy.fault = once(fault, "/renamed", "DELETE")
    at.drop_collection(made)
    assert at.list_collections(TENANT, DATABASE) == []


def test_creating_refuses_a_different_collection_of_that_name(proxy: RecordingProxy) -> None:
    """A collection that is there already is taken only when it is what was asked for."""
    at = writer(proxy.url)
    made = create(at, metadata={"k": 1})
    assert create(at, metadata={"k": 1}).id == made.id
    with pytest.raises(Conflict, match="things"):
        create(at, metadata={"k": 2})
    with pytest.raises(Conflict, match="things"):
        create(at, metadata={"k": 1}, configuration={"hnsw": {"space": "ip"}})


def test_the_wait_a_busy_server_names_is_kept(proxy: RecordingProxy) -> None:
    """429 with Retry-After is repeated after that time, and given up after a few attempts."""
    at = writer(proxy.url)
    made = create(at)
    proxy.fault = once(Answer(429, b"{}", {"retry-after": "0"}), "/upsert")
    at.upsert(made, records(["a"]))
    proxy.reset()
    proxy.fault = always(Answer(429, b'{"error":"x","message":"slow"}', {"retry-after": "0"}))
    with pytest.raises(ServerBusy) as busy:
        at.upsert(made, records(["a"]))
    assert busy.value.retry_after_seconds == 0
    assert len(proxy.requests) == 3
    proxy.reset()
    proxy.fault = always(Answer(503, b"", {"retry-after": "3600"}))
    with pytest.raises(ServerBusy) as busy:
        at.count(made)
    assert (busy.value.retry_after_seconds, len(proxy.requests)) == (3600, 1)


def _short(value: object) -> str:
    if isinstance(value, Answer):
        return f"{value.status} {value.body[:20].decode()}"
    return value.__name__ if isinstance(value, type) else type(value).__name__


HTML = b"<!doctype html><title>Sign in</title>"
WRONG_ANSWERS: list[tuple[Fault, type[ChromasyncError]]] = [
    (Answer(200, HTML, {"content-type": "text/html"}), NotChroma),
    (Answer(200, b'{"ids": ["a", '), ServerUnreachable),
    (Answer(200, b""), ServerUnreachable),
    (Answer(200, b'{"unexpected": 1}'), NotChroma),
    (Answer(200, b"[1, 2]"), NotChroma),
    (Answer(307, b"", {"location": "https://user:pw@elsewhere/x?key=1"}), NotChroma),
    (Answer(401, b""), AccessRefused),
    (Answer(403, b'{"error":"Auth","message":"no"}'), AccessRefused),
    (Answer(404, b"<html>nginx</html>"), NotChroma),
    (Answer(504, b"<html>nginx</html>"), ServerUnreachable),
    (Answer(500, b'{"error":"InternalError","message":"Error finding id"}'), ServerFault),
    (Answer(422, b'{"error":"ChromaError","message":"bad shape"}'), RequestRefused),
    (Answer(501, b'{"error":"Unimplemented","message":"no"}'), RequestRefused),
    (Answer(422, b'{"error":"ChromaError","message":"Quota exceeded"}'), QuotaExceeded),
    (ResetBefore(), ServerUnreachable),
]


@pytest.mark.parametrize(("fault", "error"), WRONG_ANSWERS, ids=_short)
def test_every_wrong_answer_becomes_its_error(
    proxy: RecordingProxy, fault: Fault, error: type[ChromasyncError]
) -> None:
    """A read that cannot succeed ends in the error that fits, which names side and address."""
    at = writer(proxy.url)
    made = create(at)
    proxy.fault = always(fault, "/get")
    with pytest.raises(error) as raised:
        at.read(made, ["a"])
    assert type(raised.value) is error or isinstance(raised.value, ServerUnreachable)
    assert "replica at http://127.0.0.1" in str(raised.value)
    assert "pw" not in str(raised.value)
    assert "key=1" not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [
        b'{"ids":["a","b"],"embeddings":[[1,2],[1]],%s}',
        b'{"ids":["a","b"],"embeddings":[[1,2],null],%s}',
        b'{"ids":["a","b"],"embeddings":[[1,2],[1,null]],%s}',
        b'{"ids":["a","b"],"embeddings":[[1,2],[1,"x"]],%s}',
        b'{"ids":["a","b"],"embeddings":[[1,2],[1,1e300]],%s}',
    ],
    ids=["short", "null", "null inside", "text inside", "too large"],
)
def test_a_damaged_record_is_named(proxy: RecordingProxy, answer: bytes) -> None:
    """A missing, ragged or infinite embedding is a fault that names the record; nothing is lost."""
    made = create(writer(proxy.url))
    rest = b'"documents":[null,null],"metadatas":[null,null],"uris":[null,null]'
    proxy.fault = always(Answer(200, answer % rest), "/get")
    with pytest.raises(ServerFault, match="'b'"):
        reader(proxy.url).read(made, ["a", "b"])


@pytest.mark.parametrize(
    "columns",
    [
        b'"documents":["x"],"metadatas":[null,null]',
        b'"metadatas":[null,null]',
        b'"documents":[1,2],"metadatas":[null,null]',
        b'"documents":["x","y"],"metadatas":[1,null]',
    ],
    ids=["short", "missing", "numbers for texts", "number for an object"],
)
def test_columns_that_do_not_fit_are_a_fault(proxy: RecordingProxy, columns: bytes) -> None:
    """Columns that are missing, short or of a wrong type are never guessed at."""
    made = create(writer(proxy.url))
    body = b'{"ids":["a","b"],"embeddings":[[1],[2]],"uris":[null,null],"new":1,%s}' % columns
    proxy.fault = always(Answer(200, body), "/get")
    with pytest.raises(ServerFault, match="column"):
        reader(proxy.url).read(made, ["a", "b"])


def test_a_race_on_the_server_is_read_again(proxy: RecordingProxy) -> None:
    """A 500 that does not repeat is a read that raced a delete; the caller never sees it."""
    at = writer(proxy.url)
    made = create(at)
    at.upsert(made, records(["a"]))
    proxy.fault = once(Answer(500, b'{"error":"x","message":"Error finding id"}'), "/get")
    assert at.read(made, ["a"]).ids == ["a"]


def test_a_server_that_hangs_is_given_up(proxy: RecordingProxy) -> None:
    """Silence ends in an error after the timeout, for reads and for writes."""
    at = writer(proxy.url, timeout_seconds=0.2, retry_seconds=0.1)
    made = create(at)
    release = threading.Event()
    proxy.fault = always(Hang(release))
    with pytest.raises(ServerUnreachable, match="in time"):
        at.count(made)
    with pytest.raises(ServerUnreachable, match="in time"):
        at.upsert(made, records(["a"]))
    release.set()


def test_an_endless_drip_is_given_up(proxy: RecordingProxy) -> None:
    """An answer that keeps dripping is cut off when its whole time is over."""
    at = writer(proxy.url)
    made = create(at)
    at.upsert(made, records([f"id-{i}" for i in range(50)]))
    slow = writer(proxy.url, answer_seconds=0.1, retry_seconds=0.1)
    proxy.fault = always(Drip(8, 0.02), "/get")
    with pytest.raises(ServerUnreachable, match="in time"):
        slow.list_ids(made, offset=0, limit=50)


def test_an_absent_server_is_named() -> None:
    """Nobody listening, an unknown host: the error names side and address."""
    port = free_port()
    with pytest.raises(ServerUnreachable, match=rf"primary at http://127.0.0.1:{port}.*refused"):
        reader(f"http://127.0.0.1:{port}").capabilities()
    with pytest.raises(ServerUnreachable, match=r"no-such-host\.invalid"):
        reader("http://no-such-host.invalid:8000").capabilities()


def test_something_else_is_not_chroma(make_proxy: ProxyMaker, server: ChromaServer) -> None:
    """A server of another kind, or a wrong path prefix, is recognised before anything is done."""
    proxy = make_proxy(server.url)
    for answer in (Answer(200, HTML), Answer(404, b"nope"), Answer(200, b"{}"), Answer(405, b"")):
        proxy.fault = always(answer)
        with pytest.raises(NotChroma):
            reader(proxy.url).capabilities()
    with pytest.raises(NotChroma):
        reader(f"{server.url}/wrong").capabilities()


def test_too_large_is_learned(proxy: RecordingProxy) -> None:
    """A body over the server's limit is TooLarge at once, and later batches are smaller."""

    def limited(request: Request) -> Fault | None:
        return Answer(413, b"Payload too large") if request.body_size > 600_000 else None

    at = writer(proxy.url)
    made = create(at)
    proxy.fault = limited
    sent = records([f"id-{i}" for i in range(40)], documents=["x" * 30_000] * 40)
    assert len(at.batches(sent)) == 1
    with pytest.raises(TooLarge):
        at.upsert(made, sent)
    smaller = at.batches(sent)
    assert len(smaller) > 2
    for batch in smaller:
        at.upsert(made, batch)
    assert at.count(made) == 40


def test_the_real_limit_is_too_large(server: ChromaServer) -> None:
    """What a real server refuses for its size is TooLarge, and the server goes on."""
    at = writer(server.url)
    made = create(at)
    with pytest.raises(TooLarge):
        at.upsert(made, records(["a"], documents=["x" * 42_000_000]))
    at.upsert(made, records(["a"], documents=["x"]))
    assert at.count(made) == 1


def test_hanging_up_on_a_large_body_is_too_large(proxy: RecordingProxy) -> None:
    """A live server that resets the connection on a large body is not asked for ever."""
    at = writer(proxy.url)
    made = create(at)
    proxy.fault = always(ResetBefore(), "/upsert")
    with pytest.raises(TooLarge):
        at.upsert(made, records(["a"], documents=["x" * 300_000]))
    assert len(requests_to(proxy, "/upsert")) == 2
    with pytest.raises(ServerUnreachable):
        at.upsert(made, records(["a"], documents=["small"]))


def test_a_quota_on_records_is_learned(proxy: RecordingProxy) -> None:
    """After a quota message, writes and reads are cut to three hundred records."""
    quota = Answer(422, b'{"error":"ChromaError","message":"Quota exceeded: records"}')

    def limited(request: Request) -> Fault | None:
        too_many = request.body.count(b'"id-') > QUOTA_RECORDS or b'"limit":700' in request.body
        return quota if too_many else None

    at = writer(proxy.url)
    made = create(at)
    proxy.fault = limited
    sent = records([f"id-{i:03}" for i in range(700)])
    with pytest.raises(QuotaExceeded):
        at.upsert(made, sent)
    batches = at.batches(sent)
    assert [len(batch) for batch in batches] == [300, 300, 100]
    for batch in batches:
        at.upsert(made, batch)
    assert at.read(made, sent.ids).ids == sent.ids
    assert at.list_ids(made, offset=0, limit=700) == sent.ids[:QUOTA_RECORDS]
    assert [i for page in pages(at, made, 700) for i in page] == sent.ids
    at.delete(made, sent.ids)
    assert at.count(made) == 0


def test_the_primary_cannot_be_written(proxy: RecordingProxy) -> None:
    """A read-only client refuses every write before anything is sent, and no writer is made."""
    made = create(writer(proxy.url))
    primary = reader(proxy.url)
    assert (primary.count(made), primary.list_ids(made, offset=0, limit=5)) == (0, [])
    proxy.reset()
    base = f"/api/v2/tenants/{TENANT}/databases/{DATABASE}/collections"
    attempts = [
        *(("POST", f"{base}/{made.id}/{action}") for action in ("add", "upsert", "delete")),
        ("POST", base),
        ("PUT", f"{base}/{made.id}"),
        ("DELETE", f"{base}/things"),
        ("POST", "/api/v2/tenants"),
        ("POST", "/api/v2/reset"),
        ("PATCH", "/api/v2/tenants/get"),
        ("POST", "/api/v2/tenants/t/databases/d/collections/x/y/get?/collections/z/get"),
    ]
    for method, path in attempts:
        with pytest.raises(ReadOnlyViolation):
            primary._client.request(method, path, bytes, body=b"{}")
    assert proxy.requests == []
    with pytest.raises(ReadOnlyViolation):
        type(writer(proxy.url))(primary._client.connection)
    for name in ("add", "upsert", "update", "delete", "create_collection", "drop_collection"):
        assert not hasattr(primary, name)


def test_a_writer_of_the_primary_touches_collections_of_one_prefix_alone(
    proxy: RecordingProxy,
) -> None:
    """Each kind of write to another collection is refused, and nothing of it is sent."""
    connection = replace(writer(proxy.url)._client.connection, side=Side.PRIMARY)
    theirs = create(writer(proxy.url), name="theirs")
    with ChromaWriter(connection, prefix="trial-") as limited:
        ours = create(limited, name="trial-1")
        limited.upsert(ours, records(["a"]))
        proxy.reset()
        refused: list[Callable[[], object]] = [
            lambda: limited.upsert(theirs, records(["a"])),
            lambda: limited.update(theirs, [Change("a", document="b")]),
            lambda: limited.delete(theirs, ["a"]),
            lambda: limited.modify_collection(theirs, name="trial-2"),
            lambda: limited.modify_collection(ours, name="theirs-2"),
            lambda: limited.drop_collection(theirs),
            lambda: create(limited, name="others"),
            lambda: limited.ensure_database("new", "new"),
        ]
        for write in refused:
            with pytest.raises(ReadOnlyViolation, match=r"primary at .* begin with 'trial-'"):
                write()
        assert proxy.writes() == []
        assert limited.read(ours, ["a"]).ids == ["a"]
        limited.drop_collection(ours)


def test_views_of_a_writer_share_all_but_their_permits(proxy: RecordingProxy) -> None:
    """What one has learned of the server the others know, and each asks only its own permit."""
    at = writer(proxy.url)
    made = create(at)
    asked = []

    def permit_of(name: str) -> Permit:
        def permit() -> float:
            asked.append(name)
            return 60.0

        return permit

    one, other = at.permitted_by(permit_of("one")), at.permitted_by(permit_of("other"))
    known, before = one.capabilities(), len(proxy.requests)
    assert at.capabilities() == other.capabilities() == known
    assert len(proxy.requests) == before
    one.upsert(made, records(["a"]))
    other.permitted_by(permit_of("third")).upsert(made, records(["b"]))
    assert asked == ["one", "third"]


def test_a_writer_asks_before_every_attempt(proxy: RecordingProxy) -> None:
    """The permit is asked before each attempt, repetitions included, and stops the next one."""
    at = writer(proxy.url)
    made = create(at)
    asked = []

    def permit() -> float:
        asked.append(1)
        if len(asked) > 2:
            raise LeaseLost("the lease ran out")
        return 60.0

    proxy.fault = always(ResetBefore(), "/upsert")
    with pytest.raises(LeaseLost):
        at.permitted_by(permit).upsert(made, records(["a"]))
    assert (len(asked), len(requests_to(proxy, "/upsert"))) == (3, 2)
    proxy.fault = None
    at.upsert(made, records(["a"]))
    assert len(asked) == 3


def test_requests_are_counted_by_outcome(proxy: RecordingProxy) -> None:
    """Every request that was sent is counted under how it ended."""
    at = writer(proxy.url)
    made = create(at)
    before = at.request_counts["ok"]
    proxy.fault = once(Answer(503), "/count", "GET")
    at.count(made)
    assert at.request_counts == {"ok": before + 1, "busy": 1}
    assert sum(at.request_counts.values()) == len(proxy.requests)


def test_a_listing_that_the_server_caps_is_completed(proxy: RecordingProxy) -> None:
    """Collections beyond a server's cap are fetched in pages."""
    at = writer(proxy.url)
    for i in range(5):
        create(at, f"name-{i}")
    whole = at.list_collections(TENANT, DATABASE)

    def capped(request: Request) -> Fault | None:
        if request.method == "GET" and request.path.endswith("/collections"):
            shown = [{"id": c.id, "name": c.name, "tenant": TENANT} for c in whole[:2]]
            return Answer(200, orjson.dumps(shown))
        return None

    proxy.fault = capped
    assert {c.id for c in at.list_collections(TENANT, DATABASE)} == {c.id for c in whole}


def test_a_server_that_stops_is_unreachable_and_comes_back(server: ChromaServer) -> None:
    """A killed server is unreachable, and is used again, with its records, once it is back."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["a"]))
    server.kill()
    with pytest.raises(ServerUnreachable):
        at.count(made)
    server.start()
    assert at.count(made) == 1
    assert at.side is Side.REPLICA
    assert definition().name == made.name

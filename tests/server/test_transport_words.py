"""What is said of a server's answers: whole addresses, its own words set apart, full stops."""

from __future__ import annotations

import orjson
import pytest

from chromasync.chroma.age import is_too_old
from chromasync.errors import (
    AccessRefused,
    NotChroma,
    RequestRefused,
    ServerBusy,
    ServerError,
    ServerFault,
    ServerTooOld,
)
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, Fault, RecordingProxy, Request
from tests.conftest import ProxyMaker
from tests.server.transport_samples import (
    TENANT,
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    reader,
)

DATABASES = f"/api/v2/tenants/{TENANT}/databases"


@pytest.fixture
def proxy(make_proxy: ProxyMaker) -> RecordingProxy:
    """A proxy that answers by itself; nothing stands behind it."""
    return make_proxy("http://127.0.0.1:9", prefix="/base")


def said_of(proxy: RecordingProxy, answer: Answer) -> ServerError:
    """The error of a request that is answered like this."""
    proxy.fault = lambda _: answer
    with pytest.raises(ServerError) as raised:
        reader(proxy.url, attempts=1).list_databases(TENANT)
    return raised.value


@pytest.mark.parametrize(
    ("location", "shown", "base"),
    [
        (
            f"https://chroma.example:8443/vectors{DATABASES}",
            f"https://chroma.example:8443/vectors{DATABASES}",
            "https://chroma.example:8443/vectors",
        ),
        (
            f"https://someone:pw@chroma.example{DATABASES}?key=1",
            f"https://chroma.example{DATABASES}",
            "https://chroma.example",
        ),
        (f"/elsewhere{DATABASES}", "{root}" + f"/elsewhere{DATABASES}", "{root}/elsewhere"),
        (f"//[::1]:81{DATABASES}", f"http://[::1]:81{DATABASES}", "http://[::1]:81"),
        ("https://login.example:1/sign-in?to=x", "https://login.example:1/sign-in", None),
    ],
)
def test_a_redirect_is_told_with_its_whole_address(
    proxy: RecordingProxy, location: str, shown: str, base: str | None
) -> None:
    """Port and path included; and the URL to set, where it leads to the same path elsewhere."""
    error = said_of(proxy, Answer(308, b"", {"location": location}))
    root = proxy.url.removesuffix("/base")
    assert type(error) is NotChroma
    assert f"redirects to {shown.format(root=root)}; redirects are not followed." in error.what
    if base is not None:
        assert error.hint == f"Set PRIMARY_URL to {base.format(root=root)} if that is your server."
    else:
        assert "login page" in error.hint
    assert "pw" not in str(error)
    assert "key=1" not in str(error)


@pytest.mark.parametrize("headers", [{}, {"location": "http://host:port/x"}])
def test_a_redirect_to_nowhere_is_told_without_an_address(
    proxy: RecordingProxy, headers: dict[str, str]
) -> None:
    """Without an address, or with one that cannot be read, there is nothing to name."""
    error = said_of(proxy, Answer(302, b"", headers))
    assert f"at {proxy.url} redirects; redirects are not followed." in error.what


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(401, b'{"error":"Auth","message":"Forbidden"}'), AccessRefused),
        (Answer(400, b'{"error":"x","message":"too odd."}'), RequestRefused),
        (
            Answer(500, b'{"error":"x","message":"(code: 13) database or disk is full"}'),
            ServerFault,
        ),
        (Answer(503, b"later\n"), ServerBusy),
        (Answer(404, b"no page"), NotChroma),
        (Answer(500, b""), ServerFault),
    ],
)
def test_the_words_of_a_server_are_set_apart(
    proxy: RecordingProxy, answer: Answer, kind: type[ServerError]
) -> None:
    """They stand between quotation marks, and every sentence ends with a full stop."""
    error = said_of(proxy, answer)
    assert type(error) is kind
    if answer.body:
        body = answer.body.decode().strip()
        own = orjson.loads(body)["message"] if body.startswith("{") else body
        assert error.what.endswith(f': "{own}".')
    parts = (error.what, error.untouched, error.hint)
    assert [part for part in parts if part and not part.endswith(".")] == []


# ---- servers that are too old ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "too_old"),
    [
        ("0.5.23", True),
        ("0.4.24.dev1", True),
        ("0.6.2", True),
        ("0.6.3", False),
        ("0.10.0", False),
        ("1.0.0", False),
        ("unknown", False),
        ("", False),
        (None, False),
        ({"version": "0.1.0"}, False),
    ],
)
def test_what_is_too_old(version: object, *, too_old: bool) -> None:
    """Everything before 0.6.3 is; what cannot be read as a version is not."""
    assert is_too_old(version) == too_old


def aged(version: str, *, second: bool) -> Fault:
    """An old server: it knows a version, a heartbeat, and no list of databases."""

    def answer(request: Request) -> Fault | None:
        ours = request.path.startswith("/base/api/v2/")
        if request.path.endswith("/version"):
            return Answer(200, orjson.dumps(version)) if ours == second else Answer(404, b"{}")
        if request.path.endswith("/heartbeat") and ours and second:
            return Answer(200, b'{"nanosecond heartbeat": 1}')
        return Answer(405 if second else 404, b'{"detail":"Not Found"}')

    return answer  # type: ignore[return-value]


@pytest.mark.parametrize(("version", "second"), [("0.5.23", True), ("0.4.24", False)])
def test_a_server_that_is_too_old_is_called_so(
    proxy: RecordingProxy, version: str, *, second: bool
) -> None:
    """By the first request of a cycle and by what the doctor asks; with its version."""
    proxy.fault = aged(version, second=second)  # type: ignore[assignment]
    at = reader(proxy.url)
    for ask in (lambda: at.list_databases(TENANT), at.capabilities):
        with pytest.raises(ServerTooOld) as raised:
            ask()
        assert f"calls itself Chroma {version}, and servers before 0.6.3" in str(raised.value)
        assert raised.value.exit_code == 4


def test_a_new_server_is_not_asked_for_its_age(
    server: ChromaServer, make_proxy: ProxyMaker
) -> None:
    """A path that it does not know is told as before, and what is missing costs no more."""
    proxy = make_proxy(server.url)
    with pytest.raises(NotChroma, match="knows no such path"):
        reader(proxy.url)._client.request("GET", "/nowhere", bytes)
    assert [r.path for r in proxy.requests] == ["/nowhere", "/api/v2/version"]

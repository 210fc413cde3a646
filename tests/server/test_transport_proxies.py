"""Proxies of the environment: used where they are meant, named when they fail, never told."""

from __future__ import annotations

import gc
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chromasync.chroma.proxies import proxy_for
from chromasync.errors import (
    AccessRefused,
    NotChroma,
    ServerError,
    ServerUnreachable,
    SettingsError,
    UntrustedCertificate,
)
from chromasync.lab.chroma_server import ChromaServer, free_port
from chromasync.lab.proxy import RecordingProxy
from tests.conftest import ProxyMaker
from tests.server.certificates import server_tls
from tests.server.transport_samples import (
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    reader,
    records,
    writer,
)
from tests.support.gateway import Gateway

FAR = "http://chroma.internal:8000"
"""A server that nobody can reach but the proxy."""

GatewayMaker = Callable[..., Gateway]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever this machine has in its environment does not count here."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    yield
    gc.collect()  # what was left open is closed before the next test


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ChromaServer]:
    """One server for all tests of this module."""
    with ChromaServer() as server:
        yield server


@pytest.fixture
def make_gateway(shared_server: ChromaServer, cleanup: ExitStack) -> GatewayMaker:
    """Starts proxies that lead to the server."""

    def make(url: str = shared_server.url, user: str = "", password: str = "") -> Gateway:
        return cleanup.enter_context(Gateway(url, user, password))

    return make


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
def test_a_server_is_asked_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, make_gateway: GatewayMaker, variable: str, scheme: str
) -> None:
    """Reads and writes go through it, and the proxy looks the server's name up."""
    gateway = make_gateway()
    monkeypatch.setenv(variable, gateway.url(scheme))
    at = writer(FAR)
    made = create(at, f"by-{variable}-{scheme}")
    at.upsert(made, records(["a", "b"]))
    assert reader(FAR).list_ids(made, offset=0, limit=9) == ["a", "b"]
    assert set(gateway.passed) == {
        (scheme[:5] if scheme != "http" else "forward", "chroma.internal")
    }
    assert reader(FAR).proxy == f"proxy {gateway.url(scheme)} (from {variable})"


@pytest.mark.parametrize(("scheme", "way"), [("http", "forward"), ("socks5", "socks")])
def test_a_name_beyond_ascii_is_asked_for_as_it_is_registered(
    monkeypatch: pytest.MonkeyPatch, make_gateway: GatewayMaker, scheme: str, way: str
) -> None:
    """Capital letters do not count, and ß is a letter of its own."""
    gateway = make_gateway()
    monkeypatch.setenv("ALL_PROXY", gateway.url(scheme))
    assert reader("http://Straße.example:8000").capabilities().version
    assert set(gateway.passed) == {(way, "xn--strae-oqa.example")}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_tls_goes_through_a_tunnel(
    monkeypatch: pytest.MonkeyPatch,
    make_gateway: GatewayMaker,
    make_proxy: ProxyMaker,
    shared_server: ChromaServer,
    pem: tuple[Path, Path],
    *,
    scheme: str,
) -> None:
    """The certificate that counts is the server's: a proxy changes nothing about that."""
    secure = make_proxy(shared_server.url, tls=server_tls(pem[1]))
    gateway = make_gateway(secure.url)
    monkeypatch.setenv("HTTPS_PROXY", gateway.url(scheme))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    far = "https://chroma.internal:8443"
    assert reader(far, verify=False).capabilities().version
    assert set(gateway.passed) == {("tunnel" if scheme == "http" else "socks", "chroma.internal")}
    with pytest.raises(UntrustedCertificate, match="PRIMARY_CA_FILE"):
        reader(far, ca_file=pem[0]).capabilities()


@pytest.mark.parametrize(
    ("url", "spared"),
    [
        ("http://chroma.internal:8000", True),
        ("http://internal:8000", True),
        ("http://other.example:8000", False),
        ("http://other.example:9000", True),
        ("http://10.7.8.9:8000", True),
        ("http://11.7.8.9:8000", False),
        ("http://[fd00::7]:8000", True),
        ("http://[fe00::7]:8000", False),
        ("http://192.0.2.1", True),
        ("http://[2001:db8::1]:1", True),
    ],
)
def test_no_proxy_spares_servers(
    monkeypatch: pytest.MonkeyPatch, url: str, *, spared: bool
) -> None:
    """Names with what is below them, names with a port, addresses and networks."""
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    spares = ".internal, other.example:9000,10.0.0.0/8,fd00::/8,192.0.2.1,[2001:db8::1], :no"
    monkeypatch.setenv("NO_PROXY", spares)
    assert (proxy_for(url) is None) == spared
    monkeypatch.setenv("no_proxy", "a.example,*")
    assert proxy_for(url) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_this_machine_is_asked_directly(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """No proxy is meant for the machine itself, not even one that cannot be used."""
    monkeypatch.setenv("ALL_PROXY", "nonsense://")
    assert proxy_for(f"http://{host}:8000") is None


def test_a_proxy_for_others_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What HTTPS_PROXY says does not matter to a server on plain http."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://")
    assert proxy_for(FAR) is None
    monkeypatch.setenv("ALL_PROXY", "http://one:1")
    monkeypatch.setenv("HTTP_PROXY", "http://two:2")
    assert str(proxy_for(FAR)) == "proxy http://two:2 (from HTTP_PROXY)"


@pytest.mark.parametrize(
    "value",
    [
        "quic://someone:s3cret@proxy.example:1",
        "socks://someone:s3cret@proxy.example",
        "socks4://proxy.example",
        "not a url",
        "http://",
        "http://proxy.example:port",
        "http://someone:s3cret/@proxy.example",
        "http://[::1",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """It names the variable and what can be used, and tells no password."""
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(SettingsError) as raised:
        reader(FAR)
    text = str(raised.value)
    assert "http_proxy names the proxy" in text
    assert "socks5://" in text
    assert "s3cret" not in text
    assert "someone" not in text


def test_socks_without_its_extra_is_a_settings_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable, the address without credentials, and the extra."""
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://someone:s3cret@proxy.example:1080")
    with pytest.raises(SettingsError) as raised:
        reader(FAR)
    text = str(raised.value)
    assert "proxy socks5://proxy.example:1080 (from ALL_PROXY)" in text
    assert "pip install 'chromasync[socks]'" in text
    assert "s3cret" not in text


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("far", [FAR, "https://chroma.internal"])
def test_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str, far: str) -> None:
    """Not the server is away but the proxy: its address and its variable are told."""
    port = free_port()
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://someone:s3cret@127.0.0.1:{port}")
    with pytest.raises(ServerUnreachable) as raised:
        reader(far, attempts=1).capabilities()
    text = str(raised.value)
    assert text.startswith(f"The proxy {scheme}://127.0.0.1:{port} (from ALL_PROXY), through which")
    assert f"the primary at {far} is asked, cannot be reached" in text
    assert "NO_PROXY" in text
    assert "s3cret" not in text


def test_a_proxy_without_a_host_that_can_be_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt proxy is not taken for a misspelt server."""
    monkeypatch.setenv("HTTP_PROXY", "no-such-proxy.invalid:3128")
    with pytest.raises(ServerUnreachable, match=r"proxy http://no-such-proxy.invalid:3128 \(from"):
        reader(FAR, attempts=1).capabilities()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("far", [FAR, "https://chroma.internal"])
@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_proxy_that_wants_credentials_is_named(
    monkeypatch: pytest.MonkeyPatch,
    make_gateway: GatewayMaker,
    scheme: str,
    far: str,
    password: str,
) -> None:
    """Missing or wrong ones are an error about the proxy's variable, not about a token."""
    gateway = make_gateway(user="someone", password="s3cret")
    user = "someone" if password else ""
    monkeypatch.setenv("ALL_PROXY", gateway.url(scheme, user=user, password=password))
    with pytest.raises(AccessRefused) as raised:
        reader(far).capabilities()
    text = str(raised.value)
    assert f"proxy {gateway.url(scheme)} (from ALL_PROXY) does not connect" in text
    assert "Check the user name and the password in ALL_PROXY." in text
    assert gateway.passed == []


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_credentials_go_to_the_proxy_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
    make_gateway: GatewayMaker,
    make_proxy: ProxyMaker,
    shared_server: ChromaServer,
    scheme: str,
) -> None:
    """The proxy lets us through with them, and the server never sees them."""
    recording: RecordingProxy = make_proxy(shared_server.url)
    gateway = make_gateway(recording.url, user="someone", password="s3cret")
    monkeypatch.setenv("HTTP_PROXY", gateway.url(scheme, user="someone", password="s3cret"))
    at = reader(FAR)
    assert at.capabilities().version
    assert gateway.passed
    assert "s3cret" not in at.proxy
    assert not [r for r in recording.requests if "Proxy-Authorization" in r.headers]


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """A server that answers this to whatever comes; its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


PAGE = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n<html>hi</html>"
GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
WRONG_WAYS: list[tuple[str, str, bytes, type[ServerError]]] = [
    ("socks5", FAR, b"HTTP/1.1 400 Bad Request\r\n\r\n", ServerUnreachable),
    ("socks5", FAR, b"", ServerUnreachable),
    ("http", FAR, b"\x05\xff", ServerUnreachable),
    ("http", FAR, PAGE, NotChroma),
    ("http", FAR, GATEWAY, ServerUnreachable),
    ("http", "https://chroma.internal", GATEWAY, ServerUnreachable),
]


@pytest.mark.parametrize(("scheme", "far", "answer", "kind"), WRONG_WAYS)
def test_something_else_in_place_of_the_proxy_is_named(
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    far: str,
    answer: bytes,
    kind: type[ServerError],
) -> None:
    """A proxy of another kind, a web site, a proxy that finds nobody: the proxy is named."""
    with speaking(answer) as port:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
        with pytest.raises(kind) as raised:
            reader(far, attempts=1).capabilities()
    assert f"proxy {scheme}://127.0.0.1:{port} (from ALL_PROXY)" in str(raised.value)
    assert f"primary at {far}" in str(raised.value)

"""How a server is reached: prefixes, headers, tokens, TLS, and settings that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from chromasync.chroma import ChromaReader, Connection
from chromasync.errors import Retry, ServerUnreachable, SettingsError, UntrustedCertificate
from chromasync.lab.chroma_server import ChromaServer, LocalServerError, free_port
from chromasync.model import Side
from tests.conftest import ProxyMaker
from tests.server.certificates import server_tls
from tests.server.transport_samples import (
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    reader,
    records,
    writer,
)


def test_a_path_prefix_is_kept(server: ChromaServer, make_proxy: ProxyMaker) -> None:
    """A server behind a path prefix is used through it, with or without a last slash."""
    proxy = make_proxy(server.url, prefix="/chroma/one")
    made = create(writer(f"{proxy.url}/"))
    writer(proxy.url).upsert(made, records(["a"]))
    assert reader(proxy.url).count(made) == 1
    assert all(request.path.startswith("/chroma/one/") for request in proxy.requests)


def test_headers_and_token_go_with_every_request(
    server: ChromaServer, make_proxy: ProxyMaker
) -> None:
    """Extra headers and the token are sent each time, and appear in no representation."""
    proxy = make_proxy(server.url)
    secret: dict[str, Any] = {"headers": {"Authorization": "Bearer s3cret"}, "token": "t0ken"}
    at = writer(proxy.url, **secret)
    create(at)
    sent = [{k.lower(): v for k, v in request.headers.items()} for request in proxy.requests]
    assert sent
    assert all(headers["authorization"] == "Bearer s3cret" for headers in sent)
    assert all(headers["x-chroma-token"] == "t0ken" for headers in sent)
    shown = repr(Connection(Side.PRIMARY, "http://u:pw@h", **secret))
    assert not [word for word in ("s3cret", "t0ken", "pw") if word in shown]


def test_tls_with_an_own_authority(
    server: ChromaServer, make_proxy: ProxyMaker, pem: tuple[Path, Path]
) -> None:
    """A certificate is checked against the given authority, or not at all when so asked."""
    authority, leaf = pem
    proxy = make_proxy(server.url, tls=server_tls(leaf))
    made = create(writer(proxy.url, ca_file=authority))
    assert reader(proxy.url, verify=False).count(made) == 0
    with pytest.raises(UntrustedCertificate, match="certificate"):
        reader(proxy.url).capabilities()


@pytest.mark.parametrize("trusted", [True, False], ids=["misnamed", "untrusted"])
def test_a_certificate_that_is_refused_names_the_settings(
    server: ChromaServer, make_proxy: ProxyMaker, pem: tuple[Path, Path], *, trusted: bool
) -> None:
    """Of an unknown authority, or for another name: its settings are told, and no resuming."""
    authority, leaf = pem
    proxy = make_proxy(server.url, tls=server_tls(leaf))
    url = proxy.url.replace("127.0.0.1", "localhost" if trusted else "127.0.0.1")
    for make, side in ((reader, "PRIMARY"), (writer, "REPLICA")):
        with pytest.raises(UntrustedCertificate) as raised:
            make(url, ca_file=authority if trusted else None).capabilities()
        text = str(raised.value)
        assert f"The certificate of the {side.lower()} at {url} is not trusted: " in text
        assert [n for n in ("URL", "CA_FILE", "TLS_VERIFY") if f"{side}_{n}" not in text] == []
        assert "resume" not in text
        assert (raised.value.exit_code, raised.value.retry) == (4, Retry.PERMANENT)
    assert proxy.requests == []


def test_tls_with_a_client_certificate(
    server: ChromaServer, make_proxy: ProxyMaker, pem: tuple[Path, Path]
) -> None:
    """A server that asks for a client certificate gets it, and refuses those without."""
    authority, leaf = pem
    context = server_tls(leaf)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    proxy = make_proxy(server.url, tls=context)
    trusted = {"ca_file": authority, "attempts": 1}
    assert reader(proxy.url, client_cert=leaf, **trusted).capabilities().version
    with pytest.raises(ServerUnreachable):
        reader(proxy.url, **trusted).capabilities()


@pytest.mark.parametrize(
    "options",
    [
        {"url": "localhost:8000"},
        {"url": "ftp://host"},
        {"url": "http://"},
        {"url": "http://host:port"},
        {"url": "http://host/?query=1"},
        {"url": "http://h€st:8000"},
        {"url": "http://ex_ample..:1"},
        {"url": f"http://{'a' * 64}.example:1"},
        {"url": "http://host/\udcff"},
        {"headers": {"bad name": "x"}},
        {"headers": {"name": "s3cret\r\nInjected: 1"}},
        {"token": "s3cret\n"},
        {"token": "s3creté"},
        {"token": "s3cret\udcff"},
        {"headers": {"name": "s3cret\x80"}},
        {"token": "s3cret "},
        {"token": "\ts3cret"},
        {"headers": {"name": " s3cret"}},
        {"headers": {"Content-Length": "5"}},
        {"headers": {"host": "s3cret"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"connection": "s3cret"}},
        {"headers": {"te": "trailers"}},
        {"url": "https://host", "ca_file": Path("/nowhere/ca.pem")},
        {"url": "https://host", "client_cert": Path("/nowhere/cert.pem")},
    ],
    ids=ascii,
)
def test_unusable_settings_are_named(options: dict[str, Any]) -> None:
    """What can never work is a settings error at once, which tells no secret."""
    filled = {"url": "http://127.0.0.1:1"} | options
    with pytest.raises(SettingsError) as raised:
        ChromaReader(Connection(Side.PRIMARY, **filled))
    assert "primary" in str(raised.value).lower()
    assert "s3cret" not in str(raised.value)


def test_an_error_hides_name_and_password() -> None:
    """User name and password of a URL appear in no message."""
    at = reader(f"http://someone:s3cret@127.0.0.1:{free_port()}/prefix", attempts=1)
    with pytest.raises(ServerUnreachable) as raised:
        at.capabilities()
    assert "s3cret" not in str(raised.value)
    assert "someone" not in str(raised.value)
    assert "/prefix" in str(raised.value)


def test_a_local_server_says_why_it_did_not_start(server: ChromaServer, tmp_path: Path) -> None:
    """A taken port or a command that fails ends in an error with the reason."""
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(LocalServerError, match=f"Port {port}"):
        ChromaServer(tmp_path / "one", port=port).start()
    broken = ["python3", "-c", "import sys; sys.exit('no luck today')"]
    with pytest.raises(LocalServerError, match="no luck today"):
        ChromaServer(tmp_path / "two", command=broken).start()


def test_a_local_server_keeps_its_data_when_killed(server: ChromaServer) -> None:
    """Killed and started again, a local server has its URL and its records as before."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["a"]))
    url, pid = server.url, server.pid
    server.kill()
    server.start()
    assert (server.url, server.pid == pid) == (url, False)
    assert at.list_ids(made, offset=0, limit=9) == ["a"]

"""How connections to one server are made: directly, or through a proxy."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from urllib3.connection import ProxyConfig
from urllib3.util import parse_url

from chromasync.chroma import no_answer, timed_socks
from chromasync.chroma.no_answer import NoAnswer
from chromasync.chroma.proxies import DEFAULT_PORTS, Proxy
from chromasync.chroma.timed import Timed, TimedTls


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one server.

    Attributes:
        make: makes a connection, not yet connected.
        failure: what an error means that came before there was a connection.
        before_target: stands before the path in each request.
        headers: go with each request, for the proxy alone.
    """

    make: Callable[[], Timed]
    failure: Callable[[Exception], NoAnswer] = no_answer.while_connecting
    before_target: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def route_to(url: str, tls: ssl.SSLContext | None, proxy: Proxy | None) -> Route:
    """The route to the server of a URL; `tls` is needed for https only."""
    host, port = _address(url)
    is_secure = urlsplit(url).scheme == "https"
    if proxy is None:
        return Route(lambda: _direct(host, port, tls if is_secure else None))
    if proxy.is_socks:
        return _through_socks(host, port, tls if is_secure else None, proxy)
    if is_secure:
        return _through_tunnel(host, port, tls, proxy)
    return _forwarded(host, port, proxy)


def target_of(url: str) -> str:
    """Path and query of a URL as they are sent."""
    return parse_url(url).request_uri


def _direct(host: str, port: int, tls: ssl.SSLContext | None) -> Timed:
    return Timed(host, port) if tls is None else TimedTls(host, port, ssl_context=tls)


def _forwarded(host: str, port: int, proxy: Proxy) -> Route:
    """Each request names the server, and the proxy asks it."""
    at, its_port = _address(proxy.url)
    tls = _tls_of(proxy)
    return Route(
        lambda: _direct(at, its_port, tls),
        before_target=f"http://{_netloc(host, port, DEFAULT_PORTS['http'])}",
        headers=_credentials(proxy),
    )


def _through_tunnel(host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy) -> Route:
    """The proxy joins both ends; it cannot read what passes."""
    at, its_port = _address(proxy.url)
    its_tls = _tls_of(proxy)
    headers = {"Host": _netloc(host, port), **_credentials(proxy)}
    # the library speaks TLS to the proxy only if it is told of it twice
    config = None if its_tls is None else ProxyConfig(its_tls, False, None, None)

    def make() -> Timed:
        connection = TimedTls(at, its_port, ssl_context=tls, proxy_config=config)
        scheme = "http" if its_tls is None else "https"
        connection.set_tunnel(host, port, headers=headers, scheme=scheme)
        return connection

    return Route(make)


def _through_socks(host: str, port: int, tls: ssl.SSLContext | None, proxy: Proxy) -> Route:
    def failure(error: Exception) -> NoAnswer:
        return timed_socks.while_connecting(error) or no_answer.while_connecting(error)

    return Route(timed_socks.maker(proxy.url, host, port, tls), failure)


def _address(url: str) -> tuple[str, int]:
    """Host and port of a URL; a name with letters beyond ASCII as it is looked up."""
    parts = parse_url(url)
    host = (parts.host or "").removeprefix("[").removesuffix("]")
    return host, parts.port or DEFAULT_PORTS[parts.scheme or "http"]


def _netloc(host: str, port: int, usual_port: int | None = None) -> str:
    named = f"[{host}]" if ":" in host else host
    return named if port == usual_port else f"{named}:{port}"


def _tls_of(proxy: Proxy) -> ssl.SSLContext | None:
    """How TLS is spoken to the proxy itself; None when it is not."""
    return ssl.create_default_context() if proxy.scheme == "https" else None


def _credentials(proxy: Proxy) -> dict[str, str]:
    """The header with the proxy's user name and password, if there are any."""
    parts = urlsplit(proxy.url)
    if not parts.username and not parts.password:
        return {}
    words = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}

"""Finds the proxy of a server in the environment, and checks it.

The standard library reads the variables and NO_PROXY, so they mean the same as for other programs.
Networks in NO_PROXY (10.0.0.0/8) are read here.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from chromasync.config.shown import hide_secrets
from chromasync.errors import SettingsError

SCHEMES = ("http", "https", "socks5", "socks5h")
DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_LIKE_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that can be used.

    Attributes:
        variable: the environment variable that names it.
        url: its address, with user name and password if given; never show it.
    """

    variable: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        return f"proxy {parts.scheme}://{host}{port} (from {self.variable})"

    @property
    def scheme(self) -> str:
        """How it is spoken to."""
        return urlsplit(self.url).scheme

    @property
    def is_socks(self) -> bool:
        """Whether it is a SOCKS proxy, which tunnels any connection."""
        return self.scheme.startswith("socks")


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a server; None when the server is reached directly.

    Servers on this machine are always reached directly.

    Raises:
        SettingsError: the proxy cannot be used.
    """
    parts = urlsplit(url)
    host, scheme = parts.hostname or "", parts.scheme
    named = getproxies()
    kind = scheme if named.get(scheme) else "all"
    value = named.get(kind)
    if not value or host in _LOOPBACK:
        return None
    port = parts.port or DEFAULT_PORTS[scheme]
    if proxy_bypass(f"{host}:{port}") or _is_spared(host, named.get("no", "")):
        return None
    return _checked(_variable(kind), value if "://" in value else f"http://{value}")


def is_usable(url: str, schemes: tuple[str, ...]) -> bool:
    """Whether a URL has one of the schemes and a valid host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
        _ = url.encode()
        _ = parse_url(url)  # checks the host more strictly
        _ = host.encode("idna")  # the lookup does the same
        if _LIKE_IPV4.fullmatch(host):
            _ = ipaddress.IPv4Address(host)
    except (ValueError, LocationParseError):
        return False
    is_clean = not re.search(r"\s", host) and not _CONTROL.search(url)
    return parts.scheme in schemes and bool(host) and is_clean


def _is_spared(host: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names all hosts, or an address or a network of this host."""
    entries = [entry.strip() for entry in no_proxy.split(",")]
    if "*" in entries:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in map(_network, entries) if network is not None)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The network in an entry of NO_PROXY; None when the entry is a name."""
    try:
        return ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return None


def _variable(kind: str) -> str:
    """The real name of the variable; lower case takes precedence over upper case."""
    names = (f"{kind}_proxy", f"{kind.upper()}_PROXY")
    return next((name for name in names if os.environ.get(name)), "this system's proxy settings")


def _checked(variable: str, url: str) -> Proxy:
    """A checked proxy; raises SettingsError, without its credentials."""
    if not is_usable(url, SCHEMES):
        raise SettingsError(
            f"{variable} names the proxy {hide_secrets(url)!r}, which cannot be used.",
            untouched="Nothing was sent.",
            hint="It must begin with http://, https://, socks5:// or socks5h://, and name a "
            "host. Servers named in NO_PROXY are reached without it.",
        )
    proxy = Proxy(variable, url)
    if proxy.is_socks and importlib.util.find_spec("socks") is None:
        raise SettingsError(
            f"The {proxy} speaks SOCKS, and the extra `socks` of chromasync is not installed.",
            untouched="Nothing was sent.",
            hint="Install it with `pip install 'chromasync[socks]'`, or name the server in "
            "NO_PROXY to reach it without the proxy.",
        )
    return proxy

"""Who may read the page, and who may press its buttons.

    no token, on loopback    everybody on this machine reads; no buttons
    no token, beyond it      everybody who reaches the port reads; the page says so; no buttons
    a token                  who has it reads and presses

Without a token there are no buttons, on loopback neither: an approval deletes records, and every
local user and every program that can be made to fetch a URL reaches a loopback port.

The token comes as `Authorization: Bearer`, or once in a form that then sets a cookie. The cookie
holds no token but a signature that ends after a while; another token ends it, a restart does not.
A browser sends a cookie by itself, so what is asked for with one must come from our own page: the
browser says where a request comes from, and the page carries a second signature.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from urllib.parse import urlsplit

from starlette.requests import Request

COOKIE = "chromasync_session"
SESSION_SECONDS = 12 * 3600
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """Decides about requests.

    Args:
        token: the token that readers must send; None to let everybody read.
        host: the address on which the page listens.
    """

    def __init__(self, token: str | None, host: str) -> None:
        self._token = token
        self.is_local = is_loopback(host)

    @property
    def has_token(self) -> bool:
        """Whether a token is required."""
        return self._token is not None

    @property
    def is_open(self) -> bool:
        """Whether everybody who reaches this machine can read."""
        return self._token is None and not self.is_local

    def knows_host(self, request: Request) -> bool:
        """Whether the request was meant for this server.

        A page of another site can let its own name lead to a loopback address. Its requests then
        carry that name. With a token they get nothing anyway.
        """
        if self.has_token or not self.is_local:
            return True
        name = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return name in LOOPBACK_NAMES or is_loopback(name)

    def admits(self, request: Request) -> bool:
        """Whether the request may read."""
        return not self.has_token or self._has_bearer(request) or self._session(request) != ""

    def lets_steer(self, request: Request) -> bool:
        """Whether buttons are shown to whoever sent the request."""
        return self.has_token and self.admits(request)

    def trusts_form(self, request: Request, signature: str) -> bool:
        """Whether a form was sent from our own page by someone who may press its buttons."""
        if not self.lets_steer(request):
            return False
        if self._has_bearer(request):  # no browser adds this header by itself
            return True
        return is_same_origin(request) and same(signature, self.form_signature(request))

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes equally long for every wrong one."""
        return self._token is not None and same(given, self._token)

    def new_session(self) -> str:
        """The value of a cookie that admits for a while."""
        until = str(int(time.time()) + SESSION_SECONDS)
        return f"{until}.{self._sign('session', until)}"

    def form_signature(self, request: Request) -> str:
        """What the page's forms carry, different for each session."""
        return self._sign("form", self._session(request))

    def _has_bearer(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given.strip())

    def _session(self, request: Request) -> str:
        """The valid session in the cookie; empty if there is none."""
        value = request.cookies.get(COOKIE, "")
        until, _, signature = value.partition(".")
        valid = same(signature, self._sign("session", until))
        return value if valid and until.isdigit() and int(until) > time.time() else ""

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose} {text}".encode()
        return hmac.new((self._token or "").encode(), message, hashlib.sha256).hexdigest()


def same(given: str, known: str) -> bool:
    """Whether two texts are equal, found in a time that tells nothing about them."""
    return hmac.compare_digest(given.encode(), known.encode())


def is_same_origin(request: Request) -> bool:
    """Whether the browser says that the request comes from our own page."""
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site is not None
    return urlsplit(origin).netloc == request.headers.get("host", "")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""A webhook that takes JSON with a `text`, as Slack's, Mattermost's and Google Chat's do."""

from __future__ import annotations

import base64
import re
import ssl
import time
from contextlib import closing
from urllib.parse import unquote, urlsplit

import httpx2
import orjson

from chromasync import __version__
from chromasync.alerts.messages import Message
from chromasync.chroma.http_errors import retry_after
from chromasync.chroma.proxies import Proxy, is_usable, proxy_for, socks_errors
from chromasync.errors import AlertNotTaken, SettingsError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
ANSWER_BYTES = 2000
SHORTEST_SECRET = 4
_SPECIAL = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Webhook:
    """`Receiver` for SYNC_WEBHOOK_URL.

    Each message is one request, with short limits. Redirects are not followed: a POST would become
    a GET, and the answer of another page would count as taken.

    Raises:
        SettingsError: the URL, or the environment's proxy, cannot be used.
    """

    name = "webhook"

    def __init__(self, url: str) -> None:
        text = url.strip()
        if not is_usable(text, ("http", "https")):
            raise SettingsError(
                "SYNC_WEBHOOK_URL is not the URL of a webhook; its value stays hidden.",
                untouched="Nothing was started.",
                hint="It must begin with http:// or https:// and name a host.",
            )
        parts = urlsplit(text)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = f":{parts.port}" if parts.port else ""
        self.place = f"webhook at {parts.scheme}://{host}{port}"
        self._secrets = [
            unquote(piece)
            for piece in re.split(r"[/?&=#]", f"{parts.path}?{parts.query}")
            if len(piece) >= SHORTEST_SECRET
        ]
        self._headers = {"User-Agent": f"chromasync/{__version__}", "Host": f"{host}{port}"}
        self._headers["Content-Type"] = "application/json"
        if parts.username:
            userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(userinfo.encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._url = httpx2.URL(parts._replace(netloc=f"{host}{port}").geturl())
        self._proxy = proxy_for(text)

    def send(self, message: Message) -> None:
        """Send a message; raises AlertNotTaken."""
        # a new connection each time: messages are rare, and idle connections break
        errors: tuple[type[Exception], ...] = (
            *(httpx2.HTTPError, httpx2.StreamError, OSError),
            *socks_errors(),
        )
        try:
            with _transport(self._url.scheme, self._proxy) as http:
                self._post(http, _body(message))
        except errors as error:
            raise AlertNotTaken(f"The {self.place} {_failure(error)}{self._way}.") from None

    def _post(self, http: httpx2.HTTPTransport, body: bytes) -> None:
        limits = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS)
        request = httpx2.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=body,
            extensions={"timeout": limits.as_dict()},
        )
        response = http.handle_request(request)
        with closing(response):
            if not 200 <= response.status_code < 300:
                raise self._refused(response.status_code, response)

    def _refused(self, status: int, response: httpx2.Response) -> AlertNotTaken:
        wait = retry_after(response.headers.get("retry-after"))
        if 300 <= status < 400:
            what = f"The {self.place} redirects ({status}); redirects are not followed"
            hint = "Set SYNC_WEBHOOK_URL to the address that it redirects to."
            return AlertNotTaken(f"{what}.", hint=hint)
        said = self._shown(_beginning(response))
        answer = f': "{said}"' if said else ""
        return AlertNotTaken(
            f"The {self.place} refused the message ({status}){answer}{self._way}.",
            retry_after_seconds=wait,
        )

    @property
    def _way(self) -> str:
        return f", through the {self._proxy}" if self._proxy else ""

    def _shown(self, answer: bytes) -> str:
        """The answer as text; nothing when it repeats a part of the secret address."""
        text = answer.decode(errors="replace").strip()
        repeats = any(secret in text or secret in unquote(text) for secret in self._secrets)
        if repeats or text.startswith("<"):
            return ""
        return "".join(c if c.isprintable() else " " for c in text)[:200]


def _transport(scheme: str, proxy: Proxy | None) -> httpx2.HTTPTransport:
    # the transport alone: a client would log the address, and follow what the environment says
    secure = scheme == "https"
    return httpx2.HTTPTransport(
        verify=ssl.create_default_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        proxy=None if proxy is None else proxy.for_client(),
        trust_env=False,
    )


def _body(message: Message) -> bytes:
    """Slack reads `&`, `<` and `>` as the beginning of mentions and links, so they are escaped."""
    text = f"*{message.title}*\n{message.text}".translate(_SPECIAL)
    return orjson.dumps({"text": text})


def _beginning(response: httpx2.Response) -> bytes:
    """The first bytes of an answer, as far as they come soon."""
    deadline = time.monotonic() + ANSWER_SECONDS
    found = b""
    for piece in response.iter_raw():
        found += piece
        if len(found) >= ANSWER_BYTES or time.monotonic() > deadline:
            break
    return found[:ANSWER_BYTES]


def _failure(error: Exception) -> str:
    """What went wrong, without the words of a library, which may hold the address."""
    if isinstance(error, httpx2.ConnectTimeout):
        return "accepts no connection in time"
    if isinstance(error, httpx2.TimeoutException):
        return "did not answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a certificate that is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return f"cannot be reached ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return f"cannot be reached ({type(error).__name__})"

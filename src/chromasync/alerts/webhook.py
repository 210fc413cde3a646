"""A webhook that takes JSON with a `text`, as Slack's, Mattermost's and Google Chat's do."""

from __future__ import annotations

import base64
import re
import ssl
import time
from urllib.parse import unquote, urlsplit

import orjson

from chromasync import __version__
from chromasync.alerts.messages import Message
from chromasync.chroma.exchange import Answer, Exchange
from chromasync.chroma.http_errors import retry_after
from chromasync.chroma.no_answer import NoAnswer, NotAnsweredInTime, NotConnectedInTime
from chromasync.chroma.proxies import is_usable, proxy_for
from chromasync.chroma.route import target_of
from chromasync.chroma.timed import Limits
from chromasync.errors import AlertNotTaken, SettingsError

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
MOST_SECONDS = 30.0
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
        self._headers = {"User-Agent": f"chromasync/{__version__}"}
        self._headers["Content-Type"] = "application/json"
        if parts.username:
            userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            token = base64.b64encode(userinfo.encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._url = text
        self._is_secure = parts.scheme == "https"
        self._target = target_of(text)
        self._proxy = proxy_for(text)

    def send(self, message: Message) -> None:
        """Send a message; raises AlertNotTaken."""
        # a new connection each time: messages are rare, and idle connections break
        tls = ssl.create_default_context() if self._is_secure else None
        try:
            with Exchange(self._url, tls, self._proxy) as http:
                self._post(http, _body(message))
        except NoAnswer as error:
            raise AlertNotTaken(f"The {self.place} {_failure(error)}{self._way}.") from None

    def _post(self, http: Exchange, body: bytes) -> None:
        limits = Limits(
            connect=CONNECT_SECONDS,
            write=ANSWER_SECONDS,
            read=ANSWER_SECONDS,
            deadline=time.monotonic() + MOST_SECONDS,
        )
        with http.ask(
            "POST", self._target, headers=self._headers, body=body, limits=limits
        ) as response:
            if not 200 <= response.status < 300:
                raise self._refused(response)

    def _refused(self, response: Answer) -> AlertNotTaken:
        status = response.status
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


def _body(message: Message) -> bytes:
    """Slack reads `&`, `<` and `>` as the beginning of mentions and links, so they are escaped."""
    text = f"*{message.title}*\n{message.text}".translate(_SPECIAL)
    return orjson.dumps({"text": text})


def _beginning(response: Answer) -> bytes:
    """The first bytes of an answer, as they were sent."""
    return response.read(ANSWER_BYTES, decode_content=False)


def _failure(error: NoAnswer) -> str:
    """What went wrong, without the words of a library, which may hold the address."""
    if isinstance(error, NotConnectedInTime):
        return "accepts no connection in time"
    if isinstance(error, NotAnsweredInTime):
        return "did not answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"has a certificate that is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return f"cannot be reached ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return f"cannot be reached ({error})"

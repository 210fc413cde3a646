"""The addresses of the page: who asks for what, and what is answered.

Handlers that are not `async` run in threads, because a look at the store may take a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from chromasync import __version__
from chromasync.documents import encode, status_document
from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.memory import MEMORY_SHARE
from chromasync.web.access import COOKIE, SESSION_SECONDS, Access
from chromasync.web.actions import Actions, Asked
from chromasync.web.choice import Choice
from chromasync.web.files import KEPT, STATIC, templates
from chromasync.web.headers import SecurityHeaders
from chromasync.web.health import why_not_alive, why_not_ready
from chromasync.web.history import SPANS, Charts, Measure
from chromasync.web.metrics import Exposition
from chromasync.web.process import Operator, Process
from chromasync.web.snapshots import SnapshotCache
from chromasync.web.view import aged, view_of

LARGEST_FORM = 10_000
OPEN_TO_ALL = "This address needs the token SYNC_HTTP_TOKEN, as “Authorization: Bearer …”."
WRONG_HOST = "This page is for this machine only; ask for it at 127.0.0.1 or localhost."
Answer = Callable[[Request], Response]

log = get_logger()


class Site:
    """The page and its neighbours, as an ASGI application (`asgi`).

    Args:
        snapshots: where snapshots come from.
        access: who may read and press.
        operator: carries out what is asked for.
        process: the process of the service; None in one that only shows.
        measure: reads measurements for the charts; None where there are none.
        advice: sentences of advice for now; empty where nobody gives any.
        collections: whether metrics have labels for collections.
    """

    def __init__(
        self,
        snapshots: SnapshotCache,
        access: Access,
        operator: Operator,
        *,
        process: Process | None = None,
        measure: Measure | None = None,
        advice: Callable[[], list[str]] = list,
        collections: bool = False,
    ) -> None:
        self._snapshots = snapshots
        self._access = access
        self._actions = Actions(operator, snapshots)
        self._process = process
        self._charts = Charts(measure)
        self._advice = advice
        self._exposition = Exposition(snapshots, process, collections=collections)
        self._templates = templates()

    @cached_property
    def asgi(self) -> Starlette:
        """The application for a server."""
        return Starlette(
            routes=self._routes(),
            middleware=[Middleware(SecurityHeaders), Middleware(GZipMiddleware, minimum_size=700)],
            exception_handlers={ChromasyncError: _unavailable, Exception: _failed},
        )

    def _routes(self) -> list[BaseRoute]:
        return [
            Route("/", self._guarded(self._page, login=True)),
            Route("/live", self._guarded(self._live)),
            Route("/confirm", self._guarded(self._confirm)),
            Route("/act", self._act, methods=["POST"]),
            Route("/login", self._login_page),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/api/v1/status", self._guarded(self._status)),
            Route("/api/v1/history", self._guarded(self._history)),
            Route("/metrics", self._guarded(self._metrics)),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Mount("/static", _Files(directory=STATIC)),
        ]

    def _guarded(self, answer: Answer, *, login: bool = False) -> Answer:
        """Answer only those who may read; with `login`, lead the others to the form."""

        def guarded(request: Request) -> Response:
            if not self._access.knows_host(request):
                return PlainTextResponse(WRONG_HOST, 421)
            if self._access.admits(request):
                return answer(request)
            if login:
                return RedirectResponse("login", 303)
            return PlainTextResponse(OPEN_TO_ALL, 401, {"WWW-Authenticate": "Bearer"})

        return guarded

    # ---- the page ---------------------------------------------------------------------------

    def _page(self, request: Request) -> Response:
        return self._render("page.html", request, **self._shown(request))

    def _live(self, request: Request) -> Response:
        return self._render("live.html", request, **self._shown(request))

    def _shown(self, request: Request) -> dict[str, Any]:
        """What the live part shows: what was seen last, and why it cannot be read now."""
        latest = self._snapshots.look()
        snapshot = aged(latest)
        choice = Choice.read(request.query_params)
        view = {} if snapshot is None else view_of(snapshot, choice)
        error = None if latest.error is None else str(latest.error)
        return {"store_error": error, "choice": choice, "advice": self._advice(), **view}

    def _confirm(self, request: Request) -> Response:
        asked = Asked.read(request.query_params)
        try:
            text = self._actions.confirmation(asked)
        except ChromasyncError as error:
            return self._told(request, asked, str(error), done=False)
        return self._render("confirm.html", request, asked=asked, text=text)

    async def _act(self, request: Request) -> Response:
        form = await _form(request)
        if not self._access.trusts_form(request, form.get("signature", "")):
            return PlainTextResponse("Refused: this form is not from the page, or too old.", 403)
        asked = Asked.read(form)
        who = f"page@{request.client.host if request.client else 'unknown'}"
        try:
            told = await run_in_threadpool(self._actions.carry_out, asked, who)
        except ChromasyncError as error:
            return self._told(request, asked, str(error), done=False)
        log.info(Event.ASKED_ON_PAGE, action=asked.action, who=who)
        return self._told(request, asked, told, done=True)

    def _told(self, request: Request, asked: Asked, text: str, *, done: bool) -> Response:
        return self._render("told.html", request, asked=asked, text=text, done=done)

    def _render(self, name: str, request: Request, **values: Any) -> Response:
        steers = self._access.lets_steer(request)
        html = self._templates.get_template(name).render(
            version=__version__,
            nearly_full=MEMORY_SHARE,
            steers=steers,
            is_open=self._access.is_open,
            has_token=self._access.has_token,
            signature=self._access.form_signature(request) if steers else "",
            spans=tuple(SPANS),
            is_part="hx-request" in request.headers,
            **values,
        )
        return HTMLResponse(html)

    # ---- the token --------------------------------------------------------------------------

    def _login_page(self, request: Request) -> Response:
        if self._access.admits(request):
            return RedirectResponse("./", 303)
        return self._render("login.html", request, wrong=False)

    async def _log_in(self, request: Request) -> Response:
        form = await _form(request)
        if not self._access.is_token(form.get("token", "")):
            response = self._render("login.html", request, wrong=True)
            response.status_code = 401
            return response
        response = RedirectResponse("./", 303)
        response.set_cookie(
            COOKIE,
            self._access.new_session(),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=_is_https(request),
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        form = await _form(request)
        if not self._access.trusts_form(request, form.get("signature", "")):
            return PlainTextResponse("Refused: this form is not from the page, or too old.", 403)
        response = RedirectResponse("login", 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    # ---- for programs -----------------------------------------------------------------------

    def _status(self, request: Request) -> Response:
        del request
        latest = self._snapshots.look()
        if latest.snapshot is None or latest.error is not None:
            raise latest.error or ChromasyncError("The state store was not read yet.")
        return Response(encode(status_document(latest.snapshot)), media_type="application/json")

    def _history(self, request: Request) -> Response:
        span = request.query_params.get("span", "hour")
        latest = self._snapshots.look()
        if span not in SPANS or latest.now is None:
            return JSONResponse({"allowed": list(SPANS)}, 422 if span not in SPANS else 503)
        return JSONResponse(asdict(self._charts.lines(span, latest.now)))

    def _metrics(self, request: Request) -> Response:
        text, content_type = self._exposition.write(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    async def _healthz(self, request: Request) -> Response:
        """Answer at once, even while every thread waits for the store."""
        del request
        return _health(why_not_alive(self._process))

    def _readyz(self, request: Request) -> Response:
        del request
        return _health(why_not_ready(self._process, self._snapshots.look()))


class _Files(StaticFiles):
    """The page's own files; those that were asked for with a digest are kept by browsers."""

    def file_response(self, *args: Any, **extra: Any) -> Response:
        """Like the base class, with the time for which a browser may keep it."""
        response = super().file_response(*args, **extra)
        response.headers["cache-control"] = KEPT
        return response


def _health(why_not: str) -> Response:
    return PlainTextResponse(why_not or "ok", 503 if why_not else 200)


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a form; empty if it is too large or no form."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            return {}
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _is_https(request: Request) -> bool:
    """Whether the reader's connection is encrypted, here or at a proxy before us."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    return request.url.scheme == "https" or forwarded == "https"


async def _unavailable(request: Request, error: Exception) -> Response:
    """The state store cannot be read: said in words, and with a status for programs."""
    del request
    document = {"error": {"kind": type(error).__name__, "what": str(error)}}
    return JSONResponse(document, 503)


async def _failed(request: Request, error: Exception) -> Response:
    """A defect of ours: logged with its traceback, and told without."""
    log.error(Event.PAGE_FAILED, path=request.url.path, exc_info=error)
    return PlainTextResponse("Something unexpected happened; the service's log has it.", 500)

"""The web application of a console: its routes, and the checks before them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from importlib import resources
from typing import cast

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import bus_client
from bus_client.cli.console.api import Api
from bus_client.cli.console.connection import Connection
from bus_client.cli.console.gate import Gate, Refused
from bus_client.cli.console.hub import Hub
from bus_client.cli.console.parameters import TEXT, cursor, fields

_MAX_LOGIN = 4_096  # bytes of a request to log in
#: The types of the files of the page, by the ends of their names.
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
#: The headers that the checks rely on. (uvicorn refuses a second Host.)
_SINGLE = ("origin", "sec-fetch-site", "content-type", "transfer-encoding")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
#: HTTP statuses by the SDK's exception, or the nearest of its base classes.
_STATUS = {
    "BusError": 502,
    "InvalidArgument": 400,
    "MessageTooLarge": 413,
    "ContentBlocked": 422,
    "AccessDenied": 403,
    "NotFound": 404,
    "AlreadyExists": 409,
    "SeqConflict": 409,
    "ExpectedSeqRequired": 409,
    "ThreadClosed": 409,
    "CursorInvalid": 409,
    "QuotaExceeded": 429,
    "RateLimited": 429,
    "StorageFull": 507,
    "Unavailable": 503,
    "OutcomeUnknown": 504,
}


def application(
    connection: Connection, hub: Hub, gate: Gate, *, secure: bool, path: str
) -> ASGIApp:
    """Returns the application of a console.

    Args:
        connection: Its client.
        hub: What its pages share.
        gate: Who may use it.
        secure: Whether browsers reach it by HTTPS only.
        path: The path under which browsers find it, which ends in a slash.
    """
    api = Api(connection)

    async def log_in(request: Request) -> Response:
        given = await fields(request, {"token": TEXT}, max_body=_MAX_LOGIN)
        value, lifetime = gate.log_in(given.get("token", ""))
        response = JSONResponse({})
        response.set_cookie(
            gate.cookie,
            value,
            max_age=lifetime,
            path=path,
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return response

    async def events(request: Request) -> Response:
        given = request.headers.get("last-event-id") or request.query_params.get("after")
        epoch, seq = cursor(given) if given else ("", 0)
        until = gate.check_cookies(request.headers.getlist("cookie"))
        return _EventStream(hub.events(request.query_params.get("thread"), epoch, seq, until))

    routes = [
        Route("/login", log_in, methods=["POST"]),
        Route("/api/me", api.me),
        Route("/api/events", events),
        Route("/api/agents", api.agents),
        Route("/api/agents/{agent}", api.manage, methods=["POST"]),
        Route("/api/waits", api.waits),
        Route("/api/post", api.post, methods=["POST"]),
        Route("/api/read", api.read, methods=["POST"]),
        Route("/api/withdraw", api.withdraw, methods=["POST"]),
        Route("/api/threads", api.create, methods=["POST"]),
        Route("/api/threads/{thread}", api.thread),
        Route("/api/threads/{thread}", api.update, methods=["POST"]),
        Route("/api/threads/{thread}/export", api.export),
        Route("/api/threads/{thread}/{seq}", api.message),
        Route("/api/threads/{thread}/{seq}/{file}", api.file),
        Route("/", _static),
        Route("/{file}", _static),
    ]
    handlers = {
        Refused: _refused,
        bus_client.BusError: _failed,
        HTTPException: _not_found,
        ClientDisconnect: _gone,
        Exception: _broken,
    }
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False  # behind a proxy they would be wrong
    return _Guard(app, gate)


class _EventStream(StreamingResponse):
    """A response of server-sent events. Their source is closed when the browser has gone."""

    def __init__(self, events: AsyncGenerator[str | bytes]) -> None:
        # The header: nginx passes each event on at once.
        headers = {"X-Accel-Buffering": "no"}
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse."""
        async with aclosing(self._events):
            await super().stream_response(send)


class _Guard:
    """Checks each request before its route is looked for, and adds headers to each response."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            self._check(scope)
        except Refused as error:
            await _refusal(error)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        if any(len(headers.getlist(name)) > 1 for name in _SINGLE):
            raise Refused(400, "A header is given twice.")
        if "transfer-encoding" in headers and "content-length" in headers:
            raise Refused(400, "Transfer-Encoding and Content-Length exclude each other.")
        self._gate.check_host(headers)
        # The page itself carries nothing, and other sites may have links to it.
        if path.startswith("/api/") or method not in ("GET", "HEAD"):
            self._gate.check_origin(method, headers)
        if path.startswith("/api/"):
            self._gate.check_cookies(headers.getlist("cookie"))


async def _static(request: Request) -> Response:
    """A file of the page."""
    name = request.path_params.get("file", "index.html")
    for file in resources.files("bus_client.cli.console").joinpath("static").iterdir():
        suffix = name[name.rfind(".") :]
        if file.name == name and suffix in _TYPES:
            return Response(file.read_bytes(), media_type=_TYPES[suffix])
    raise Refused(404, "There is nothing here.")


def _refusal(error: Refused) -> Response:
    content = {"message": error.message, "reason": "", "hint": ""}
    # After 400, what follows may not be a request.
    headers = {"Connection": "close"} if error.status == 400 else None
    return JSONResponse(content, error.status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    return _refusal(cast(Refused, error))


async def _failed(_: Request, error: Exception) -> Response:
    error = cast(bus_client.BusError, error)
    names = (kind.__name__ for kind in type(error).__mro__)
    status = next(_STATUS[name] for name in names if name in _STATUS)
    return JSONResponse(
        {"message": error.message, "reason": error.reason, "hint": error.hint}, status
    )


async def _not_found(_: Request, error: Exception) -> Response:
    return _refusal(Refused(cast(HTTPException, error).status_code, "There is nothing here."))


async def _gone(_: Request, __: Exception) -> Response:
    return Response()  # which nobody gets: the body broke off


async def _broken(_: Request, __: Exception) -> Response:
    return _refusal(Refused(500, "The console failed: see its log."))

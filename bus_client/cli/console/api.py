"""What the page of a console reads and does: one call of the SDK each, as JSON."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

import bus_client
from bus_client.cli.console.connection import Connection
from bus_client.cli.console.feed import MAX_TEXT
from bus_client.cli.console.gate import Refused
from bus_client.cli.console.parameters import ASKED, NAMES, NUMBER, TEXT, cursor, fields, number
from bus_client.cli.documents import document, message_document
from bus_client.cli.requests import request_documents, server_time
from bus_client.cli.text import safe
from bus_client.cli.transfer.format import Format

if TYPE_CHECKING:
    from bus_client import BusClient, Thread, ThreadHandle

logger = logging.getLogger(__name__)

_MAX_MESSAGES = 200  # of a page of history
_PRIORITIES = ("low", "normal", "high", "urgent")
_STATES = {
    "open": bus_client.ThreadState.THREAD_STATE_OPEN,
    "closed": bus_client.ThreadState.THREAD_STATE_CLOSED,
}
_EXPORTS = {"jsonl": "application/octet-stream", "markdown": "text/markdown"}


class Api:
    """The handlers of requests under `/api/`. Each may raise BusError, and Refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def _bus(self) -> BusClient:
        return self._connection.bus

    def _handle(self, request: Request) -> ThreadHandle:
        return self._bus.thread(request.path_params["thread"])

    def _check_operator(self) -> None:
        if self._connection.kind != "operator":
            raise Refused(403, "Only operators may do this.")

    # ── Reading ─────────────────────────────────────────────────────────────────────────────────

    async def me(self, _: Request) -> Response:
        """For whom the console acts; `kind`: human, agent or operator, "" if it is not known."""
        shown = self._connection
        return JSONResponse(
            {
                "agent": shown.agent,
                "kind": shown.kind,
                "operator": shown.kind == "operator",
                "server": shown.server,
            }
        )

    async def thread(self, request: Request) -> Response:
        """A page of a thread: the newest messages, those before a seq, or those around one."""
        query = request.query_params
        before, around = (number(name, query.get(name, "0")) for name in ("before", "around"))
        limit = min(max(number("limit", query.get("limit", "100")), 1), _MAX_MESSAGES)
        thread = self._handle(request)
        info = await thread.refresh()
        end = info.head_seq + 1
        shortened: dict[str, Any] = {"omit_attachment_data": True, "max_content_bytes": MAX_TEXT}
        if around:
            first = min(max(around - limit // 2 - 1, 0), info.head_seq)
            messages = await thread.messages(
                after_seq=first, before_seq=end, limit=limit, **shortened
            )
        else:
            before_seq = min(before or end, end)
            messages = await thread.messages(
                before_seq=before_seq, limit=limit, newest=True, **shortened
            )
        return JSONResponse(
            {
                "thread": document(info, whole=True),
                "messages": [message_document(each) for each in messages],
            }
        )

    async def message(self, request: Request) -> Response:
        """A message with its whole text."""
        seq = number("seq", request.path_params["seq"])
        found = await self._handle(request).message(seq, omit_attachment_data=True)
        return JSONResponse(message_document(found))

    async def file(self, request: Request) -> Response:
        """An attached file, to be saved: never shown by the browser."""
        at = number("file", request.path_params["file"])
        seq = number("seq", request.path_params["seq"])
        message = await self._handle(request).message(seq)
        if at >= len(message.attachments) or not message.attachments[at].HasField("raw"):
            raise Refused(404, f"Message {seq} has no file {at}.")
        file = message.attachments[at]
        response = Response(file.raw, media_type="application/octet-stream")
        response.headers["Content-Disposition"] = _saved_as(file.filename or "file")
        return response

    async def agents(self, _: Request) -> Response:
        """All agents."""
        return JSONResponse([document(each) async for each in self._bus.list_agents()])

    async def export(self, request: Request) -> Response:
        """What `threadbus export` writes of a thread."""
        form = request.query_params.get("format", "jsonl")
        if form not in _EXPORTS:
            raise Refused(400, f"format must be {' or '.join(_EXPORTS)}.")
        info = await self._bus.get_thread(request.path_params["thread"])
        response = _Export(info, self._exported(info, form), media_type=_EXPORTS[form])
        name = f"{info.name}.{'md' if form == 'markdown' else form}"
        response.headers["Content-Disposition"] = _saved_as(name)
        return response

    async def _exported(self, info: Thread, form: str) -> AsyncIterator[str]:
        async for lines in Format(form).lines(self._bus, info, _ignore, _ignore):
            yield "".join(f"{line}\n" for line in lines)

    async def waits(self, _: Request) -> Response:
        """All open waits. For operators."""
        self._check_operator()
        return JSONResponse([document(each) async for each in self._bus.list_waits()])

    # ── Writing ─────────────────────────────────────────────────────────────────────────────────

    async def post(self, request: Request) -> Response:
        """Post a message."""
        given = await fields(
            request,
            {
                "thread": TEXT,
                "text": TEXT,
                "mentions": NAMES,
                "reply_to": NUMBER,
                "handoff_to": TEXT,
                "ask": ASKED,
                "priority": TEXT,
                "request_id": TEXT,
            },
        )
        thread = self._bus.thread(given.pop("thread", ""))
        priority = given.pop("priority", "normal")
        if priority not in _PRIORITIES:
            raise Refused(400, f"priority must be one of {', '.join(_PRIORITIES)}.")
        given["priority"] = bus_client.Priority.Value(f"PRIORITY_{priority.upper()}")
        given["include_recipients"] = True
        posted = await thread.post(given.pop("text", ""), **given)
        return JSONResponse(document(posted, whole=True))

    async def read(self, request: Request) -> Response:
        """Count everything up to a position as read, unless the console only watches an agent."""
        given = await fields(request, {"thread": TEXT, "cursor": TEXT})
        epoch, seq = cursor(given.get("cursor"))
        if self._connection.kind == "agent":
            return JSONResponse({})
        thread = self._bus.thread(given.get("thread", ""))
        thread.position = bus_client.Cursor(thread=thread.name, epoch=epoch, after_seq=seq)
        await thread.acknowledge()
        return JSONResponse({})

    async def create(self, request: Request) -> Response:
        """Join a thread; create it if needed."""
        given = await fields(request, {"thread": TEXT, "topic": TEXT})
        handle = await self._bus.join(given.get("thread", ""), topic=given.get("topic", ""))
        return JSONResponse(
            {"thread": document(handle.info, whole=True), "created": handle.created}
        )

    async def update(self, request: Request) -> Response:
        """Change a thread's state, or its topic and stage."""
        given = await fields(request, {"state": TEXT, "topic": TEXT, "stage": TEXT})
        thread = self._handle(request)
        if "state" not in given:
            info = await thread.update(**given)
        elif len(given) > 1:
            raise Refused(400, "Change the state alone.")
        elif given["state"] in _STATES:
            info = await thread.set_state(_STATES[given["state"]])
        else:
            raise Refused(400, f"state must be {' or '.join(_STATES)}.")
        return JSONResponse(document(info, whole=True))

    async def withdraw(self, request: Request) -> Response:
        """Withdraw the requests of a message."""
        given = await fields(request, {"thread": TEXT, "seq": NUMBER})
        found = await self._bus.thread(given.get("thread", "")).withdraw(given.get("seq", 0))
        return JSONResponse(request_documents(found, await server_time(self._bus)))

    async def manage(self, request: Request) -> Response:
        """End an agent's session, or give it a new token. For operators."""
        self._check_operator()
        agent = request.path_params["agent"]
        action = (await fields(request, {"action": TEXT})).get("action")
        if action == "kick":
            await self._bus.kick(agent)
            return JSONResponse({})
        if action == "reset":
            return JSONResponse({"token": await self._bus.reset_token(agent)})
        raise Refused(400, "action must be kick or reset.")


class _Export(StreamingResponse):
    """A response with a thread. If it breaks midway, its end is missing: the download fails."""

    def __init__(self, info: Thread, content: AsyncIterator[str], *, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._thread = info.name

    async def stream_response(self, send: Send) -> None:
        """See StreamingResponse."""
        try:
            await super().stream_response(send)
        except (bus_client.BusError, click.ClickException) as error:
            logger.warning("the export of %s broke off: %s", self._thread, safe(error.message))


def _saved_as(name: str) -> str:
    """Returns the header that has a browser save a file, under a name of any characters."""
    name = name.encode(errors="replace")[:200].decode(errors="ignore")
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _ignore(*_: object) -> None:
    """Takes note of nothing: a page shows no progress of an export."""

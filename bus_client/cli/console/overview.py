"""What every page of a console shows beside its thread: threads, requests, and the bus's state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import bus_client
from bus_client.cli.console.change import Change
from bus_client.cli.console.connection import Connection
from bus_client.cli.documents import document
from bus_client.cli.listings import first
from bus_client.cli.requests import request_documents, server_time

_POLL = 1.0  # seconds between two looks, while a page is open
_ANSWER = 3.0  # seconds without an answer after which the bus counts as unreachable
_MOST_THREADS, _MOST_REQUESTS = 200, 100


class Overview:
    """The latest threads, what is unread, and the open requests, of one console.

    Attributes:
        change: Tells of each change.
        version: Counts the changes.
        known: Whether it was read since pages want it.
    """

    def __init__(self, connection: Connection) -> None:
        self.change = Change()
        self.version = 0
        self.known = False
        self._connection = connection
        self._pages = 0
        self._wanted = asyncio.Event()
        self._seen: tuple[Any, ...] = ()
        self._lists: dict[str, list[str]] = {"threads": [], "requests": [], "unread": []}
        self._shown = self._lists  # what the version has
        self._state: dict[str, Any] = {}
        self._changes = ""

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Keep it up to date until the end of the block."""
        self._pages += 1
        self._wanted.set()
        try:
            yield
        finally:
            self._pages -= 1
            if not self._pages:
                self._wanted.clear()
                self.known = False

    async def run(self) -> None:
        """Look at the bus once a second while it is wanted, until the task is cancelled."""
        while True:
            await self._wanted.wait()
            state = {"live": True, "signed_out": ""}
            try:
                async with asyncio.timeout(_ANSWER):
                    await self._look()
            except (
                bus_client.Unauthenticated,
                bus_client.AgentExists,
                bus_client.AccessDenied,
            ) as error:
                state["signed_out"] = error.message
            except (bus_client.BusError, TimeoutError):
                state["live"] = False
            if self._wanted.is_set():  # else the next page would get it, however old it is then
                self._show(state)
            await asyncio.sleep(_POLL)

    def after(self, version: int) -> tuple[str, str]:
        """Returns the event, and its data as JSON, for a page that has got a version; 0: none.

        `overview` has all: the lists `threads`, `requests` and `unread`, and `live` (whether the
        bus answers) and `signed_out` (why the console's token is not valid, "" if it is). `changes`
        has how the lists have changed, and the other two.
        """
        if version and version == self.version - 1:
            return "changes", self._changes
        lists = {name: f"[{','.join(texts)}]" for name, texts in self._shown.items()}
        return "overview", _object(lists, self._state)

    def _show(self, state: dict[str, Any]) -> None:
        if self.known and (self._lists, state) == (self._shown, self._state):
            return
        changed = {
            name: _change(self._shown[name], texts)
            for name, texts in self._lists.items()
            if texts != self._shown[name]
        }
        self._changes = _object(changed, state)
        self._shown, self._state = dict(self._lists), state
        self.known = True
        self.version += 1
        self.change.tell()

    async def _look(self) -> None:
        bus = self._connection.bus
        threads = await first(_MOST_THREADS, bus.list_threads())
        requests = await first(_MOST_REQUESTS, bus.list_requests())
        # A heartbeat of an agent's console would replace the lease that the agent has asked for.
        person = self._connection.kind == "human"
        unread = list((await bus.heartbeat()).unread) if person else []
        now = await server_time(bus) if requests else None
        if self._seen != (threads, unread):
            self._seen = (threads, unread)
            self._lists["threads"] = _texts(document(each, whole=True) for each in threads)
            self._lists["unread"] = _texts(document(each, whole=True) for each in unread)
        self._lists["requests"] = _texts(request_documents(requests, now))


def _texts(documents: Iterable[dict[str, Any]]) -> list[str]:
    return [json.dumps(each) for each in documents]


def _object(lists: dict[str, str], state: dict[str, Any]) -> str:
    """Returns a JSON object of values that are JSON already, and of others."""
    fields = lists | {name: json.dumps(value) for name, value in state.items()}
    return f"{{{','.join(f'{json.dumps(name)}:{value}' for name, value in fields.items())}}}"


def _change(before: list[str], after: list[str]) -> str:
    """Returns how a list of JSON texts has changed, as JSON.

    First the entries at the indexes `drop` go, then those of `put`, from the first on, come to
    their indexes.
    """
    kept = {*before} & {*after}
    if [each for each in before if each in kept] != [each for each in after if each in kept]:
        kept = set()
    drop = [at for at, each in enumerate(before) if each not in kept]
    put = [f"[{at},{each}]" for at, each in enumerate(after) if each not in kept]
    return f'{{"drop":{drop},"put":[{",".join(put)}]}}'

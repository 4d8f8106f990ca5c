"""Console processes, and browsers that are none: clients that log in, and read events."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx

from bus_client.cli.console.gate import Gate
from tests.callers import operator_token_file
from tests.ports import free_port
from tests.serving import ServerProcess, store_flags

#: For whom consoles act.
PERSON = "console-ann"
_COMMAND = [sys.executable, "-m", "bus_client.cli"]
_ANNOUNCED = re.compile(r"console (http\S+)#token=(\S+) · (.*)\n")


def environment(home: Path) -> dict[str, str]:
    """Returns the environment of a user with a home directory of their own."""
    kept = {key: value for key, value in os.environ.items() if "THREADBUS" not in key}
    return kept | {"HOME": str(home), "XDG_DATA_HOME": str(home)}


class ConsoleProcess:
    """A console of a server, as a process of its own. A restart keeps its port.

    Attributes:
        url: The address of its page, which ends in a slash.
        token: What a browser logs in with.
        who: For whom it acts, and where, as it says.
        listening: Where it listens.
    """

    def __init__(self, server: str, home: Path, *flags: str, listen: str = "") -> None:
        self._server = server
        self._home = home
        self._flags = flags
        self.listening = listen or f"127.0.0.1:{free_port()}"
        self.url = self.token = self.who = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it, and wait until it has printed its address."""
        self.process = self.spawn()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.stop()
        self.read_address(line)
        return self

    def read_address(self, line: str) -> None:
        """Read what a console prints at its start."""
        found = _ANNOUNCED.fullmatch(line)
        assert found, line
        self.url, self.token, self.who = found.groups()

    def spawn(self) -> subprocess.Popen[str]:
        """Start it without waiting."""
        arguments = ["console", "--server", self._server, "--listen", self.listening, "--no-open"]
        return subprocess.Popen(
            [*_COMMAND, *arguments, *self._flags],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(self._home),
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal. Returns the exit code, and what it wrote to stderr."""
        process, self.process = self.process, None
        assert process is not None
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop(signal.SIGKILL)


@contextlib.contextmanager
def console_of(
    server: ServerProcess, home: Path, agent: str | None = PERSON, *flags: str
) -> Iterator[ConsoleProcess]:
    """Yields a console of a person, who is registered if needed; None: of an operator."""
    token = ("--token-file", str(operator_token_file(server.db)))
    who = ("--as", agent) if agent else ()
    with ConsoleProcess(server.address, home, *token, *who, *flags) as console:
        yield console


@contextlib.contextmanager
def serving(
    tmp_path: Path, *flags: str, listen: str = "127.0.0.1:0"
) -> Iterator[tuple[subprocess.Popen[str], ConsoleProcess]]:
    """Yields a server with a console, and the console."""
    where = ["--listen", listen, *store_flags(tmp_path / "bus.db")]
    command = [sys.executable, "-m", "bus_server", *where, "--console-as", PERSON, *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[2]
            console = ConsoleProcess(address, tmp_path)
            console.read_address(process.stdout.readline())
            yield process, console
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def browser(console: ConsoleProcess, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client that has logged in."""
    async with httpx.AsyncClient(base_url=console.url, timeout=30, **options) as client:
        response = await client.post("login", json={"token": console.token})
        assert response.status_code == 200, response.text
        yield client


def cookie_until(
    end: float, console: ConsoleProcess, home: Path, server: ServerProcess
) -> tuple[str, str]:
    """Returns the name and the value of a person's cookie that expires at a time."""
    gate = Gate(
        urls=[console.url],
        any_address=False,
        port=httpx.URL(console.url).port or 0,
        key=(home / "threadbus/console-key").read_bytes(),
        identity=f"{PERSON} {server.address}",
    )
    expires = str(int(end))
    return gate.cookie, f"{expires}.{gate._signature(expires)}"


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event. `data`: what its JSON says."""

    kind: str
    data: Any
    id: str


class Stream:
    """The events of one page. Each method waits for 30 s at most.

    An event `changes` is given as `overview`, with all of it.

    Attributes:
        raw: The events as they came.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.raw: list[Event] = []
        self._lines = response.aiter_lines()
        self._others: list[Event] = []
        self._overview: dict[str, Any] = {}

    async def next(self, kind: str, fits: Callable[[Any], bool] = lambda _: True) -> Event:
        """Returns the next event of a kind whose data fits. Drops those of its kind before it."""
        kept, self._others = self._others, []
        async with asyncio.timeout(30):
            while True:
                event = kept.pop(0) if kept else await self._next()
                assert event is not None, f"the stream ended before the event {kind}"
                if event.kind != kind:
                    self._others.append(event)
                elif fits(event.data):
                    self._others += kept
                    return event

    async def messages(self, upto: int) -> list[dict[str, Any]]:
        """Returns the next messages, up to a seq."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["seq"] < upto:
            found += (await self.next("messages")).data
        return found

    async def rest(self) -> list[Event]:
        """Returns the events up to the end of the stream."""
        events = []
        async with asyncio.timeout(30):
            while event := await self._next():
                events.append(event)
        return events

    async def _next(self) -> Event | None:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "data" in fields:
                event = Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
                self.raw.append(event)
                return self._whole(event)
            else:
                fields = {}
        return None

    def _whole(self, event: Event) -> Event:
        if event.kind == "overview":
            self._overview = event.data
        elif event.kind == "changes":
            before, self._overview = self._overview, self._overview | event.data
            for name in ("threads", "requests", "unread"):
                change = event.data.get(name, {"drop": [], "put": []})
                left = [each for at, each in enumerate(before[name]) if at not in change["drop"]]
                for at, each in change["put"]:
                    left.insert(at, each)
                self._overview[name] = left
            return Event("overview", self._overview, "")
        return event


@contextlib.asynccontextmanager
async def events(
    client: httpx.AsyncClient, thread: str = "", after: str = "", last: str = ""
) -> AsyncIterator[Stream]:
    """Yields the open stream of events of a page. `last`: the id of the last event it got."""
    params = {key: value for key, value in (("thread", thread), ("after", after)) if value}
    headers = {"Last-Event-ID": last} if last else {}
    async with client.stream("GET", "api/events", params=params, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)

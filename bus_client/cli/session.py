"""What verbs that call a server have in common: options, connection, errors, signals."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import bus_client
from bus_client import credentials
from bus_client.cli import failures
from bus_client.cli.options import CALL_TIMEOUT, connection_options
from bus_client.cli.output import Output
from bus_client.cli.streams import discard_stdout
from bus_client.cli.text import safe

if TYPE_CHECKING:
    from bus_client import BusClient


@dataclass(frozen=True, slots=True)
class Session:
    """Which server a verb calls, as whom, and where it prints."""

    server: str
    agent: str | None
    token: str | None
    timeout: float
    out: Output

    @asynccontextmanager
    async def connect(self, **registration: Any) -> AsyncIterator[BusClient]:
        """Connects; `registration` says what else to register the agent with."""
        client = bus_client.BusClient(
            self.server,
            agent=self.agent,
            token=self.token,
            timeout=self.timeout,
            heartbeats=False,
            **registration,
        )
        patience = asyncio.get_running_loop().call_later(1.0, self._note_silence)
        try:
            await client.connect()
        finally:
            patience.cancel()
        if client.created and not registration:
            self.out.note(f"registered {safe(client.agent)}")
        try:
            yield client
        finally:
            await client.close()

    def _note_silence(self) -> None:
        if lock := credentials.awaited():
            self.out.note(f"Waiting for {lock}, which another process has locked.")
            return
        self.out.note(
            f"{self.server} does not answer yet; trying for {self.timeout:g} s. "
            "(threadbus serve starts a server.)"
        )


T = TypeVar("T")
Verb = Callable[..., Awaitable[int | None]]


def on_server(verb: Verb) -> Callable[..., int]:
    """Makes a click callback of a coroutine function `verb(session, …)`.

    It gives it the options above but --timeout and --as, which some verbs mean otherwise.
    """

    @functools.wraps(verb)
    def run(
        *,
        server: str,
        token_file: Path | None,
        as_json: bool,
        agent: str | None = None,
        timeout: float = CALL_TIMEOUT,
        patience: float | None = None,
        **options: Any,
    ) -> int:
        if patience is not None:  # a wait must not try for longer than it was to wait
            timeout = min(timeout, max(patience, 2.0))
            options["patience"] = patience
        out = Output(as_json)
        token = _token(token_file)
        session = Session(server, agent, token, timeout, out)
        return guarded(out, lambda: asyncio.run(until_signalled(verb(session, **options))))

    for option in reversed(connection_options):
        run = option(run)
    return run


def guarded(out: Output, verb: Callable[[], int]) -> int:
    """Runs a verb to its exit code, whatever becomes of it."""
    try:
        return verb()
    except BrokenPipeError:
        discard_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        discard_stdout()
        raise click.ClickException(str(error)) from None
    except bus_client.BusError as error:
        return failures.tell(error, json=out.json)


async def until_signalled(verb: Awaitable[int | None]) -> int:
    """Awaits the verb; SIGINT and SIGTERM let it clean up, and end it as shells expect."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    received: list[int] = []

    def end(number: int) -> None:
        received.append(number)
        if task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end, number)
    try:
        return await verb or 0
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]


async def side_by_side(parts: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Runs all parts at once; the first that fails ends the others."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _token(file: Path | None) -> str | None:
    if file is None:
        source, token = "THREADBUS_TOKEN", os.environ.get("THREADBUS_TOKEN", "")
    else:
        source, token = "--token-file", file.read_text("utf-8", "replace").strip()
    if (file or token) and not re.fullmatch("[!-~]+", token):
        raise click.UsageError(f"What {source} has is not a token.")
    return token or None

"""What all verbs that call a server share: options, connecting, errors and signals."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import bus_client
from bus_client import credentials
from bus_client.cli import failures, health
from bus_client.cli.options import CALL_TIMEOUT, connection_options
from bus_client.cli.output import Output
from bus_client.cli.resolving import resolution_error
from bus_client.cli.streams import discard_stdout
from bus_client.cli.text import os_error_text, safe
from bus_client.cli.traces import environment_trace

if TYPE_CHECKING:
    import grpc.aio

    from bus_client import BusClient

_SHORTEST_TIMEOUT = 2.0  # seconds to try to reach a server, even for a shorter wait
_NOTE_SILENCE_AFTER = 1.0  # seconds without an answer before a note about it


@dataclass(frozen=True, slots=True)
class Session:
    """The server that a verb calls, the caller's identity, and the verb's output.

    Attributes:
        server: The server's address, with its port.
        agent: The name given with --as or THREADBUS_AGENT. None = none.
        token: The token given with --token-file or THREADBUS_TOKEN. None = the one stored for
            `agent`, if any.
        tls: The arguments of BusClient with the files for TLS.
        timeout: Seconds for each call, with its retries.
        out: Prints the verb's output.
    """

    server: str
    agent: str | None
    token: str | None
    tls: Mapping[str, Any]
    timeout: float
    out: Output

    def open_channel(self, *, connection: int = 0) -> grpc.aio.Channel:
        """Returns a new channel to the server; see bus_client.channel.open_channel().

        Raises:
            InvalidArgument: A file for TLS cannot be used.
        """
        from bus_client.channel import open_channel  # imports gRPC, and --help must be fast
        from bus_client.tls import tls_files

        credentials = tls_files(**self.tls).credentials_for(self.server)
        return open_channel(self.server, credentials, connection=connection)

    def client(self, **registration: Any) -> BusClient:
        """Returns a client that is not connected yet. `registration`: as in connect()."""
        return bus_client.BusClient(
            self.server,
            agent=self.agent,
            token=self.token,
            timeout=self.timeout,
            heartbeats=False,
            **self.tls,
            **registration,
        )

    @asynccontextmanager
    async def connect(self, **registration: Any) -> AsyncIterator[BusClient]:
        """Yields a connected client, which is closed at the end of the block.

        Registers the agent if its name is new. Prints a note on stderr if the server does not
        answer within a second, and one if the agent was registered without `registration`.

        What is posted in the block, and changes of threads, continue the trace of TRACEPARENT; see
        environment_trace().

        Args:
            **registration: Arguments of BusClient that describe a new agent, such as `kind`.

        Raises:
            BusError: As BusClient.connect().
        """
        client = self.client(**registration)
        silence = asyncio.create_task(self._note_silence())
        try:
            await client.connect()
        except bus_client.Unreachable as error:
            if why := await resolution_error(self.server):
                hint = "Check the host name in --server or THREADBUS_SERVER."
                raise bus_client.Unreachable(why, code=error.code, hint=hint) from error
            raise
        finally:
            silence.cancel()
        if client.created and not registration:
            self.out.note(f"registered {safe(client.agent)}")
        trace = environment_trace()
        try:
            with bus_client.continue_trace(trace) if trace else nullcontext():
                yield client
        finally:
            await client.close()

    async def _note_silence(self) -> None:
        await asyncio.sleep(_NOTE_SILENCE_AFTER)
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
    """Returns a click callback that runs the coroutine function `verb(session, **options)`.

    Adds --server, --token-file, the options for TLS, and --json, but not --timeout and --as, whose
    meanings depend on the verb. If the verb has an option `patience`, in seconds, that also limits
    the timeout of calls, but to no less than 2 s.
    """

    @functools.wraps(verb)
    def run(
        *,
        server: str,
        token_file: Path | None,
        ca_file: Path | None,
        client_cert: Path | None,
        client_key: Path | None,
        as_json: bool,
        agent: str | None = None,
        timeout: float = CALL_TIMEOUT,
        patience: float | None = None,
        **options: Any,
    ) -> int:
        if patience is not None:
            timeout = min(timeout, max(patience, _SHORTEST_TIMEOUT))
            options["patience"] = patience
        out = Output(as_json)

        def run_on_server() -> int:
            tls = {"ca_file": ca_file, "client_cert": client_cert, "client_key": client_key}
            session = Session(server, agent, _read_token(token_file), tls, timeout, out)
            return asyncio.run(until_signal(_explained(session, verb(session, **options))))

        return run_verb(out, run_on_server)

    for option in reversed(connection_options):
        run = option(run)
    return run


async def _explained(session: Session, verb: Awaitable[int | None]) -> int | None:
    """Await the verb. Returns its exit code. Its errors say whether the server is there."""
    try:
        return await verb
    except bus_client.BusError as error:
        await health.explain(error, session)
        raise


def run_verb(out: Output, verb: Callable[[], int]) -> int:
    """Run a verb. Returns its exit code.

    A BusError is reported, and its exit code returned. If the reader of stdout has gone, returns
    141 (128 + SIGPIPE).

    Raises:
        click.ClickException: Wrong usage, or a file or stdout could not be read or written.
    """
    try:
        return verb()
    except BrokenPipeError:
        discard_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        discard_stdout()
        raise click.ClickException(os_error_text(error)) from None
    except bus_client.BusError as error:
        return failures.report(error, json=out.json)


async def until_signal(verb: Awaitable[int | None]) -> int:
    """Await the verb. Returns its exit code, 0 for None. SIGINT and SIGTERM cancel the verb.

    A cancelled verb cleans up; the exit code is then 128 + the signal's number, as shells expect.
    """
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


async def run_concurrently(parts: Sequence[Coroutine[None, None, T]]) -> list[T]:
    """Run coroutines concurrently. Returns their results, in the order given.

    The first error cancels the others, and is raised.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _read_token(file: Path | None) -> str | None:
    """As credentials.given_token(), but raises click.UsageError if the text is not a token."""
    try:
        return credentials.given_token(file)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None

"""`threadbus tail`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.documents import message_document
from bus_client.cli.options import as_option, max_chars_option, timeout_option
from bus_client.cli.output import Output, stop_when_stdout_closes
from bus_client.cli.session import Session, on_server, run_concurrently
from bus_client.cli.transcript import Transcript

if TYPE_CHECKING:
    from bus_client import ThreadHandle

_PAUSE = 0.5  # seconds to wait after a lost position: the next could be lost at once, too


@click.command()
@click.argument("threads", metavar="THREAD…", nargs=-1, required=True, envvar="THREADBUS_THREAD")
@click.option("--from-start", is_flag=True, help="Start with the first message.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    default=10,
    help="Start with the last N messages.",
)
@max_chars_option
@as_option
@timeout_option
@on_server
async def tail(
    session: Session, threads: Sequence[str], from_start: bool, last: int, max_chars: int
) -> int:
    """Watch threads: print messages as they are posted, until Ctrl-C or until all are closed.

    Ends, too, when your session is ended, for example by `threadbus agents goodbye`. Reconnects
    after a restart of the server, and marks nothing as read. If a thread cannot be read, the others
    are still watched. With --json each message is a line of JSON, with the bytes of its files.

    \b
    Examples:
      threadbus tail design
      threadbus tail design review --from-start --json
    """
    threads = list(dict.fromkeys(threads))
    lines = Transcript(colour=session.out.colour, live=True, several_threads=len(threads) > 1)
    async with session.connect() as bus, _connection_notes(session):
        with stop_when_stdout_closes():
            views = [
                _View(bus.thread(name), session.out, lines, None if from_start else last, max_chars)
                for name in threads
            ]
            return max(await run_concurrently([view.follow() for view in views]))


@asynccontextmanager
async def _connection_notes(session: Session) -> AsyncIterator[None]:
    """During the block, print notes on stderr when the connection is lost and when it is back."""
    import grpc  # imported only when needed: --help must be fast

    async def watch() -> None:
        # This channel shares the connection of the client's first wait.
        async with session.open_channel(connection=1) as channel:
            await channel.channel_ready()
            while True:
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
                session.out.note(f"Lost the connection to {session.server}; reconnecting.")
                await channel.channel_ready()
                session.out.note(f"Connected to {session.server} again.")

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _View:
    """A watched thread.

    Attributes:
        last: How many existing messages to print first. None = all.
        max_chars: Bytes after which texts are cut off. 0 = none.
    """

    thread: ThreadHandle
    out: Output
    lines: Transcript
    last: int | None
    max_chars: int

    async def follow(self) -> int:
        """Print the thread's messages until it is closed or the agent's session has been ended.

        Returns the exit code. A BusError is reported, not raised.
        """
        try:
            await self._go_to_start()
            while True:
                if await self._print_to_end():
                    break
                await asyncio.sleep(_PAUSE)
        except bus_client.BusError as error:
            return failures.report(error, json=self.out.json)
        name = self.thread.name
        ended = f"{name} is no longer watched: your session was ended."
        self.out.note(f"{name} is closed." if self.thread.closed else ended)
        return 0

    async def _go_to_start(self) -> None:
        info = await self.thread.refresh()
        after = 0
        if self.last is not None:
            after = max(info.head_seq - self.last, info.first_seq - 1, 0)
        self.thread.position = bus_client.Cursor(
            thread=info.name, after_seq=after, epoch=info.epoch
        )

    async def _print_to_end(self) -> bool:
        """Print messages as they come. Returns True once the thread is closed.

        Also returns True once the agent's session has been ended. Returns False if the position was
        lost, which is reported. Raises any other BusError.
        """
        try:
            following = self.thread.follow(
                include_own=True,
                acknowledge=False,
                omit_attachment_data=not self.out.json,
                max_content_bytes=self.max_chars,
            )
            async with aclosing(following) as messages:
                async for message in messages:
                    self.out.show(message_document(message), self.lines.lines([message]))
        except bus_client.CursorLost as lost:
            hint = "There is nothing to do: tail continues there by itself."
            failures.report(lost, json=self.out.json, hint=hint)
            return False
        return True

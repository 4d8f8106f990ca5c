"""`threadbus tail`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.documents import message_document
from bus_client.cli.options import (
    as_option,
    max_chars_option,
    names_or_all,
    timeout_option,
)
from bus_client.cli.output import Output, stop_when_stdout_closes
from bus_client.cli.removed import is_removed, report_lost, report_removed
from bus_client.cli.session import Session, on_server, run_concurrently
from bus_client.cli.transcript import Transcript
from threadbus.limits import MAX_WAIT_THREADS

if TYPE_CHECKING:
    from bus_client import BusClient, Cursor, Thread, ThreadHandle

_PAUSE = 0.5  # seconds to wait after a lost position: the next could be lost at once, too


@click.command()
@click.argument("threads", metavar="[THREAD…]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All threads in which you take part.")
@click.option("--from-start", is_flag=True, help="Start with the first message.")
@click.option(
    "--last",
    metavar="N",
    type=click.IntRange(min=0),
    help="Start with the last N messages of each thread.  [default: 10; with --all: 0]",
)
@max_chars_option
@as_option
@timeout_option
@on_server
async def tail(
    session: Session,
    threads: Sequence[str],
    everything: bool,
    from_start: bool,
    last: int | None,
    max_chars: int,
) -> int:
    """Watch threads: print messages as they are posted, until Ctrl-C or until all are closed.

    Reconnects after a restart of the server, and marks nothing as read. If a thread cannot be read,
    the others are still watched. With --json each message is a line of JSON, with the bytes of its
    files.

    Messages that are not kept any more, as the thread's retention says, are reported on stderr.

    You can watch with --as under the name of an agent that works. Others see neither a wait nor
    work of the agent because of it, only that it was there when you began.

    With --all, threads are added when you come to take part in them, by a mention for example, and
    closed or deleted ones do not end it.

    \b
    Examples:
      threadbus tail design
      threadbus tail design review --from-start --json
      threadbus tail --all --as ann
    """
    names = names_or_all(threads, everything)
    if everything and session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME.")
    if last is None:
        last = 0 if everything else 10
    start = None if from_start else last
    lines = Transcript(colour=session.out.colour, live=True, several_threads=len(names) != 1)
    async with session.connect() as bus, _connection_notes(session):
        with stop_when_stdout_closes():
            if everything:
                await _follow_all(bus, session.out, lines, start, max_chars)
                return 0
            views = [
                _View(bus.thread(name), session.out, lines, start, max_chars) for name in names
            ]
            return max(await run_concurrently([view.follow() for view in views]))


async def _follow_all(
    bus: BusClient, out: Output, lines: Transcript, last: int | None, max_chars: int
) -> None:
    """Print the messages of all threads of the agent until cancelled.

    Of more than 1,000 threads, the least recently active ones start at the agent's read position.

    Args:
        bus: The agent's client.
        out: Prints them.
        lines: Formats them.
        last, max_chars: As in _View.
    """
    any_state = bus_client.ThreadState.THREAD_STATE_UNSPECIFIED
    threads = [found async for found in bus.list_threads(participant=bus.agent, states=[any_state])]
    starts = [_start(thread, last) for thread in threads[:MAX_WAIT_THREADS]]
    # By thread: the seq of the last entry that came. All come, so a gap tells of removed ones.
    places = {start.thread: start.after_seq for start in starts}
    following = bus.inbox(
        addressed=False,
        positions=starts,
        include_own=True,
        observe=True,
        on_resync="continue",
        all_notices=True,
        omit_attachment_data=not out.json,
        max_content_bytes=max_chars,
    )
    async with aclosing(following) as messages:
        async for message in messages:
            place = places.get(message.thread, message.seq - 1)
            if message.seq > place + 1:
                with suppress(bus_client.BusError):
                    first = (await bus.get_thread(message.thread)).first_seq
                    report_removed(out, message.thread, place, min(first, message.seq))
            places[message.thread] = message.seq
            out.show(message_document(message), lines.lines([message]))


def _start(thread: Thread, last: int | None) -> Cursor:
    """Returns the position before the last messages of a thread that are kept. None = all."""
    wanted = 0 if last is None else thread.head_seq - last
    after = max(wanted, thread.first_seq - 1, 0)
    return bus_client.Cursor(thread=thread.name, after_seq=after, epoch=thread.epoch)


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
        """Print the thread's messages until it is closed.

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
        self.out.note(f"{self.thread.name} is closed.")
        return 0

    async def _go_to_start(self) -> None:
        thread = await self.thread.refresh()
        self.thread.position = _start(thread, self.last)
        wanted = 0 if self.last is None else max(thread.head_seq - self.last, 0)
        report_removed(self.out, thread.name, wanted, thread.first_seq)

    async def _print_to_end(self) -> bool:
        """Print messages as they come. Returns True once the thread is closed.

        Returns False if the position was lost, which is reported. Raises any other BusError.
        """
        try:
            following = self.thread.follow(
                include_own=True,
                observe=True,
                all_notices=True,
                omit_attachment_data=not self.out.json,
                max_content_bytes=self.max_chars,
            )
            async with aclosing(following) as messages:
                async for message in messages:
                    self.out.show(message_document(message), self.lines.lines([message]))
        except bus_client.CursorLost as lost:
            if is_removed(lost):
                report_lost(self.out, lost)
                return False
            hint = "There is nothing to do: tail continues there by itself."
            failures.report(lost, json=self.out.json, hint=hint)
            return False
        return True

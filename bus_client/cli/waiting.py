"""`threadbus wait`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.cursors import NamedCursor
from bus_client.cli.documents import message_documents
from bus_client.cli.files import take_files
from bus_client.cli.options import (
    as_option,
    count_type,
    max_chars_option,
    seconds_option,
    seq_option,
    with_files_option,
)
from bus_client.cli.output import stop_when_stdout_closes
from bus_client.cli.removed import past_removed
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import Transcript
from threadbus.limits import MAX_LEASE

if TYPE_CHECKING:
    from bus_client import BusClient, Message


@click.command()
@click.argument("thread", envvar="THREADBUS_THREAD", required=False)
@seconds_option("--timeout", "patience", default=40.0, help="How long to wait. 0 = do not wait.")
@seq_option(
    "--after",
    help="Wait for messages after SEQ; mark nothing as read.  [default: your read position]",
)
@click.option(
    "--min",
    "least",
    metavar="N",
    type=count_type,
    default=1,
    help="Wait until there are at least N messages that wake you.",
)
@click.option(
    "--max",
    "most",
    metavar="N",
    type=count_type,
    default=100,
    help="Print at most N messages; the next wait continues after them.",
)
@seconds_option(
    "--lease",
    default=900.0,
    maximum=MAX_LEASE,
    help="How long others see you working on the messages if you make no other call; at most 1h.",
)
@click.option(
    "--mine",
    is_flag=True,
    help="Only messages that mention you, reply to you or hand off to you. Without THREAD: in all "
    "of your threads.",
)
@click.option("--own", "--all", "include_own", is_flag=True, help="Include your own messages.")
@click.option("--peek", is_flag=True, help="Mark nothing as read: the next wait prints it again.")
@click.option(
    "--cursor",
    "cursor_name",
    metavar="NAME",
    help="Continue at the cursor NAME, which is yours in this thread, not at your read position.",
)
@max_chars_option
@with_files_option
@as_option
@on_server
async def wait(
    session: Session,
    thread: str | None,
    patience: float,
    after: int | None,
    least: int,
    most: int,
    lease: float,
    mine: bool,
    include_own: bool,
    peek: bool,
    cursor_name: str | None,
    max_chars: int,
    folder: Path | None,
) -> int | None:
    """Wait for messages that you have not read, and print them as soon as one of them wakes you.

    Without THREAD (nor THREADBUS_THREAD), --mine waits for what is addressed to you in all threads
    in which you take part; a mention makes you take part. It goes on when threads are closed or
    deleted. It prints the name of each message's thread, for `post`; options about one thread or
    its other messages do not go with it.

    Messages that do not wake you are printed with the next one that does: those of `post --quiet`
    that are not for you, those of `post --no-wake`, and changes of the thread.

    Printed messages are marked as read. Those that --mine skips stay unread, and the next wait
    without --mine prints all from the first of them; the next one with --mine goes on after them.
    An agent that must not lose messages if it crashes waits with --after instead, and acknowledges
    them with `post --based-on`. If you are not a participant yet, all messages of the thread are
    new to you; without --as, only those posted from now on are. After messages have been printed,
    others see you working until you wait again or the --lease expires.

    A script that watches beside an agent uses --peek, or a --cursor of its own: neither changes
    what the agent itself has read, and others see neither a wait nor work of the agent because of
    it, only that it is there. A cursor starts at the read position, and is kept beside the
    credentials.

    If messages that you have not read are not kept any more, that is said on stderr, and the wait
    goes on at the oldest one that is.

    Exit code 3: no message came in time. 5: the thread is closed, and no more will come; or your
    session was ended; or --after is past its newest message. 1 or 4: the thread could not be read,
    or the server could not be reached, for at least 2 s; there may be new messages.

    \b
    Examples:
      threadbus wait design --as reviewer --timeout 40
      threadbus wait design --as reviewer --mine --json | jq -r '.messages[].content'
      threadbus wait --mine --as reviewer --timeout 90 --json
      threadbus wait design --after 12
      threadbus wait design --as reviewer --cursor hooks --timeout 0
    """
    if least > most:
        raise click.UsageError(f"--min {least} is more than --max {most}.")
    if cursor_name is not None and (after is not None or not cursor_name):
        raise click.UsageError("--cursor takes a NAME, and no --after beside it.")
    wanted = bus_client.MessageFilter(addressed_to_me=True) if mine else None
    how: dict[str, Any] = {
        **{"min_messages": least, "max_messages": most, "filter": wanted},
        **{"omit_attachment_data": folder is None, "max_content_bytes": max_chars},
    }
    if thread is None:
        if not mine:
            raise click.UsageError(
                "Missing THREAD: name one, or use --mine for what is addressed to you in any."
            )
        _check_inbox_options(session, after=after, include_own=include_own, cursor=cursor_name)
        return await _wait_for_mine(session, patience, lease, folder, peek=peek, **how)
    observe = peek or cursor_name is not None
    acknowledge = after is None and not observe
    async with session.connect() as bus:
        start = None if after is None else bus_client.Cursor(thread=thread, after_seq=after)
        own = NamedCursor(session.server, bus.agent, thread, cursor_name) if cursor_name else None
        if own:
            start = own.read()
        if start is None:
            # For an agent that is new in the thread, all messages are unread.
            handle = await bus.join(
                thread, create=False, start="first" if session.agent else "head"
            )
        else:
            handle = bus.thread(thread)
            handle.position = start
        with stop_when_stdout_closes(), _moved_if_lost(own):
            reading = partial(
                handle.wait,
                include_own=include_own,
                acknowledge=acknowledge,
                observe=observe,
                **how,
            )
            messages = await past_removed(session.out, reading, timeout=patience, acknowledges=True)
        if bus.session_ended and not messages:
            return _session_ended(session, bus.agent)
        if acknowledge and not messages:
            await handle.acknowledge()  # --mine may have skipped some
        cursor = messages[-1].seq if messages else handle.passed_over
        early = handle.closed or bus.session_ended
        result = {"cursor": cursor, "timed_out": len(messages) < least and not early}
        _show(session, messages, folder, result)
        if acknowledge and messages:
            await handle.acknowledge()
        if own and not peek:
            epoch = handle.position.epoch
            own.move(bus_client.Cursor(thread=thread, after_seq=handle.passed_over, epoch=epoch))
        if messages and not observe:
            await _work(bus, lease)
    if messages:
        return None
    session.out.note(f"Nothing new in {thread} after #{cursor}.")
    return failures.NOTHING_NEW


def _check_inbox_options(
    session: Session, *, after: int | None, include_own: bool, cursor: str | None
) -> None:
    """Raises click.UsageError if an option does not go with --mine without THREAD."""
    if session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME.")
    for option, is_given, why in (
        ("--after", after is not None, "SEQ is one of a thread"),
        ("--cursor", cursor is not None, "NAME is that of a cursor in a thread"),
        ("--own", include_own, "your own messages are not addressed to you"),
    ):
        if is_given:
            raise click.UsageError(f"{option} needs a THREAD: {why}.")


async def _wait_for_mine(
    session: Session,
    patience: float,
    lease: float,
    folder: Path | None,
    *,
    peek: bool,
    **how: Any,
) -> int | None:
    """Wait on all threads of the agent. Returns the exit code.

    Args:
        session: The agent's session.
        patience, lease: See `wait`.
        folder: Where to save attached files. None = leave them out.
        peek: Mark nothing as read.
        **how: Arguments of BusClient.wait().
    """
    async with session.connect() as bus:
        with stop_when_stdout_closes():
            reading = partial(bus.wait, observe=peek, **how)
            messages = await past_removed(
                session.out, reading, timeout=patience, acknowledges=not peek
            )
        if bus.session_ended and not messages:
            return _session_ended(session, bus.agent)
        late = len(messages) < how["min_messages"] and not bus.session_ended
        result = {"timed_out": late}
        _show(session, messages, folder, result, several_threads=True)
        await bus.acknowledge()
        if messages and not peek:
            await _work(bus, lease)
        name = bus.agent
    if messages:
        return None
    session.out.note(f"Nothing new for {name}.")
    return failures.NOTHING_NEW


def _session_ended(session: Session, agent: str) -> int:
    """Report that the wait ended with the agent's session. Returns the exit code."""
    error = bus_client.BusError(
        f"The session of {agent} was ended, and with it the wait.",
        code="CANCELLED",
        reason="SESSION_ENDED",
        hint="Stop, or wait again to begin another session.",
    )
    failures.report(error, json=session.out.json)
    return failures.CONFLICT


def _show(
    session: Session,
    messages: list[Message],
    folder: Path | None,
    result: dict[str, Any],
    *,
    several_threads: bool = False,
) -> None:
    """Print the messages; with --json beside `result`. Saves their files in `folder`."""
    paths = take_files(messages, folder)
    lines = Transcript(colour=session.out.colour, several_threads=several_threads)
    shown = {"messages": message_documents(messages, paths), **result}
    session.out.show(shown, lines.lines(messages, paths))


async def _work(bus: BusClient, lease: float) -> None:
    """Report that the agent works on messages, in a process that the server cannot see."""
    await bus.heartbeat(state=bus_client.Presence.PRESENCE_WORKING, lease=lease)


@contextmanager
def _moved_if_lost(cursor: NamedCursor | None) -> Iterator[None]:
    """Context manager that moves a cursor to where reading continues if it is lost."""
    try:
        yield
    except bus_client.CursorLost as lost:
        if cursor:
            cursor.move(lost.position, back=True)
        raise

"""`threadbus wait`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import bus_client
from bus_client.cli.cursors import NamedCursor
from bus_client.cli.documents import message_document
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.files import take_files
from bus_client.cli.options import (
    as_option,
    count_type,
    max_chars_option,
    seconds_option,
    seq_option,
    thread_argument,
    with_files_option,
)
from bus_client.cli.output import stop_when_stdout_closes
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import Transcript
from threadbus.limits import MAX_LEASE


@click.command()
@thread_argument
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
    help="Only messages that mention you, reply to you or hand off to you.",
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
    thread: str,
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

    Messages that do not wake you are printed with the next one that does: those of `post --quiet`
    that are not for you, those of `post --no-wake`, and changes of the thread.

    Printed messages are marked as read. Those that --mine skips stay unread, and the next wait
    without --mine prints all from the first of them; the next one with --mine goes on after them.
    An agent that must not lose messages if it crashes waits with --after instead, and acknowledges
    them with `post --based-on`. If you are not a participant yet, all messages of the thread are
    new to you; without --as, only those posted from now on are. After messages have been printed,
    others see you working until you wait again or the --lease expires.

    A script that watches beside an agent uses --peek, or a --cursor of its own: neither changes
    what the agent itself has read, or shows it working. A cursor starts at the read position, and
    is kept beside the credentials.

    Exit code 3: no message came in time. 5: the thread is closed, and no more will come; or --after
    is past its newest message. 1 or 4: the thread could not be read, or the server could not be
    reached, for at least 2 s; there may be new messages.

    \b
    Examples:
      threadbus wait design --as reviewer --timeout 40
      threadbus wait design --as reviewer --mine --json | jq -r '.messages[].content'
      threadbus wait design --after 12
      threadbus wait design --as reviewer --cursor hooks --timeout 0
    """
    if least > most:
        raise click.UsageError(f"--min {least} is more than --max {most}.")
    if cursor_name is not None and (after is not None or not cursor_name):
        raise click.UsageError("--cursor takes a NAME, and no --after beside it.")
    watches = peek or cursor_name is not None
    acknowledge = after is None and not watches
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
            messages = await handle.wait(
                timeout=patience,
                min_messages=least,
                max_messages=most,
                filter=bus_client.MessageFilter(addressed_to_me=True) if mine else None,
                include_own=include_own,
                acknowledge=acknowledge,
                omit_attachment_data=folder is None,
                max_content_bytes=max_chars,
            )
        if acknowledge and not messages:
            await handle.acknowledge()  # --mine may have skipped some
        cursor = messages[-1].seq if messages else handle.passed_over
        paths = take_files(messages, folder)
        result = {
            "messages": [message_document(each, paths.get(each.seq, ())) for each in messages],
            "cursor": cursor,
            "timed_out": len(messages) < least,
        }
        session.out.show(result, Transcript(colour=session.out.colour).lines(messages, paths))
        if acknowledge and messages:
            await handle.acknowledge()
        if own and not peek:
            epoch = handle.position.epoch
            own.move(bus_client.Cursor(thread=thread, after_seq=handle.passed_over, epoch=epoch))
        if messages and not watches:
            # The agent now works on them, in a process that the server cannot see.
            await bus.heartbeat(state=bus_client.Presence.PRESENCE_WORKING, lease=lease)
    if messages:
        return None
    session.out.note(f"Nothing new in {thread} after #{cursor}.")
    return NOTHING_NEW


@contextmanager
def _moved_if_lost(cursor: NamedCursor | None) -> Iterator[None]:
    """Context manager that moves a cursor to where reading continues if it is lost."""
    try:
        yield
    except bus_client.CursorLost as lost:
        if cursor:
            cursor.move(lost.position, back=True)
        raise

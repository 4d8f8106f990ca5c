"""`threadbus wait`."""

from __future__ import annotations

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.options import (
    as_option,
    count_type,
    seconds_option,
    seq_option,
    thread_argument,
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
    help="Wait until there are at least N messages.",
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
@click.option("--all", "include_own", is_flag=True, help="Include your own messages.")
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
) -> int | None:
    """Wait for messages that you have not read, and print them as soon as there are any.

    Printed messages are marked as read, and so are those that --mine skipped. An agent that must
    not lose messages if it crashes waits with --after instead, and acknowledges them with `post
    --based-on`. If you are not a participant yet, all messages of the thread are new to you;
    without --as, only those posted from now on are. After messages have been printed, others see
    you working until you wait again or the --lease expires.

    Exit code 3: no message came in time. 5: the thread is closed, and no more will come; or --after
    is past its newest message. 1 or 4: the thread could not be read, or the server could not be
    reached, for at least 2 s; there may be new messages.

    \b
    Examples:
      threadbus wait design --as reviewer --timeout 40
      threadbus wait design --as reviewer --mine --json | jq -r '.messages[].content'
      threadbus wait design --after 12
    """
    if least > most:
        raise click.UsageError(f"--min {least} is more than --max {most}.")
    async with session.connect() as bus:
        if after is None:
            # For an agent that is new in the thread, all messages are unread.
            handle = await bus.join(
                thread, create=False, start="first" if session.agent else "head"
            )
        else:
            handle = bus.thread(thread)
            handle.position = bus_client.Cursor(thread=thread, after_seq=after)
        with stop_when_stdout_closes():
            messages = await handle.wait(
                timeout=patience,
                min_messages=least,
                max_messages=most,
                filter=bus_client.MessageFilter(addressed_to_me=True) if mine else None,
                include_own=include_own,
            )
        if after is None and not messages:
            await handle.acknowledge()  # mark as read what --mine skipped
        cursor = messages[-1].seq if messages else handle.position.after_seq
        result = {
            "messages": [document(message) for message in messages],
            "cursor": cursor,
            "timed_out": len(messages) < least,
        }
        session.out.show(result, Transcript(colour=session.out.colour).lines(messages))
        if after is None and messages:
            await handle.acknowledge()
        if messages:
            # The agent now works on them, in a process that the server cannot see.
            await bus.heartbeat(state=bus_client.Presence.PRESENCE_WORKING, lease=lease)
    if messages:
        return None
    session.out.note(f"Nothing new in {thread} after #{cursor}.")
    return NOTHING_NEW

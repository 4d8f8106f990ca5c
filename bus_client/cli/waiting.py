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
from bus_client.cli.output import while_read
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import Transcript


@click.command()
@thread_argument
@seconds_option(
    "--timeout", "patience", default=40.0, help="How long to wait. 0: only what is there."
)
@seq_option(
    "--after",
    help="What comes after SEQ; nothing counts as read.  [default: what you have not read]",
)
@click.option(
    "--min",
    "least",
    metavar="N",
    type=count_type,
    default=1,
    help="Wait for so many.",
)
@click.option(
    "--max",
    "most",
    metavar="N",
    type=count_type,
    default=100,
    help="At most so many; the next wait goes on there.",
)
@seconds_option(
    "--lease",
    default=900.0,
    help="How long your turn may take in silence: until then others see you working.",
)
@click.option("--mine", is_flag=True, help="Only what mentions, answers or is handed to you.")
@click.option("--all", "include_own", is_flag=True, help="Your own messages, too.")
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
    """Wait for what you have not read yet: at once if there is something, else until it comes.

    What was printed then counts as read, and so does what --mine passed over: one who must not lose
    a message to a crash of its own waits with --after, and acknowledges with `post --based-on`. To
    an agent that was never in the thread all of it is unread. Without --as it is what comes from
    now on. With messages in hand you are seen working, until you wait again or --lease is over.

    Exit code 3: nothing came in time. 5: the thread is closed, nothing will come. 1 or 4: it could
    not be read, or the server could not be reached, for 2 s at least; so nobody knows whether there
    is something.

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
            # To one who was never here everything is unread.
            handle = await bus.join(
                thread, create=False, start="first" if session.agent else "head"
            )
        else:
            handle = bus.thread(thread)
            handle.position = bus_client.Cursor(thread=thread, after_seq=after)
        with while_read():
            messages = await handle.wait(
                timeout=patience,
                min_messages=least,
                max_messages=most,
                filter=bus_client.MessageFilter(addressed_to_me=True) if mine else None,
                include_own=include_own,
            )
        if after is None and not messages:
            await handle.acknowledge()  # what was passed over
        cursor = messages[-1].seq if messages else handle.position.after_seq
        result = {
            "messages": [document(message) for message in messages],
            "cursor": cursor,
            "timed_out": len(messages) < least,
        }
        session.out.show(result, Transcript(colour=session.out.colour).lines(messages))
        if after is None and messages:
            await handle.acknowledge()
            # What was printed is read; what is made of it is work, which only we can tell.
            await bus.heartbeat(state=bus_client.Presence.PRESENCE_WORKING, lease=lease)
    if messages:
        return None
    session.out.note(f"Nothing new in {thread} after #{cursor}.")
    return NOTHING_NEW

"""`threadbus join` and `threadbus read`: verbs that read without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import click

from bus_client.cli.documents import document
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.options import (
    as_option,
    count_type,
    seq_option,
    thread_argument,
    timeout_option,
)
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import Transcript, describe_new_thread, thread_lines

if TYPE_CHECKING:
    from bus_client import ThreadHandle


@click.command()
@thread_argument
@click.option(
    "--topic",
    metavar="TEXT",
    default="",
    show_default=False,
    help="The topic of the thread, if it is created.",
)
@click.option(
    "--context",
    metavar="N",
    type=click.IntRange(0, 100),
    default=10,
    help="How many messages up to your read position to show.",
)
@click.option(
    "--start",
    type=click.Choice(["head", "first"]),
    default="head",
    help="Where you start if you are new: after the newest message, or before the first.",
)
@click.option("--no-create", is_flag=True, help="Fail if the thread does not exist.")
@as_option
@timeout_option
@on_server
async def join(
    session: Session,
    thread: str,
    topic: str,
    context: int,
    start: Literal["head", "first"],
    no_create: bool,
) -> None:
    """Join a thread. Shows the thread, messages up to your read position, and how many follow.

    Creates the thread if it does not exist. `threadbus wait` continues from your read position.

    \b
    Example:
      threadbus join design --as reviewer
    """
    async with session.connect() as bus:
        handle = await bus.join(
            thread, create=not no_create, topic=topic, context_limit=context, start=start
        )
    entered = {
        "thread": document(handle.info, whole=True),
        "created": handle.created,
        "similar": handle.similar,
        "registered": bus.created,
        "cursor": handle.position.after_seq,
        "context": [document(message) for message in handle.context],
    }
    session.out.show(entered, _joined(session, handle))


def _joined(session: Session, handle: ThreadHandle) -> Iterator[str]:
    yield from thread_lines([handle.info])
    yield from Transcript(colour=session.out.colour).lines(handle.context)
    place, head = handle.position.after_seq, handle.info.head_seq
    if handle.created:
        yield describe_new_thread(handle)
    elif place < head:
        yield f"you have read up to #{place}; {head - place} more to #{head}"
    else:
        yield f"you have read everything, up to #{place}" if head else "nothing has been posted yet"


@click.command()
@thread_argument
@seq_option("--after", default=0, help="Only messages after SEQ.")
@seq_option("--before", default=0, help="Only messages before SEQ. 0 = up to the newest.")
@click.option("--limit", metavar="N", type=count_type, default=100, help="At most N messages.")
@click.option("--newest", is_flag=True, help="The newest messages instead of the oldest.")
@click.option(
    "--last", metavar="N", type=count_type, help="The newest N messages: --newest --limit N."
)
@as_option
@timeout_option
@on_server
async def read(
    session: Session,
    thread: str,
    after: int,
    before: int,
    limit: int,
    newest: bool,
    last: int | None,
) -> int | None:
    """Read messages of a thread, oldest first. Does not wait, and marks nothing as read.

    Exit code 3: there are no such messages.

    \b
    Examples:
      threadbus read design --last 20
      threadbus read design --after 12 --json
    """
    async with session.connect() as bus:
        messages = await bus.thread(thread).messages(
            after_seq=after,
            before_seq=before,
            limit=last or limit,
            newest=newest or bool(last),
        )
    documents = {"thread": thread, "messages": [document(message) for message in messages]}
    session.out.show(documents, Transcript(colour=session.out.colour).lines(messages))
    if not messages:
        return NOTHING_NEW
    if len(messages) == limit and not (newest or last):
        session.out.note(f"There may be more: continue with --after {messages[-1].seq}.")
    return None

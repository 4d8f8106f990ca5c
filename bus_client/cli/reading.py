"""`threadbus join` and `threadbus read`: verbs that read without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bus_client.cli.documents import document, message_documents
from bus_client.cli.failures import NOTHING_NEW
from bus_client.cli.files import take_files
from bus_client.cli.options import (
    as_option,
    count_type,
    max_chars_option,
    seq_option,
    thread_argument,
    timeout_option,
    with_files_option,
)
from bus_client.cli.removed import report_removed
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
    take_files(handle.context, None)
    entered = {
        "thread": document(handle.info, whole=True),
        "created": handle.created,
        "similar": handle.similar,
        "registered": bus.created,
        "cursor": handle.position.after_seq,
        "context": message_documents(handle.context),
    }
    session.out.show(entered, _joined(session, handle))
    report_removed(session.out, thread, handle.position.after_seq, handle.info.first_seq)


def _joined(session: Session, handle: ThreadHandle) -> Iterator[str]:
    yield from thread_lines([handle.info])
    yield from Transcript(colour=session.out.colour).lines(handle.context)
    place, head = handle.position.after_seq, handle.info.head_seq
    kept_after = max(place, handle.info.first_seq - 1)
    if handle.created:
        yield describe_new_thread(handle)
    elif place < head:
        yield f"you have read up to #{place}; {head - kept_after} more to #{head}"
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
@seq_option("--seq", help="Only the message SEQ.")
@max_chars_option
@with_files_option
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
    seq: int | None,
    max_chars: int,
    folder: Path | None,
) -> int | None:
    """Read messages of a thread, oldest first. Does not wait, and marks nothing as read.

    Those that are not kept any more, as the thread's retention says, are reported on stderr.

    Exit code 3: there are no such messages. With --seq that is an error.

    \b
    Examples:
      threadbus read design --last 20
      threadbus read design --after 12 --max-chars 2000 --json
      threadbus read design --seq 12 --with-files attached
    """
    if seq is not None and (after or before or newest or last):
        raise click.UsageError("Use --seq or a range, not both.")
    removed = 0
    async with session.connect() as bus:
        handle = bus.thread(thread)
        if seq is not None:
            one = await handle.message(
                seq, omit_attachment_data=folder is None, max_content_bytes=max_chars
            )
            messages = [one]
        else:
            messages = await handle.messages(
                after_seq=after,
                before_seq=before,
                limit=last or limit,
                newest=newest or bool(last),
                omit_attachment_data=folder is None,
                max_content_bytes=max_chars,
            )
            whole = not (newest or last) or len(messages) < (last or limit)
            if whole and (not messages or messages[0].seq > after + 1):
                first = (await handle.refresh()).first_seq
                removed = min(first, messages[0].seq) if messages else first
    paths = take_files(messages, folder)
    documents = message_documents(messages, paths)
    lines = Transcript(colour=session.out.colour).lines(messages, paths)
    report_removed(session.out, thread, after, removed)
    session.out.show({"thread": thread, "messages": documents}, lines)
    if not messages:
        return NOTHING_NEW
    if len(messages) == limit and seq is None and not (newest or last):
        session.out.note(f"There may be more: continue with --after {messages[-1].seq}.")
    return None

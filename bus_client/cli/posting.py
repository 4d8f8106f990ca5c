"""`threadbus post`."""

from __future__ import annotations

import contextlib
import functools
import mimetypes
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import bus_client
from bus_client.cli.daemon import in_daemon_thread
from bus_client.cli.documents import document
from bus_client.cli.mentions import mentioned_agents, names_in
from bus_client.cli.options import (
    Duration,
    as_option,
    label_option,
    seq_option,
    thread_and_next,
    timeout_option,
)
from bus_client.cli.people import describe_recipients, is_gone
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import describe_new_thread
from threadbus.limits import MAX_WITHIN
from threadbus.names import RESERVED

if TYPE_CHECKING:
    from bus_client import Attachment, BusClient, ThreadHandle
    from threadbus.v1.bus_service_pb2 import PostMessageResponse


@click.command()
@click.argument("thread", required=False)
@click.argument("content", required=False, metavar="[CONTENT|-]")
@click.option(
    "--mention",
    "mentions",
    metavar="NAME",
    multiple=True,
    help="Mention a registered agent; may be repeated.",
)
@click.option("--no-mentions", is_flag=True, help="Do not look for names in the text.")
@seq_option("--reply-to", default=0, help="Reply to message SEQ.")
@click.option(
    "--handoff",
    metavar="NAME",
    default="",
    show_default=False,
    help="Hand off to agent NAME, whose turn it is now.",
)
@click.option(
    "--ask",
    is_flag=True,
    help="Ask those that the message mentions or hands off to for a reply: see threadbus requests.",
)
@click.option(
    "--within",
    metavar="TIME",
    type=Duration(minimum=0.001, maximum=MAX_WITHIN),
    show_default=False,
    help="With --ask: how long until a request is overdue, at most 365d. By default it never is.",
)
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high", "urgent"]),
    default="normal",
    help="How urgent the message is.",
)
@click.option(
    "--quiet",
    is_flag=True,
    help="Wake only those that the message mentions, hands off to or replies to.",
)
@click.option("--no-wake", is_flag=True, help="Wake nobody: they get it with the next message.")
@label_option
@click.option(
    "--attach",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Attach a file; may be repeated.",
)
@seq_option("--edit", default=0, help="Edit your message SEQ: CONTENT replaces its content.")
@seq_option("--expect", help="Post only if the newest message is still SEQ.")
@seq_option(
    "--based-on", help="The last message that you have read; all up to it are marked as read."
)
@click.option(
    "--request-id", metavar="ID", help="Repeating the command with the same ID posts only once."
)
@click.option(
    "--on-behalf-of",
    metavar="NAME",
    default="",
    show_default=False,
    help="Operators only: post on behalf of NAME.",
)
@as_option
@timeout_option
@on_server
async def post(
    session: Session,
    thread: str | None,
    content: str | None,
    mentions: Sequence[str],
    no_mentions: bool,
    reply_to: int,
    handoff: str,
    ask: bool,
    within: float | None,
    priority: str,
    quiet: bool,
    no_wake: bool,
    labels: dict[str, str],
    files: Sequence[Path],
    edit: int,
    expect: int | None,
    based_on: int | None,
    request_id: str | None,
    on_behalf_of: str,
) -> None:
    """Post a message to a thread; print its seq and who will see it.

    Creates the thread if it does not exist, unless --reply-to, --edit, --expect or --based-on
    names one of its messages. @name or @Name in the text mentions a registered agent, but not in
    code: between `backticks`, or between lines that begin with ``` or ~~~. Only this command looks
    for names in the text, the SDK and the RPCs do not. `-` as CONTENT reads standard
    input: UTF-8, from which one newline at the end is removed. If THREADBUS_THREAD is set, a single
    argument is CONTENT. If TRACEPARENT is, the message continues that trace.

    --ask keeps a request open for each agent that the message addresses, until it posts with
    --reply-to this message. If it does not, because it goes, is idle or is late, `threadbus wait`
    prints a notice to you. An agent that is gone already causes none unless you give --within: a
    note on stderr says so.

    \b
    Examples:
      threadbus post design "hello @reviewer" --as coder
      git diff | threadbus post design - --as coder --reply-to 12
      threadbus post design "tests pass @reviewer" --quiet
      threadbus post design "may I merge, @reviewer?" --ask --within 10m --as coder
    """
    thread, content = thread_and_next(thread, content)
    if content is None and not files:
        raise click.UsageError(
            "Missing CONTENT: add a text, - for standard input, or --attach FILE."
        )
    if quiet + no_wake + bool(edit) > 1:
        raise click.UsageError(
            "Use one of --quiet, --no-wake and --edit: an edit wakes as the message that it edits."
        )
    if within is not None and not ask:
        raise click.UsageError("--within needs --ask: it says how long a reply may take.")
    if ask and no_wake:
        raise click.UsageError(
            "--ask wakes those that it asks: leave out --no-wake, or use --quiet to wake no others."
        )
    if ask and edit:
        raise click.UsageError("An edit asks nobody: leave out --edit, to post a new message.")
    if ask and session.agent is None and session.token is None:
        raise click.UsageError("Missing agent: add --as NAME; nobody can reply to anonymous.")
    wakes = "WAKE_ADDRESSED" if quiet else "WAKE_NOBODY" if no_wake else "WAKE_UNSPECIFIED"
    text = await _from_stdin() if content == "-" else content or ""
    named = [name.removeprefix("@") for name in mentions]
    if ask and not (named or handoff or (names_in(text) and not no_mentions)):
        raise _nobody_asked()
    async with session.connect() as bus:
        if not no_mentions:
            named += await mentioned_agents(bus, text, named, note=session.out.note)
        if ask and not (named or handoff):
            raise _nobody_asked()
        handle = bus.thread(thread)
        send = functools.partial(
            _send,
            bus,
            handle,
            text,
            mentions=named,
            reply_to=reply_to,
            handoff_to=handoff.removeprefix("@"),
            ask=ask,
            within=within,
            priority=bus_client.Priority.Value(f"PRIORITY_{priority.upper()}"),
            wakes=bus_client.Wake.Value(wakes),
            labels=labels,
            attachments=[_attachment(file) for file in files],
            edit_of=edit,
            expected_last_seq=expect,
            based_on_seq=based_on,
            request_id=request_id,
            on_behalf_of=on_behalf_of,
            include_recipients=True,
        )
        try:
            posted = await send()
        except bus_client.ThreadNotFound:
            if reply_to or edit or expect or based_on:
                raise  # these refer to messages of an existing thread
            handle = await bus.join(thread, create=True)
            posted = await send()
        who = [] if session.out.json else await describe_recipients(bus, posted.recipients)
        owed = None if session.out.json or reply_to or ask else await _owed(bus, thread)
    if handle.created:
        session.out.note(describe_new_thread(handle, seen=bool(posted.recipients)))
    if ask and within is None:
        _note_gone(session, posted, {*named, handoff.removeprefix("@")})
    if owed:
        session.out.note(
            f"{owed.asker} still waits for your answer to #{owed.seq}: it takes "
            f"--reply-to {owed.seq}."
        )
    if posted.deduplicated:
        session.out.note("The message had been posted before with this --request-id.")
    shown = document(posted, whole=True)
    shown |= {"created": handle.created, "similar": handle.similar, "registered": bus.created}
    session.out.show(shown, [" · ".join((f"{thread} #{posted.seq}", *who))])


def _nobody_asked() -> click.UsageError:
    return click.UsageError(
        "--ask asks nobody: mention a registered agent with --mention or @NAME in the text, or use "
        "--handoff."
    )


def _note_gone(session: Session, posted: PostMessageResponse, asked: Collection[str]) -> None:
    """Print a note if agents that were asked without a limit are gone: no notice may ever come."""
    gone = [found.agent for found in posted.recipients if found.agent in asked and is_gone(found)]
    if gone:
        was, they = ("was", "it never comes") if len(gone) == 1 else ("were", "they never come")
        session.out.note(
            f"{', '.join(gone)} {was} gone already: if {they} back, you are not notified. "
            "With --within TIME, you are."
        )


async def _owed(bus: BusClient, thread: str) -> bus_client.Request | None:
    """Returns the newest open request to the poster in the thread. None if there is none."""
    if bus.agent in RESERVED:
        return None
    with contextlib.suppress(bus_client.BusError):  # what was posted stays so
        async for request in bus.list_requests(agent=bus.agent, thread=thread):
            return request
    return None


async def _send(
    bus: BusClient, thread: ThreadHandle, text: str, **options: Any
) -> PostMessageResponse:
    """Post a message. Returns the server's response.

    Raises:
        BusError: As ThreadHandle.post(). If the message exceeds even gRPC's limit, the error names
            the server's; if it edits another agent's message, the hint says who may do so.
    """
    try:
        return await thread.post(text, **options)
    except bus_client.AccessDenied as error:
        if options["edit_of"]:
            error.hint = "Name its sender with --as; an operator adds --on-behalf-of."
        raise
    except bus_client.MessageTooLarge as error:
        if error.reason or error.metadata:  # the server or a proxy has named its limit
            raise
        limits = (await bus.server_info()).limits
        if not limits.max_content_bytes:
            raise
        raise bus_client.MessageTooLarge(
            "The message is too large: this server takes at most "
            f"{limits.max_content_bytes:,} bytes of content, and "
            f"{limits.max_message_bytes:,} bytes for a message in total.",
            code=error.code,
        ) from error


async def _from_stdin() -> str:
    if sys.stdin.isatty():
        click.echo("Reading the message from the terminal; Ctrl-D ends it.", err=True)
    descriptor = sys.stdin.fileno()
    data = await in_daemon_thread(lambda: _read_all(descriptor))  # so that Ctrl-C works at once
    try:
        return data.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"Standard input is not UTF-8 (byte {error.start + 1}): attach it with --attach FILE."
        ) from None


def _read_all(descriptor: int) -> bytes:
    data = bytearray()
    while chunk := os.read(descriptor, 65_536):
        data += chunk
    return bytes(data)


def _attachment(file: Path) -> Attachment:
    media_type, encoding = mimetypes.guess_type(file.name)
    return bus_client.Attachment(
        filename=file.name,
        media_type="application/octet-stream" if encoding else media_type or "",
        raw=file.read_bytes(),
    )

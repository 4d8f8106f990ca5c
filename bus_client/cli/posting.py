"""`threadbus post`."""

from __future__ import annotations

import asyncio
import functools
import mimetypes
import os
import re
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.options import as_option, label_option, seq_option, timeout_option
from bus_client.cli.people import recipient_words
from bus_client.cli.session import Session, on_server
from bus_client.cli.transcript import new_thread
from threadbus.limits import MAX_MENTIONS
from threadbus.names import AGENT

if TYPE_CHECKING:
    from bus_client import Attachment, BusClient

# `@name`, but not in an address such as me@example.org. Names are lower case, but whoever begins a
# sentence with one, or whose keyboard does, writes a capital.
_NAMED = re.compile(rf"(?<![\w.@-])@((?ai:{AGENT.pattern}))(?!\w)")
_MOST_LOOKUPS = 100


@click.command()
@click.argument("thread", required=False)
@click.argument("content", required=False, metavar="[CONTENT|-]")
@click.option(
    "--mention",
    "mentions",
    metavar="NAME",
    multiple=True,
    help="Name a registered agent; may be repeated.",
)
@seq_option("--reply-to", default=0, help="The message it answers.")
@click.option(
    "--handoff", metavar="NAME", default="", show_default=False, help="Whose turn it is now."
)
@click.option(
    "--priority",
    type=click.Choice(["low", "normal", "high", "urgent"]),
    default="normal",
    help="How urgent it is.",
)
@label_option
@click.option(
    "--attach",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file to go with it; may be repeated.",
)
@seq_option("--edit", default=0, help="A new content for your own message SEQ.")
@seq_option("--expect", help="Only if the newest message is still SEQ.")
@seq_option("--based-on", help="How far you had read; counts as read.")
@click.option("--request-id", metavar="ID", help="Makes repeating the command safe.")
@click.option(
    "--on-behalf-of",
    metavar="NAME",
    default="",
    show_default=False,
    help="Operators only: post as NAME.",
)
@as_option
@timeout_option
@on_server
async def post(
    session: Session,
    thread: str | None,
    content: str | None,
    mentions: Sequence[str],
    reply_to: int,
    handoff: str,
    priority: str,
    labels: dict[str, str],
    files: Sequence[Path],
    edit: int,
    expect: int | None,
    based_on: int | None,
    request_id: str | None,
    on_behalf_of: str,
) -> None:
    """Post a message to a thread; prints where it is, and who will see it.

    The thread is created when it is not there. Registered agents that the text names as @name, or
    @Name, are mentioned; only this command looks for names, the SDK and the RPCs do not. CONTENT
    `-` is standard input: UTF-8, without one newline at its end. With THREADBUS_THREAD set, a
    single argument is the content.

    \b
    Examples:
      threadbus post design "hello @reviewer" --as coder
      git diff | threadbus post design - --as coder --reply-to 12
    """
    thread, content = _where_and_what(thread, content)
    if content is None and not files:
        raise click.UsageError("Say what to post: a text, - for standard input, or --attach FILE.")
    text = await _from_stdin() if content == "-" else content or ""
    named = [name.removeprefix("@") for name in mentions]
    async with session.connect() as bus:
        named += await _registered(session, bus, text, named)
        handle = bus.thread(thread)
        send = functools.partial(
            handle.post,
            text,
            mentions=named,
            reply_to=reply_to,
            handoff_to=handoff.removeprefix("@"),
            priority=bus_client.Priority.Value(f"PRIORITY_{priority.upper()}"),
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
                raise  # not the thread that was meant
            handle = await bus.join(thread, create=True)
            posted = await send()
        who = [] if session.out.json else await recipient_words(bus, posted.recipients)
    if handle.created:
        session.out.note(new_thread(handle, seen=bool(posted.recipients)))
    if posted.deduplicated:
        session.out.note("It was posted before, with this --request-id.")
    shown = document(posted, whole=True)
    shown |= {"created": handle.created, "similar": handle.similar, "registered": bus.created}
    session.out.show(shown, [" · ".join((f"{thread} #{posted.seq}", *who))])


def _where_and_what(thread: str | None, content: str | None) -> tuple[str, str | None]:
    usual = os.environ.get("THREADBUS_THREAD")
    if usual and content is None:
        thread, content = usual, thread
    if not thread:
        raise click.UsageError("Say where to post: a THREAD, or set THREADBUS_THREAD.")
    return thread, content


async def _from_stdin() -> str:
    if sys.stdin.isatty():
        click.echo("Reading the terminal; Ctrl-D ends the message.", err=True)
    data = await _until_end(sys.stdin.fileno())
    try:
        return data.removesuffix(b"\n").decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"Standard input is not UTF-8 (byte {error.start}): attach it, --attach FILE."
        ) from None


async def _until_end(descriptor: int) -> bytes:
    """All that can be read, without keeping signals waiting meanwhile."""
    loop = asyncio.get_running_loop()
    whole: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        data = bytearray()
        while chunk := os.read(descriptor, 65_536):
            data += chunk
        with suppress(RuntimeError):  # interrupted: nobody waits for it any more
            loop.call_soon_threadsafe(whole.set_result, bytes(data))

    # A daemon, so that one which is still reading does not hold up the exit.
    threading.Thread(target=read, daemon=True).start()
    return await whole


async def _registered(
    session: Session, bus: BusClient, text: str, mentions: Sequence[str]
) -> list[str]:
    """The agents that a text names beside those mentioned; says which names are nobody's."""
    found: list[str] = []
    typed: dict[str, str] = {}
    for as_typed in _NAMED.findall(text):
        typed.setdefault(as_typed.lower(), as_typed)
    for name, as_typed in list(typed.items())[:_MOST_LOOKUPS]:
        # A name may end in what ends a sentence, too.
        for candidate in (name, name.rstrip("._-")):
            if len(found) + len(mentions) >= MAX_MENTIONS or candidate in (*mentions, *found):
                break
            if await _is_registered(bus, candidate):
                found.append(candidate)
                break
        else:
            session.out.note(f"@{as_typed} is no registered agent: nobody is mentioned by that.")
    return found


async def _is_registered(bus: BusClient, name: str) -> bool:
    try:
        await bus.get_agent(name)
    except (bus_client.AgentNotFound, bus_client.InvalidArgument):
        return False
    return True


def _attachment(file: Path) -> Attachment:
    media_type, encoding = mimetypes.guess_type(file.name)
    return bus_client.Attachment(
        filename=file.name,
        media_type="application/octet-stream" if encoding else media_type or "",
        raw=file.read_bytes(),
    )

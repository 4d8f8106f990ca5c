"""The messages of a thread as lines of an export: JSON, or Markdown for people."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

import bus_client
from bus_client.cli.documents import document
from bus_client.cli.files import take_files
from bus_client.cli.text import dumps
from bus_client.cli.transfer import markdown

if TYPE_CHECKING:
    from bus_client import BusClient, Message, MessageKind, Request, Thread, ThreadHandle

    #: (message, its requests) → lines
    _Body: TypeAlias = Callable[[Message, Sequence[Request]], Iterable[str]]

_PAGE = 100  # messages in memory at a time


class Format:
    """How messages are written.

    Attributes:
        markdown: Whether as Markdown; else as JSON lines.
    """

    def __init__(
        self,
        form: str,
        *,
        fields: str | None = None,
        folder: Path | None = None,
        no_files: bool = False,
        on_terminal: bool = False,
    ) -> None:
        """Args:
            form: `jsonl` or `markdown`.
            fields: JSON lines: the names of the fields to write, with commas. None = all.
            folder: Markdown: where the messages' files are saved. None = nowhere.
            no_files: Leave out the bytes of files.
            on_terminal: JSON lines: escape what a terminal could misunderstand.

        Raises:
            click.UsageError: `fields` does not fit the format, or names an unknown field.
        """
        self.markdown = form == "markdown"
        self._omit = no_files or (self.markdown and folder is None)
        self._head, self._body = _format(form, fields, folder, on_terminal=on_terminal)
        self._kinds = {bus_client.MessageKind.MESSAGE_KIND_CHAT}
        if self.markdown:
            self._kinds.add(bus_client.MessageKind.MESSAGE_KIND_NOTICE)

    async def lines(
        self,
        bus: BusClient,
        thread: Thread,
        step: Callable[[int], object],
        removed: Callable[[str, int, int], object],
    ) -> AsyncIterator[list[str]]:
        """Yields the lines of each message up to `thread.head_seq`, with its current content.

        Those of the first begin with the thread's heading. Calls `step` with the number of seqs
        read since its last call; and `removed`, as report_removed(), if messages are removed
        meanwhile.

        Raises:
            click.ClickException: The thread was replaced by a new one, or the server has fewer
                messages than it reported.
            BusError: As ThreadHandle.messages().
        """
        asked = await _requests(bus, thread) if self.markdown else {}
        heading = [*self._head(thread)]
        reading = _messages(bus, thread, self._kinds, step, removed, self._omit)
        async for message in reading:
            yield [*heading, *self._body(message, asked.get(message.seq, ()))]
            heading = []


async def _requests(bus: BusClient, thread: Thread) -> dict[int, list[Request]]:
    """Returns the requests of a thread in any state, by the seq of the message that asks.

    Those of a message are in the order of their agents' names.
    """
    found: dict[int, list[Request]] = {}
    async for request in bus.thread(thread.name).list_requests(states=()):
        if request.epoch == thread.epoch:
            found.setdefault(request.seq, []).append(request)
    for requests in found.values():
        requests.sort(key=lambda request: request.agent)
    return found


async def _messages(
    bus: BusClient,
    thread: Thread,
    kinds: Container[MessageKind.ValueType],
    step: Callable[[int], object],
    removed: Callable[[str, int, int], object],
    omit_attachment_data: bool,
) -> AsyncIterator[Message]:
    """Yields the messages of some kinds up to `thread.head_seq`, with their current content.

    Calls `step` and `removed` as Format.lines() does.

    Raises:
        click.ClickException: The thread was replaced by a new one, or the server has fewer
            messages than it reported.
        BusError: As ThreadHandle.messages().
    """
    handle = bus.thread(thread.name)
    after = max(thread.first_seq - 1, 0)
    while after < thread.head_seq:
        page = await handle.messages(
            after_seq=after,
            before_seq=thread.head_seq + 1,
            limit=_PAGE,
            omit_attachment_data=omit_attachment_data,
        )
        following = page[0].seq if page else thread.head_seq + 1
        if following > after + 1:
            first = min((await handle.refresh()).first_seq, following)
            if first > after + 1:
                removed(thread.name, after, first)
                step(first - 1 - after)
                after = first - 1
                if not page:
                    continue
            elif not page and not await _is_there(handle, after + 1):
                break
        for message in page:
            if message.kind in kinds and await _is_current(handle, message):
                yield message
        # Perhaps past the page's last message: the client drops messages of unknown kinds.
        upto = min(max(after + _PAGE, page[-1].seq if page else 0), thread.head_seq)
        step(upto - after)
        after = upto
    now = await handle.refresh()
    if now.epoch != thread.epoch:
        raise click.ClickException(
            f"Thread {thread.name} was deleted and created again during the export: run it again."
        )
    if after < thread.head_seq:
        raise click.ClickException(
            f"The server has no messages of {thread.name} after #{after}, but said that its newest "
            f"is #{thread.head_seq}."
        )


async def _is_there(handle: ThreadHandle, seq: int) -> bool:
    """Returns whether the thread has a message `seq` of any kind."""
    try:
        await handle.message(seq, omit_attachment_data=True)
    except bus_client.MessageNotFound:
        return False
    return True


async def _is_current(handle: ThreadHandle, message: Message) -> bool:
    """Give a message the content of its latest edit, if it has one.

    Returns False if both were removed meanwhile. Raises BusError.
    """
    if message.edit_seq:
        try:
            edit = await handle.message(message.edit_seq, omit_attachment_data=True)
        except bus_client.MessageNotFound:
            if (await handle.refresh()).first_seq > message.edit_seq:
                return False
            raise
        message.content, message.content_size = edit.content, edit.content_size
    return True


def _format(
    form: str, fields: str | None, folder: Path | None, *, on_terminal: bool
) -> tuple[Callable[[Thread], Iterable[str]], _Body]:
    """Returns two functions: one formats a thread's heading, the other a message, as lines.

    The latter takes a message and its requests, and saves its files in `folder`, unless that is
    None.

    Raises:
        click.UsageError: `fields` does not fit the format, or names an unknown field.
    """
    if form == "jsonl":
        return (lambda _: ()), _json_lines(fields, on_terminal=on_terminal)
    if fields is not None:
        raise click.UsageError("--fields cannot be used with --format markdown.")

    def section(message: Message, requests: Sequence[Request]) -> Iterator[str]:
        paths = take_files([message], folder)
        return markdown.section(message, requests, paths.get((message.thread, message.seq), ()))

    return markdown.heading, section


def _json_lines(fields: str | None, *, on_terminal: bool) -> _Body:
    # A file must be exact: unsafe characters are escaped on terminals only.
    encode = dumps if on_terminal else functools.partial(json.dumps, ensure_ascii=False)
    if fields is None:
        return lambda message, _: [encode(document(message))]
    names = [name.strip() for name in fields.split(",")]
    known = list(bus_client.Message.DESCRIPTOR.fields_by_name)
    for name in names:
        if name not in known:
            raise click.UsageError(
                f"There is no field {name!r}; the fields are {', '.join(known)}."
            )

    def line(message: Message, _: Sequence[Request]) -> list[str]:
        whole = document(message, whole=True)
        return [encode({name: whole.get(name) for name in names})]

    return line

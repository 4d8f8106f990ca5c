"""`threadbus import`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.agents import register_other
from bus_client.cli.options import timeout_option
from bus_client.cli.progress import progress
from bus_client.cli.session import Session, on_server, side_by_side
from bus_client.cli.transfer.entries import BadLine, Entries, Seqs

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from bus_client import BusClient, Message, ThreadHandle

_REQUEST_ID = "import-"
_THREADS_AT_ONCE = 32
_LINES_BETWEEN_BREATHS = 200  # some milliseconds, after which a signal should be heard


def _seekable(ctx: click.Context, _: click.Parameter, file: IO[bytes]) -> IO[bytes]:
    """The file, or a copy of what can be read only once: it is read twice."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    try:
        copy = ctx.with_resource(tempfile.TemporaryFile())  # noqa: SIM115 - closed with ctx
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except OSError as error:
        raise click.ClickException(f"Cannot keep what is to be imported: {error}") from None
    return copy


@click.command("import")
@click.argument("file", metavar="FILE|-", type=click.File("rb"), callback=_seekable)
@click.option(
    "--source",
    metavar="NAME",
    default="",
    show_default=False,
    help="Where the file comes from: the same lines of other sources are other messages.",
)
@timeout_option
@on_server
async def import_(session: Session, file: IO[bytes], source: str) -> int:
    """Post the messages in a file of JSON lines, each in the name of its sender.

    Needs the operator's token: THREADBUS_TOKEN or --token-file. Each line is an object with
    "thread", "sender" and "content"; threads are created and senders registered at need. Every
    line is checked before the first is posted. Each thread's messages keep their order.

    Run it again after whatever stopped it: what was posted is not posted twice. A line is known
    by its thread, sender and content, and by how many like it came before it in the file. So the
    second "ok" of a file is a message of its own, but the first "ok" of another file is the same
    message, unless the files have sources: give each file of a series, such as one for each day,
    its own --source, from the first time on and each time again.

    Of what `threadbus export` writes, mentions, handoff_to, priority, labels and attachments are
    kept, and reply_to where its message is in the file, too; the agents named are registered at
    need. Seqs and times become those of now. Edits and changes of a thread's state are left out,
    and so is all else.

    \b
    Examples:
      threadbus import talk.jsonl --token-file threadbus.db.operator-token
      for day in 2026-*.jsonl; do threadbus import "$day" --source "$day"; done
    """
    async with session.connect() as bus:
        info = await bus.server_info()
        if "admin" not in info.scopes:
            raise bus_client.AccessDenied(
                "Only an operator may post in the names of others.",
                code="PERMISSION_DENIED",
                reason="ACCESS_DENIED",
            )
        entries = Entries(file, max_content_bytes=info.limits.max_content_bytes)
        work = _Import(bus, entries, source, info.server_time)
        try:
            await _check(session, entries)
            with progress(session.out, "Posting", length=entries.count) as step:
                await work.run(step)
        except BadLine as bad:
            error = bus_client.InvalidArgument(
                bad.why, code="INVALID_ARGUMENT", reason="VALIDATION_FAILED"
            )
            return _tell(session, _Stopped(bad.number, error), work.done)
        except _Stopped as stopped:
            return _tell(session, stopped, work.done)
    _show(session, work.done, threads=len(entries.threads))
    return 0


async def _check(session: Session, entries: Entries) -> None:
    with progress(session.out, "Checking", length=entries.size) as step:
        for number, size in enumerate(entries.index()):
            step(size)
            if number % _LINES_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)


@dataclass(slots=True)
class _Done:
    """What became of the lines so far."""

    posted: int = 0
    already_there: int = 0
    out_of_place: int = 0
    left_out: int = 0
    replies_unlinked: int = 0


class _Stopped(Exception):
    """The server did not take a line."""

    def __init__(self, number: int, error: bus_client.BusError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


class _Import:
    """Posts what a file holds: threads side by side, each one's messages in order."""

    def __init__(self, bus: BusClient, entries: Entries, source: str, began: Timestamp) -> None:
        self._bus = bus
        self._entries = entries
        self._source = source
        self._began = began
        self._registered: set[str] = set()
        self.done = _Done()

    async def run(self, step: Callable[[int], object]) -> None:
        """Posts all of it, and calls `step` with 1 after each message."""
        threads = iter(self._entries.threads)
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                # One after the other: the order of creation is the file's.
                async with turn:
                    thread = next(threads, None)
                    if thread is None:
                        return
                    with _at_line(self._entries.first_line(thread)):
                        await self._create(thread)
                await self._post_all(self._bus.thread(thread), step)

        await side_by_side([work() for _ in range(_THREADS_AT_ONCE)])

    async def _create(self, thread: str) -> None:
        # Unlike joining, it makes no participant of the operator.
        with suppress(bus_client.ThreadExists):
            try:
                await self._bus.create_thread(thread)
            except bus_client.OutcomeUnknown:
                await self._bus.create_thread(thread)

    async def _post_all(self, thread: ThreadHandle, step: Callable[[int], object]) -> None:
        # Some 100 bytes a line, of the threads under way only. If two digests were ever the same,
        # one of the lines would be counted on from the other's: no harm.
        likes: Counter[bytes] = Counter()
        seqs, places = Seqs(), _Places(thread)
        for number, entry in self._entries.of(thread.name):
            with _at_line(number):
                await self._post(thread, entry, likes, seqs, places)
            step(1)

    async def _post(
        self,
        thread: ThreadHandle,
        entry: Message,
        likes: Counter[bytes],
        seqs: Seqs,
        places: _Places,
    ) -> None:
        if entry.kind not in (
            bus_client.MessageKind.MESSAGE_KIND_UNSPECIFIED,
            bus_client.MessageKind.MESSAGE_KIND_CHAT,
        ):
            self.done.left_out += 1
            return
        reply_to = seqs.new(entry.reply_to)
        if entry.reply_to and not reply_to:
            self.done.replies_unlinked += 1
        for name in (*entry.mentions, entry.handoff_to):
            await self._register(name)
        # No name holds a NUL, so that nothing else gives the same bytes.
        source = f"{self._source}\0" if self._source else ""
        said = f"{source}{entry.thread}\0{entry.sender}\0{entry.content}".encode()
        digest = hashlib.blake2b(said, digest_size=16)
        likes[digest.digest()] += 1
        posted = await thread.post(
            entry.content,
            mentions=entry.mentions,
            reply_to=reply_to,
            handoff_to=entry.handoff_to,
            priority=entry.priority,
            labels=entry.labels,
            attachments=entry.attachments,
            on_behalf_of="" if entry.sender == self._bus.agent else entry.sender,
            request_id=f"{_REQUEST_ID}{digest.hexdigest()}-{likes[digest.digest()]}",
        )
        seqs.add(entry.seq, posted.seq)
        if posted.deduplicated:
            self.done.already_there += 1
            # One of now was posted by this run, and its answer was lost.
            if posted.create_time.ToNanoseconds() < self._began.ToNanoseconds():
                self.done.out_of_place += not await places.fits(posted.seq)
        else:
            self.done.posted += 1
            places.posted()

    async def _register(self, name: str) -> None:
        """Registers an agent that a message names, as it may do so before it has one of its own."""
        if not name or name in self._registered:
            return
        try:
            await self._bus.get_agent(name)
        except bus_client.AgentNotFound:
            # Registered in between, or unregistered for good.
            with suppress(bus_client.AgentExists):
                await register_other(self._bus, name, {})
        self._registered.add(name)


class _Places:
    """Where lines of one thread were that were there already: where this file has them, or not.

    A run that goes on meets what the last one posted, and from there on nothing. Lines of another
    file show when the file has more before or between them.
    """

    def __init__(self, thread: ThreadHandle) -> None:
        self._thread = thread
        self._last = 0
        self._posted = False

    def posted(self) -> None:
        """A line was not there."""
        self._posted = True

    async def fits(self, seq: int) -> bool:
        """Whether this can be where an earlier run posted the next line."""
        last, self._last = self._last, seq
        if self._posted or seq <= last:
            return False
        if not last or seq == last + 1:
            return True
        between = await self._thread.message(last + 1)  # an agent's, unless it was imported, too
        return not between.request_id.startswith(_REQUEST_ID)


@contextmanager
def _at_line(number: int) -> Iterator[None]:
    try:
        yield
    except bus_client.BusError as error:
        raise _Stopped(number, error) from error


def _tell(session: Session, stopped: _Stopped, done: _Done) -> int:
    """Says where it stopped and how to go on; answers the exit code."""
    error, hint = stopped.error, ""
    so_far = f"after {done.posted:,} were posted" if done.posted else "before any was posted"
    if error.retryable:
        hint = "Run it again: it goes on where it stopped."
    elif isinstance(error, bus_client.RequestIdReused):
        hint = f"It was imported before, as #{error.seq}, with other mentions, labels or the like."
    elif isinstance(error, bus_client.InvalidArgument):
        hint = "Mend the line, and run it again: what was posted is not posted twice."
    message = f"Line {stopped.number}, {so_far}: {error.message}"
    code = failures.tell(error, json=session.out.json, message=message, hint=hint)
    return failures.UNREACHABLE if error.retryable else code


def _show(session: Session, done: _Done, *, threads: int) -> None:
    document = {
        "posted": done.posted,
        "already_there": done.already_there,
        "out_of_place": done.out_of_place,
        "threads": threads,
        "left_out": done.left_out,
        "replies_unlinked": done.replies_unlinked,
    }
    lines = [
        f"{done.posted:,} posted, {done.already_there:,} were there already, in {threads:,} threads"
    ]
    if done.left_out:
        lines.append(f"{done.left_out:,} left out: edits, and changes of a thread's state")
    if done.replies_unlinked:
        lines.append(f"{done.replies_unlinked:,} answer messages that are not in the file before")
    session.out.show(document, lines)
    if done.out_of_place:
        session.out.note(
            f"{done.out_of_place:,} of those that were there already do not stand where this file "
            "has them: another file with the same lines was imported before. If they are messages "
            "of their own, they were not posted. Give each file a --source of its own."
        )

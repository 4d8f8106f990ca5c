"""The verb `threadbus import`."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import click

import bus_client
from bus_client.cli import failures
from bus_client.cli.agents import register_with_token
from bus_client.cli.options import timeout_option
from bus_client.cli.progress import progress
from bus_client.cli.session import Session, on_server, run_concurrently
from bus_client.cli.text import count, os_error_text
from bus_client.cli.transfer.entries import BadLine, Entries, SeqMap, is_imported

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from bus_client import BusClient, Message, ThreadHandle
    from threadbus.v1.bus_service_pb2 import PostMessageResponse

_REQUEST_ID = "import-"  # the prefix of the request_ids of all imports
_THREADS_AT_ONCE = 32
# A batch ends with the line that reaches one of these numbers. So it is one request of post_many(),
# which a busy server refuses as a whole.
_BATCH_LINES, _BATCH_BYTES = 100, 512 * 1024
_REQUEST_ID_BYTES = 64  # maximum
_LINES_PER_YIELD = 200  # checked in a few ms, after which the event loop can handle signals


def _seekable(ctx: click.Context, _: click.Parameter, file: IO[bytes]) -> IO[bytes]:
    """Returns the file, or for a pipe a temporary copy, as the file is read twice.

    Raises:
        click.ClickException: The copy cannot be written, for example because the disk is full.
    """
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    try:
        copy = ctx.with_resource(tempfile.TemporaryFile())  # noqa: SIM115 - closed with ctx
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except OSError as error:
        raise click.ClickException(
            f"Cannot store a copy of the input: {os_error_text(error)}"
        ) from None
    return copy


@click.command("import")
@click.argument("file", metavar="FILE|-", type=click.File("rb"), callback=_seekable)
@click.option(
    "--source",
    metavar="NAME",
    default="",
    show_default=False,
    help="Where the file comes from: equal lines of different sources are different messages.",
)
@timeout_option
@on_server
async def import_(session: Session, file: IO[bytes], source: str) -> int:
    """Post the messages in a file of JSON lines, each on behalf of its sender.

    Requires an operator's token: THREADBUS_TOKEN or --token-file. Each line is an object with
    "thread", "sender" and "content"; threads are created and senders registered if needed. All
    lines are checked before the first is posted. The order within each thread is kept.

    An import that was stopped can be run again: nothing is posted twice. A line is identified by
    its thread, sender and content, and by the number of equal lines before it in the file. So the
    second "ok" in a file is a message of its own, but the first "ok" of another file is taken for
    the first one of this file, unless the files have different sources. Give each file of a series,
    such as one for each day, its own --source, and the same one in each run.

    Of the fields that `threadbus export` writes, mentions, handoff_to, priority, wakes, labels,
    attachments and traceparent are kept, and reply_to if the message that it names is earlier in
    the file; agents that are mentioned or handed off to are registered if needed. Messages get new
    seqs and times. Edits, notices, entries about changes of the thread, and all other fields are
    omitted: a message that asks for replies (expect_reply) is posted without asking again.

    \b
    Examples:
      threadbus import talk.jsonl --token-file threadbus.db.operator-token
      for day in 2026-*.jsonl; do threadbus import "$day" --source "$day"; done
    """
    async with session.connect() as bus:
        info = await bus.server_info()
        if "admin" not in info.scopes:
            raise bus_client.AccessDenied(
                "Only an operator may post on behalf of others.",
                code="PERMISSION_DENIED",
                reason="ACCESS_DENIED",
            )
        entries = Entries(file, max_content_bytes=info.limits.max_content_bytes)
        work = _Import(bus, entries, source, info.server_time, session.timeout)
        try:
            await _check(session, entries)
            with (
                progress(session.out, "Posting", length=entries.count) as step,
                bus_client.continue_trace(""),  # else all lines without one have the command's
            ):
                await work.run(step)
        except BadLine as bad:
            error = bus_client.InvalidArgument(
                bad.why, code="INVALID_ARGUMENT", reason="VALIDATION_FAILED"
            )
            return _report_failure(session, _LineFailed(bad.number, error), work.counts)
        except _LineFailed as failed:
            return _report_failure(session, failed, work.counts)
    _show(session, work.counts, threads=len(entries.threads))
    return 0


async def _check(session: Session, entries: Entries) -> None:
    with progress(session.out, "Checking", length=entries.size) as step:
        for number, size in enumerate(entries.index()):
            step(size)
            if number % _LINES_PER_YIELD == 0:
                await asyncio.sleep(0)


@dataclass(slots=True)
class _Counts:
    """The number of lines handled so far, by outcome."""

    posted: int = 0
    already_there: int = 0
    """Posted before: by an earlier run, or by a call of this run whose response was lost."""
    out_of_place: int = 0
    """Those of `already_there` that are not where this file has them."""
    left_out: int = 0
    """Edits, notices, and entries about changes of a thread."""
    replies_unlinked: int = 0
    """Posted without reply_to: the message that it names is not earlier in the file."""


class _LineFailed(Exception):
    """A call for a line failed.

    Attributes:
        number: The number of the line, from 1.
        error: The error of the call.
    """

    def __init__(self, number: int, error: bus_client.BusError) -> None:
        super().__init__(number, error)
        self.number = number
        self.error = error


class _Import:
    """The import of a file: posts to its threads concurrently, to each of them in order.

    Lines that the server would not refuse by themselves are posted in batches: if it refuses a post
    of a batch, it still accepts the ones after it, and the order would be lost. One exception is
    harmless: a line that was imported before with other fields is in the thread already.
    """

    def __init__(
        self, bus: BusClient, entries: Entries, source: str, began: Timestamp, timeout: float
    ) -> None:
        self._bus = bus
        self._entries = entries
        self._source = source
        self._began = began
        self._timeout = timeout
        self._registered: set[str] = set()
        #: Agents in whose names this run has posted.
        self._senders = {bus.agent}
        self.counts = _Counts()

    async def run(self, step: Callable[[int], object]) -> None:
        """Post all messages. Calls `step` with 1 after each line.

        Raises:
            BadLine: The file has changed.
            _LineFailed: A call for a line failed.
        """
        threads = iter(self._entries.threads)
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                # One at a time, so that threads are created in the order of the file.
                async with turn:
                    thread = next(threads, None)
                    if thread is None:
                        return
                    with _at_line(self._entries.first_line(thread)):
                        await self._create(thread)
                await self._post_all(self._bus.thread(thread), step)

        await run_concurrently([work() for _ in range(_THREADS_AT_ONCE)])

    async def _create(self, thread: str) -> None:
        # Unlike joining, this does not make the operator a participant.
        with suppress(bus_client.ThreadExists):
            try:
                await self._bus.create_thread(thread)
            except bus_client.OutcomeUnknown:
                await self._bus.create_thread(thread)

    async def _post_all(self, thread: ThreadHandle, step: Callable[[int], object]) -> None:
        # Takes about 100 bytes for each line of the threads in progress. If two digests ever
        # collided, their lines would be counted together, which is harmless.
        equal_lines: Counter[bytes] = Counter()
        posting = _ThreadPosting(thread, SeqMap(), _Resumption(thread))
        batch: list[_Line] = []
        size = 0
        for number, entry in self._entries.of(thread.name):
            if not is_imported(entry):
                self.counts.left_out += 1
                step(1)
                continue
            line = _Line(number, entry, self._request_id(entry, equal_lines))
            alone = not line.plain or entry.sender not in self._senders
            if not alone:
                batch.append(line)
                size += entry.ByteSize() + _REQUEST_ID_BYTES
            if alone or len(batch) >= _BATCH_LINES or size >= _BATCH_BYTES:
                await self._post_batch(posting, batch)
                step(len(batch))
                batch, size = [], 0
            if alone:
                with _at_line(number):
                    await self._post(posting, line)
                step(1)
        await self._post_batch(posting, batch)
        step(len(batch))

    def _request_id(self, entry: Message, equal_lines: Counter[bytes]) -> str:
        """Returns the request_id of the next line, and counts the line in `equal_lines`."""
        # Names contain no NUL, so different lines give different bytes.
        source = f"{self._source}\0" if self._source else ""
        identity = f"{source}{entry.thread}\0{entry.sender}\0{entry.content}".encode()
        digest = hashlib.blake2b(identity, digest_size=16)
        equal_lines[digest.digest()] += 1
        return f"{_REQUEST_ID}{digest.hexdigest()}-{equal_lines[digest.digest()]}"

    async def _post_batch(self, posting: _ThreadPosting, batch: list[_Line]) -> None:
        """Post plain lines through one stream. Lines that are refused are then posted one by one.

        Raises:
            _LineFailed: A line was refused again, or the stream failed.
        """
        if not batch:
            return
        posts = [self._to_post(line) for line in batch]
        refused: list[_Line] = []
        done = 0
        try:
            async with aclosing(posting.thread.post_many(posts, timeout=self._timeout)) as results:
                async for result in results:
                    if isinstance(result, bus_client.BusError):
                        refused.append(batch[done])
                    else:
                        await self._record(posting, batch[done], result)
                    done += 1
        except bus_client.BusError as failure:
            raise _LineFailed(batch[done].number, failure) from failure
        for line in refused:
            with _at_line(line.number):
                await self._post(posting, line)  # unlike post_many(), retries if the server is busy

    async def _post(self, posting: _ThreadPosting, line: _Line) -> None:
        entry = line.entry
        reply_to = posting.seqs.new(entry.reply_to)
        if entry.reply_to and not reply_to:
            self.counts.replies_unlinked += 1
        for name in (*entry.mentions, entry.handoff_to):
            await self._register(name)
        with bus_client.continue_trace(entry.traceparent):
            posted = await posting.thread.post(
                entry.content,
                mentions=entry.mentions,
                reply_to=reply_to,
                handoff_to=entry.handoff_to,
                priority=entry.priority,
                wakes=entry.wakes,
                labels=entry.labels,
                attachments=entry.attachments,
                on_behalf_of=self._on_behalf_of(entry),
                request_id=line.request_id,
            )
        await self._record(posting, line, posted)

    def _to_post(self, line: _Line) -> bus_client.Post:
        return bus_client.Post(
            line.entry.content,
            on_behalf_of=self._on_behalf_of(line.entry),
            request_id=line.request_id,
        )

    def _on_behalf_of(self, entry: Message) -> str:
        return "" if entry.sender == self._bus.agent else entry.sender

    async def _record(
        self, posting: _ThreadPosting, line: _Line, posted: PostMessageResponse
    ) -> None:
        self._senders.add(line.entry.sender)
        posting.seqs.add(line.entry.seq, posted.seq)
        if posted.deduplicated:
            self.counts.already_there += 1
            # If newer than the start, it was posted by this run, and only the response was lost.
            if posted.create_time.ToNanoseconds() < self._began.ToNanoseconds():
                in_place = await posting.resumption.continues_at(posted.seq)
                self.counts.out_of_place += not in_place
        else:
            self.counts.posted += 1
            posting.resumption.posted()

    async def _register(self, name: str) -> None:
        """Register an agent that a message names, if needed. Posting registers senders."""
        if not name or name in self._registered:
            return
        try:
            await self._bus.get_agent(name)
        except bus_client.AgentNotFound:
            # AgentExists: another process has just registered it.
            with suppress(bus_client.AgentExists):
                await register_with_token(self._bus, name, {})
        self._registered.add(name)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line to post."""

    number: int
    entry: Message
    request_id: str

    @property
    def plain(self) -> bool:
        """Whether it has only a sender and a content, both of which were checked."""
        entry = self.entry
        return not (
            entry.reply_to
            or entry.mentions
            or entry.handoff_to
            or entry.priority
            or entry.wakes
            or entry.labels
            or entry.attachments
            or entry.traceparent  # a stream of posts has one for all
        )


@dataclass(frozen=True, slots=True)
class _ThreadPosting:
    """What the import of one thread knows."""

    thread: ThreadHandle
    seqs: SeqMap
    resumption: _Resumption


class _Resumption:
    """Evidence on whether the messages that a thread already has were imported from this file.

    If an earlier run of this file was stopped, the thread has the file's lines up to some point, in
    order, and none after it. Lines imported from another file are detected if this file has other
    lines before or between them.
    """

    def __init__(self, thread: ThreadHandle) -> None:
        self._thread = thread
        self._last = 0
        self._posted = False

    def posted(self) -> None:
        """Record that this run has posted a line: an earlier run did not get that far."""
        self._posted = True

    async def continues_at(self, seq: int) -> bool:
        """Returns whether an earlier run of this file may have posted the next line as `seq`.

        Raises:
            BusError: A message of the thread could not be read.
        """
        last, self._last = self._last, seq
        if self._posted or seq <= last:
            return False
        if not last or seq == last + 1:
            return True
        between = await self._thread.message(last + 1)  # posted by an agent, or by an import
        return not between.request_id.startswith(_REQUEST_ID)


@contextmanager
def _at_line(number: int) -> Iterator[None]:
    try:
        yield
    except bus_client.BusError as error:
        raise _LineFailed(number, error) from error


def _report_failure(session: Session, failed: _LineFailed, counts: _Counts) -> int:
    """Print which line failed and how to continue. Returns the exit code."""
    error, hint = failed.error, ""
    so_far = f"after posting {count(counts.posted, 'message')}"
    if error.retryable:
        hint = "Run it again: it continues where it stopped."
    elif isinstance(error, bus_client.RequestIdReused):
        hint = (
            f"It was imported before, as #{error.seq}, with other mentions, labels or other fields."
        )
    elif isinstance(error, bus_client.InvalidArgument):
        hint = "Correct the line, and run it again: nothing is posted twice."
    message = f"Line {failed.number}, {so_far}: {error.message}"
    code = failures.report(error, json=session.out.json, message=message, hint=hint)
    return failures.UNREACHABLE if error.retryable else code


def _show(session: Session, counts: _Counts, *, threads: int) -> None:
    document = {
        "posted": counts.posted,
        "already_there": counts.already_there,
        "out_of_place": counts.out_of_place,
        "threads": threads,
        "left_out": counts.left_out,
        "replies_unlinked": counts.replies_unlinked,
    }
    lines = [
        f"{counts.posted:,} posted, {counts.already_there:,} were there already, "
        f"in {count(threads, 'thread')}"
    ]
    if counts.left_out:
        lines.append(
            f"{counts.left_out:,} left out: edits, notices, and changes of a thread's state"
        )
    if counts.replies_unlinked:
        replies = count(counts.replies_unlinked, "message")
        lines.append(f"{replies} without reply_to: the message it names is not earlier in the file")
    session.out.show(document, lines)
    if counts.out_of_place:
        session.out.note(
            f"{counts.out_of_place:,} of those that were there already are not where this file has "
            "them: another file with equal lines was imported before. If they are messages of "
            "their own, they were not posted. Give each file its own --source."
        )

"""The tools' calls, made on the bus as one agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import bus_client
from bus_client.cli.listings import first
from bus_client.cli.mcp import tools
from bus_client.cli.mcp.connection import Connection, Options
from bus_client.cli.mcp.reading import about_bus, about_thread, read
from bus_client.cli.mcp.seen import Seen
from bus_client.cli.mcp.tools import ArgumentError
from bus_client.cli.mcp.unsure import UnsurePosts
from bus_client.cli.mcp.wire import Id, Progress, Result
from bus_client.cli.mcp.words import (
    MAX_RESULT,
    MAX_TEXT,
    bounded,
    error_text,
    message_text,
    newest_fitting,
    people,
    some_of,
    thread_text,
)
from bus_client.cli.mentions import mentioned_agents
from bus_client.cli.removed import is_removed, lost_text
from bus_client.cli.text import safe
from bus_client.cli.traces import environment_trace
from bus_client.cli.transcript import describe_new_thread

if TYPE_CHECKING:
    from bus_client import BusClient, Message, Participant, ThreadHandle

_MOST_MESSAGES = 50  # that one wait returns
_WAIT_BYTES = 6_000  # of the messages that one wait returns: with few exceptions, they fit
_JOIN_BYTES = 5_000  # of the messages that bus_join shows
# Seconds after the start of a host until its agent appears: one that only looks whether the server
# starts has ended it by then. And seconds after an attempt that failed.
_SETTLED, _RETRY = 1.0, 10.0
_FIRST_PROGRESS, _PROGRESS = 1.0, 5.0  # seconds until the first report, and between two


class Bridge:
    """One agent on the bus, for the model on the other side of a Wire.

    Connects once its host has started, or with the first call. What bus_wait returned counts as
    read when the model posts to its thread or waits again, and not before: if the host says that it
    did not take the result, or if it ends, the messages are delivered again.

    A post continues the trace of its call; if that has none, of the message that it replies to, or
    of the last one that bus_wait returned; or else that of the environment.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.name = "threadbus"
        self.version = bus_client.__version__
        self.instructions = tools.instructions(options.agent, options.thread)
        self.tools = tools.TOOLS
        self._methods: dict[str, Callable[[dict[str, Any]], Any]] = {
            "bus_join": self._join,
            "bus_read": self._read,
            "bus_who": self._who,
        }
        self._connection = Connection(options)
        #: The thread to use if a call names none.
        self._thread = options.thread
        self._seen = Seen()
        #: The thread that bus_wait waits on; "" = all. None = no call of it is running.
        self._awaited: str | None = None
        #: The bus_wait whose messages do not count as read yet, and what was seen before it.
        self._last_wait: tuple[Id, Seen] | None = None
        self._unsure = UnsurePosts()
        self._tasks = set[asyncio.Task[None]]()

    async def call(
        self,
        call: Id,
        name: str,
        arguments: dict[str, Any],
        progress: Progress,
        traceparent: str,
    ) -> Result:
        """See Tools.call(). Failures of the bus are results, with what to call next."""
        try:
            given = tools.checked(name, arguments)
            if name == "bus_wait":
                return Result(await self._wait(call, given, progress))
            if name == "bus_post":
                return Result(await self._post(given, traceparent))
            return Result(await self._methods[name](given))
        except ArgumentError as error:
            return Result(str(error), failed=True)
        except bus_client.BusError as error:
            return Result(self._explained(error), failed=True)

    def start(self) -> None:
        """Connect soon: others see then that the agent is there, and can mention it."""
        self._run(self._appear())

    def discard(self, call: Id) -> None:
        """Take back what a bus_wait returned, as the host did not take the result."""
        bus = self._connection.bus
        if bus is None or self._last_wait is None or self._last_wait[0] != call:
            return
        bus.unread()
        self._seen, self._last_wait = self._last_wait[1], None
        self._run(self._report_idle(bus))

    async def close(self) -> None:
        """End the agent's session: others see at once that it has gone."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Run something in the background, until close()."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _appear(self) -> None:
        await asyncio.sleep(_SETTLED)
        while True:
            try:
                await self._connection.client()
            except bus_client.Unavailable:
                await asyncio.sleep(_RETRY)
            except bus_client.BusError:
                return  # the first call says why
            else:
                return

    async def _report_idle(self, bus: BusClient) -> None:
        if self._awaited is None:  # else the agent is waiting
            with suppress(bus_client.BusError, RuntimeError):
                await bus.heartbeat(state=bus_client.Presence.PRESENCE_IDLE)

    def _named(self, given: Mapping[str, Any]) -> str:
        """Returns the thread of a call. Raises ArgumentError if it names none, nor did another."""
        thread: str | None = given.get("thread") or self._thread
        if thread is None:
            raise ArgumentError("thread is required: none was used yet. bus_who lists the threads.")
        return thread

    async def _join(self, given: dict[str, Any]) -> str:
        thread = given["thread"]
        await self._connection.client()  # joins the default thread
        before = self._connection.joined.get(thread)
        handle = await self._connection.enter(thread, create=True)
        replaced = before is not None and before.position.epoch != handle.position.epoch
        if replaced or (self._seen.upto(thread) or 0) > handle.info.head_seq:
            self._seen.forget(thread)
        if given.get("catch_up"):
            await handle.acknowledge(handle.info.head_seq)
        place = handle.position.after_seq
        if given.get("catch_up"):
            self._seen.show(thread, place)
            if self._last_wait is not None:  # also if that one is taken back
                self._last_wait[1].show(thread, place)
        self._start(handle)
        messages = await handle.messages(
            newest=True,
            limit=min(given.get("history", 20), 100) or 1,
            max_bytes=_JOIN_BYTES,
            omit_attachment_data=True,
            max_content_bytes=MAX_TEXT,
        )
        self._thread = thread
        kept_after = max(place, handle.info.first_seq - 1)
        unread = handle.info.head_seq - kept_after
        lines = [thread_text(handle.info)]
        if handle.created:
            lines = [describe_new_thread(handle, seen=False)]
        elif before is not None and before.similar:  # it was created as the default thread
            lines.append(f"It is new; there is also {', '.join(map(safe, before.similar))}.")
        elif unread > 0:
            kept = " that are kept" if kept_after > place else ""
            lines.append(
                f"You have read it to #{place}; bus_wait returns the {unread:,} after it{kept}."
            )
            if unread > _MOST_MESSAGES:
                lines.append("To skip them, call bus_join again with catch_up.")
        lines.append(f"Here: {people(handle.participants)}")
        lines += self._doubles(thread, handle.participants)
        if given.get("history") != 0:
            room = MAX_RESULT - 100 - len("\n".join(lines).encode())
            lines += newest_fitting(self._shown(messages), room)
        return bounded(lines)

    def _doubles(self, thread: str, participants: Sequence[Participant]) -> Iterator[str]:
        """Yields a warning if another process waits as this agent."""
        own = [found for found in participants if found.agent == self._options.agent]
        if own and own[0].wait_count > (self._awaited in ("", thread)):
            yield (
                f"Another process waits as {self._options.agent}, too: what one of you has read, "
                "the other may not get. Tell your user to give one another name (--as)."
            )

    def _shown(self, messages: list[Message], *, with_thread: bool = False) -> list[str]:
        reader = self._options.agent
        return [message_text(each, reader=reader, with_thread=with_thread) for each in messages]

    async def _post(self, given: dict[str, Any], traceparent: str) -> str:
        thread = self._named(given)
        # Not what a wait returns meanwhile: the model has written this without it.
        based_on = self._seen.upto(thread)
        shown = self._seen.traceparent(thread, given.get("reply_to", 0))
        trace = traceparent or shown or environment_trace()
        bus = await self._connection.client()
        handle = self._connection.joined.get(thread)
        if handle is None:
            handle = bus.thread(thread)
        else:
            self._start(handle)
        notes: list[str] = []
        mentions = list(given.get("mentions", []))
        mentions += await mentioned_agents(bus, given["text"], mentions, note=notes.append)
        handoff_to, ask = given.get("handoff_to", ""), given.get("ask", False)
        if ask and not (mentions or handoff_to):
            needs = "ask needs mentions or handoff_to: the agents that shall answer."
            raise ArgumentError(" ".join([*map(safe, notes), needs]))
        if "within_s" in given and not ask:
            raise ArgumentError("within_s needs ask: it says how long an answer may take.")
        request_id, mentions = self._unsure.as_before(thread, given, mentions)
        try:
            with bus_client.continue_trace(trace):
                posted = await handle.post(
                    given["text"],
                    mentions=mentions,
                    reply_to=given.get("reply_to", 0),
                    handoff_to=handoff_to,
                    ask=ask,
                    within=given.get("within_s"),
                    priority=bus_client.Priority.Value(
                        f"PRIORITY_{given.get('priority', 'normal').upper()}"
                    ),
                    expected_last_seq=given.get("expect_seq"),
                    based_on_seq=based_on,
                    include_recipients=True,
                    request_id=request_id,
                )
            self._seen.post(thread, posted.seq)
            missed = await self._missed(handle, posted.seq)
            owed = "" if ask or given.get("reply_to") else await self._owed(bus, thread)
        except (bus_client.OutcomeUnknown, asyncio.CancelledError):
            self._unsure.add(thread, given, request_id, mentions)
            raise
        except bus_client.Unavailable:
            raise  # whether an earlier attempt was stored is as unsure as before
        except bus_client.BusError as error:
            self._unsure.remove(thread, given)
            if isinstance(error, bus_client.CursorInvalid):
                self._forget(thread)
            if isinstance(error, bus_client.InvalidArgument) and "based_on_seq" in dict(
                error.field_violations
            ):
                self._forget(thread)
                raise ArgumentError(
                    f"{thread} is shorter than what you have read: the bus was restored from an "
                    "older copy. Call bus_join again."
                ) from None
            raise
        self._unsure.remove(thread, given)
        self._thread = thread
        if missed:
            notes.append(f"You have not read all that is before #{posted.seq}: call bus_wait.")
        if owed:
            notes.append(owed)
        seen_by = people(posted.recipients) or "nobody else is in this thread yet"
        return bounded([f"posted {safe(thread)} #{posted.seq} · {seen_by}", *map(safe, notes)])

    async def _owed(self, bus: BusClient, thread: str) -> str:
        """Returns whom the agent owes an answer in the thread, as a sentence; "" if nobody."""
        with suppress(bus_client.BusError):  # what was posted stays so
            for asked in await first(1, bus.list_requests(agent=bus.agent, thread=thread)):
                return (
                    f"{asked.asker} still waits for your answer to #{asked.seq}: post it with "
                    f"reply_to={asked.seq}."
                )
        return ""

    async def _missed(self, handle: ThreadHandle, seq: int) -> bool:
        """Returns whether a wait would return at once what others posted before the own `seq`.

        False if that is not known.
        """
        seen, kinds, wakes = self._seen.upto(handle.name), bus_client.MessageKind, bus_client.Wake
        if seen is None or seen >= seq - 1:
            return False
        of_others = bus_client.MessageFilter(
            exclude_own=True, kinds=[kinds.MESSAGE_KIND_CHAT, kinds.MESSAGE_KIND_EDIT]
        )
        with suppress(bus_client.BusError):  # what was posted stays so
            found = await handle.messages(
                after_seq=seen,
                before_seq=seq,
                filter=of_others,
                omit_attachment_data=True,
                max_content_bytes=1,
            )
            return any(each.wakes == wakes.WAKE_ALL for each in found)
        return False

    async def _wait(self, call: Id, given: dict[str, Any], progress: Progress) -> str:
        thread = given.get("thread")
        seconds = min(given.get("timeout_s", self._options.wait), self._options.wait_max)
        if self._awaited is not None:
            raise ArgumentError(
                f"You are already waiting on {self._awaited or 'all your threads'}."
            )
        self._awaited = thread or ""
        try:
            with self._report(progress, seconds):
                bus = await self._connection.client()
                if thread:
                    self._start(await self._joined(thread))
                messages, lines = await self._messages(bus, given, seconds)
        except bus_client.ThreadNotFound:
            self._forget(thread or "")
            raise
        finally:
            self._awaited = None
        self._thread = thread or self._thread
        before = self._seen.copy()
        if not given.get("mentions_only"):
            for message in messages:
                self._seen.show(message.thread, message.seq)
        if messages:
            self._seen.show_traces(messages)
            self._last_wait = call, before
            if len(messages) == _MOST_MESSAGES or len("\n".join(lines).encode()) > _WAIT_BYTES // 2:
                lines.append(
                    "There may be more: call bus_wait again, or bus_join with catch_up to skip it."
                )
            return "\n".join(lines)
        return "\n".join([*lines, await self._nothing(bus, thread, seconds)])

    async def _nothing(self, bus: BusClient, thread: str | None, seconds: float) -> str:
        """Returns a text for a wait that returned no messages."""
        where = f"{thread} after #{self._seen.upto(thread)}" if thread else "your threads"
        if bus.session_ended:
            return (
                f"No messages in {where}, and the wait was ended: by an operator, or by another "
                f"process of {self._options.agent}."
            )
        if thread is None and (why := await self._why_nothing_comes(bus)):
            return why
        return (
            f"No messages in {where} within {seconds:g} s. Call bus_wait again if you expect one; "
            "else go on."
        )

    def _forget(self, thread: str) -> None:
        """Forget a thread that was deleted or replaced: the next call joins what there is then."""
        self._connection.joined.pop(thread, None)
        self._seen.forget(thread)

    async def _joined(self, thread: str) -> ThreadHandle:
        """Returns the handle of a thread that exists. Joins it if needed."""
        found = self._connection.joined.get(thread)
        return found or await self._connection.enter(thread, create=False)

    def _start(self, handle: ThreadHandle) -> None:
        """Note what had been read of a thread when it was joined, if nothing was shown since."""
        if self._seen.upto(handle.name) is None:
            self._seen.show(handle.name, handle.position.after_seq)

    async def _messages(
        self, bus: BusClient, given: Mapping[str, Any], seconds: float
    ) -> tuple[list[Message], list[str]]:
        """Returns what a wait returns, and its lines, which fit into a result.

        They begin with what is not kept any more. Messages that do not fit stay unread. So do all
        if this is cancelled or fails.
        """
        thread = given.get("thread")
        mine = bus_client.MessageFilter(addressed_to_me=True)
        most, removed, end = _MOST_MESSAGES, list[str](), time.monotonic() + seconds
        self._last_wait = None  # it counts as read now
        try:
            while True:
                try:
                    messages = await bus.wait(
                        [thread] if thread else None,
                        timeout=seconds,
                        max_messages=most,
                        max_bytes=_WAIT_BYTES,
                        filter=mine if given.get("mentions_only") else None,
                        omit_attachment_data=True,
                        max_content_bytes=MAX_TEXT,
                    )
                except bus_client.CursorLost as lost:
                    if not is_removed(lost):
                        raise
                    self._seen.show(lost.position.thread, lost.position.after_seq)
                    removed.append(lost_text(lost))
                    seconds = max(end - time.monotonic(), 0.0)
                    continue
                lines = some_of(removed)
                lines += self._shown(messages, with_thread=not thread)
                size = sum(len(line.encode()) + 1 for line in lines)
                if size < MAX_RESULT - 100 or len(messages) == 1:
                    return messages, lines
                bus.unread()
                seconds, most = 0.0, len(messages) // 2
        except BaseException as error:
            bus.unread()
            if isinstance(error, asyncio.CancelledError):  # the server may have delivered some
                self._run(self._report_idle(bus))
            raise

    async def _why_nothing_comes(self, bus: BusClient) -> str:
        """Returns a text if the agent is not in the threads that it joined, or in none; else ""."""
        gone = await self._connection.left()
        for thread in gone:
            self._seen.forget(thread)
        if gone:
            return (
                f"You are no longer in {', '.join(map(safe, gone))}: deleted, or the bus has a new "
                "store. Call bus_join if you need it."
            )
        if self._connection.joined or await first(1, bus.list_threads(participant=bus.agent)):
            return ""
        return "You take part in no thread, and nobody mentioned you: call bus_join."

    @contextmanager
    def _report(self, progress: Progress, seconds: float) -> Iterator[None]:
        """Report progress during the block."""

        async def report() -> None:
            began = time.monotonic()
            await asyncio.sleep(_FIRST_PROGRESS)
            while True:
                progress(round(time.monotonic() - began, 1), seconds)
                await asyncio.sleep(_PROGRESS)

        reporting = asyncio.create_task(report())
        try:
            yield
        finally:
            reporting.cancel()

    async def _read(self, given: dict[str, Any]) -> str:
        thread = self._named(given)
        bus = await self._connection.client()
        text = await read(bus.thread(thread), given, reader=self._options.agent)
        self._thread = thread
        return text

    async def _who(self, given: dict[str, Any]) -> str:
        bus = await self._connection.client()
        thread = given.get("thread") or self._thread
        lines: list[str] = []
        if thread:
            about, participants = await about_thread(bus.thread(thread))
            lines += [*about, *self._doubles(thread, participants)]
            self._thread = thread
        lines += await about_bus(bus, thread, await self._connection.unread())
        return bounded(lines or ["There is no thread yet: bus_join creates one."])

    def _explained(self, error: bus_client.BusError) -> str:
        if isinstance(error, bus_client.CursorLost):
            self._seen.show(error.position.thread, error.position.after_seq)
        return error_text(error)

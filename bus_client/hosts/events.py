"""What a hook does with the server: reports what the agent does, and looks for news."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bus_client.address import whole_address
from bus_client.calls import Calls
from bus_client.connections import Connections
from bus_client.credentials import addresses, given_token
from bus_client.errors import BusError, Unavailable
from bus_client.hosts.news import News, heads, unread_news
from bus_client.hosts.notified import Notified, Positions
from bus_client.hosts.state import folder_of
from bus_client.hosts.table import HOSTS, Event, Host
from bus_client.hosts.words import notice
from bus_client.identity import Identity
from bus_client.stream import wait_frames
from bus_client.tls import tls_files
from threadbus.names import RESERVED
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    PRESENCE_IDLE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WORKING,
    Presence,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest
from threadbus.v1.bus_service_pb2 import HeartbeatRequest, WaitMessagesRequest, WaitResync
from threadbus.v1.message_pb2 import Cursor

_BEAT = 5.0  # seconds between two heartbeats of a hook that waits
_PAUSE = 1.0  # seconds after a failure while waiting
# Seconds for which a model may think, after a tool or once it goes on. A bridge of the agent sends
# heartbeats of its own, which set the usual lease again.
_TURN = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a hook.

    Attributes:
        arguments: See arguments.parse().
        given: What the host gave on stdin, if it was an object; else empty.
        deadline: When to give up, without --wait, on the monotonic clock.
        claim: Returns whether this run may still print its output: once, and not after its time.
        abandoned: Returns whether nobody reads the output any more.
    """

    arguments: Namespace
    given: Mapping[str, object]
    deadline: float
    claim: Callable[[], bool]
    abandoned: Callable[[], bool]

    @property
    def of_subagent(self) -> bool:
        """Whether it is about a subagent, which does not take part in threads."""
        return bool(self.given.get("agent_id"))

    def is_for(self, host: Host, event: Event) -> bool:
        """Returns whether the event is the host's, as far as the host says.

        Claude Code's Stop hooks run at the end of subagents, too, as SubagentStop; and some hosts
        run the hooks in the files of others, whose words they may not understand.
        """
        name = self.given.get("hook_event_name", self.given.get("hookEventName"))
        return not isinstance(name, str) or name == host.events.get(event)

    @property
    def compacted(self) -> bool:
        """Whether a session goes on with its context compacted, perhaps in the midst of a turn.

        Claude Code and others run the hooks of SessionStart then, too.
        """
        return self.given.get("source") == "compact"

    @property
    def cleared(self) -> bool:
        """Whether a session ends because its context is cleared: the host and its bridge go on."""
        return self.given.get("reason") == "clear"

    @property
    def interrupted(self) -> bool:
        """Whether the agent stops because its user or an error wants it, as Cursor says."""
        return self.given.get("status") in ("aborted", "error")


async def output(run: Run) -> dict[str, object]:
    """Do what the event asks for. Returns the object to print, once run.claim() has returned True.

    An empty object is printed in any case, and so needs no claim.

    Raises:
        BusError: The server could not be asked, or refused.
        OSError: What the agent was notified of could not be kept, so it is not notified.
        ValueError: The host, or a token, is not valid.
    """
    host = HOSTS.get(run.arguments.host)
    if host is None or not host.events:
        with_hooks = ", ".join(name for name, each in HOSTS.items() if each.events)
        raise ValueError(f"--host {run.arguments.host!a} is not one of {with_hooks}")
    event = Event(run.arguments.event)
    if not run.is_for(host, event) or (run.of_subagent and event is not Event.POST_TOOL):
        return {}
    if event is Event.SESSION_END and run.cleared:
        return {}
    async with _connected(run) as calls:
        if event is Event.SESSION_END:
            await calls.call(calls.agents.EndSession, EndSessionRequest())
            return {}
        return await _Agent(run, host, event, calls).notice()


@asynccontextmanager
async def _connected(run: Run) -> AsyncIterator[Calls]:
    """Yields the calls of the agent, registered if it is new."""
    given = run.arguments
    identity = Identity(
        server=given.server,
        agent=given.agent,
        token=given_token(given.token_file),
        kind=AGENT_KIND_AGENT,
        display_name="",
        description="",
        credentials=None,
    )
    if identity.agent is None and identity.token is None:
        raise ValueError("it needs --as NAME, THREADBUS_AGENT, or a token")
    tls = tls_files(given.ca_file, given.client_cert, given.client_key)
    timeout = max(run.deadline - time.monotonic(), 0.1)
    calls = Calls(Connections(identity.server, tls), identity=identity, timeout=timeout)
    try:
        agent = await calls.authenticate()
        if agent in RESERVED:
            raise ValueError(f"the token is that of {agent}, not of an agent")
        yield calls
    finally:
        await calls.close()


class _Agent:
    """The agent of a run, at its server."""

    def __init__(self, run: Run, host: Host, event: Event, calls: Calls) -> None:
        self._run = run
        self._host = host
        self._event = event
        self._calls = calls
        server = min(addresses(whole_address(run.arguments.server)))
        self._notified = Notified(Path(folder_of(server)), calls.agent)

    async def notice(self) -> dict[str, object]:
        """Report what the agent does. Returns the notice for its model; {} if nothing is new."""
        if self._event is Event.POST_TOOL:
            return await self._look(PRESENCE_UNSPECIFIED, tell=not self._run.of_subagent)
        if self._event is Event.SESSION_START and self._run.compacted:
            return await self._look(PRESENCE_UNSPECIFIED, tell=True)
        stops = self._event is Event.STOP
        tell = not (stops and self._run.interrupted)
        found = await self._look(PRESENCE_IDLE, tell=tell)
        if found or not tell or not stops or not self._run.arguments.wait:
            return found
        return await self._wait()

    async def _look(self, state: Presence.ValueType, *, tell: bool) -> dict[str, object]:
        """Send a heartbeat. If `tell`, returns the notice of what is new, once it is claimed."""
        request = HeartbeatRequest(state=state)
        if state == PRESENCE_UNSPECIFIED:  # it is in the midst of a turn
            request.lease.FromSeconds(_TURN)
        response = await self._calls.call(self._calls.bus.Heartbeat, request)
        if not tell:
            return {}
        # A new session knows nothing of the notices to the one before.
        notified = {} if self._event is Event.SESSION_START else self._notified.read()
        news = await unread_news(
            self._calls, response.unread, notified, self._run.arguments.threads
        )
        if not news:
            return {}
        if self._event is Event.STOP and not all(each.empty for each in news):
            # It goes on. A stop that another hook keeps from stopping at the same time does, too.
            with suppress(BusError):
                working = HeartbeatRequest(state=PRESENCE_WORKING)
                working.lease.FromSeconds(_TURN)
                await self._calls.call(self._calls.bus.Heartbeat, working)
        left = self._tell(news)
        if not left:
            return {}
        text = notice(left)
        if self._event is Event.STOP:
            return self._host.go_on(text)
        return self._host.add(self._event, text)

    def _tell(self, news: Sequence[News]) -> list[News]:
        """Record that the agent is notified of `news`. Returns what it had not been notified of.

        Nothing is recorded unless the output can still be printed.

        Raises OSError.
        """
        left: list[News] = []

        def change(notified: Positions) -> Positions:
            later = [each for each in (item.after(notified) for item in news) if each is not None]
            new = news if self._event is Event.SESSION_START else later
            left.extend(each for each in new if not each.empty)
            if left and not self._run.claim():
                left.clear()
                return {}
            return {each.thread: (each.epoch, each.head) for each in later}

        self._notified.update(change, until=self._run.deadline + self._run.arguments.wait)
        return left

    async def _wait(self) -> dict[str, object]:
        """Returns the notice of the first message that wakes the agent; {} if none comes in time.

        Only observes, so that the agent's presence and positions do not change. The agent is idle
        meanwhile, and does not lapse.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._run.arguments.wait
        while (left := end - loop.time()) > 0 and not self._run.abandoned():
            try:
                # Read before the look: what comes after it ends the wait from there.
                before = await heads(self._calls, self._calls.agent)
                if found := await self._look(PRESENCE_IDLE, tell=True):
                    return found
                await _change(self._calls, before, min(_BEAT, left))
            except Unavailable:
                await asyncio.sleep(min(_PAUSE, left))
        return {}


async def _change(calls: Calls, before: Positions, timeout: float) -> None:
    """Wait until something comes to one of the agent's threads, or `timeout` is over.

    That is something after `before`, or a thread that is new to the agent. Raises BusError.
    """
    request = WaitMessagesRequest(
        threads=[
            Cursor(thread=thread, after_seq=seq, epoch=epoch)
            for thread, (epoch, seq) in before.items()
        ],
        all_my_threads=True,
        observe=True,
        omit_attachment_data=True,
        max_content_bytes=1,
    )
    async with aclosing(wait_frames(calls, request, timeout=timeout)) as frames:
        async for frame in frames:
            removed = frame.resync.reason == WaitResync.REASON_COMPACTED
            if frame.HasField("thread_added") or (frame.HasField("resync") and not removed):
                return
            # What is unread in other threads is not new.
            if frame.messages.cursor.thread in before:
                return

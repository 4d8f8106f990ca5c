"""Tells agents that asked for a reply when it may not come: writes the notices about requests.

What is open, and what was noticed, is in the store. Memory has only the agents that are asked, and
since when they are idle or gone. Each server watches all of them; the transaction of a notice makes
sure that it is written once.
"""

import asyncio
import logging
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from bus_server.errors import BusError, StoreBug, StoreFailed
from bus_server.presence.changes import Changes
from bus_server.presence.positions import UnsavedPositions
from bus_server.presence.presence import Presence
from bus_server.store import (
    FIRST_REQUEST,
    AskedKey,
    Commit,
    PresenceRow,
    RequestsWanted,
    StoredRequest,
    WriteNotice,
)
from bus_server.store.interface import Store
from bus_server.writer import Writer
from threadbus.v1.agent_pb2 import (
    PRESENCE_IDLE,
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_WAITING,
)
from threadbus.v1.message_pb2 import Notice
from threadbus.v1.request_pb2 import REQUEST_STATE_OPEN

logger = logging.getLogger(__name__)

#: Seconds for which an agent that has read a request must be idle, at most.
IDLE_WINDOW = 10.0
#: Seconds from when an idle agent may have read something to the next look at its requests.
LOOK_DELAY = 0.5
#: Seconds from a commit of another server to the next look at all requests.
OTHERS_DELAY = 5.0
#: Seconds before a look that failed, or a notice that was not written, is tried again.
RETRY = 1.0
#: The next look at an agent's requests begins so many times later as the last one took, and at most
#: so many seconds: it reads all of its open requests, which may be many.
PAUSE, MAX_PAUSE = 20, 10.0
#: Number of requests that are read, and of notices that are written, at a time.
PAGE = 100
#: In place of an agent's name: the requests to all agents.
ALL = ""


@dataclass(slots=True)
class _Asked:
    """An agent with open requests. Times are in seconds on the event loop's clock.

    `alive_time` is in microseconds on the store's clock.
    """

    #: When it was last found to be neither LAPSED nor OFFLINE; 0: not yet.
    alive_time: int = 0
    #: Since when it is WAITING or IDLE, and since when it is LAPSED or OFFLINE; None: it is not.
    idle_since: float | None = None
    gone_since: float | None = None
    #: When requests to it were first found to be read by it; without those noticed as AGENT_IDLE.
    read: dict[AskedKey, float] = field(default_factory=dict)
    #: When a request to it was last opened here.
    opened_at: float = -math.inf


class Notices:
    """The writer of notices.

    Nothing here is locked: only the event loop's thread may use it.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        presence: Presence,
        positions: UnsavedPositions,
        changes: Changes,
        *,
        agent_timeout: float,
        server_delay: float,
    ) -> None:
        """
        Args:
            agent_timeout: in seconds.
            server_delay: seconds within which what another server knows of an agent is known here.
        """
        self._store = store
        self._writer = writer
        self._presence = presence
        self._positions = positions
        self._changes = changes
        self._window = min(IDLE_WINDOW, agent_timeout)
        self._server_delay = server_delay
        self._agents: dict[str, _Asked] = {}
        #: When the requests to an agent, or to ALL, are to be looked at, and what does so then.
        self._timers: dict[str, tuple[float, asyncio.Handle]] = {}
        #: The agents, or ALL, whose requests are to be looked at now, in this order.
        self._due: dict[str, None] = {}
        self._available = asyncio.Event()
        #: Before when they are not looked at again, if that is not over.
        self._resting: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()
        writer.on_asked = self._committed
        changes.on_agent = self._changed

    async def run(self) -> None:
        """Write notices until cancelled."""
        self._schedule(ALL, self._loop.time())
        while True:
            await self._available.wait()
            name = next(iter(self._due))
            del self._due[name]
            if not self._due:
                self._available.clear()
            try:
                await self._look(name)
            except (BusError, StoreBug) as error:
                if not isinstance(error, StoreFailed):  # the store logs these
                    logger.warning("cannot look at requests (%s): trying again", error)
                self._schedule(name, self._loop.time() + RETRY)

    def look_at_all(self) -> None:
        """Look soon at what another server changed: requests, and what agents have read."""
        self._schedule(ALL, self._loop.time() + OTHERS_DELAY)

    # ── What changes ────────────────────────────────────────────────────────────────────────────

    def _committed(self, commit: Commit) -> None:
        """Take note of a commit that opened or changed requests."""
        for requests in commit.asked.values():
            for key, asked in requests.items():
                if asked.state == REQUEST_STATE_OPEN and not asked.noticed >> 1:
                    watched, now = self._watch(key.agent), self._loop.time()
                    watched.opened_at = now
                    if watched.idle_since is not None:  # it may have read the question already
                        self._schedule(key.agent, now + LOOK_DELAY)
                    if asked.due:
                        self._schedule(key.agent, self._loop_time(asked.due))

    def _watch(self, name: str) -> _Asked:
        """Returns what is known of an agent that was asked, and watches it from now on."""
        asked = self._agents.get(name)
        if asked is None:
            asked = self._agents[name] = _Asked()
        self._update(name, asked)
        return asked

    def _changed(self, name: str) -> None:
        """Take note that an agent's presence changed, or that it may have read something."""
        asked = self._agents.get(name)
        if asked is not None:
            self._update(name, asked)
            if asked.idle_since is not None:
                self._schedule(name, self._loop.time() + LOOK_DELAY)
            elif asked.gone_since is not None:
                self._schedule(name, self._loop.time() + self._delay())

    def _update(self, name: str, asked: _Asked) -> None:
        """Take note of an agent's presence."""
        now, presence = self._loop.time(), self._presence.get(name, PRESENCE_LAPSED)
        if presence in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
            asked.idle_since = None
            if asked.gone_since is None:
                asked.gone_since = now
            return
        asked.gone_since, asked.alive_time = None, self._store.clock.now()
        if presence not in (PRESENCE_WAITING, PRESENCE_IDLE):
            asked.idle_since = None
        elif asked.idle_since is None:
            asked.idle_since = now

    def _delay(self) -> float:
        """Returns for how long another server may know better what an agent does, in seconds."""
        return self._server_delay if self._changes.several_servers else 0.0

    def _loop_time(self, store_time: int) -> float:
        """Returns a time of the store's clock as a time of the event loop's clock."""
        return self._loop.time() + (store_time - self._store.clock.now()) / 1e6

    def _schedule(self, name: str, time: float) -> None:
        """Look at the requests to an agent at a time, unless that will be done earlier."""
        time = max(time, self._resting.get(name, time))
        planned, timer = self._timers.get(name, (math.inf, None))
        if time < planned:
            if timer is not None:
                timer.cancel()
            self._timers[name] = time, self._loop.call_at(time, self._on_timer, name)

    def _on_timer(self, name: str) -> None:
        del self._timers[name]
        self._due[name] = None
        self._available.set()

    # ── Notices ─────────────────────────────────────────────────────────────────────────────────

    async def _look(self, name: str) -> None:
        """Write the notices that are due about the requests to an agent, and schedule the others.

        Raises what the store and the writer raise.
        """
        began, spent, read = self._loop.time(), 0.0, dict[str, dict[AskedKey, float]]()
        wanted, before = RequestsWanted([REQUEST_STATE_OPEN], agent=name), FIRST_REQUEST
        while True:
            spent -= self._loop.time()
            found = await self._store.requests(wanted, PAGE, before)
            agents = {request.key.agent for request in found}
            evidence = await self._evidence(agents)
            for agent in agents:  # without an await until the notices are chosen
                self._watch(agent)
                read.setdefault(agent, {})
            notices = list[WriteNotice]()
            for request in found:
                key, row = request.key, evidence.get(request.key.agent)
                reasons = self._reasons(request, self._agents[key.agent], read[key.agent], row)
                for reason, time in reasons:
                    if request.asked.has_notice(reason):
                        continue
                    if time <= self._loop.time():
                        notices.append(WriteNotice(request.thread, key, reason, row))
                    else:
                        self._schedule(key.agent, time)
            spent += self._loop.time()
            await self._write(notices)
            if len(found) < PAGE:
                break
            before = found[-1].page_key
        for agent in [name] if name else list(self._agents):
            if agent in read:
                self._agents[agent].read = read[agent]
            elif agent in self._agents and self._agents[agent].opened_at < began:
                del self._agents[agent]
                self._resting.pop(agent, None)
                if planned := self._timers.pop(agent, None):
                    planned[1].cancel()
        if name == ALL or name in self._agents:
            self._resting[name] = self._loop.time() + min(PAUSE * spent, MAX_PAUSE)

    def _reasons(
        self,
        request: StoredRequest,
        asked: _Asked,
        read: dict[AskedKey, float],
        evidence: PresenceRow | None,
    ) -> Iterable[tuple[Notice.Reason.ValueType, float]]:
        """Yields the reasons why a reply may not come, as things are, and when to tell the asker.

        Args:
            read: gets the request if it may be noticed as AGENT_IDLE; the next `asked.read`.
            evidence: of the agent's presence; None: it was never seen.
        """
        key, stored, delay = request.key, request.asked, self._delay()
        if self._has_read(request) and not stored.has_notice(Notice.REASON_AGENT_IDLE):
            read[key] = asked.read.get(key, self._loop.time())
        if request.read_seq is None:
            yield Notice.REASON_AGENT_LEFT, -math.inf
        elif asked.gone_since is not None and evidence is not None:
            time = max(asked.gone_since, self._loop_time(stored.open_time)) + delay
            if evidence.reported == PRESENCE_OFFLINE:
                if evidence.state_time > stored.open_time:
                    yield Notice.REASON_AGENT_OFFLINE, time
            elif (
                not stored.was_gone
                or max(asked.alive_time, evidence.last_seen_time) >= stored.open_time
            ):
                # It has a lease if another server knows better.
                time = max(time, self._loop_time(evidence.lease_end_time))
                yield Notice.REASON_AGENT_LAPSED, time
        elif asked.idle_since is not None and key in read:
            time = max(asked.idle_since, read[key]) + max(self._window, delay)
            yield Notice.REASON_AGENT_IDLE, time
        if stored.due:
            yield Notice.REASON_OVERDUE, self._loop_time(stored.due)

    async def _write(self, notices: Sequence[WriteNotice]) -> None:
        """Write notices. Those that do not hold as far as the store knows are tried again."""
        written = await asyncio.gather(*map(self._writer.submit, notices))
        for notice, is_written in zip(notices, written, strict=True):
            if not is_written:
                self._schedule(notice.key.agent, self._loop.time() + RETRY)

    def _has_read(self, request: StoredRequest) -> bool:
        """Returns whether the agent asked has read the message, also through a filter."""
        position = self._positions.get(request.key.agent, request.thread, request.epoch)
        read = max(position.read, position.passed_over, request.read_seq or 0)
        return read >= request.key.seq

    async def _evidence(self, agents: Collection[str]) -> dict[str, PresenceRow]:
        """Returns what the presence of agents follows from, of those that were ever seen."""
        stored = [agent for agent in agents if self._presence.row(agent) is None]
        rows = {row.agent: row for row in await self._store.presence_of(stored)} if stored else {}
        known = (self._presence.row(agent) for agent in agents)
        return rows | {row.agent: row for row in known if row is not None}

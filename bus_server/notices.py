"""Tells agents that asked for a reply when it may not come: writes the notices about requests.

What is open, and what was noticed, is in the store. Memory has only the agents that are asked, and
since when they are idle or gone. Each server watches all of them; the transaction of a notice makes
sure that it is written once.
"""

import asyncio
import logging
import math
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
#: The same, after a commit of another server.
OTHERS_DELAY = 5.0
#: Seconds before a look that failed, or a notice that was not written, is tried again.
RETRY = 1.0
#: Number of requests that are read, and of notices that are written, at a time.
PAGE = 100
#: Seconds within which a commit that began earlier may be seen later.
IN_FLIGHT = 60.0


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
    #: When requests to it were first found to be read by it.
    read: dict[AskedKey, float] = field(default_factory=dict)
    #: How many requests to it were found to be opened.
    opened: int = 0
    #: Runs when its requests are to be looked at, at `look_at`; infinity: when it changes.
    timer: asyncio.TimerHandle | None = None
    look_at: float = math.inf


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
        #: The agents whose requests are to be looked at now, in this order.
        self._due: dict[str, None] = {}
        self._available = asyncio.Event()
        #: The open_time of the newest request that is known, on the store's clock.
        self._newest = 0
        self._loop = asyncio.get_running_loop()
        writer.on_asked = self._committed
        changes.on_agent = self._changed

    async def run(self) -> None:
        """Write notices until cancelled."""
        while True:
            try:
                await self.look()
                break
            except (BusError, StoreBug) as error:
                _log(error)
                await asyncio.sleep(RETRY)
        while True:
            await self._available.wait()
            name = next(iter(self._due))
            del self._due[name]
            if not self._due:
                self._available.clear()
            if (asked := self._agents.get(name)) is None:
                continue
            try:
                await self._look_at(name, asked)
            except (BusError, StoreBug) as error:
                _log(error)
                self._schedule(name, asked, self._loop.time() + RETRY)

    async def look(self) -> None:
        """Look for requests that other servers opened, and soon at what idle agents have read.

        Raises what the store raises.
        """
        since = self._newest - round(IN_FLIGHT * 1e6) if self._newest else 0
        wanted, before = RequestsWanted([REQUEST_STATE_OPEN]), FIRST_REQUEST
        while True:
            found = await self._store.requests(wanted, PAGE, before)
            for request in found:
                self._watch(request.key.agent, request.asked.open_time, request.asked.due)
            if len(found) < PAGE or found[-1].asked.open_time < since:
                break
            before = found[-1].page_key
        for name, asked in self._agents.items():
            if asked.idle_since is not None:  # it may have read a request at another server
                self._schedule(name, asked, self._loop.time() + OTHERS_DELAY)

    # ── What changes ────────────────────────────────────────────────────────────────────────────

    def _committed(self, commit: Commit) -> None:
        """Take note of a commit that opened or changed requests."""
        for requests in commit.asked.values():
            for key, asked in requests.items():
                if asked.state == REQUEST_STATE_OPEN and not asked.noticed >> 1:
                    self._watch(key.agent, asked.open_time, asked.due)

    def _watch(self, name: str, open_time: int, due: int) -> None:
        """Watch an agent that was asked."""
        self._newest = max(self._newest, open_time)
        asked = self._agents.get(name)
        if asked is None:
            asked = self._agents[name] = _Asked()
        asked.opened += 1
        self._update(name, asked)
        if due:
            until_due = (due - self._store.clock.now()) / 1e6
            self._schedule(name, asked, self._loop.time() + max(until_due, 0))

    def _changed(self, name: str) -> None:
        """Take note that an agent's presence changed, or that it may have read something."""
        asked = self._agents.get(name)
        if asked is not None:
            self._update(name, asked)
            if asked.idle_since is not None:
                self._schedule(name, asked, self._loop.time() + LOOK_DELAY)

    def _update(self, name: str, asked: _Asked) -> None:
        """Take note of an agent's presence."""
        now, presence = self._loop.time(), self._presence.get(name, PRESENCE_LAPSED)
        if presence in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
            asked.idle_since = None
            if asked.gone_since is None:
                asked.gone_since = now
            self._schedule(name, asked, asked.gone_since + self._delay())
            return
        asked.gone_since, asked.alive_time = None, self._store.clock.now()
        if presence not in (PRESENCE_WAITING, PRESENCE_IDLE):
            asked.idle_since = None
        elif asked.idle_since is None:
            asked.idle_since = now

    def _delay(self) -> float:
        """Returns for how long another server may know better what an agent does, in seconds."""
        return self._server_delay if self._changes.several_servers else 0.0

    def _schedule(self, name: str, asked: _Asked, time: float) -> None:
        """Look at an agent's requests at a time, or earlier."""
        if time < asked.look_at:
            if asked.timer is not None:
                asked.timer.cancel()
            asked.look_at = time
            asked.timer = self._loop.call_at(time, self._on_timer, name, asked)

    def _on_timer(self, name: str, asked: _Asked) -> None:
        asked.timer, asked.look_at = None, math.inf
        self._due[name] = None
        self._available.set()

    # ── Notices ─────────────────────────────────────────────────────────────────────────────────

    async def _look_at(self, name: str, asked: _Asked) -> None:
        """Write the notices that are due about the requests to an agent, and schedule the others.

        Raises what the store raises.
        """
        opened, some, read = asked.opened, False, {}
        wanted, before = RequestsWanted([REQUEST_STATE_OPEN], agent=name), FIRST_REQUEST
        evidence = await self._evidence(name)
        while True:
            found, notices = await self._store.requests(wanted, PAGE, before), []
            for request in found:
                some = True
                if self._has_read(request):
                    read[request.key] = asked.read.get(request.key, self._loop.time())
                notices += [
                    self._writer.submit(WriteNotice(request.thread, request.key, reason, evidence))
                    for reason in self._reasons(request, asked, read.get(request.key), evidence)
                ]
            if not all(await asyncio.gather(*notices)):
                self._schedule(name, asked, self._loop.time() + RETRY)
            if len(found) < PAGE:
                break
            before = found[-1].page_key
        asked.read = read
        if not some and opened == asked.opened:
            if asked.timer is not None:
                asked.timer.cancel()
            del self._agents[name]

    def _reasons(
        self,
        request: StoredRequest,
        asked: _Asked,
        read_at: float | None,
        evidence: PresenceRow | None,
    ) -> list[Notice.Reason.ValueType]:
        """Returns the reasons of the notices about a request that are due. Schedules the others.

        Args:
            read_at: when the request was found to be read; None: it is not.
            evidence: of the agent's presence; None: it was never seen.
        """
        name, now, reasons = request.key.agent, self._loop.time(), []
        if request.read_seq is None:
            reasons.append(Notice.REASON_AGENT_LEFT)
        elif asked.gone_since is not None:
            came = not request.asked.was_gone or asked.alive_time >= request.asked.open_time
            if came and evidence and self._is_over(name, asked, asked.gone_since + self._delay()):
                if evidence.reported == PRESENCE_OFFLINE:
                    reasons.append(Notice.REASON_AGENT_OFFLINE)
                elif evidence.lease_end_time <= self._store.clock.now():
                    reasons.append(Notice.REASON_AGENT_LAPSED)
                else:  # another server knows better
                    self._schedule(name, asked, now + RETRY)
        elif asked.idle_since is not None and read_at is not None:
            window = max(self._window, self._delay())
            if self._is_over(name, asked, max(asked.idle_since, read_at) + window):
                reasons.append(Notice.REASON_AGENT_IDLE)
        if request.asked.due:
            until_due = (request.asked.due - self._store.clock.now()) / 1e6
            if not request.asked.has_notice(Notice.REASON_OVERDUE) and self._is_over(
                name, asked, now + until_due
            ):
                reasons.append(Notice.REASON_OVERDUE)
        return [reason for reason in reasons if not request.asked.has_notice(reason)]

    def _is_over(self, name: str, asked: _Asked, time: float) -> bool:
        """Returns whether a time has come. If not, the agent's requests are looked at then."""
        if time <= self._loop.time():
            return True
        self._schedule(name, asked, time)
        return False

    def _has_read(self, request: StoredRequest) -> bool:
        """Returns whether the agent asked has read the message, also through a filter."""
        position = self._positions.get(request.key.agent, request.thread, request.epoch)
        read = max(position.read, position.passed_over, request.read_seq or 0)
        return read >= request.key.seq

    async def _evidence(self, name: str) -> PresenceRow | None:
        """Returns what the presence of an agent follows from; None if it was never seen."""
        row = self._presence.row(name)
        if row is None:
            row = next(iter(await self._store.presence_of([name])), None)
        return row


def _log(error: BusError | StoreBug) -> None:
    if not isinstance(error, StoreFailed):  # the store logs these
        logger.warning("cannot look at requests (%s): trying again", error)

"""Who is there: what is known of each agent now, by the newest evidence (the rules: agent.proto).

Leases run on the event loop's clock; what is written to the store says when they end on its own.
Which of two signs of life is newer is told by the store's clock. The wall clock is only told to
callers: it may be set, and then nobody must be taken for gone, or for there.
"""

import asyncio
import math
from collections.abc import Iterable, Sequence

from bus_server.presence.agent_state import SETTABLE, SOMEWHERE, Evidence, Heartbeat
from bus_server.presence.changes import News
from bus_server.settings import MAX_LEASE
from bus_server.store import Sighting
from bus_server.store.clock import StoreClock
from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WORKING,
    Agent,
)
from threadbus.v1.agent_pb2 import Presence as State


class Presence:
    """What is known of agents. Those who are not there are forgotten once that is written."""

    def __init__(
        self, news: News, clock: StoreClock, *, agent_timeout: float, working_timeout: float
    ) -> None:
        self._news = news
        self._clock = clock
        self._agent_timeout = agent_timeout
        self._working_timeout = working_timeout
        self._known: dict[str, Evidence] = {}
        self._unsaved: set[str] = set()
        self._loop = asyncio.get_running_loop()

    # ── Evidence ────────────────────────────────────────────────────────────────────────────────

    def seen(self, agent: str) -> None:
        """It called: renews its lease."""
        now = self._loop.time()
        known = self._alive(agent, now)
        known.lease_end = max(known.lease_end, now + self._agent_timeout)
        self._settle(agent, known, now)

    def heartbeat(self, agent: str, beat: Heartbeat) -> int:
        """It says that it lives: when its lease ends, in microseconds since the epoch."""
        now = self._loop.time()
        known = self._alive(agent, now)
        known.lease_end = now + (self._agent_timeout if beat.lease is None else beat.lease)
        known.status_text = beat.status_text
        if beat.state != PRESENCE_UNSPECIFIED:
            known.said = beat.state
            known.owed.clear()
        self._settle(agent, known, now)
        return self._clock.wall(self._moment(known.lease_end, now))

    def wait_opened(self, agent: str, threads: Iterable[str]) -> None:
        """It waits: what it was handed of these threads is dealt with."""
        now = self._loop.time()
        known = self._alive(agent, now)
        known.lease_end = max(known.lease_end, now + self._agent_timeout)
        known.waits += 1
        known.said = PRESENCE_UNSPECIFIED
        for thread in (SOMEWHERE, *threads):
            known.owed.pop(thread, None)
        self._settle(agent, known, now)

    def wait_closed(self, agent: str) -> None:
        """A wait ended; until then it was a sign of life."""
        now, known = self._loop.time(), self._known.get(agent)
        if known is None:
            return  # it was unregistered meanwhile
        known.waits -= 1
        if not known.gone:
            if now >= known.lease_end:
                known.said = PRESENCE_UNSPECIFIED
            known.last_seen_time = self._clock.now()
            known.lease_end = max(known.lease_end, now + self._agent_timeout)
        self._settle(agent, known, now)

    def delivered(self, agent: str, thread: str, seq: int) -> None:
        """Messages up to `seq` were written to a wait of its: it has work to do."""
        now, known = self._loop.time(), self._known.get(agent)
        if known is None or known.gone:
            return
        known.said = PRESENCE_UNSPECIFIED
        if now >= known.working_end:
            known.owed.clear()
        known.owed[thread] = seq
        known.working_end = now + self._working_timeout
        known.lease_end = max(known.lease_end, known.working_end)
        self._settle(agent, known, now)

    def read(self, agent: str, thread: str, seq: int) -> None:
        """It has read a thread up to `seq`."""
        known = self._known.get(agent)
        if known is not None and known.owed:
            now = self._loop.time()
            known.owed.pop(SOMEWHERE, None)
            if known.owed.get(thread, math.inf) <= seq:
                del known.owed[thread]
            if not known.owed and known.lease_end == known.working_end:
                known.lease_end = now + self._agent_timeout  # the work it was granted for is done
            self._settle(agent, known, now)

    def posted(self, agent: str, thread: str) -> None:
        """It posted to a thread: what it was handed there is answered."""
        self.read(agent, thread, 1 << 62)

    def end(self, agent: str) -> None:
        """It said goodbye."""
        now = self._loop.time()
        self._part(agent, self._alive(agent, now), now)

    def forget(self, agent: str) -> None:
        """It is no agent any more."""
        known = self._known.pop(agent, None)
        self._unsaved.discard(agent)
        if known is not None and known.timer is not None:
            known.timer.cancel()
        self._news.agent(agent)

    # ── What it tells ───────────────────────────────────────────────────────────────────────────

    def state(self, agent: str, stored: State.ValueType) -> State.ValueType:
        """An agent's state, if the store's last word was this one."""
        known = self._known.get(agent)
        return stored if known is None else known.state(self._loop.time())

    def tell(self, agent: Agent) -> None:
        """Bring what the store said of an agent up to date, its times in wall-clock time."""
        now, known = self._clock.now(), self._known.get(agent.name)
        seen = agent.last_seen_time.ToMicroseconds()
        if known is not None:
            agent.presence = known.state(self._loop.time())
            if known.status_text is not None:
                agent.status_text = known.status_text
            seen = now if known.waits and not known.gone else known.last_seen_time
        if seen:
            agent.last_seen_time.FromMicroseconds(self._clock.wall(min(seen, now)))

    # ── Remembering ─────────────────────────────────────────────────────────────────────────────

    def restore(self, sightings: Iterable[Sighting]) -> None:
        """Go on with what was known when the last server ended.

        Each lease runs at least one full timeout anew: nobody is gone because the server was.
        """
        now = self._loop.time()
        for sighting in sightings:
            if sighting.state not in SETTABLE:
                continue  # not there: the store knows
            known = self._known[sighting.agent] = self._of(sighting, now)
            written, known.own = not known.own, True
            known.lease_end = max(known.lease_end, now + self._agent_timeout)
            if sighting.state == PRESENCE_WORKING:
                known.owed[SOMEWHERE], known.working_end = 0, known.lease_end
            elif sighting.state == PRESENCE_AWAITING_HUMAN:
                known.said = sighting.state
            self._settle(sighting.agent, known, now)
            if written:
                self._unsaved.discard(sighting.agent)

    def merge(self, sightings: Iterable[Sighting]) -> list[str]:
        """Take over what another server on the same store learned later than we did.

        Answers who said goodbye there and has waits here, which are to end.
        """
        now, moment, ended = self._loop.time(), self._clock.now(), []
        for sighting in sightings:
            ours, seen = self._known.get(sighting.agent), sighting.last_seen_time
            if ours is not None and (seen <= ours.last_seen_time or seen > moment):
                continue
            if ours is not None and ours.waits:
                if sighting.state == PRESENCE_OFFLINE:
                    ours.last_seen_time = seen  # what came later outdoes it
                    self._part(sighting.agent, ours, now)
                    ended.append(sighting.agent)
                continue
            if ours is not None and ours.timer is not None:
                ours.timer.cancel()
            known = self._of(sighting, now)
            known.gone = sighting.state == PRESENCE_OFFLINE
            if sighting.state in SETTABLE:
                known.said = sighting.state
            known.shown = PRESENCE_UNSPECIFIED if ours is None else ours.shown
            self._known[sighting.agent] = known
            self._unsaved.discard(sighting.agent)
            self._settle(sighting.agent, known, now)
            if known.shown in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
                del self._known[sighting.agent]  # the store says so itself
                self._unsaved.discard(sighting.agent)
        return ended

    def unsaved(self) -> list[Sighting]:
        """What is to be written. Say `saved` or `keep` when that is done."""
        names, self._unsaved = self._unsaved, set()
        now = self._loop.time()
        return [
            Sighting(
                agent=name,
                state=known.state(now),
                status_text=known.status_text,
                last_seen_time=known.last_seen_time,
                lease_end_time=self._moment(known.lease_end, now),
            )
            for name, known in ((name, self._known[name]) for name in names)
        ]

    def saved(self, sightings: Iterable[Sighting]) -> None:
        """It is written: of those who are not there nothing need be kept here."""
        for name in (sighting.agent for sighting in sightings):
            known = self._known.get(name)
            if known is None or name in self._unsaved or known.waits:
                continue
            if known.state(self._loop.time()) in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
                del self._known[name]
                if known.timer is not None:
                    known.timer.cancel()

    def keep(self, sightings: Sequence[Sighting]) -> None:
        """It could not be written: it comes again with the next `unsaved`."""
        self._unsaved |= {s.agent for s in sightings if s.agent in self._known}

    def _alive(self, agent: str, now: float) -> Evidence:
        """An agent that has just shown itself."""
        known = self._known.get(agent)
        if known is None:
            known = self._known[agent] = Evidence()
        elif known.state(now) in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
            known.gone, known.said = False, PRESENCE_UNSPECIFIED
            known.owed.clear()
        elif now >= known.lease_end:  # a new lease must not revive what it said in the old one
            known.said = PRESENCE_UNSPECIFIED
        known.own = True
        known.last_seen_time = self._clock.now()
        return known

    def _part(self, agent: str, known: Evidence, now: float) -> None:
        known.gone, known.said = True, PRESENCE_UNSPECIFIED
        known.owed.clear()
        self._settle(agent, known, now)

    def _of(self, sighting: Sighting, now: float) -> Evidence:
        """What the store knows of an agent, with no lease longer than one can be when it begins.

        What lies in the future cannot be compared with anything: it is taken for what is known
        here and now, which is to be written in its place.
        """
        known, moment = Evidence(), self._clock.now()
        known.status_text = sighting.status_text
        known.own = sighting.last_seen_time > moment
        known.last_seen_time = min(sighting.last_seen_time, moment)
        rest = (sighting.lease_end_time - max(sighting.last_seen_time, moment)) / 1e6
        longest = max(self._agent_timeout, self._working_timeout, MAX_LEASE)
        known.lease_end = now + min(rest, longest)
        return known

    def _settle(self, agent: str, known: Evidence, now: float) -> None:
        """Have others learn what changed, now and when it will change by itself."""
        if known.own:
            self._unsaved.add(agent)
            self._news.unsaved.set()
        state = known.state(now)
        if state != known.shown:
            known.shown = state
            self._news.agent(agent)
        due = known.next_change(now)
        if due < known.timer_at:  # a later one is found out when the timer goes off
            if known.timer is not None:
                known.timer.cancel()
            known.timer, known.timer_at = self._loop.call_at(due, self._ring, agent, known), due

    def _ring(self, agent: str, known: Evidence) -> None:
        known.timer, known.timer_at = None, math.inf
        now, before = self._loop.time(), known.shown
        if known.state(now) != before:
            self._settle(agent, known, now)
            if known.shown == PRESENCE_LAPSED and not known.own:
                del self._known[agent]
        else:
            due = known.next_change(now)
            if due < math.inf:
                known.timer, known.timer_at = self._loop.call_at(due, self._ring, agent, known), due

    def _moment(self, moment: float, now: float) -> int:
        """A moment of the loop's clock on the store's."""
        return self._clock.now() + round(max(moment - now, -1e9) * 1e6)

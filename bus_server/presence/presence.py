"""The presence of agents, in memory: the newest evidence decides (the rules are in agent.proto).

There are three clocks. Leases run on the event loop's clock, in seconds. Times in the store, which
also decide which of two signs of life is newer, are microseconds of the store's clock. Times in
responses are microseconds of the wall clock, on which nothing else here depends: setting the wall
clock must not make an agent lapse or come back.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bus_server.presence.agent_state import UNKNOWN_THREAD, AgentState, Heartbeat
from bus_server.presence.changes import Changes
from bus_server.store import PresenceRow
from bus_server.store.clock import TOLERANCE, StoreClock
from threadbus.limits import MAX_LEASE
from threadbus.v1 import agent_pb2
from threadbus.v1.agent_pb2 import (
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    Agent,
)

#: A timer that runs so many seconds late tells that this process was stopped, or its machine was.
STOPPED = 1.0


@dataclass(frozen=True, slots=True)
class PresenceStatistics:
    """The numbers of agents that Presence holds in memory."""

    #: Number of agents in memory by current presence; 0 for a presence that no agent has. Agents
    #: that are only in the store do not count.
    agents: Mapping[agent_pb2.Presence.ValueType, int]
    #: Number of agents that the next checkpoint will write.
    unsaved: int


class Presence:
    """The states of recently seen agents.

    A lapsed or offline agent is dropped from memory once the store has its state. Nothing here is
    locked: only the event loop's thread may use it.
    """

    def __init__(
        self, changes: Changes, clock: StoreClock, *, agent_timeout: float, working_timeout: float
    ) -> None:
        """`agent_timeout` and `working_timeout` are in seconds."""
        self._changes = changes
        self._clock = clock
        self._agent_timeout = agent_timeout
        self._working_timeout = working_timeout
        self._states: dict[str, AgentState] = {}
        self._unsaved: set[str] = set()
        #: How many waits agents have open on other servers, if any.
        self._remote_waits: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()

    # ── Evidence ────────────────────────────────────────────────────────────────────────────────

    def seen(self, agent: str) -> None:
        """Record a call by the agent, which renews its lease without shortening it."""
        now = self._loop.time()
        state = self._touch(agent, now)
        state.lease_end = max(state.lease_end, now + self._agent_timeout)
        self._publish(agent, state, now)

    def heartbeat(self, agent: str, beat: Heartbeat) -> int:
        """Record a heartbeat, which sets the agent's lease and may shorten it.

        Returns when the lease ends, in microseconds since the Unix epoch on the wall clock.
        """
        now = self._loop.time()
        state = self._touch(agent, now)
        state.lease_end = now + (self._agent_timeout if beat.lease is None else beat.lease)
        state.status_text, state.sends_heartbeats = beat.status_text, True
        if beat.state != PRESENCE_UNSPECIFIED:
            state.report(beat.state, state.call_time)
            state.end_work(state.call_time)
        else:
            outdated = state.state_time < state.work_time
            state.report(PRESENCE_UNSPECIFIED if outdated else state.reported, state.call_time)
        self._publish(agent, state, now)
        return self._clock.wall(self._store_time(state.lease_end, now))

    def wait_opened(self, agent: str, threads: Iterable[str] | None) -> None:
        """Record that the agent opened a wait: its work on these threads is done (None: on all)."""
        now = self._loop.time()
        state = self._touch(agent, now)
        state.lease_end = max(state.lease_end, now + self._agent_timeout)
        state.waits += 1
        state.report(PRESENCE_UNSPECIFIED, state.call_time)
        done = list(state.pending_work) if threads is None else (UNKNOWN_THREAD, *threads)
        for thread in done:
            state.pending_work.pop(thread, None)
        if not state.pending_work:
            state.work_time = state.call_time
        self._publish(agent, state, now)

    def wait_closed(self, agent: str) -> None:
        """Record that a wait of the agent ended. Renews its lease unless the agent is OFFLINE."""
        now, state = self._loop.time(), self._states.get(agent)
        if state is None:
            return  # the agent was unregistered while it waited
        state.waits = max(state.waits - 1, 0)  # 0 if the agent was unregistered, and called again
        if not state.offline:
            state.local, state.last_seen_time = True, self._clock.now()
            if now >= state.lease_end and state.reported and state.state_time >= state.work_time:
                # A new lease must not revive the report. There is no work: it would be newer.
                state.work_time = state.last_seen_time
            state.lease_end = max(state.lease_end, now + self._agent_timeout)
        self._publish(agent, state, now)

    def add_remote_waits(self, agent: str, change: int) -> None:
        """Record that the agent opened waits on other servers on the store, or ended some."""
        count = self._remote_waits.get(agent, 0) + change
        if count:
            self._remote_waits[agent] = count
        else:
            del self._remote_waits[agent]
        self._changes.add_agent(agent)
        state = self._states.get(agent)
        if state is not None:
            state.remote_waits = count
            self._publish(agent, state, self._loop.time())

    def delivered(self, agent: str, thread: str, seq: int) -> None:
        """Record that a wait of the agent was sent messages up to `seq`: the agent has work.

        No-op if the agent is OFFLINE or not in memory.
        """
        now, state = self._loop.time(), self._states.get(agent)
        if state is None or state.offline:
            return
        if now >= state.working_end:
            state.pending_work.clear()
        state.pending_work[thread] = seq
        state.local, state.work_time = True, self._clock.now()
        state.working_end = now + self._working_timeout
        self._publish(agent, state, now)

    def read(self, agent: str, thread: str, seq: int) -> None:
        """Record that the agent has read a thread up to `seq`: its work up to there is done."""
        state = self._states.get(agent)
        if state is not None and state.pending_work:
            now = self._loop.time()
            state.pending_work.pop(UNKNOWN_THREAD, None)
            if state.pending_work.get(thread, math.inf) <= seq:
                del state.pending_work[thread]
            if not state.pending_work:
                state.local, state.work_time = True, self._clock.now()
            self._publish(agent, state, now)

    def posted(self, agent: str, thread: str) -> None:
        """Record that the agent posted to a thread: all its work on the thread is done."""
        state = self._states.get(agent)
        if state is None:
            return
        if state.pending_work:
            self.read(agent, thread, 1 << 62)
        elif state.state_time and not state.reported:
            # Another server may just have delivered some. But if it is not known here what the
            # agent reported, this must not outrank it.
            state.local, state.work_time = True, self._clock.now()
            self._publish(agent, state, self._loop.time())

    def end_session(self, agent: str) -> None:
        """Record that the agent ended its session: it is OFFLINE until its next sign of life."""
        now = self._loop.time()
        state = self._touch(agent, now)
        state.report(PRESENCE_OFFLINE, state.call_time)
        state.end_work(state.call_time)
        self._publish(agent, state, now)

    def waits_of(self, agent: str) -> int:
        """Returns how many waits an agent has open, here and at other servers of the store."""
        state = self._states.get(agent)
        return state.waits + state.remote_waits if state else 0

    def kick(self, agent: str) -> None:
        """Record that an operator ended the agent's session. Its last_seen_time stays."""
        state, time = self._states.get(agent), self._clock.now()
        if state is not None:  # else it is lapsed or offline, or was never seen
            state.local = True
            state.report(PRESENCE_OFFLINE, time)
            state.end_work(time)
            self._publish(agent, state, self._loop.time())

    def forget(self, agent: str) -> None:
        """Drop an agent that was unregistered."""
        state = self._states.pop(agent, None)
        self._unsaved.discard(agent)
        if state is not None:
            self._drop(agent, state)
        self._changes.add_agent(agent)

    # ── Presence ────────────────────────────────────────────────────────────────────────────────

    def get(self, agent: str, stored: agent_pb2.Presence.ValueType) -> agent_pb2.Presence.ValueType:
        """Returns the agent's current presence.

        `stored`: its presence in the store, which counts if the agent is not in memory.
        """
        state = self._states.get(agent)
        if state is not None:
            return state.presence(self._loop.time())
        waits = stored == PRESENCE_LAPSED and agent in self._remote_waits
        return PRESENCE_WAITING if waits else stored

    def known(self) -> dict[str, agent_pb2.Presence.ValueType]:
        """Returns what is known of agents beyond the store, by name, as Store.figures takes it."""
        waiting = dict.fromkeys(self._remote_waits, PRESENCE_UNSPECIFIED)
        return waiting | {agent: state.published for agent, state in self._states.items()}

    def row(self, agent: str) -> PresenceRow | None:
        """Returns the evidence about an agent; None if it is not in memory."""
        state = self._states.get(agent)
        return None if state is None else self._to_row(agent, state, self._loop.time())

    def refresh(self, agent: Agent) -> None:
        """Update an Agent that was read from the store: presence, status text, last seen time.

        Its last seen time must be on the store's clock, and is converted to wall-clock time.
        """
        now, state = self._clock.now(), self._states.get(agent.name)
        seen = agent.last_seen_time.ToMicroseconds()
        agent.presence = self.get(agent.name, agent.presence)
        waits = agent.name in self._remote_waits
        if state is not None:
            if state.status_text is not None:
                agent.status_text = state.status_text
            seen, waits = state.last_seen_time, waits or state.waits > 0
        if waits and agent.presence != PRESENCE_OFFLINE:
            seen = now
        if seen:
            agent.last_seen_time.FromMicroseconds(self._clock.wall(min(seen, now)))

    def statistics(self) -> PresenceStatistics:
        """Returns the current statistics."""
        now = self._loop.time()
        return PresenceStatistics(
            agents=Counter(state.presence(now) for state in self._states.values()),
            unsaved=len(self._unsaved),
        )

    # ── The store ───────────────────────────────────────────────────────────────────────────────

    def restore(self, rows: Iterable[PresenceRow]) -> None:
        """Load the stored presence of agents. Call it once, before any evidence is recorded.

        Each lease is extended to at least one agent timeout from now, so that no agent lapses
        because the server was down.
        """
        now = self._loop.time()
        for row in rows:
            if row.reported == PRESENCE_OFFLINE or not row.lease_end_time:
                continue  # an agent that is lapsed or offline need not be in memory
            state = self._states[row.agent] = self._from_row(row, now)
            extended = now + self._agent_timeout
            state.lease_end = max(state.lease_end, extended)
            if row.working_end_time:
                state.pending_work[UNKNOWN_THREAD] = 0
                state.working_end = max(state.working_end, extended)
            self._publish(row.agent, state, now)

    def merge(self, rows: Iterable[PresenceRow]) -> list[str]:
        """Adopt the parts of other servers' rows that are newer than those in memory.

        Returns the agents that have ended their session at another server and have waits here: the
        caller must end these waits.
        """
        now, store_now, ended = self._loop.time(), self._clock.now(), []
        for row in rows:
            state = self._states.get(row.agent)
            if state is None:
                state = self._from_row(row, now)
                if state.presence(now) in (PRESENCE_LAPSED, PRESENCE_OFFLINE) and not state.local:
                    self._changes.add_agent(row.agent)
                    continue  # an agent that is lapsed or offline need not be in memory
                self._states[row.agent] = state
            elif not self._adopt(state, row, now, store_now):
                continue
            if state.offline and state.waits:
                ended.append(row.agent)
            if not state.local:
                self._unsaved.discard(row.agent)
            self._publish(row.agent, state, now)
        return ended

    def begin_save(self) -> list[PresenceRow]:
        """Returns the rows to write. Call `finish_save` or `abort_save` with these rows next."""
        names, self._unsaved = self._unsaved, set()
        now = self._loop.time()
        return [self._to_row(name, self._states[name], now) for name in names]

    def finish_save(self, rows: Iterable[PresenceRow]) -> None:
        """Record that these rows were written; drop agents that are lapsed or offline."""
        for name in (row.agent for row in rows):
            state = self._states.get(name)
            if state is None or name in self._unsaved or state.waits:
                continue
            if state.presence(self._loop.time()) in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
                self._drop(name, state)

    def abort_save(self, rows: Sequence[PresenceRow]) -> None:
        """Record that these rows were not written: `begin_save` will return their agents again."""
        self._unsaved |= {row.agent for row in rows if row.agent in self._states}

    # ── Private ─────────────────────────────────────────────────────────────────────────────────

    def _touch(self, agent: str, now: float) -> AgentState:
        """Record a call to this server. Returns the agent's state, created if necessary."""
        time, state = self._clock.now(), self._states.get(agent)
        if state is None:
            state = self._states[agent] = AgentState()
            state.remote_waits = self._remote_waits.get(agent, 0)
        elif state.presence(now) in (PRESENCE_LAPSED, PRESENCE_OFFLINE):
            state.report(PRESENCE_UNSPECIFIED, time)
            state.end_work(time)
            state.sends_heartbeats = False
        elif now >= state.lease_end and state.reported:
            state.report(PRESENCE_UNSPECIFIED, time)  # a new lease must not revive it
        state.local, state.call_time, state.last_seen_time = True, time, time
        return state

    def _from_row(self, row: PresenceRow, now: float) -> AgentState:
        """Returns the state in a row of the store.

        Times in the future are invalid: they are replaced with the current time, and the state is
        `local`, so that a checkpoint overwrites the row.
        """
        state, store_now = AgentState(), self._clock.now()
        state.remote_waits = self._remote_waits.get(row.agent, 0)
        state.status_text = row.status_text
        state.last_seen_time, state.lease_end = row.last_seen_time, self._lease_end(row, now)
        state.report(row.reported, row.state_time)
        state.sends_heartbeats = row.sends_heartbeats
        self._set_work(state, row, now)
        newest = max(state.last_seen_time, state.state_time, state.work_time)
        if newest > store_now + TOLERANCE:
            state.local = True
            state.last_seen_time = min(state.last_seen_time, store_now)
            state.state_time = min(state.state_time, store_now)
            state.work_time = min(state.work_time, store_now)
        return state

    def _to_row(self, agent: str, state: AgentState, now: float) -> PresenceRow:
        """Returns the row of an agent. What it reported does not outlast its lease."""
        lapsed = state.presence(now) == PRESENCE_LAPSED
        working = state.pending_work and now < state.working_end
        return PresenceRow(
            agent=agent,
            last_seen_time=state.last_seen_time,
            lease_end_time=0 if lapsed else self._store_time(state.lease_end, now),
            state_time=state.state_time,
            reported=PRESENCE_UNSPECIFIED if lapsed else state.reported,
            status_text=state.status_text,
            work_time=state.work_time,
            working_end_time=self._store_time(state.working_end, now) if working else 0,
            sends_heartbeats=state.sends_heartbeats,
        )

    def _adopt(self, state: AgentState, row: PresenceRow, now: float, store_now: int) -> bool:
        """Adopt the parts of a row that are newer, and not from the future by more than TOLERANCE.

        Returns whether there are any.
        """
        latest, adopted = store_now + TOLERANCE, False
        if state.last_seen_time < row.last_seen_time <= latest:
            adopted = True
            if state.presence(now) == PRESENCE_LAPSED:
                state.reported = PRESENCE_UNSPECIFIED  # a new lease must not revive it
            state.last_seen_time, state.lease_end = row.last_seen_time, self._lease_end(row, now)
        if state.state_time < row.state_time <= latest:
            adopted = True
            state.status_text = row.status_text
            if row.reported == PRESENCE_OFFLINE and row.state_time < state.call_time:
                state.state_time = state.call_time  # which ended that
            else:
                state.report(row.reported, row.state_time)
                state.sends_heartbeats = row.sends_heartbeats
        if state.work_time < row.work_time <= latest:
            adopted = True
            self._set_work(state, row, now)
        if adopted:
            state.local = (
                state.last_seen_time > row.last_seen_time
                or state.state_time > row.state_time
                or state.work_time > row.work_time
            )
        return adopted

    def _lease_end(self, row: PresenceRow, now: float) -> float:
        """Returns the end of the lease in a row, limited to the longest lease allowed."""
        store_now = self._clock.now()
        remaining = (row.lease_end_time - max(row.last_seen_time, store_now)) / 1e6
        return now + min(remaining, max(self._agent_timeout, self._working_timeout, MAX_LEASE))

    def _set_work(self, state: AgentState, row: PresenceRow, now: float) -> None:
        """Adopt the work in a row."""
        state.end_work(row.work_time)
        remaining = (row.working_end_time - max(row.work_time, self._clock.now())) / 1e6
        if remaining > 0:
            state.pending_work[UNKNOWN_THREAD] = 0
            state.working_end = now + min(remaining, self._working_timeout)

    def _publish(self, agent: str, state: AgentState, now: float) -> None:
        """Mark a `local` state as unsaved, report a changed presence, and set the agent's timer.

        Must be called after every change of a state.
        """
        if state.local:
            self._unsaved.add(agent)
            self._changes.unsaved.set()
        presence = state.presence(now)
        if presence != state.published:
            state.published = presence
            self._changes.add_agent(agent)
            if presence == PRESENCE_LAPSED:
                self._unsaved.add(agent)  # the store must know that it was found to be LAPSED
                self._changes.unsaved.set()
        due = state.next_change(now)
        if due < state.timer_at:  # a timer that runs too early sets itself again
            if state.timer is not None:
                state.timer.cancel()
            self._set_timer(agent, state, due)
        if presence in (PRESENCE_LAPSED, PRESENCE_OFFLINE) and not (
            state.local or state.waits or agent in self._unsaved
        ):
            self._drop(agent, state)  # the store has the same state

    def _drop(self, agent: str, state: AgentState) -> None:
        if state.timer is not None:
            state.timer.cancel()
        if self._states.get(agent) is state:
            del self._states[agent]
            self._unsaved.discard(agent)

    def _set_timer(self, agent: str, state: AgentState, due: float) -> None:
        state.timer = self._loop.call_at(due, self._on_timer, agent, state)
        state.timer_at = due

    def _on_timer(self, agent: str, state: AgentState) -> None:
        """Publish the state if time has changed its presence; otherwise set the timer again.

        If this process was stopped, it could hear of nobody: as after a restart, the agent has one
        agent timeout from now.
        """
        now = self._loop.time()
        was_stopped = now - state.timer_at > STOPPED
        state.timer, state.timer_at = None, math.inf
        if was_stopped and state.presence(now) == PRESENCE_LAPSED:
            state.lease_end = now + self._agent_timeout
        if state.presence(now) != state.published:
            self._publish(agent, state, now)
        else:
            due = state.next_change(now)
            if due < math.inf:
                self._set_timer(agent, state, due)

    def _store_time(self, loop_time: float, now: float) -> int:
        """Returns a time of the event loop's clock as a time of the store's clock.

        `now` is the current time of the event loop's clock.
        """
        return self._clock.now() + round(max(loop_time - now, -1e9) * 1e6)

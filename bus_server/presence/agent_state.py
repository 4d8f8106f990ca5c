"""What the server holds in memory about one agent, and the presence that follows from it.

The rules are those of the enum Presence in agent.proto.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from threadbus.v1.agent_pb2 import (
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_LAPSED,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
    Presence,
)

#: The presences that an agent may report in a heartbeat.
SETTABLE = (PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE, PRESENCE_AWAITING_HUMAN)

#: Key in `pending_work` for work that was delivered before this server started, or by another one:
#: its thread is not known. No thread has this name.
UNKNOWN_THREAD = ""


class AgentState:
    """The latest evidence about one agent, from which its presence follows.

    Times named `…_time` are in microseconds on the store's clock; other times are in seconds on the
    event loop's clock. Nothing here is locked: only the event loop's thread may use it.
    """

    __slots__ = (
        "call_time",
        "last_seen_time",
        "lease_end",
        "local",
        "pending_work",
        "published",
        "remote_waits",
        "reported",
        "sends_heartbeats",
        "state_time",
        "status_text",
        "timer",
        "timer_at",
        "waits",
        "work_time",
        "working_end",
    )  # fmt: skip

    def __init__(self) -> None:
        # The three parts of a PresenceRow.
        self.last_seen_time = 0
        self.lease_end = -math.inf
        #: Of the newest evidence for `reported`.
        self.state_time = 0
        #: The presence reported by the last heartbeat; UNSPECIFIED: none was reported, or newer
        #: evidence replaced it; OFFLINE: the agent ended its session.
        self.reported: Presence.ValueType = PRESENCE_UNSPECIFIED
        self.status_text: str | None = None  # None: as in the store
        #: Whether it sent a heartbeat since it was last LAPSED or OFFLINE. Then its silence during
        #: work tells that it is gone, as any other.
        self.sends_heartbeats = False
        #: Of the newest evidence for `pending_work`.
        self.work_time = 0
        #: By thread: the last seq that was delivered to the agent, while the agent has not read
        #: that far. Ignored from `working_end` on.
        self.pending_work: dict[str, int] = {}
        self.working_end = -math.inf

        #: The last call of the agent to this server; 0: none since it is in memory.
        self.call_time = 0
        #: How many waits the agent has open on this server, and on others on the same store.
        self.waits = self.remote_waits = 0
        #: Whether this server has evidence that may not be in the store.
        self.local = False
        #: The presence when `Changes` was last notified.
        self.published: Presence.ValueType = PRESENCE_UNSPECIFIED
        #: Runs at `timer_at` to check whether the passing of time has changed the presence.
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = math.inf

    @property
    def offline(self) -> bool:
        """Whether it ended its session and has made no call since."""
        return self.reported == PRESENCE_OFFLINE

    def presence(self, now: float) -> Presence.ValueType:
        """Returns the agent's presence at `now`."""
        if self.reported == PRESENCE_OFFLINE:
            return PRESENCE_OFFLINE
        alive = now < self.lease_end
        if alive and self.reported and self.state_time >= self.work_time:
            return self.reported
        waits = self.waits or self.remote_waits
        working = self.pending_work and now < self.working_end
        if working and (alive or waits or not self.sends_heartbeats):
            return PRESENCE_WORKING
        if waits:
            return PRESENCE_WAITING
        return PRESENCE_IDLE if alive else PRESENCE_LAPSED

    def report(self, state: Presence.ValueType, time: int) -> None:
        """Record what the agent reported; UNSPECIFIED: that an earlier report no longer counts."""
        self.reported, self.state_time = state, time

    def end_work(self, time: int) -> None:
        """Record that all its work is done."""
        self.pending_work.clear()
        self.work_time = time

    def next_change(self, now: float) -> float:
        """Returns the first time after `now` at which the presence may change without new evidence.

        Infinity if there is none.
        """
        change = self.lease_end if self.lease_end > now else math.inf
        if self.pending_work and now < self.working_end < change:
            return self.working_end
        return change


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What an agent reports in a Heartbeat request."""

    #: One of SETTABLE, or UNSPECIFIED to leave it as it is.
    state: Presence.ValueType
    status_text: str
    #: Seconds for which the agent may be silent; None: the server's agent timeout.
    lease: float | None
    #: What it has read, as Participants.read takes it.
    read_cursors: Sequence[tuple[str, int, str, int]]

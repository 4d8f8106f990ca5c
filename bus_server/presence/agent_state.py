"""What is known of an agent, and the state that follows: the rules of agent.proto's Presence."""

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
)
from threadbus.v1.agent_pb2 import Presence as State

#: What an agent can say of itself.
SETTABLE = (PRESENCE_WAITING, PRESENCE_WORKING, PRESENCE_IDLE, PRESENCE_AWAITING_HUMAN)

#: Stands for the thread of a delivery that happened before this server began.
SOMEWHERE = ""


class Evidence:
    """What is known of one agent. Times are the loop's clock, but for last_seen_time."""

    __slots__ = (
        "gone",
        "last_seen_time",
        "lease_end",
        "owed",
        "own",
        "said",
        "shown",
        "status_text",
        "timer",
        "timer_at",
        "waits",
        "working_end",
    )  # fmt: skip

    def __init__(self) -> None:
        #: What it said of itself, until there is newer evidence.
        self.said: State.ValueType = PRESENCE_UNSPECIFIED
        self.status_text: str | None = None  # None: nothing new
        self.last_seen_time = 0  # on the store's clock
        self.lease_end = -math.inf
        #: What it was handed and has not read yet: thread → seq. Counts until `working_end`.
        self.owed: dict[str, int] = {}
        self.working_end = -math.inf
        self.waits = 0
        self.gone = False
        #: The evidence is ours, not another server's.
        self.own = False
        self.shown: State.ValueType = PRESENCE_UNSPECIFIED
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = math.inf

    def state(self, now: float) -> State.ValueType:
        if self.gone:
            return PRESENCE_OFFLINE
        alive = now < self.lease_end
        if alive and self.said:
            return self.said
        if self.owed and now < self.working_end and (alive or self.waits):
            return PRESENCE_WORKING
        if self.waits:
            return PRESENCE_WAITING
        return PRESENCE_IDLE if alive else PRESENCE_LAPSED

    def next_change(self, now: float) -> float:
        """When the state may change by itself."""
        ends = (self.lease_end, self.working_end if self.owed else -math.inf)
        return min((end for end in ends if end > now), default=math.inf)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What an agent says of itself."""

    state: State.ValueType  # UNSPECIFIED: nothing new
    status_text: str
    lease: float | None  # seconds that it may be silent; None: the usual time
    #: Thread, seq and epoch of each.
    read_cursors: Sequence[tuple[str, int, str]]

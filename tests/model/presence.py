"""An agent's presence by the rules of agent.proto, while no lease expires."""

import copy
from typing import Self

from threadbus.v1.agent_pb2 import (
    PRESENCE_IDLE,
    PRESENCE_OFFLINE,
    PRESENCE_UNSPECIFIED,
    PRESENCE_WAITING,
    PRESENCE_WORKING,
)
from threadbus.v1.agent_pb2 import Presence as State

#: Greater than any seq.
_ALL = 1 << 62


class Presence:
    """One agent's presence. The callers count its open waits."""

    def __init__(self) -> None:
        self._seen = False
        self._gone = False
        self._said: State.ValueType = PRESENCE_UNSPECIFIED
        self._owed: dict[str, int] = {}  # undelivered work: thread → last seq that was delivered

    def copy(self) -> Self:
        return copy.deepcopy(self)

    def state(self, *, waits: bool) -> State.ValueType:
        if not self._seen:
            return PRESENCE_UNSPECIFIED
        if self._gone:
            return PRESENCE_OFFLINE
        if self._said:
            return self._said
        if self._owed:
            return PRESENCE_WORKING
        return PRESENCE_WAITING if waits else PRESENCE_IDLE

    def calls(self) -> None:
        """The agent makes a call: it is online."""
        self._seen, self._gone = True, False

    def reports(self, state: State.ValueType) -> None:
        if state:
            self._said = state
            self._owed.clear()

    def waits(self, threads: list[str]) -> None:
        """The agent opens a wait: what was delivered of these threads is done."""
        self._said = PRESENCE_UNSPECIFIED
        for thread in threads:
            self._owed.pop(thread, None)

    def delivered(self, thread: str, seq: int) -> None:
        """A wait delivered messages of others to the agent."""
        self._said = PRESENCE_UNSPECIFIED
        self._owed[thread] = seq

    def has_read(self, thread: str, seq: int) -> None:
        if self._owed.get(thread, _ALL) <= seq:
            del self._owed[thread]

    def posts(self, thread: str) -> None:
        self._owed.pop(thread, None)

    def ends(self) -> None:
        """The agent ends its session."""
        self._gone, self._said = True, PRESENCE_UNSPECIFIED
        self._owed.clear()

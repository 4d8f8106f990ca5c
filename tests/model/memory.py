"""The state of a bus, in lists and dicts."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, Self, TypeVar

from google.protobuf.message import Message as AnyMessage

from tests.model.history import ANONYMOUS, OPERATOR, History
from tests.model.presence import Presence
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_ANONYMOUS,
    AGENT_KIND_HUMAN,
    AGENT_KIND_UNSPECIFIED,
    AgentKind,
    Participant,
)
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, THREAD_STATE_OPEN, Thread

R = TypeVar("R", bound=AnyMessage)


class Position(NamedTuple):
    """An agent's positions in a thread that are not saved yet."""

    epoch: str
    delivered: int = 0
    read: int = 0


class Memory:
    """Agents, threads, unsaved positions and presence."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix  # of the names of this model's threads and agents
        self.agents: dict[str, AgentKind.ValueType] = {
            ANONYMOUS: AGENT_KIND_ANONYMOUS,
            OPERATOR: AGENT_KIND_HUMAN,
        }
        self.threads: dict[str, History] = {}
        self.histories: dict[str, History] = {}  # by epoch, deleted ones too
        self.unsaved: dict[tuple[str, str], Position] = {}  # by agent and thread
        self.presence: dict[str, Presence] = defaultdict(Presence)

    def copy(self) -> Self:
        twin = type(self)(self.prefix)
        twin.agents = dict(self.agents)
        twin.histories = {epoch: history.copy() for epoch, history in self.histories.items()}
        twin.threads = {name: twin.histories[h.thread.epoch] for name, h in self.threads.items()}
        twin.unsaved = dict(self.unsaved)
        twin.presence.update({name: known.copy() for name, known in self.presence.items()})
        return twin

    def name(self, thread: str) -> str:
        return f"{self.prefix}-{thread}"

    def agent(self, name: str) -> str:
        return name if name in ("", ANONYMOUS, OPERATOR) else f"{self.prefix}-{name}"

    # ── Positions ───────────────────────────────────────────────────────────────────────────────

    def raise_position(
        self, agent: str, history: History, *, delivered: int = 0, read: int = 0
    ) -> None:
        """Raise an agent's positions in a thread; they are saved later."""
        if agent != ANONYMOUS:
            was = self._unsaved(agent, history)
            self.unsaved[agent, history.thread.name] = Position(
                history.thread.epoch, max(was.delivered, delivered), max(was.read, read)
            )

    def appended(self, history: History, message: Message) -> None:
        """A message was appended: a sender that had read all before it has read it, too."""
        agent = message.sender
        if agent in history.members:
            member, unsaved = history.members[agent], self._unsaved(agent, history)
            if max(member.read, unsaved.read) >= message.seq - 1:
                history.participate(agent, message.create_time, read=message.seq)

    def delivered(self, agent: str, history: History, messages: Sequence[Message]) -> None:
        """A wait delivered these messages to an agent."""
        if messages and agent != ANONYMOUS:
            self.raise_position(agent, history, delivered=messages[-1].seq)
            if any(each.sender != agent and history.wakes(each, agent) for each in messages):
                self.presence[agent].delivered(history.thread.name, messages[-1].seq)

    def save_positions(self) -> None:
        """Save all positions, as the server does when it stops."""
        for agent, thread in list(self.unsaved):
            self.save_position(agent, thread)
        self.unsaved.clear()

    def save_position(self, agent: str, thread: str) -> None:
        """Save a participant's positions in a thread, as the server does when it rejoins."""
        if position := self.unsaved.get((agent, thread)):
            history = self.histories[position.epoch]
            if agent in history.members:
                join_time = history.members[agent].join_time
                history.participate(
                    agent, join_time, delivered=position.delivered, read=position.read or -1
                )

    def participants(self, history: History, actual: Sequence[Participant]) -> list[Participant]:
        """Returns the participants by name. Presence and waits are taken from `actual`."""
        now = {participant.agent: participant for participant in actual}
        return [
            self.participant(name, history, now.get(name, Participant()))
            for name in sorted(history.members)
        ]

    def participant(self, name: str, history: History, actual: Participant) -> Participant:
        member, unsaved = history.members[name], self._unsaved(name, history)
        return Participant(
            agent=name,
            kind=AGENT_KIND_UNSPECIFIED if name == OPERATOR else self.agents[name],
            presence=actual.presence,
            waiting=actual.waiting,
            wait_count=actual.wait_count,
            delivered_seq=max(member.delivered, unsaved.delivered),
            read_seq=max(member.read, unsaved.read),
            join_time=member.join_time,
        )

    def _unsaved(self, agent: str, history: History) -> Position:
        position = self.unsaved.get((agent, history.thread.name))
        epoch = history.thread.epoch
        return position if position and position.epoch == epoch else Position(epoch)

    # ── Threads ─────────────────────────────────────────────────────────────────────────────────

    def create(self, name: str, topic: str, caller: str, actual: Thread) -> History:
        assert actual.epoch not in self.histories, "each history has an epoch of its own"
        thread = Thread(
            name=name,
            epoch=actual.epoch,
            first_seq=1,
            state=THREAD_STATE_OPEN,
            sync_mode=SYNC_MODE_OFF,
            topic=topic,
            creator=caller,
            create_time=actual.create_time,
            update_time=actual.create_time,
        )
        history = History(thread, len(self.histories))
        self.threads[name] = self.histories[actual.epoch] = history
        return history


def response_or_empty(actual: object, response: type[R]) -> R:
    """Returns the server's response, or an empty one if it returned something else."""
    return actual if isinstance(actual, response) else response()

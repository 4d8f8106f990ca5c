"""What becomes of requests, in lists and dicts."""

from dataclasses import dataclass, field
from typing import NamedTuple

from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.message_pb2 import WAKE_ALL, WAKE_NOBODY, Wake
from threadbus.v1.request_pb2 import Request

#: The reason, the request and the agent of a notice.
Told = tuple[str, int, str]


@dataclass
class Asked:
    """A request, as ListRequests returns it but for its thread and times."""

    asker: str
    state: str = "OPEN"
    reply_seq: int = 0
    #: The reasons of its notices.
    told: set[str] = field(default_factory=set)


class Entry(NamedTuple):
    """An entry of a thread's log."""

    sender: str
    edit_of: int = 0
    wakes: Wake.ValueType = WAKE_ALL
    told: Told | None = None


@dataclass
class RequestThread:
    """A thread from its creation to its deletion."""

    epoch: str
    log: list[Entry] = field(default_factory=list)
    asked: dict[tuple[int, str], Asked] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    closed: bool = False

    @property
    def notices(self) -> list[Told]:
        """The notices, in order."""
        return [entry.told for entry in self.log if entry.told]

    def open_to(self, agent: str) -> list[tuple[int, str]]:
        """Returns the keys of the open requests to an agent, in order."""
        return [
            key
            for key, each in sorted(self.asked.items(), key=lambda each: each[0])
            if key[1] == agent and each.state == "OPEN"
        ]

    def post(self, request: PostMessageRequest) -> None:
        """Append a post, which was accepted."""
        sender, wakes = request.on_behalf_of, request.wakes or WAKE_ALL
        if request.edit_of:
            wakes = self.log[request.edit_of - 1].wakes
        self.log.append(Entry(sender, request.edit_of, wakes))
        seq, asked = len(self.log), list(request.expect_reply.agents)
        self.members |= {sender, *asked, *request.mentions}
        self.asked |= {(seq, agent): Asked(sender) for agent in asked}
        if request.reply_to and wakes != WAKE_NOBODY:
            for asking in (request.reply_to, self.log[request.reply_to - 1].edit_of):
                each = self.asked.get((asking, sender))
                if each and each.state == "OPEN":
                    each.state, each.reply_seq = "ANSWERED", seq

    def withdraw(self, seq: int) -> None:
        """Withdraw the open requests of a message."""
        for key, each in sorted(self.asked.items(), key=lambda each: each[0]):
            if key[0] == seq and each.state == "OPEN":
                each.state = "WITHDRAWN"
                self.tell("WITHDRAWN", key)

    def set_closed(self, closed: bool) -> None:
        """Close or open the thread."""
        if closed != self.closed:
            self.closed = closed
            self.log.append(Entry("operator"))
            for each in self.asked.values():
                if closed and each.state == "OPEN":
                    each.state = "CLOSED"

    def leave(self, agent: str) -> None:
        """Remove a participant."""
        for key in self.open_to(agent):
            if "AGENT_LEFT" not in self.asked[key].told:
                self.tell("AGENT_LEFT", key)
        self.members.discard(agent)

    def end_session(self, agent: str) -> list[Told]:
        """Returns the notices that follow, in the order in which they are looked for."""
        if agent not in self.members:
            return []
        keys = [key for key in self.open_to(agent) if "AGENT_OFFLINE" not in self.asked[key].told]
        return [("AGENT_OFFLINE", *key) for key in keys]

    def tell(self, reason: str, key: tuple[int, str]) -> None:
        """Append a notice."""
        self.log.append(Entry("system", told=(reason, *key)))
        self.asked[key].told.add(reason)

    def listed(self, thread: str) -> list[Request]:
        """Returns its requests as ListRequests lists them, without times."""
        return [
            Request(
                thread=thread,
                epoch=self.epoch,
                seq=seq,
                asker=each.asker,
                agent=agent,
                state=f"REQUEST_STATE_{each.state}",  # type: ignore[arg-type]
                reply_seq=each.reply_seq,
            )
            for (seq, agent), each in sorted(
                self.asked.items(), key=lambda each: each[0], reverse=True
            )
        ]

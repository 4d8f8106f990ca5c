"""Requests as they are stored: as `asked`, as `request` is the table of request_ids."""

from collections.abc import Sequence
from typing import NamedTuple

from threadbus.v1.message_pb2 import Notice
from threadbus.v1.request_pb2 import Request, RequestState

#: Maximum number of open requests to an agent in a thread: a transaction that closes the thread, or
#: in which the agent leaves it, changes all of them.
MAX_OPEN_REQUESTS = 1_000


class Asked(NamedTuple):
    """What is stored of a request, besides its key. Times are in microseconds."""

    asker: str
    state: RequestState.ValueType
    create_time: int  # since the Unix epoch
    open_time: int  # the same moment, on the store's clock
    due: int  # when it becomes overdue, on the store's clock; 0: never
    reply_seq: int = 0  # of the entry that answered it
    #: The reasons of its notices, as bits: 1 << reason. Bit 0: see `was_gone`.
    noticed: int = 0

    @property
    def was_gone(self) -> bool:
        """Whether the agent was LAPSED or OFFLINE when it was asked, as far as the store knew."""
        return bool(self.noticed & 1)

    def has_notice(self, reason: Notice.Reason.ValueType) -> bool:
        """Returns whether a notice with this reason was sent."""
        return bool(self.noticed >> reason & 1)


class AskedKey(NamedTuple):
    """What identifies a request: a message, and an agent that it asks."""

    thread_id: int
    seq: int
    agent: str


class RequestPageKey(NamedTuple):
    """A request's position in the list of requests, which is in descending order of these keys."""

    open_time: int
    thread_id: int
    seq: int
    agent: str


#: Comes before the key of every request.
FIRST_REQUEST = RequestPageKey((1 << 63) - 1, 0, 0, "")


class StoredRequest(NamedTuple):
    """A request, and the name and epoch of its thread."""

    thread: str
    epoch: str
    key: AskedKey
    asked: Asked
    #: Up to where the agent asked has read the thread, also through filters, as of the last
    #: checkpoint; None: it is no participant.
    read_seq: int | None = None

    @property
    def page_key(self) -> RequestPageKey:
        """Its position in the list of requests."""
        return RequestPageKey(self.asked.open_time, *self.key)

    def proto(self) -> Request:
        """Returns the request as callers get it."""
        asked, key = self.asked, self.key
        request = Request(
            thread=self.thread,
            epoch=self.epoch,
            seq=key.seq,
            asker=asked.asker,
            agent=key.agent,
            state=asked.state,
            reply_seq=asked.reply_seq,
        )
        request.create_time.FromMicroseconds(asked.create_time)
        if asked.due:
            request.due_time.FromMicroseconds(asked.create_time + asked.due - asked.open_time)
        return request


class RequestsWanted(NamedTuple):
    """Which requests to list: those that match all of it."""

    states: Sequence[RequestState.ValueType]  # one of these; empty: none
    asker: str = ""  # empty: of any agent
    agent: str = ""  # empty: to any agent
    thread: str = ""  # empty: in any thread
    prefixes: Sequence[str] = ()  # in threads whose names begin with one of them; empty: in any

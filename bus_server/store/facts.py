"""What a store must look up before it can decide a batch of commands.

A store commits a batch in one transaction of three steps: it gathers facts, with its own queries;
it decides the commands (decide.py and batch.py: no SQL, no I/O); it writes what they change. What a
batch needs follows from its commands alone, so that a store can gather the facts of all commands
together.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus_server.store.asked_commands import Withdraw, WriteNotice
from bus_server.store.asked_rows import Asked, AskedKey
from bus_server.store.commands import (
    Append,
    AppendMany,
    Command,
    CreateThread,
    DeleteThread,
    Head,
    JoinThread,
    LeaveThread,
    PresenceRow,
    Purge,
    RegisterAgent,
    SetThreadState,
    UnregisterAgent,
    UpdateAgent,
    UpdateThread,
)
from bus_server.store.compact_commands import Compact, ForgetAddressed, FrontRow
from bus_server.store.server_commands import RemoveServers, SaveServer
from bus_server.store.token_commands import (
    CreateToken,
    RevokeToken,
    RotateToken,
    SetOperatorToken,
)
from threadbus.v1.agent_pb2 import Agent, AgentKind
from threadbus.v1.message_pb2 import Message, Wake
from threadbus.v1.thread_pb2 import Thread

#: The stored read_seq of a participant that was mentioned or handed off to, and has neither joined,
#: posted nor reported anything as read: when it joins, it starts as a newcomer.
NOT_STARTED = -1
#: The sender of posts without a token. It is not an agent.
ANONYMOUS = "anonymous"
#: The agent name that an operator's token is stored with.
OPERATOR = ""


class Request(NamedTuple):
    """What is stored about the message that was posted with a request_id."""

    seq: int
    time: int  # its create_time, in microseconds since the Unix epoch
    post_hash: bytes


class Entry(NamedTuple):
    """What an edit's checks need to know about the entry that it edits.

    And what a reply must know about the entry that it replies to.
    """

    sender: str
    edit_of: int  # 0: not an edit
    editable: bool  # False: a THREAD or NOTICE entry
    wakes: Wake.ValueType
    text: str | None = None  # as its newest edit has it; None: not known, as it is large


class Known(NamedTuple):
    """An agent that is registered, or was once."""

    kind: AgentKind.ValueType
    registered: bool  # False: it was unregistered


class Token(NamedTuple):
    """A token. Times are in microseconds on the store's clock."""

    agent: str  # a name, or OPERATOR
    #: When it expires; 0: never. That of the newest of its id is end_time.
    expire_time: int
    #: The same for all tokens that rotations made of one.
    token_id: str
    scopes: tuple[str, ...]
    prefixes: tuple[str, ...] = ()  # empty: for all threads
    end_time: int = 0  # the end of its lifetime; 0: it has none

    @classmethod
    def stored(
        cls, agent: str, expire_time: int, token_id: str, scopes: str, prefixes: str, end_time: int
    ) -> "Token":
        """Returns a token as it is stored: with scopes and prefixes in texts, between spaces."""
        words = tuple(scopes.split()), tuple(prefixes.split())
        return cls(agent, expire_time, token_id, *words, end_time)

    def to_store(self) -> tuple[str, int, str, str, str, int]:
        """Returns the arguments of `stored`."""
        words = " ".join(self.scopes), " ".join(self.prefixes)
        return self.agent, self.expire_time, self.token_id, *words, self.end_time


@dataclass(slots=True)
class Needs:
    """Keys of the facts that a batch of commands needs. Threads are identified by name."""

    #: Threads whose heads are needed, those whose settings are needed as well, those that may be
    #: created or deleted, and how many threads may be created.
    threads: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    created_or_deleted: set[str] = field(default_factory=set)
    new_threads: int = 0
    #: (thread, sender, request_id) of posts.
    requests: set[tuple[str, str, str]] = field(default_factory=set)
    #: (thread, seq) of messages to edit.
    entries: set[tuple[str, int]] = field(default_factory=set)
    #: (thread, seq) of entries whose authors are needed: those that posts reply to.
    authors: set[tuple[str, int]] = field(default_factory=set)
    #: (thread, agent) of agents whose open requests in the thread are needed.
    asked: set[tuple[str, str]] = field(default_factory=set)
    #: (thread, agent) of agents to be asked: the number of their open requests is needed.
    asks: set[tuple[str, str]] = field(default_factory=set)
    #: (thread, agent, seq) of entries that agents reply to. If an agent has open requests in the
    #: thread, the entry is needed, and its request of the entry or of the message that it edits.
    replies: set[tuple[str, str, int]] = field(default_factory=set)
    #: Threads all of whose open requests are needed, and (thread, seq) of messages all of whose
    #: requests are.
    closing: set[str] = field(default_factory=set)
    asking: set[tuple[str, int]] = field(default_factory=set)
    #: Threads whose oldest entries are needed, with the open requests of these; (thread, agent) of
    #: threads of which the agents that entries address are needed, from this one on.
    fronts: set[str] = field(default_factory=set)
    addressees: set[tuple[str, str]] = field(default_factory=set)
    #: Agents whose stored presence is needed.
    presence: set[str] = field(default_factory=set)
    #: (thread, agent) of agents that are or may become participants.
    participants: set[tuple[str, str]] = field(default_factory=set)
    #: Agents whose kind and registration are needed; agents whose settings are needed as well.
    agents: set[str] = field(default_factory=set)
    profiles: set[str] = field(default_factory=set)
    #: Hashes of needed tokens, and agents and ids all of whose tokens are needed. With `rotation`,
    #: all tokens with the ids of the former are needed, too.
    tokens: set[bytes] = field(default_factory=set)
    tokens_of: set[str] = field(default_factory=set)
    token_ids: set[str] = field(default_factory=set)
    rotation: bool = False
    #: Whether Facts.leftovers is needed.
    leftovers: bool = False
    #: Servers whose leases are needed.
    servers: set[str] = field(default_factory=set)

    def add(self, command: Command[Any]) -> None:
        """Add the keys that a command needs."""
        if isinstance(command, Append):
            self._add_post(command)
        elif isinstance(command, AppendMany):
            for post in command.posts:
                self._add_post(post)
        elif isinstance(command, CreateThread):
            self.threads.add(command.thread.name)
            self.created_or_deleted.add(command.thread.name)
            self.new_threads += 1
        elif isinstance(command, JoinThread):
            self.threads.add(command.thread.name)
            if command.create:
                self.created_or_deleted.add(command.thread.name)
                self.new_threads += 1
            if command.agent is not None:
                self.participants.add((command.thread.name, command.agent))
        elif isinstance(command, SetThreadState | UpdateThread):
            self.threads.add(command.name)
            self.settings.add(command.name)
            self.participants.add((command.name, command.entry.sender))
            if isinstance(command, SetThreadState):
                self.closing.add(command.name)
        elif isinstance(command, Compact):
            self.threads.add(command.name)
            self.settings.add(command.name)
            self.fronts.add(command.name)
        elif isinstance(command, ForgetAddressed):
            self.threads.add(command.name)
            self.addressees.add((command.name, command.agent))
        elif isinstance(command, Withdraw):
            self.threads.add(command.name)
            self.asking.add((command.name, command.seq))
        elif isinstance(command, WriteNotice):
            self.threads.add(command.thread)
            self.asking.add((command.thread, command.key.seq))
            self.participants.add((command.thread, command.key.agent))
            self.presence.add(command.key.agent)
        elif isinstance(command, LeaveThread):
            self.threads.add(command.name)
            self.participants.add((command.name, command.agent))
            self.asked.add((command.name, command.agent))
        elif isinstance(command, DeleteThread):
            self.threads.add(command.name)
            self.created_or_deleted.add(command.name)
            if command.conditions is not None:
                self.settings.add(command.name)
                self.participants.add((command.name, command.conditions.agent))
        elif isinstance(command, RegisterAgent):
            self.profiles.add(command.agent.name)
            self.tokens.add(command.token_hash)
            if command.operator:
                self.tokens_of.add(command.agent.name)
        elif isinstance(command, UpdateAgent):
            self.profiles.add(command.name)
        elif isinstance(command, UnregisterAgent):
            self.profiles.add(command.name)
            self.tokens_of.add(command.name)
        elif isinstance(command, RotateToken):
            if command.agent:
                self.profiles.add(command.agent)
                self.tokens_of.add(command.agent)
            else:
                self.tokens.add(command.old_hash)
                self.rotation = True
        elif isinstance(command, CreateToken):
            if command.agent:
                self.profiles.add(command.agent)
            self.tokens_of.add(command.agent)
        elif isinstance(command, RevokeToken):
            self.token_ids.add(command.token_id)
        elif isinstance(command, SetOperatorToken):
            self.tokens.add(command.token_hash)
            self.tokens_of.add(OPERATOR)
        elif isinstance(command, Purge):
            self.leftovers = True
        elif isinstance(command, SaveServer):
            self.servers.add(command.server)
        elif isinstance(command, RemoveServers):
            self.servers |= command.servers.keys()

    def _add_post(self, post: Append) -> None:
        thread, sender, header = post.thread, post.sender, post.header
        self.threads.add(thread)
        if sender != ANONYMOUS:
            self.participants.add((thread, sender))
        if post.request_id:
            self.requests.add((thread, sender, post.request_id))
        if header is None:
            return
        if header.edit_of:
            self.entries.add((thread, header.edit_of))
            self.asking.add((thread, header.edit_of))  # a reply to the edit may be in the batch
        if header.reply_to:
            self.authors.add((thread, header.reply_to))
            if sender != ANONYMOUS:
                self.replies.add((thread, sender, header.reply_to))
        if header.HasField("expect_reply"):
            self.presence.update(header.expect_reply.agents)
            self.asks |= {(thread, agent) for agent in header.expect_reply.agents}
        addressed = addressees(header)
        if addressed:
            self.agents |= addressed
            self.participants |= {(thread, name) for name in addressed}
        if post.register_sender:
            self.agents.add(sender)


@dataclass(slots=True)
class Facts:
    """What a batch needs to know, as of its transaction.

    A needed key that is missing in a mapping is not in the store. `heads` has the ids of threads.
    """

    #: The time of the commit, in microseconds: since the Unix epoch, and on the store's clock.
    now: int
    store_now: int
    #: By name.
    heads: dict[str, Head] = field(default_factory=dict)
    #: For each needed thread that does not exist: names of threads that differ only by case.
    similar: dict[str, list[str]] = field(default_factory=dict)
    #: By thread id.
    settings: dict[int, Thread] = field(default_factory=dict)
    #: Free ids for new threads, ascending, and greater than that of any thread of the same name: at
    #: least as many as threads may be created.
    thread_ids: deque[int] = field(default_factory=deque)
    #: By thread id, sender and request_id.
    requests: dict[tuple[int, str, str], Request] = field(default_factory=dict)
    #: By thread id and seq.
    entries: dict[tuple[int, int], Entry] = field(default_factory=dict)
    #: The senders of entries, by thread id and seq.
    authors: dict[tuple[int, int], str] = field(default_factory=dict)
    #: The needed requests.
    asked: dict[AskedKey, Asked] = field(default_factory=dict)
    #: The traceparents of the messages that ask, by thread id and seq: of those about whose
    #: requests the batch may append notices.
    traceparents: dict[tuple[int, int], str] = field(default_factory=dict)
    #: The oldest entries of threads, by thread id: at most COMPACT_ROWS, and COMPACT_BYTES if there
    #: are several.
    fronts: dict[int, Sequence[FrontRow]] = field(default_factory=dict)
    #: By thread id: agents that entries of the thread address, and the one that follows these, ""
    #: if none does.
    addressees: dict[int, tuple[Sequence[str], str]] = field(default_factory=dict)
    #: How many open requests the agents to be asked have, by thread id and agent, up to
    #: MAX_OPEN_REQUESTS.
    open_requests: dict[tuple[int, str], int] = field(default_factory=dict)
    #: By agent.
    presence: dict[str, PresenceRow] = field(default_factory=dict)
    #: Each participant's read_seq, by thread id and agent; NOT_STARTED if it was only mentioned.
    read_seqs: dict[tuple[int, str], int] = field(default_factory=dict)
    #: The needed agents, and the agents of needed participants that are not participants yet.
    agents: dict[str, Known] = field(default_factory=dict)
    #: Agents with their settings, if registered. Presence is that of the last checkpoint.
    profiles: dict[str, Agent] = field(default_factory=dict)
    #: By hash.
    tokens: dict[bytes, Token] = field(default_factory=dict)
    #: Whether rows of deleted threads are left.
    leftovers: bool = False
    #: When the needed servers that are stored last renewed their leases, by name.
    servers: dict[str, int] = field(default_factory=dict)


def needs(commands: Iterable[Command[Any]]) -> Needs:
    """Returns the keys of the facts that a batch of commands needs."""
    all_needs = Needs()
    for command in commands:
        all_needs.add(command)
    return all_needs


def addressees(message: Message) -> set[str]:
    """Returns the agents that a message mentions or hands off to."""
    names = set(message.mentions)
    if message.handoff_to:
        names.add(message.handoff_to)
    return names

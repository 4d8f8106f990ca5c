"""What a store must know of its contents before it can decide a batch of commands.

A store commits a batch in three steps, in one transaction: it gathers facts (each engine by its own
queries), decides (decide.py and batch.py: no SQL, no I/O), and writes what was decided. `Needs`
follow from the commands alone, so that an engine can gather them with a fixed number of queries.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bus_server.store.commands import (
    Append,
    AppendMany,
    Command,
    CreateThread,
    DeleteThread,
    Head,
    JoinThread,
    LeaveThread,
    Purge,
    RegisterAgent,
    RotateToken,
    SetOperatorToken,
    SetThreadState,
    UnregisterAgent,
    UpdateAgent,
    UpdateThread,
)
from threadbus.v1.agent_pb2 import Agent, AgentKind
from threadbus.v1.message_pb2 import Message
from threadbus.v1.thread_pb2 import Thread

#: The sender of posts without a token, who is no agent.
ANONYMOUS = "anonymous"
#: The agent of an operator's tokens.
OPERATOR = ""


class Request(NamedTuple):
    """The message that was posted with a request_id."""

    seq: int
    time: int  # its create_time, in microseconds since the epoch
    post_hash: bytes


class Entry(NamedTuple):
    """What an edit's checks need to know about the entry that it edits."""

    sender: str
    edit_of: int  # 0: not an edit
    editable: bool  # False: a THREAD entry


class Known(NamedTuple):
    """An agent's kind, and whether it is registered now or was once."""

    kind: AgentKind.ValueType
    registered: bool


class Token(NamedTuple):
    """Whose token it is, and when it expires."""

    agent: str  # OPERATOR, or a name
    expire_time: int  # on the store's clock; 0: never


@dataclass(slots=True)
class Needs:
    """Keys of the facts that a batch of commands needs. A thread is named, not numbered."""

    #: Threads whose heads are needed; those whose settings are, too; those that may be created.
    threads: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)
    new_threads: int = 0
    #: (thread, sender, request_id) of posts.
    requests: set[tuple[str, str, str]] = field(default_factory=set)
    #: (thread, seq) of messages to edit.
    entries: set[tuple[str, int]] = field(default_factory=set)
    #: (thread, agent) of those who may become participants, or already are.
    participants: set[tuple[str, str]] = field(default_factory=set)
    #: Agents whose kinds are needed; those whose settings are, too.
    agents: set[str] = field(default_factory=set)
    profiles: set[str] = field(default_factory=set)
    #: Hashes of tokens, and agents all of whose tokens are needed. Those of a needed token's agent
    #: are needed if `rotation`.
    tokens: set[bytes] = field(default_factory=set)
    tokens_of: set[str] = field(default_factory=set)
    rotation: bool = False
    #: Whether there are rows of deleted threads.
    leftovers: bool = False

    def add(self, command: Command[Any]) -> None:
        """Add what a command needs."""
        if isinstance(command, Append):
            self._add_post(command)
        elif isinstance(command, AppendMany):
            for post in command.posts:
                self._add_post(post)
        elif isinstance(command, CreateThread):
            self.threads.add(command.thread.name)
            self.new_threads += 1
        elif isinstance(command, JoinThread):
            self.threads.add(command.thread.name)
            self.new_threads += command.create
            if command.agent is not None:
                self.participants.add((command.thread.name, command.agent))
        elif isinstance(command, SetThreadState | UpdateThread):
            self.threads.add(command.name)
            self.settings.add(command.name)
            self.participants.add((command.name, command.entry.sender))
        elif isinstance(command, DeleteThread | LeaveThread):
            self.threads.add(command.name)
        elif isinstance(command, RegisterAgent):
            self.profiles.add(command.agent.name)
            self.tokens.add(command.token_hash)
            if command.claim:
                self.tokens_of.add(command.agent.name)
        elif isinstance(command, UpdateAgent | UnregisterAgent):
            self.profiles.add(command.name)
        elif isinstance(command, RotateToken):
            self.tokens.add(command.old_hash)
            self.rotation = True
        elif isinstance(command, SetOperatorToken):
            self.tokens.add(command.token_hash)
            self.tokens_of.add(OPERATOR)
        elif isinstance(command, Purge):
            self.leftovers = True

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
        addressed = addressees(header)
        if addressed:
            self.agents |= addressed
            self.participants |= {(thread, name) for name in addressed}
        if post.register_sender:
            self.agents.add(sender)


@dataclass(slots=True)
class Facts:
    """What a store holds of what a batch needs, in the state that the batch will change.

    What is missing in a mapping is not in the store. Threads are numbered by `heads`.
    """

    #: The moment of the commit, in microseconds: since the epoch, and on the store's clock.
    now: int
    store_now: int
    heads: dict[str, Head] = field(default_factory=dict)
    #: For needed threads that do not exist: names of those that differ only by case.
    similar: dict[str, list[str]] = field(default_factory=dict)
    #: By thread id.
    settings: dict[int, Thread] = field(default_factory=dict)
    #: An id for a new thread; those above it are free, too.
    next_thread_id: int = 0
    #: By thread id, sender and request_id.
    requests: dict[tuple[int, str, str], Request] = field(default_factory=dict)
    #: By thread id and seq.
    entries: dict[tuple[int, int], Entry] = field(default_factory=dict)
    #: Each participant's read_seq, by thread id and agent.
    read_seqs: dict[tuple[int, str], int] = field(default_factory=dict)
    #: The needed agents, and those that are needed as participants and are none.
    agents: dict[str, Known] = field(default_factory=dict)
    #: Registered agents, with their presence as of the last checkpoint.
    profiles: dict[str, Agent] = field(default_factory=dict)
    tokens: dict[bytes, Token] = field(default_factory=dict)
    leftovers: bool = False


def needs(commands: Iterable[Command[Any]]) -> Needs:
    """Returns what a batch needs."""
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

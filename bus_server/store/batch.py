"""A batch of commands while it is decided: the facts, the changes so far, and reads that see both.

Nothing here does I/O. A batch is used by one OS thread, that of the store's writer.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from bus_server.errors import MessageNotFound, QuotaExceeded, ThreadNotFound
from bus_server.store import wire
from bus_server.store.asked_rows import Asked, AskedKey
from bus_server.store.commands import MAX_SEQ, Append, Commit, Head, Position, PresenceRow
from bus_server.store.compact_commands import Removal
from bus_server.store.facts import (
    ANONYMOUS,
    NOT_STARTED,
    Entry,
    Facts,
    Known,
    Request,
    Token,
)
from bus_server.store.token_commands import REVOKED
from threadbus.v1.agent_pb2 import Agent
from threadbus.v1.message_pb2 import (
    MESSAGE_KIND_NOTICE,
    MESSAGE_KIND_THREAD,
    WAKE_ALL,
    WAKE_NOBODY,
    Message,
    Wake,
)
from threadbus.v1.thread_pb2 import SYNC_MODE_OFF, THREAD_STATE_OPEN, Thread

#: Bytes. For a larger message, the fields that an edit checks are also stored outside of its body,
#: so that the edit need not read the body. Reading a smaller one takes no longer than the rest of a
#: post.
LARGE = 16 * 1024
_SEQ = Message.SEQ_FIELD_NUMBER


@dataclass(slots=True)
class Changes:
    """What a store writes in addition to the entries, edits and heads of the Commit.

    The fields must be written in this order, and each mapping in its own order.
    """

    #: Ids of threads to delete. Their other rows become leftovers, which Purge deletes.
    deleted_threads: set[int] = field(default_factory=set)
    #: New threads and changed ones, by id. Their head_seq and update_time are not to be written:
    #: they follow from the entries. A thread that was both created and deleted in this batch must
    #: be written, too, and then be deleted, so that its id is not reused.
    created_threads: dict[int, Thread] = field(default_factory=dict)
    changed_threads: dict[int, Thread] = field(default_factory=dict)
    #: The edit_of of messages larger than LARGE, by thread id and seq; 0: not an edit.
    large: dict[tuple[int, int], int] = field(default_factory=dict)
    #: By thread id, sender and request_id.
    requests: dict[tuple[int, str, str], Request] = field(default_factory=dict)
    #: Whom entries address: thread id, agent, whether the entry wakes it, and seq.
    addressed: list[tuple[int, str, bool, int]] = field(default_factory=list)
    #: Whom the entries wake that do not wake everybody, by thread id and seq, ascending in each
    #: thread.
    quiet: dict[tuple[int, int], Wake.ValueType] = field(default_factory=dict)
    #: The oldest entries of threads, which are removed with their request_ids, by thread id. Remove
    #: them after all else was written. Some of their rows are kept: see sqlite/compact.py.
    removals: dict[int, Removal] = field(default_factory=dict)
    #: Of entries that were removed, whom they address is to be deleted, some of it: thread id,
    #: agent, and the first_seq of the thread.
    forgotten: list[tuple[int, str, int]] = field(default_factory=list)
    #: Requests that were opened or changed.
    asked: dict[AskedKey, Asked] = field(default_factory=dict)
    #: Participants by thread id and agent: those removed, those added with their read_seq, and
    #: those whose read_seq is raised.
    removed: set[tuple[int, str]] = field(default_factory=set)
    added: dict[tuple[int, str], int] = field(default_factory=dict)
    raised: dict[tuple[int, str], int] = field(default_factory=dict)
    #: Presence to store, unless the stored presence is newer or the agent was unregistered.
    presence: list[PresenceRow] = field(default_factory=list)
    #: Positions to raise, by agent, thread name and epoch. To be ignored if the agent is not a
    #: participant or the epoch is not the thread's.
    positions: dict[tuple[str, str, str], Position] = field(default_factory=dict)
    #: New agents and changed ones, by name.
    registered: dict[str, Agent] = field(default_factory=dict)
    #: Agents whose names were unregistered before this batch, by name.
    registered_again: dict[str, Agent] = field(default_factory=dict)
    changed_agents: dict[str, Agent] = field(default_factory=dict)
    #: Names of agents to unregister. Their presence and participations are to be deleted.
    unregistered: list[str] = field(default_factory=list)
    #: Tokens to store, by hash; None: to be deleted. When tokens were last used, by hash, in
    #: microseconds since the Unix epoch: to be ignored if the stored time is later.
    tokens: dict[bytes, Token | None] = field(default_factory=dict)
    token_uses: dict[bytes, int] = field(default_factory=dict)
    #: Whether to delete some of the leftovers of deleted threads.
    purge: bool = False
    #: Servers to delete, with their waits.
    removed_servers: list[str] = field(default_factory=list)
    #: The lease, in microseconds, of each server that renews it, by name.
    servers: dict[str, int] = field(default_factory=dict)
    #: Serialised waits to store unless they are stored, and waits to delete, by server and number.
    opened_waits: dict[tuple[str, int], bytes] = field(default_factory=dict)
    closed_waits: list[tuple[str, int]] = field(default_factory=list)

    def concern_agents(self) -> bool:
        """Returns what Commit.agents_changed says."""
        return bool(
            self.presence
            or self.positions
            or self.unregistered
            or self.servers
            or self.removed_servers
            # No server knows a new token yet.
            or any(token is None or token.expire_time for token in self.tokens.values())
        )


class Batch:
    """The facts, changes and Commit of a batch. Methods see the changes of earlier commands.

    The batch owns the facts, and updates some of them.

    A command must make all its checks before its first change: a refused one changes nothing.
    """

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.changes = Changes()
        self.commit = Commit()
        self.create_time = Timestamp()  # of everything that the batch creates
        self.create_time.FromMicroseconds(facts.now)
        #: What is appended to the bodies of entries that wake everybody.
        self._end = Message(create_time=self.create_time, wakes=WAKE_ALL).SerializeToString()

    # ── Threads ─────────────────────────────────────────────────────────────────────────────────

    def head(self, name: str) -> Head:
        """Returns a thread's head. Raises ThreadNotFound."""
        head = self.facts.heads.get(name)
        if head is None:
            raise ThreadNotFound([name], list(self.facts.similar.get(name, [])))
        return head

    def settings(self, name: str) -> Thread:
        """Returns a copy of a thread, with its head. Raises ThreadNotFound."""
        head = self.head(name)
        thread = Thread()
        thread.CopyFrom(self.facts.settings[head.thread_id])
        thread.head_seq, thread.first_seq = head.seq, head.first_seq
        thread.state, thread.sync_mode = head.state, head.sync_mode
        if self.commit.entries.get(name):
            thread.update_time.CopyFrom(self.create_time)
        return thread

    def create_thread(self, settings: Thread) -> Head:
        """Create a thread, which must not exist. Returns its head."""
        thread_id = self.facts.thread_ids.popleft()
        thread = Thread()
        thread.CopyFrom(settings)
        thread.create_time.CopyFrom(self.create_time)
        thread.update_time.CopyFrom(self.create_time)
        thread.epoch, thread.first_seq = secrets.token_hex(8), 1
        thread.state, thread.sync_mode = THREAD_STATE_OPEN, settings.sync_mode or SYNC_MODE_OFF
        head = Head(thread_id, thread.epoch, 0, thread.state, thread.sync_mode)
        self.facts.heads[thread.name] = head
        for missing, similar in self.facts.similar.items():
            if missing != thread.name and missing.lower() == thread.name.lower():
                similar.append(thread.name)
        self.facts.settings[thread_id] = self.changes.created_threads[thread_id] = thread
        self.commit.retained |= thread.HasField("retention")
        return head

    def change_thread(self, thread: Thread) -> None:
        """Replace a thread's settings, state and sync_mode. Append its THREAD entry first."""
        head = self.head(thread.name)._replace(state=thread.state, sync_mode=thread.sync_mode)
        self.facts.heads[thread.name] = self.commit.heads[thread.name] = head
        self.facts.settings[head.thread_id] = thread
        created = head.thread_id in self.changes.created_threads
        threads = self.changes.created_threads if created else self.changes.changed_threads
        threads[head.thread_id] = thread
        self.commit.retained |= thread.HasField("retention")

    def delete_thread(self, name: str) -> None:
        """Delete a thread. Raises ThreadNotFound."""
        thread_id, epoch, *_ = self.head(name)
        del self.facts.heads[name]
        for similar in self.facts.similar.values():
            if name in similar:
                similar.remove(name)
        changes, commit = self.changes, self.commit
        changes.deleted_threads.add(thread_id)
        changes.changed_threads.pop(thread_id, None)
        changes.removals.pop(thread_id, None)
        for rows in (
            changes.large,
            changes.requests,
            changes.quiet,
            changes.asked,
            changes.added,
            changes.raised,
        ):
            _forget(rows, 0, thread_id)
        changes.addressed = [row for row in changes.addressed if row[0] != thread_id]
        commit.heads.pop(name, None)
        commit.compacted.pop(name, None)
        commit.entries.pop(name, None)
        commit.edited.pop(name, None)
        commit.members.pop(name, None)
        commit.addressed.pop(name, None)
        commit.asked.pop(name, None)
        commit.deleted.append((name, epoch))

    # ── Entries ─────────────────────────────────────────────────────────────────────────────────

    def check_room(self, head: Head, entries: int = 1) -> None:
        """Raises QuotaExceeded if a thread would have more than MAX_SEQ entries."""
        if head.seq + entries > MAX_SEQ:
            raise QuotaExceeded("entries of a thread", MAX_SEQ, "continue in a new thread")

    def append(
        self,
        name: str,
        sender: str,
        body: bytes,
        edit_of: int | None = 0,
        wakes: Wake.ValueType = WAKE_ALL,
    ) -> int:
        """Append an entry to a thread, which has room. Returns its seq.

        Args:
            body: as in Append.
            edit_of: the seq of the message that it edits; 0: it is no edit; None: it is an entry
                of the server, which nobody can edit.
            wakes: whom it wakes.
        """
        thread_id, epoch, seq, state, sync_mode, first_seq = self.head(name)
        seq += 1
        head = Head(thread_id, epoch, seq, state, sync_mode, first_seq)
        self.facts.heads[name] = self.commit.heads[name] = head
        if len(body) > LARGE and edit_of is not None:
            self.changes.large[thread_id, seq] = edit_of
        if edit_of:
            self.commit.edited.setdefault(name, {})[edit_of] = seq
        end = self._end
        if wakes != WAKE_ALL:
            end = Message(create_time=self.create_time, wakes=wakes).SerializeToString()
            self.changes.quiet[thread_id, seq] = wakes
        row = sender, body + wire.number(_SEQ, seq) + end
        entries = self.commit.entries.get(name)
        if entries is None:
            self.commit.entries[name] = {seq: row}
        else:
            entries[seq] = row
        return seq

    def address(self, name: str, seq: int, agents: Collection[str], wakes: Wake.ValueType) -> None:
        """Store whom an entry addresses. `wakes`: whom it wakes."""
        thread_id, awake = self.head(name).thread_id, wakes != WAKE_NOBODY
        self.changes.addressed += [(thread_id, agent, awake, seq) for agent in agents]
        self.commit.addressed.setdefault(name, set()).update(agents)

    def save_request(self, thread_id: int, post: Append, seq: int) -> None:
        """Store the request_id of a post that was appended."""
        request = Request(seq, self.facts.now, post.post_hash)
        self.changes.requests[thread_id, post.sender, post.request_id] = request

    def request(self, thread_id: int, sender: str, request_id: str) -> Request | None:
        """Returns what is stored for a sender's request_id in a thread; None if it was not used."""
        key = (thread_id, sender, request_id)
        return self.changes.requests.get(key) or self.facts.requests.get(key)

    def entry(self, name: str, seq: int) -> Entry:
        """Returns an entry of a thread. Raises ThreadNotFound or MessageNotFound."""
        head = self.head(name)
        row = self.commit.entries.get(name, {}).get(seq)
        if row is not None:
            edit_of = self.changes.large.get((head.thread_id, seq))
            if edit_of is not None:
                wakes = self.changes.quiet.get((head.thread_id, seq), WAKE_ALL)
                return Entry(row[0], edit_of, editable=True, wakes=wakes)
            return entry_of(Message.FromString(row[1]))
        entry = self.facts.entries.get((head.thread_id, seq))
        if entry is None or seq < head.first_seq:
            raise MessageNotFound(name, seq, head)
        return entry

    def newest_text(self, name: str, seq: int) -> str | None:
        """Returns the text of a message that is being edited, with its edits; None: not known.

        That of a message with more than LARGE bytes is not. Raises as `entry`.
        """
        entries = self.commit.entries.get(name, {})
        row = entries.get(self.commit.edited.get(name, {}).get(seq, seq))
        return self.entry(name, seq).text if row is None else text_of(row[1])

    def author(self, name: str, seq: int) -> str:
        """Returns the agent that wrote an entry; empty: none did, or it is not kept any more.

        Raises ThreadNotFound.
        """
        key, appended = (self.head(name).thread_id, seq), self.commit.entries.get(name, {})
        sender = appended[seq][0] if seq in appended else self.facts.authors.get(key, "")
        return "" if sender == ANONYMOUS else sender

    # ── Participants ────────────────────────────────────────────────────────────────────────────

    def read_seq(self, name: str, agent: str) -> int | None:
        """Returns an agent's read_seq in a thread; None if it is not a participant.

        NOT_STARTED if it was only mentioned or handed off to.

        Raises ThreadNotFound.
        """
        head = self.head(name)
        key = head.thread_id, agent
        changes = self.changes
        if key in changes.added:
            read = changes.added[key]
        elif key in changes.raised:
            read = changes.raised[key]
        elif key in changes.removed or agent in changes.unregistered:
            return None
        elif key in self.facts.read_seqs:
            read = self.facts.read_seqs[key]
        else:
            return None
        position = changes.positions.get((agent, name, head.epoch))
        return read if position is None else max(read, position.read or NOT_STARTED)

    def record_author(self, name: str, agent: str, seq: int, known: int) -> bool:
        """Raise the read_seq of an entry's author. Returns False if it is not a participant.

        Its own entry counts as read only if it has read everything before it; otherwise messages of
        others would count as read, too.

        Args:
            seq: of the entry.
            known: the highest seq that the caller knows the agent has read.
        """
        before = self.read_seq(name, agent)
        if before is None:
            return False
        self._raise_read_seq(name, agent, before, with_own(max(before, known), seq))
        return True

    def start_participant(self, name: str, agent: str, read_seq: int) -> int:
        """Make an agent a participant that has read up to `read_seq`, unless it has started before.

        Returns its read_seq; `read_seq` if it was unregistered.
        """
        before = self.read_seq(name, agent)
        if before is None:
            self.add_participant(name, agent, read_seq)
            return read_seq
        if before == NOT_STARTED:
            self._raise_read_seq(name, agent, before, read_seq)
            return read_seq
        return before

    def _raise_read_seq(self, name: str, agent: str, before: int, read: int) -> None:
        if read > before:
            key = self.head(name).thread_id, agent
            into = self.changes.added if key in self.changes.added else self.changes.raised
            into[key] = read

    def add_participant(self, name: str, agent: str, read_seq: int = NOT_STARTED) -> None:
        """Make an agent a participant unless it already is one or was unregistered."""
        if self.read_seq(name, agent) is None and not self.was_unregistered(agent):
            head = self.head(name)
            self.changes.added[head.thread_id, agent] = read_seq
            self.commit.members.setdefault(name, {})[agent] = head, read_seq
            # A position recorded before the agent became a participant does not count.
            self.changes.positions.pop((agent, name, head.epoch), None)

    def remove_participant(self, name: str, agent: str) -> None:
        """Remove an agent from a thread's participants, if it is one. Raises ThreadNotFound."""
        key = self.head(name).thread_id, agent
        self.changes.added.pop(key, None)
        self.changes.raised.pop(key, None)
        self.changes.removed.add(key)
        self.commit.members.setdefault(name, {})[agent] = None

    # ── Agents and tokens ───────────────────────────────────────────────────────────────────────

    def known(self, agent: str) -> Known | None:
        """Returns an agent that is or was registered; None if it never was."""
        return self.facts.agents.get(agent)

    def is_registered(self, agent: str) -> bool:
        """Returns whether an agent is registered."""
        known = self.known(agent)
        return known is not None and known.registered

    def was_unregistered(self, agent: str) -> bool:
        """Returns whether an agent was registered once but no longer is."""
        known = self.known(agent)
        return known is not None and not known.registered

    def profile(self, agent: str) -> Agent | None:
        """Returns a copy of an agent; None if it is not registered."""
        profile = self.facts.profiles.get(agent)
        if profile is None:
            return None
        copy = Agent()
        copy.CopyFrom(profile)
        return copy

    def register(self, settings: Agent) -> Agent:
        """Register an agent whose name is free, or was unregistered before. Returns the agent."""
        agent = Agent()
        agent.CopyFrom(settings)
        agent.create_time.CopyFrom(self.create_time)
        again = self.known(agent.name) is not None
        agents = self.changes.registered_again if again else self.changes.registered
        self.facts.agents[agent.name] = Known(agent.kind, registered=True)
        self.facts.profiles[agent.name] = agents[agent.name] = agent
        return agent

    def change_agent(self, agent: Agent) -> None:
        """Replace the settings of a registered agent."""
        self.facts.profiles[agent.name] = agent
        new = agent.name in self.changes.registered
        agents = self.changes.registered if new else self.changes.changed_agents
        agents[agent.name] = agent

    def unregister(self, agent: Agent) -> None:
        """Unregister an agent: revoke its tokens, and delete its participation in threads."""
        name, changes = agent.name, self.changes
        del self.facts.profiles[name]
        self.facts.agents[name] = Known(agent.kind, registered=False)
        for rows in (changes.added, changes.raised):
            _forget(rows, 1, name)
        for token_hash, token in self.tokens_of(name).items():
            changes.tokens[token_hash] = token._replace(expire_time=REVOKED)
        changes.unregistered.append(name)

    def token(self, token_hash: bytes) -> Token | None:
        """Returns the token with this hash; None if there is none."""
        if token_hash in self.changes.tokens:
            return self.changes.tokens[token_hash]
        return self.facts.tokens.get(token_hash)

    def tokens_of(self, agent: str) -> dict[bytes, Token]:
        """Returns an agent's tokens, by hash.

        All of them only if the batch needs them: see Needs.
        """
        found = {key: self.token(key) for key in self.facts.tokens.keys() | self.changes.tokens}
        return {key: token for key, token in found.items() if token and token.agent == agent}

    def tokens_with_id(self, token_id: str) -> dict[bytes, Token]:
        """Returns the tokens with an id, by hash. All of them only if the batch needs them."""
        found = {key: self.token(key) for key in self.facts.tokens.keys() | self.changes.tokens}
        return {key: token for key, token in found.items() if token and token.token_id == token_id}

    # ── Servers ─────────────────────────────────────────────────────────────────────────────────

    def save_server(
        self, name: str, lease: int, opened: Mapping[int, bytes], closed: Iterable[int]
    ) -> None:
        """Renew a server's lease, and change its waits, as SaveServer says."""
        self.facts.servers[name] = self.facts.store_now
        self.changes.servers[name] = lease
        self.changes.opened_waits |= {(name, number): body for number, body in opened.items()}
        self.changes.closed_waits += [(name, number) for number in closed]

    def remove_server(self, name: str) -> None:
        """Remove a server and its waits, if it is stored."""
        self.facts.servers.pop(name, None)
        self.changes.removed_servers.append(name)
        self.changes.servers.pop(name, None)
        _forget(self.changes.opened_waits, 0, name)


def _forget(rows: dict[Any, Any], field: int, value: object) -> None:
    """Remove the rows whose keys have `value` at index `field`."""
    for key in [key for key in rows if key[field] == value]:
        del rows[key]


def entry_of(message: Message) -> Entry:
    """Returns what the checks of an edit of this message need to know."""
    editable = message.kind not in (MESSAGE_KIND_THREAD, MESSAGE_KIND_NOTICE)
    wakes = message.wakes or WAKE_ALL
    return Entry(message.sender, message.edit_of, editable, wakes)


def text_of(body: bytes | None) -> str | None:
    """Returns the text of a stored message; None if it has more than LARGE bytes, or none."""
    return None if body is None or len(body) > LARGE else Message.FromString(body).content


def with_own(read: int, seq: int) -> int:
    """Returns the read_seq of an agent that had read up to `read` and wrote entry `seq`."""
    return max(read, seq) if read >= seq - 1 else read

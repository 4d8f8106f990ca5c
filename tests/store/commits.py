"""Makes commands, commits them, and reads what is stored: by default thread t and agent ann."""

from collections.abc import Sequence
from typing import Any

from bus_server.errors import BusError
from bus_server.store import (
    REVOKED,
    Append,
    Command,
    Compact,
    Compacted,
    Counted,
    CreateThread,
    JoinThread,
    Limits,
    Position,
    PresenceRow,
    RegisterAgent,
    SetThreadState,
    UpdateThread,
)
from bus_server.store.interface import Store
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_AGENT,
    AGENT_KIND_HUMAN,
    PRESENCE_WORKING,
    Agent,
    AgentKind,
    Participant,
)
from threadbus.v1.message_pb2 import MESSAGE_KIND_CHAT, MESSAGE_KIND_EDIT, Message
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED, SyncMode, Thread, ThreadState

STATES = [state for state in ThreadState.values() if state]
#: Texts that an engine might change or cut off.
TEXTS = {
    "nul": "before\0after",
    "quotes": 'it\'s "so" \\ `%s` $1 {0} ? :now --',
    "emoji": "👩‍👩‍👧 é e\u0301 ﷽ \U0010ffff",
    "blanks": " \t\r\n ",
}
#: More than any text that an engine might keep, or look at, in another way than short ones.
LARGE = "large " * 10_000


def post(
    thread: str = "t",
    sender: str = "ann",
    content: str = "text",
    *,
    expected: int | None = None,
    epoch: str = "",
    register: bool = False,
    position: Position | None = None,
    **fields: Any,
) -> Append:
    """Returns a post, or an edit if `edit_of` is given and not 0."""
    kind = MESSAGE_KIND_EDIT if fields.get("edit_of") else MESSAGE_KIND_CHAT
    given: dict[str, Any] = {"kind": kind, "sender_kind": AGENT_KIND_AGENT} | fields
    message = Message(thread=thread, sender=sender, content=content, **given)
    return Append.of(
        message,
        expected_last_seq=expected,
        epoch=epoch,
        register_sender=register,
        position=position,
    )


def create(name: str = "t", **settings: Any) -> CreateThread:
    """Returns the creation of a thread."""
    return CreateThread(Thread(name=name, **settings))


def join(
    name: str = "t",
    agent: str | None = "ann",
    *,
    create: bool = False,
    from_first: bool = False,
    context_limit: int = 0,
    context_bytes: int = 1_000_000,
    participant_limit: int = 100,
) -> JoinThread:
    """Returns an agent's joining of a thread."""
    return JoinThread(
        Thread(name=name),
        create,
        agent,
        from_first,
        context_limit,
        context_bytes,
        participant_limit,
    )


def set_state(
    name: str = "t", state: ThreadState.ValueType = THREAD_STATE_CLOSED, by: str = "operator"
) -> SetThreadState:
    """Returns a change of a thread's state; by default it is closed."""
    return SetThreadState(name, state, Message(sender=by))


def set_mode(mode: SyncMode.ValueType, name: str = "t") -> UpdateThread:
    """Returns a change of a thread's mode."""
    return UpdateThread(name, Message(sender="operator"), Thread(sync_mode=mode), ["sync_mode"])


def compact(*limits: int, name: str = "t", counted: Counted | None = None) -> Compact:
    """Returns the removal of what is over these limits: of the age, messages, and bytes."""
    return Compact(name, Limits(*limits), counted)


def register(
    name: str = "ann",
    token: bytes = b"",
    *,
    kind: AgentKind.ValueType = AGENT_KIND_AGENT,
    operator: bool = False,
    **settings: Any,
) -> RegisterAgent:
    """Returns the registration of an agent, people by an operator.

    Its token is by default its name.
    """
    agent = Agent(name=name, kind=kind, **settings)
    return RegisterAgent(agent, token or name.encode(), operator or kind == AGENT_KIND_HUMAN)


def sighting(agent: str, seen: int, **fields: Any) -> PresenceRow:
    """Returns an agent's presence, all as of a time of the store's clock. Its lease never ends."""
    given: dict[str, Any] = {
        "reported": PRESENCE_WORKING,
        "status_text": "",
        "lease_end_time": 1 << 60,
        "state_time": seen,
        "work_time": seen,
    }
    return PresenceRow(agent=agent, last_seen_time=seen, **(given | fields))


async def commit(store: Store, *commands: Command[Any]) -> list[Any]:
    """Commit commands together. Returns their outcomes; fails if one is refused."""
    outcomes = (await store.commit(commands)).outcomes
    assert len(outcomes) == len(commands)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    return outcomes


async def remove_before(store: Store, seq: int, name: str = "t") -> list[Compacted]:
    """Remove the entries of a thread before one of its entries. Returns what each step removed.

    No request of theirs must be open: the notices would be counted, too.
    """
    steps: list[Compacted] = []
    head = (await store.heads([name]))[name]
    while not steps or steps[-1].more:
        steps += await commit(store, compact(0, head.seq - seq + 1, name=name))
    assert steps[-1].first_seq == seq
    return steps


async def outcomes(store: Store, commands: Sequence[Command[Any]], *, together: bool) -> list[Any]:
    """Commit commands in one commit, or each in its own. Returns their outcomes."""
    if together:
        return (await store.commit(commands)).outcomes
    return [outcome for each in commands for outcome in (await store.commit([each])).outcomes]


async def refusal(store: Store, command: Command[Any]) -> BusError:
    """Commit a command alone. Returns its error; fails if it is not refused."""
    done = await store.commit([command])
    (outcome,) = done.outcomes
    assert isinstance(outcome, BusError)
    assert not (done.heads or done.entries or done.edited or done.deleted)
    return outcome


async def log(store: Store, name: str = "t") -> list[Message]:
    """Returns the entries of a thread. Fails if its two ways of reading differ."""
    excerpt = await store.excerpt(name, 0, 0, 10_000, 1 << 30, newest=False)
    head = excerpt.head
    before = head.first_seq - 1
    assert await store.read(head.thread_id, before, head.seq, 1 << 30) == excerpt.rows
    entries = [Message.FromString(body) for _, body in excerpt.rows]
    assert [entry.sender for entry in entries] == [sender for sender, _ in excerpt.rows]
    assert [entry.seq for entry in entries] == list(range(head.first_seq, head.seq + 1))
    return entries


async def participants(store: Store, name: str = "t") -> dict[str, Participant]:
    """Returns the participants of a thread, by name."""
    _, found = await store.participants(name, limit=10_000)
    return {participant.agent: participant for participant in found}


async def read_seqs(store: Store, name: str = "t") -> dict[str, int]:
    """Returns up to where each participant of a thread has read."""
    found = await participants(store, name)
    return {agent: participant.read_seq for agent, participant in found.items()}


async def listed(store: Store, participant: str = "", prefix: str = "") -> list[str]:
    """Returns the names of threads in any state, last active first."""
    found = await store.list_threads(STATES, prefix, participant, 1_000, None)
    return [thread.name for thread, _ in found]


async def everything(store: Store) -> dict[str, Any]:
    """Returns all that reads show, to be compared with what they show later."""
    threads = [thread for thread, _ in await store.list_threads(STATES, "", "", 1_000, None)]
    agents = await store.list_agents(1_000, "")
    return {
        "threads": threads,
        "heads": await store.heads([thread.name for thread in threads]),
        "logs": [await log(store, thread.name) for thread in threads],
        "participants": [await participants(store, thread.name) for thread in threads],
        "agents": agents,
        "unread": [await store.unread(agent.name, 1_000) for agent in agents],
        "presence": await store.presence_rows(0),
        "owners": [await store.owner(agent.name.encode()) for agent in agents],
    }


async def is_revoked(store: Store, token_hash: bytes) -> bool:
    """Returns whether a token was revoked, or its agent unregistered."""
    owner = await store.owner(token_hash)
    return owner is not None and owner.expire_time == REVOKED

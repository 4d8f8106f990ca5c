"""What an agent that asked for a reply is told, by what the agent asked does."""

import signal
from collections.abc import Iterator

import pytest

from tests.callers import register
from tests.client_process import waiting_client
from tests.conftest import StartServer
from tests.connections import connected
from tests.participation import join, leave, participants
from tests.peers import Peer, recreate, registered, set_state
from tests.presence import beat, until_state
from tests.requests import (
    alive,
    ask,
    listed,
    noticed,
    notices_in,
    read_up_to,
    withdraw,
)
from tests.server_pairs import caller_of
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import messages_in
from threadbus.v1.agent_pb2 import (
    AGENT_KIND_SYSTEM,
    PRESENCE_AWAITING_HUMAN,
    PRESENCE_IDLE,
    PRESENCE_WORKING,
    Presence,
)
from threadbus.v1.agent_service_pb2 import EndSessionRequest, UnregisterAgentRequest
from threadbus.v1.message_pb2 import MESSAGE_KIND_NOTICE, WAKE_ADDRESSED, Cursor
from threadbus.v1.request_pb2 import REQUEST_STATE_ANSWERED
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import CreateThreadRequest

#: Agents are idle for long after a second, unless they report what they do.
HASTY = (
    *("--heartbeat-interval", "0.5", "--agent-timeout", "1", "--working-timeout", "2"),
    *("--checkpoint-interval", "0.05"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """A server with short timeouts."""
    with ServerProcess(tmp_path_factory.mktemp("server") / "bus.db", *HASTY) as running:
        yield running


@pytest.fixture
async def asker(bus: BusStub, agents: AgentStub) -> Peer:
    return await registered(agents, bus, "asker")


@pytest.fixture
async def reviewer(bus: BusStub, agents: AgentStub) -> Peer:
    """An agent with a lease that does not end during a test."""
    return await alive(await registered(agents, bus, "reviewer"))


@pytest.fixture
async def other(bus: BusStub, agents: AgentStub) -> Peer:
    """Another such agent."""
    return await alive(await registered(agents, bus, "other"))


async def end_session(agents: AgentStub, agent: Peer) -> None:
    await agents.EndSession(EndSessionRequest(), metadata=agent.metadata)


# ── It answers ──────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_answered_is_not_noticed(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    earlier = await ask(asker, thread, reviewer.name)
    seq = await ask(asker, thread, reviewer.name)
    reply = await reviewer.post(thread, "yes", reply_to=seq)
    await end_session(agents, reviewer)
    assert await noticed(asker, thread, 1) == [("AGENT_OFFLINE", earlier, reviewer.name)]
    found = {each.seq: each for each in await listed(asker, thread=thread)}
    assert (found[seq].state, found[seq].reply_seq) == (REQUEST_STATE_ANSWERED, reply.seq)


async def test_an_answer_that_is_edited_stays_the_answer(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    earlier = await ask(asker, thread, reviewer.name)
    seq = await ask(asker, thread, reviewer.name)
    reply = await reviewer.post(thread, "yes", reply_to=seq)
    await reviewer.post(thread, "no", edit_of=reply.seq)
    await reviewer.post(thread, "no!", edit_of=reply.seq, reply_to=seq)
    await end_session(agents, reviewer)
    assert await noticed(asker, thread, 1) == [("AGENT_OFFLINE", earlier, reviewer.name)]
    found = {each.seq: each for each in await listed(asker, thread=thread)}
    assert (found[seq].state, found[seq].reply_seq) == (REQUEST_STATE_ANSWERED, reply.seq)


async def test_a_reply_after_notices_still_answers(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.05)
    assert await noticed(asker, thread, 1) == [("OVERDUE", seq, reviewer.name)]
    await end_session(agents, reviewer)
    assert (await noticed(asker, thread, 2))[1:] == [("AGENT_OFFLINE", seq, reviewer.name)]
    reply = await reviewer.post(thread, "sorry", reply_to=seq)
    (found,) = await listed(asker, thread=thread)
    assert (found.state, found.reply_seq) == (REQUEST_STATE_ANSWERED, reply.seq)


# ── It reads, and does something else ───────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_an_agent_that_has_read_a_question_and_is_idle_is_noticed_once(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    wanted = []
    for _ in range(3):  # the notice of the second and third show that the first was not repeated
        seq = await ask(asker, thread, reviewer.name)
        await read_up_to(reviewer, thread, seq, state=PRESENCE_WORKING)
        await alive(reviewer, state=PRESENCE_IDLE)
        wanted.append(("AGENT_IDLE", seq, reviewer.name))
        assert await noticed(asker, thread, len(wanted)) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_an_agent_that_has_read_a_question_and_waits_is_noticed(
    threads: ThreadStub, asker: Peer, reviewer: Peer, thread: str, where: str
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    await read_up_to(reviewer, thread, seq)
    at = Cursor(thread=thread, after_seq=seq)
    if where == "elsewhere":
        at = Cursor(thread=f"{thread}-2")
        await threads.CreateThread(CreateThreadRequest(thread=at.thread))
    async with reviewer.wait(at):
        assert await noticed(asker, thread, 1) == [("AGENT_IDLE", seq, reviewer.name)]


@pytest.mark.slow
@pytest.mark.parametrize("state", [PRESENCE_WORKING, PRESENCE_AWAITING_HUMAN])
async def test_an_agent_that_works_is_noticed_once_it_is_idle(
    asker: Peer, reviewer: Peer, other: Peer, thread: str, state: Presence.ValueType
) -> None:
    seq = await ask(asker, thread, reviewer.name, other.name)
    await read_up_to(reviewer, thread, seq, state=state)
    await read_up_to(other, thread, seq)
    others = ("AGENT_IDLE", seq, other.name)
    assert await noticed(asker, thread, 1) == [others]
    await alive(reviewer, state=PRESENCE_IDLE)
    assert await noticed(asker, thread, 2) == [others, ("AGENT_IDLE", seq, reviewer.name)]


@pytest.mark.slow
async def test_an_idle_agent_is_noticed_once_it_has_read_the_question(
    asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, other.name)
    await read_up_to(reviewer, thread, seq - 1)
    await read_up_to(other, thread, seq)
    others = ("AGENT_IDLE", seq, other.name)
    assert await noticed(asker, thread, 1) == [others]
    await read_up_to(reviewer, thread, seq)
    assert await noticed(asker, thread, 2) == [others, ("AGENT_IDLE", seq, reviewer.name)]


# ── It goes away ────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_ends_its_session_is_noticed_once(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    wanted = []
    for _ in range(3):
        seq = await ask(asker, thread, reviewer.name)
        await end_session(agents, reviewer)
        wanted.append(("AGENT_OFFLINE", seq, reviewer.name))
        assert await noticed(asker, thread, len(wanted)) == wanted
        await alive(reviewer)


@pytest.mark.slow
async def test_an_agent_whose_lease_ends_is_noticed_once(
    asker: Peer, reviewer: Peer, thread: str
) -> None:
    wanted = []
    for _ in range(2):
        seq = await ask(asker, thread, reviewer.name)
        await alive(reviewer, lease=0.05)
        wanted.append(("AGENT_LAPSED", seq, reviewer.name))
        assert await noticed(asker, thread, len(wanted)) == wanted
        await alive(reviewer)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_an_agent_that_is_killed_or_hangs_while_it_waits_is_noticed(
    start_server: StartServer, name: str, number: signal.Signals, where: str
) -> None:
    server = start_server(
        *(*HASTY, "--working-timeout", "900"),
        *("--keepalive-time", "2", "--keepalive-timeout", "2"),
    )
    async with connected(server.address, name, f"{name}-2") as client:
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await registered(client.agents, client.bus, "reviewer")
        await beat(client.bus, caller_of(reviewer))
        at = name if where == "here" else f"{name}-2"
        with waiting_client(server.address, at, caller_of(reviewer).token) as process:
            seq = await ask(asker, name, reviewer.name)
            process.send_signal(number)
            assert await noticed(asker, name, 1) == [("AGENT_LAPSED", seq, reviewer.name)]


async def test_an_agent_that_leaves_is_noticed_once_and_not_that_it_is_idle(
    threads: ThreadStub, agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name)
    for _ in range(2):
        await leave(threads, thread, reviewer)
        await join(threads, thread, reviewer)
    second = await ask(asker, thread, reviewer.name)
    await leave(threads, thread, reviewer)
    await end_session(agents, reviewer)
    assert await noticed(asker, thread, 2) == [
        ("AGENT_LEFT", seq, reviewer.name),
        ("AGENT_LEFT", second, reviewer.name),
    ]


async def test_an_agent_that_is_unregistered_is_noticed(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.5)
    await agents.UnregisterAgent(UnregisterAgentRequest(), metadata=reviewer.metadata)
    assert await noticed(asker, thread, 2) == [
        ("AGENT_LEFT", seq, reviewer.name),
        ("OVERDUE", seq, reviewer.name),
    ]


# ── It was never there ──────────────────────────────────────────────────────────────────────────


async def test_an_agent_that_never_comes_is_noticed_when_its_answer_is_overdue(
    agents: AgentStub, asker: Peer, thread: str, name: str
) -> None:
    await register(agents, f"{name}-new", by=caller_of(asker))
    seq = await ask(asker, thread, f"{name}-new", within=0.1)
    assert await noticed(asker, thread, 1) == [("OVERDUE", seq, f"{name}-new")]


@pytest.mark.parametrize("interval", ["0.05", "3600"], ids=["saved", "unsaved"])
async def test_an_agent_that_was_gone_before_is_noticed_only_if_it_comes_and_goes(
    start_server: StartServer, name: str, interval: str
) -> None:
    server = start_server(*HASTY, "--checkpoint-interval", interval)
    async with connected(server.address, name) as client:
        asker = await registered(client.agents, client.bus, "asker")
        reviewer = await alive(await registered(client.agents, client.bus, "reviewer"))
        assert server.stop() == 0
    server.start()  # the store has that the agent is there
    async with connected(server.address, name) as client:
        asker, reviewer = (Peer(client.bus, each.caller) for each in (asker, reviewer))
        await end_session(client.agents, reviewer)
        seq = await ask(asker, name, reviewer.name, within=0.1)
        overdue = ("OVERDUE", seq, reviewer.name)
        assert await noticed(asker, name, 1) == [overdue]
        await alive(reviewer)
        await end_session(client.agents, reviewer)
        assert await noticed(asker, name, 2) == [overdue, ("AGENT_OFFLINE", seq, reviewer.name)]


@pytest.mark.slow
async def test_an_agent_that_had_lapsed_before_is_noticed_only_if_it_comes_and_goes(
    agents: AgentStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    await alive(reviewer, lease=0.05)
    await until_state(agents, reviewer.name, "LAPSED")
    seq = await ask(asker, thread, reviewer.name, within=0.1)
    overdue = ("OVERDUE", seq, reviewer.name)
    assert await noticed(asker, thread, 1) == [overdue]
    await alive(reviewer, lease=0.05)
    assert await noticed(asker, thread, 2) == [overdue, ("AGENT_LAPSED", seq, reviewer.name)]


# ── All of it ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_each_reason_is_told_once_for_each_request(
    threads: ThreadStub, agents: AgentStub, asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    both = [reviewer, other]
    seqs = [await ask(asker, thread, *(each.name for each in both)) for _ in range(2)]
    wanted: list[tuple[str, int, str]] = []

    async def is_told(reason: str) -> None:
        wanted.extend((reason, seq, each.name) for seq in seqs for each in both)
        assert sorted(await noticed(asker, thread, len(wanted))) == sorted(wanted)

    for _ in range(2):
        for each in both:
            await read_up_to(each, thread, seqs[-1])
        if len(wanted) < 4:
            await is_told("AGENT_IDLE")
        for each in both:
            await end_session(agents, each)
        if len(wanted) < 8:
            await is_told("AGENT_OFFLINE")
    for each in both:
        await leave(threads, thread, each)
    await is_told("AGENT_LEFT")
    for seq in seqs:
        await withdraw(asker, thread, seq)
    await is_told("WITHDRAWN")


@pytest.mark.parametrize("how", ["answered", "withdrawn", "closed", "deleted"])
async def test_a_request_that_is_not_open_is_not_overdue(
    threads: ThreadStub, asker: Peer, reviewer: Peer, thread: str, how: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.3)
    if how == "answered":
        await reviewer.post(thread, "yes", reply_to=seq)
    elif how == "withdrawn":
        await withdraw(asker, thread, seq)
    elif how == "closed":
        await set_state(threads, thread, THREAD_STATE_CLOSED)
    else:
        await recreate(threads, thread)
    later = f"{thread}-2"
    await threads.CreateThread(CreateThreadRequest(thread=later))
    second = await ask(asker, later, reviewer.name, within=0.4)
    assert await noticed(asker, later, 1) == [("OVERDUE", second, reviewer.name)]
    found = notices_in(await asker.read(thread))
    assert found == ([("WITHDRAWN", seq, reviewer.name)] if how == "withdrawn" else [])


async def test_a_notice_addresses_and_wakes_the_asker_only(
    bus: BusStub, threads: ThreadStub, asker: Peer, reviewer: Peer, other: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.1)
    await join(threads, thread, other)
    async with asker.wait(Cursor(thread=thread, after_seq=seq), min_messages=1) as frames:
        (entry,) = messages_in(await frames.rest())
    assert (entry.sender, entry.sender_kind) == ("system", AGENT_KIND_SYSTEM)
    assert (entry.kind, entry.wakes) == (MESSAGE_KIND_NOTICE, WAKE_ADDRESSED)
    assert list(entry.mentions) == [asker.name]
    assert entry.content == f"{reviewer.name} has not answered message {seq} in time"
    assert entry.content_size == len(entry.content)
    for each, count in ((asker, 1), (other, 0)):
        answer = await beat(
            bus, caller_of(each), read_cursors=[Cursor(thread=thread, after_seq=seq)]
        )
        assert [unread.addressed_count for unread in answer.unread] == [1] * count


async def test_an_asker_that_left_takes_no_part_again_by_a_notice(
    threads: ThreadStub, asker: Peer, reviewer: Peer, thread: str
) -> None:
    seq = await ask(asker, thread, reviewer.name, within=0.1)
    await leave(threads, thread, asker)
    assert await noticed(asker, thread, 1) == [("OVERDUE", seq, reviewer.name)]
    assert set(await participants(threads, thread)) == {reviewer.name}

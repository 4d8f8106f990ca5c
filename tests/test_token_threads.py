"""Tokens with thread prefixes: what they may not read is left out of lists, errors and results."""

import itertools
from collections.abc import Iterator

import grpc
import pytest

from tests.callers import Caller, operator, register, with_token
from tests.open_wait import open_wait
from tests.polling import until_known
from tests.post_stream import post_stream
from tests.refusals import refused
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.admin_service_pb2 import ListWaitsRequest
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.agent_pb2 import Presence
from threadbus.v1.agent_service_pb2 import (
    EndSessionRequest,
    GetAgentRequest,
    UnregisterAgentRequest,
)
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    HeartbeatRequest,
    PostMessageRequest,
    WaitEnding,
    WaitMessagesRequest,
)
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListParticipantsRequest,
    ListThreadsRequest,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chosen_store: None) -> Iterator[ServerProcess]:
    """This module's server; tokens are required."""
    db = tmp_path_factory.mktemp("server") / "bus.db"
    with ServerProcess(db, "--auth", "required") as running:
        yield running


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator of this module's server."""
    return operator(server)


async def create(threads: ThreadStub, boss: Caller, *names: str) -> None:
    for name in names:
        await threads.CreateThread(CreateThreadRequest(thread=name), metadata=boss.metadata)


async def names_of(threads: ThreadStub, caller: Caller, size: int, prefix: str = "") -> list[str]:
    """Returns the names that ListThreads lists, over all pages."""
    request, found = ListThreadsRequest(page_size=size, prefix=prefix), list[str]()
    while True:
        answer = await threads.ListThreads(request, metadata=caller.metadata)
        found += [thread.name for thread in answer.threads]
        request.page_token = answer.next_page_token
        if not request.page_token:
            return found


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_threads_of_several_prefixes_are_listed_in_one_order(
    channel: grpc.aio.Channel, threads: ThreadStub, boss: Caller, name: str, size: int
) -> None:
    groups = [f"{name}-{letter}" for letter in "abcd"]
    created = [f"{group}-{n}" for n, group in itertools.product(range(3), groups)]
    await create(threads, boss, *created)
    prefixes = [groups[0], f"{groups[2]}-", f"{groups[3]}-1", f"{name}-none"]
    caller = await with_token(channel, boss, name, thread_prefixes=prefixes)
    mine = [each for each in reversed(created) if each.startswith(tuple(prefixes))]
    assert len(mine) == 7
    assert await names_of(threads, caller, size) == mine
    for narrower in (f"{name}-", groups[0], f"{groups[0]}-1", groups[1], groups[3], "other"):
        wanted = [each for each in mine if each.startswith(narrower)]
        assert await names_of(threads, caller, size, prefix=narrower) == wanted


async def test_the_caller_learns_its_prefixes(
    channel: grpc.aio.Channel, bus: BusStub, boss: Caller, name: str
) -> None:
    caller = await with_token(channel, boss, name, thread_prefixes=["team-b.", "team-a."])
    info = await bus.GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
    assert list(info.thread_prefixes) == ["team-b.", "team-a."]


async def test_a_refused_creation_names_the_prefixes(
    channel: grpc.aio.Channel, threads: ThreadStub, boss: Caller, name: str
) -> None:
    await create(threads, boss, f"{name}-taken")
    caller = await with_token(channel, boss, name, thread_prefixes=["team-a.", "team-b."])
    for other in (f"{name}-taken", f"{name}-new"):
        join = JoinThreadRequest(thread=other, create=True)
        refusals = [
            await refused(threads.JoinThread(join, metadata=caller.metadata)),
            await refused(
                threads.CreateThread(CreateThreadRequest(thread=other), metadata=caller.metadata)
            ),
        ]
        for refusal in refusals:
            assert refusal.reason == "ACCESS_DENIED"
            assert "team-a. or team-b." in refusal.message
    refusal = await refused(
        threads.GetThread(GetThreadRequest(thread=f"{name}-new"), metadata=boss.metadata)
    )
    assert refusal.reason == "THREAD_NOT_FOUND"


async def test_similar_names_of_other_threads_are_not_told(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, boss: Caller, name: str
) -> None:
    await create(threads, boss, f"{name}-One", f"{name}-ONE")
    caller = await with_token(channel, boss, name, thread_prefixes=[f"{name}-o", f"{name}-ON"])
    one = f"{name}-one"
    post = PostMessageRequest(thread=one, content="x")
    wait = WaitMessagesRequest(threads=[Cursor(thread=one)])
    for call in (
        threads.GetThread(GetThreadRequest(thread=one), metadata=caller.metadata),
        bus.PostMessage(post, metadata=caller.metadata),
        bus.WaitMessages(wait, metadata=caller.metadata),
    ):
        refusal = await refused(call)
        assert f"there is {name}-ONE" in refusal.message
        assert "-One" not in refusal.message
    async with post_stream(bus, metadata=caller.metadata) as stream:
        (result,) = await stream.post(post)
        assert f"{name}-ONE" in result.status.message
        assert "-One" not in str(result.status)
    join = JoinThreadRequest(thread=one, create=True)
    joined = await threads.JoinThread(join, metadata=caller.metadata)
    assert (joined.created, list(joined.similar)) == (True, [f"{name}-ONE"])


async def test_in_a_batch_only_posts_to_other_threads_are_refused(
    channel: grpc.aio.Channel, bus: BusStub, threads: ThreadStub, boss: Caller, name: str
) -> None:
    await create(threads, boss, f"{name}-own", f"{name}-other")
    caller = await with_token(channel, boss, name, thread_prefixes=[f"{name}-own"])
    names = [f"{name}-own", f"{name}-other", f"{name}-missing", f"{name}-own", "", "b a d"]
    posts = [PostMessageRequest(thread=thread, content="x") for thread in names]
    posts.append(PostMessageRequest(thread=f"{name}-other", content="x", mentions=[name]))
    async with post_stream(bus, metadata=caller.metadata) as stream:
        results = await stream.post(*posts)
    assert [result.response.seq for result in results] == [1, 0, 0, 2, 0, 0, 0]
    codes = [result.status.code for result in results]
    missing, invalid = grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert codes == [0, missing, missing, 0, invalid, invalid, missing]


async def test_unread_and_read_positions_are_only_of_own_threads(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
) -> None:
    own, other = f"{name}-own", f"{name}-other"
    await create(threads, boss, own, other)
    agent = await register(agents, name, boss)
    for thread in (own, other):
        await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)
        post = PostMessageRequest(thread=thread, content="x")
        await bus.PostMessage(post, metadata=boss.metadata)
    limited = await with_token(channel, boss, name, thread_prefixes=[own])
    beat = HeartbeatRequest(read_cursors=[Cursor(thread=other, after_seq=1)])
    answer = await bus.Heartbeat(beat, metadata=limited.metadata)
    assert [unread.thread for unread in answer.unread] == [own]
    answer = await bus.Heartbeat(HeartbeatRequest(), metadata=agent.metadata)
    assert [unread.thread for unread in answer.unread] == [other, own]
    listing = ListParticipantsRequest(thread=other)
    found = await threads.ListParticipants(listing, metadata=boss.metadata)
    read = {participant.agent: participant.read_seq for participant in found.participants}
    assert read[name] == 0


async def test_a_thread_without_a_valid_name_is_reported_as_such(
    channel: grpc.aio.Channel, bus: BusStub, boss: Caller, name: str
) -> None:
    caller = await with_token(channel, boss, name, thread_prefixes=[name])
    for thread in ("", "b a d", "\0"):
        post = PostMessageRequest(thread=thread, content="x")
        refusal = await refused(bus.PostMessage(post, metadata=caller.metadata))
        assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["thread"])


async def test_a_limited_token_ends_only_its_own_waits(
    channel: grpc.aio.Channel,
    bus: BusStub,
    threads: ThreadStub,
    agents: AgentStub,
    boss: Caller,
    name: str,
) -> None:
    admin: AdminStub = AdminServiceStub(channel)
    await create(threads, boss, name)
    agent = await register(agents, name, boss)
    limited = await with_token(channel, boss, name, thread_prefixes=[name])
    reader = await with_token(channel, boss, scopes=["read"])

    async def presence() -> str:
        request = GetAgentRequest(agent=name)
        found = await agents.GetAgent(request, metadata=boss.metadata)
        return Presence.Name(found.agent.presence)

    async def has_one_wait() -> bool:
        found = await admin.ListWaits(ListWaitsRequest(agent=name), metadata=boss.metadata)
        return len(found.waits) == 1

    async with (
        open_wait(bus, name, metadata=agent.metadata) as other,
        open_wait(bus, name, metadata=limited.metadata) as own,
        open_wait(bus, name, metadata=boss.metadata) as bosses,
    ):
        for caller in (limited, reader):
            await agents.EndSession(EndSessionRequest(), metadata=caller.metadata)
        assert (await own.ended()).reason == WaitEnding.REASON_SESSION_ENDED
        post = PostMessageRequest(thread=name, content="x")
        await bus.PostMessage(post, metadata=boss.metadata)
        await other.until(lambda: other.seqs(name) == [1])
        await bosses.until(lambda: bosses.seqs(name) == [1])
        assert await presence() != "PRESENCE_OFFLINE"
    async with open_wait(bus, name, metadata=limited.metadata) as own:
        await until_known(has_one_wait)
        await agents.EndSession(EndSessionRequest(), metadata=limited.metadata)
        assert (await own.ended()).reason == WaitEnding.REASON_SESSION_ENDED
    assert await presence() == "PRESENCE_OFFLINE"


async def test_a_limited_token_does_not_unregister_its_agent(
    channel: grpc.aio.Channel, agents: AgentStub, boss: Caller, name: str
) -> None:
    limited = await with_token(channel, boss, name, thread_prefixes=[name])
    for request in (UnregisterAgentRequest(), UnregisterAgentRequest(agent=name)):
        refusal = await refused(agents.UnregisterAgent(request, metadata=limited.metadata))
        assert refusal.reason == "ACCESS_DENIED"
        assert "a token for all threads" in refusal.message
    await agents.GetAgent(GetAgentRequest(), metadata=limited.metadata)

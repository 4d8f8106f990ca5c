"""Two servers on one file: as correct as one, and each sees the other's changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from tests.callers import register
from tests.ledger import Ledger, history, outcome
from tests.open_wait import open_wait
from tests.refusals import Refusal, refused
from tests.serving import AgentStub, BusStub, ServerProcess, ThreadStub
from threadbus.v1.agent_service_pb2_grpc import AgentServiceStub
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    PostMessageRequest,
    PostMessageResponse,
    WaitEnding,
    WaitMessagesRequest,
)
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_pb2 import THREAD_STATE_CLOSED
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    SetThreadStateRequest,
)
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub

Pair = tuple[grpc.aio.Channel, grpc.aio.Channel]


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, chosen_store: None
) -> Iterator[list[ServerProcess]]:
    """Two servers on one file, for this module."""
    db = tmp_path_factory.mktemp("servers") / "bus.db"
    with contextlib.ExitStack() as running:
        yield [running.enter_context(ServerProcess(db, "--fallback-interval", "0.1")) for _ in "ab"]


@pytest.fixture
async def channels(servers: list[ServerProcess]) -> AsyncIterator[Pair]:
    """A channel to each."""
    here, there = (grpc.aio.insecure_channel(server.address) for server in servers)
    async with here, there:
        yield here, there


@pytest.fixture
def buses(channels: Pair) -> tuple[BusStub, BusStub]:
    return BusServiceStub(channels[0]), BusServiceStub(channels[1])


@pytest.fixture
def both_threads(channels: Pair) -> tuple[ThreadStub, ThreadStub]:
    return ThreadServiceStub(channels[0]), ThreadServiceStub(channels[1])


@pytest.fixture
async def thread(both_threads: tuple[ThreadStub, ThreadStub], name: str) -> str:
    """A fresh thread's name, created through the first server."""
    await both_threads[0].CreateThread(CreateThreadRequest(thread=name))
    return name


@pytest.mark.slow
async def test_posts_through_both_concurrently_are_stored_once_without_gaps(
    buses: tuple[BusStub, BusStub], thread: str
) -> None:
    ledger = Ledger()

    async def poster(number: int) -> None:
        for n in range(20):
            await ledger.post(buses[number % 2], thread, f"{number}-{n}")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(poster(number))

    assert len(ledger) == 1_000
    for bus in buses:
        ledger.check(thread, await history(bus, thread))


@pytest.mark.slow
async def test_of_two_posts_with_one_expectation_exactly_one_wins_whichever_server_gets_it(
    buses: tuple[BusStub, BusStub], both_threads: tuple[ThreadStub, ThreadStub], name: str
) -> None:
    async def race(thread: str) -> None:
        await both_threads[0].CreateThread(CreateThreadRequest(thread=thread))
        for head in range(100):
            request = PostMessageRequest(thread=thread, content="me", expected_last_seq=head)
            both = await asyncio.gather(*(outcome(bus.PostMessage(request)) for bus in buses))
            assert [o.seq for o in both if isinstance(o, PostMessageResponse)] == [head + 1]
            assert [o.reason for o in both if isinstance(o, Refusal)] == ["SEQ_CONFLICT"]

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for n in range(10):
            group.create_task(race(f"{name}-{n}"))


async def test_one_post_sent_to_both_concurrently_is_stored_once(
    buses: tuple[BusStub, BusStub], thread: str
) -> None:
    for n in range(1, 21):
        request = PostMessageRequest(thread=thread, content=str(n), request_id=str(n))
        answers = await asyncio.gather(*(bus.PostMessage(request) for bus in buses))
        assert [answer.seq for answer in answers] == [n, n]
        assert sorted(answer.deduplicated for answer in answers) == [False, True]


async def test_of_two_creations_of_one_thread_one_is_refused(
    both_threads: tuple[ThreadStub, ThreadStub], name: str
) -> None:
    request = CreateThreadRequest(thread=name)
    calls = [threads.CreateThread(request) for threads in both_threads]
    created = [await call.code() == grpc.StatusCode.OK for call in calls]
    assert sorted(created) == [False, True]
    assert (await refused(calls[created.index(False)])).reason == "THREAD_EXISTS"


async def test_an_agent_registered_through_one_is_known_to_the_other(
    channels: Pair, buses: tuple[BusStub, BusStub], name: str
) -> None:
    agents: AgentStub = AgentServiceStub(channels[1])
    caller = await register(agents, name)
    info = await buses[0].GetServerInfo(GetServerInfoRequest(), metadata=caller.metadata)
    assert info.agent == name


# The waits below ask for keepalives so rare that only the fallback can make them look.


@pytest.mark.slow
async def test_a_wait_delivers_posts_of_the_other_server(
    buses: tuple[BusStub, BusStub], thread: str
) -> None:
    here, there = buses
    async with open_wait(here, thread) as wait:
        for n in range(1, 6):
            await there.PostMessage(PostMessageRequest(thread=thread, content=str(n)))
            await wait.until(lambda n=n: wait.seqs(thread)[-1:] == [n])  # type: ignore[misc]
        await here.PostMessage(PostMessageRequest(thread=thread, content="6"))
        await wait.until(lambda: len(wait.messages) >= 6)
        assert [message.content for message in wait.messages] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.slow
async def test_a_wait_on_many_threads_sees_posts_through_both_servers_each_once_and_in_order(
    buses: tuple[BusStub, BusStub], both_threads: tuple[ThreadStub, ThreadStub], name: str
) -> None:
    names = [f"{name}-{n}" for n in range(10)]
    for thread in names:
        await both_threads[0].CreateThread(CreateThreadRequest(thread=thread))

    async with open_wait(buses[0], *names) as wait:
        for number in range(1, 21):
            # Some of our own, some of the other's, all at once; then silence.
            posts = [PostMessageRequest(thread=thread, content="x") for thread in names]
            await asyncio.gather(*(bus.PostMessage(post) for post in posts for bus in buses))
            await wait.until(
                lambda number=number: len(wait.messages) >= 20 * number  # type: ignore[misc]
            )
            for thread in names:
                assert wait.seqs(thread) == list(range(1, 2 * number + 1))


async def test_a_wait_ends_when_its_thread_is_deleted_through_the_other_server(
    buses: tuple[BusStub, BusStub], both_threads: tuple[ThreadStub, ThreadStub], thread: str
) -> None:
    async with open_wait(buses[0], thread) as wait:
        await both_threads[1].DeleteThread(DeleteThreadRequest(thread=thread))
        assert (await refused(wait.ended())).reason == "THREAD_NOT_FOUND"


async def test_a_wait_ends_when_the_other_server_recreates_its_thread(
    buses: tuple[BusStub, BusStub], both_threads: tuple[ThreadStub, ThreadStub], thread: str
) -> None:
    _, there = both_threads
    await buses[0].PostMessage(PostMessageRequest(thread=thread, content="old"))
    async with open_wait(buses[0], thread) as wait:
        await there.DeleteThread(DeleteThreadRequest(thread=thread))
        await there.CreateThread(CreateThreadRequest(thread=thread))
        for n in range(3):
            await buses[1].PostMessage(PostMessageRequest(thread=thread, content=f"new {n}"))
        assert (await refused(wait.ended())).reason == "THREAD_NOT_FOUND"
        assert [message.content for message in wait.messages] == ["old"]


async def test_a_wait_ends_when_its_thread_is_closed_through_the_other_server(
    buses: tuple[BusStub, BusStub], both_threads: tuple[ThreadStub, ThreadStub], thread: str
) -> None:
    closing = SetThreadStateRequest(thread=thread, state=THREAD_STATE_CLOSED)
    async with open_wait(buses[0], thread) as wait:
        await buses[1].PostMessage(PostMessageRequest(thread=thread, content="the last"))
        await both_threads[1].SetThreadState(closing)
        ending = await wait.ended()
        assert ending.reason == WaitEnding.REASON_THREADS_CLOSED
        assert wait.seqs(thread) == [1, 2]  # the post, and the entry that says it is closed


@pytest.mark.slow
@pytest.mark.parametrize("waited", [False, True], ids=["nobody_waits", "somebody_waits"])
async def test_a_cursor_from_one_server_is_never_past_the_head_of_the_other(
    buses: tuple[BusStub, BusStub], thread: str, waited: bool
) -> None:
    here, there = buses
    async with contextlib.AsyncExitStack() as open_meanwhile:
        if waited:  # the other server then has a cached head of its own
            await open_meanwhile.enter_async_context(open_wait(here, thread))
        for n in range(200):
            post = PostMessageRequest(thread=thread, content=str(n))
            posted = await there.PostMessage(post)
            cursor = Cursor(thread=thread, after_seq=posted.seq, epoch=posted.epoch)
            request = WaitMessagesRequest(threads=[cursor])
            request.max_wait.FromSeconds(0)
            frames = [frame async for frame in here.WaitMessages(request)]
            kinds = [frame.WhichOneof("frame") for frame in frames]
            assert kinds == ["started", "caught_up", "ending"]
            assert frames[-1].ending.threads[0].cursor == cursor
            listed = await history(here, thread)
            assert listed[-1].seq == posted.seq


@pytest.mark.slow
async def test_when_one_server_is_killed_the_other_goes_on(
    servers: list[ServerProcess], buses: tuple[BusStub, BusStub], thread: str
) -> None:
    here, there = buses
    ledger = Ledger()

    async def poster(number: int) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            for n in range(100_000):
                await ledger.post(there, thread, f"there-{number}-{n}")

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        posters = [group.create_task(poster(number)) for number in range(20)]
        for n in range(100):
            await ledger.post(here, thread, f"here-{n}")
        servers[1].kill()
        await asyncio.wait(posters)
        for n in range(50):
            await ledger.post(here, thread, f"alone-{n}")

    ledger.check(thread, await history(here, thread), unknown=True)
    await asyncio.to_thread(servers[1].start)  # on the same port and file, beside the other
    await there.PostMessage(
        PostMessageRequest(thread=thread, content="back"), wait_for_ready=True, timeout=20
    )
    assert (await history(here, thread))[-1].content == "back"

"""PostMessages: many posts through one stream, in order, each with a result of its own."""

import asyncio

import grpc
import pytest

from tests.callers import register
from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import history
from tests.peers import Peer
from tests.polling import until_known
from tests.post_stream import PostStream, post_stream, reason, seqs
from tests.presence import state
from tests.refusals import refused
from tests.serving import AgentStub, BusStub, ThreadStub
from tests.wait_frames import waiting
from threadbus.v1.agent_service_pb2 import RotateTokenRequest
from threadbus.v1.bus_service_pb2 import GetServerInfoRequest, PostMessageRequest
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, JoinThreadRequest


def post(thread: str, content: str = "hello", **fields: object) -> PostMessageRequest:
    return PostMessageRequest(thread=thread, content=content, **fields)  # type: ignore[arg-type]


async def test_posts_get_their_seqs_in_the_order_sent_across_batches(
    bus: BusStub, thread: str
) -> None:
    async with post_stream(bus) as stream:
        for batch in range(5):
            await stream.send(*(post(thread, f"{batch}-{n}") for n in range(100)))
        found = [seq for _ in range(5) for seq in seqs(await stream.results())]
        await stream.done()
    assert found == list(range(1, 501))
    stored = await history(bus, thread)
    assert [m.content for m in stored] == [f"{b}-{n}" for b in range(5) for n in range(100)]


async def test_a_batch_may_go_to_several_threads(
    bus: BusStub, threads: ThreadStub, thread: str
) -> None:
    other = f"{thread}-2"
    await threads.CreateThread(CreateThreadRequest(thread=other))
    async with post_stream(bus) as stream:
        results = await stream.post(post(thread), post(other), post(thread), post(other))
    assert seqs(results) == [1, 1, 2, 2]


async def test_a_refused_post_stops_no_other_and_carries_its_reason(
    bus: BusStub, thread: str
) -> None:
    async with post_stream(bus) as stream:
        results = await stream.post(
            post(thread, "first"),
            post("nowhere-at-all"),
            post(thread, ""),
            post(thread, "stale", expected_last_seq=7),
            post(thread, "last", expected_last_seq=1),
        )
        assert seqs(await stream.post(post(thread, "after"))) == [3]
    assert seqs(results) == [1, 0, 0, 0, 2]
    assert [reason(result) for result in results] == [
        "",
        "THREAD_NOT_FOUND",
        "VALIDATION_FAILED",
        "SEQ_CONFLICT",
        "",
    ]
    assert results[1].status.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert results[3].status.code == grpc.StatusCode.ABORTED.value[0]


async def test_a_retried_batch_is_stored_once(bus: BusStub, thread: str) -> None:
    batch = [post(thread, str(n), request_id=f"id-{n}") for n in range(10)]
    async with post_stream(bus) as stream:
        first = await stream.post(*batch)
    async with post_stream(bus) as stream:
        again = await stream.post(*batch, post(thread, "new", request_id="id-10"))
    assert seqs(again) == [*seqs(first), 11]
    assert [result.response.deduplicated for result in again] == [True] * 10 + [False]
    assert len(await history(bus, thread)) == 11


async def test_a_request_id_twice_in_a_batch_is_stored_once(bus: BusStub, thread: str) -> None:
    twice = [post(thread, "once", request_id="same"), post(thread, "once", request_id="same")]
    async with post_stream(bus) as stream:
        results = await stream.post(*twice, post(thread, "other", request_id="same"))
    assert seqs(results) == [1, 1, 0]
    assert results[1].response.deduplicated
    assert reason(results[2]) == "REQUEST_ID_REUSED"


async def test_a_message_is_edited_in_the_batch_it_came_in(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    agent = await register(agents, thread)
    async with post_stream(bus, metadata=agent.metadata) as stream:
        results = await stream.post(post(thread, "helo"), post(thread, "hello", edit_of=1))
    assert seqs(results) == [1, 2]
    assert [m.edit_seq for m in await history(bus, thread)] == [2, 0]


@pytest.mark.parametrize("count", [0, 1_001], ids=["none", "too_many"])
async def test_a_batch_of_invalid_size_ends_the_stream_after_the_results_of_those_before(
    bus: BusStub, thread: str, count: int
) -> None:
    async with post_stream(bus) as stream:
        await stream.send(post(thread, "before"))
        await stream.send(*([post(thread)] * count))
        assert seqs(await stream.results()) == [1]
        refusal = await refused(stream.results())
    assert (refusal.reason, refusal.fields) == ("VALIDATION_FAILED", ["posts"])
    assert len(await history(bus, thread)) == 1


async def test_a_batch_may_hold_a_thousand_posts(bus: BusStub, thread: str) -> None:
    info = await bus.GetServerInfo(GetServerInfoRequest())
    assert info.limits.max_batch_posts == 1_000
    async with post_stream(bus) as stream:
        assert seqs(await stream.post(*([post(thread)] * 1_000))) == list(range(1, 1_001))


async def test_a_batch_wakes_waits(bus: BusStub, thread: str) -> None:
    async with waiting(bus, thread) as frames, post_stream(bus) as stream:
        await frames.until("caught_up")
        await stream.post(*(post(thread, str(n)) for n in range(50)))
        assert [m.content for m in await frames.messages(50)] == [str(n) for n in range(50)]


async def test_recipients_are_returned_where_requested(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    agent = await register(agents, thread)
    await threads.JoinThread(JoinThreadRequest(thread=thread), metadata=agent.metadata)
    async with post_stream(bus) as stream:
        asked, not_asked = await stream.post(post(thread, include_recipients=True), post(thread))
    assert [found.agent for found in asked.response.recipients] == [agent.name]
    assert not not_asked.response.recipients


async def test_a_batch_counts_as_activity_of_its_sender(
    bus: BusStub, agents: AgentStub, threads: ThreadStub, thread: str
) -> None:
    agent = await register(agents, thread)
    async with post_stream(bus, metadata=agent.metadata) as stream:
        await stream.post(post(thread))
        assert await state(agents, agent.name) == "IDLE"
    assert {m.sender for m in await history(bus, thread)} == {agent.name}


async def test_a_stream_whose_token_expired_ends(
    bus: BusStub, agents: AgentStub, thread: str
) -> None:
    agent = await register(agents, thread)
    async with post_stream(bus, metadata=agent.metadata) as stream:
        await stream.post(post(thread, "before"))
        await agents.RotateToken(RotateTokenRequest(), metadata=agent.metadata)
        assert (await refused(stream.results())).reason == "TOKEN_EXPIRED"
    assert [m.content for m in await history(bus, thread)] == ["before"]


async def test_a_full_queue_slows_a_stream_down_and_refuses_nothing(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--max-queued-posts", "1", "--max-queued-bytes", "1000")
    async with connected(server.address, name) as client:

        async def write(number: int) -> list[int]:
            found: list[int] = []
            async with post_stream(client.bus) as stream:
                for batch in range(5):
                    contents = (f"{number}-{batch}-{n}" for n in range(20))
                    await stream.send(*(post(name, content) for content in contents))
                for _ in range(5):
                    found += seqs(await stream.results())
            return found

        found = await asyncio.gather(*(write(number) for number in range(4)))
        assert sorted(seq for one in found for seq in one) == list(range(1, 401))
        assert all(one == sorted(one) for one in found)


@pytest.mark.slow
async def test_a_draining_server_returns_results_for_received_batches_and_ends_idle_streams(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with (
        connected(server.address, name) as client,
        post_stream(client.bus) as idle,
        post_stream(client.bus) as busy,
    ):
        assert seqs(await idle.post(post(name))) == [1]
        answered = asyncio.create_task(keep_posting(busy, name))
        stopped = asyncio.create_task(asyncio.to_thread(server.stop))
        assert (await refused(idle.results())).reason == "DRAINING"
        count = await answered
        assert await stopped == 0
    server.start()
    async with connected(server.address) as client:
        assert len(await history(client.bus, name)) == 1 + count


async def keep_posting(stream: PostStream, thread: str) -> int:
    """Post until the server drains; returns how many posts had a result."""
    count = 0
    while True:
        try:
            count += len(await stream.post(*([post(thread)] * 10)))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return count


@pytest.mark.slow
async def test_a_killed_server_has_stored_a_prefix_of_the_posts_sent(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    batches = [
        [post(name, f"{b}-{n}", request_id=f"{b}-{n}") for n in range(50)] for b in range(40)
    ]
    wanted = [message.content for batch in batches for message in batch]
    async with connected(server.address, name) as client, post_stream(client.bus) as stream:
        answered = 0

        async def send() -> None:
            for batch in batches:
                await stream.send(*batch)

        sending = asyncio.create_task(send())
        for _ in range(5):
            answered += len(await stream.results())
        server.kill()
        sending.cancel()
        await asyncio.wait([sending])
    server.start()
    async with connected(server.address) as client:
        stored = [m.content for m in await history(client.bus, name)]
        assert len(stored) >= answered
        assert stored == wanted[: len(stored)]
        async with post_stream(client.bus) as stream:
            for batch in batches:
                await stream.post(*batch)
        assert [m.content for m in await history(client.bus, name)] == wanted


@pytest.mark.slow
async def test_a_client_that_vanishes_leaves_nothing_behind(bus: BusStub, thread: str) -> None:
    async with post_stream(bus) as stream:
        await stream.send(*(post(thread, str(n)) for n in range(100)))

    async def is_whole_or_absent() -> bool:
        return len(await Peer(bus).read(thread)) in (0, 100)

    await until_known(is_whole_or_absent)
    async with post_stream(bus) as stream:
        assert seqs(await stream.post(post(thread, "still there")))[0] in (1, 101)

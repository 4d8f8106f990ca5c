"""The client in clients/node when servers and connections go, come back, and grow newer."""

import asyncio
import itertools
from typing import Any

import grpc
import pytest

from tests.conftest import StartServer
from tests.newer_server import LAST_SEQ, newer_server
from tests.node_process import example, history, post, require_node, script
from tests.patience import until_known
from tests.relay import relay_to
from tests.serving import BusStub, ServerProcess
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", autouse=True)
def needs_node() -> None:
    require_node()


@pytest.mark.parametrize("going", ["killed", "drained"])
async def test_follow_is_complete_and_in_order_when_the_server_is_gone_and_back(
    start_server: StartServer, name: str, going: str
) -> None:
    server, number = start_server(), itertools.count(1)

    async def post_some(*contents: str) -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            bus: BusStub = BusServiceStub(channel)
            await post(bus, name, *(f"{next(number)}" for _ in range(50)), *contents)

    async with example(server.address, name, name) as agent:
        await agent.line()  # joined: the thread is there
        seen: list[dict[str, Any]] = []
        for _ in range(2):
            await post_some()
            seen.append(await agent.line())  # it is in the midst of them
            if going == "killed":
                await asyncio.to_thread(server.kill)
            else:
                assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)
        await post_some("stop")
        seen += await agent.rest()
    assert [line["seq"] for line in seen] == list(range(1, 152))
    assert [line["content"] for line in seen] == [str(n) for n in range(1, 151)] + ["stop"]


async def test_a_post_waits_for_a_server_that_is_away(start_server: StartServer, name: str) -> None:
    server = start_server()
    async with script(
        """
        await bus.join(thread);
        say({});
        await told();
        const posting = bus.post(thread, 'hello');
        say({});
        say(await posting);
        bus.close();
        """,
        server.address,
        name,
    ) as client:
        await client.line()
        await asyncio.to_thread(server.kill)
        client.go_on()
        await client.line()
        await asyncio.to_thread(server.start)
        assert (await client.line())["seq"] == 1
        assert await client.rest() == []


async def test_a_post_whose_answer_was_lost_is_stored_once(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    async with (
        relay_to(server.address) as relay,
        script(
            """
            await bus.join(thread);
            say({});
            await told();
            say(await bus.post(thread, 'hello'));
            say(await bus.post(thread, 'hello', { request_id: 'mine' }));
            say(await bus.post(thread, 'hello', { request_id: 'mine' }));
            bus.close();
            """,
            relay.address,
            thread,
        ) as client,
    ):
        await client.line()
        relay.silence()
        client.go_on()

        async def stored() -> bool:
            return len(await history(bus, thread)) == 1

        await until_known(stored)
        relay.cut()
        answers = await client.rest()
    assert [answer["deduplicated"] for answer in answers] == [True, False, True]
    assert [answer["seq"] for answer in answers] == [1, 2, 2]
    assert [answer["last_seq"] for answer in answers] == [1, 2, 2]


async def test_follow_comes_again_when_a_connection_goes_silent(
    server: ServerProcess, bus: BusStub, thread: str
) -> None:
    async with (
        relay_to(server.address) as relay,
        script(
            """
            for await (const { seq } of bus.follow({ thread, after_seq: 0 }, { keepalive: 1 })) {
              say({ seq });
              if (seq === 2) break;
            }
            """,
            relay.address,
            thread,
        ) as client,
    ):
        await post(bus, thread, "before")
        assert await client.line() == {"seq": 1}
        relay.silence()
        await post(bus, thread, "after")
        assert await client.rest() == [{"seq": 2}]


async def test_follow_takes_what_a_newer_server_sends_and_no_failure_after_an_ending() -> None:
    async with (
        newer_server() as server,
        script(
            """
            for await (const { seq, epoch, content } of bus.follow({ thread, after_seq: 0 })) {
              say({ seq, epoch, content });
            }
            """,
            server.address,
            "tomorrows",
        ) as client,
    ):
        assert await client.rest() == [
            {"seq": seq, "epoch": "tomorrow", "content": f"number {seq}"}
            for seq in (LAST_SEQ - 2, LAST_SEQ)
        ]
    assert [cursor.after_seq for cursor in server.asked] == [0, LAST_SEQ - 1, LAST_SEQ - 1]
    assert [cursor.epoch for cursor in server.asked] == ["", "tomorrow", "tomorrow"]

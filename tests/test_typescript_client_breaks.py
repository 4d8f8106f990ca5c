"""The client in clients/typescript when servers go, come back, and grow newer."""

import asyncio

import pytest

from tests.conftest import StartServer
from tests.newer_server import LAST_SEQ, newer_server
from tests.typescript_process import build_client, script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", autouse=True)
def built_client() -> None:
    build_client()


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


async def test_what_could_not_be_told_as_read_is_told_by_a_later_heartbeat(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--heartbeat-interval", "1", "--agent-timeout", "2")
    async with script(
        """
        await bus.register(thread);
        const { cursor } = await bus.join(thread);
        await bus.post(thread, 'one');
        say({});
        await told();
        const at = { ...cursor, afterSeq: 1 };
        say({ failed: await bus.markRead(at).catch(({ name }) => name) });
        for (let read = 0; read < 1; await new Promise((go) => setTimeout(go, 100))) {
          read = await bus.join(thread).then(({ cursor }) => cursor.afterSeq, () => 0);
        }
        say({ read: true }); // and ends, heartbeats or not
        """,
        server.address,
        name,
    ) as client:
        await client.line()
        await asyncio.to_thread(server.kill)
        client.go_on()
        assert await client.line() == {"failed": "BusError"}
        await asyncio.to_thread(server.start)
        assert await client.rest() == [{"read": True}]


async def test_follow_takes_what_a_newer_server_sends_and_no_failure_after_an_ending() -> None:
    async with (
        newer_server() as server,
        script(
            """
            for await (const { seq, epoch, content } of bus.follow({ thread, afterSeq: 0 })) {
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

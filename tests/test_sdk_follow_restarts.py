"""ThreadHandle.follow when servers, connections and agents fail: every message once, in order."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from bus_client import BusClient
from tests.agent_process import agent_process
from tests.conftest import StartServer
from tests.members import member, read_position, take
from tests.peers import Peer
from tests.polling import until_known
from tests.relay import relay_to
from tests.serving import BusStub, ServerProcess
from tests.wait_frames import BOUND


async def restart(server: ServerProcess, number: signal.Signals) -> None:
    """End the server with a signal, and start it again."""
    server.signal(number)
    assert server.process is not None
    await asyncio.to_thread(server.process.wait)
    server.kill()
    await asyncio.to_thread(server.start)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_restarts_in_mid_history_and_while_live_lose_and_repeat_nothing(
    start_server: StartServer, tmp_path: Path, name: str, number: signal.Signals
) -> None:
    server = start_server()
    posted = [f"{n} " + "x" * 200_000 for n in range(40)]  # more than a connection buffers
    async with (
        member(server.address, name, tmp_path, role="writer") as writer,
        member(server.address, name, tmp_path) as reader,
        contextlib.aclosing(reader.follow()) as messages,
    ):
        for content in posted:
            await writer.post(content)
        assert await take(messages, 3) == posted[:3]
        await restart(server, number)
        assert await take(messages, 37) == posted[3:]
        await writer.post("live")
        assert await take(messages, 1) == ["live"]
        await restart(server, number)
        await writer.post("live again")
        assert await take(messages, 1) == ["live again"]
    assert await read_position(server.address, name, tmp_path) == 41


async def test_repeated_disconnects_lose_and_repeat_nothing(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    async with (
        relay_to(server.address) as relay,
        member(relay.address, thread, tmp_path) as reader,
        contextlib.aclosing(reader.follow()) as messages,
    ):
        expected: list[str] = []
        for n in range(5):
            expected += (f"{n}, one", f"{n}, two")
            await Peer(bus).post_all(thread, *expected[-2:])
            assert await take(messages, 1) == expected[:1]
            relay.cut()
            del expected[0]
        assert await take(messages, 5) == expected


@pytest.mark.slow
async def test_a_killed_agent_resumes_at_its_last_reported_position(
    server: ServerProcess, bus: BusStub, thread: str, name: str, tmp_path: Path
) -> None:
    agent, credentials = f"{thread}-reader", tmp_path / "credentials.json"
    running = agent_process(server.address, agent, credentials, thread)
    async with running as process:
        process.go()
        assert await process.line() == f"connected as {agent}"
        printed: list[int] = []

        async def positions_were_reported() -> bool:
            await Peer(bus).post(thread)
            printed.append(int(await process.line()))
            return await read_position(server.address, thread, tmp_path) >= 3

        await until_known(positions_were_reported)
        await Peer(bus).post_all(thread, *"abcdefghij")
        printed.append(int(await process.line()))
        printed += map(int, await process.kill())
    assert printed == list(range(1, len(printed) + 1))

    reported = await read_position(server.address, thread, tmp_path)
    assert 3 <= reported < printed[-1]  # no message was requested after the last one
    last = await Peer(bus).post(thread, "meanwhile")
    async with agent_process(server.address, agent, credentials, thread) as process:
        process.go()
        await process.line()
        again = [int(await process.line()) for _ in range(last.seq - reported)]
    assert again == list(range(reported + 1, last.seq + 1))


@pytest.mark.slow
async def test_read_positions_survive_agent_and_server(
    start_server: StartServer, tmp_path: Path, name: str
) -> None:
    server = start_server()
    async with (
        member(server.address, name, tmp_path, role="writer") as writer,
        member(server.address, name, tmp_path) as reader,
    ):
        for text in "abc":
            await writer.post(text)
        assert await take(reader.follow(), 3) == ["a", "b", "c"]
    await restart(server, signal.SIGTERM)
    async with member(server.address, name, tmp_path) as reader:
        assert reader.position.after_seq == 2
        assert await take(reader.follow(), 1) == ["c"]


@pytest.mark.slow
async def test_many_followers_of_one_client_survive_a_restart(
    start_server: StartServer, name: str
) -> None:
    server = start_server()
    async with BusClient(server.address) as client, asyncio.timeout(BOUND):
        handles = [await client.join(f"{name}-{n}") for n in range(20)]
        followed = [handle.follow() for handle in handles]
        coming = [asyncio.create_task(take(messages, 2)) for messages in followed]
        for handle in handles:
            await handle.post(f"{handle.name}, before")
        await restart(server, signal.SIGKILL)
        for handle in handles:
            await handle.post(f"{handle.name}, after")
        assert await asyncio.gather(*coming) == [
            [f"{handle.name}, before", f"{handle.name}, after"] for handle in handles
        ]

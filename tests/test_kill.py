"""A server killed repeatedly under load: no acknowledged post is lost or duplicated."""

import asyncio
import contextlib
import random
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from bus_client import BusClient, Message, ThreadHandle
from tests.conftest import StartServer
from tests.connections import connected
from tests.ledger import Ledger, history
from tests.polling import until
from tests.serving import ServerProcess

POSTERS = 12


async def post_until_cancelled(thread: ThreadHandle, ledger: Ledger, label: str) -> None:
    """Post one message after the other, each until its outcome is known."""
    for n in range(1_000_000):
        content = f"{label}-{n}"
        answer = await thread.post(content, request_id=content, timeout=50)
        ledger.ack(thread.name, content, answer)


async def collect(thread: ThreadHandle, received: list[Message]) -> None:
    """Follow a thread until it closes; collect its messages."""
    async with contextlib.aclosing(thread.follow()) as messages:
        async for message in messages:
            received.append(message)  # noqa: PERF401 - it is looked at while it grows


async def kill_again_and_again(server: ServerProcess, ledger: Ledger, rounds: int) -> None:
    """Kill the server after some posts and start it on the same port and file, several times."""
    for _ in range(rounds):
        enough = len(ledger) + random.randint(20, 200)  # noqa: S311
        await until(lambda enough=enough: len(ledger) >= enough)  # type: ignore[misc]
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_followers_and_posters_survive_many_kills_and_each_message_comes_once(
    start_server: StartServer, tmp_path: Path, name: str, soak: bool
) -> None:
    server, ledger = start_server(), Ledger()
    credentials = tmp_path / "credentials.json"
    async with contextlib.AsyncExitStack() as clients:

        async def connect(agent: str | None) -> ThreadHandle:
            client = BusClient(server.address, agent=agent, credentials=credentials)
            bus = await clients.enter_async_context(client)
            return await bus.join(name, start="first")

        received: dict[str, list[Message]] = {"reader-1": [], "reader-2": [], "anonymous": []}
        async with asyncio.timeout(170), asyncio.TaskGroup() as group:
            followers = []
            for agent, messages in received.items():
                reader = await connect(None if agent == "anonymous" else agent)
                followers.append(group.create_task(collect(reader, messages)))
            posters = []
            for n in range(POSTERS):
                # Some connections are shared, some posters are anonymous.
                handle = await connect(f"poster-{n}" if n % 3 else None)
                posters += [
                    group.create_task(post_until_cancelled(handle, ledger, f"{n}-{k}"))
                    for k in range(2)
                ]

            await kill_again_and_again(server, ledger, 20 if soak else 5)
            enough = len(ledger) + 100
            await until(lambda: len(ledger) >= enough)
            for poster in posters:
                poster.cancel()
            await asyncio.wait(posters)
            # After a graceful stop each cancelled post is either committed or not stored at all.
            assert await asyncio.to_thread(server.stop) == 0
            await asyncio.to_thread(server.start)

            async with connected(server.address) as client:
                stored = await history(client.bus, name)
            await until(lambda: all(len(m) >= len(stored) for m in received.values()))
            for follower in followers:
                follower.cancel()

    # A poster cancelled during a post may have stored it; all others know the outcome.
    ledger.check(name, stored, unknown=True)
    assert len(stored) <= len(ledger) + 2 * POSTERS
    assert [key for key, n in Counter(m.request_id for m in stored).items() if n > 1] == []
    for messages in received.values():
        assert messages == stored
    assert server.stop() == 0
    with contextlib.closing(sqlite3.connect(server.db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

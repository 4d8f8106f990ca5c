"""Posts in one transaction with what takes away their thread or their sender."""

import asyncio
from pathlib import Path

from bus_server.settings import Settings
from bus_server.store import JoinThread, RegisterAgent
from tests.own_bus import append, opened, running, started
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.thread_pb2 import Thread

THREAD = Thread(name="design", creator="someone")


async def test_a_post_that_is_stored_is_answered_even_if_nobody_is_left_to_see_it(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, running(store, settings) as bus:
        await bus.create_thread(THREAD)
        (done, recipients), _ = await asyncio.gather(
            bus.post_to_recipients(append("design", "last words")), bus.delete_thread("design")
        )
        assert (done.seq, recipients) == (1, [])


async def test_what_an_agent_had_under_way_does_not_bring_it_back_once_unregistered(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, started(store, settings) as parts:
        bus = parts.bus
        await bus.create_thread(THREAD)
        someone = Agent(name="someone", kind=AGENT_KIND_AGENT)
        await parts.agents.register(RegisterAgent(someone, b"hash", claim=False))
        await asyncio.gather(
            parts.agents.unregister("someone"),
            bus.post(append("design", "under way")),
            bus.join_thread(JoinThread(THREAD, False, "someone", False, 0, 0)),
        )
        assert await bus.participants("design", after="", limit=10) == []

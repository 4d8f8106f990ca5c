"""Posts in one transaction with the deletion of their thread or the end of their sender."""

import asyncio
from pathlib import Path

from bus_server.settings import Settings
from bus_server.store import DeleteThread, JoinThread, RegisterAgent
from tests.own_bus import append, opened, running, started
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, Agent
from threadbus.v1.thread_pb2 import Thread

THREAD = Thread(name="design", creator="someone")


async def test_a_stored_post_is_acknowledged_even_if_its_thread_is_deleted_at_once(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, running(store, settings) as bus:
        await bus.create_thread(THREAD)
        (done, recipients), _ = await asyncio.gather(
            bus.post_to_recipients(append("design", "last words")),
            bus.delete_thread(DeleteThread("design")),
        )
        assert (done.seq, recipients) == (1, [])


async def test_calls_in_flight_do_not_restore_an_agent_that_was_unregistered(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db")
    async with opened(settings.db) as store, started(store, settings) as parts:
        bus = parts.bus
        await bus.create_thread(THREAD)
        someone = Agent(name="someone", kind=AGENT_KIND_AGENT)
        await parts.agents.register(RegisterAgent(someone, b"hash", operator=False))
        await asyncio.gather(
            parts.agents.unregister("someone"),
            bus.post(append("design", "under way")),
            bus.join_thread(JoinThread(THREAD, False, "someone", False, 0, 0)),
        )
        assert await bus.participants("design", after="", limit=10) == []

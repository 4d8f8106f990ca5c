"""What is held in memory of agents: it is dropped once the store has it, or no wait needs it."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from bus_server.parts import build
from bus_server.presence.changes import Changes
from bus_server.presence.participant_cache import ParticipantCache
from bus_server.presence.positions import UnsavedPositions
from bus_server.settings import Settings
from bus_server.tail import Tails
from tests.locks import locked
from tests.own_bus import opened, started
from tests.polling import until
from threadbus.v1.agent_pb2 import PRESENCE_IDLE, PRESENCE_LAPSED, PRESENCE_OFFLINE


async def test_an_agent_is_held_until_it_is_offline_and_saved(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "bus.db", checkpoint_interval=3_600)
    async with opened(settings.db) as store, started(store, settings) as parts:
        parts.presence.seen("coder")
        held = parts.presence.statistics()
        assert (held.agents, held.unsaved) == ({PRESENCE_IDLE: 1}, 1)
        await parts.bus.drain()  # writes a checkpoint
        held = parts.presence.statistics()
        assert (held.agents, held.unsaved) == ({PRESENCE_IDLE: 1}, 0)
        await parts.agents.end_session("coder")
        held = parts.presence.statistics()
        assert (held.agents, held.unsaved) == ({PRESENCE_OFFLINE: 1}, 1)
        await parts.bus.drain()
        held = parts.presence.statistics()
        assert (held.agents, held.unsaved) == ({}, 0)


async def test_a_lapsed_agent_is_dropped_with_the_next_checkpoint(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "bus.db", agent_timeout=0.01, checkpoint_interval=3_600)
    async with opened(settings.db) as store, started(store, settings) as parts:
        parts.presence.seen("coder")
        await until(lambda: parts.presence.statistics().agents[PRESENCE_LAPSED] == 1)
        await parts.bus.drain()
        assert parts.presence.statistics().agents == {}


@pytest.mark.sqlite
async def test_state_that_could_not_be_saved_is_held(tmp_path: Path) -> None:
    settings = Settings(db=tmp_path / "bus.db", checkpoint_interval=3_600)
    async with (
        opened(settings.db, busy_timeout=0.01) as store,
        started(store, settings) as parts,
    ):
        await parts.agents.end_session("coder")
        with locked(settings.db):
            await parts.bus.drain()
        held = parts.presence.statistics()
        assert (held.agents, held.unsaved) == ({PRESENCE_OFFLINE: 1}, 1)
        await parts.bus.drain()
        assert parts.presence.statistics().agents == {}


async def test_an_agent_whose_save_fails_after_another_server_saw_it_can_be_dropped(
    tmp_path: Path,
) -> None:
    settings = Settings(db=tmp_path / "bus.db", agent_timeout=0.01, checkpoint_interval=3_600)
    async with opened(settings.db) as store:
        presence = build(store, settings).presence
        presence.seen("coder")
        rows = presence.begin_save()
        later = rows[0].last_seen_time + 1
        presence.merge([dataclasses.replace(rows[0], last_seen_time=later)])
        presence.abort_save(rows)
        await until(lambda: presence.get("coder", PRESENCE_LAPSED) == PRESENCE_LAPSED)
        await asyncio.sleep(0)  # for the timer
        for _ in range(2):
            presence.finish_save(presence.begin_save())
        held = presence.statistics()
        assert (held.agents, held.unsaved) == ({}, 0)


def test_a_position_is_held_until_it_is_saved() -> None:
    positions = UnsavedPositions(Changes())
    positions.raise_to("coder", "design", "epoch", read=1)
    positions.raise_to("coder", "design", "epoch", delivered=2)
    positions.raise_to("coder", "plans", "epoch", read=3)
    assert positions.statistics().unsaved == 2
    positions.begin_save()
    positions.raise_to("coder", "design", "epoch", read=2)
    assert positions.statistics().unsaved == 2
    positions.abort_save()
    assert positions.statistics().unsaved == 2
    assert positions.get("coder", "design", "epoch") == ("epoch", 2, 2, 0)
    positions.begin_save()
    positions.finish_save()
    assert positions.statistics().unsaved == 0


async def test_participants_are_held_until_the_last_wait_on_the_thread_ends() -> None:
    cache, tails = ParticipantCache(Changes()), Tails()
    with cache.watch(["design", "plans"], tails.watch(["design", "plans"])):
        with cache.watch(["design"], tails.watch(["design"])):
            assert cache.statistics().threads == 2
        assert cache.statistics().threads == 2
    assert cache.statistics().threads == 0

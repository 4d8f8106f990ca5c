"""The SDK in threads that lose their oldest messages."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import bus_client.sync
from bus_client import (
    BusClient,
    Cursor,
    CursorLost,
    InvalidArgument,
    MessageFilter,
    MessageNotFound,
    Retention,
    Thread,
    ThreadHandle,
)
from bus_client.retention import NewRetention
from tests.members import contents, member, read_position, take
from tests.polling import until_known
from tests.serving import ServerProcess
from tests.wait_frames import BOUND

#: Of a thread that keeps its two newest entries.
TWO = Retention(max_messages=2)


async def until_first(thread: ThreadHandle, seq: int) -> Thread:
    """Returns the thread once its oldest entry is `seq`."""

    async def known() -> bool:
        return (await thread.refresh()).first_seq == seq

    await until_known(known)
    return thread.info


@asynccontextmanager
async def writing(address: str, thread: str) -> AsyncIterator[ThreadHandle]:
    """The thread, whose retention is TWO, as its creator."""
    async with BusClient(address) as bus, asyncio.timeout(BOUND):
        await bus.create_thread(thread, retention=TWO)
        yield bus.thread(thread)


async def fill(thread: ThreadHandle, *posted: str) -> None:
    """Post messages, and return once only the last two are kept."""
    for each in posted:
        seq = (await thread.post(each)).seq
    await until_first(thread, seq - 1)


# ── Settings ────────────────────────────────────────────────────────────────────────────────────


async def test_a_thread_is_created_with_a_retention(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as bus:
        kept = Retention(max_age=timedelta(days=30), max_messages=100, max_bytes=10_000_000)
        created = await bus.create_thread(name, retention=kept)
        found = created.retention
        assert found.max_age.ToSeconds() == 30 * 86_400
        assert (found.max_messages, found.max_bytes) == (100, 10_000_000)
        thread = bus.thread(name)
        assert (await thread.refresh()).retention == found
        assert (await bus.get_thread(name)).first_seq == 1


async def test_a_retention_is_replaced_as_a_whole_and_given_up(
    server: ServerProcess, name: str
) -> None:
    async with BusClient(server.address) as bus:
        assert not (await bus.create_thread(name)).HasField("retention")
        thread = bus.thread(name)
        changed = await thread.update(retention=Retention(max_age=0.5, max_messages=1_000))
        assert changed.retention.max_age.ToMilliseconds() == 500
        changed = await thread.update(topic="t")
        assert changed.retention.max_messages == 1_000
        changed = await thread.update(retention=Retention(max_bytes=1_000_000))
        assert changed.retention.max_bytes == 1_000_000
        assert not (changed.retention.HasField("max_age") or changed.retention.max_messages)
        everything = await thread.update(retention=Retention())
        assert everything.HasField("retention") and not everything.retention.ByteSize()
        changed = await thread.update(retention="default", stage="s")
        assert not changed.HasField("retention") and changed.stage == "s"
        assert not thread.info.HasField("retention")


@pytest.mark.own_server
async def test_the_servers_default_is_in_its_info(start_server: Any) -> None:
    server = start_server("--retain-age", "30d", "--retain-messages", "7")
    async with BusClient(server.address) as bus:
        default = (await bus.server_info()).default_retention
        assert (default.max_age.ToSeconds(), default.max_messages) == (30 * 86_400, 7)


@pytest.mark.parametrize("age", [0, 0.0, math.inf, 1e12, timedelta(0)])
async def test_no_age_and_an_unlimited_one_are_no_limit(
    server: ServerProcess, name: str, age: float | timedelta
) -> None:
    async with BusClient(server.address) as bus:
        created = await bus.create_thread(name, retention=Retention(max_age=age))
        assert created.HasField("retention")
        assert not created.retention.HasField("max_age")


async def test_the_shortest_age_is_a_limit(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as bus:
        created = await bus.create_thread(name, retention=Retention(max_age=1e-12))
        assert created.retention.max_age.ToNanoseconds() == 1


REFUSED: dict[str, tuple[Any, str]] = {
    "a word": ("forever", "retention"),
    "a number": (30, "retention"),
    "a negative age": (Retention(max_age=-1), "retention.max_age"),
    "a negative timedelta": (Retention(max_age=timedelta(-1)), "retention.max_age"),
    "no number": (Retention(max_age=math.nan), "retention.max_age"),
    "an age in words": (Retention(max_age="30d"), "retention.max_age"),  # type: ignore[arg-type]
    "a negative number": (Retention(max_messages=-1), "retention.max_messages"),
    "a fraction": (Retention(max_messages=1.5), "retention.max_messages"),  # type: ignore[arg-type]
    "a huge size": (Retention(max_bytes=2**63), "retention.max_bytes"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_is_no_retention_is_refused(
    server: ServerProcess, thread: str, what: str
) -> None:
    retention, field = REFUSED[what]
    async with BusClient(server.address) as bus:
        calls = (
            bus.create_thread(f"{thread}-2", retention=retention),
            bus.thread(thread).update(retention=retention, topic="t"),
        )
        for call in calls:
            with pytest.raises(InvalidArgument) as error:
                await call
            assert [name for name, _ in error.value.field_violations] == [field]
        assert not (await bus.get_thread(thread)).topic


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_a_follower_is_told_what_is_gone_and_goes_on(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await writer.post("a")
            assert await take(reader.follow(), 1) == ["a"]
            await reader.acknowledge(1)
        await fill(writer, "b", "c", "d", "e")
        async with member(server.address, name, tmp_path) as reader:
            with pytest.raises(CursorLost) as error:
                await take(reader.follow(), 1)
            lost = error.value
            assert lost.reason == "COMPACTED"
            assert (lost.requested.after_seq, lost.position.after_seq) == (1, 3)
            assert f"Messages 2 to 3 of thread '{name}' are not kept any more" in str(lost)
            assert "after seq 3" in str(lost) and lost.hint
            assert reader.position == lost.position
            assert await take(reader.follow(), 2) == ["d", "e"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["follow", "wait", "several", "wait-several", "inbox", "all"])
async def test_an_agent_that_was_told_is_not_told_again(
    server: ServerProcess, name: str, tmp_path: Path, how: str
) -> None:
    agent = f"{name}-reader"

    async def read(bus: BusClient) -> list[str]:
        match how:
            case "follow":
                return await take((await bus.join(name)).follow(), 1)
            case "several":
                return await take(bus.follow([name]), 1)
            case "inbox" | "all":
                return await take(bus.inbox(addressed=how == "inbox"), 1)
            case "wait":
                found = await (await bus.join(name)).wait(timeout=0)
            case _:
                found = await bus.wait([name], timeout=0)
        return contents(found)[:1]

    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await writer.post("a")
            await reader.acknowledge(1)
        for each in "bcde":
            await writer.post(each, mentions=[agent])
        await until_first(writer, 4)
        told, goes_on = (
            BusClient(server.address, agent=agent, credentials=tmp_path / "credentials.json")
            for _ in range(2)
        )
        async with told as bus:
            with pytest.raises(CursorLost) as lost:
                await read(bus)
            assert (lost.value.requested.after_seq, lost.value.position.after_seq) == (1, 3)
            if how not in ("follow", "wait"):  # those have a handle that goes on
                assert await read(bus) == ["d"]
        async with goes_on as bus:
            assert await read(bus) == ["d"]


@pytest.mark.slow
async def test_a_reader_of_an_emptied_thread_is_told_once(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await fill(writer, "a", "b", "c")
            await writer.update(retention=Retention(max_age=1e-9))  # the entry about it goes, too
            await until_first(writer, 5)
            with pytest.raises(CursorLost):
                await reader.wait(timeout=0)
        async with member(server.address, name, tmp_path) as reader:
            assert reader.position.after_seq == 4
            assert await reader.wait(timeout=0) == []


@pytest.mark.slow
async def test_with_continue_nothing_is_raised_and_positions_move(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await fill(writer, "a", "b", "c", "d")
            following = reader.follow(on_resync="continue")
            assert await take(following, 1) == ["c"]
            assert reader.position.after_seq == 2
            assert await take(following, 1) == ["d"]
            assert reader.position.after_seq == 3
        assert await read_position(server.address, name, tmp_path) == 3


@pytest.mark.slow
async def test_a_wait_that_continues_returns_what_is_kept(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await fill(writer, "a", "b", "c", "d")
            found = await reader.wait(timeout=0, on_resync="continue")
            assert contents(found) == ["c", "d"]
            assert reader.position.after_seq == 2
            reader.unread()
            assert contents(await reader.wait(timeout=0)) == ["c", "d"]
            await reader.acknowledge()
        assert await read_position(server.address, name, tmp_path) == 4


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"acknowledge": False}, {"observe": True}])
async def test_without_acknowledging_nothing_is_reported(
    server: ServerProcess, name: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    agent = f"{name}-reader"
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await reader.acknowledge()
        await fill(writer, "a", "b", "c", "d")
        async with BusClient(
            server.address, agent=agent, credentials=tmp_path / "credentials.json", heartbeats=False
        ) as bus:
            for _ in range(2):
                with pytest.raises(CursorLost):
                    await bus.wait(timeout=0, **options)
            for _ in range(2):
                found = await bus.wait(timeout=0, on_resync="continue", **options)
                assert contents(found) == ["c", "d"]
            with pytest.raises(CursorLost) as lost:
                await anext(bus.inbox(addressed=False, **options))
            positions = [lost.value.position]
            inbox = bus.inbox(addressed=False, positions=positions, **options)
            assert await take(inbox, 2) == ["c", "d"]
        assert await read_position(server.address, name, tmp_path) == 0


@pytest.mark.slow
async def test_what_a_filter_hid_is_read_once_it_is_gone(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    async with writing(server.address, name) as writer:
        async with member(server.address, name, tmp_path) as reader:
            await writer.update(retention=Retention())
            await writer.post("a")
            await writer.post("b", mentions=[f"{name}-reader"])
            mine = MessageFilter(addressed_to_me=True)
            found = await reader.wait(timeout=0, filter=mine)
            assert contents(found) == ["b"]
            await reader.acknowledge()
            assert (reader.position.after_seq, reader.passed_over) == (0, 3)
            await writer.update(retention=TWO)
            await fill(writer, "c", "d", "e")
            found = await reader.wait(timeout=0, filter=mine, on_resync="continue")
            assert found == []
            await reader.acknowledge()
            assert (reader.position.after_seq, reader.passed_over) == (5, 7)
        assert await read_position(server.address, name, tmp_path) == 5


@pytest.mark.slow
async def test_lists_begin_at_the_oldest_message_that_is_kept(
    server: ServerProcess, name: str
) -> None:
    async with writing(server.address, name) as writer:
        await fill(writer, "a", "b", "c", "d")
        assert contents(await writer.messages()) == ["c", "d"]
        assert contents(await writer.messages(after_seq=1, limit=1)) == ["c"]
        assert contents(await writer.messages(newest=True, limit=9)) == ["c", "d"]
        assert await writer.messages(before_seq=3) == []
        with pytest.raises(MessageNotFound, match="oldest is 3"):
            await writer.message(2)
        assert (await writer.post("e", reply_to=1)).seq == 5
        async with BusClient(server.address) as bus:
            joined = await bus.join(name, start="first", context_limit=10)
            assert joined.position.after_seq == joined.info.first_seq - 1
            joined = await bus.join(name, context_limit=10)
            assert joined.context[-1].content == "e"


@pytest.mark.slow
async def test_the_sync_client_knows_retention(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    def use() -> None:
        with bus_client.sync.BusClient(server.address) as bus:
            created = bus.create_thread(name, retention=TWO)
            assert created.retention.max_messages == 2
            thread = bus.thread(name)
            settings: NewRetention = Retention(max_messages=1)
            assert thread.update(retention=settings).retention.max_messages == 1
            assert not thread.update(retention="default").HasField("retention")
            thread.update(retention=TWO)
            for each in "abc":
                thread.post(each)

    await asyncio.to_thread(use)
    async with BusClient(server.address) as bus:
        await until_first(bus.thread(name), 5)

    def read() -> None:
        with bus_client.sync.BusClient(server.address) as bus:
            thread = bus.thread(name)
            thread.position = Cursor(thread=name, after_seq=1)
            with pytest.raises(CursorLost) as lost:
                thread.wait(timeout=0)
            assert lost.value.reason == "COMPACTED"
            thread.position = Cursor(thread=name, after_seq=1)
            found = thread.wait(timeout=0, on_resync="continue")
            assert [each.seq for each in found] == [5, 6]

    await asyncio.to_thread(read)

"""BusClient.join: joining a thread, and where reading resumes."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest

from bus_client import BusClient, Cursor, InvalidArgument, ThreadHandle, ThreadNotFound
from tests.members import contents, member, read_position, take
from tests.peers import Peer
from tests.serving import BusStub, ServerProcess


async def test_joining_creates_a_missing_thread(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as bus:
        first = await bus.join(name, topic="what it is about")
        second = await bus.join(name, topic="nobody listens")
    assert (first.created, second.created) == (True, False)
    for joined in (first, second):
        assert (joined.name, joined.info.name) == (name, name)
        assert joined.info.topic == "what it is about"
        assert joined.position == Cursor(thread=name, after_seq=0, epoch=joined.info.epoch)


async def test_joining_creates_nothing_with_create_off(server: ServerProcess, name: str) -> None:
    async with BusClient(server.address) as bus:
        with pytest.raises(ThreadNotFound, match=name):
            await bus.join(name, create=False)
        with pytest.raises(ThreadNotFound):
            await bus.get_thread(name)


async def test_an_invalid_name_is_refused_with_its_field(server: ServerProcess) -> None:
    async with BusClient(server.address) as bus:
        with pytest.raises(InvalidArgument) as refused:
            await bus.join("no name")
    assert [field for field, _ in refused.value.field_violations] == ["thread"]


@pytest.mark.parametrize(
    ("start", "context", "position"), [("head", ["b", "c"], 3), ("first", [], 0)]
)
async def test_a_newcomer_starts_at_the_head_or_at_the_first_message(
    server: ServerProcess,
    bus: BusStub,
    thread: str,
    tmp_path: Path,
    start: Literal["head", "first"],
    context: list[str],
    position: int,
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    credentials = tmp_path / "credentials.json"
    async with BusClient(server.address, agent=thread, credentials=credentials) as client:
        joined = await client.join(thread, start=start, context_limit=2)
        assert contents(joined.context) == context
        assert joined.position.after_seq == position
        # An agent that was in the thread continues from its position, whatever `start` says.
        again = await client.join(thread, start="head")
        assert again.position == joined.position
        assert again.context == []


async def by_following(thread: ThreadHandle) -> None:
    messages = thread.follow()
    assert await take(messages, 3) == ["a", "b", "c"]  # asked for the third: two are read
    await messages.aclose()


async def by_waiting_twice(thread: ThreadHandle) -> None:
    assert contents(await thread.wait(timeout=10, max_messages=2)) == ["a", "b"]
    assert contents(await thread.wait(timeout=10, max_messages=1)) == ["c"]


async def by_acknowledging(thread: ThreadHandle) -> None:
    await thread.acknowledge(2)


async def by_acknowledging_a_wait(thread: ThreadHandle) -> None:
    await thread.wait(timeout=10, max_messages=2)
    await thread.acknowledge()


async def by_based_on_seq(thread: ThreadHandle) -> None:
    await thread.post("I have read two", based_on_seq=2)


@pytest.mark.parametrize(
    "read_two",
    [
        by_following,
        by_waiting_twice,
        by_acknowledging,
        by_acknowledging_a_wait,
        by_based_on_seq,
    ],
)
async def test_an_agent_that_rejoins_resumes_after_what_it_has_read(
    server: ServerProcess,
    bus: BusStub,
    thread: str,
    tmp_path: Path,
    read_two: Callable[[ThreadHandle], Awaitable[None]],
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with member(server.address, thread, tmp_path) as joined:
        await read_two(joined)
    async with member(server.address, thread, tmp_path) as joined:
        assert joined.position.after_seq == 2
        assert await take(joined.follow(), 1) == ["c"]


async def test_an_acknowledged_position_is_known_at_once(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with member(server.address, thread, tmp_path) as joined:
        for seq in (1, 3):
            await joined.acknowledge(seq)
            assert joined.position.after_seq == seq
            assert await read_position(server.address, thread, tmp_path) == seq
        await joined.acknowledge(2)  # the position is not moved back
        assert joined.position.after_seq == 3
        assert await read_position(server.address, thread, tmp_path) == 3


async def test_reading_pages_moves_no_position(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with member(server.address, thread, tmp_path) as joined:
        assert len(await joined.messages()) == 2
        await joined.message(2)
        await joined.acknowledge()
        assert joined.position.after_seq == 0
    assert await read_position(server.address, thread, tmp_path) == 0


async def test_each_agent_has_a_position_of_its_own(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with (
        member(server.address, thread, tmp_path, role="one") as one,
        member(server.address, thread, tmp_path, role="two") as two,
    ):
        await one.acknowledge(2)
        assert (one.position.after_seq, two.position.after_seq) == (2, 0)
    assert await read_position(server.address, thread, tmp_path, role="two") == 0


async def test_a_handle_that_did_not_join_learns_its_position_when_it_reads(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    credentials = tmp_path / "credentials.json"
    async with member(server.address, thread, tmp_path) as joined:
        await joined.acknowledge(1)
    async with BusClient(
        server.address, agent=f"{thread}-reader", credentials=credentials
    ) as client:
        handle = client.thread(thread)
        assert (handle.position, handle.created, handle.context) == (
            Cursor(thread=thread),
            False,
            [],
        )
        assert await take(handle.follow(), 1) == ["b"]
        assert handle.position == Cursor(
            thread=thread, after_seq=1, epoch=(await handle.refresh()).epoch
        )


@pytest.mark.parametrize("read", ["follow", "wait"])
async def test_reading_a_missing_thread_creates_none(
    server: ServerProcess, name: str, read: str
) -> None:
    async with BusClient(server.address) as bus:
        handle = bus.thread(name)
        for _ in range(2):
            with pytest.raises(ThreadNotFound):
                await (anext(handle.follow()) if read == "follow" else handle.wait(timeout=0))


async def test_a_position_can_be_set(server: ServerProcess, bus: BusStub, thread: str) -> None:
    await Peer(bus).post_all(thread, "a", "b", "c")
    async with BusClient(server.address) as client:
        joined = await client.join(thread)
        assert await joined.wait(timeout=0) == []
        joined.position = Cursor(thread=thread, after_seq=1)
        assert contents(await joined.wait(timeout=0)) == ["b", "c"]
        joined.position = Cursor(thread=thread)
        assert contents(await joined.wait(timeout=0)) == ["a", "b", "c"]

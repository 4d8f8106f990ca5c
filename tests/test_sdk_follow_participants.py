"""follow() with participants: messages and updates from one wait, of one thread or several."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from bus_client import (
    BusClient,
    CursorLost,
    Message,
    MessageKind,
    Participant,
    ParticipantUpdate,
    ProtocolError,
    ThreadState,
)
from bus_client.sync import BusClient as BlockingClient
from tests.conftest import StartServer
from tests.members import contents, member, read_position, take
from tests.peers import Peer, recreate
from tests.polling import until
from tests.relay import relay_to
from tests.script import (
    EPOCH,
    THREAD,
    asked_from,
    batch,
    last_batch,
    scripted,
    started,
)
from tests.serving import BusStub, ServerProcess, ThreadStub
from tests.test_sdk_participants import BROKEN, CODER, REVIEWER, update
from tests.wait_frames import BOUND
from threadbus.v1.bus_service_pb2 import WaitMessagesRequest, WaitMessagesResponse
from threadbus.v1.message_pb2 import Cursor

Items: TypeAlias = AsyncGenerator[Message | ParticipantUpdate]


class Room:
    """What a program knows of a thread from the items of a follow()."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self.messages: list[str] = []
        self.updates: list[ParticipantUpdate] = []
        self.participants: dict[str, set[str]] = {}

    async def until(self, done: Callable[[], bool]) -> None:
        """Take items until `done` returns true."""
        async with asyncio.timeout(BOUND):
            while not done():
                item = await anext(self._items)
                if isinstance(item, Message):
                    self.messages.append(item.content)
                    continue
                self.updates.append(item)
                names = self.participants.setdefault(item.thread, set())
                names |= {participant.agent for participant in item.participants}
                names -= set(item.left)

    async def until_there(self, thread: str, *agents: str) -> None:
        """Take items until the thread has exactly these participants."""
        await self.until(lambda: self.participants.get(thread) == set(agents))

    async def until_read(self, *texts: str) -> None:
        """Take items until as many messages have come, which must be these."""
        await self.until(lambda: len(self.messages) >= len(texts))
        assert self.messages == [*texts]


def followed(bus: BusClient, names: list[str]) -> Items:
    """Follows threads with participants: a single one by its handle."""
    if len(names) > 1:
        return bus.follow(names, include_participants=True)
    return bus.thread(names[0]).follow(include_participants=True)


@pytest.fixture(params=[1, 2], ids=["one", "several"])
async def names(request: pytest.FixtureRequest, server: ServerProcess, thread: str) -> list[str]:
    """The names of one thread, or of two."""
    found = [thread, f"{thread}.other"][: request.param]
    async with BusClient(server.address) as bus:
        for name in found[1:]:
            await bus.create_thread(name)
    return found


one_or_several = pytest.mark.parametrize("scripted_names", [[THREAD], [THREAD, "other"]])


@pytest.mark.slow
async def test_all_participants_come_first_then_messages_and_changes(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "a", "b")
    async with (
        member(server.address, thread, tmp_path) as reader,
        contextlib.aclosing(reader.follow(include_participants=True)) as items,
    ):
        first = await anext(items)
        assert isinstance(first, ParticipantUpdate)
        assert [found.agent for found in first.participants] == [f"{thread}-reader"]
        room = Room(items)
        await room.until_read("a", "b")
        async with member(server.address, thread, tmp_path, role="writer") as writer:
            await writer.post("c")
            await room.until(lambda: f"{thread}-writer" in room.participants.get(thread, ()))
            await room.until_read("a", "b", "c")
            await writer.leave()
            await room.until(lambda: any(f"{thread}-writer" in told.left for told in room.updates))


@pytest.mark.slow
async def test_a_message_counts_as_read_when_the_next_item_is_requested(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post(thread, "a")
    async with member(server.address, thread, tmp_path) as reader:
        async with contextlib.aclosing(reader.follow(include_participants=True)) as items:
            room = Room(items)
            await room.until_read("a")
            assert reader.position.after_seq == 0
        # The loop was left at a message: it comes again.
        async with contextlib.aclosing(reader.follow(include_participants=True)) as items:
            room = Room(items)
            await room.until_read("a")
            before = len(room.updates)
            async with member(server.address, thread, tmp_path, role="writer"):
                await room.until(lambda: len(room.updates) > before)
            assert room.messages == ["a"]
            assert reader.position.after_seq == 1
            await Peer(bus).post(thread, "b")
        # It was left at an update: what was read stays read, and nothing else is.
        assert reader.position.after_seq == 1
        assert await take(reader.follow(), 1) == ["b"]
    assert await read_position(server.address, thread, tmp_path) == 1


async def test_updates_move_no_read_position(
    server: ServerProcess, bus: BusStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post(thread, "a")
    async with member(server.address, thread, tmp_path) as reader:
        async with contextlib.aclosing(reader.follow(include_participants=True)) as items:
            assert isinstance(await anext(items), ParticipantUpdate)
        assert reader.position.after_seq == 0
        assert contents(await reader.wait(timeout=BOUND)) == ["a"]


async def test_a_cancelled_anext_loses_no_update() -> None:
    gate = asyncio.Event()
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", started(), gate, update(CODER), batch(1), asyncio.Event())
        items = bus.thread(THREAD).follow(include_participants=True)
        async with contextlib.aclosing(items), asyncio.timeout(BOUND):
            coming = asyncio.ensure_future(anext(items))
            await until(lambda: bool(script.asked(WaitMessagesRequest)))
            coming.cancel()
            await asyncio.wait([coming])
            gate.set()
            room = Room(items)
            await room.until_read("1")
            assert room.updates == [update(CODER).participants]
            assert asked_from(script) == [0]


@pytest.mark.slow
async def test_several_threads_are_followed_with_their_participants(
    server: ServerProcess, name: str, tmp_path: Path
) -> None:
    one, two = both = [f"{name}.{suffix}" for suffix in "ab"]
    agent = f"{name}-reader"
    async with BusClient(server.address) as creator:
        for each in both:
            await creator.create_thread(each)
    async with (
        BusClient(server.address, agent=agent, credentials=tmp_path / "r.json") as bus,
        contextlib.aclosing(bus.follow(both, include_participants=True)) as items,
    ):
        room = Room(items)
        await room.until_there(one, agent)
        await room.until_there(two, agent)
        async with member(server.address, two, tmp_path, role="writer") as writer:
            await writer.post("in the second")
            await room.until_there(two, agent, f"{two}-writer")
            await room.until_read("in the second")
            await writer.leave()
            await room.until_there(two, agent)
        assert room.participants[one] == {agent}


async def test_after_a_reconnect_all_come_again_without_those_that_left(
    server: ServerProcess, thread: str, names: list[str], tmp_path: Path
) -> None:
    async with (
        relay_to(server.address) as relay,
        BusClient(relay.address, agent=thread, credentials=tmp_path / "r.json") as bus,
        member(server.address, thread, tmp_path, role="writer") as writer,
        contextlib.aclosing(followed(bus, names)) as items,
    ):
        room = Room(items)
        await room.until_there(thread, thread, f"{thread}-writer")
        relay.refusing = True
        relay.cut()
        await writer.post("meanwhile")
        await writer.leave()
        relay.refusing = False
        await room.until_there(thread, thread)
        await room.until_read("meanwhile")


@one_or_several
async def test_the_first_update_of_a_stream_names_those_that_left(
    scripted_names: list[str],
) -> None:
    crowd = [Participant(agent=f"agent-{number:04}") for number in range(1_001)]
    positioned = started()
    positioned.started.threads.add().cursor.CopyFrom(Cursor(thread=THREAD, epoch=EPOCH))
    last = last_batch(2)[1:]
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", positioned, update(CODER, REVIEWER), batch(1), BROKEN)
        script.answer("WaitMessages", positioned, update(*crowd[:1_000]), update(crowd[-1]), BROKEN)
        script.answer("WaitMessages", positioned, update(*crowd[1:]), update(CODER), *last)
        items = followed(bus, scripted_names)
        updates = [item async for item in items if isinstance(item, ParticipantUpdate)]
        # More may follow after an update with 1,000.
        assert [[*told.left] for told in updates] == [
            [],
            [],
            ["coder", "reviewer"],
            [],
            ["agent-0000"],
        ]


@pytest.mark.slow
async def test_a_follow_goes_on_with_participants_though_the_server_is_killed(
    start_server: StartServer, name: str, tmp_path: Path
) -> None:
    server = start_server()
    async with (
        member(server.address, name, tmp_path) as reader,
        member(server.address, name, tmp_path, role="writer") as writer,
        contextlib.aclosing(reader.follow(include_participants=True)) as items,
    ):
        room = Room(items)
        await room.until_there(name, f"{name}-reader", f"{name}-writer")
        await writer.post("before")
        await room.until_read("before")
        server.kill()
        await asyncio.to_thread(server.start)
        await writer.post("after")
        await writer.leave()
        await room.until_there(name, f"{name}-reader")
        await room.until_read("before", "after")


@pytest.mark.slow
async def test_a_lost_position_is_raised_or_passed_as_without_participants(
    server: ServerProcess, bus: BusStub, threads: ThreadStub, thread: str, tmp_path: Path
) -> None:
    await Peer(bus).post_all(thread, "old", "older")
    async with member(server.address, thread, tmp_path) as reader:
        await reader.acknowledge(2)
        lost = reader.position
        await recreate(threads, thread)
        await Peer(bus).post_all(thread, "new", "newer", "newest")
        with pytest.raises(CursorLost):
            await anext(reader.follow(include_participants=True))
        assert reader.position.after_seq == 0
        reader.position = lost
        items = reader.follow(on_resync="continue", include_participants=True)
        async with contextlib.aclosing(items):
            room = Room(items)
            await room.until_read("new", "newer", "newest")
            async with member(server.address, thread, tmp_path, role="writer"):
                await room.until(lambda: f"{thread}-writer" in room.participants.get(thread, ()))


async def test_it_ends_when_the_threads_are_closed(
    server: ServerProcess, bus: BusStub, thread: str, names: list[str], tmp_path: Path
) -> None:
    credentials = tmp_path / "credentials.json"
    async with (
        BusClient(server.address, agent=thread, credentials=credentials) as reader,
        BusClient(server.address) as owner,
        asyncio.timeout(BOUND),
    ):
        for name in names:
            await reader.join(name)
            await Peer(bus).post(name, "last")
            await owner.thread(name).set_state(ThreadState.THREAD_STATE_CLOSED)
        found = [item async for item in followed(reader, names)]
        for name in names:
            first, *others = [item for item in found if item.thread == name]
            assert isinstance(first, ParticipantUpdate)
            assert [item.kind for item in others if isinstance(item, Message)] == [
                MessageKind.MESSAGE_KIND_CHAT,
                MessageKind.MESSAGE_KIND_THREAD,
            ]


@one_or_several
async def test_participants_of_another_thread_are_an_error(scripted_names: list[str]) -> None:
    elsewhere = WaitMessagesResponse(participants=ParticipantUpdate(thread="elsewhere"))
    async with scripted() as script, BusClient(script.address) as bus:
        script.answer("WaitMessages", started(), batch(1), elsewhere, asyncio.Event())
        room = Room(followed(bus, scripted_names))
        await room.until_read("1")
        with pytest.raises(ProtocolError):
            await room.until_read("1", "2")


async def test_participants_that_were_not_requested_are_skipped() -> None:
    frames = [started(), update(CODER), *last_batch(1)[1:]]
    async with scripted() as script, BusClient(script.address) as bus, asyncio.timeout(BOUND):
        script.answer("WaitMessages", *frames)
        assert contents([item async for item in bus.thread(THREAD).follow()]) == ["1"]
        script.answer("WaitMessages", *frames)
        assert contents([item async for item in bus.follow([THREAD])]) == ["1"]
        assert not any(asked.include_participants for asked in script.asked(WaitMessagesRequest))


@pytest.mark.slow
async def test_the_participants_of_many_threads_do_not_delay_messages() -> None:
    crowd = [f"thread-{number}" for number in range(1_000)]
    told = [ParticipantUpdate(thread=each, participants=[CODER]) for each in crowd] * 2
    message = batch(1)
    message.messages.cursor.thread = message.messages.messages[0].thread = crowd[0]
    async with scripted() as script, BusClient(script.address) as bus:
        frames = [WaitMessagesResponse(participants=each) for each in told]
        script.answer("WaitMessages", started(), *frames, message, asyncio.Event())
        async with contextlib.aclosing(followed(bus, crowd)) as items:
            assert isinstance(await anext(items), ParticipantUpdate)  # all are joined
            await Room(items).until_read("1")


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True])
def test_a_blocking_follow_yields_both_kinds(
    server: ServerProcess, name: str, tmp_path: Path, several: bool
) -> None:
    credentials = tmp_path / "credentials.json"
    with (
        BlockingClient(server.address, agent=f"{name}-r", credentials=credentials) as reader,
        BlockingClient(server.address, agent=f"{name}-w", credentials=credentials) as writer,
    ):
        reader.join(name)
        if several:
            items = reader.follow([name], include_participants=True)
        else:
            items = reader.thread(name).follow(include_participants=True)
        with contextlib.closing(items):
            first = next(items)
            assert isinstance(first, ParticipantUpdate)
            assert [found.agent for found in first.participants] == [f"{name}-r"]
            writer.join(name).post("one")
            seen: set[str] = set()
            texts: list[str] = []
            while not (texts and f"{name}-w" in seen):
                item = next(items)
                if isinstance(item, Message):
                    texts.append(item.content)
                else:
                    seen |= {found.agent for found in item.participants}
            assert texts == ["one"]

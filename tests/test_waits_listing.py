"""ListWaits: who waits on which threads, and since when; for operators only."""

import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.callers import Caller, operator
from tests.conftest import StartServer
from tests.peers import Peer, registered
from tests.polling import until_known
from tests.refusals import refused
from tests.serving import AdminStub, AgentStub, BusStub, ServerProcess, ThreadStub
from tests.wait_frames import Frames
from threadbus.v1.admin_service_pb2 import ListWaitsRequest, ListWaitsResponse, Wait
from threadbus.v1.admin_service_pb2_grpc import AdminServiceStub
from threadbus.v1.bus_service_pb2_grpc import BusServiceStub
from threadbus.v1.message_pb2 import Cursor
from threadbus.v1.thread_service_pb2 import CreateThreadRequest, DeleteThreadRequest
from threadbus.v1.thread_service_pb2_grpc import ThreadServiceStub


@pytest.fixture
def boss(server: ServerProcess) -> Caller:
    """The operator."""
    return operator(server)


@pytest.fixture
async def agent(agents: AgentStub, bus: BusStub) -> Peer:
    """A newly registered agent."""
    return await registered(agents, bus, "coder")


async def page(admin: AdminStub, boss: Caller, **fields: Any) -> ListWaitsResponse:
    return await admin.ListWaits(ListWaitsRequest(**fields), metadata=boss.metadata)


async def listed(admin: AdminStub, boss: Caller, **fields: Any) -> Sequence[Wait]:
    answer = await page(admin, boss, **fields)
    assert answer.next_page_token == ""
    return answer.waits


async def until_gone(admin: AdminStub, boss: Caller, **fields: Any) -> None:
    async def gone() -> bool:
        return not await listed(admin, boss, **fields)

    await until_known(gone)


@contextlib.asynccontextmanager
async def open_wait(peer: Peer, *threads: Cursor | str, **fields: Any) -> AsyncIterator[Frames]:
    """A wait that has caught up on all its threads."""
    async with peer.wait(*threads, **fields) as frames:
        for _ in threads:
            await frames.until("caught_up")
        yield frames


async def test_an_open_wait_is_listed_with_its_agent_cursors_and_start_time(
    admin: AdminStub, boss: Caller, bus: BusStub, threads: ThreadStub, agent: Peer, name: str
) -> None:
    names = [f"{name}-b", f"{name}-a"]
    created = [await threads.CreateThread(CreateThreadRequest(thread=one)) for one in names]
    await Peer(bus).post_all(names[0], "1", "2")
    before = time.time()
    async with open_wait(agent, Cursor(thread=names[0], after_seq=1), names[1]):
        (wait,) = await listed(admin, boss, agent=agent.name)
    assert wait.agent == agent.name
    assert list(wait.threads) == [
        Cursor(thread=answer.thread.name, after_seq=seq, epoch=answer.thread.epoch)
        for answer, seq in zip(created, (2, 0), strict=True)
    ]
    assert before - 0.01 < wait.start_time.ToMicroseconds() / 1e6 < time.time() + 0.01


async def test_only_an_operator_may_list_waits(
    admin: AdminStub, agent: Peer, bus: BusStub, thread: str
) -> None:
    for peer in (agent, Peer(bus)):
        for request in (
            ListWaitsRequest(),
            ListWaitsRequest(agent=agent.name),
            ListWaitsRequest(thread=thread),
            ListWaitsRequest(agent="No name"),
        ):
            refusal = await refused(admin.ListWaits(request, metadata=peer.metadata))
            assert (refusal.code, refusal.reason) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "ACCESS_DENIED",
            )


async def test_waits_are_listed_by_agent_and_by_thread(
    admin: AdminStub, boss: Caller, bus: BusStub, agents: AgentStub, threads: ThreadStub,
    agent: Peer, name: str,
) -> None:  # fmt: skip
    another, anyone = await registered(agents, bus, "another"), Peer(bus)
    one, two = f"{name}-1", f"{name}-2"
    for thread in (one, two):
        await threads.CreateThread(CreateThreadRequest(thread=thread))

    async def found(**fields: str) -> list[tuple[str, list[str]]]:
        return [
            (wait.agent, [cursor.thread for cursor in wait.threads])
            for wait in await listed(admin, boss, **fields)
        ]

    async with (
        open_wait(agent, one),
        open_wait(another, one),
        open_wait(agent, two, one),
        open_wait(anyone, two),
        open_wait(Peer(bus, boss), two),
    ):
        its, both = (agent.name, [one]), (agent.name, [two, one])
        others, anybodys = (another.name, [one]), ("anonymous", [two])
        assert await found(agent=agent.name) == [its, both]
        assert await found(thread=one) == [its, others, both]
        assert await found(thread=two) == [both, anybodys, ("operator", [two])]
        assert await found(agent=agent.name, thread=two) == [both]
        assert await found(agent="anonymous", thread=two) == [anybodys]
        assert await found(agent="operator") == [("operator", [two])]
        assert await found(agent=another.name, thread=two) == []
        assert await found(agent="nobody") == []
        assert await found(thread="unknown") == []


async def test_listed_cursors_move_with_messages_sent(
    admin: AdminStub, boss: Caller, bus: BusStub, agent: Peer, thread: str
) -> None:
    async with open_wait(agent, thread) as frames:
        for seq in range(1, 4):
            await Peer(bus).post(thread)
            await frames.messages(1)
            (wait,) = await listed(admin, boss, thread=thread)
            assert [cursor.after_seq for cursor in wait.threads] == [seq]


async def test_the_longest_wait_comes_first_and_pages_follow_on_each_other(
    admin: AdminStub, boss: Caller, agent: Peer, thread: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(7):
            await stack.enter_async_context(open_wait(agent, thread))
        whole = await listed(admin, boss, thread=thread)
        since = [wait.start_time.ToMicroseconds() for wait in whole]
        assert since == sorted(set(since))
        waits: list[Wait] = []
        token = ""
        for expected in (3, 3, 1):
            answer = await page(admin, boss, thread=thread, page_size=3, page_token=token)
            assert len(answer.waits) == expected
            waits += answer.waits
            token = answer.next_page_token
        assert (waits, token) == (list(whole), "")
        assert list(await listed(admin, boss, thread=thread, page_size=7)) == waits


async def test_a_wait_that_ends_between_two_pages_hides_no_other(
    admin: AdminStub, boss: Caller, agent: Peer, thread: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_wait(agent, thread)) for _ in range(4)]
        whole = await listed(admin, boss, thread=thread)
        first = await page(admin, boss, thread=thread, page_size=2)
        for frames in opened[:2]:
            frames.cancel()

        async def ended() -> bool:
            return list(await listed(admin, boss, thread=thread)) == list(whole[2:])

        await until_known(ended)
        rest = await listed(admin, boss, thread=thread, page_token=first.next_page_token)
        assert list(rest) == list(whole[2:])


@pytest.mark.parametrize("how", ["cancelled", "max_messages", "thread_deleted"])
async def test_a_wait_that_ended_is_not_listed(
    admin: AdminStub,
    boss: Caller,
    bus: BusStub,
    threads: ThreadStub,
    agent: Peer,
    thread: str,
    how: str,
) -> None:
    limit = 1 if how == "max_messages" else 0
    async with open_wait(agent, thread, max_messages=limit) as frames:
        assert len(await listed(admin, boss, agent=agent.name)) == 1
        if how == "cancelled":
            frames.cancel()
        elif how == "max_messages":
            await Peer(bus).post(thread)
            await frames.ending()
        else:
            await threads.DeleteThread(DeleteThreadRequest(thread=thread))
            assert (await refused(frames.failure())).reason == "THREAD_NOT_FOUND"
        await until_gone(admin, boss, agent=agent.name)


async def test_a_refused_wait_is_never_listed(
    admin: AdminStub, boss: Caller, agent: Peer, thread: str
) -> None:
    assert (await refused(agent.read(thread, "unknown"))).reason == "THREAD_NOT_FOUND"
    await until_gone(admin, boss, agent=agent.name)


@pytest.mark.slow
async def test_pages_of_waits_on_a_thousand_threads_fit_every_client(
    admin: AdminStub, boss: Caller, threads: ThreadStub, agent: Peer, name: str
) -> None:
    names = [f"{name}-{n}".ljust(128, "x") for n in range(1_000)]
    for thread in names:
        await threads.CreateThread(CreateThreadRequest(thread=thread))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(30):
            await stack.enter_async_context(agent.wait(*names))

        async def all_open() -> bool:
            found, token = 0, ""
            while True:
                answer = await page(admin, boss, agent=agent.name, page_token=token)
                assert answer.ByteSize() < 4 * 1024 * 1024
                assert all(len(wait.threads) in (0, 1_000) for wait in answer.waits)
                found += len([wait for wait in answer.waits if wait.threads])
                token = answer.next_page_token
                if not token:
                    return found == 30

        await until_known(all_open)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listen", "pattern"),
    [
        ("127.0.0.1:0", r"127\.0\.0\.1:\d+"),
        ("[::1]:0", r"\[::1\]:\d+"),
        ("unix:{}/bus.sock", "unix"),
    ],
    ids=["tcp", "ipv6", "unix"],
)
async def test_a_wait_is_listed_with_its_address(
    start_server: StartServer, tmp_path: Path, listen: str, pattern: str
) -> None:
    server = start_server(listen=listen.format(tmp_path))
    async with grpc.aio.insecure_channel(server.address) as channel:
        bus: BusStub = BusServiceStub(channel)
        admin: AdminStub = AdminServiceStub(channel)
        threads: ThreadStub = ThreadServiceStub(channel)
        await threads.CreateThread(CreateThreadRequest(thread="design"))
        async with open_wait(Peer(bus), "design"), open_wait(Peer(bus), "design"):
            found = await listed(admin, operator(server))
    assert len(found) == 2
    assert len({wait.peer for wait in found}) == 1, "they share a connection"
    assert re.fullmatch(pattern, found[0].peer)

"""ListThreads: filters, order and pages."""

import asyncio
from typing import Any

import pytest

from tests.callers import Caller, register
from tests.serving import AgentStub, BusStub, ThreadStub
from threadbus.v1.agent_service_pb2 import ListAgentsRequest, RegisterAgentRequest
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.thread_pb2 import (
    THREAD_STATE_ARCHIVED,
    THREAD_STATE_CLOSED,
    THREAD_STATE_OPEN,
    THREAD_STATE_UNSPECIFIED,
    Thread,
    ThreadState,
)
from threadbus.v1.thread_service_pb2 import (
    CreateThreadRequest,
    DeleteThreadRequest,
    GetThreadRequest,
    JoinThreadRequest,
    ListThreadsRequest,
    ListThreadsResponse,
    SetThreadStateRequest,
)

LARGE_LABELS = {f"{n:063}": "x" * 256 for n in range(32)}


async def create(threads: ThreadStub, *names: str, **fields: Any) -> None:
    """Create threads in this order."""
    for name in names:
        await threads.CreateThread(CreateThreadRequest(thread=name, **fields))


async def post(bus: BusStub, thread: str, by: Caller | None = None, **fields: Any) -> None:
    request = PostMessageRequest(thread=thread, content="x", **fields)
    await bus.PostMessage(request, metadata=by.metadata if by else ())


async def names_of(threads: ThreadStub, **fields: Any) -> list[str]:
    """Returns the names of the threads of one page."""
    answer = await threads.ListThreads(ListThreadsRequest(**fields))
    return [thread.name for thread in answer.threads]


class Pages:
    """Reads ListThreads page by page."""

    def __init__(self, threads: ThreadStub, **fields: Any) -> None:
        self.names: list[str] = []
        self._threads = threads
        self._request = ListThreadsRequest(**fields)

    async def next(self) -> bool:
        """Read a page. Returns whether there is another."""
        page = await self._threads.ListThreads(self._request)
        assert len(page.threads) <= (self._request.page_size or 100)
        self.names += [thread.name for thread in page.threads]
        self._request.page_token = page.next_page_token
        return bool(page.next_page_token)

    async def rest(self) -> list[str]:
        """Read the remaining pages. Returns all names."""
        for _ in range(1_000):
            if not await self.next():
                return self.names
        raise AssertionError("pages without end")


async def test_threads_are_listed_last_active_first(
    threads: ThreadStub, bus: BusStub, name: str
) -> None:
    a, b, c = f"{name}-a", f"{name}-b", f"{name}-c"
    await create(threads, a, b, c)
    assert await names_of(threads, prefix=name) == [c, b, a]
    await post(bus, b)
    assert await names_of(threads, prefix=name) == [b, c, a]
    await threads.SetThreadState(SetThreadStateRequest(thread=a, state=THREAD_STATE_CLOSED))
    assert await names_of(threads, prefix=name) == [a, b, c]
    await threads.JoinThread(JoinThreadRequest(thread=c))  # writes no entry
    assert await names_of(threads, prefix=name) == [a, b, c]


async def test_threads_active_within_a_second_are_listed_in_exact_order(
    threads: ThreadStub, bus: BusStub, name: str
) -> None:
    wanted = [f"{name}-{n}" for n in range(9)]
    await create(threads, *wanted)
    posted = [wanted[n] for n in (2, 5, 2, 0, 7)]
    for thread in posted:
        await post(bus, thread)
    order = list(dict.fromkeys(reversed(wanted + posted)))
    for size in (1, 3, 9):
        assert await names_of(threads, page_size=size) == order[:size]
        assert await names_of(threads, page_size=size, prefix=name) == order[:size]


async def test_a_listed_thread_equals_the_thread_that_is_read(
    threads: ThreadStub, bus: BusStub, name: str
) -> None:
    await create(threads, name, topic="a topic", labels={"k": "v"})
    await post(bus, name)
    listed = await threads.ListThreads(ListThreadsRequest(prefix=name))
    read = await threads.GetThread(GetThreadRequest(thread=name))
    assert list(listed.threads) == [read.thread]


async def test_pages_hold_each_thread_once(threads: ThreadStub, name: str) -> None:
    wanted = [f"{name}-{n:02}" for n in range(23)]
    # Concurrently: some of them have the same time of creation.
    await asyncio.gather(*(create(threads, wanted_name) for wanted_name in wanted))
    for page_size in (1, 7, 22, 23, 24):
        listed = await Pages(threads, prefix=name, page_size=page_size).rest()
        assert sorted(listed) == wanted
    assert not (await threads.ListThreads(ListThreadsRequest(prefix=name))).next_page_token


async def test_a_thread_posted_to_moves_to_the_front_and_moves_no_other(
    threads: ThreadStub, bus: BusStub, name: str
) -> None:
    wanted = [f"{name}-{n}" for n in range(8)]
    await create(threads, *wanted)
    for fields in ({"prefix": name}, {}):
        before = await names_of(threads, page_size=8, **fields)
        pages = Pages(threads, page_size=3, **fields)
        assert await pages.next()
        moved = [before[1], before[5]]  # one that was listed, and one that was not
        for thread in moved:
            await post(bus, thread)
        while len(pages.names) < len(wanted) and await pages.next():
            pass  # threads of other tests come after these, however many there are
        listed = [thread for thread in pages.names if thread.startswith(name)]
        assert [n for n in listed if n not in moved] == [n for n in before if n not in moved]
        assert (await names_of(threads, page_size=2, **fields)) == moved[::-1]


async def test_threads_created_and_deleted_between_pages_move_no_other(
    threads: ThreadStub, name: str
) -> None:
    wanted = [f"{name}-{n}" for n in range(8)]
    await create(threads, *wanted)
    pages = Pages(threads, prefix=name, page_size=3)
    assert await pages.next()
    await create(threads, f"{name}-new")
    for gone in (wanted[5], wanted[3]):  # the last one listed, and one not yet listed
        await threads.DeleteThread(DeleteThreadRequest(thread=gone))
    assert await pages.rest() == [wanted[n] for n in (7, 6, 5, 4, 2, 1, 0)]


OPEN, CLOSED, ARCHIVED = THREAD_STATE_OPEN, THREAD_STATE_CLOSED, THREAD_STATE_ARCHIVED


@pytest.mark.parametrize(
    ("asked", "listed"),
    [
        ([], {OPEN, CLOSED}),
        ([OPEN], {OPEN}),
        ([CLOSED], {CLOSED}),
        ([ARCHIVED], {ARCHIVED}),
        ([OPEN, ARCHIVED, OPEN], {OPEN, ARCHIVED}),
        ([THREAD_STATE_UNSPECIFIED], {OPEN, CLOSED, ARCHIVED}),
    ],
)
async def test_archived_threads_are_left_out_unless_asked_for(
    threads: ThreadStub,
    name: str,
    asked: list[ThreadState.ValueType],
    listed: set[ThreadState.ValueType],
) -> None:
    for state in (OPEN, CLOSED, ARCHIVED):
        await create(threads, f"{name}-{state}")
        await threads.SetThreadState(SetThreadStateRequest(thread=f"{name}-{state}", state=state))
    answer = await threads.ListThreads(ListThreadsRequest(prefix=name, states=asked))
    assert {thread.state for thread in answer.threads} == listed
    assert len(answer.threads) == len(listed)


async def test_a_prefix_matches_literally(threads: ThreadStub, name: str) -> None:
    await create(threads, *(f"{name}{rest}" for rest in ("_a", "-a", ".a", "xa", "_A", "")))
    assert await names_of(threads, prefix=f"{name}_") == [f"{name}_A", f"{name}_a"]
    assert await names_of(threads, prefix=f"{name}_a") == [f"{name}_a"]
    assert await names_of(threads, prefix=f"{name}.") == [f"{name}.a"]
    assert await names_of(threads, prefix=f"{name}_a_") == []
    assert len(await names_of(threads, prefix=name)) == 6
    for wildcard in (
        "%",
        f"{name}%",
        f"{name[:-1]}_",
        "*",
        f"{name}[_]",
        "é",
        "\0",
        "'",
        name.upper(),
    ):
        assert await names_of(threads, prefix=wildcard) == []


async def test_threads_are_listed_by_participant(
    threads: ThreadStub, bus: BusStub, agents: AgentStub, name: str
) -> None:
    agent, other = await register(agents, name), await register(agents, f"{name}-2")
    joined, posted, mentioned, handed, created, neither = ways = [
        f"{name}-{way}" for way in ("joined", "posted", "mentioned", "handed", "created", "neither")
    ]
    await create(threads, *ways)
    await threads.JoinThread(JoinThreadRequest(thread=joined), metadata=agent.metadata)
    await post(bus, posted, by=agent)
    await post(bus, mentioned, by=other, mentions=[name])
    await post(bus, handed, by=other, handoff_to=name)
    await post(bus, neither, by=other)
    assert set(await names_of(threads, participant=name)) == {joined, posted, mentioned, handed}
    assert set(await names_of(threads, participant=other.name)) == {mentioned, handed, neither}
    assert await names_of(threads, participant=name, prefix=posted) == [posted]
    assert created not in await names_of(threads, participant=name)


async def test_unknown_agents_and_anonymous_participate_in_no_thread(
    threads: ThreadStub, bus: BusStub, thread: str
) -> None:
    await threads.JoinThread(JoinThreadRequest(thread=thread))
    await post(bus, thread)
    for participant in ("anonymous", "unknown"):
        assert await names_of(threads, participant=participant) == []


@pytest.mark.slow
async def test_a_page_has_a_hundred_threads_by_default_and_at_most_a_thousand(
    threads: ThreadStub, name: str
) -> None:
    await asyncio.gather(*(create(threads, f"{name}-{n}") for n in range(1_001)))
    pages: list[ListThreadsResponse] = [
        await threads.ListThreads(ListThreadsRequest(prefix=name, page_size=size))
        for size in (0, 1_000, 1_001, 2**31 - 1)
    ]
    assert [len(page.threads) for page in pages] == [100, 1_000, 1_000, 1_000]
    assert all(page.next_page_token for page in pages)
    assert len(await Pages(threads, prefix=name, page_size=1_000).rest()) == 1_001


@pytest.mark.slow
async def test_a_page_of_large_threads_fits_into_a_response(threads: ThreadStub, name: str) -> None:
    wanted = [f"{name}-{n:03}" for n in range(450)]
    await asyncio.gather(
        *(create(threads, n, topic="x" * 1_024, labels=LARGE_LABELS) for n in wanted)
    )
    pages = Pages(threads, prefix=name, page_size=1_000)
    assert sorted(await pages.rest()) == wanted
    assert Thread(labels=LARGE_LABELS).ByteSize() * len(wanted) > 4 * 1024 * 1024


@pytest.mark.slow
async def test_a_page_of_large_agents_fits_into_a_response(agents: AgentStub, name: str) -> None:
    wanted = [f"{name}-{n:03}" for n in range(450)]
    await asyncio.gather(
        *(
            agents.RegisterAgent(
                RegisterAgentRequest(agent=n, description="x" * 1_024, labels=LARGE_LABELS)
            )
            for n in wanted
        )
    )
    request, listed = ListAgentsRequest(page_size=1_000), []
    for _ in range(1_000):
        page = await agents.ListAgents(request)
        listed += [agent.name for agent in page.agents]
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert [agent for agent in listed if agent.startswith(name)] == wanted

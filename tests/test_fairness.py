"""Fair queueing: what one caller has queued delays no other."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar, cast

import grpc
import pytest

from bus_server import fair_queue, store
from bus_server.auth import LOOKUP_PAUSE, Auth, new_token, token_hash
from bus_server.bus import Bus
from bus_server.errors import StoreBusy, TokenInvalid
from bus_server.load import Load
from bus_server.presence.agent_state import Heartbeat
from bus_server.presence.changes import Changes
from bus_server.presence.token_uses import TokenUses
from bus_server.settings import Settings
from bus_server.store.interface import Store
from bus_server.store.sqlite.store import SqliteStore
from bus_server.writer import BATCH_COST
from tests.conftest import StartServer
from tests.connections import connected
from tests.locks import locked
from tests.own_bus import append, opened, running
from tests.polling import until
from tests.refusals import refused
from tests.statements import commits_tried
from threadbus.v1.agent_pb2 import AGENT_KIND_AGENT, PRESENCE_UNSPECIFIED, Agent
from threadbus.v1.agent_service_pb2 import GetAgentRequest, RegisterAgentRequest
from threadbus.v1.bus_service_pb2 import PostMessageRequest
from threadbus.v1.thread_pb2 import THREAD_STATE_OPEN, Thread

T = TypeVar("T")

#: Room for ten posts besides the one that is being committed, which may be a little larger.
TEN_POSTS = [
    Settings(max_queued_posts=10),
    Settings(max_queued_bytes=12 * append("t", "a").size - 1),
]


@pytest.fixture
async def own_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store with a thread "t"."""
    async with opened(tmp_path / "bus.db") as opened_store:
        await opened_store.commit([store.CreateThread(Thread(name="t"))])
        yield opened_store


def as_caller(share: str, work: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
    """Start work under a caller's fairness key, as a call does."""

    async def call() -> T:
        fair_queue.fairness_key.set(share)
        return await work()

    return asyncio.create_task(call())


def post(bus: Bus, share: str) -> "asyncio.Task[store.Appended]":
    """Post to the thread under a caller's fairness key."""
    return as_caller(share, lambda: bus.post(append("t", share)))


async def all_have_run() -> None:
    """Return when each task has run until it waits for the store."""
    for _ in range(10):
        await asyncio.sleep(0)


def linger_for_a_minute(monkeypatch: pytest.MonkeyPatch, *, busy: bool) -> None:
    """Let the writer linger for a minute, and believe that the event loop is busy, or not."""
    monkeypatch.setattr("bus_server.writer.LINGER", 60.0)
    monkeypatch.setattr("bus_server.writer.MAX_LINGER", 60.0)
    monkeypatch.setattr(Load, "measure", lambda _: 0.9 if busy else 0.2)


@contextlib.asynccontextmanager
async def held_up(bus: Bus, db: Path) -> AsyncIterator[None]:
    """While it is open the second post is being committed, and further posts are queued."""
    await post(bus, "first")
    with locked(db):
        second = post(bus, "second")
        await all_have_run()
        await until(lambda: bus._writer.statistics().queued == 0)
        yield
    await second


# ── Posts ───────────────────────────────────────────────────────────────────────────────────────


async def test_posts_are_stored_in_turns_by_caller_and_in_order_for_each(
    own_store: SqliteStore, tmp_path: Path
) -> None:
    async with running(own_store, Settings()) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            posts = {share: [post(bus, share) for _ in range(200)] for share in ("a", "b")}
            await all_have_run()
            late = post(bus, "c")
            await all_have_run()
        seqs = {share: [done.seq for done in await asyncio.gather(*posts[share])] for share in "ab"}
        assert all(seqs[share] == sorted(seqs[share]) for share in "ab")
        assert all(abs(a - b) <= 2 for a, b in zip(seqs["a"], seqs["b"], strict=True))
        assert (await late).seq <= 6


async def test_a_post_does_not_wait_for_another_callers_large_batches(
    own_store: SqliteStore, tmp_path: Path
) -> None:
    many = [append("t", "many") for _ in range(1_000)]
    async with running(own_store, Settings()) as bus:

        async def post_many() -> "asyncio.Future[list[store.Appended | Exception]]":
            return asyncio.ensure_future(await bus.post_many(many))

        for share in ("a", "b", "c"):
            await (await as_caller(share, post_many))
        async with held_up(bus, tmp_path / "bus.db"):
            batches = [await as_caller(share, post_many) for share in ("a", "a", "b", "b", "c")]
            late = post(bus, "d")
            await all_have_run()
        assert (await late).seq == 3_003
        assert not batches[-1].done()
        seqs = [
            [answer.seq for answer in await batch if isinstance(answer, store.Appended)]
            for batch in batches
        ]
        assert sorted(seq for run in seqs for seq in run) == list(range(3_004, 8_004))
        assert all(run == sorted(run) for run in (seqs[0] + seqs[1], seqs[2] + seqs[3], seqs[4]))


async def test_the_writer_does_not_linger_while_a_full_batch_is_queued(
    own_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [append("t", "many") for _ in range(BATCH_COST)]
    async with running(own_store, Settings()) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            linger_for_a_minute(monkeypatch, busy=True)
            batches = [asyncio.ensure_future(await bus.post_many(many)) for _ in range(3)]
        async with asyncio.timeout(20):
            await asyncio.gather(*batches)


async def test_the_writer_lingers_for_all_that_were_pending_while_the_event_loop_is_busy(
    own_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_store, Settings()) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            linger_for_a_minute(monkeypatch, busy=True)
            one = post(bus, "a")
            await all_have_run()
        await all_have_run()
        assert bus._writer.statistics().queued == 1  # the second was pending together with it
        two = post(bus, "b")
        async with asyncio.timeout(20):
            assert [(await one).seq, (await two).seq] == [3, 4]


async def test_the_writer_does_not_linger_while_the_event_loop_is_not_busy(
    own_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(own_store, Settings()) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            linger_for_a_minute(monkeypatch, busy=False)
            one = post(bus, "a")
            await all_have_run()
        async with asyncio.timeout(20):
            assert (await one).seq == 3


@pytest.mark.parametrize("settings", TEN_POSTS, ids=["posts", "bytes"])
async def test_one_caller_may_fill_the_queue_and_another_still_gets_in(
    own_store: SqliteStore, tmp_path: Path, settings: Settings
) -> None:
    async with running(own_store, settings) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            greedy = [post(bus, "a") for _ in range(30)]
            await all_have_run()
            refusals = [task.exception() for task in greedy if task.done()]
            assert len(refusals) == 20
            assert all(isinstance(refusal, StoreBusy) for refusal in refusals)
            modest = post(bus, "b")
            await all_have_run()
            assert not modest.done()
        assert (await modest).seq <= 4
        stored = [task for task in greedy if not task.done() or not task.exception()]
        assert len(await asyncio.gather(*stored)) == 10


async def test_a_stream_that_waits_for_capacity_holds_up_no_other(
    own_store: SqliteStore, tmp_path: Path
) -> None:
    async with running(own_store, Settings(max_queued_posts=10)) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            greedy = [post(bus, "a") for _ in range(10)]
            await all_have_run()
            waiting = as_caller("a", lambda: bus.post_many([append("t", "more")]))
            taken = await as_caller("b", lambda: bus.post_many([append("t", "b")]))
            await all_have_run()
            assert not waiting.done()
        await asyncio.gather(*greedy)
        (done,) = await taken
        assert isinstance(done, store.Appended)
        assert done.seq <= 4
        (done,) = await (await waiting)
        assert isinstance(done, store.Appended)
        assert done.seq == 14


async def test_the_reserve_for_other_callers_is_limited(
    own_store: SqliteStore, tmp_path: Path
) -> None:
    async with running(own_store, Settings(max_queued_posts=100)) as bus:
        async with held_up(bus, tmp_path / "bus.db"):
            posts = [post(bus, "a") for _ in range(100)]
            posts += [post(bus, f"b{n}") for n in range(100)]
            await all_have_run()
            assert 60 <= sum(task.done() for task in posts) <= 80
        await asyncio.gather(*posts, return_exceptions=True)


@pytest.mark.sqlite
@pytest.mark.slow
async def test_an_agents_post_is_stored_before_another_callers_queue(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--log-level", "debug", "--max-queued-posts", "100")
    async with (
        connected(server.address, name) as flood,
        connected(server.address) as calm,
    ):
        tokens = {
            agent: (await calm.agents.RegisterAgent(RegisterAgentRequest(agent=agent))).token
            for agent in ("greedy", "modest")
        }
        as_agent = {agent: (("authorization", f"Bearer {tokens[agent]}"),) for agent in tokens}
        request = PostMessageRequest(thread=name, content="x")
        tried = commits_tried(server)
        with locked(server.db):
            first = asyncio.ensure_future(
                flood.bus.PostMessage(request, metadata=as_agent["greedy"])
            )
            await until(lambda: commits_tried(server) > tried)
            posts = [
                asyncio.ensure_future(flood.bus.PostMessage(request, metadata=as_agent["greedy"]))
                for _ in range(150)
            ]
            # The queue is full when the rest is refused.
            await until(lambda: sum(task.done() for task in posts) >= 50)
            late = asyncio.ensure_future(calm.bus.PostMessage(request, metadata=as_agent["modest"]))
            done, _ = await asyncio.wait([late], timeout=0.2)
            assert not done  # neither refused nor stored yet
        await first
        assert (await late).seq <= 10
        await asyncio.gather(*posts, return_exceptions=True)


# ── Reads ───────────────────────────────────────────────────────────────────────────────────────


async def test_callers_take_turns_in_heavy_reads(own_store: SqliteStore) -> None:
    order: list[str] = []

    def read(share: str) -> "asyncio.Task[None]":
        async def heavy() -> None:
            await own_store.list_threads([THREAD_STATE_OPEN], "", "", 1, None)
            order.append(share)

        return as_caller(share, heavy)

    greedy = [read("a") for _ in range(20)]
    await all_have_run()
    for task in greedy[1:5]:
        task.cancel()  # callers that are cancelled while they wait delay no one
    before = len(order)
    await asyncio.gather(read("b"), *greedy, return_exceptions=True)
    assert order.index("b") <= before + 2
    assert len(order) == 17


@pytest.mark.slow
async def test_many_read_positions_are_all_written(own_store: SqliteStore) -> None:
    names = [f"t{n}" for n in range(1_000)]
    agents = ["a", "b", "c"]
    await own_store.commit([store.CreateThread(Thread(name=name)) for name in names])
    await own_store.commit(
        [
            store.JoinThread(
                Thread(name=name),
                create=False,
                agent=agent,
                from_first=True,
                context_limit=0,
                context_bytes=0,
            )
            for name in names
            for agent in agents
        ]
    )
    await own_store.commit([store.AppendMany([append(name, "x") for name in names])])
    async with running(own_store, Settings(checkpoint_interval=3_600)) as bus:
        for agent in agents:
            cursors = [(name, 1, "", 0) for name in names]
            await bus.heartbeat(agent, Heartbeat(PRESENCE_UNSPECIFIED, "", None, cursors))
        await bus.drain()
    for agent in agents:
        assert await own_store.unread(agent, 1_000) == []


# ── Tokens ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
async def test_unknown_tokens_are_refused_in_turns_and_delay_no_valid_one(
    own_store: SqliteStore,
) -> None:
    agent = Agent(name="a", kind=AGENT_KIND_AGENT)
    await own_store.commit([store.RegisterAgent(agent, token_hash("valid"), operator=False)])
    auth = Auth(own_store, TokenUses(Changes(), own_store.clock), required=True)
    flood = [asyncio.create_task(auth.authenticate(f"Bearer unknown-{n}")) for n in range(500)]
    await all_have_run()
    assert (await auth.authenticate("Bearer valid")).name == "a"  # which was not in the cache
    assert not all(task.done() for task in flood)
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    assert all(isinstance(outcome, TokenInvalid) for outcome in outcomes)


async def test_an_unknown_token_is_looked_up_at_intervals(own_store: SqliteStore) -> None:
    times: list[float] = []

    class Counting:
        clock = own_store.clock

        async def owner(self, token_hash: bytes) -> store.TokenOwner | None:
            times.append(time.monotonic())
            return await own_store.owner(token_hash)

    auth = Auth(cast("Store", Counting()), TokenUses(Changes(), own_store.clock), required=True)
    for _ in range(3):
        calls = (auth.authenticate("Bearer unknown") for _ in range(20))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {TokenInvalid}
    assert all(later - earlier >= LOOKUP_PAUSE for earlier, later in itertools.pairwise(times))
    # One for all calls at a time, and another one in case it exists by now.
    assert len(times) == 3


@pytest.mark.slow
async def test_a_refused_token_works_once_it_is_registered_at_either_server(
    start_server: StartServer,
) -> None:
    servers = [start_server("--fallback-interval", "0") for _ in range(2)]
    token = new_token()
    metadata = (("authorization", f"Bearer {token}"),)
    async with connected(servers[0].address) as one, connected(servers[1].address) as other:
        for agents in (one.agents, other.agents):
            call = agents.GetAgent(GetAgentRequest(), metadata=metadata)
            assert (await refused(call)).code == grpc.StatusCode.UNAUTHENTICATED
        await one.agents.RegisterAgent(RegisterAgentRequest(agent="late", token=token))
        for agents in (one.agents, other.agents):
            assert (
                await agents.GetAgent(GetAgentRequest(), metadata=metadata)
            ).agent.name == "late"

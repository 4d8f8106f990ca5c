"""--posts-per-minute: how often callers may post, and what they are told if it is too often."""

import asyncio
import time

import pytest
from google.rpc.error_details_pb2 import RetryInfo

from bus_server.errors import RateLimited
from bus_server.rates import Buckets, PostRates
from tests.callers import operator, register
from tests.conftest import StartServer
from tests.connections import Connection, connected
from tests.post_stream import post_stream, reason, seqs
from tests.refusals import refused
from threadbus.v1.bus_service_pb2 import (
    GetServerInfoRequest,
    ListMessagesRequest,
    PostMessageRequest,
    PostResult,
)

SECOND = 1_000_000_000  # nanoseconds
MINUTE = 60 * SECOND


def post(thread: str, content: str = "x", **fields: object) -> PostMessageRequest:
    return PostMessageRequest(thread=thread, content=content, **fields)  # type: ignore[arg-type]


def delay_of(result: PostResult) -> float:
    """Returns the delay that a refused post of a batch was given, in seconds."""
    info = RetryInfo()
    assert any(detail.Unpack(info) for detail in result.status.details)
    return float(info.retry_delay.ToMilliseconds()) / 1000


# ── The buckets, at given times ─────────────────────────────────────────────────────────────────


def refusal_at(rates: PostRates, now: int, caller: str = "a", thread: str = "t") -> int:
    """Returns the delay that a post is given, in nanoseconds; 0 if it is admitted."""
    try:
        rates.admit(caller, thread, now)
    except RateLimited as limited:
        assert limited.retry_delay is not None
        assert limited.retry_delay >= 0.001
        return round(limited.retry_delay * SECOND)
    return 0


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 1_000, 20_000])
@pytest.mark.parametrize("start", [0, 12 * SECOND + 345, 9_000_000 * SECOND])
def test_a_limit_is_a_burst_and_then_as_many_again_over_each_minute(limit: int, start: int) -> None:
    rates, now = PostRates(limit), start
    assert sum(not refusal_at(rates, now) for _ in range(limit + 10)) == limit
    last = now + MINUTE
    admitted = 0
    while now < last:
        now += refusal_at(rates, now)
        while not refusal_at(rates, now):  # more than one, if there is room for many in a ms
            admitted += 1
    assert limit * 0.98 <= admitted <= limit + 1  # delays are rounded up to a millisecond
    now += MINUTE
    assert sum(not refusal_at(rates, now) for _ in range(limit + 10)) == limit


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 1_000])
def test_the_delay_is_the_time_until_this_post_is_admitted(limit: int) -> None:
    rates, now = PostRates(limit), SECOND // 3
    for _ in range(limit):
        rates.admit("a", "t", now)
    for _ in range(20):
        delay = refusal_at(rates, now)
        assert 0 < delay <= MINUTE // limit + SECOND // 1_000
        assert refusal_at(rates, now + delay - SECOND // 500)
        now += delay
        assert not refusal_at(rates, now)
        assert refusal_at(rates, now)


def test_a_refused_post_takes_no_room_from_its_thread() -> None:
    rates = PostRates(2)
    assert [bool(refusal_at(rates, 0, "a", f"t{n}")) for n in range(4)] == [0, 0, 1, 1]
    assert [bool(refusal_at(rates, 0, "b", "t2")) for _ in range(2)] == [0, 0]
    assert refusal_at(rates, 0, "c", "t2")  # the thread's
    assert not refusal_at(rates, 0, "c", "t3")


def test_callers_and_threads_that_have_been_quiet_are_forgotten() -> None:
    rates, now = PostRates(60), 0
    for number in range(50_000):
        now += SECOND // 100  # 6,000 a minute
        rates.admit(f"caller-{number}", f"thread-{number}", now)
    assert len(rates) < 1_000
    for _ in range(1_000):
        now += SECOND
        rates.admit("one", "one", now)
    assert len(rates) == 2


def test_room_that_is_given_back_can_be_used_at_once() -> None:
    buckets = Buckets(3, MINUTE)
    for _ in range(3):
        buckets.take("a", 5)
    assert buckets.wait_time("a", 5)
    buckets.give_back("a")
    assert not buckets.wait_time("a", 5)
    buckets.take("a", 5)
    assert buckets.wait_time("a", 5)


# ── A server ────────────────────────────────────────────────────────────────────────────────────


async def contents(client: Connection, thread: str) -> list[str]:
    listed = await client.bus.ListMessages(ListMessagesRequest(thread=thread, limit=1_000))
    return [message.content for message in listed.messages]


async def test_an_agent_that_posts_too_often_is_told_when_to_retry(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--posts-per-minute", "300")
    async with connected(server.address, name, f"{name}-2") as client:
        agent = await register(client.agents, name)
        async with post_stream(client.bus, metadata=agent.metadata) as stream:
            assert 0 not in seqs(await stream.post(*[post(name)] * 300))
        began = time.monotonic()
        one_more = post(f"{name}-2", "one more")
        refusal = await refused(client.bus.PostMessage(one_more, metadata=agent.metadata))
        assert (refusal.reason, refusal.metadata) == ("RATE_LIMITED", {"limit": "300"})
        assert refusal.details == ["ErrorInfo", "RetryInfo"]
        assert "posts of one caller are limited to 300 a minute" in refusal.message
        assert f"retry in {refusal.retry_delay:.3g} s" in refusal.message
        assert refusal.retry_delay
        assert 0 < refusal.retry_delay <= 0.2
        await asyncio.sleep(refusal.retry_delay)
        await client.bus.PostMessage(one_more, metadata=agent.metadata)
        assert time.monotonic() - began < 2  # the delay was all that it took
        assert await contents(client, f"{name}-2") == ["one more"]


async def test_a_thread_takes_posts_of_all_agents_together(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--posts-per-minute", "4")
    async with connected(server.address, name, f"{name}-2") as client:
        agents = [await register(client.agents, f"{name}-{n}") for n in range(3)]
        for agent in agents[:2]:
            for _ in range(2):
                await client.bus.PostMessage(post(name), metadata=agent.metadata)
        refusal = await refused(client.bus.PostMessage(post(name), metadata=agents[2].metadata))
        assert "posts to one thread are limited" in refusal.message
        await client.bus.PostMessage(post(f"{name}-2"), metadata=agents[2].metadata)


async def test_without_a_token_each_connection_counts_by_itself(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--posts-per-minute", "2")
    threads = [f"{name}-{n}" for n in range(3)]
    async with connected(server.address, *threads) as one, connected(server.address) as other:
        for thread in threads[:2]:
            await one.bus.PostMessage(post(thread))
        assert (await refused(one.bus.PostMessage(post(threads[2])))).reason == "RATE_LIMITED"
        await other.bus.PostMessage(post(threads[2]))


async def test_operators_are_exempt_and_use_up_nothing(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--posts-per-minute", "1")
    async with connected(server.address, name) as client:
        agent = await register(client.agents, name)
        by = operator(server).metadata
        for _ in range(3):
            await client.bus.PostMessage(post(name), metadata=by)
            await client.bus.PostMessage(post(name, on_behalf_of=name), metadata=by)
        async with post_stream(client.bus, metadata=by) as stream:
            assert 0 not in seqs(await stream.post(*[post(name, on_behalf_of=name)] * 3))
        await client.bus.PostMessage(post(name), metadata=agent.metadata)


@pytest.mark.slow
async def test_in_a_batch_the_posts_for_which_there_is_no_room_are_the_last(
    start_server: StartServer, name: str
) -> None:
    # There is room for one more every 10 ms, in which a batch of such posts is not yet checked.
    server = start_server("--posts-per-minute", "6000", "--refuse-secrets")
    async with connected(server.address, name) as client, post_stream(client.bus) as stream:
        batch = [post(name, f"{'some text ' * 100} {n}") for n in range(1_000)]
        batches = [await stream.post(*batch) for _ in range(9)]
    stored = 0
    for results in batches:
        accepted = 1_000 - seqs(results).count(0)
        assert seqs(results)[:accepted] == list(range(stored + 1, stored + accepted + 1))
        stored += accepted
        assert {reason(result) for result in results[accepted:]} <= {"RATE_LIMITED"}
        delays = {delay_of(result) for result in results[accepted:]}
        assert len(delays) <= 1
        assert all(0 < delay <= 0.011 for delay in delays)
    assert 6_000 <= stored < 9_000


async def test_an_invalid_post_does_not_count_and_one_that_is_refused_later_does(
    start_server: StartServer, name: str
) -> None:
    server = start_server("--posts-per-minute", "2")
    async with connected(server.address, name) as client:
        for _ in range(3):
            assert (await refused(client.bus.PostMessage(post(name, "")))).reason
        for _ in range(2):
            refusal = await refused(client.bus.PostMessage(post(f"{name}-unknown")))
            assert refusal.reason == "THREAD_NOT_FOUND"
        assert (await refused(client.bus.PostMessage(post(name)))).reason == "RATE_LIMITED"


async def test_a_repeated_post_counts_once(start_server: StartServer, name: str) -> None:
    server = start_server("--posts-per-minute", "3")
    async with connected(server.address, name) as client:
        await client.bus.PostMessage(post(name, request_id="7"))
        for _ in range(3):
            again = await client.bus.PostMessage(post(name, request_id="7"))
            assert again.deduplicated
        async with post_stream(client.bus) as stream:
            for _ in range(3):
                assert seqs(await stream.post(post(name, request_id="7"))) == [1]
        for _ in range(2):
            await client.bus.PostMessage(post(name))
        assert (await refused(client.bus.PostMessage(post(name)))).reason == "RATE_LIMITED"


async def test_each_server_of_a_store_counts_for_itself(
    start_server: StartServer, name: str
) -> None:
    servers = [start_server("--posts-per-minute", "1") for _ in range(2)]
    for server in servers:
        async with connected(server.address, name) as client:
            await client.bus.PostMessage(post(name))
            assert (await refused(client.bus.PostMessage(post(name)))).reason == "RATE_LIMITED"


async def test_the_limits_are_told(start_server: StartServer) -> None:
    flags = ["--posts-per-minute", "5", "--threads-per-caller", "6", "--agents-per-caller", "7"]
    async with connected(start_server(*flags).address) as client:
        limits = (await client.bus.GetServerInfo(GetServerInfoRequest())).limits
    assert (limits.posts_per_minute, limits.threads_per_caller, limits.agents_per_caller) == (
        *(5, 6, 7),
    )
